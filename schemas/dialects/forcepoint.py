"""Forcepoint (Websense) Web Security by syslog: `vendor=Forcepoint … action=permitted … src_host=… dst_host=… url=…`.

Keys: help.forcepoint.com, "SIEM integration", in the order of the format of key-value pairs. Values are not quoted and may
hold spaces and `=`, so one ends where the next key that is known begins. What the client said itself (its user agent) comes
after the addresses and before the URL. The time is that of the syslog header, which must have a year.
"""

from __future__ import annotations

import re

from schemas.carried import Carried, carried
from schemas.events import Dialect, Micros, Parsed, ProxyDecision, Reason
from schemas.proxy_log import (
    Unread,
    address,
    count,
    destination,
    device_in,
    guarded,
    logged,
    maybe_address,
    port,
    status,
    time_in,
)

_BEGIN = re.compile(r"vendor=(?:Forcepoint|Websense) ")
_KEY = re.compile(
    r"(?:^| )(vendor|product|product_version|action|severity|category|user|loginID|src_host|src_port|dst_host|dst_ip|dst_port"
    r"|bytes_out|bytes_in|http_response|http_method|http_content_type|http_user_agent|http_proxy_status_code|reason|disposition"
    r"|policy|role|duration|url|logRecordSource)="
)
NEEDED = ("action", "src_host", "dst_host", "url")


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    return guarded(raw, _read)


def _read(line: Carried) -> Parsed:
    if _BEGIN.match(line.text) is None:
        raise Unread(Reason.MALFORMED, "does not begin with vendor=Forcepoint or vendor=Websense")
    told = _pairs(line.text)
    missing = [key for key in NEEDED if told.get(key, "-") in ("-", "")]
    if missing or not line.at:
        raise Unread(Reason.INCOMPLETE, f"no {' and no '.join(missing) or 'header with a time and its year'}")
    client = address(told["src_host"], "src_host")
    decision = ProxyDecision.DENIED if told["action"].lower() == "blocked" else ProxyDecision.SERVED
    host = destination(f"[{told['dst_host']}]" if told["dst_host"].count(":") > 1 else told["dst_host"])[0]
    return logged(
        "forcepoint",
        line.host,
        line.text.encode(),
        client,
        line.at,
        0,
        told.get("http_method", ""),
        told["url"],
        status(told.get("http_response", "")),
        decision,
        client_port=port(told.get("src_port", ""), "src_port"),
        asked=(host, port(told.get("dst_port", ""), "dst_port")),
        upstream_ip=maybe_address(told.get("dst_ip", "")) if decision is ProxyDecision.SERVED else "",
        sent=count(told.get("bytes_out", ""), "bytes_out"),
        received=count(told.get("bytes_in", ""), "bytes_in"),
        user=told.get("user", ""),
    )


def _pairs(text: str) -> dict[str, str]:
    """The first of each key counts, as the client's own words come later; of the URL, which has no spaces, the last."""
    found = list(_KEY.finditer(text))
    told: dict[str, str] = {}
    for place, key in enumerate(found):
        end = found[place + 1].start() if place + 1 < len(found) else len(text)
        if key[1] not in told or key[1] == "url":
            told[key[1]] = text[key.end() : end]
    return told


def written_at(raw: bytes) -> Micros:
    """The header's time."""
    return time_in(parse(raw))


def device_of(raw: bytes) -> str:
    """The client's address."""
    return device_in(parse(raw))


def claims(raw: bytes) -> bool:
    """Begins with the vendor, and names a client."""
    text = carried(raw).text
    return _BEGIN.match(text) is not None and " src_host=" in text


DIALECT = Dialect(
    "forcepoint",
    parse,
    written_at,
    device_of,
    title="Forcepoint (Websense) Web Security, key-value pairs by syslog",
    gives="Requests with the destination's address, the client's port, verdict, bytes and user; not when they began.",
    claims=claims,
)
