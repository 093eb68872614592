"""The extended log of a ProxySG (Blue Coat, Symantec, Broadcom): rows under `#Fields`, or `c-ip=… cs-host=…` in syslog.

Fields: "ProxySG Log Fields and Substitutions", SGOS 6.5 to 7.3. Date and time are GMT and tell when the request was
over; `time-taken` is in milliseconds. A row says nothing of its order: `#Fields` above it does, so rows of a file are
published as JSON with the fields' names (`extended_log.py`). Of a row by itself only the orders that the vendor
ships are read, told by where filter result, status and action stand. IIS writes such logs, too, and is no proxy. Cisco's
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
from schemas.dialect import Dialect
from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried, carried_again
from schemas.parsers.common.extended_log import FieldRows
from schemas.parsers.common.memoize import read_once
from schemas.parsers.common.proxy_log import (
    PAIRS_MAX,
    PORTS,
    UNREADABLE,
    Unread,
    address,
    clf_time,
    count,
    destination,
    device_in,
    earlier,
    epoch,
    host_of,
    logged,
    maybe_address,
    millis,
    port,
    proxy_log,
    refused,
    status,
    time_in,
    unread,
)
from schemas.parsers.common.quoting import QUOTED
from schemas.parsers.proxies.wsa import decide as by_policy

FILTER_RESULTS = frozenset({"OBSERVED", "PROXIED", "DENIED"})
FILTER_PLACES = (7, 8, 11)
"""Where the filter result stands: SGOS 5 and 6, 6 with the supplier's name, and 7 with its address and country, too."""
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
"""Its bytes were passed on unread, so there is no status."""
SIGN_IN_EXCEPTIONS = ("authentication_", "authentication_failed")

_TOKEN = re.compile(rf"{QUOTED}|\S++")
_PAIR = re.compile(rf"(?<!\S)([A-Za-z][\w().-]{{0,80}})=({QUOTED}|\S*+)")
_TIMES = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?) ")
_ACTION = re.compile(r"(?:TCP|UDP|FTP|SSL|NONE|ALLOWED|DENIED|FAILED|TUNNELED|LICENSE|SOCKS|CIFS|MAPI)[A-Z_]*")
_GMT = re.compile(r"\[?(\d\d)/(\d\d)/(\d{4}):(\d\d:\d\d:\d\d)(?: GMT)?\]?")
_COOKIE_DATE = re.compile(r"[A-Z][a-z]{2},(?:%20| )(\d\d)-([A-Z][a-z]{2})-(\d\d)(?:%20| )(\d\d:\d\d:\d\d)(?:%20| )GMT")
_GLUED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?(\S{1,255}) bluecoat ")
"""A header of the vendor's example whose time is not the appliance's in UTC for sure."""
_DIRECTIVE = re.compile(r"#(?:Software|System|Version|Date|Start-Date|End-Date|Fields|Remark)\b")
_OWN_ACTION = re.compile(r"[\t ](?:TCP|SSL|FTP|UDP|SOCKS)_[A-Z_]++[\t ]")
"""The vendor's word for what was done, in any order of fields."""
_BARS = "|s-action="
_PLAIN_REQUEST = re.compile(r" [A-Z]{3,16} /")
TAGS = frozenset({"ProxySG", "bluecoat"})
"""How the appliance calls itself in syslog; it sends more than its access log."""
NEVER_LAST = frozenset({"c-ip", "cs-host", "s-supplier-ip", "s-supplier-name"})
QRADARS = {
    "src": "c-ip",
    "srcport": "c-port",
    "dstport": "cs-uri-port",
    "username": "cs-username",
    "devicetime": "gmttime",
}
"""What QRadar's format calls a field."""
OLD_MAIN = (
    *(
        "date",
        "time",
        "time-taken",
        "c-ip",
        "sc-status",
        "s-action",
        "sc-bytes",
        "cs-bytes",
        "cs-method",
        "cs-uri-scheme",
    ),
    *("cs-host", "cs-uri-port", "cs-uri-path", "cs-uri-query", "cs-username", "cs-auth-group"),
)
"""How the format `main` begins; what follows differs."""
OLD_FILTER_FROM, OLD_FILTER_TO = 18, 22
"""Where its filter result may stand, behind what the client said itself."""
TOKENS_MAX = 64
"""No format has so many fields before those that are read."""

ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,19}://")

Told = dict[str, str]
_decode_texts = msgspec.json.Decoder(Told).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode


