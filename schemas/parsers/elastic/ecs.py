"""Network events in the Elastic Common Schema: Packetbeat, Elastic Agent's network packet capture, Elastic Defend, Auditbeat.

All have the same format (`line.py`), but come from two kinds of sensors. An endpoint sensor knows the process, and its device is
the machine's name. Packetbeat on a tap knows only the client's address, which is then the device. Packetbeat does not keep the
request line. Of a request to a proxy it keeps the path and the Host header, so its URL is composed of these two.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import msgspec

from schemas.address import split_url
from schemas.clock import parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import (
    TEXT_CHARS_MAX,
    ConnectionOpened,
    Flow,
    FlowSummary,
    HttpExchange,
    Ignored,
    Micros,
    Parsed,
    Process,
    TlsName,
)
from schemas.parsers.common.memoize import read_once
from schemas.parsers.common.rejects import FAULTS, otherwise, reject_of
from schemas.parsers.common.values import COUNT_MAX, PID_MAX, STATUS_MAX, file_name, maybe_number, number, short, text
from schemas.parsers.elastic.line import Line, read, several
from schemas.parsers.elastic.parts import End, FlowPart, Http, ProcessPart, Tls, Url, User

SENSOR = Sensor(
    "ecs",
    SensorKind.ENDPOINT | SensorKind.NETWORK,
    (ConnectionOpened, FlowSummary, HttpExchange, TlsName),
    clock_rank=70,
    flow_timeout_secs=40,  # packetbeat.yml: packetbeat.flows.timeout and .period
)

Part = TypeVar("Part", bound=msgspec.Struct)

# fmt: off
OTHER_KINDS = frozenset((
    "amqp", "cassandra", "dhcpv4", "dns", "icmp", "memcache", "mongodb", "mysql", "nfs", "pgsql", "redis", "sip", "thrift",
))
# fmt: on
"""Protocols that Packetbeat parses and that are not used here."""
AGENTS = frozenset({"packetbeat", "endpoint", "auditbeat"})
"""Agents whose events are in this dialect, including events without a connection."""
AUDITBEAT_DATASETS = frozenset({"socket"})
"""Datasets with network events that have no category: Auditbeat's of 2019."""
ACCEPTED = frozenset({"connection_accepted", "accepted-connection-from", "bound-socket", "listen-for-connections"})
ENDED = frozenset({"disconnect_received", "socket_closed"})
INBOUND = frozenset({"ingress", "inbound", "incoming", "listening"})
LOOKUPS = frozenset({"lookup_requested", "lookup_result", "dns_query"})
REFUSAL_PACKETS = 1
"""Number of packets with which a host refuses a connection."""
REMEMBERED_BYTES_MAX = 2_048
"""Longest text of a process in bytes that is cached; a process has many connections with the same text."""
NEVER = "1970"
"""Beginning of a time before 1970: unknown times are written as the year 1."""
NULL = b"null"
SID_PREFIX = "S-1-"

_REQUEST_LINE = re.compile(r"([A-Z]{2,20}) (\S{1,8000}) HTTP/\d")
_HOST_HEADER = re.compile(r"\r?\nhost:[ \t]*([^\s]{1,300})", re.IGNORECASE)
_ORIGINAL = re.compile(
    rb'"(?:message|original|event\.original)": ?"\{[^{}]{0,1000}?'
    rb'\\"(?:flow_id|uid|id[._]orig_h|hostIdentifier|process_[a-z]+)\\":'
)
"""The original line of Suricata, Zeek, osquery or Tetragon inside an event; it has more fields, so it is parsed instead."""
_ORIGINAL_MARKS = (b'flow_id\\"', b'uid\\"', b'orig_h\\"', b'hostIdentifier\\"', b"process_")
"""Texts of which one is in every match of `_ORIGINAL`; searching them first is faster in a line with many quotes."""
_PARTS = {kind: msgspec.json.Decoder(kind) for kind in (FlowPart, Http, ProcessPart, Tls, Url, User)}
_TEXT = msgspec.json.Decoder(str)


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = read(raw)
        if line.winlog:
            return Ignored(line.device(), line.at(), "winlog")
        kind = _kind(line)
        handler = HANDLERS.get(kind)
        return handler(line) if handler is not None else _ignored(line, kind)
    except FAULTS as error:
        return reject_of(error, raw)


def _kind(line: Line) -> str:
    dataset = line.dataset()
    if not (line.is_network() or dataset in AUDITBEAT_DATASETS):
        return "other"
    kind = dataset.rpartition(".")[2]
    if kind in OTHER_KINDS:
        return kind
    if line.event.action in LOOKUPS:
        return "dns"
    destination = line.destination
    if not (line.source.ip and destination.ip):
        return "connect_without_port" if destination.ip and line.process else "network_no_ends"
    return kind if kind in HANDLERS else "network"


def _ignored(line: Line, kind: str) -> Ignored:
    return Ignored(line.device(), line.at(), kind)


