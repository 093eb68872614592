"""Squid's access log: the formats `squid` (native), `combined` and `common` that are built in, Splunk's pairs, and ours in JSON.

Codes and hierarchy: wiki.squid-cache.org/SquidFaq/SquidLogs; `splunk_recommended_squid`: docs.splunk.com, "Splunk Add-on for
Squid Proxy". A line is written at the end of a request, of a tunnel when it closes; JSON has ports and the proxy's address,
pairs have ports. Native lines may have the client's port behind its address, and more numbers behind the size. Lines of
cache.log may be among them.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Annotated

import msgspec

from schemas.clock import LATEST, MICROS, parse_micros
from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried, carried_again
from schemas.parsers.common.proxy_log import (
    GATEWAY_FAILED,
    PAIRS_MAX,
    address,
    clf_time,
    count,
    device_in,
    earlier,
    epoch,
    logged,
    maybe_address,
    millis,
    port,
    proxy_dialect,
    status,
    time_in,
)
from schemas.parsers.common.quoting import INSIDE, QUOTED
from schemas.parsers.common.rejects import FAULTS, Unread, otherwise, reject_of
from schemas.parsers.common.values import PORT_MAX, STATUS_MAX

DIRECT = frozenset({"HIER_DIRECT", "DIRECT", "ORIGINAL_DST", "HIER_ORIGINAL_DST", "CLOSEST_DIRECT", "NO_PARENT_DIRECT"})
"""Hierarchy codes with which the peer is the destination itself. With `PINNED` it may be a parent proxy."""
NOT_REACHED = frozenset({None, 503, 504})
"""Statuses that squid writes if it could not connect; None: no response. A server may have sent such a status as well."""
NO_CLIENTS = frozenset({"-", "::", "0.0.0.0"})
"""Values of the client's address in squid's own requests."""
NATIVE_FIELDS = 10
"""Number of fields of the native format; with fewer the line was cut off, possibly inside an address."""
OURS = b'{"ts_'
"""Beginning of the documented JSON format; such a line needs no search for a carrier."""

_CACHE_LOG = re.compile(r"(\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d)(?:\.\d{1,6})?(?: kid\d+)?\| ?")
_NATIVE_WIDE = re.compile(
    r"(\d{1,10}(?:\.\d{1,9})?)\s++(-?\d{1,18})\s++(\S{1,64})\s++(\d{1,5})\s++([A-Z][A-Z0-9_]*+/(?:-|\d{1,3}))\s++"
    r"(-|\d{1,18})\s++((?:(?:-|\d{1,18})\s++)*+)([A-Z_-]{1,32})\s++(\S++)\s++(?:\d\.\d\s++)?(\S++)\s++"
    r"([A-Z][A-Z_]*+/\S++)(?:\s++(\d{1,5}|-))?\s++\S"
)
"""The native format with the client's port; the first number after the size is the number of bytes from the client."""
_PAIRS = re.compile(r"(?:\S{1,255} )?(\d{9,10}\.\d{3}) logformat=splunk_recommended_squid ")
_PAIR = re.compile(rf'(?<!\S)([a-z_]{{1,40}})=(?:"({INSIDE})"|(\[[^\]]{{0,80}}\]|\S*+))')
PAIRS_NEEDED = ("src_ip", "http_method", "url", "status", "vendor_action", "dest_status")
_NATIVE_HEAD = re.compile(r"\s*+(\d{1,10}(?:\.\d{1,9})?)\s++(?!logformat=)\S++\s++(\S++)\s")
_RESULT = re.compile(r"([A-Z][A-Z0-9_]*+)/(-|\d{1,3})")
_COMBINED = re.compile(
    r'(\S++) \S++ (\S++) \[([^\]]{1,40})\] "(\S++) (\S+)(?: [^"\s]*+)?" (\d{1,3}|-) (\d{1,18}|-) (.*)', re.DOTALL
)
_QUOTED_THEN_CODE = re.compile(rf"(?:{QUOTED} {QUOTED} )?([A-Z][A-Z0-9_]*+):([A-Z][A-Z0-9_]*+)(?:\s|$)")
_LAST_CODE = re.compile(r"([A-Z][A-Z0-9_]*+):([A-Z][A-Z0-9_]*+)")
_CLAIMED_NATIVE = re.compile(
    r"\d{9,10}(?:\.\d{3,6})?\s++-?\d++\s++\S++\s++(?:TCP|UDP|NONE|NF|TAG)[A-Z_]*+/\d{3}\s++\d++\s++\S++\s++\S++\s++\S++\s++"
    r"[A-Z][A-Z_]*+/\S++\s++\S++"
    r"(?!\s++[A-Z][A-Z_]++\d*+(?:-[^-\s]*+){3})"  # a policy decision means that the line is of Cisco's WSA
)


Count = Annotated[int, msgspec.Meta(ge=0, le=2**59)]
"""A count; it is a string if the format allows a dash."""
Port = Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)]
Status = Annotated[int, msgspec.Meta(ge=0, le=STATUS_MAX)]


