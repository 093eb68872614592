"""Zeek's logs (docs.zeek.org, "Log Files") conn, http and ssl: JSON from Zeek or a shipper, or tab-separated files.

`conn` contains the end of a connection, `http` requests, `ssl` server names. `uid` identifies a connection of one Zeek, also
through a CONNECT tunnel. A tap sees many devices, so the device is the client's address. `ts` is the start of the request or
connection, not the time of writing. Tab-separated rows are converted to JSON before they are published (`zeek_tsv.py`). Field
names and the meaning of `conn_state` and `history`: Zeek's `base/protocols/*/main.zeek`.
"""

from __future__ import annotations

import re

import msgspec

from schemas.address import split_authority, split_url
from schemas.clock import iso_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import Flow, FlowSummary, HttpExchange, Ignored, Parsed, TlsName, flow_of
from schemas.parsers.common.rejects import FAULTS, Missing, otherwise, reject_of
from schemas.parsers.network.zeek_line import (
    HEAD,
    LINE,
    UNSPECIFIED,
    Ends,
    Head,
    ZeekLine,
    device,
    micros,
    read,
    written,
)
from schemas.parsers.network.zeek_tsv import ZeekRows

SENSOR = Sensor(
    "zeek",
    SensorKind.NETWORK,
    (FlowSummary, HttpExchange, TlsName),
    flow_id_kind="zeek",
    flow_timeout_secs=300,  # base/init-bare.zeek: tcp_inactivity_timeout
)

ENDED = frozenset({"SF", "S2", "S3", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "S0"})
"""`conn_state` of connections that ended. S1 was open when Zeek released it; for OTH `history` decides."""
HANDSHAKEN = frozenset("hdfAD")
"""Letters of `history` for packets after a handshake; lower case letters are of the server."""
FOR_US = frozenset({"conn", "http", "ssl"})


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = read(raw, LINE)
        log = line.log
        if log == "conn":
            return _conn(line)
        if log == "http":
            return _http(line)
        if log == "ssl":
            return _ssl(line)
        return _ignored(line, log)
    except msgspec.ValidationError as error:
        return _strange(raw, error)
    except FAULTS as error:
        return reject_of(error, raw)


def _conn(line: ZeekLine) -> Parsed:
    if line.proto is None:
        raise Missing("conn record without proto")
    if line.proto != "tcp":
        return _ignored(line, "conn_not_tcp")
    flow = _flow(line)
    if flow is None:
        return _ignored(line, "conn_no_ports")
    started, at = micros(line.ts), written(line)
    state, history = line.conn_state, line.history or ""
    if not isinstance(state, str):
        raise Missing("conn record without conn_state")
    # `history` has more detail: SF is also the state of a connection of which only the end was seen.
    begun = "S" in history or "h" in history if history else state != "OTH"
    over = state in ENDED or (state == "OTH" and not {"F", "f", "R", "r"}.isdisjoint(history))
    services = line.service.split(",") if isinstance(line.service, str) else line.service
    return FlowSummary(
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
        SENSOR.name,
    )


def _http(line: ZeekLine) -> Parsed:
    flow = _flow(line)
    if flow is None:
        return _ignored(line, "http_no_ports")
    at, depth = written(line), line.trans_depth
    if depth.__class__ is not int or not 0 <= depth < 2**62:
        if depth is not None:
            raise ValueError(f"trans_depth is {str(depth)[:40]!r}, no count")
        depth = 0
    host = split_authority(line.host, 80)[0] if isinstance(line.host, str) else ""
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
        SENSOR.name,
    )


def _target(uri: str, host: str) -> str:
    """Return the request target; "" if it is uncertain.

    Zeek logs the target percent-decoded: `http://a%2F@b/` becomes `http://a/@b/`, whose host is another one.
    """
    if "@" in uri and not uri.startswith("/") and "://" in uri and split_url(uri)[0] != host:
        return ""
    return uri


