"""Zscaler's web log by NSS: a date, then `key=value` with tabs between them, or Cloud NSS's JSON with the same keys.

Fields: help.zscaler.com, "NSS Feed Output Format: Web Logs", in the layout of its feed for Splunk. The date is in the
zone that the feed was given, which only `tz` tells: it is taken for UTC, unless `epochtime` says better. URLs are
without scheme. `ClientIP` is the client's own address, `clientpublicIP` that of its site; `serverip` the
destination's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from schemas.carried import Carried, carried
from schemas.clock import MICROS, parse_micros
from schemas.events import Dialect, Micros, Parsed, ProxyDecision, Reason
from schemas.proxy_log import (
    MONTHS,
    UNREADABLE,
    Unread,
    address,
    count,
    destination,
    device_in,
    earlier,
    epoch,
    guarded,
    logged,
    maybe_address,
    millis,
    status,
    time_in,
    unread,
)

NULLS = frozenset({"", "-", "None", "NA", "N/A", "none", "Unknown"})
NO_SERVER = frozenset({"0.0.0.0", "::"})  # what the feed has for a blocked request; nothing is bound to it
ZONE_MAX = 14 * 3_600 * MICROS
"""`epochtime` further away than any zone is of another time than the date: the date counts."""
PORTS = {
    "HTTP": 80,
    "HTTPS": 443,
    "HTTP_PROXY": 80,
    "SSL": 443,
    "FTP": 21,
    "FTPOVERHTTP": 21,
    "TUNNEL_SSL": 443,
    "TUNNEL": 443,
}
KEYS = frozenset((
    "ClientIP", "action", "clienttranstime", "datetime", "epochtime", "protocol", "requestmethod", "requestsize",
    "responsesize", "serverip", "status", "time", "url", "user",
))  # fmt: skip
"""What is read."""
PAIRS_MAX = 256

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d)")
_DAY = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})")
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode

Told = dict[str, str]


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    return guarded(raw, _read)


def _read(line: Carried) -> Parsed:
    when, told = _json(line.text) if line.text[:1] == "{" else _pairs(line.text)
    if not ("ClientIP" in told and "url" in told and "action" in told):
        missing = [key for key in ("ClientIP", "url", "action") if key not in told]
        raise Unread(Reason.INCOMPLETE, f"no {' and no '.join(missing)}")
    at = _at(when, told)
    client = address(told["ClientIP"], "ClientIP")
    method, target = told.get("requestmethod", ""), told["url"]
    scheme_port = PORTS.get(told.get("protocol", "").upper(), 0)
    answer = status(told.get("status", ""))
    decision = ProxyDecision.DENIED if told["action"].lower().startswith("block") else ProxyDecision.SERVED
    server = told.get("serverip", "")
    return logged(
        "zscaler",
        line.host,
        line.text.encode(),
        client,
        at,
        earlier(at, millis(told.get("clienttranstime", ""), "clienttranstime")),
        method,
        target,
        answer,
        decision,
        asked=destination(target, 0 if method == "CONNECT" else scheme_port),
        upstream_ip="" if server in NO_SERVER or decision is ProxyDecision.DENIED else maybe_address(server),
        sent=count(told.get("requestsize", ""), "requestsize"),
        received=count(told.get("responsesize", ""), "responsesize"),
        user=told.get("user", ""),
    )


def _pairs(text: str) -> tuple[str, Told]:
    when, *pairs = text.split("\t", PAIRS_MAX)
    told: Told = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in KEYS and key not in told:
            written = _unquoted(value)
            if written not in NULLS:
                told[key] = written
    if not told and all(_unquoted(pair.partition("=")[2]) in NULLS for pair in pairs):
        raise Unread(Reason.MALFORMED, "no pairs with tabs between them")
    return when, told


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _json(text: str) -> tuple[str, Told]:
    try:
        found = _DECODE(text)
    except UNREADABLE as error:
        raise unread(error) from error
    event = found.get("event", found)
    if not isinstance(event, dict):
        raise Unread(Reason.MALFORMED, "no event")
    told: Told = {}
    for key in KEYS:
        if key in event:
            value = event[key]
            written = value if value.__class__ is str else str(value) if isinstance(value, int) else ""
            if written not in NULLS:
                told[key] = written
    return told.get("datetime", told.get("time", "")), told


def _at(when: str, told: Told) -> Micros:
    at = _date(when)
    if "epochtime" not in told:
        return at
    exact = epoch(told["epochtime"])
    return exact if abs(exact - at) <= ZONE_MAX else at


@lru_cache(maxsize=8_192)
def _date(text: str) -> Micros:
    found = _DATE.fullmatch(text)
    if found is not None:
        return parse_micros(f"{found[1]}-{found[2]}-{found[3]}T{found[4]}Z")
    day = _DAY.fullmatch(text)
    if day is None or day[1] not in MONTHS:
        raise ValueError(f"date is {text[:40]!r}")
    return parse_micros(f"{day[4]}-{MONTHS[day[1]]}-{int(day[2]):02d}T{day[3]}Z")


def written_at(raw: bytes) -> Micros:
    """The line's date."""
    return time_in(parse(raw))


def device_of(raw: bytes) -> str:
    """The client's own address."""
    return device_in(parse(raw))


def claims(raw: bytes) -> bool:
    """Pairs with tabs that name NSS's own keys, or JSON of its source type."""
    if b"ClientIP" not in raw or b"action" not in raw:
        return False
    text = carried(raw).text
    if text[:1] == "{":
        return '"zscalernss-web"' in text[:400] or ('"urlsupercategory"' in text and '"ClientIP"' in text)
    return "\tClientIP=" in text and "\taction=" in text and "\turl=" in text


DIALECT = Dialect(
    "zscaler",
    parse,
    written_at,
    device_of,
    title="Zscaler's web log (NSS, Cloud NSS)",
    gives="Requests with the destination's address, verdict, bytes and user; no ports of the connection to the proxy.",
    claims=claims,
)