def _decode(raw: bytes) -> Told:
    """Texts alone, nearly always; of others those that are numbers, as some shippers make them."""
    try:
        return _decode_texts(raw)
    except msgspec.ValidationError:
        told = _decode_any(raw)
        return {name: str(value) for name, value in told.items() if value.__class__ in (str, int)}


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        told = _told(raw)
        return _row(told, raw, "") if told is not None else _read(carried(raw))
    except (ValueError, OverflowError) as error:
        return refused(error, raw)


def _told(raw: bytes) -> Told | None:
    """A row in JSON as it nearly always is, and fast; None where `carried` has to look at the line.

    In ASCII nothing is to be replaced.
    """
    if raw[:1] != b"{" or raw[-1:] != b"}" or not raw.isascii():
        return None
    try:
        told = _decode(raw)
    except UNREADABLE:
        return None
    is_carrier = "message" in told or "_raw" in told or "log" in told or "SyslogMessage" in told or "RawData" in told
    return None if is_carrier else told


def _read(line: Carried) -> Parsed:
    text = line.text
    if text[:1] == "{":
        raw = text.encode()
        try:
            told = _decode(raw)
        except UNREADABLE as error:
            raise unread(error) from error
        return _row(told, raw, line.host)
    if _DIRECTIVE.match(text):
        return Ignored("", line.at, "directive")
    times = _TIMES.match(text)
    if times is None:
        return _pairs(line)
    at = _moment(times[1], times[2])
    tokens = [found[0] for found in islice(_TOKEN.finditer(text), TOKENS_MAX)]
    by_order = _in_order(tokens)
    if by_order is None:
        # Of a web server's order nothing is known but that somebody asked it for one of its own pages.
        if _PLAIN_REQUEST.search(text):
            return Ignored("", at, "not_proxied")
        raise Unread(Reason.MALFORMED, "the fields stand in none of the orders that are known")
    return _logged(by_order, at, text.encode(), line.host)


def _row(told: Told, line: bytes, proxy: str) -> Parsed:
    """A row under `#Fields`, in whatever order."""
    if "c-ip" not in told:
        raise Unread(Reason.INCOMPLETE, "no c-ip")
    at = _time(told)
    if "cs-url" in told and ("x-resultcode-httpstatus" in told or "sc-result-code" in told):
        return _ciscos(told, at, line, proxy)
    is_asked = "cs-host" in told and ("cs-uri-scheme" in told or told.get("cs-method") == "CONNECT")
    url = "" if is_asked else _absolute(told, "cs-uri") or _absolute(told, "cs-uri-stem")
    if "cs-method" in told and not (url or is_asked):
        kind = "no_destination" if told["cs-method"] == "CONNECT" else "not_proxied"
        return Ignored(address(told["c-ip"], "c-ip"), at, kind)
    if "s-action" not in told and "sc-filter-result" not in told:
        return Ignored(address(told["c-ip"], "c-ip"), at, "no_verdict")
    return _logged(told if is_asked else _with_parts(told, url), at, line, proxy)


def _ciscos(told: Told, at: Micros, line: bytes, proxy: str) -> Parsed:
    """A row of a WSA: who served it stands where ProxySG has itself."""
    code, _, answered = told.get("x-resultcode-httpstatus", "").partition("/")
    code, answered = code or told.get("sc-result-code", ""), answered or told.get("sc-http-status", "")
    if not ABSOLUTE.match(told["cs-url"]):
        return Ignored(address(told["c-ip"], "c-ip"), at, "not_proxied")
    ours = {name: value for name, value in told.items() if name not in ("s-ip", "s-port", "s-action")}
    ours |= {"sc-status": answered, "time-taken": told.get("x-elapsed-time", "").partition(".")[0]}
    if told.get("cs-method") == "TCP_CONNECT":
        ours["cs-method"] = "CONNECT"
    decision = by_policy(code, told.get("x-acltag", ""), status(answered))
    return _logged(_with_parts(ours, told["cs-url"]), at, line, proxy, decision)


def _absolute(told: Told, name: str) -> str:
    return told[name] if name in told and ABSOLUTE.match(told[name]) else ""


def _time(told: Told) -> Micros:
    if "date" in told and "time" in told:
        return _moment(told["date"], told["time"])
    for name in ("x-timestamp-unix", "timestamp"):
        if name in told:
            return epoch(told[name])
    for name in ("gmttime", "localtime"):
        if name in told:
            gmt = _GMT.fullmatch(told[name])
            if gmt is not None:
                return _moment(f"{gmt[3]}-{gmt[2]}-{gmt[1]}", gmt[4])
            return clf_time(told[name].strip("[]").removesuffix(" GMT"))
    raise Unread(Reason.INCOMPLETE, "no time: neither date and time nor timestamp, gmttime or localtime")


@lru_cache(maxsize=8_192)  # what raises is not kept, and what does not is short
def _moment(date: str, time: str) -> Micros:
    return parse_micros(f"{date}T{time}Z")


