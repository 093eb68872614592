"""All settings: one frozen section per room, read once from a TOML file, with the environment over it.

    unproxy.toml                       environment
    [kafka]                            UNPROXY_KAFKA__BOOTSTRAP=kafka-1:9092,kafka-2:9092
    bootstrap = "kafka-1:9092"         UNPROXY_CLICKHOUSE__PASSWORD=...

The file is `unproxy.toml` in the current folder, or what UNPROXY_CONFIG or `--config` names. Unknown keys are errors,
in the file and among `UNPROXY_*` variables (`schemas/settings_file.py` reads them).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.address import canonical_ip, split_authority

PREFIX = "UNPROXY_"
CONFIG_VARIABLE = "UNPROXY_CONFIG"
DEFAULT_FILE = Path("unproxy.toml")


class SettingsError(Exception):
    """The settings are wrong; the message says where, what was expected and what to do."""


class Section(BaseModel):
    """What one room can be told; a value object."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """Where Kafka is, and what the topics are called."""

    bootstrap: str = Field("127.0.0.1:9092", description="Brokers to ask first: host:port, separated by commas")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to the brokers"
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="How to log in; empty without login"
    )
    sasl_username: str = Field("", description="User name for SASL")
    sasl_password: SecretStr = Field(SecretStr(""), description="Password for SASL")
    ssl_ca_file: str = Field("", description="PEM file with the authorities to trust; empty for the system's")
    ssl_client_cert_file: str = Field("", description="PEM file with certificate and key to show; empty for none")
    topic_prefix: str = Field("", description="Put before every topic name, to share a cluster")


class ClickHouseSettings(Section):
    """Where ClickHouse's HTTP interface is."""

    url: str = Field("http://127.0.0.1:8123", description="HTTP or HTTPS address of the server")
    database: str = Field("unproxy", description="Database of our tables; `unproxy migrate` creates it")
    username: str = Field("default", description="User name")
    password: SecretStr = Field(SecretStr(""), description="Password")
    ca_file: str = Field("", description="HTTPS: PEM file with the authorities to trust; empty for the system's")
    timeout_secs: float = Field(30.0, gt=0, description="How long one request may take")

    @field_validator("url")
    @classmethod
    def _url(cls, given: str) -> str:
        # Without a scheme the host would be taken for one, and another machine asked.
        parts = urlsplit(given)
        if parts.username is not None or parts.password is not None:
            raise ValueError("it must not hold a login; set clickhouse.username and clickhouse.password")
        if not given.startswith(("http://", "https://")) or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and name a host")
        return given


def _with_commas(given: object) -> object:
    if isinstance(given, str) and given.lstrip().startswith(('["', "['")):
        raise ValueError("a list is written with commas here, without brackets and quotes, as in one,two")
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


class CorrelationSettings(Section):
    """When a connection is settled, and how much may wait."""

    lateness_secs: float = Field(3.0, gt=0, description="How far a device's lines may be out of order")
    patience_secs: float = Field(8.0, gt=0, description="How long an unresolved connection waits for its HTTP event")
    linger_secs: float = Field(120.0, gt=0, description="How long an ended connection is kept for late records")
    flow_timeout_secs: float = Field(
        0.0,
        ge=0,
        description="How long a connection that left is remembered, so that a late record makes no second row: the longest time "
        "until a network sensor writes the record of a flow that was cut; 0 for the longest of the sensors' defaults",
    )
    idle_secs: float = Field(86_400.0, gt=0, description="How long a connection without any event is kept")
    silence_secs: float = Field(
        600.0, gt=0, description="A device quiet for longer, and for twice its longest quiet of late, is silent"
    )
    connections_max: int = Field(200_000, gt=0, description="Connections kept per device; beyond it the oldest leave")
    devices_max: int = Field(
        50_000,
        ge=64,
        description="Devices kept per partition; beyond it those with the shortest history, quiet for longest, are evicted",
    )
    proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Known proxies as host:port or name=host:port; others are learnt from what they are asked"
    )
    not_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses that must never be taken for a proxy, as host:port"
    )

    @field_validator("proxies", "not_proxies", mode="before")
    @classmethod
    def _list(cls, given: object) -> object:
        """In the environment a list is written with commas."""
        return _with_commas(given)

    @model_validator(mode="after")
    def _patience_outlasts_lateness(self) -> Self:
        """What is late may still resolve a connection, so it must be waited for."""
        if self.patience_secs <= self.lateness_secs:
            raise ValueError(f"patience_secs must be more than lateness_secs ({self.lateness_secs:g})")
        return self

    @field_validator("proxies", "not_proxies")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for entry in given:
            proxy_address(entry)
        return given