class _Json(msgspec.Struct, gc=False):
    ts_end: float | str
    client_ip: str
    method: str
    url: str
    tag: str
    hier: str
    status: Status | str
    ts_start: float | str = ""
    dur_ms: int | str = 0
    client_port: Port | str = 0
    proxy_ip: str = ""
    proxy_port: Port | str = 0
    server_ip: str = ""
    server_port: Port | str = 0
    bytes_out: Count | str = "-"
    bytes_in: Count | str = "-"
    user: str = ""


class _Head(msgspec.Struct, gc=False):
    ts_end: float | str = ""
    client_ip: str = ""


_JSON = msgspec.json.Decoder(_Json)
_HEAD = msgspec.json.Decoder(_Head)


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        return _json(raw, "") if raw.startswith(OURS) else _read(carried(raw))
    except FAULTS as error:
        return reject_of(error, raw)


def _read(line: Carried) -> Parsed:
    text = line.text
    if text[:1] == "{":
        return _json(text.encode(), line.host)
    cache = _CACHE_LOG.match(text)
    if cache is not None:
        return Ignored("", parse_micros(f"{cache[1]}-{cache[2]}-{cache[3]}T{cache[4]}Z"), "cache_log")
    combined = _COMBINED.fullmatch(text)
    if combined is not None:
        return _combined(line, combined)
    pairs = _PAIRS.match(text) if "logformat=" in text else None
    if pairs is not None:
        return _splunks(line, pairs)
    wide = _NATIVE_WIDE.match(text)
    return _wide(line, wide) if wide is not None else _native(line)


def _native(line: Carried) -> Parsed:
    fields = line.text.split(None, NATIVE_FIELDS - 1)
    if len(fields) < NATIVE_FIELDS:
        raise Unread(Reason.MALFORMED, f"{len(fields)} fields; the native format has ten")
    when, elapsed, who, result, size, method, target, user, peer, _ = fields
    found = _RESULT.fullmatch(result)
    if found is None:
        raise Unread(Reason.MALFORMED, f"{result[:40]!r} is no code/status")
    at, took, received = epoch(when), millis(elapsed), count(size, "bytes")
    hierarchy, _, server = peer.partition("/")
    return _logged(
        line, who, at, earlier(at, took), method, target, found[1], found[2], hierarchy, server, received, user
    )


def _wide(line: Carried, found: re.Match[str]) -> Parsed:
    when, elapsed, who, number, result, size, others, method, target, user, peer, server_port = found.groups()
    tag, _, answer = result.partition("/")
    at, sizes = epoch(when), others.split()
    hierarchy, _, server = peer.partition("/")
    return _logged(
        line,
        who,
        at,
        earlier(at, millis(elapsed)),
        method,
        target,
        tag,
        answer,
        hierarchy,
        server,
        count(size, "bytes"),
        user,
        client_port=port(number, "client"),
        upstream_port=port(server_port or "", "server"),
        sent=count(sizes[0], "bytes") if sizes else None,
    )


def _splunks(line: Carried, found: re.Match[str]) -> Parsed:
    pairs: dict[str, str] = {}
    for pair in islice(_PAIR.finditer(line.text, found.end()), PAIRS_MAX):
        pairs.setdefault(pair[1], pair[3] if pair[2] is None else pair[2])
    missing = [name for name in PAIRS_NEEDED if name not in pairs]
    if missing:
        raise Unread(Reason.INCOMPLETE, f"no {' and no '.join(missing)}")
    at = epoch(found[1])
    return _logged(
        line,
        pairs["src_ip"],
        at,
        earlier(at, millis(pairs.get("duration", ""))),
        pairs["http_method"],
        pairs["url"],
        pairs["vendor_action"],
        pairs["status"],
        pairs["dest_status"],
        pairs.get("dest_ip", ""),
        count(pairs.get("bytes_out", ""), "bytes_out"),
        pairs.get("user", ""),
        client_port=port(pairs.get("src_port", ""), "src_port"),
        upstream_port=port(pairs.get("dest_port", ""), "dest_port"),
        sent=count(pairs.get("bytes_in", ""), "bytes_in"),
    )


def _combined(line: Carried, found: re.Match[str]) -> Parsed:
    who, user, when, method, target, answer, size, rest = found.groups()
    code = _QUOTED_THEN_CODE.match(rest) or _LAST_CODE.fullmatch(rest.rpartition(" ")[2])
    if code is None:
        raise Unread(Reason.MALFORMED, "no code:hierarchy behind the request; is this a web server's log?")
    received = count(size, "bytes")
    # The line has no duration, so the start is unknown.
    return _logged(line, who, clf_time(when), 0, method, target, code[1], answer, code[2], "", received, user)


