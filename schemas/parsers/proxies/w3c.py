"""The extended log of a ProxySG (Blue Coat, Symantec, Broadcom): rows under `#Fields`, or `c-ip=… cs-host=…` in syslog.

Fields: "ProxySG Log Fields and Substitutions", SGOS 6.5 to 7.3. Date and time are GMT: when the request was
over; `time-taken` is in milliseconds. A row has its order only in the `#Fields` above it, so rows of a file are
published as JSON with the fields' names (`extended_log.py`). Of a row by itself only the orders that the vendor
ships are read, fields by where filter result, status and action stand. IIS writes such logs, too, and is no proxy. Cisco's
appliance does (`cs-url`, `x-resultcode-httpstatus`), and its `s-ip` is the server's. For QRadar the fields have other names,
between bars: `Bluecoat|src=192.0.2.7|…|devicetime=[03/11/2020:12:41:27 GMT]|s-action=TCP_MISS|…`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from schemas.address import HOST_LENGTH_MAX, canonical_host
from schemas.clock import parse_micros
from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried, carried_again
from schemas.parsers.common.extended_log import FieldRows
from schemas.parsers.common.proxy_log import (
    PAIRS_MAX,
    PORTS,
    address,
    clf_time,
    count,
    destination,
    earlier,
    epoch,
    host_of,
    logged,
    maybe_address,
    millis,
    port,
    proxy_dialect,
    status,
)
from schemas.parsers.common.quoting import QUOTED
from schemas.parsers.common.rejects import FAULTS, UNREADABLE, Unread, reject_of
from schemas.parsers.proxies.wsa import decide as by_policy

FILTER_RESULTS = frozenset({"OBSERVED", "PROXIED", "DENIED"})
FILTER_PLACES = (7, 8, 11)
"""Positions of the filter result: SGOS 5 and 6; 6 with the supplier's name; 7 with its address and country, too."""
MAIN, SSL = "main", "ssl"
FAILED_ACTIONS = ("TCP_ERR", "TCP_CLIENT_ABORT", "FAILED")
FAILED_EXCEPTIONS = (
    "dns_",
    "gateway_error",
    "invalid_",
    "server_request_limit",
    "ssl_failed",
    "tcp_error",
    "transformation_error",
    "unsupported_",
)
TUNNELED = "TUNNELED"
"""Action of a tunnel whose bytes were forwarded unread, so it has no status."""
SIGN_IN_EXCEPTIONS = ("authentication_", "authentication_failed")

_TOKEN = re.compile(rf"{QUOTED}|\S++")
_PAIR = re.compile(rf"(?<!\S)([A-Za-z][\w().-]{{0,80}})=({QUOTED}|\S*+)")
_TIMES = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?) ")
_ACTION = re.compile(r"(?:TCP|UDP|FTP|SSL|NONE|ALLOWED|DENIED|FAILED|TUNNELED|LICENSE|SOCKS|CIFS|MAPI)[A-Z_]*")
_GMT = re.compile(r"\[?(\d\d)/(\d\d)/(\d{4}):(\d\d:\d\d:\d\d)(?: GMT)?\]?")
_COOKIE_DATE = re.compile(r"[A-Z][a-z]{2},(?:%20| )(\d\d)-([A-Z][a-z]{2})-(\d\d)(?:%20| )(\d\d:\d\d:\d\d)(?:%20| )GMT")
_GLUED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?(\S{1,255}) bluecoat ")
"""The header in the vendor's example, whose time may not be the appliance's time in UTC."""
_DIRECTIVE = re.compile(r"#(?:Software|System|Version|Date|Start-Date|End-Date|Fields|Remark)\b")
_OWN_ACTION = re.compile(r"[\t ](?:TCP|SSL|FTP|UDP|SOCKS)_[A-Z_]++[\t ]")
"""The vendor's word for the action, in any order of fields."""
_BARS = "|s-action="
_PLAIN_REQUEST = re.compile(r" [A-Z]{3,16} /")
TAGS = frozenset({"ProxySG", "bluecoat"})
"""Syslog tags of the appliance; it sends more than its access log."""
NEVER_LAST = frozenset({"c-ip", "cs-host", "s-supplier-ip", "s-supplier-name"})
QRADARS = {
    "src": "c-ip",
    "srcport": "c-port",
    "dstport": "cs-uri-port",
    "username": "cs-username",
    "devicetime": "gmttime",
}
"""Names of the fields in QRadar's format."""
OLD_MAIN = (
    "date", "time", "time-taken", "c-ip", "sc-status", "s-action", "sc-bytes", "cs-bytes", "cs-method", "cs-uri-scheme",
    "cs-host", "cs-uri-port", "cs-uri-path", "cs-uri-query", "cs-username", "cs-auth-group",
)  # fmt: skip
"""First fields of the format `main`; the following ones differ."""
OLD_FILTER_FROM, OLD_FILTER_TO = 18, 22
"""First and last position of the filter result in that format, after the client's own text."""
TOKENS_MAX = 64
"""Maximum number of fields that are split; no format has more before the used ones."""

ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,19}://")

