"""Lines of `unproxy sensor`: its observations on connections to the proxies, and its verdicts. One JSON object per line.

`kind` is the type of a line: `http` a request with its response, `tls` the server name of a client hello, `socks` a SOCKS request
with its answer, `verdict` a request for a host on the deny list that was blocked or only reported, `mode` the protection mode
from then on. `flow` identifies the connection in all its lines. The process is in the lines of the dialect `sockets`, which the
same sensor writes.
"""

from __future__ import annotations

import msgspec

from schemas.address import HOST_LENGTH_MAX, authority, canonical_host
from schemas.clock import parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import (
    TEXT_CHARS_MAX,
    UNNAMED_TARGET,
    Action,
    Flow,
    HttpExchange,
    Micros,
    ModeChanged,
    Parsed,
    Reason,
    Reject,
    SocksRequest,
    TlsName,
    Verdict,
    flow_of,
)
from schemas.parsers.common.rejects import FAULTS, otherwise, reject_of
from schemas.sensor_line import Http, Line, Mode, Tls
from schemas.sensor_line import Verdict as VerdictLine

SENSOR = Sensor(
    "sensor",
    SensorKind.NETWORK,
    (HttpExchange, TlsName, SocksRequest, Verdict, ModeChanged),
    flow_id_kind="other",
    on_endpoint_clock=True,
)

HTTP_PORT = 80
ACTIONS = {"blocked": Action.BLOCKED, "audited": Action.AUDITED}
HOW = frozenset({"", "inline", "socket_destroyed"})
"""How a request was blocked. `inline`: its packet was dropped. `socket_destroyed`: the socket was closed after the packet was
seen, so the request may have been sent."""
WHY = frozenset({"answer_received", "socket_gone", "not_destroyed", "unproven"})
"""Why a request was only reported in block mode: it is not proven that the client received no answer (`docs/sensor-block.md`)."""


class _Device(msgspec.Struct, gc=False):
    device: str = ""


class _Time(msgspec.Struct, gc=False):
    ts: str = ""


_decode = msgspec.json.Decoder(Line).decode
_decode_device = msgspec.json.Decoder(_Device).decode
_decode_time = msgspec.json.Decoder(_Time).decode


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = _decode(raw)
        at = parse_micros(line.ts)
        if isinstance(line, Mode):
            return ModeChanged(line.device, at, line.mode, f"mode/{line.ts}", SENSOR.name, line.before)
        flow = flow_of(line.local_ip, line.local_port, line.remote_ip, line.remote_port, line.flow)
        started = parse_micros(line.ts_attempt) if line.ts_attempt else 0
    except FAULTS as error:
        return reject_of(error, raw)
    if isinstance(line, Http):
        return HttpExchange(
            line.device,
            at,
            flow,
            line.tx,
            line.method,
            line.target,
            _host(line.host),
            line.status,
            f"http/{line.flow}/{line.tx}/{line.ts}",
            SENSOR.name,
            started,
        )
    if isinstance(line, Tls):
        return TlsName(
            line.device,
            at,
            flow,
            _host(line.sni),
            line.tunnelled,
            f"tls/{line.flow}/{line.ts}",
            SENSOR.name,
            started,
            not line.tunnelled,
        )
    if isinstance(line, VerdictLine):
        return _verdict(line, at, flow, started, raw)
    host, event_id = _host(line.host), f"socks/{line.flow}/{line.tx}/{line.ts}"
    port = line.port if host else 0
    return SocksRequest(line.device, at, flow, line.tx, host, port, line.granted, event_id, SENSOR.name, started)


def _verdict(line: VerdictLine, at: Micros, flow: Flow, started: Micros, raw: bytes) -> Parsed:
    action = ACTIONS.get(line.action)
    if action is None:
        return Reject(Reason.BAD_VALUE, f"action is {line.action!r}, not one of {sorted(ACTIONS)}", raw)
    if line.how not in HOW:
        return Reject(Reason.BAD_VALUE, f"how is {line.how!r}, not one of {sorted(HOW)}", raw)
    if line.why and line.why not in WHY:
        return Reject(Reason.BAD_VALUE, f"why is {line.why!r}, not one of {sorted(WHY)}", raw)
    host = _host(line.host)
    target = line.target
    port = 0
    if target == UNNAMED_TARGET:
        port = line.port
    elif target.startswith("/"):
        target = _absolute(line, host)
    if not host and (line.host or target != UNNAMED_TARGET):
        return Reject(Reason.BAD_VALUE, f"{line.host[:TEXT_CHARS_MAX]!r} is no host", raw)
    return Verdict(
        line.device,
        at,
        flow,
        started,
        action,
        line.tx,
        line.method,
        target,
        host,
        None,
        line.title[:TEXT_CHARS_MAX],
        line.how or line.why,
        f"verdict/{line.flow}/{line.tx}/{line.ts}",
        SENSOR.name,
        port,
    )


def _absolute(line: VerdictLine, host: str) -> str:
    """Return the target's path as an absolute URL, as a proxy got the request and the Host field names the host."""
    place = authority(host, line.port) if line.port not in (0, HTTP_PORT) or ":" in host else host
    return f"http://{place}{line.target}"


def _host(text: str) -> str:
    return canonical_host(text) if len(text) <= HOST_LENGTH_MAX else ""


written_at = otherwise(0)(lambda raw: parse_micros(_decode_time(raw).ts))
device_of = otherwise("")(lambda raw: _decode_device(raw).device)


@otherwise(False)
def claims(raw: bytes) -> bool:
    """Return whether a line has one of the kinds, with all fields that the kind requires."""
    is_likely = b'"kind"' in raw and b'"device"' in raw and b'"ts"' in raw
    return is_likely and _decode(raw) is not None


DIALECT = Dialect(
    "sensor",
    parse,
    written_at,
    device_of,
    title="`unproxy sensor`: requests to the proxies, names in tunnels, verdicts and the mode",
    gives="HTTP requests with CONNECT and absolute URIs and their status, SOCKS requests, TLS names, verdicts of the sensor's "
    "own list, the mode in force; the process is in the lines of `sockets`.",
    claims=claims,
    sensors=(SENSOR,),
)
