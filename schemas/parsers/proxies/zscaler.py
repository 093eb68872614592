"""Zscaler's web log by NSS: a date, then `key=value` with tabs between them, or Cloud NSS's JSON with the same keys.

Fields: help.zscaler.com, "NSS Feed Output Format: Web Logs", in the layout of its feed for Splunk. A feed may name them as it
likes: its fields' own names, those of CEF and LEEF, and the default without names (CSV) are read as well. The date is in the
zone that the feed was given, which only `tz` names: it is taken for UTC, unless `epochtime` is there. URLs are
without scheme. `ClientIP` is the client's own address, `clientpublicIP` that of its site; `serverip` the
destination's.
"""

from __future__ import annotations

import csv
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from schemas.clock import MICROS, parse_micros
from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.azure import common_security_log, vendor_and_product
from schemas.parsers.common.carriers import Carried, carried, carried_again, uncarried
from schemas.parsers.common.cef_leef import Formatted, formatted, moment, names
from schemas.parsers.common.proxy_log import (
    MONTHS,
    PAIRS_MAX,
    address,
    count,
    destination,
    earlier,
    epoch,
    logged,
    maybe_address,
    millis,
    proxy_dialect,
    status,
)
from schemas.parsers.common.rejects import FAULTS, Unread, reject_of
from schemas.parsers.common.syslog_dates import DatedHeaders

NULLS = frozenset({"", "-", "None", "NA", "N/A", "none", "Unknown"})
NO_SERVER = frozenset({"0.0.0.0", "::"})  # the feed's value for a blocked request
ZONE_MAX: Micros = 14 * 3_600 * MICROS
"""Largest difference between date and `epochtime` that a zone can explain. If it is larger, the date is used."""
PORTS = {
    "HTTP": 80,
    "HTTPS": 443,
    "HTTP_PROXY": 80,
    "SSL": 443,
    "FTP": 21,
    "FTPOVERHTTP": 21,
    "TUNNEL_SSL": 443,
    "TUNNEL": 443,
    "DNSOVERHTTPS": 443,
    "WEBSOCKET": 80,
    "WEBSOCKET_SSL": 443,
}
OTHER_LOGS = tuple(
    f"zscalernss-{log}" for log in ("alerts", "audit", "casb", "dns", "edlp", "emaildlp", "fw", "tunnel")
)
PAIRS_CHARS_MAX = 262_144
"""Number of characters in which pairs are searched: URL, referrer and user agent have at most 64 KiB each."""
SERVICE = "ZscalerNSS"
"""Syslog tag of messages of NSS about itself."""
PRODUCTS = ("NSSWeblog", "NSS")
"""Products in CEF and LEEF; the feeds of firewall, DNS and so on have other ones."""

TABLE_ROWS = frozenset(("Zscaler", product) for product in PRODUCTS)
"""Vendor and product in Azure's table `CommonSecurityLog`."""

OTHER_NAMES = {
    "ClientIP": ("cintip", "cltintip", "cip", "cltip", "src"),
    "action": ("act",),
    "clienttranstime": ("ctime",),
    "datetime": ("TimeGenerated", "rt", "devTime"),
    "protocol": ("proto", "app", "appproto"),
    "requestmethod": ("reqmethod", "requestMethod"),
    "requestsize": ("reqsize", "out", "srcBytes"),
    "responsesize": ("respsize", "in", "dstBytes"),
    "serverip": ("sip", "dst"),
    "status": ("respcode", "outcome"),
    "url": ("eurl", "request"),
    "user": ("login", "suser", "usrName"),
}
"""Other names of a field: the feed's own, those of CEF and of LEEF. The client's address inside its site comes first."""
HOSTS = ("ehost", "host", "dhost", "hostname")
"""Fields with the destination's name, if the feed has no URL."""
IN_ORDER = (
    *("time", "user", "protocol", "url", "action", "", "", "requestsize", "responsesize", "", "clienttranstime"),
    *("",) * 10,
    *("ClientIP", "serverip", "requestmethod", "status"),
)
"""The first fields of the vendor's default feed, which is CSV without names."""

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d)")
_CSV = re.compile(r'"?[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \d{4}"?,')
_DAY = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})")


class _Fields(msgspec.Struct, gc=False):
    """The used fields. In JSON a number may be a number or a string; a value of any other type counts as missing."""

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


