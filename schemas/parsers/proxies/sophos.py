"""Sophos Web Appliance's log (`sophos_log`): `h=192.0.2.7 u="…" s=200 … act=1 … req="GET http://a.example/ HTTP/1.1" …`.

Fields and action codes: docs.sophos.com, "Interpreting Log Files" of the web appliance. `t` is when the request came in, in whole
seconds, `T` the microseconds that it took. In a value a backslash or quote has a backslash before it.
"""

from __future__ import annotations

import re
from itertools import islice

from schemas.dialect import Dialect
from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried_again
from schemas.parsers.common.proxy_log import (
    PAIRS_MAX,
    Unread,
    address,
    count,
    device_in,
    epoch,
    guarded,
    later,
    logged,
    maybe_address,
    proxy_log,
    status,
    time_in,
)
from schemas.parsers.common.quoting import QUOTED, unescaped

FAILED_FROM, FAILED_TO = 502, 504

_PAIR = re.compile(rf"(?<!\S)([A-Za-z][\w-]{{0,40}})=({QUOTED}|\S*+)")
_BEGIN = re.compile(r"(?:(?:ep|sxl)=\S++ )*+h=\S++ u=")
NEEDED = ("h", "t", "act", "req")


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    return guarded(raw, _read)


def _read(line: Carried) -> Parsed:
    if _BEGIN.match(line.text) is None:
        raise Unread(Reason.MALFORMED, "does not begin with h= and u=")
    told: dict[str, str] = {}
    for found in islice(_PAIR.finditer(line.text), PAIRS_MAX):
        told.setdefault(found[1], found[2])
    missing = [key for key in NEEDED if told.get(key, "-") in ("-", "", '"-"', '""')]
    if missing or not _is_whole(told["req"]):
        raise Unread(Reason.INCOMPLETE, f"without {' '.join(missing) or 'the end of req'}")
    started = epoch(told["t"])
    at = later(started, count(told.get("T", ""), "T") or 0)
    client = address(told["h"], "h")
    if told.get("ep") == "1":  # browsed on the endpoint itself, which told the appliance later
        return Ignored(client, at, "endpoint")
    method, _, rest = _plain(told["req"]).partition(" ")
    answer = status(told.get("s", ""))
    decision = decide(told["act"], answer)
    target_ip = _plain(told.get("target_ip", ""))
    return logged(
        "sophos",
        line.host,
        line.text.encode(),
        client,
        at,
        started,
        method,
        rest.partition(" ")[0],
        answer,
        decision,
        upstream_ip=maybe_address(target_ip) if decision is ProxyDecision.SERVED else "",
        sent=count(told.get("in", ""), "in"),
        received=count(told.get("out", ""), "out"),
        user=_plain(told.get("u", "")),
    )


def _is_whole(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def _plain(value: str) -> str:
    return unescaped(value[1:-1], '"') if _is_whole(value) else value


def decide(action: str, answer: int | None) -> ProxyDecision:
    """Below nothing the user was stopped, by a page or a warning; above it the request went on."""
    if action.startswith("-"):
        return ProxyDecision.DENIED
    if answer is None or FAILED_FROM <= answer <= FAILED_TO:
        return ProxyDecision.FAILED
    return ProxyDecision.SERVED


def written_at(raw: bytes) -> Micros:
    """When the request was over."""
    return time_in(parse(raw))


def device_of(raw: bytes) -> str:
    """The client's address."""
    return device_in(parse(raw))


def claims(raw: bytes) -> bool:
    """Begins with client and user, and has action and request."""
    text = carried_again(raw).text
    return _BEGIN.match(text) is not None and " act=" in text and " req=" in text


DIALECT = Dialect(
    "sophos",
    parse,
    written_at,
    device_of,
    title="Sophos Web Appliance's log",
    gives="Requests with the destination's address, verdict, bytes and user; no client port.",
    claims=claims,
    sensors=(proxy_log("sophos"),),
)