def _logged(
    line: Carried,
    who: str,
    at: Micros,
    started: Micros,
    method: str,
    target: str,
    tag: str,
    answer: str,
    hierarchy: str,
    server: str,
    received: int | None,
    user: str,
    *,
    client_port: int = 0,
    upstream_port: int = 0,
    sent: int | None = None,
) -> Parsed:
    if who in NO_CLIENTS:
        return Ignored("", at, "internal")
    client, code = address(who, "client"), status(answer)
    if tag.startswith("UDP_"):
        return Ignored(client, at, "icp")
    decision = decide(tag, code)
    upstream = _upstream(hierarchy, server, decision, code)
    return logged(
        "squid",
        line.host,
        line.text.encode(),
        client,
        at,
        started,
        method,
        target,
        code,
        decision,
        client_port=client_port,
        upstream_ip=upstream,
        upstream_port=upstream_port,
        sent=sent,
        received=received,
        user=user,
    )


def _json(raw: bytes, host: str) -> Parsed:
    found = _JSON.decode(raw)
    at = _seconds(found.ts_end)
    if found.client_ip in NO_CLIENTS:
        return Ignored("", at, "internal")
    client = address(found.client_ip, "client_ip")
    if found.tag.startswith("UDP_"):
        return Ignored(client, at, "icp")
    code = (found.status or None) if isinstance(found.status, int) else status(found.status)
    started = (
        earlier(at, millis(str(found.dur_ms))) if found.ts_start in ("", "-") else min(at, _seconds(found.ts_start))
    )
    decision = decide(found.tag, code)
    return logged(
        "squid",
        host,
        raw,
        client,
        at,
        started,
        found.method,
        found.url,
        code,
        decision,
        client_port=_port(found.client_port, "client_port"),
        proxy_ip=address(found.proxy_ip, "proxy_ip") if found.proxy_ip not in ("", "-") else "",
        proxy_port=_port(found.proxy_port, "proxy_port"),
        upstream_ip=_upstream(found.hier, found.server_ip, decision, code),
        upstream_port=_port(found.server_port, "server_port"),
        sent=_count(found.bytes_in, "bytes_in"),
        received=_count(found.bytes_out, "bytes_out"),
        user=found.user,
    )


def _port(value: int | str, what: str) -> int:
    return value if isinstance(value, int) else port(value, what)


def _count(value: int | str, what: str) -> int | None:
    return value if isinstance(value, int) else count(value, what)


def _seconds(value: float | str) -> Micros:
    if isinstance(value, str):
        return epoch(value)
    if not 0 <= value <= LATEST // MICROS:
        raise ValueError(f"time {value} is outside 1970 to 2200")
    return int(value * MICROS + 0.5)


def decide(tag: str, code: int | None) -> ProxyDecision:
    """Return the decision by squid's code and the status.

    If the client disconnects during the response, the request was served.
    """
    if "DENIED" in tag:
        return ProxyDecision.DENIED
    if code is None or code in GATEWAY_FAILED or ("NONE" in tag and code >= 400):
        return ProxyDecision.FAILED
    return ProxyDecision.SERVED


def _upstream(hierarchy: str, server: str, decision: ProxyDecision, code: int | None) -> str:
    """Return the destination's address; "" if there was no connection. Squid also writes an address that it failed to reach."""
    if hierarchy.removeprefix("TIMEOUT_") not in DIRECT or (decision is ProxyDecision.FAILED and code in NOT_REACHED):
        return ""
    return maybe_address(server)


@otherwise(0)
def written_at(raw: bytes) -> Micros:
    """Return the time of logging, which is the end of the request."""
    if raw.startswith(OURS):
        return _seconds(_HEAD.decode(raw).ts_end)
    native = _NATIVE_HEAD.match(carried(raw).text)
    return epoch(native[1]) if native is not None else time_in(parse(raw))


@otherwise("")
def device_of(raw: bytes) -> str:
    """Return the client's address."""
    if raw.startswith(OURS):
        client = _HEAD.decode(raw).client_ip
        return "" if client in NO_CLIENTS else address(client, "client_ip")
    native = _NATIVE_HEAD.match(carried(raw).text)
    if native is None:
        return device_in(parse(raw))
    return "" if native[2] in NO_CLIENTS else address(native[2], "client")


def claims(raw: bytes) -> bool:
    """Return whether a line has one of squid's formats.

    They are: native without a policy decision, combined with squid's code at the end, Splunk's pairs, the documented JSON,
    cache.log.
    """
    text = carried_again(raw).text
    if text[:1] == "{":
        return "client_ip" in text and '"client_ip":' in text and '"hier":' in text and '"tag":' in text
    if any(form.match(text) for form in (_CLAIMED_NATIVE, _CACHE_LOG, _PAIRS, _NATIVE_WIDE)):
        return True
    found = _COMBINED.fullmatch(text)
    return found is not None and bool(
        _QUOTED_THEN_CODE.match(found[8]) or _LAST_CODE.fullmatch(found[8].rpartition(" ")[2])
    )


DIALECT = proxy_dialect(
    "squid",
    parse,
    claims,
    title="Squid's access log (native, combined, Splunk's pairs, JSON)",
    gives="Requests with the address really gone to, verdict of the proxy, bytes and user; in JSON and pairs also both ports.",
    written_at=written_at,
    device_of=device_of,
)