Fields = dict[str, str]
_decode_texts = msgspec.json.Decoder(Fields).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode


def _decode(raw: bytes) -> Fields:
    """Decode the fields of a row; some shippers convert texts to numbers, which are converted back."""
    try:
        return _decode_texts(raw)
    except msgspec.ValidationError:
        fields = _decode_any(raw)
        return {name: str(value) for name, value in fields.items() if value.__class__ in (str, int)}


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        fields = _uncarried_row(raw)
        return _row(fields, raw, "") if fields is not None else _read(carried(raw))
    except FAULTS as error:
        return reject_of(error, raw)


def _uncarried_row(raw: bytes) -> Fields | None:
    """Decode a JSON row without a carrier (the fast path); None if the line must be passed to `carried`.

    Such a row is ASCII, so no character is replaced.
    """
    if raw[:1] != b"{" or raw[-1:] != b"}" or not raw.isascii():
        return None
    try:
        fields = _decode(raw)
    except UNREADABLE:
        return None
    is_carrier = (
        "message" in fields or "_raw" in fields or "log" in fields or "SyslogMessage" in fields or "RawData" in fields
    )
    return None if is_carrier else fields


def _read(line: Carried) -> Parsed:
    text = line.text
    if text[:1] == "{":
        raw = text.encode()
        return _row(_decode(raw), raw, line.host)
    if _DIRECTIVE.match(text):
        return Ignored("", line.at, "directive")
    times = _TIMES.match(text)
    if times is None:
        return _pairs(line)
    at = _moment(times[1], times[2])
    tokens = [found[0] for found in islice(_TOKEN.finditer(text), TOKENS_MAX)]
    by_order = _in_order(tokens)
    if by_order is None:
        # A row in a web server's order is only a request for one of the server's own pages.
        if _PLAIN_REQUEST.search(text):
            return Ignored("", at, "not_proxied")
        raise Unread(Reason.MALFORMED, "the fields stand in none of the orders that are known")
    return _logged(by_order, at, text.encode(), line.host)


def _row(fields: Fields, line: bytes, proxy: str) -> Parsed:
    """Parse a row with named fields, in any order."""
    if "c-ip" not in fields:
        raise Unread(Reason.INCOMPLETE, "no c-ip")
    at = _time(fields)
    if "cs-url" in fields and ("x-resultcode-httpstatus" in fields or "sc-result-code" in fields):
        return _ciscos(fields, at, line, proxy)
    is_asked = "cs-host" in fields and ("cs-uri-scheme" in fields or fields.get("cs-method") == "CONNECT")
    url = "" if is_asked else _absolute(fields, "cs-uri") or _absolute(fields, "cs-uri-stem")
    if "cs-method" in fields and not (url or is_asked):
        kind = "no_destination" if fields["cs-method"] == "CONNECT" else "not_proxied"
        return Ignored(address(fields["c-ip"], "c-ip"), at, kind)
    if "s-action" not in fields and "sc-filter-result" not in fields:
        return Ignored(address(fields["c-ip"], "c-ip"), at, "no_verdict")
    return _logged(fields if is_asked else _with_parts(fields, url), at, line, proxy)