def _with_parts(told: Told, url: str) -> Told:
    """With what `cs-uri-scheme` and so on would tell."""
    scheme, _, rest = url.partition("://")
    _, slash, path = rest.partition("/")
    host, port_given = destination(told.get("cs-method", ""), url)
    whole = told.copy()
    whole["cs-uri-scheme"], whole["cs-host"], whole["cs-uri-path"] = scheme.lower(), host, slash + path
    if port_given:
        whole["cs-uri-port"] = str(port_given)
    if "?" in path:
        whole["cs-uri-query"] = ""
    return whole


def _in_order(tokens: list[str]) -> Told | None:
    """Fields by name, in the order of the main format or of the one for SSL; None where it is neither."""
    for place in FILTER_PLACES:
        if len(tokens) > place + 12 and tokens[place] in FILTER_RESULTS:
            for form, status_at in ((MAIN, place + 3), (SSL, place + 2)):
                action = tokens[status_at + 1]
                if tokens[status_at].isdigit() and (action == "-" or _ACTION.fullmatch(action)):
                    return _named(tokens, place, status_at, form)
    return _old_main(tokens) if len(tokens) > OLD_FILTER_TO else None


def _old_main(tokens: list[str]) -> Told | None:
    """Fields by name in the order of the format `main`; None where it is another."""
    told = dict(zip(OLD_MAIN, tokens, strict=False))
    numbers = (told["sc-status"], told["sc-bytes"], told["cs-bytes"])
    if not all(map(str.isdigit, numbers)) or not _ACTION.fullmatch(told["s-action"]):
        return None
    results = [token for token in tokens[OLD_FILTER_FROM:OLD_FILTER_TO] if token in FILTER_RESULTS]
    told["sc-filter-result"] = results[-1] if results else ""
    return {name: _unquoted(value) for name, value in told.items()}


def _named(tokens: list[str], place: int, status_at: int, form: str) -> Told:
    after = ["sc-status", "s-action", "cs-method", "rs-type", "cs-uri-scheme", "cs-host", "cs-uri-port"]
    after += ["cs-uri-path", "cs-uri-query"] if form == MAIN else []
    after += ["cs-uri-extension", "cs-user-agent", "s-ip", "sc-bytes", "cs-bytes"]
    told = dict(zip(after, tokens[status_at:], strict=False))
    told |= {"time-taken": tokens[2], "c-ip": tokens[3], "cs-username": tokens[4], "sc-filter-result": tokens[place]}
    told["x-exception-id"] = tokens[place - 1]
    if place > FILTER_PLACES[0]:
        told["s-supplier-name"] = tokens[6]
    if place == FILTER_PLACES[2]:
        told["s-supplier-ip"] = tokens[7]
    return {name: _unquoted(value) if value[0] == '"' else value for name, value in told.items()}


def _unquoted(value: str) -> str:
    return value[1:-1] if value[:1] == '"' and value[-1:] == '"' and len(value) > 1 else value


def _between_bars(line: Carried) -> Parsed:
    """QRadar's format; a client's words, which may hold bars, come late and are not believed."""
    told: Told = {}
    for pair in line.text.split("|", PAIRS_MAX)[:PAIRS_MAX]:
        name, equals, value = pair.partition("=")
        name = QRADARS.get(name, name.lower())
        if equals and (name not in told or value == "DENIED"):
            told[name] = value
    if "c-ip" not in told or "cs-host" not in told:
        raise Unread(Reason.INCOMPLETE, "no src= or no cs-host=")
    return _logged(told, _time(told), line.text.encode(), line.host)


def _pairs(line: Carried) -> Parsed:
    if _BARS in line.text:
        return _between_bars(line)
    told: Told = {}
    last = ""
    for found in islice(_PAIR.finditer(line.text), PAIRS_MAX):
        last = found[1].lower()
        told.setdefault(last, _unquoted(found[2]))
    if last in NEVER_LAST:
        raise Unread(Reason.INCOMPLETE, f"{last} is the last field: nothing tells that it was not cut off")
    if "c-ip" not in told or not ("cs-host" in told or "cs-method" in told):
        if line.at and line.tag in TAGS:
            return Ignored("", line.at, "message")
        raise Unread(Reason.MALFORMED, "neither date and time nor c-ip= and cs-host=")
    at, glued = line.at, _GLUED.match(line.text)
    cookie = _COOKIE_DATE.fullmatch(told.get("x-cookie-date", ""))
    if told.get("date") and told.get("time"):
        at = _moment(told["date"], told["time"])
    elif not at and cookie is not None:
        at = clf_time(f"{cookie[1]}/{cookie[2]}/20{cookie[3]}:{cookie[4]}")
    if not at:
        raise Unread(Reason.INCOMPLETE, "no time: neither date= and time=, x-cookie-date= nor a header with the year")
    return _logged(told, at, line.text.encode(), line.host or (glued[1] if glued is not None else ""))