def _flow(line: Line) -> Parsed:
    """Parse a flow report of Packetbeat or Auditbeat. Its numbers are totals, so the last report (`final`) is complete."""
    if not line.is_tcp():
        return _ignored(line, "flow_not_tcp")
    process, final = _process(line), _part(line.flow, FlowPart).final
    if process is None and not final:
        return _ignored(line, "flow_interim")
    return _whole(line, process, final=final)


def _whole(line: Line, process: Process | None, *, final: bool) -> Parsed:
    """Return the event of a flow report; a line yields only one event.

    With a process and a start time it is ConnectionOpened, as the process matters more than byte counts; otherwise it is
    FlowSummary.
    """
    flow, source, destination, event = line.tcp_flow(), line.source, line.destination, line.event
    started = _time(event.start)
    ended = _time(event.end) if final else 0
    if process is not None and started:
        answered = _answered(destination)
        return ConnectionOpened(
            line.device(),
            line.at(),
            flow,
            started,
            started if answered else 0,
            ended,
            final and answered is False,
            process,
            _event_id("flow", flow, event.start),
            SENSOR.name,
        )
    return FlowSummary(
        line.device(),
        line.at(),
        flow,
        started,
        ended,
        maybe_number(source.bytes, "source.bytes", COUNT_MAX) or 0,
        maybe_number(destination.bytes, "destination.bytes", COUNT_MAX) or 0,
        _answered(destination) or False,
        line.is_turned,
        False,
        _event_id("flow", flow, line.timestamp),
        SENSOR.name,
    )


def _answered(server: End) -> bool | None:
    """Return whether the server accepted the connection; None if unknown."""
    if server.packets is not None:
        return (maybe_number(server.packets, "destination.packets", COUNT_MAX) or 0) > REFUSAL_PACKETS
    return (maybe_number(server.bytes, "destination.bytes", COUNT_MAX) or 0) > 0 if server.bytes is not None else None


def _http(line: Line) -> Parsed:
    http, url = _part(line.http, Http), _part(line.url, Url)
    written = _text_of(line.request) or (http.request.body.content if http.request.body else None) or ""
    message = _REQUEST_LINE.match(written) if written else None  # only if Packetbeat is configured to send it
    method = message[1] if message else (http.request.method or "").upper()
    if not method:
        return _ignored(line, "http_no_request")
    flow, destination = line.tcp_flow(), line.destination
    named = _HOST_HEADER.search(written) if message else None
    header = named[1] if named else text((http.request.headers or {}).get("host"))
    if message:
        target = message[2]
    elif method == "CONNECT":
        target = header or _authority(url, destination)
    else:
        target = url.original or _origin_form(url)
    host = header or url.domain or destination.domain or ""
    request_id = zlib.crc32(f"{method} {target} {host}".encode("utf-8", "replace"))
    return HttpExchange(
        line.device(),
        line.at(),
        flow,
        request_id,
        method[:TEXT_CHARS_MAX],
        target,
        split_url(host)[0] if host else "",
        number(status, "status_code", STATUS_MAX) or None
        if (status := http.response.status_code) is not None
        else None,
        f"ecs/http/{flow.local_port}/{line.timestamp}/{request_id:08x}",
        SENSOR.name,
    )


def _authority(url: Url, server: End) -> str:
    """Return the authority of a CONNECT from the Host header; "" if unknown.

    If the header has no port, Packetbeat adds that of the proxy.
    """
    port = text(url.port) or "80"
    if url.original or not url.domain or port == text(server.port):
        return url.original or ""
    return f"[{url.domain}]:{port}" if ":" in url.domain else f"{url.domain}:{port}"


def _origin_form(url: Url) -> str:
    """Return path and query of the request.

    `url.full` is not used, as Packetbeat composes it with the port of the server that it connected to.
    """
    path = url.path or "/"
    return f"{path}?{url.query}" if url.query else path


def _tls(line: Line) -> TlsName:
    """Return the server name.

    No field shows whether the hello came through a tunnel: a CONNECT on the same connection does.
    """
    flow = line.tcp_flow()
    name = _part(line.tls, Tls).client.server_name
    sni = split_url(name)[0] if name else ""
    return TlsName(line.device(), line.at(), flow, sni, False, _event_id("tls", flow, line.timestamp), SENSOR.name)


def _connection(line: Line) -> Parsed:
    """Parse an endpoint sensor's record of a connection: its start, its end, or both."""
    event, action = line.event, (line.event.action or "").lower()
    if action == "http_request":
        return _http(line)
    direction = (line.network.direction or "").lower()
    if action in ACCEPTED or direction in INBOUND:
        return _ignored(line, "network_inbound")
    source, destination = line.source, line.destination
    if not text(source.port) and text(destination.port) and not line.network.transport:
        return _ignored(line, "connect_without_port")
    if not line.is_tcp():
        return _ignored(line, "network_not_tcp")
    if line.flow:
        return _flow(line)
    types, process = several(event.type), _process(line)
    over = action in ENDED or "end" in types
    if over and event.start:
        return _whole(line, process, final=True)
    if over:
        return _ended(line, action)
    if process is None:
        return _ignored(line, "network_no_process")
    flow, at = line.tcp_flow(), line.at()
    failed = event.outcome == "failure" or "denied" in types
    established = at if event.outcome == "success" and not failed else 0
    event_id = _event_id("connection", flow, line.timestamp)
    return ConnectionOpened(line.device(), at, flow, at, established, 0, failed, process, event_id, SENSOR.name)