def _ssl(line: ZeekLine) -> Parsed:
    """Return the server name.

    No field shows whether the hello came through a tunnel: a CONNECT on the same connection does.
    """
    if isinstance(line.version, str) and line.version.startswith("DTLS"):
        return _ignored(line, "ssl_not_tcp")
    flow = _flow(line)
    if flow is None:
        return _ignored(line, "ssl_no_ports")
    at = written(line)
    sni = split_authority(line.server_name, 443)[0] if line.server_name else ""
    return TlsName(flow.local_ip, at, flow, sni, False, f"ssl/{flow.id}/{iso_micros(at)}", SENSOR.name)


def _flow(line: ZeekLine) -> Flow | None:
    """Return the flow; None if it has no ports."""
    client, server, local, remote = line.orig_h, line.resp_h, line.orig_p, line.resp_p
    if client is None:
        if isinstance(line.id, dict):
            ends = msgspec.convert(line.id, Ends)
            client, server, local, remote = ends.orig_h, ends.resp_h, ends.orig_p, ends.resp_p
        else:
            client, server, local, remote = line.orig_h_, line.resp_h_, line.orig_p_, line.resp_p_
    if not client or not server or local is None or remote is None:
        raise Missing("no addresses and ports under id")
    if not (local and remote):
        return None
    flow = flow_of(client, local, server, remote, line.uid or "")
    if flow.local_ip in UNSPECIFIED:
        raise ValueError(f"TCP from {client}")
    return flow


def _ignored(line: Head, kind: str) -> Ignored:
    return Ignored(device(line), written(line), kind)


def _strange(raw: bytes, error: msgspec.ValidationError) -> Parsed:
    """Return the result for a field of an unexpected type: Ignored if the log is not used anyway, else a reject."""
    try:
        head = read(raw, HEAD)
        if head.log not in FOR_US:
            return _ignored(head, head.log)
    except FAULTS:
        pass
    return reject_of(error, raw)


written_at = otherwise(0)(lambda raw: written(read(raw, HEAD)))
device_of = otherwise("")(lambda raw: device(read(raw, HEAD)))
_HEADER_OR_ROW = re.compile(
    rb"#(?:separator \\x|(?:set_separator|empty_field|unset_field|path|open|close|fields|types)\t)"
    rb"|[0-9]{9,10}\.[0-9]{6}\t"
)
# A carrier escapes quotes, and a carrier around it escapes these backslashes again.
_TS = re.compile(rb'"ts\\{0,7}"\s*:\s*\\{0,7}(?:"?[0-9]{9,10}\.[0-9]|[0-9]{9,13}[,}]|"[0-9]{4}-)')
# The comparison of the first character makes runs of quotes cheap.
_NAMES = re.compile(
    rb'"(?=[_@ifctp])(?:(?:_path|_stream|@stream)\\{0,7}"\s*:\s*\\{0,7}"'
    rb'|(?:id[._]orig_h|fuid|certificate\.version|ts_delta|peer)\\{0,7}"\s*:'
    rb'|id\\{0,7}"\s*:\s*\{[^{}]{0,300}"orig_h\\{0,7}"\s*:)'
)


def claims(raw: bytes) -> bool:
    """Return whether a line has Zeek's names (`ts` with `_path`, `id.orig_h` or similar), or is a line of a tab-separated log."""
    if raw.startswith((b"#", b"1", b"9")):
        return _HEADER_OR_ROW.match(raw) is not None
    return _TS.search(raw) is not None and _NAMES.search(raw) is not None


DIALECT = Dialect(
    "zeek",
    parse,
    written_at,
    device_of,
    title="Zeek logs (JSON by Zeek, Corelight, ROCK or the Kafka writer, also behind syslog; tab-separated files)",
    gives="conn: ends of connections with bytes; http: requests with CONNECT and absolute URIs; ssl: TLS names; no process.",
    claims=claims,
    sensors=(SENSOR,),
    framing=lambda _: ZeekRows(),
)
