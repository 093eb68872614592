"""Forcepoint (Websense) Web Security by syslog: `vendor=Forcepoint … action=permitted … src_host=… dst_host=… url=…`.

Keys: help.forcepoint.com, "SIEM integration", in the order of the key-value format. Values are not quoted and may contain spaces
and `=`, so a value ends where the next known key begins. Text from the client (its user agent) comes after the addresses and
before the URL. The time is that of the syslog header; if it has no year, the reader of the file completes it (`syslog_dates.py`).
CEF (with its own time, `rt`), LEEF (without one), and CEF in Azure's columns are supported as well.
"""

from __future__ import annotations

import re
from itertools import islice

from schemas.address import authority
from schemas.events import Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.azure import common_security_log, vendor_and_product
from schemas.parsers.common.carriers import Carried, carried_again
from schemas.parsers.common.cef_leef import Formatted, formatted, moment, names
from schemas.parsers.common.proxy_log import (
    PAIRS_MAX,
    address,
    count,
    destination,
    host_of,
    logged,
    maybe_address,
    port,
    proxy_dialect,
    status,
    uncarried_first,
)
from schemas.parsers.common.rejects import Unread
from schemas.parsers.common.syslog_dates import DatedHeaders

VENDORS = ("Forcepoint", "Websense")
_BEGIN = re.compile(r"(?:\S{1,255} ){0,2}vendor=(?:Forcepoint|Websense) ")
"""Beginning of a line; in the header of older versions a zone precedes the address."""
_KEY = re.compile(r"(?<![^ ])([A-Za-z_]{3,22})=")
KEYS = frozenset((
    "vendor", "product", "product_version", "action", "severity", "category", "user", "loginID", "src_host", "src_port",
    "dst_host", "dst_ip", "dst_port", "bytes_out", "bytes_in", "http_response", "http_method", "http_content_type",
    "http_user_agent", "http_proxy_status_code", "reason", "disposition", "policy", "role", "duration", "url",
    "logRecordSource",
))  # fmt: skip
NEEDED = ("action", "src_host", "dst_host", "url")
OTHER_NAMES = {
    "action": ("act",),
    "src_host": ("src",),
    "src_port": ("spt", "srcPort"),
    "dst_host": ("dhost",),
    "dst_ip": ("dst",),
    "dst_port": ("dpt", "dstPort"),
    "bytes_out": ("out", "srcBytes"),
    "bytes_in": ("in", "dstBytes"),
    "http_method": ("requestMethod", "method"),
    "http_response": ("proxyStatus-code",),
    "user": ("suser", "usrName"),
    "url": ("request",),
}
"""The names of the keys in CEF and LEEF."""
TRANSACTION = "transaction:"


@uncarried_first
def parse(line: Carried) -> Parsed:
    """Read one line."""
    if line.text[:1] == "{":
        return _of_format(line, common_security_log(line.text))
    found = formatted(line.text)
    if found is not None:
        return _of_format(line, found)
    if _BEGIN.match(line.text) is None:
        raise Unread(Reason.MALFORMED, "does not begin with vendor=Forcepoint or vendor=Websense")
    return _logged(line, _pairs(line.text), line.at)


def _of_format(line: Carried, found: Formatted) -> Parsed:
    if found.vendor not in VENDORS or found.product != "Security":
        raise Unread(Reason.MALFORMED, "not of Forcepoint's web security")
    fields = found.fields
    for name, others in OTHER_NAMES.items():
        if name not in fields:
            fields[name] = next((fields[other] for other in others if other in fields), "")
    if found.event.startswith(TRANSACTION):
        fields["action"] = found.event.removeprefix(TRANSACTION)
    if fields["dst_host"] in ("", "-"):
        fields["dst_host"] = destination(fields["http_method"], fields["url"])[0]
    if fields["url"] in ("", "-"):
        fields["url"] = authority(fields["dst_host"], port(fields["dst_port"], "dst_port"))
    return _logged(line, fields, moment(fields["rt"]) if fields.get("rt") else line.at)


def _logged(line: Carried, fields: dict[str, str], at: Micros) -> Parsed:
    missing = [key for key in NEEDED if fields.get(key, "-") in ("-", "")]
    if missing or not at:
        raise Unread(Reason.INCOMPLETE, f"no {' and no '.join(missing) or 'header with a time and its year'}")
    client = address(fields["src_host"], "src_host")
    decision = ProxyDecision.DENIED if fields["action"].lower() == "blocked" else ProxyDecision.SERVED
    return logged(
        "forcepoint",
        line.host,
        line.text.encode(),
        client,
        at,
        0,
        fields.get("http_method", "").strip("-"),
        fields["url"],
        status(fields.get("http_response", "")),
        decision,
        client_port=port(fields.get("src_port", ""), "src_port"),
        asked=(host_of(fields["dst_host"]), port(fields.get("dst_port", ""), "dst_port")),
        upstream_ip=maybe_address(fields.get("dst_ip", "")) if decision is ProxyDecision.SERVED else "",
        sent=count(fields.get("bytes_out", ""), "bytes_out"),
        received=count(fields.get("bytes_in", ""), "bytes_in"),
        user=fields.get("user", ""),
    )


def _pairs(text: str) -> dict[str, str]:
    """Return the pairs.

    Of a key that occurs twice the first value counts, as the client's text comes later; of `url` the last.
    """
    fields: dict[str, str] = {}
    key, begin = "", 0
    for found in islice(_KEY.finditer(text), PAIRS_MAX):
        following = found[1]
        if following in KEYS:
            if key and (key == "url" or key not in fields):
                fields[key] = text[begin : found.start() - 1]
            key, begin = following, found.end()
    if key and (key == "url" or key not in fields):
        fields[key] = text[begin:]
    if "url" in fields:  # an unknown key may follow the URL
        fields["url"] = fields["url"].partition(" ")[0]
    return fields


def claims(raw: bytes) -> bool:
    """Return whether a line begins with the vendor and names a client, or is a row of Azure's table."""
    text = carried_again(raw).text
    if text[:1] == "{":
        vendor, product = vendor_and_product(text)
        return vendor in VENDORS and product == "Security"
    return (_BEGIN.match(text) is not None and " src_host=" in text) or any(
        names(text, f"{vendor}|Security|") for vendor in VENDORS
    )


DIALECT = proxy_dialect(
    "forcepoint",
    parse,
    claims,
    title="Forcepoint (Websense) Web Security by syslog: key-value pairs, CEF, LEEF",
    gives="Requests with the destination's address, the client's port, verdict, bytes and user; not when they began.",
    framing=DatedHeaders,
)