class ProtectionSettings(Section):
    """What is known of the devices' network protection beside what their sensors say, and how alerts are told."""

    groups: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Device groups as GROUP=PATTERN, such as servers=srv-*; a group may have several patterns"
    )
    modes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Protection modes as DEVICE=block, audit or off, or @GROUP=…; what a sensor says later holds"
    )
    verdict_sensors: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        description="Whose verdicts and modes count where no grant says it: patterns DIALECT or DIALECT@SENSOR, as in the "
        "headers on telemetry",
    )
    alert_gap_secs: float = Field(60.0, ge=0, description="One alert changes on the topic at most once in so much time")

    @field_validator("groups", "modes", "verdict_sensors", mode="before")
    @classmethod
    def _list(cls, given: object) -> object:
        """In the environment a list is written with commas."""
        return _with_commas(given)

    @field_validator("groups")
    @classmethod
    def _groups(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for entry in given:
            if not all(part.strip() for part in entry.partition("=")):
                raise ValueError(f'"{entry}" is not GROUP=PATTERN')
        return given

    @field_validator("modes")
    @classmethod
    def _modes(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for entry in given:
            who, _, mode = entry.rpartition("=")
            if not who.strip("@") or mode not in {"block", "audit", "off"}:
                raise ValueError(f'"{entry}" is not DEVICE=block, DEVICE=audit or DEVICE=off (or @GROUP=…)')
        return given


class DeviceNames(Section):
    """What a device is also known as."""

    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(canonical_ip(address.strip()) for address in given)

    @field_validator("names")
    @classmethod
    def _names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip(" .") for name in given):
            raise ValueError("a name is empty")
        return given


class IdentitySettings(Section):
    """Which of the names and addresses that sensors use are one device."""

    domains: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Domains to cut off: with corp.example, ws-1.corp.example is ws-1"
    )
    files: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Files of names and leases with their times, CSV or JSON lines; read again when they change"
    )
    devices: dict[str, DeviceNames] = Field(
        {}, description='What devices are also known as: [identity.devices."ws-1"] with names and addresses'
    )
    learn: bool = Field(
        True, description="Of recorded files: take an address for the device whose own records alone say that it has it"
    )

    @field_validator("domains", "files", mode="before")
    @classmethod
    def _list(cls, given: object) -> object:
        """In the environment a list is written with commas."""
        return _with_commas(given)

    @field_validator("devices")
    @classmethod
    def _devices(cls, given: dict[str, DeviceNames]) -> dict[str, DeviceNames]:
        if not all(device.strip(" .") for device in given):
            raise ValueError("a device has an empty name")
        return given


class PublisherSettings(Section):
    """How sensor lines become Kafka messages."""

    topic: str = Field(
        "",
        pattern=r"^(raw-[A-Za-z0-9._-]+)?$",
        description="Raw topic to publish to, such as raw-ws-1, which a producer follows; empty for telemetry",
    )
    batch_bytes_max: int = Field(256 * 1024, gt=0, description="Bytes of one device's lines in a message at most")
    batch_age_secs_max: float = Field(0.2, gt=0, description="How long a line waits for its message to fill")
    disorder_secs_max: float = Field(
        0.5, ge=0, description="How far a device's lines from two files may overtake; below lateness_secs"
    )
    line_bytes_max: int = Field(
        12 * 1024 * 1024, gt=0, le=15 * 1024 * 1024, description="Of a longer line rejects gets the first MB"
    )
    queue_bytes_max: int = Field(64 * 1024 * 1024, gt=0, description="Unacknowledged bytes before reading stops")
    state_dir: str = Field(".unproxy/producer", description="Folder for the kept positions")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")


