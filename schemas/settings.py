"""Declarations of all settings: one frozen section per package, read once from a TOML file and overridden by the environment.

    unproxy.toml                       environment
    [kafka]                            UNPROXY_KAFKA__BOOTSTRAP=kafka-1:9092,kafka-2:9092
    bootstrap = "kafka-1:9092"         UNPROXY_CLICKHOUSE__PASSWORD=...

The file is `unproxy.toml` in the current folder, or the one that UNPROXY_CONFIG or `--config` names. Unknown keys are errors, in
the file and among `UNPROXY_*` variables (`schemas/settings_file.py` reads them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.address import split_authority
from schemas.sections.base import CommaList, Proxies, Section
from schemas.sections.inputs import IdentitySettings, InputSettings, PublisherSettings
from schemas.sections.retention import RetentionSettings

PREFIX = "UNPROXY_"
CONFIG_VARIABLE = "UNPROXY_CONFIG"
DEFAULT_FILE = Path("unproxy.toml")


class SettingsError(Exception):
    """Invalid settings; the message names the place, what was expected and what to do."""


class LogSettings(Section):
    """Logs of all commands, on stderr."""

    format: Literal["text", "json"] = Field(
        "text", description="text: lines for people; json: one JSON object a line (docs/terminal.md)"
    )


class KafkaSettings(Section):
    """Address of Kafka, login, and names of the topics."""

    bootstrap: str = Field("127.0.0.1:9092", description="Bootstrap servers: host:port, separated by commas")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol of the connection to the brokers"
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="SASL mechanism; empty without login"
    )
    sasl_username: str = Field("", description="User name for SASL")
    sasl_password: SecretStr = Field(SecretStr(""), description="Password for SASL")
    ssl_ca_file: str = Field("", description="PEM file with the authorities to trust; empty for the system's")
    ssl_client_cert_file: str = Field("", description="PEM file with the client certificate and key; empty for none")
    topic_prefix: str = Field("", description="Prefix of every topic name, to share a cluster")


class ClickHouseSettings(Section):
    """Address of ClickHouse's HTTP interface, and login."""

    url: str = Field("http://127.0.0.1:8123", description="HTTP or HTTPS address of the server")
    database: str = Field("unproxy", description="Database of the tables; `unproxy migrate` creates it")
    username: str = Field("default", description="User name")
    password: SecretStr = Field(SecretStr(""), description="Password")
    ca_file: str = Field("", description="HTTPS: PEM file with the authorities to trust; empty for the system's")
    timeout_secs: float = Field(30.0, gt=0, description="Longest duration of a request")

    @field_validator("url")
    @classmethod
    def _url(cls, given: str) -> str:
        # Without a scheme the host would be parsed as one, and another machine would get the request.
        parts = urlsplit(given)
        if parts.username is not None or parts.password is not None:
            raise ValueError("it must not hold a login; set clickhouse.username and clickhouse.password")
        if not given.startswith(("http://", "https://")) or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and name a host")
        return given


class CorrelationSettings(Section):
    """When a connection is decided, and how much may wait."""

    lateness_secs: float = Field(3.0, gt=0, description="How far a device's lines may be out of order")
    patience_secs: float = Field(8.0, gt=0, description="How long an unresolved connection waits for its HTTP event")
    linger_secs: float = Field(120.0, gt=0, description="How long an ended connection is kept for late records")
    flow_timeout_secs: float = Field(
        0.0,
        ge=0,
        description="How long an evicted connection is remembered, so that a late record makes no second row: the longest time "
        "until a network sensor writes the record of a flow that was cut off; 0 for the longest of the sensors' defaults",
    )
    idle_secs: float = Field(86_400.0, gt=0, description="How long a connection without any event is kept")
    silence_secs: float = Field(
        600.0, gt=0, description="A device without events for longer, and for twice its longest recent pause, is silent"
    )
    connections_max: int = Field(
        200_000, gt=0, description="Connections kept per device; beyond it the oldest are evicted"
    )
    devices_max: int = Field(
        50_000,
        ge=64,
        description="Devices kept per partition; beyond it those with the shortest history and the longest pause are evicted",
    )
    proxies: Proxies = Field(
        (), description="Known proxies as host:port or name=host:port; others are learnt from requests to them"
    )
    not_proxies: Proxies = Field((), description="Addresses that are never treated as a proxy, as host:port")

    @model_validator(mode="after")
    def _patience_outlasts_lateness(self) -> Self:
        """Check that a late line can still resolve a waiting connection."""
        if self.patience_secs <= self.lateness_secs:
            raise ValueError(f"patience_secs must be more than lateness_secs ({self.lateness_secs:g})")
        return self


