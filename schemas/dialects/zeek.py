"""Zeek's logs (docs.zeek.org, "Log Files"): conn, http and ssl, in JSON by whatever wrote it, or tab-separated in files.

`conn` gives the end of a connection, `http` requests, `ssl` server names; `uid` is one connection of one Zeek, also through a
CONNECT tunnel. A tap sees many devices: the device is the client's address. `ts` is when something began, not when it was
written: a request's own time, a connection's start. Tab-separated rows are made into JSON when they are published
(`schemas.zeek.tsv`). Field names and the meaning of `conn_state` and `history`: Zeek's `base/protocols/*/main.zeek`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec

from schemas.address import canonical_ip, split_authority, split_url
from schemas.clock import LATEST, MICROS, iso_micros, parse_micros
from schemas.events import (
    DEVICE_CHARS_MAX,
    ConnectionClosed,
    Dialect,
    Flow,
    HttpExchange,
    Ignored,
    Micros,
    Parsed,
    Reason,
    Reject,
    TlsName,
    flow_of,
)
from schemas.zeek.tsv import ZeekRows

# fmt: off
LOGS = frozenset((
    "analyzer", "broker", "capture_loss", "cluster", "config", "conn", "conn_long", "conn_red", "dce_rpc", "dhcp", "dnp3",
    "dns", "dns_red", "dpd", "files", "files_red", "ftp", "http", "http_red", "intel", "irc", "kerberos", "known_certs",
    "known_devices", "known_hosts", "known_services", "ldap", "ldap_search", "loaded_scripts", "modbus", "mqtt_connect",
    "mqtt_publish", "mqtt_subscribe", "mysql", "notice", "notice_alarm", "ntlm", "ntp", "ocsp", "packet_filter", "pe",
    "postgresql", "print", "quic", "radius", "rdp", "redis", "reporter", "rfb", "signatures", "sip", "smb_cmd", "smb_files",
    "smb_mapping", "smtp", "snmp", "socks", "software", "ssh", "ssl", "ssl_red", "stats", "syslog", "telemetry",
    "traceroute", "tunnel", "weird", "weird_stats", "websocket", "x509",
))
# fmt: on
"""Logs by the name that Zeek gives them; a log of another name is told by its keys, as one that was divided is."""
TOLD_BY = {
    "AA": "dns",
    "fuid": "files",
    "failure_reason": "dpd",
    "certificate.version": "x509",
    "tunnel_type": "tunnel",
    "request_p": "socks",
    "note": "notice",
    "percent_lost": "capture_loss",
}
"""A key that only one log has, for those without a name that hold nothing for us."""
ENDED = frozenset({"SF", "S2", "S3", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "S0"})
"""States of a connection that is over; S1 was open when Zeek let go of it, of OTH the history tells."""
HANDSHAKEN = frozenset("hdfAD")
"""Letters of a history that stand for what is only said after a handshake, by either side (lower case: the server)."""
MILLIS_MIN = 1e11
"""A number from here on is a time in milliseconds (`JSON::TS_MILLIS`): as seconds it would be the year 5138."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Status = Annotated[int, msgspec.Meta(ge=0, le=999)]
Uid = Annotated[str, msgspec.Meta(max_length=64)]


class _Head(msgspec.Struct, gc=False):
    """What every log has, and what tells which log it is."""

    ts: float | str | None = None
    duration: float | None = None
    orig_h: str | None = msgspec.field(default=None, name="id.orig_h")
    orig_h_: str | None = msgspec.field(default=None, name="id_orig_h")
    id: Any = None
    path: str | None = msgspec.field(default=None, name="_path")
    stream: str | None = msgspec.field(default=None, name="@stream")
    stream_: str | None = msgspec.field(default=None, name="_stream")
    system: str | None = msgspec.field(default=None, name="_system_name")
    system_: str | None = msgspec.field(default=None, name="@system")
    conn_state: Any = None
    trans_depth: Any = None
    request_body_len: Any = None
    request_path: Any = None
    established: Any = None

    @property
    def log(self) -> str:
        """Which log the line is of; `other` for one that is not known."""
        named = self.path or self.stream or self.stream_ or ""
        if named in LOGS:
            return named
        if self.conn_state is not None:
            return "conn"
        # SIP's log has nearly the keys of HTTP's.
        if self.trans_depth is not None and self.request_body_len is not None and self.request_path is None:
            return "http"
        return "ssl" if self.established is not None else "other"

    @property
    def client(self) -> str:
        """The client's address as written."""
        address = self.orig_h or self.orig_h_ or (self.id.get("orig_h") if isinstance(self.id, dict) else None)
        return address if isinstance(address, str) else ""


class _Line(_Head, gc=False):
    """What conn, http and ssl tell besides."""

    uid: Uid | None = None
    orig_p: Port | None = msgspec.field(default=None, name="id.orig_p")
    orig_p_: Port | None = msgspec.field(default=None, name="id_orig_p")
    resp_h: str | None = msgspec.field(default=None, name="id.resp_h")
    resp_h_: str | None = msgspec.field(default=None, name="id_resp_h")
    resp_p: Port | None = msgspec.field(default=None, name="id.resp_p")
    resp_p_: Port | None = msgspec.field(default=None, name="id_resp_p")
    proto: str | None = None
    service: str | list[str] | None = None
    orig_bytes: Count | None = None
    resp_bytes: Count | None = None
    history: str | None = None
    method: str | None = None
    host: str | None = None
    uri: str | None = None
    status_code: Status | None = None
    version: Any = None
    server_name: str | None = None


class _Id(msgspec.Struct, gc=False):
    orig_h: str | None = None
    orig_p: Port | None = None
    resp_h: str | None = None
    resp_p: Port | None = None


class _Missing(ValueError):
    """A line lacks what everything rests on."""


_Read = TypeVar("_Read", bound=_Head)
_LINE = msgspec.json.Decoder(_Line)
_HEAD = msgspec.json.Decoder(_Head)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = _read(raw, _LINE)
        log = line.log
        if log == "conn":
            return _conn(line)
        if log == "http":
            return _http(line)
        if log == "ssl":
            return _ssl(line)
        return _ignored(line, _kind(raw) if log == "other" else log)
    except msgspec.ValidationError as error:
        return _strange(raw, error)
    except _UNREADABLE as error:
        return Reject(Reason.MALFORMED, str(error) or type(error).__name__, raw)
    except _Missing as error:
        return Reject(Reason.INCOMPLETE, str(error), raw)
    except (ValueError, OverflowError) as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)


def _read(raw: bytes, decoder: msgspec.json.Decoder[_Read]) -> _Read:
    """A line of JSON, behind a syslog header or not, or under its log's name as the Kafka writer tags it."""
    if not raw.startswith(b"{"):
        begin = raw.find(b"{")
        if begin < 0:
            raise msgspec.DecodeError("no JSON; tab-separated rows are read from files only, with their header")
        raw = raw[begin:]
    line = decoder.decode(raw)
    if line.ts is None:
        tagged = _KEYS.decode(raw)
        name, inner = next(iter(tagged.items()), ("", msgspec.Raw(b"")))
        if len(tagged) == 1 and bytes(inner).startswith(b"{"):
            line = decoder.decode(inner)
            line.path = name
    return line


def _conn(line: _Line) -> Parsed:
    if line.proto is None:
        raise _Missing("conn record without proto")
    if line.proto != "tcp":
        return _ignored(line, "conn_not_tcp")
    flow = _flow(line)
    if flow is None:
        return _ignored(line, "conn_no_ports")
    started, at = _micros(line.ts), _at(line)
    state, history = line.conn_state, line.history or ""
    if not isinstance(state, str):
        raise _Missing("conn record without conn_state")
    # Letters say more than the state: SF is also the end of a connection of which only that was seen.
    begun = "S" in history or "h" in history if history else state != "OTH"
    over = state in ENDED or (state == "OTH" and not {"F", "f", "R", "r"}.isdisjoint(history))
    services = line.service.split(",") if isinstance(line.service, str) else line.service or []
    return ConnectionClosed(
        flow.local_ip,
        at,
        flow,
        started,
        at if over else 0,
        line.orig_bytes or 0,
        line.resp_bytes or 0,
        not HANDSHAKEN.isdisjoint(history) if history else state not in ("S0", "REJ", "RSTOS0", "SH"),
        not begun,
        services == ["ssl"],
        f"conn/{flow.id}/{iso_micros(started)}",
    )


def _http(line: _Line) -> Parsed:
    flow = _flow(line)
    if flow is None:
        return _ignored(line, "http_no_ports")
    at, depth = _at(line), line.trans_depth
    if depth.__class__ is not int or not 0 <= depth < 2**62:
        if depth is not None:
            raise ValueError(f"trans_depth is {str(depth)[:40]!r}, no count")
        depth = 0
    host = split_authority(line.host, 80)[0] if line.host else ""
    return HttpExchange(
        flow.local_ip,
        at,
        flow,
        max(depth - 1, 0),
        line.method or "",
        _target(line.uri or "", host),
        host,
        line.status_code,
        f"http/{flow.id}/{depth}/{iso_micros(at)}",
    )


def _target(uri: str, host: str) -> str:
    """The request target, "" where it cannot be told.

    Zeek logs it with its escapes undone: of `http://a%2F@b/` it has `http://a/@b/`, which names another host than was asked.
    """
    if "@" in uri and not uri.startswith("/") and "://" in uri and split_url(uri)[0] != host:
        return ""
    return uri


def _ssl(line: _Line) -> Parsed:
    """Nothing in the record tells whether the hello came through a tunnel: a CONNECT on the same connection does."""
    if isinstance(line.version, str) and line.version.startswith("DTLS"):
        return _ignored(line, "ssl_not_tcp")
    flow = _flow(line)
    if flow is None:
        return _ignored(line, "ssl_no_ports")
    at = _at(line)
    sni = split_authority(line.server_name, 443)[0] if line.server_name else ""
    return TlsName(flow.local_ip, at, flow, sni, False, f"ssl/{flow.id}/{iso_micros(at)}")


def _flow(line: _Line) -> Flow | None:
    """The ends of the connection; None of one without ports."""
    ends: _Line | _Id = line
    client, server, local, remote = line.orig_h, line.resp_h, line.orig_p, line.resp_p
    if client is None:
        if isinstance(line.id, dict):
            ends = msgspec.convert(line.id, _Id)
            client, server, local, remote = ends.orig_h, ends.resp_h, ends.orig_p, ends.resp_p
        else:
            client, server, local, remote = line.orig_h_, line.resp_h_, line.orig_p_, line.resp_p_
    if not client or not server or local is None or remote is None:
        raise _Missing("no addresses and ports under id")
    if not (local and remote):
        return None
    return flow_of(client, local, server, remote, line.uid or "")


def _ignored(line: _Head, kind: str) -> Ignored:
    return Ignored(_device(line), _at(line), kind)


def _device(line: _Head) -> str:
    """The client, else whoever wrote the line."""
    try:
        return canonical_ip(line.client)
    except ValueError:
        return (line.system or line.system_ or "")[:DEVICE_CHARS_MAX]


def _at(line: _Head) -> Micros:
    """When the request was made, when the connection was last heard of."""
    at = _micros(line.ts)
    if line.duration and line.log == "conn":
        at = _in_range(at + round(line.duration * MICROS))
        if line.duration < 0:
            raise ValueError(f"a duration of {line.duration} s")
    return at


def _micros(ts: float | str | None) -> Micros:
    """A time in any of the forms of `LogAscii::json_timestamps`."""
    if ts is None:
        raise _Missing("no ts")
    if isinstance(ts, str):
        if ts[4:5] == "-":
            return parse_micros(ts)
        ts = float(ts)
    return _in_range(round(ts * 1000) if ts >= MILLIS_MIN else round(ts * MICROS))


def _in_range(micros: Micros) -> Micros:
    if not 0 <= micros <= LATEST:
        raise ValueError("time is outside 1970 to 2200")
    return micros


def _kind(raw: bytes) -> str:
    """What tells a log of which the name is not known."""
    keys = _KEYS.decode(raw[raw.index(b"{") :])
    return next((log for key, log in TOLD_BY.items() if key in keys), "other")


def _strange(raw: bytes, error: msgspec.ValidationError) -> Parsed:
    """A field of an unexpected type: of no matter where the record is not for us anyway."""
    try:
        head = _read(raw, _HEAD)
        if (log := head.log) not in ("conn", "http", "ssl"):
            return _ignored(head, _kind(raw) if log == "other" else log)
    except (*_UNREADABLE, ValueError, OverflowError):
        pass
    return Reject(Reason.BAD_VALUE, str(error), raw)


def written_at(raw: bytes) -> Micros:
    """When what the line tells was over."""
    try:
        return _at(_read(raw, _HEAD))
    except (*_UNREADABLE, ValueError, OverflowError):
        return 0


def device_of(raw: bytes) -> str:
    """The client's address."""
    try:
        return _device(_read(raw, _HEAD))
    except _UNREADABLE:
        return ""


_HEADER_OR_ROW = re.compile(
    rb"#(?:separator \\x|(?:set_separator|empty_field|unset_field|path|open|close)\t|fields\tts\t|types\ttime\t)"
    rb"|[0-9]{9,10}\.[0-9]{6}\t"
)
_NAMED = re.compile(rb'"(?:_path|_stream|@stream)"\s*:\s*"')
_OF_ZEEK = re.compile(rb'"(?:id[._]orig_h|fuid|certificate\.version|ts_delta|peer)"\s*:|"id"\s*:\s*\{[^}]*"orig_h"\s*:')
_TS = re.compile(rb'"ts"\s*:\s*(?:[0-9]{9,10}\.[0-9]|[0-9]{12,13}\b|"[0-9]{4}-|"[0-9]{9,10}\.)')


def claims(raw: bytes) -> bool:
    """Zeek's own names: `ts` beside `_path`, `id.orig_h` or the like, or a header or row of a tab-separated log."""
    if raw.startswith((b"#", b"1", b"9")):
        return _HEADER_OR_ROW.match(raw) is not None
    if _TS.search(raw) is None:
        return False
    return (_NAMED.search(raw) or _OF_ZEEK.search(raw)) is not None


DIALECT = Dialect(
    "zeek",
    parse,
    written_at,
    device_of,
    title="Zeek logs (JSON by Zeek, Corelight, ROCK or the Kafka writer, also behind syslog; tab-separated files)",
    gives="conn: ends of connections with bytes; http: requests with CONNECT and absolute URIs; ssl: TLS names; no process.",
    claims=claims,
    framing=ZeekRows,
)