TOKEN_CHARS_MIN = 16
"""A shorter token could be guessed."""
GRANT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""The environment does not tell upper case from lower case; the name is a metric's label as well."""


class GrantSettings(Section):
    """What one sender of lines may report, and how it is recognised: its client, or the source that it writes to."""

    token: SecretStr = Field(SecretStr(""), description="Bearer token that an HTTP client sends; 16 characters or more")
    certificates: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names in a client's verified certificate: a DNS name of it, or its common name where it has none",
    )
    addresses: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses or networks of the client, such as 10.1.0.0/16"
    )
    sources: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Patterns of files and Kafka topics as the command line spells them, without the dialect, such as "
        "/var/log/squid/*.log or kafka://broker:9092/sensors",
    )
    devices: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description='Patterns of the DeviceIds it may report on; empty: the device of its own name; ["*"]: all'
    )
    verdicts: bool = Field(False, description="Whether it may report verdicts and protection modes")

    @field_validator("certificates", "addresses", "sources", "devices", mode="before")
    @classmethod
    def _list(cls, given: object) -> object:
        """In the environment a list is written with commas."""
        return _with_commas(given)

    @field_validator("token")
    @classmethod
    def _token(cls, given: SecretStr) -> SecretStr:
        text = given.get_secret_value()
        if text and len(text) < TOKEN_CHARS_MIN:
            raise ValueError(f"it has {len(text)} characters; write at least {TOKEN_CHARS_MIN} random ones")
        if not all("!" <= char <= "~" for char in text):
            raise ValueError("only printable ASCII without spaces can be sent as a token; write another one")
        return given

    @field_validator("certificates", "sources", "devices")
    @classmethod
    def _names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip(" .") for name in given):
            raise ValueError("an entry is empty; leave it out")
        return given

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(network(entry)) for entry in given)

    @model_validator(mode="after")
    def _recognisable(self) -> Self:
        client = self.token or self.certificates or self.addresses
        if not client and not self.sources:
            raise ValueError("it names no sender; add token, certificates, addresses or sources")
        if client and self.sources:
            raise ValueError(
                "sources are files and topics, and token, certificates and addresses are of clients; write two grants"
            )
        return self