class _Json(_Fields, gc=False):
    event: _Fields | str | int | float | bool | list[Any] | msgspec.UnsetType | None = msgspec.UNSET
    """Object in which Cloud NSS nests the fields; other feeds have no such member."""
    message: Any = ""
    """Member of a shipper's object with the line."""
    SyslogMessage: Any = ""
    RawData: Any = ""
    """Column of Azure's tables with the line."""
    sourcetype: Any = ""


KEYS = frozenset(_Fields.__struct_fields__)
_NAMES = tuple((name, *OTHER_NAMES.get(name, ())) for name in _Fields.__struct_fields__)
"""All names of each field, the first one of Splunk's feed."""
_PAIR = re.compile(rf"\t({'|'.join(sorted(KEYS))})=([^\t]*+)")
_DECODE = msgspec.json.Decoder(_Json).decode


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        found = uncarried(raw, _DECODE)
        if found is not None and not (found.message or found.SyslogMessage or found.RawData):
            return _json(found, raw, "")
        return _read(carried(raw))
    except FAULTS as error:
        return reject_of(error, raw)


def _read(line: Carried) -> Parsed:
    if line.tag == SERVICE:
        return Ignored("", line.at, "service")
    raw = line.text.encode()
    if line.text[:1] != "{":
        when, fields = _of_text(line.text)
        return _logged(when, fields, raw, line.host, line.at)
    return _json(_DECODE(raw), raw, line.host, line.at)


def _json(found: _Json, line: bytes, proxy: str, carried_at: Micros = 0) -> Parsed:
    fields = found if found.event is msgspec.UNSET else found.event
    if not isinstance(fields, _Fields):
        raise Unread(Reason.MALFORMED, "no event")
    if not (fields.ClientIP and fields.url and fields.action):
        if found.sourcetype in OTHER_LOGS:
            return Ignored("", carried_at, "other_log")
        fields = _in_our_words(_members(line))
    return _logged(_text(fields.datetime) or _text(fields.time), fields, line, proxy, carried_at)


def _members(line: bytes) -> Mapping[str, Any]:
    if b'"DeviceVendor"' in line and vendor_and_product(line.decode()) in TABLE_ROWS:
        return common_security_log(line.decode()).fields
    whole: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    event = whole.get("event", whole)
    return event if isinstance(event, dict) else {}


def _of_text(text: str) -> tuple[str, _Fields]:
    found = formatted(text)
    if found is not None:
        return _of_format(found)
    if _CSV.match(text):
        return _in_order(text)
    return _pairs(text)


def _of_format(found: Formatted) -> tuple[str, _Fields]:
    if found.vendor != "Zscaler" or found.product not in PRODUCTS:
        raise Unread(Reason.MALFORMED, "not of Zscaler's web log")
    fields = found.fields
    if found.product == "NSS":  # `cat` is the action in LEEF, the category in CEF
        fields["action"] = fields.get("cat", "")
    ours = _in_our_words(fields)
    return _text(ours.datetime), ours


def _in_order(text: str) -> tuple[str, _Fields]:
    try:
        columns = next(csv.reader([text]))
    except csv.Error as error:
        raise Unread(Reason.MALFORMED, str(error)) from error
    if len(columns) < len(IN_ORDER):
        raise Unread(Reason.MALFORMED, f"{len(columns)} fields; the default feed has more")
    fields = _Fields(**{name: value for name, value in zip(IN_ORDER, columns, strict=False) if name})
    return _text(fields.time), fields