def _ciscos(fields: Fields, at: Micros, line: bytes, proxy: str) -> Parsed:
    """Parse a row of Cisco's WSA, where `s-ip` is the server's address."""
    code, _, answered = fields.get("x-resultcode-httpstatus", "").partition("/")
    code, answered = code or fields.get("sc-result-code", ""), answered or fields.get("sc-http-status", "")
    if not ABSOLUTE.match(fields["cs-url"]):
        return Ignored(address(fields["c-ip"], "c-ip"), at, "not_proxied")
    ours = {name: value for name, value in fields.items() if name not in ("s-ip", "s-port", "s-action")}
    ours |= {"sc-status": answered, "time-taken": fields.get("x-elapsed-time", "").partition(".")[0]}
    if fields.get("cs-method") == "TCP_CONNECT":
        ours["cs-method"] = "CONNECT"
    decision = by_policy(code, fields.get("x-acltag", ""), status(answered))
    return _logged(_with_parts(ours, fields["cs-url"]), at, line, proxy, decision)


def _absolute(fields: Fields, name: str) -> str:
    return fields[name] if name in fields and ABSOLUTE.match(fields[name]) else ""


def _time(fields: Fields) -> Micros:
    if "date" in fields and "time" in fields:
        return _moment(fields["date"], fields["time"])
    for name in ("x-timestamp-unix", "timestamp"):
        if name in fields:
            return epoch(fields[name])
    for name in ("gmttime", "localtime"):
        if name in fields:
            gmt = _GMT.fullmatch(fields[name])
            if gmt is not None:
                return _moment(f"{gmt[3]}-{gmt[2]}-{gmt[1]}", gmt[4])
            return clf_time(fields[name].strip("[]").removesuffix(" GMT"))
    raise Unread(Reason.INCOMPLETE, "no time: neither date and time nor timestamp, gmttime or localtime")


@lru_cache(maxsize=8_192)  # errors are not cached, and valid texts are short
def _moment(date: str, time: str) -> Micros:
    return parse_micros(f"{date}T{time}Z")


def _with_parts(fields: Fields, url: str) -> Fields:
    """Return the row with `cs-uri-scheme` and the other parts of its URL."""
    scheme, _, rest = url.partition("://")
    _, slash, path = rest.partition("/")
    host, port_given = destination(fields.get("cs-method", ""), url)
    whole = fields.copy()
    whole["cs-uri-scheme"], whole["cs-host"], whole["cs-uri-path"] = scheme.lower(), host, slash + path
    if port_given:
        whole["cs-uri-port"] = str(port_given)
    if "?" in path:
        whole["cs-uri-query"] = ""
    return whole


def _in_order(tokens: list[str]) -> Fields | None:
    """Return the fields by name if they have the order of the main format or of the one for SSL; otherwise None."""
    for place in FILTER_PLACES:
        if len(tokens) > place + 12 and tokens[place] in FILTER_RESULTS:
            for form, status_at in ((MAIN, place + 3), (SSL, place + 2)):
                action = tokens[status_at + 1]
                if tokens[status_at].isdigit() and (action == "-" or _ACTION.fullmatch(action)):
                    return _named(tokens, place, status_at, form)
    return _old_main(tokens) if len(tokens) > OLD_FILTER_TO else None


def _old_main(tokens: list[str]) -> Fields | None:
    """Return the fields by name if they have the order of the format `main`; otherwise None."""
    fields = dict(zip(OLD_MAIN, tokens, strict=False))
    numbers = (fields["sc-status"], fields["sc-bytes"], fields["cs-bytes"])
    if not all(map(str.isdigit, numbers)) or not _ACTION.fullmatch(fields["s-action"]):
        return None
    results = [token for token in tokens[OLD_FILTER_FROM:OLD_FILTER_TO] if token in FILTER_RESULTS]
    fields["sc-filter-result"] = results[-1] if results else ""
    return {name: _unquoted(value) for name, value in fields.items()}