class InputSettings(Section):
    """What the producer's sources on the network need beside their addresses."""

    grants: dict[str, GrantSettings] = Field(
        {},
        description="Which devices a sender may report on: [inputs.grants.NAME] with token, certificates, addresses or "
        "sources, and with devices and verdicts",
    )

    kafka_group: str = Field("unproxy-produce", description="Kafka: consumer group that keeps how far a topic was read")
    kafka_name: str = Field(
        "",
        description="Kafka: stable and unique name of this producer: it gets its partitions back at once; empty for none",
    )
    kafka_session_timeout_secs: float = Field(
        12.0, ge=6, description="Kafka: silence after which the group gives our partitions away"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka: how to speak to the brokers that are followed"
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="Kafka: how to log in there; empty without login"
    )
    kafka_sasl_username: str = Field("", description="Kafka: user name there; $ConnectionString for an Event Hub")
    kafka_sasl_password: SecretStr = Field(
        SecretStr(""), description="Kafka: password there; the connection string for an Event Hub"
    )
    kafka_ssl_ca_file: str = Field(
        "", description="Kafka: PEM file with the authorities to trust; empty for the system's"
    )
    kafka_ssl_client_cert_file: str = Field(
        "", description="Kafka: PEM file with certificate and key to show there; empty for none"
    )
    http_tls_cert_file: str = Field("", description="HTTPS: PEM file with the server's certificate and its chain")
    http_tls_key_file: str = Field(
        "", description="HTTPS: PEM file with its key; empty where the certificate's file has it"
    )
    http_tls_client_ca_file: str = Field(
        "", description="HTTPS: PEM file with the authorities for clients' certificates; empty: none is asked for"
    )
    http_plaintext_allowed: bool = Field(
        False,
        description="HTTP: listen without TLS beyond loopback; tokens and lines can then be read on the way",
    )
    http_header_secs_max: float = Field(
        15.0,
        gt=0,
        description="HTTP: how long a TLS handshake may take, and a connection may be without a whole request header",
    )
    http_body_secs_max: float = Field(
        60.0, gt=0, description="HTTP: how long a body may take to arrive; then 408 is answered"
    )
    http_connections_max: int = Field(
        512,
        gt=0,
        description="HTTP: connections at once; of those that showed no grant the oldest is closed for a new one",
    )
    http_connections_per_address_max: int = Field(
        64, gt=0, description="HTTP: the same for one address (IPv6: one /64 network), such as a reverse proxy's"
    )
    http_requests_waiting_max: int = Field(
        256, gt=0, description="HTTP: requests that are read or wait for Kafka at once; beyond it 429 is answered"
    )
    http_waiting_bytes_max: int = Field(
        64 * 1024 * 1024,
        gt=0,
        description="HTTP: bytes of bodies that Kafka does not have yet; beyond it 429 is answered",
    )
    http_body_bytes_max: int = Field(16 * 1024 * 1024, gt=0, description="HTTP: bytes of a body at most, unpacked")
    http_gzip_ratio_max: float = Field(
        200.0, gt=1, description="HTTP: times its size that a gzip body may unpack to, beyond its first MB"
    )
    http_gzip_members_max: int = Field(256, gt=0, description="HTTP: members of a gzip body at most")
    http_answer_secs_max: float = Field(
        30.0, gt=0, description="HTTP: how long a request waits for Kafka's acknowledgement before 503 is answered"
    )

    @field_validator("grants")
    @classmethod
    def _grants(cls, given: dict[str, GrantSettings]) -> dict[str, GrantSettings]:
        by_token: dict[str, str] = {}
        for name, grant in given.items():
            if not GRANT_NAME.fullmatch(name):
                raise ValueError(
                    f'"{name}" is no name for a grant; write up to 100 lower-case letters, digits, ".", "-" and "_", '
                    "and other DeviceIds in its devices"
                )
            token = grant.token.get_secret_value()
            if token and (other := by_token.setdefault(token, name)) != name:
                raise ValueError(f"{other} and {name} have the same token; give each its own")
        return given


class WorkerSettings(Section):
    """How the Faust worker runs."""

    group: str = Field("unproxy", description="Consumer group; also the name of the state table's changelog")
    name: str = Field("worker-1", description="Stable and unique name of this worker, for static membership")
    data_dir: str = Field(".unproxy/worker", description="Folder for the local state; never shared by two workers")
    batch_messages_max: int = Field(400, gt=0, description="Messages handled at once")
    batch_wait_secs: float = Field(
        0.01,
        gt=0,
        description="How long a batch may fill after a pause; under load it is what came while the last one was worked on",
    )
    session_timeout_secs: float = Field(12.0, ge=6, description="Silence after which Kafka gives our partitions away")
    standby_replicas: int = Field(
        0, ge=0, description="Workers that keep a warm copy of the state; 0 for a single worker"
    )
    stall_secs_max: float = Field(
        30.0,
        gt=0,
        description="Lag without a commit for this long ends the process; four times as long where others of it go on, and "
        "twice as long a log without ticks",
    )
    stop_secs_max: float = Field(8.0, gt=0, description="A graceful stop that takes longer is cut short")
    reject_rate_max: float = Field(0.05, ge=0, le=1, description="A larger share of rejected lines is an alarm")
    reject_window_secs: float = Field(60.0, gt=0, description="Over so much time the share is taken")
    reject_lines_min: int = Field(1_000, gt=0, description="With fewer lines in the window the share is no alarm")
    stop_on_rejects: bool = Field(
        False, description="Whether such an alarm stops the worker, before it acknowledges anything more"
    )
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")