def _in_our_words(fields: Mapping[str, Any]) -> _Fields:
    """Return the fields under the names of the feed for Splunk."""
    ours = _Fields(*[_first(fields, names) for names in _NAMES])
    if not _text(ours.url):
        ours.url = _decoded(_text(fields.get("b64url"))) or _first(fields, HOSTS)
    return ours


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of the named values that is not empty."""
    for name in names:
        value = fields.get(name)
        if value is not None and _text(value):
            return value
    return ""


def _decoded(text: str) -> str:
    try:
        return b64decode(text, validate=True).decode()
    except UnicodeDecodeError as error:
        raise Unread(Reason.BAD_VALUE, str(error)) from error


def _logged(when: str, fields: _Fields, line: bytes, proxy: str, carried_at: Micros) -> Parsed:
    who, target, action = _text(fields.ClientIP), _text(fields.url), _text(fields.action)
    if not (who and target and action):
        missing = [key for key in ("ClientIP", "url", "action") if not _text(getattr(fields, key))]
        raise Unread(Reason.INCOMPLETE, f"no {' and no '.join(missing)}")
    at = _at(when, _text(fields.epochtime)) or carried_at
    if not at:
        raise Unread(Reason.INCOMPLETE, "no time: no date, epochtime, rt or devTime, nor a header with the year")
    client = address(who, "ClientIP")
    method, server = _text(fields.requestmethod), _text(fields.serverip)
    answer = status(_text(fields.status))
    decision = ProxyDecision.DENIED if action.lower().startswith("block") else ProxyDecision.SERVED
    return logged(
        "zscaler",
        proxy,
        line,
        client,
        at,
        earlier(at, millis(_text(fields.clienttranstime), "clienttranstime")),
        method,
        target,
        answer,
        decision,
        asked=destination(method, target, 0 if method == "CONNECT" else PORTS.get(_text(fields.protocol).upper(), 0)),
        upstream_ip="" if server in NO_SERVER or decision is ProxyDecision.DENIED else maybe_address(server),
        sent=count(_text(fields.requestsize), "requestsize"),
        received=count(_text(fields.responsesize), "responsesize"),
        user=_text(fields.user),
    )


def _text(value: Any) -> str:
    if value.__class__ is str:
        return value if value not in NULLS else ""
    return str(value) if value.__class__ is int else ""  # excludes bool, whose class is another


def _pairs(text: str) -> tuple[str, _Fields]:
    if "=" in text.partition("\t")[0]:  # there is no date before the pairs
        text = "\t" + text
    fields: dict[str, str] = {}
    for key, value in _PAIR.findall(text[:PAIRS_CHARS_MAX]):
        if key not in fields:
            written = _unquoted(value)
            if written not in NULLS:
                fields[key] = written
    if not fields and all(_unquoted(pair.partition("=")[2]) in NULLS for pair in text.split("\t", PAIRS_MAX)[1:]):
        raise Unread(Reason.MALFORMED, "no pairs with tabs between them")
    when, _, _ = text.partition("\t")
    return when or _text(fields.get("datetime")) or _text(fields.get("time")), _Fields(**fields)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _at(when: str, exactly: str) -> Micros:
    at = _date(when) if when else 0
    if not exactly or not at:
        return at or (epoch(exactly) if exactly else 0)
    exact = epoch(exactly)
    return exact if abs(exact - at) <= ZONE_MAX else at


@lru_cache(maxsize=8_192)
def _date(text: str) -> Micros:
    found = _DATE.fullmatch(text)
    if found is not None:
        return parse_micros(f"{found[1]}-{found[2]}-{found[3]}T{found[4]}Z")
    day = _DAY.fullmatch(text)
    if day is None or day[1] not in MONTHS:
        return moment(text)
    return parse_micros(f"{day[4]}-{MONTHS[day[1]]}-{int(day[2]):02d}T{day[3]}Z")


def claims(raw: bytes) -> bool:
    """Return whether a line has one of the feed's formats.

    They are: tab-separated pairs with NSS's own keys, JSON of its source type, CEF and LEEF of the web log, its CSV, Azure's
    rows.
    """
    line = carried_again(raw)
    text = line.text
    if text[:1] == "{":
        return (
            '"zscalernss-' in text[:400]
            or ('"urlsupercat' in text and any(f'"{name}"' in text for name in ("ClientIP", "cip", "cltip")))
            or vendor_and_product(text) in TABLE_ROWS
        )
    return (
        line.tag == SERVICE
        or ("\tClientIP=" in text and "action=" in text and "\turl=" in text)
        or any(names(text, f"Zscaler|{product}|") for product in PRODUCTS)
        or (_CSV.match(text) is not None and text.count(",") >= len(IN_ORDER) - 1)
    )


DIALECT = proxy_dialect(
    "zscaler",
    parse,
    claims,
    title="Zscaler's web log (NSS, Cloud NSS)",
    gives="Requests with the destination's address, verdict, bytes and user; no ports of the connection to the proxy.",
    framing=DatedHeaders,
)
