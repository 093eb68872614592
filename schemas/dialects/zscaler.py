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

from schemas.carried import Carried, carried, uncarried
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
    logged,
    maybe_address,
    millis,
    refused,
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
PAIRS_MAX = 256

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d)")
_DAY = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})")


class _Told(msgspec.Struct, gc=False):
    """What is read. In JSON, numbers may be written as such, and what is neither they nor text says nothing."""

    ClientIP: Any = ""
    action: Any = ""
    clienttranstime: Any = ""
    datetime: Any = ""
    epochtime: Any = ""
    protocol: Any = ""
    requestmethod: Any = ""
    requestsize: Any = ""
    responsesize: Any = ""
    serverip: Any = ""
    status: Any = ""
    time: Any = ""
    url: Any = ""
    user: Any = ""


class _Json(_Told, gc=False):
    event: _Told | str | int | float | bool | list[Any] | msgspec.UnsetType | None = msgspec.UNSET
    """Where Cloud NSS puts it all; elsewhere there is no such member."""
    message: Any = ""
    """Of a shipper that carries the line."""


KEYS = frozenset(_Told.__struct_fields__)
_PAIR = re.compile(rf"\t({'|'.join(sorted(KEYS))})=([^\t]*)")
_DECODE = msgspec.json.Decoder(_Json).decode


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        found = uncarried(raw, _DECODE)
        if found is not None and not found.message:
            return _json(found, raw, "")
        return _read(carried(raw))
    except (ValueError, OverflowError) as error:
        return refused(error, raw)


def _read(line: Carried) -> Parsed:
    raw = line.text.encode()
    if line.text[:1] != "{":
        when, told = _pairs(line.text)
        return _logged(when, told, raw, line.host)
    try:
        found = _DECODE(raw)
    except UNREADABLE as error:
        raise unread(error) from error
    return _json(found, raw, line.host)


def _json(found: _Json, line: bytes, proxy: str) -> Parsed:
    told = found if found.event is msgspec.UNSET else found.event
    if not isinstance(told, _Told):
        raise Unread(Reason.MALFORMED, "no event")
    return _logged(_text(told.datetime) or _text(told.time), told, line, proxy)


def _logged(when: str, told: _Told, line: bytes, proxy: str) -> Parsed:
    who, target, action = _text(told.ClientIP), _text(told.url), _text(told.action)
    if not (who and target and action):
        missing = [key for key in ("ClientIP", "url", "action") if not _text(getattr(told, key))]
        raise Unread(Reason.INCOMPLETE, f"no {' and no '.join(missing)}")
    at = _at(when, _text(told.epochtime))
    client = address(who, "ClientIP")
    method, server = _text(told.requestmethod), _text(told.serverip)
    answer = status(_text(told.status))
    decision = ProxyDecision.DENIED if action.lower().startswith("block") else ProxyDecision.SERVED
    return logged(
        "zscaler",
        proxy,
        line,
        client,
        at,
        earlier(at, millis(_text(told.clienttranstime), "clienttranstime")),
        method,
        target,
        answer,
        decision,
        asked=destination(target, 0 if method == "CONNECT" else PORTS.get(_text(told.protocol).upper(), 0)),
        upstream_ip="" if server in NO_SERVER or decision is ProxyDecision.DENIED else maybe_address(server),
        sent=count(_text(told.requestsize), "requestsize"),
        received=count(_text(told.responsesize), "responsesize"),
        user=_text(told.user),
    )


def _text(value: Any) -> str:
    if value.__class__ is str:
        return value if value not in NULLS else ""
    return str(value) if isinstance(value, int) else ""


def _pairs(text: str) -> tuple[str, _Told]:
    told: dict[str, str] = {}
    for key, value in _PAIR.findall(text):
        if key not in told:
            written = _unquoted(value)
            if written not in NULLS:
                told[key] = written
    if not told and all(_unquoted(pair.partition("=")[2]) in NULLS for pair in text.split("\t", PAIRS_MAX)[1:]):
        raise Unread(Reason.MALFORMED, "no pairs with tabs between them")
    return text.partition("\t")[0], _Told(**told)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _at(when: str, exactly: str) -> Micros:
    at = _date(when)
    if not exactly:
        return at
    exact = epoch(exactly)
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