class SinkSettings(Section):
    """How rows are written."""

    group: str = Field("unproxy-sink", description="Consumer group")
    name: str = Field(
        "", description="Stable and unique name of this sink: it gets its partitions back at once; empty for none"
    )
    batch_rows_max: int = Field(50_000, gt=0, description="Rows in one insert at most, counted in whole messages")
    batch_bytes_max: int = Field(32 * 1024 * 1024, gt=0, description="Bytes in one insert at most")
    batch_age_secs_max: float = Field(0.5, gt=0, description="How long a row waits for its insert to fill")
    retry_secs_max: float = Field(30.0, gt=0, description="Longest pause between two tries")
    session_timeout_secs: float = Field(12.0, ge=6, description="Silence after which Kafka gives our partitions away")
    inserts_max: int = Field(2, gt=0, description="Inserts under way at once; those of one partition stay in order")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")


class ForwardSettings(Section):
    """Where alerts are sent on to: one target a process; several targets are several processes, each with its own group."""

    target: Literal["webhook", "syslog"] = Field("webhook", description="What kind of receiver it is")
    group: str = Field("unproxy-forward", description="Consumer group; every target needs its own")
    name: str = Field(
        "", description="Stable and unique name of this process: it gets its partitions back at once; empty for none"
    )
    severity_min: Literal["informational", "low", "medium", "high"] = Field(
        "informational", description="Less severe alerts are not sent"
    )
    kinds: Annotated[tuple[str, ...], NoDecode] = Field((), description="Only alerts of these kinds; empty for all")
    coalesce: bool = Field(
        True, description="Of several versions of one alert that wait only the first and the newest are sent"
    )
    parallel_max: int = Field(4, gt=0, le=64, description="Requests under way at once; one alert's are sent in order")
    waiting_max: int = Field(1_000, gt=0, description="Alerts held while the receiver is away; then reading stops")
    timeout_secs: float = Field(10.0, gt=0, le=60, description="How long a receiver may take to connect, or to answer")
    retry_secs_max: float = Field(30.0, gt=0, description="Longest pause between two tries")
    session_timeout_secs: float = Field(12.0, ge=6, description="Silence after which Kafka gives our partitions away")
    ca_file: str = Field("", description="PEM file with the authorities to trust; empty for the system's")
    client_cert_file: str = Field("", description="PEM file with certificate and key to show; empty for none")
    url: SecretStr = Field(SecretStr(""), description="Webhook: where to POST; never told, as some hold a secret")
    secret: SecretStr = Field(SecretStr(""), description="Webhook: secret to sign with; better in the environment")
    secret_file: str = Field("", description="Webhook: file with that secret, instead of it")
    headers_file: str = Field(
        "", description="Webhook: file of headers to add, one `Name: value` a line, such as a token"
    )
    syslog_address: str = Field("127.0.0.1:601", description="Syslog: the receiver, as host:port")
    syslog_transport: Literal["tcp", "tls", "udp"] = Field("tcp", description="Syslog: how to get there")
    syslog_facility: int = Field(
        16, ge=0, le=23, description="Syslog: facility; 4 is security, 16 to 23 are local0 to 7"
    )
    syslog_bytes_max: int = Field(8_192, ge=1_024, description="Syslog: bytes of a message at most, over TCP and TLS")
    syslog_datagram_bytes_max: int = Field(2_048, ge=1_024, le=65_507, description="Syslog: the same over UDP")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")

    @field_validator("kinds", mode="before")
    @classmethod
    def _list(cls, given: object) -> object:
        """In the environment a list is written with commas."""
        return _with_commas(given)

    @field_validator("url")
    @classmethod
    def _url(cls, given: SecretStr) -> SecretStr:
        if not given:
            return given
        try:
            parts = urlsplit(given.get_secret_value())
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and parts.netloc.isascii()
        except ValueError:
            usable = False  # what was wrong with it may quote it
        if not usable:
            raise ValueError("it must begin with https:// or http:// and name a host, in ASCII")
        if parts.username is not None or parts.password is not None:
            raise ValueError("it must not hold a login; put an Authorization header into forward.headers_file")
        return given

    @field_validator("syslog_address")
    @classmethod
    def _address(cls, given: str) -> str:
        host, port = split_authority(given, 0)
        if not host or not port:
            raise ValueError(f'"{given}" is not host:port')
        return given

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.secret and self.secret_file:
            raise ValueError("either secret or secret_file, not both")
        return self


