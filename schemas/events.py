"""Internal events: the common form into which parsers convert the lines of all sensors, for the correlator.

A parser converts one line into one event. Addresses are canonical (`schemas.address`), host names are normalised, times are
integers: microseconds since 1970 UTC. `at` is the time at which the sensor wrote the line; it advances the device's clock. A
value that the sensor does not report is "", for a time 0, for other numbers None.
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
"""Length to which parsers cut a free text that is kept in the state, such as a process name or a rule title."""

IPS_CHARS_MAX = 200
"""Longest accepted local and remote address together, with their IPv6 zones."""


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
    """A TCP connection's 5-tuple, client first, and the sensor's identifier of the flow ("" if it has none)."""

    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    id: str
    key: str
    """The 5-tuple as one string: the key of its connections in the state."""


def flow_of(local_ip: str, local_port: int, remote_ip: str, remote_port: int, name: int | str = "") -> Flow:
    """Return the flow between these ends; `name` is the sensor's identifier of it, 0 or "" if it has none. Raises ValueError."""
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
    """The sensor's identifier of the process, which is never reused (Sysmon's `ProcessGuid`)."""

    def __post_init__(self) -> None:
        """Remove login data from URLs in the command line."""
        line = self.command_line
        if line and ("@" in line or "%" in line or len(line) == TEXT_CHARS_MAX):
            force_setattr(self, "command_line", without_logins(line, is_cut=len(line) == TEXT_CHARS_MAX))

    @property
    def is_plain(self) -> bool:
        """Whether only PID and name are known."""
        return not (self.path or self.command_line or self.account or self.started or self.parent_name or self.sid)