class ProtectionSettings(Section):
    """The devices' network protection as far as sensors do not report it, and the rate of alerts."""

    groups: CommaList = Field(
        (), description="Device groups as GROUP=PATTERN, such as servers=srv-*; a group can have several patterns"
    )
    modes: CommaList = Field(
        (),
        description="Protection modes as DEVICE=block, audit or off, or @GROUP=…; a sensor's later report replaces it",
    )
    verdict_sensors: CommaList = Field(
        ("*",),
        description="Senders without a grant that may report verdicts and modes: patterns DIALECT or DIALECT@SENSOR, as in the "
        "headers on telemetry",
    )
    alert_gap_secs: float = Field(60.0, ge=0, description="Shortest time between two versions of an alert on the topic")

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


class WorkerSettings(Section):
    """How the Faust worker runs."""

    group: str = Field("unproxy", description="Consumer group; also the name of the state table's changelog")
    name: str = Field("worker-1", description="Stable and unique name of this worker, for static membership")
    data_dir: str = Field(".unproxy/worker", description="Folder for the local state; never shared by two workers")
    batch_messages_max: int = Field(400, gt=0, description="Most messages in a batch")
    batch_wait_secs: float = Field(
        0.01,
        gt=0,
        description="Time to fill a batch after a pause; under load a batch has what arrived during the previous one",
    )
    session_timeout_secs: float = Field(12.0, ge=6, description="Silence after which Kafka reassigns the partitions")
    standby_replicas: int = Field(
        0, ge=0, description="Workers that keep a warm copy of the state; 0 for a single worker"
    )
    stall_secs_max: float = Field(
        30.0,
        gt=0,
        description="Lag without a commit for this long ends the process; four times as long while other partitions "
        "progress, and twice as long without ticks in the log",
    )
    stop_secs_max: float = Field(8.0, gt=0, description="Longest graceful stop; a longer one is aborted")
    reject_rate_max: float = Field(0.05, ge=0, le=1, description="A larger share of rejected lines is an alarm")
    reject_window_secs: float = Field(60.0, gt=0, description="Period over which the share is computed")
    reject_lines_min: int = Field(1_000, gt=0, description="With fewer lines in the period there is no alarm")
    stop_on_rejects: bool = Field(
        False, description="Whether such an alarm stops the worker before it acknowledges further messages"
    )
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")


class SinkSettings(Section):
    """How rows are written to ClickHouse."""

    group: str = Field("unproxy-sink", description="Consumer group")
    name: str = Field(
        "",
        description="Stable, unique name of this sink, which keeps its partitions over a restart; empty for none",
    )
    batch_rows_max: int = Field(50_000, gt=0, description="Most rows in one insert, in whole messages")
    batch_bytes_max: int = Field(32 * 1024 * 1024, gt=0, description="Most bytes in one insert")
    batch_age_secs_max: float = Field(0.5, gt=0, description="Longest wait of a row for its insert")
    retry_secs_max: float = Field(30.0, gt=0, description="Longest pause between two attempts")
    session_timeout_secs: float = Field(12.0, ge=6, description="Silence after which Kafka reassigns the partitions")
    inserts_max: int = Field(2, gt=0, description="Most concurrent inserts; those of one partition stay in order")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")