def _logged(told: Told, at: Micros, line: bytes, proxy: str, decided: ProxyDecision | None = None) -> Parsed:
    client = address(told["c-ip"], "c-ip")
    method, host, scheme = _given(told, "cs-method"), told.get("cs-host", ""), _given(told, "cs-uri-scheme")
    if not method:
        return Ignored(client, at, "no_request")
    number = _often(told.get("cs-uri-port", ""), "cs-uri-port") or PORTS.get(scheme, 0)
    name = host_of(host)
    answer = status(told.get("sc-status", ""))
    action = told.get("s-action", "")
    decision = decided or decide(action, told.get("sc-filter-result", ""), told.get("x-exception-id", ""), answer)
    return logged(
        "w3c",
        proxy,
        line,
        client,
        at,
        earlier(at, millis(told.get("time-taken", ""), "time-taken")),
        method,
        _target(told, method, scheme, host, number),
        answer,
        decision,
        client_port=port(told.get("c-port", ""), "c-port"),
        # The proxy's own address adds little: one that was masked is left out.
        proxy_ip=maybe_address(told.get("s-ip", "")),
        proxy_port=_often(told.get("s-port", ""), "s-port"),
        asked=(name, number),
        upstream_ip=_upstream(told, name, action, decision),
        sent=count(told.get("cs-bytes", ""), "cs-bytes"),
        received=count(told.get("sc-bytes", ""), "sc-bytes"),
        user=_given(told, "cs-username") or told.get("cs-userdn", ""),
    )


_often = lru_cache(maxsize=1_024)(port)  # few at the remote side; what raises is not kept, and what does not is short


def _target(told: Told, method: str, scheme: str, host: str, number: int) -> str:
    """Put together again from the parts that the log has; the query with its question mark, as it has it."""
    if method == "CONNECT" or not scheme:
        return f"{host}:{number}" if number else host
    written = "" if number in (0, PORTS.get(scheme)) else f":{number}"
    return f"{scheme}://{host}{written}{_given(told, 'cs-uri-path') or '/'}{_given(told, 'cs-uri-query')}"


def _given(told: Told, name: str) -> str:
    """Without a dash, for what is taken as it stands; numbers, addresses and hosts are none when they are one."""
    value = told.get(name, "")
    return value if value != "-" else ""


def _upstream(told: Told, host: str, action: str, decision: ProxyDecision) -> str:
    """The supplier's address where it is the host that was asked for, and not another proxy, and was needed at all."""
    supplier = told.get("s-supplier-name", "")
    if not supplier or not host or decision is not ProxyDecision.SERVED or "_HIT" in action:
        return ""
    # A name of any length would be remembered, and one that is longer than a host's is none.
    if supplier != host and (len(supplier) > HOST_LENGTH_MAX or canonical_host(supplier) != host):
        return ""
    return maybe_address(told.get("s-supplier-ip", ""))


def decide(action: str, result: str, exception: str, answer: int | None) -> ProxyDecision:
    """By filter result, action and exception."""
    if exception and exception.startswith(SIGN_IN_EXCEPTIONS):
        return ProxyDecision.SIGN_IN
    if result == "DENIED" or "DENIED" in action:
        return ProxyDecision.DENIED
    if action == TUNNELED and not exception.strip("-"):
        return ProxyDecision.SERVED
    if answer is None or action.startswith(FAILED_ACTIONS) or (exception and exception.startswith(FAILED_EXCEPTIONS)):
        return ProxyDecision.FAILED
    return ProxyDecision.SERVED


_parse_once = read_once(parse)


def written_at(raw: bytes) -> Micros:
    """Date and time of the line, or of the header that carried it."""
    return time_in(_parse_once(raw))


def device_of(raw: bytes) -> str:
    """The client's address."""
    return device_in(_parse_once(raw))


def claims(raw: bytes) -> bool:
    """Directives, the vendor's orders, actions and tags, a web server's dated lines with a plain request, `c-ip` beside `cs-`."""
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


DIALECT = Dialect(
    "w3c",
    parse,
    written_at,
    device_of,
    title="ProxySG's extended log (Blue Coat, Symantec): files with `#Fields`, main format, pairs in syslog",
    gives="Requests with verdict, bytes and user; the address gone to where the supplier is logged; no client port as a rule.",
    claims=claims,
    sensors=(proxy_log("w3c"),),
    framing=lambda _: FieldRows(),
)