def _ended(line: Line, action: str) -> Parsed:
    """Return the event for the end of a connection whose start was a separate event."""
    if action not in ENDED:
        return _ignored(line, "network_other")
    if not line.network.direction and not line.own_name():
        return _ignored(line, "network_no_direction")
    flow, source, destination, at = line.tcp_flow(), line.source, line.destination, line.at()
    sent, received = (
        maybe_number(source.bytes, "source.bytes", COUNT_MAX) or 0,
        maybe_number(destination.bytes, "destination.bytes", COUNT_MAX) or 0,
    )
    event_id = _event_id("end", flow, line.timestamp)
    answered = destination.bytes is None or received > 0
    return FlowSummary(line.device(), at, flow, 0, at, sent, received, answered, False, False, event_id, SENSOR.name)


def _process(line: Line) -> Process | None:
    """Return the client's process; None if unknown.

    `process` is the server's if the server, or both ends, are on this machine.
    """
    if line.source.process:
        process = bytes(line.source.process)
    elif not line.process or line.destination.process or not (line.is_of_endpoint() or line.own_name()):
        return None
    else:
        process = bytes(line.process)
    # In Packetbeat's events the user is that of an HTTP request.
    user = b"" if (line.agent.type or "").lower() == "packetbeat" else bytes(line.user)
    is_short = len(process) + len(user) <= REMEMBERED_BYTES_MAX
    return _remembered_process(process, user) if is_short else _process_of(process, user)


def _process_of(process: bytes, owner: bytes) -> Process | None:
    part, user = _part(process, ProcessPart), _part(owner, User)
    pid, path = maybe_number(part.pid, "process.pid", PID_MAX), part.executable or ""
    name = part.name or file_name(path)
    if pid is None and not name:
        return None
    parent, hashes = part.parent, part.hash
    parent_pid = part.ppid if parent is None or parent.pid is None else parent.pid
    sid = text(user.id)
    return Process(
        pid,
        short(name),
        short(path),
        short(_command_line(part)),
        _time(part.start or part.created),
        short(user.name),
        short(user.domain),
        short(sid) if sid.startswith(SID_PREFIX) else "",
        maybe_number(parent_pid, "parent's PID", PID_MAX),
        short(parent.name) if parent else "",
        short(hashes.sha1) if hashes else "",
        short(hashes.sha256) if hashes else "",
        short(hashes.md5) if hashes else "",
    )


_remembered_process = lru_cache(maxsize=4_096)(_process_of)


def _command_line(part: ProcessPart) -> str:
    args = part.args or ""
    return part.command_line or (args if isinstance(args, str) else " ".join(args))


def _part(raw: msgspec.Raw | bytes, kind: type[Part]) -> Part:
    if isinstance(raw, kind):  # already decoded with the line: the most common case
        return raw
    if not raw or (len(raw) == len(NULL) and bytes(raw) == NULL):  # bytes() would copy the text
        return kind()
    decoded: Part = _PARTS[kind].decode(raw)  # type: ignore[index,assignment]  # each decodes its own
    return decoded


def _text_of(raw: msgspec.Raw) -> str:
    """Return the value if it is a string, else ""."""
    return _TEXT.decode(raw) if raw and bytes(raw).startswith(b'"') else ""


def _time(written: str | None) -> Micros:
    return parse_micros(written) if written and written > NEVER else 0


def _event_id(what: str, flow: Flow, time: str | None) -> str:
    return f"ecs/{what}/{flow.local_port}/{time}"


HANDLERS: dict[str, Callable[[Line], Parsed]] = {
    "flow": _flow,
    "http": _http,
    "tls": _tls,
    "network": _connection,
}
"""Handlers of the used events, by kind."""


_read_once = read_once(read)
written_at = otherwise(0)(lambda raw: _read_once(raw).at())
device_of = otherwise("")(lambda raw: _read_once(raw).device())


@otherwise(False)
def claims(raw: bytes) -> bool:
    """Return whether a line is a network event in this schema, or another event of the same agents.

    Windows events are `winlog`'s.
    """
    if not raw.startswith(b"{") or b'"event' not in raw:
        return False
    if any(mark in raw for mark in _ORIGINAL_MARKS) and _ORIGINAL.search(raw) is not None:
        return False
    line = _read_once(raw)
    agent = (line.agent.type or "").lower()
    if line.winlog or agent == "winlogbeat":
        return False
    return line.is_network() or (agent in AGENTS and line.timestamp is not None)


DIALECT = Dialect(
    "ecs",
    parse,
    written_at,
    device_of,
    title="Elastic Common Schema: Packetbeat, Elastic Agent's network packet capture, Elastic Defend, Auditbeat",
    gives="Connections with process (endpoint sensors, Packetbeat with process monitoring), flow ends with bytes, HTTP requests "
    "by their Host header, TLS names.",
    claims=claims,
    sensors=(SENSOR,),
    own_marks=(b"process",),
)