class ForwardSettings(Section):
    """Where alerts are forwarded: one target per process; several targets need several processes, each with its own group."""

    target: Literal["webhook", "syslog"] = Field("webhook", description="Kind of the receiver")
    group: str = Field("unproxy-forward", description="Consumer group; every target needs its own")
    name: str = Field(
        "",
        description="Stable, unique name of this process, which keeps its partitions over a restart; empty for none",
    )
    severity_min: Literal["informational", "low", "medium", "high"] = Field(
        "informational", description="Less severe alerts are not sent"
    )
    kinds: CommaList = Field((), description="Only alerts of these kinds; empty for all")
    coalesce: bool = Field(
        True, description="Of several waiting versions of an alert send only the first and the newest"
    )
    parallel_max: int = Field(
        4, gt=0, le=64, description="Most concurrent requests; those of one alert are sent in order"
    )
    waiting_max: int = Field(
        1_000, gt=0, description="Most alerts held while the receiver is unavailable; then reading stops"
    )
    timeout_secs: float = Field(
        10.0, gt=0, le=60, description="Longest time to connect to the receiver, and until it answers"
    )
    retry_secs_max: float = Field(30.0, gt=0, description="Longest pause between two attempts")
    session_timeout_secs: float = Field(12.0, ge=6, description="Silence after which Kafka reassigns the partitions")
    ca_file: str = Field("", description="PEM file with the authorities to trust; empty for the system's")
    client_cert_file: str = Field("", description="PEM file with the client certificate and key; empty for none")
    url: SecretStr = Field(SecretStr(""), description="Webhook: URL to POST to; never shown, as some contain a secret")
    secret: SecretStr = Field(SecretStr(""), description="Webhook: secret to sign with; better in the environment")
    secret_file: str = Field("", description="Webhook: file with that secret, instead of it")
    headers_file: str = Field(
        "", description="Webhook: file of headers to add, one `Name: value` a line, such as a token"
    )
    syslog_address: str = Field("127.0.0.1:601", description="Syslog: the receiver, as host:port")
    syslog_transport: Literal["tcp", "tls", "udp"] = Field("tcp", description="Syslog: transport")
    syslog_facility: int = Field(
        16, ge=0, le=23, description="Syslog: facility; 4 is security, 16 to 23 are local0 to 7"
    )
    syslog_bytes_max: int = Field(8_192, ge=1_024, description="Syslog: largest message over TCP and TLS (bytes)")
    syslog_datagram_bytes_max: int = Field(
        2_048, ge=1_024, le=65_507, description="Syslog: largest message over UDP (bytes)"
    )
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")

    @field_validator("url")
    @classmethod
    def _url(cls, given: SecretStr) -> SecretStr:
        if not given:
            return given
        try:
            parts = urlsplit(given.get_secret_value())
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and parts.netloc.isascii()
        except ValueError:
            usable = False  # without the URL, which the exception's text may quote: it may contain a password
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
    """What `unproxy sensor` observes on connections to proxies, and whether it blocks."""

    mode: Literal["", "off", "audit", "block"] = Field(
        "", description="off: it reads no packets; empty: audit where proxies are known or learnt, else no packets"
    )
    proxies: Proxies = Field(
        (), description="Proxies to observe, as host:port or name=host:port; empty for correlation.proxies"
    )
    learn_proxies: Literal["", "yes", "no"] = Field(
        "",
        description="yes: also observe hosts that get requests as a proxy, except for correlation.not_proxies; empty: yes if a "
        "mode is set and no proxy is named",
    )
    urls: Literal["full", "path", "host"] = Field(
        "path", description="How much of a URL is reported: full, without its query (path), or only scheme and host"
    )
    listed: str = Field("", description="File with the destinations to mark or to block, one a line")
    mode_file: str = Field("", description="File with the mode, read again when it changes; it overrides mode")
    hold_unknown: bool = Field(
        False,
        description="In block mode hold TCP packets to every address until the sensor has a verdict, so that nothing passes to a "
        "proxy before it is learnt; every TCP packet that leaves the machine then waits for the sensor. Needs learnt proxies",
    )
    block_unreadable: bool = Field(
        True,
        description="In block mode also stop requests that proxies may parse differently and, at a named proxy, traffic that is "
        "neither HTTP nor TLS nor SOCKS",
    )


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    retention: RetentionSettings = RetentionSettings()
    correlation: CorrelationSettings = CorrelationSettings()
    protection: ProtectionSettings = ProtectionSettings()
    identity: IdentitySettings = IdentitySettings()
    publisher: PublisherSettings = PublisherSettings()
    inputs: InputSettings = InputSettings()
    sensor: SensorSettings = SensorSettings()
    worker: WorkerSettings = WorkerSettings()
    sink: SinkSettings = SinkSettings()
    forward: ForwardSettings = ForwardSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the environment precedence over the values that `load` read from the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings
