"""Suricata's EVE JSON (docs.suricata.io, "Eve JSON Output") of versions 4 to 8, also inside the envelopes of shippers.

`http` contains requests, `tls` server names, `alert` with an `http` or `tls` object verdicts, `flow` the end of a connection. The
`timestamp` is the time of logging: normally 1-2 ms after the event, for the last request of a flow up to a minute. A blocked
request has no `http` record, only its alert; `drop` records are one per packet and are not needed. If a sensor has no name
(`sensor-name`), it observes other devices, and the device is the client's address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from schemas.address import canonical_ip, split_authority
from schemas.clock import parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import (
    IPS_CHARS_MAX,
    TEXT_CHARS_MAX,
    Action,
    Flow,
    FlowSummary,
    HttpExchange,
    Ignored,
    Micros,
    Parsed,
    Reason,
    Reject,
    TlsName,
    Verdict,
    flow_of,
)
from schemas.parsers.common.envelopes import anywhere_within
from schemas.parsers.common.rejects import FAULTS, UNREADABLE, otherwise, reject_of
from schemas.parsers.common.values import COUNT_MAX, PORT_MAX, STATUS_MAX
from schemas.parsers.unsupported import unsupported

SENSOR = Sensor(
    "suricata",
    SensorKind.NETWORK,
    (FlowSummary, HttpExchange, TlsName, Verdict),
    flow_id_kind="number",
    flow_timeout_secs=600,  # suricata.yaml, flow-timeouts: tcp, established
)

# fmt: off
OTHER_KINDS = frozenset((
    "anomaly", "dcerpc", "dhcp", "dnp3", "dns", "drop", "fileinfo", "files", "flow", "ftp", "ftp_data", "http",
    "http2", "ike", "krb5", "metadata", "modbus", "mqtt", "netflow", "nfs", "packetinfo", "quic", "rdp", "rfb",
    "sip", "smb", "smtp", "snmp", "ssh", "stats", "tftp", "tls", "alert", "enip", "ldap", "pgsql", "websocket",
    "arp", "bittorrent_dht", "frame", "mdns", "pop3",
))
# fmt: on
TCP_SYN = 0x02  # RFC 9293 section 3.1, control bits
LENIENT_BYTES_MAX = 131_072
"""Longest record in bytes whose values may have other types than EVE's; VAST and Wazuh, which change types, write a few KiB."""
PORTS_OF_SERVERS = 1_024  # below it are the system ports (RFC 6335 section 6)


Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
"""A count that rows and state can hold."""
Port = Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)]
Status = Annotated[int, msgspec.Meta(ge=0, le=STATUS_MAX)]


class _Http(msgspec.Struct, gc=False):
    hostname: str = ""
    url: str = ""
    http_method: str = ""
    status: Status | None = None


class _Tls(msgspec.Struct, gc=False):
    sni: str = ""
    from_proto: str = ""


class _Alert(msgspec.Struct, gc=False):
    action: str = ""
    signature: str = ""
    category: str = ""


class _FlowPart(msgspec.Struct, gc=False):
    src_ip: str = ""
    src_port: Port = 0
    dest_ip: str = ""
    dest_port: Port = 0
    start: str = ""
    end: str = ""
    state: str = ""
    reason: str = ""
    bytes_toserver: Count = 0
    bytes_toclient: Count = 0
    pkts_toclient: Count = 0


class _Tcp(msgspec.Struct, gc=False):
    tcp_flags_ts: str = ""
    tcp_flags_tc: str = ""


class _Eve(msgspec.Struct, gc=False):
    timestamp: str
    event_type: str
    flow_id: Count = 0
    src_ip: str = ""
    src_port: Port = 0
    dest_ip: str = ""
    dest_port: Port = 0
    proto: str = ""
    app_proto: str = ""
    app_proto_orig: str = ""
    tx_id: Count = 0
    host: str | dict[str, Any] = ""
    shipped: Any = msgspec.field(default=None, name="@version")
    http: _Http | None = None
    tls: _Tls | None = None
    alert: _Alert | None = None
    direction: str = ""
    flow: _FlowPart | None = None
    tcp: _Tcp | None = None
    device: str = msgspec.field(default="", name="-")


class _Head(msgspec.Struct, gc=False):
    timestamp: str
    event_type: str
    host: str | dict[str, Any] = ""
    shipped: Any = msgspec.field(default=None, name="@version")


class _Shape(msgspec.Struct, gc=False):
    timestamp: str
    event_type: str
    flow_id: int | str | None = None


_EVE = msgspec.json.Decoder(_Eve)
_HEAD = msgspec.json.Decoder(_Head)
_SHAPE = msgspec.json.Decoder(_Shape)
_ANY = msgspec.json.Decoder()
_NO_END = frozenset({"shutdown", "forced"})
_CLIENT_FIRST = frozenset({"http", "tls", "flow"})
"""Event types whose addresses are those of the flow, client first; other types may have the addresses of a packet."""


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        eve = _read(raw)
    except msgspec.ValidationError as error:
        return _strange(raw, error)
    except UNREADABLE as error:
        return unsupported(raw) or reject_of(error, raw)
    kind = eve.event_type
    try:
        at = parse_micros(eve.timestamp)
        eve.device = _sensor(eve) or _client(eve)
        if kind not in HANDLERS:
            return Ignored(eve.device, at, kind if kind in OTHER_KINDS else "other")
        if eve.proto != "TCP":
            return Ignored(eve.device, at, f"{kind}_not_tcp")
        if not (eve.src_port and eve.dest_port):
            return Reject(Reason.BAD_VALUE, f"{kind} over TCP without ports from 1 to 65535", raw)
        flow = flow_of(eve.src_ip, eve.src_port, eve.dest_ip, eve.dest_port, eve.flow_id)
        part = getattr(eve, kind)
        if part is None:
            return Reject(Reason.INCOMPLETE, f"{kind} record without its {kind} object", raw)
        return HANDLERS[kind](eve, part, at, flow)
    except (ValueError, OverflowError) as error:
        return reject_of(error, raw)


def _read(raw: bytes) -> _Eve:
    """Decode a record, also in an envelope or with changed types. Raises the errors of reading the line."""
    try:
        return _EVE.decode(raw)
    except UNREADABLE:
        held = list(anywhere_within(raw))
        for decode, line in (*((_EVE.decode, line) for line in held), *((_lenient, line) for line in (raw, *held))):
            try:
                return decode(line)
            except UNREADABLE:
                continue
        raise


def _lenient(raw: bytes) -> _Eve:
    """Decode a record in which missing values are null (VAST), or numbers are texts (Wazuh; large ones with decimals)."""
    if len(raw) > LENIENT_BYTES_MAX:
        raise msgspec.ValidationError(
            f"{len(raw)} bytes; at most {LENIENT_BYTES_MAX} are read of a record with other types"
        )
    record = _ANY.decode(raw)
    for part in (record, *record.values()) if isinstance(record, dict) else ():
        if isinstance(part, dict):
            for key, value in list(part.items()):
                if value is None:
                    del part[key]
                elif isinstance(value, str) and value.endswith(".000000") and value[:-7].isdigit():
                    part[key] = value[:-7]
    return msgspec.convert(record, _Eve, strict=False)


def _sensor(eve: _Eve | _Head) -> str:
    """Return the sensor's name.

    If `host` is an object, it is the shipper's machine. Logstash may put the sensor's name inside of it.
    """
    return eve.host if isinstance(eve.host, str) and eve.shipped is None else ""


def _http(eve: _Eve, http: _Http, at: Micros, flow: Flow) -> HttpExchange:
    return HttpExchange(
        eve.device,
        at,
        flow,
        eve.tx_id,
        http.http_method,
        http.url,
        split_authority(http.hostname, 80)[0] if http.hostname else "",
        http.status,
        f"http/{eve.flow_id}/{eve.tx_id}/{eve.timestamp[:26]}",
        SENSOR.name,
    )


def _tls(eve: _Eve, tls: _Tls, at: Micros, flow: Flow) -> TlsName:
    sni = split_authority(tls.sni, 443)[0] if tls.sni else ""
    return TlsName(
        eve.device, at, flow, sni, bool(tls.from_proto), f"tls/{eve.flow_id}/{eve.timestamp[:26]}", SENSOR.name
    )


def _flow(eve: _Eve, part: _FlowPart, at: Micros, flow: Flow) -> FlowSummary:
    to_server = int(eve.tcp.tcp_flags_ts or "0", 16) if eve.tcp else 0
    to_client = int(eve.tcp.tcp_flags_tc or "0", 16) if eve.tcp else 0
    # When a sensor stops or lacks memory, it releases flows that continue: that is no end of the connection.
    cut_off = part.state != "closed" and part.reason in _NO_END
    started, last = (parse_micros(time) if time else 0 for time in (part.start, part.end))
    return FlowSummary(
        eve.device,
        at if at >= started else max(started, last),  # records of a capture file may be logged as of 1970
        flow,
        started,
        0 if cut_off else last,
        part.bytes_toserver,
        part.bytes_toclient,
        bool(to_client & TCP_SYN) if eve.tcp else part.pkts_toclient > 0,
        eve.tcp is not None and not to_server & TCP_SYN,
        eve.app_proto == "tls" and not eve.app_proto_orig,
        f"flow/{eve.flow_id}/{eve.timestamp[:26]}",
        SENSOR.name,
    )


def _alert(eve: _Eve, alert: _Alert, at: Micros, flow: Flow) -> Parsed:
    if alert.action not in {"blocked", "allowed"}:
        return Ignored(eve.device, at, "alert_no_action")
    started = parse_micros(eve.flow.start) if eve.flow and eve.flow.start else 0
    flow = _of_the_flow(eve, flow)
    if eve.http is not None and eve.http.http_method:
        http = eve.http
        host, method, target, status = http.hostname, http.http_method, http.url, http.status
    elif eve.tls is not None and eve.tls.sni:
        host, method, target, status = eve.tls.sni, "", "", None
    else:
        return Ignored(eve.device, at, "alert_without_request")
    return Verdict(
        eve.device,
        at,
        flow,
        started,
        Action.BLOCKED if alert.action == "blocked" else Action.AUDITED,
        eve.tx_id,
        method,
        target,
        split_authority(host, 443)[0] if host else "",
        status,
        alert.signature[:TEXT_CHARS_MAX],
        alert.category[:TEXT_CHARS_MAX],
        f"alert/{eve.flow_id}/{eve.tx_id}/{eve.timestamp[:26]}",
        SENSOR.name,
    )


def _of_the_flow(eve: _Eve, packet: Flow) -> Flow:
    """Return the flow of an alert, whose addresses are those of a packet.

    The object `flow` (from version 7.0 on) has the flow's addresses; otherwise `direction` or the ports show the client.
    """
    part = eve.flow
    if part is not None and part.src_ip and part.src_port and part.dest_port:
        return flow_of(part.src_ip, part.src_port, part.dest_ip, part.dest_port, packet.id)
    if _is_answer(eve):
        return flow_of(packet.remote_ip, packet.remote_port, packet.local_ip, packet.local_port, packet.id)
    return packet


def _is_answer(eve: _Eve) -> bool:
    """Return whether the record's packet was sent to the client."""
    return eve.direction == "to_client" or (not eve.direction and eve.src_port < PORTS_OF_SERVERS <= eve.dest_port)


def _client(eve: _Eve) -> str:
    """Return the client's address; "" if the record has none."""
    part = eve.flow
    if part is not None and part.src_ip:
        ip = part.src_ip
    else:
        ip = eve.dest_ip if eve.event_type not in _CLIENT_FIRST and _is_answer(eve) else eve.src_ip
    if len(ip) > IPS_CHARS_MAX:
        raise ValueError(f"an address of {len(ip)} characters")
    return canonical_ip(ip) if ip else ""


HANDLERS: dict[str, Callable[[_Eve, Any, Micros, Flow], Parsed]] = {
    "http": _http,
    "tls": _tls,
    "alert": _alert,
    "flow": _flow,
}
"""Handlers of the used event types, by type; the type is also the name of the object with the details."""


def _strange(raw: bytes, error: msgspec.ValidationError) -> Parsed:
    """Return the result for a field of an unexpected type: Ignored if the event type is not used anyway, else a reject."""
    for line in (raw, *anywhere_within(raw)):
        try:
            head = _HEAD.decode(line)
            if head.event_type not in HANDLERS:
                kind = head.event_type if head.event_type in OTHER_KINDS else "other"
                return Ignored(_sensor(head), parse_micros(head.timestamp), kind)
        except FAULTS:
            continue
    return unsupported(raw) or reject_of(error, raw)


@otherwise(0)
def written_at(raw: bytes) -> Micros:
    """Return the record's `timestamp`."""
    begin = raw.find(b'"timestamp":"', 0, 256) + 13
    if begin < 13:
        return parse_micros(_read(raw).timestamp)
    return parse_micros(raw[begin : raw.index(b'"', begin, begin + 64)].decode("ascii"))


@otherwise("")
def device_of(raw: bytes) -> str:
    """Return the sensor's name (`host`); if it has none, the client's address."""
    try:
        if name := _sensor(_HEAD.decode(raw)):
            return name
    except UNREADABLE:
        pass
    eve = _read(raw)
    return _sensor(eve) or _client(eve)


def claims(raw: bytes) -> bool:
    """Return whether a line has EVE's event type, and a flow or an object named like the type (`stats`, `drop`)."""
    if b"event_type" not in raw:
        return False
    try:
        return _is_eve(raw)
    except UNREADABLE:
        return any(map(otherwise(False)(_is_eve), anywhere_within(raw)))


def _is_eve(line: bytes) -> bool:
    shape = _SHAPE.decode(line)
    kind = shape.event_type
    return shape.flow_id is not None or (
        kind in OTHER_KINDS and b'"%s":' % kind.encode() in line.replace(b'": ', b'":')
    )


DIALECT = Dialect(
    "suricata",
    parse,
    written_at,
    device_of,
    title="Suricata EVE JSON, versions 4 to 8",
    gives="HTTP requests with CONNECT and absolute URIs, TLS names, verdicts of block and audit rules, flow ends; no process.",
    claims=claims,
    sensors=(SENSOR,),
)
