"""Sophos Web Appliance's log (`sophos_log`): `h=192.0.2.7 u="…" s=200 … act=1 … req="GET http://a.example/ HTTP/1.1" …`.

Fields and action codes: docs.sophos.com, "Interpreting Log Files" of the web appliance. `t` is the time of the request in whole
seconds, `T` its duration in microseconds. In a value a backslash or quote is escaped by a backslash.
"""

from __future__ import annotations

import re
from itertools import islice

from schemas.events import Ignored, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried_again
from schemas.parsers.common.proxy_log import (
    GATEWAY_FAILED,
    PAIRS_MAX,
    address,
    count,
    epoch,
    later,
    logged,
    maybe_address,
    proxy_dialect,
    status,
    uncarried_first,
)
from schemas.parsers.common.quoting import QUOTED, unescaped
from schemas.parsers.common.rejects import Unread

_PAIR = re.compile(rf"(?<!\S)([A-Za-z][\w-]{{0,40}})=({QUOTED}|\S*+)")
_BEGIN = re.compile(r"(?:(?:ep|sxl)=\S++ )*+h=\S++ u=")
NEEDED = ("h", "t", "act", "req")


@uncarried_first
def parse(line: Carried) -> Parsed:
    """Read one line."""
    if _BEGIN.match(line.text) is None:
        raise Unread(Reason.MALFORMED, "does not begin with h= and u=")
    fields: dict[str, str] = {}
    for found in islice(_PAIR.finditer(line.text), PAIRS_MAX):
        fields.setdefault(found[1], found[2])
    missing = [key for key in NEEDED if fields.get(key, "-") in ("-", "", '"-"', '""')]
    if missing or not _is_whole(fields["req"]):
        raise Unread(Reason.INCOMPLETE, f"without {' '.join(missing) or 'the end of req'}")
    started = epoch(fields["t"])
    at = later(started, count(fields.get("T", ""), "T") or 0)
    client = address(fields["h"], "h")
    if fields.get("ep") == "1":  # filtered on the endpoint, which sent the entry to the appliance later
        return Ignored(client, at, "endpoint")
    method, _, rest = _plain(fields["req"]).partition(" ")
    answer = status(fields.get("s", ""))
    decision = decide(fields["act"], answer)
    target_ip = _plain(fields.get("target_ip", ""))
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
        sent=count(fields.get("in", ""), "in"),
        received=count(fields.get("out", ""), "out"),
        user=_plain(fields.get("u", "")),
    )


def _is_whole(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def _plain(value: str) -> str:
    return unescaped(value[1:-1], '"') if _is_whole(value) else value


def decide(action: str, answer: int | None) -> ProxyDecision:
    """Return the decision by the action code: a negative one stopped the user by a page or a warning, a positive one did not."""
    if action.startswith("-"):
        return ProxyDecision.DENIED
    return ProxyDecision.FAILED if answer is None or answer in GATEWAY_FAILED else ProxyDecision.SERVED


def claims(raw: bytes) -> bool:
    """Return whether a line begins with client and user, and has action and request."""
    text = carried_again(raw).text
    return _BEGIN.match(text) is not None and " act=" in text and " req=" in text


DIALECT = proxy_dialect(
    "sophos",
    parse,
    claims,
    title="Sophos Web Appliance's log",
    gives="Requests with the destination's address, verdict, bytes and user; no client port.",
)
