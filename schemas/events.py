"""Internal events: the form of any sensor's line for the correlator.

A dialect parses the bytes of one line into one of these. Addresses are canonical (`schemas.address`), host names are
normalised, times are integers: microseconds since 1970 UTC. `at` is the time at which the sensor wrote the line; it
advances the device's clock. Strings are "" and numbers None (times 0) where the sensor does not report a value.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec.structs import force_setattr

from schemas.address import canonical_ip
from schemas.logins import request_target, target_without_login, without_logins

Micros = int
"""Microseconds since 1970-01-01 UTC."""

DEVICE_CHARS_MAX = 255
"""Longest accepted device name: names become message keys, state keys and columns."""
TEXT_CHARS_MAX = 1_024
"""Length at which a dialect cuts a free text that stays in the state, such as a process name or a rule title."""

IPS_CHARS_MAX = 200
"""Longest accepted pair of addresses, zones included."""


def device_name_problem(name: str) -> str:
    """Return why `name` cannot be a device's name, "" if it can.

    Only printable characters (`str.isprintable`) are accepted. Control characters (C0, DEL, C1), line separators and lone
    surrogates change what a terminal, a log or a key shows; bidirectional controls and zero-width characters make one
    device look like another.
    """
    if len(name) > DEVICE_CHARS_MAX:
        return f"the device's name has {len(name)} characters; at most {DEVICE_CHARS_MAX} are accepted"
    if name.isprintable():
        return ""
    place, char = next((place, char) for place, char in enumerate(name) if not char.isprintable())
    return f"the device's name has U+{ord(char):04X} as character {place + 1}; only printable characters are accepted"


class Flow(msgspec.Struct, frozen=True, gc=False):
    """The 5-tuple of a TCP connection, client first, and the sensor's identifier of the flow ("" without one)."""

    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    id: str
    key: str
    """The 5-tuple as one string: the key of its connections in the state."""


def flow_of(local_ip: str, local_port: int, remote_ip: str, remote_port: int, name: int | str = "") -> Flow:
    """Return the flow of two endpoints; `name` is the sensor's identifier, 0 or "" without one. Raises ValueError."""
    if len(local_ip + remote_ip) > IPS_CHARS_MAX:
        raise ValueError(f"addresses of {len(local_ip)} and {len(remote_ip)} characters")
    local = canonical_ip(local_ip)
    remote = canonical_ip(remote_ip)
    return Flow(
        local,
        local_port,
        remote,
        remote_port,
        str(name) if name else "",
        f"{local} {local_port} {remote} {remote_port}",
    )


class Process(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, array_like=True):
    """The process that opened a connection, as far as the sensor reports it."""

    pid: int | None = None
    name: str = ""
    path: str = ""
    command_line: str = ""
    started: Micros = 0
    account: str = ""
    domain: str = ""
    sid: str = ""
    parent_pid: int | None = None
    parent_name: str = ""
    sha1: str = ""
    sha256: str = ""
    md5: str = ""
    guid: str = ""
    """The sensor's identifier of the process, never reused (Sysmon's `ProcessGuid`)."""

    def __post_init__(self) -> None:
        """Remove logins from URLs in the command line."""
        line = self.command_line
        if line and ("@" in line or "%" in line or len(line) == TEXT_CHARS_MAX):
            force_setattr(self, "command_line", without_logins(line, is_cut=len(line) == TEXT_CHARS_MAX))

    @property
    def is_plain(self) -> bool:
        """Only PID and name are known."""
        return not (self.path or self.command_line or self.account or self.started or self.parent_name or self.sid)


