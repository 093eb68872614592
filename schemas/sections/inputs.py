"""Sections of the producer: identity of devices, publishing, network sources and their grants."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from schemas.address import canonical_ip
from schemas.sections.base import CommaList, Section, network


class DeviceNames(Section):
    """Further names and addresses of a device."""

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
    """Which names and addresses in sensors' lines belong to one device."""

    domains: CommaList = Field(
        (), description="Domains to remove from names: with corp.example, ws-1.corp.example is ws-1"
    )
    files: CommaList = Field(
        (), description="Files of names and leases with their times, CSV or JSON lines; read again when they change"
    )
    devices: dict[str, DeviceNames] = Field(
        {}, description='Further names and addresses of devices: [identity.devices."ws-1"] with names and addresses'
    )
    learn: bool = Field(
        True,
        description="In recorded files: assign an address to a device if only that device's own records contain it",
    )

    @field_validator("devices")
    @classmethod
    def _devices(cls, given: dict[str, DeviceNames]) -> dict[str, DeviceNames]:
        if not all(device.strip(" .") for device in given):
            raise ValueError("a device has an empty name")
        return given


class PublisherSettings(Section):
    """How sensors' lines are published to Kafka."""

    topic: str = Field(
        "",
        pattern=r"^(raw-[A-Za-z0-9._-]+)?$",
        description="Raw topic to publish to, such as raw-ws-1, which a producer follows; empty for telemetry",
    )
    batch_bytes_max: int = Field(
        256 * 1024, gt=0, description="Largest size of a message (bytes of one device's lines)"
    )
    batch_age_secs_max: float = Field(0.2, gt=0, description="Longest wait of a line for its message")
    disorder_secs_max: float = Field(
        0.5, ge=0, description="How far a device's lines from two files may be out of order; below lateness_secs"
    )
    line_bytes_max: int = Field(
        12 * 1024 * 1024,
        gt=0,
        le=15 * 1024 * 1024,
        description="Longest line; the first MB of a longer one goes to rejects",
    )
    queue_bytes_max: int = Field(64 * 1024 * 1024, gt=0, description="Unacknowledged bytes before reading stops")
    state_dir: str = Field(".unproxy/producer", description="Folder for the positions in files")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of /metrics; 0 for none")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics")


TOKEN_CHARS_MIN = 16
"""Shortest accepted token; a shorter one could be guessed."""
GRANT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""Format of a grant's name. It is in lower case, as environment variables are not case-sensitive; it is also a metric label."""


class GrantSettings(Section):
    """What one sender of lines may report, and how it is identified: by its client, or by the source that it writes to."""

    token: SecretStr = Field(SecretStr(""), description="Bearer token that an HTTP client sends; 16 characters or more")
    certificates: CommaList = Field(
        (),
        description="Names in a client's verified certificate: a DNS name, or the common name if it has none",
    )
    addresses: CommaList = Field((), description="Addresses or networks of the client, such as 10.1.0.0/16")
    sources: CommaList = Field(
        (),
        description="Patterns of files and Kafka topics as on the command line, without the dialect, such as "
        "/var/log/squid/*.log or kafka://broker:9092/sensors",
    )
    devices: CommaList = Field(
        (), description='Patterns of the DeviceIds it may report on; empty: the device of its own name; ["*"]: all'
    )
    verdicts: bool = Field(False, description="Whether it may report verdicts and protection modes")

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
    """Settings of the producer's network sources besides their addresses."""

    grants: dict[str, GrantSettings] = Field(
        {},
        description="Which devices a sender may report on: [inputs.grants.NAME] with token, certificates, addresses or "
        "sources, and with devices and verdicts",
    )

    kafka_group: str = Field("unproxy-produce", description="Kafka: consumer group that stores the position in a topic")
    kafka_name: str = Field(
        "",
        description="Kafka: stable, unique name of this producer, which keeps its partitions over a restart; empty for none",
    )
    kafka_session_timeout_secs: float = Field(
        12.0, ge=6, description="Kafka: silence after which the group reassigns the partitions"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka: protocol of the connection to the source's brokers"
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="Kafka: SASL mechanism there; empty without login"
    )
    kafka_sasl_username: str = Field("", description="Kafka: user name there; $ConnectionString for an Event Hub")
    kafka_sasl_password: SecretStr = Field(
        SecretStr(""), description="Kafka: password there; the connection string for an Event Hub"
    )
    kafka_ssl_ca_file: str = Field(
        "", description="Kafka: PEM file with the authorities to trust; empty for the system's"
    )
    kafka_ssl_client_cert_file: str = Field(
        "", description="Kafka: PEM file with the client certificate and key; empty for none"
    )
    http_tls_cert_file: str = Field("", description="HTTPS: PEM file with the server's certificate and its chain")
    http_tls_key_file: str = Field(
        "", description="HTTPS: PEM file with its key; empty if the certificate's file has it"
    )
    http_tls_client_ca_file: str = Field(
        "", description="HTTPS: PEM file with the authorities for clients' certificates; empty: none is requested"
    )
    http_plaintext_allowed: bool = Field(
        False,
        description="HTTP: listen without TLS beyond loopback; tokens and lines can then be read on the network",
    )
    http_header_secs_max: float = Field(
        15.0,
        gt=0,
        description="HTTP: longest duration of a TLS handshake, and of a connection without a complete request header",
    )
    http_body_secs_max: float = Field(
        60.0, gt=0, description="HTTP: longest time until a body has arrived; then 408 is answered"
    )
    http_connections_max: int = Field(
        512,
        gt=0,
        description="HTTP: most connections at once; beyond it the oldest without a grant is closed",
    )
    http_connections_per_address_max: int = Field(
        64, gt=0, description="HTTP: the same for one address (IPv6: one /64 network), such as a reverse proxy's"
    )
    http_requests_waiting_max: int = Field(
        256,
        gt=0,
        description="HTTP: most requests at once that are being read or wait for Kafka; beyond it 429 is answered",
    )
    http_waiting_bytes_max: int = Field(
        64 * 1024 * 1024,
        gt=0,
        description="HTTP: most bytes of bodies that wait for Kafka; beyond it 429 is answered",
    )
    http_body_bytes_max: int = Field(16 * 1024 * 1024, gt=0, description="HTTP: largest body (bytes, unpacked)")
    http_gzip_ratio_max: float = Field(
        200.0, gt=1, description="HTTP: largest ratio of a gzip body's unpacked size to its size, beyond the first MB"
    )
    http_gzip_members_max: int = Field(256, gt=0, description="HTTP: most members of a gzip body")
    http_answer_secs_max: float = Field(
        30.0, gt=0, description="HTTP: longest wait for Kafka's acknowledgement; then 503 is answered"
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