class ConnectionOpened(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An outgoing TCP connection, with its process, as the endpoint reports it (tracing, ETW, audit)."""

    device: str
    at: Micros
    flow: Flow
    started: Micros
    """Time of the attempt (SYN); with the 5-tuple it identifies the connection."""
    established: Micros
    """Time at which the handshake succeeded; 0 while that is unknown."""
    ended: Micros
    """Time of the end; 0 while the connection is open."""
    failed: bool
    process: Process
    event_id: str
    sensor: str
    """`Sensor.name` of the sensor that wrote the line."""
    bytes_sent: int | None = None
    """Payload bytes; None while the sensor has not reported them."""
    bytes_received: int | None = None
    exec_after: str = ""
    """Program that the process executed within a second after the attempt, as passed to exec. "" if it did not."""


class FlowSummary(msgspec.Struct, frozen=True, gc=False):
    """A network sensor's summary of a flow, written at the flow's end (Suricata `flow`, Zeek `conn`)."""

    device: str
    at: Micros
    flow: Flow
    started: Micros
    ended: Micros
    bytes_sent: int
    bytes_received: int
    answered: bool
    """Whether the server answered the handshake."""
    midstream: bool
    """Whether the sensor missed the flow's start. The flow is then older than the sensor, and its direction is a guess."""
    tls: bool
    """Whether TLS was used from the first byte, and not only inside a tunnel."""
    event_id: str
    sensor: str


UNNAMED_TARGET = "?"
"""Target of a request to a proxy whose host the sensor does not know for certain."""


class HttpExchange(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An HTTP request, with its response if there was one."""

    device: str
    at: Micros
    """Time at which the sensor logged the request; the request itself was not later."""
    flow: Flow
    tx: int
    method: str
    target: str
    """The request target (RFC 9112 section 3.2) without login data. "" for a CONNECT target with userinfo, which names no
    destination; UNNAMED_TARGET if the sensor does not know the host for certain."""
    host: str
    """The Host header, normalised; "" if it is missing."""
    status: int | None
    event_id: str
    sensor: str
    started: Micros = 0
    """Start of the flow; 0 if the sensor does not report it."""

    def __post_init__(self) -> None:
        """Remove login data from URLs in the target."""
        target = self.target
        if "@" in target or "%" in target:
            force_setattr(self, "target", request_target(self.method, target))


class TlsName(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A TLS client hello with its server name (SNI)."""

    device: str
    at: Micros
    flow: Flow
    sni: str
    """The server name, normalised; "" if the client hello has none."""
    tunnelled: bool
    """Whether the client hello was sent inside a CONNECT tunnel: the flow used HTTP before."""
    event_id: str
    sensor: str
    started: Micros = 0
    """Start of the flow; 0 if the sensor does not report it."""
    to_proxy: bool = False
    """Whether the sensor knows that the remote end is a proxy and that this is the connection's first client hello."""


class SocksRequest(msgspec.Struct, frozen=True, gc=False):
    """A SOCKS request (RFC 1928), with its answer if there was one."""

    device: str
    at: Micros
    """Time of the answer, or of the sensor's timeout for it."""
    flow: Flow
    tx: int
    host: str
    """The requested host, normalised; "" if the client sent none that is usable."""
    port: int
    granted: bool | None
    """Whether the server granted the request; None if it did not answer."""
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
    """A verdict of a device's network protection, together with its request: for a blocked request there is no other event."""

    device: str
    at: Micros
    flow: Flow
    started: Micros
    """Start of the flow; 0 if the sensor does not report it."""
    action: Action
    tx: int
    method: str
    """The request's method; "" for a verdict on a TLS server name."""
    target: str
    host: str
    """Host header or SNI, normalised. If the request's host is uncertain, the host of the verdict, "" if it has none."""
    status: int | None
    title: str
    category: str
    event_id: str
    sensor: str
    port: int = 0
    """Port of the host if the target is UNNAMED_TARGET; otherwise the port is part of the target."""

    def __post_init__(self) -> None:
        """Remove login data from URLs in target and title."""
        texts = self.target + self.title
        if "@" in texts or "%" in texts or "u0040" in texts or len(texts) >= TEXT_CHARS_MAX:
            force_setattr(self, "target", request_target(self.method, self.target))
            force_setattr(self, "title", _plain(self.title))


class ProtectionMode(StrEnum):
    """Mode of a device's network protection.

    `block` stops and reports requests, `audit` only reports them, `off` does neither.
    """

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
    """A sensor's report that a device's protection mode changed at the time `at`."""

    device: str
    at: Micros
    mode: ProtectionMode
    event_id: str
    sensor: str
    before: ProtectionMode | None = None
    """The previous mode, if the sensor reports it."""
    evidence: ModeEvidence = ModeEvidence.SENSOR_STATUS


class ProcessVerdict(msgspec.Struct, frozen=True, gc=False):
    """A verdict with the process that sent the request, but without the connection (Defender events 1125 and 1126)."""

    device: str
    at: Micros
    action: Action
    process: Process
    """The process as far as the sensor reports it; often only its path is known."""
    host: str
    """Requested host name or address, normalised; if a URL was requested, its host."""
    port: int
    """Requested port; 0 if the sensor does not report it."""
    url: str
    """Requested URL, as the sensor writes it."""
    title: str
    category: str
    """Defender's `ResponseCategory`, such as `CustomBlockList` or `Phishing`."""
    event_id: str
    sensor: str
    category_group: str = ""
    """Defender's `ResponseCategoryGroup`, such as `CustomIndicator` or `Threat`."""

    def __post_init__(self) -> None:
        """Remove login data from URL and title."""
        texts = self.url + self.title
        if "@" in texts or "%" in texts or "u0040" in texts or len(texts) >= TEXT_CHARS_MAX:
            force_setattr(self, "url", target_without_login(self.url, is_cut=len(self.url) == TEXT_CHARS_MAX))
            force_setattr(self, "title", _plain(self.title))


class ProcessStarted(msgspec.Struct, frozen=True, gc=False):
    """The start or end of a process, as an endpoint sensor reports it independently of connections."""

    device: str
    at: Micros
    process: Process
    """The process, always with its PID. An end often lacks the start time: `started` is then 0 and the GUID identifies the
    process."""
    ended: Micros
    """Time of the end; 0 while the process runs."""
    event_id: str
    sensor: str


class ProxyDecision(StrEnum):
    """A proxy's decision on a request, from its own log."""

    SERVED = "served"
    """Forwarded, or answered from the cache; the status is then the server's."""
    DENIED = "denied"
    """Refused by a rule of the proxy."""
    SIGN_IN = "sign_in"
    """The client was asked to authenticate (407)."""
    FAILED = "failed"
    """The destination could not be reached, or the client closed the connection first."""


class ProxyLogged(msgspec.Struct, frozen=True, gc=False):
    """An entry of a proxy's access log: one request or a closed tunnel. Only this event has the destination's address."""

    device: str
    """The device's name if known, otherwise the client's address, canonical."""
    at: Micros
    """Time at which the entry was written."""
    client_ip: str
    client_port: int
    """The client's port; 0 if the log does not have it, as most do not."""
    proxy_ip: str
    """The proxy's address to which the client connected; "" if the log does not have it."""
    proxy_port: int
    started: Micros
    """Time at which the request arrived: `at` minus the duration."""
    method: str
    target: str
    """The request target as written (RFC 9112 section 3.2)."""
    host: str
    """Requested host, normalised."""
    port: int
    """Requested port; 0 if neither the target nor its scheme shows it."""
    status: int | None
    decision: ProxyDecision
    upstream_ip: str
    """Address of the destination to which the proxy connected, canonical; "" if it did not connect or used another proxy."""
    upstream_port: int
    bytes_sent: int | None
    """Bytes received from the client; None if the log does not have them."""
    bytes_received: int | None
    user: str
    proxy: str
    """Name of the proxy from its log or from the shipper; "" if neither names it."""
    event_id: str
    sensor: str

    def __post_init__(self) -> None:
        """Remove login data from URLs in target and user."""
        target = self.target
        if "@" in target or "%" in target or len(target) == TEXT_CHARS_MAX:
            force_setattr(self, "target", request_target(self.method, target, is_cut=len(target) == TEXT_CHARS_MAX))
        if "/" in self.user:
            force_setattr(self, "user", _plain(self.user))


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A valid line that the correlator does not need; it is counted under `kind`, one of few words such as `dns`."""

    device: str
    at: Micros
    kind: str


class Reason(StrEnum):
    """Reason for which a line is rejected: a closed set, because it is a metric label."""

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
    """The sender of the line may not report on that device, or may not report verdicts."""
    STOPS_WORKER = "stops_worker"


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A line that could not be read. It keeps its bytes, so that it can be read again after a fix."""

    reason: Reason
    detail: str
    raw: bytes
    dialect: str = ""
    device: str = ""
    keyed: bool = False
    """Whether the message's key determines the device; a device name in the line is then ignored."""
    claims: str = ""
    """Value of the message's header `claims`, which states what the sender may report; "" if it has no such header."""


def _plain(text: str) -> str:
    """Remove login data from URLs in a text that may have been cut to its maximum length."""
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