def _named(tokens: list[str], place: int, status_at: int, form: str) -> Fields:
    after = ["sc-status", "s-action", "cs-method", "rs-type", "cs-uri-scheme", "cs-host", "cs-uri-port"]
    after += ["cs-uri-path", "cs-uri-query"] if form == MAIN else []
    after += ["cs-uri-extension", "cs-user-agent", "s-ip", "sc-bytes", "cs-bytes"]
    fields = dict(zip(after, tokens[status_at:], strict=False))
    fields |= {"time-taken": tokens[2], "c-ip": tokens[3], "cs-username": tokens[4], "sc-filter-result": tokens[place]}
    fields["x-exception-id"] = tokens[place - 1]
    if place > FILTER_PLACES[0]:
        fields["s-supplier-name"] = tokens[6]
    if place == FILTER_PLACES[2]:
        fields["s-supplier-ip"] = tokens[7]
    return {name: _unquoted(value) if value[0] == '"' else value for name, value in fields.items()}


def _unquoted(value: str) -> str:
    return value[1:-1] if value[:1] == '"' and value[-1:] == '"' and len(value) > 1 else value


def _between_bars(line: Carried) -> Parsed:
    """Parse QRadar's format. Text from the client may contain `|` and comes late, so no used field is read after it."""
    fields: Fields = {}
    for pair in line.text.split("|", PAIRS_MAX)[:PAIRS_MAX]:
        name, equals, value = pair.partition("=")
        name = QRADARS.get(name, name.lower())
        if equals and (name not in fields or value == "DENIED"):
            fields[name] = value
    if "c-ip" not in fields or "cs-host" not in fields:
        raise Unread(Reason.INCOMPLETE, "no src= or no cs-host=")
    return _logged(fields, _time(fields), line.text.encode(), line.host)


def _pairs(line: Carried) -> Parsed:
    if _BARS in line.text:
        return _between_bars(line)
    fields: Fields = {}
    last = ""
    for found in islice(_PAIR.finditer(line.text), PAIRS_MAX):
        last = found[1].lower()
        fields.setdefault(last, _unquoted(found[2]))
    if last in NEVER_LAST:
        raise Unread(Reason.INCOMPLETE, f"{last} is the last field: it may be cut off")
    if "c-ip" not in fields or not ("cs-host" in fields or "cs-method" in fields):
        if line.at and line.tag in TAGS:
            return Ignored("", line.at, "message")
        raise Unread(Reason.MALFORMED, "neither date and time nor c-ip= and cs-host=")
    at, glued = line.at, _GLUED.match(line.text)
    cookie = _COOKIE_DATE.fullmatch(fields.get("x-cookie-date", ""))
    if fields.get("date") and fields.get("time"):
        at = _moment(fields["date"], fields["time"])
    elif not at and cookie is not None:
        at = clf_time(f"{cookie[1]}/{cookie[2]}/20{cookie[3]}:{cookie[4]}")
    if not at:
        raise Unread(Reason.INCOMPLETE, "no time: neither date= and time=, x-cookie-date= nor a header with the year")
    return _logged(fields, at, line.text.encode(), line.host or (glued[1] if glued is not None else ""))


def _logged(fields: Fields, at: Micros, line: bytes, proxy: str, decided: ProxyDecision | None = None) -> Parsed:
    client = address(fields["c-ip"], "c-ip")
    method, host, scheme = _given(fields, "cs-method"), fields.get("cs-host", ""), _given(fields, "cs-uri-scheme")
    if not method:
        return Ignored(client, at, "no_request")
    number = _often(fields.get("cs-uri-port", ""), "cs-uri-port") or PORTS.get(scheme, 0)
    name = host_of(host)
    answer = status(fields.get("sc-status", ""))
    action = fields.get("s-action", "")
    decision = decided or decide(action, fields.get("sc-filter-result", ""), fields.get("x-exception-id", ""), answer)
    return logged(
        "w3c",
        proxy,
        line,
        client,
        at,
        earlier(at, millis(fields.get("time-taken", ""), "time-taken")),
        method,
        _target(fields, method, scheme, host, number),
        answer,
        decision,
        client_port=port(fields.get("c-port", ""), "c-port"),
        # The proxy's own address matters little: a masked one is ignored.
        proxy_ip=maybe_address(fields.get("s-ip", "")),
        proxy_port=_often(fields.get("s-port", ""), "s-port"),
        asked=(name, number),
        upstream_ip=_upstream(fields, name, action, decision),
        sent=count(fields.get("cs-bytes", ""), "cs-bytes"),
        received=count(fields.get("sc-bytes", ""), "sc-bytes"),
        user=_given(fields, "cs-username") or fields.get("cs-userdn", ""),
    )