class ConnectionOpened(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An endpoint's own record of an outgoing TCP connection (tracing, ETW, audit); only this event has the process."""

    device: str
    at: Micros
    flow: Flow
    started: Micros
    """Time of the attempt (SYN); with the 5-tuple it identifies the connection."""
    established: Micros
    """0 until the handshake is known to have succeeded."""
    ended: Micros
    """0 while open."""
    failed: bool
    process: Process
    event_id: str
    sensor: str
    """`Sensor.name` of the sensor that wrote the line."""
    bytes_sent: int | None = None
    """Payload; None if the sensor does not report it, or not yet."""
    bytes_received: int | None = None
    exec_after: str = ""
    """Program that the process executed within a second after the attempt, as passed to exec."""


class FlowSummary(msgspec.Struct, frozen=True, gc=False):
    """A network sensor's summary of a flow, written at its end (Suricata `flow`, Zeek `conn`)."""

    device: str
    at: Micros
    flow: Flow
    started: Micros
    ended: Micros
    bytes_sent: int
    bytes_received: int
    answered: bool
    """The remote end answered the handshake."""
    midstream: bool
    """The sensor did not see the start: the flow is older than the sensor, and its direction is a guess."""
    tls: bool
    """TLS was used from the first byte, not inside a tunnel."""
    event_id: str
    sensor: str


UNNAMED_TARGET = "?"
"""Target of a request to a proxy whose host the sensor does not know for certain."""


class HttpExchange(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One HTTP request, with its answer when there was one."""

    device: str
    at: Micros
    """Time of logging; the request was at or before it."""
    flow: Flow
    tx: int
    method: str
    target: str
    """The request target (RFC 9112 section 3.2) without logins; "" for a CONNECT with userinfo, which names no destination; or
    UNNAMED_TARGET."""
    host: str
    """The Host header, normalised; "" without one."""
    status: int | None
    event_id: str
    sensor: str
    started: Micros = 0
    """Start of the flow; 0 if the sensor does not report it."""

    def __post_init__(self) -> None:
        """Remove logins from URLs in the target."""
        target = self.target
        if "@" in target or "%" in target:
            force_setattr(self, "target", request_target(self.method, target))


class TlsName(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A TLS client hello and the server name (SNI) in it."""

    device: str
    at: Micros
    flow: Flow
    sni: str
    """Normalised; "" if it has none."""
    tunnelled: bool
    """The flow used HTTP before: the hello came through a CONNECT tunnel."""
    event_id: str
    sensor: str
    started: Micros = 0
    """Start of the flow; 0 if the sensor does not report it."""
    to_proxy: bool = False
    """The sensor knows that the remote end is a proxy, and the hello is the first that the client sent to it."""


class SocksRequest(msgspec.Struct, frozen=True, gc=False):
    """One SOCKS request (RFC 1928), with its answer when there was one."""

    device: str
    at: Micros
    """Time of the answer, or of giving up."""
    flow: Flow
    tx: int
    host: str
    """The target, normalised; "" if the client sent no usable one."""
    port: int
    granted: bool | None
    """The server's answer; None without one."""
    event_id: str
    sensor: str
    started: Micros = 0
    """Start of the flow; 0 if the sensor does not report it."""


class Action(StrEnum):
    """Action of a device's network protection on a request; bypassed: the user continued after a warning."""

    BLOCKED = "blocked"
    AUDITED = "audited"
    WARNED = "warned"
    BYPASSED = "bypassed"


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A verdict of a device's network protection, with the request, because a blocked one has no other record."""

    device: str
    at: Micros
    flow: Flow
    started: Micros
    """Start of the flow; 0 if the sensor does not report it."""
    action: Action
    tx: int
    method: str
    """"" for a verdict on a TLS name."""
    target: str
    host: str
    """Host header or SNI, normalised; of a request without a certain host the host of the verdict, "" if it has none."""
    status: int | None
    title: str
    category: str
    event_id: str
    sensor: str
    port: int = 0
    """Port of the host if the target is UNNAMED_TARGET; otherwise the target has it."""

    def __post_init__(self) -> None:
        """Remove logins from URLs in target and title."""
        texts = self.target + self.title
        if "@" in texts or "%" in texts or "u0040" in texts or len(texts) >= TEXT_CHARS_MAX:
            force_setattr(self, "target", request_target(self.method, self.target))
            force_setattr(self, "title", _plain(self.title))


class ProtectionMode(StrEnum):
    """Mode of a device's network protection: block stops and records, audit only records, off does neither."""

    BLOCK = "block"
    AUDIT = "audit"
    OFF = "off"


class ModeEvidence(StrEnum):
    """Source of a device's protection mode."""

    DEFENDER_SETTING = "defender_5007"
    SENSOR_STATUS = "sensor_status"
    VERDICT = "verdict"
    SETTINGS = "settings"


class ModeChanged(msgspec.Struct, frozen=True, gc=False):
    """The device's protection mode from `at` on, as a sensor reports it."""

    device: str
    at: Micros
    mode: ProtectionMode
    event_id: str
    sensor: str
    before: ProtectionMode | None = None
    """The previous mode, if the sensor reports it."""
    evidence: ModeEvidence = ModeEvidence.SENSOR_STATUS


class ProcessVerdict(msgspec.Struct, frozen=True, gc=False):
    """A verdict with the process of the request, but without its connection (Defender 1125, 1126)."""

    device: str
    at: Micros
    action: Action
    process: Process
    """As far as the sensor reports it; often only its path."""
    host: str
    """Requested host name or address, normalised; of a URL its host."""
    port: int
    """0 if the sensor does not report it."""
    url: str
    """As the sensor writes it."""
    title: str
    category: str
    """`ResponseCategory` as hunters know it, such as `CustomBlockList` or `Phishing`."""
    event_id: str
    sensor: str
    category_group: str = ""
    """`ResponseCategoryGroup`, such as `CustomIndicator` or `Threat`."""

    def __post_init__(self) -> None:
        """Remove logins from URLs in URL and title."""
        texts = self.url + self.title
        if "@" in texts or "%" in texts or "u0040" in texts or len(texts) >= TEXT_CHARS_MAX:
            force_setattr(self, "url", target_without_login(self.url, is_cut=len(self.url) == TEXT_CHARS_MAX))
            force_setattr(self, "title", _plain(self.title))


class ProcessStarted(msgspec.Struct, frozen=True, gc=False):
    """Start or end of a process, as an endpoint's sensor reports it apart from connections."""

    device: str
    at: Micros
    process: Process
    """With its PID. An end often lacks the start time; then `started` is 0 and the GUID identifies the process."""
    ended: Micros
    """0 while it runs."""
    event_id: str
    sensor: str


class ProxyDecision(StrEnum):
    """Decision of a proxy about a request, from its own log."""

    SERVED = "served"
    """Forwarded, or answered from the cache; the status is the server's."""
    DENIED = "denied"
    """Refused by a rule."""
    SIGN_IN = "sign_in"
    """The client was asked to authenticate (407)."""
    FAILED = "failed"
    """The destination could not be reached, or the client closed the connection first."""


class ProxyLogged(msgspec.Struct, frozen=True, gc=False):
    """An access-log entry of a proxy: one request, or a closed tunnel. Only this event has the destination's address."""

    device: str
    """The device's name if known, otherwise the client's address, canonical."""
    at: Micros
    """Time of writing the line."""
    client_ip: str
    client_port: int
    """0 if the log does not have it; most do not."""
    proxy_ip: str
    """The address that the client connected to; "" if the log does not have it."""
    proxy_port: int
    started: Micros
    """Arrival of the request: `at` minus its duration."""
    method: str
    target: str
    """The request target as written (RFC 9112 section 3.2)."""
    host: str
    """Requested host, normalised."""
    port: int
    """0 if neither the target nor its scheme implies it."""
    status: int | None
    decision: ProxyDecision
    upstream_ip: str
    """Address of the destination that the proxy connected to, canonical; "" if it did not connect, or used another proxy."""
    upstream_port: int
    bytes_sent: int | None
    """From the client; None if the log does not have it."""
    bytes_received: int | None
    user: str
    proxy: str
    """Name of the proxy, as its log or its shipper gives it; "" without one."""
    event_id: str
    sensor: str

    def __post_init__(self) -> None:
        """Remove logins from URLs in target and user."""
        target = self.target
        if "@" in target or "%" in target or len(target) == TEXT_CHARS_MAX:
            force_setattr(self, "target", request_target(self.method, target, is_cut=len(target) == TEXT_CHARS_MAX))
        if "/" in self.user:
            force_setattr(self, "user", _plain(self.user))


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A valid line without an event for the correlator; `kind` is a short word of a closed set, such as `dns`."""

    device: str
    at: Micros
    kind: str


class Reason(StrEnum):
    """Why a line was rejected: a closed set, because it becomes a metric label."""

    MALFORMED = "malformed"
    INCOMPLETE = "incomplete"
    BAD_VALUE = "bad_value"
    TOO_LONG = "too_long"
    NO_DEVICE = "no_device"
    UNKNOWN_DIALECT = "unknown_dialect"
    UNSUPPORTED = "unsupported"
    """The format is known but not supported; the detail has the reason and what to collect instead."""
    NOT_DELIVERABLE = "not_deliverable"
    NOT_ALLOWED = "not_allowed"
    """Its sender may not report on that device, or may not report verdicts."""
    STOPS_WORKER = "stops_worker"


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A line that could not be read, with its bytes, so that it can be read again after a fix."""

    reason: Reason
    detail: str
    raw: bytes
    dialect: str = ""
    device: str = ""
    keyed: bool = False
    """The device is that of the message; a name in the line does not count."""
    claims: str = ""
    """What its sender may report: the message's header `claims`; "" without it."""


def _plain(text: str) -> str:
    """Return a text without logins in URLs; it may have been cut at its bound."""
    return without_logins(text, is_cut=len(text) == TEXT_CHARS_MAX)


Event = (
    ConnectionOpened
    | FlowSummary
    | HttpExchange
    | TlsName
    | SocksRequest
    | Verdict
    | ProcessVerdict
    | ModeChanged
    | ProxyLogged
    | ProcessStarted
)
Parsed = Event | Ignored | Reject