class SensorSettings(Section):
    """What `unproxy sensor` hears on connections to proxies, and what it does about it."""

    mode: Literal["", "off", "audit", "block"] = Field(
        "", description="off: it reads no packets; empty: audit where proxies are known or learnt, else no packets"
    )
    proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Proxies to listen to, as host:port or name=host:port; empty for correlation.proxies"
    )
    learn_proxies: Literal["", "yes", "no"] = Field(
        "",
        description="yes: who is asked as a proxy is listened to as well, unless correlation.not_proxies has it; empty: where a "
        "mode is asked for and no proxy is named",
    )
    urls: Literal["full", "path", "host"] = Field(
        "path", description="How much of a URL is told: full, without its query (path), or only scheme and host"
    )
    listed: str = Field("", description="File with the destinations to mark or to block, one a line")
    mode_file: str = Field("", description="File with the mode in it, heeded when it changes; goes before mode")
    hold_unknown: bool = Field(
        False,
        description="In block mode hold TCP packets to every address until they are judged, so that nothing passes to a proxy "
        "before it is learnt; every TCP packet that leaves the machine then waits for the sensor. Needs learnt proxies",
    )
    block_unreadable: bool = Field(
        True,
        description="In mode block also stop what proxies may read in several ways, and, at a proxy that is named, what is "
        "neither HTTP nor TLS nor SOCKS",
    )

    @field_validator("proxies", mode="before")
    @classmethod
    def _list(cls, given: object) -> object:
        """In the environment a list is written with commas."""
        return _with_commas(given)

    @field_validator("proxies")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for entry in given:
            proxy_address(entry)
        return given


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    correlation: CorrelationSettings = CorrelationSettings()
    protection: ProtectionSettings = ProtectionSettings()
    identity: IdentitySettings = IdentitySettings()
    publisher: PublisherSettings = PublisherSettings()
    inputs: InputSettings = InputSettings()
    sensor: SensorSettings = SensorSettings()
    worker: WorkerSettings = WorkerSettings()
    sink: SinkSettings = SinkSettings()
    forward: ForwardSettings = ForwardSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over what load() read from the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def network(entry: str) -> IPv4Network | IPv6Network:
    """The network of an address or CIDR; IPv4 where it is IPv4-mapped IPv6 (RFC 4291). Raises ValueError."""
    try:
        found = ip_network(entry.strip())
    except ValueError:
        raise ValueError(
            f'"{entry}" is not an address or a network; write 10.1.0.7, 10.1.0.0/16 or 2001:db8::/32, without host bits'
        ) from None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    return ip_network(f"{mapped}/{found.prefixlen - 96}") if mapped and found.prefixlen >= 96 else found


def proxy_address(entry: str) -> tuple[str, int, str]:
    """Address, port and name of `host:port` or `name=host:port`. Raises ValueError."""
    name, sign, place = entry.rpartition("=")
    host, port = split_authority(place, 0)
    if not host:
        raise ValueError(f'"{entry}" is not host:port or name=host:port')
    try:
        return canonical_ip(host), port, name if sign else ""
    except ValueError:
        raise ValueError(f'"{entry}" needs an IP address, as rows carry addresses; write name=ADDRESS:PORT') from None