_often = lru_cache(maxsize=1_024)(
    port
)  # the remote side has few ports; errors are not cached, and valid texts are short


def _target(fields: Fields, method: str, scheme: str, host: str, number: int) -> str:
    """Compose the target from the parts in the log; the query includes its question mark."""
    if method == "CONNECT" or not scheme:
        return f"{host}:{number}" if number else host
    written = "" if number in (0, PORTS.get(scheme)) else f":{number}"
    return f"{scheme}://{host}{written}{_given(fields, 'cs-uri-path') or '/'}{_given(fields, 'cs-uri-query')}"


def _given(fields: Fields, name: str) -> str:
    """Return a field, "" for a dash. For fields that are used as text; numbers, addresses and hosts are validated anyway."""
    value = fields.get(name, "")
    return value if value != "-" else ""


def _upstream(fields: Fields, host: str, action: str, decision: ProxyDecision) -> str:
    """Return the supplier's address if it is the requested host's; "" if it is another proxy's or was not needed."""
    supplier = fields.get("s-supplier-name", "")
    if not supplier or not host or decision is not ProxyDecision.SERVED or "_HIT" in action:
        return ""
    # A longer name would fill the cache, and cannot be a host name.
    if supplier != host and (len(supplier) > HOST_LENGTH_MAX or canonical_host(supplier) != host):
        return ""
    return maybe_address(fields.get("s-supplier-ip", ""))


def decide(action: str, result: str, exception: str, answer: int | None) -> ProxyDecision:
    """Return the decision by filter result, action and exception."""
    if exception and exception.startswith(SIGN_IN_EXCEPTIONS):
        return ProxyDecision.SIGN_IN
    if result == "DENIED" or "DENIED" in action:
        return ProxyDecision.DENIED
    if action == TUNNELED and not exception.strip("-"):
        return ProxyDecision.SERVED
    if answer is None or action.startswith(FAILED_ACTIONS) or (exception and exception.startswith(FAILED_EXCEPTIONS)):
        return ProxyDecision.FAILED
    return ProxyDecision.SERVED


def claims(raw: bytes) -> bool:
    """Return whether a line is a directive or row of ProxySG, by the vendor's orders, actions and tags.

    Also claimed are dated lines of a web server with a plain request, and `c-ip` with `cs-` fields.
    """
    line = carried_again(raw)
    text = line.text
    if _TIMES.match(text):
        tokens = [found[0] for found in islice(_TOKEN.finditer(text), TOKENS_MAX)]
        return _in_order(tokens) is not None or bool(
            _OWN_ACTION.search(text) or ("\t" not in text and _PLAIN_REQUEST.search(text))
        )
    if text[:1] == "{":
        return '"c-ip"' in text and ('"cs-host"' in text or '"cs-method"' in text)
    return bool(line.tag in TAGS or _DIRECTIVE.match(text)) or (
        ("c-ip=" in text or _BARS in text) and ("cs-host=" in text or "cs-method=" in text)
    )


DIALECT = proxy_dialect(
    "w3c",
    parse,
    claims,
    title="ProxySG's extended log (Blue Coat, Symantec): files with `#Fields`, main format, pairs in syslog",
    gives="Requests with verdict, bytes and user; the address gone to where the supplier is logged; no client port as a rule.",
    framing=lambda _: FieldRows(),
)
