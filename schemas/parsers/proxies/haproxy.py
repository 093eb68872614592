"""HAProxy's log in the formats `httplog`, `httpslog`, `tcplog` and the default, with or without a syslog header.

Formats and termination states: HAProxy configuration manual, chapter 8. The date is the time of the request, without zone, and
taken as UTC. The line is written at the end of the session, later by the total time. The name of a backend is not an address.
"""

from __future__ import annotations

import re

from schemas.events import Ignored, Micros, Parsed, ProxyDecision, Reason
from schemas.parsers.common.carriers import Carried, carried, carried_again
from schemas.parsers.common.proxy_log import (
    clf_time,
    count,
    device_in,
    endpoint,
    later,
    logged,
    millis,
    proxy_dialect,
    status,
    uncarried_first,
)
from schemas.parsers.common.rejects import Unread

FORBIDDEN, BAD_REQUEST = 403, 400
REFUSED = "RT"
"""Letters after P in a termination state: a rule refused the request or delayed it (tarpit)."""
BEFORE_DATA = "RQCHPT"
"""Second letters of a termination state: the session ended before the response began."""
NO_FAULT = "-LDKU"
"""First letters of a termination state: the session ended normally, or after the request was handled."""
UNKNOWN_CLIENTS = ("-", "unix")

_DATE = r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?:\.\d{1,6})?)\]"
_HEAD = re.compile(rf"(?:haproxy\[\d{{1,10}}\]: )?(\S{{1,80}}) {_DATE} ")
"""Client and date; the program's name may remain where a collector removed the rest of the syslog header."""
_ERROR = re.compile(r"[^\s/]+/\S+: ")
_ROUTE = r"\S+ [^\s/]+/\S+ "
_HOST = r"(?:[^\s/\"{}]+ )?"
"""The requested host, which some formats have between server and timers."""
_HTTP = re.compile(
    rf"{_ROUTE}{_HOST}-?\d+/-?\d+/-?\d+/-?\d+/\+?(-?\d+) +(-?\d{{1,4}}) \+?(\d+) \S+ \S+ (\S\S)\S\S "
    r"\+?\d+/\d+/\d+/\d+/\+?\d+ \d+/\d+ "
)
_TCP = re.compile(rf"{_ROUTE}-?\d+/-?\d+/\+?(-?\d+) \+?\d+ \S\S \d+/\d+/\d+/\d+/\+?\d+ \d+/\d+")
_DEFAULT = re.compile(r"Connect from (\S{1,80}) to \S{1,80} \(")
_SERVICE = re.compile(r"(?:Proxy|Server|backend|Health check|\[(?:WARNING|ALERT|NOTICE)\]) ?")


@uncarried_first
def parse(line: Carried) -> Parsed:
    """Read one line."""
    text = line.text
    head = _HEAD.match(text)
    if head is None:
        return _of_the_service(line)
    date, started = head[2], clf_time(head[2])
    client, client_port = _client(head[1])
    if _ERROR.match(text, head.end()) is not None:
        return Ignored(client, started, "error")
    http = _HTTP.match(text, head.end())
    if http is None:
        tcp = _TCP.match(text, head.end())
        if tcp is None:
            raise Unread(Reason.MALFORMED, f"neither an HTTP nor a TCP line behind {date}")
        return Ignored(client, later(started, millis(tcp[1])), "tcp")
    at = later(started, millis(http[1]))
    return _http(line, http, client, client_port, at, started)


def _client(text: str) -> tuple[str, int]:
    return ("", 0) if text.partition(":")[0] in UNKNOWN_CLIENTS else endpoint(text, "client")


def _http(line: Carried, http: re.Match[str], client: str, client_port: int, at: Micros, started: Micros) -> Parsed:
    # Captured headers precede the request; a quote inside them is written as #22, so the first quote begins the request.
    _, opened, rest = line.text[http.end() :].partition('"')
    request, closed, _ = rest.partition('"')
    method, _, rest = request.partition(" ")
    target, cut_here, version = rest.partition(" ")
    if not closed and target.startswith("/"):
        return Ignored(client, at, "not_proxied")
    if not opened or not closed:
        # A host name that was cut off is another name.
        raise Unread(Reason.INCOMPLETE, "the request is cut off or missing")
    if request == "<BADREQ>" or not target:
        return Ignored(client, at, "no_request")
    if not client:
        return Ignored("", at, "no_client")
    # HTTP/2 has a separate authority; HAProxy writes it as if the target were absolute.
    if method != "CONNECT" and (not target.startswith("http://") or not cut_here or not version.startswith("HTTP/1")):
        return Ignored(client, at, "not_proxied")
    answer = status(http[2])
    return logged(
        "haproxy",
        line.host,
        line.text.encode(),
        client,
        at,
        started,
        method,
        target,
        answer,
        decide(http[4], answer),
        client_port=client_port,
        received=count(http[3], "bytes"),
    )


def decide(ended: str, answer: int | None) -> ProxyDecision:
    """Return the decision by the first two letters of the termination state: the cause of the end, and the session's phase."""
    cause, where = ended[0], ended[1]
    if (cause == "P" and where in REFUSED and answer != BAD_REQUEST) or (cause == "L" and answer == FORBIDDEN):
        return ProxyDecision.DENIED
    if answer is None or (cause not in NO_FAULT and where in BEFORE_DATA):
        return ProxyDecision.FAILED
    return ProxyDecision.SERVED


def _of_the_service(line: Carried) -> Parsed:
    """Parse a line about HAProxy itself, or in the old format without a request."""
    found = _DEFAULT.match(line.text)
    if found is not None:
        return Ignored(endpoint(found[1], "client")[0], line.at, "connect")
    if _SERVICE.match(line.text):
        return Ignored("", line.at, "service")
    raise Unread(Reason.MALFORMED, "no client, date and frontend")


def device_of(raw: bytes) -> str:
    """Return the client's address."""
    head = _HEAD.match(carried(raw).text)
    if head is None:
        return device_in(parse(raw))
    try:
        return _client(head[1])[0]
    except ValueError:
        return ""


def claims(raw: bytes) -> bool:
    """Return whether a line has client, date with decimals, frontend and timers, or has HAProxy's syslog tag."""
    line = carried_again(raw)
    text = line.text
    head = _HEAD.match(text)
    if head is not None:
        return any(form.match(text, head.end()) for form in (_HTTP, _TCP, _ERROR))
    return line.tag == "haproxy" and bool(_DEFAULT.match(text) or _SERVICE.match(text))


DIALECT = proxy_dialect(
    "haproxy",
    parse,
    claims,
    title="HAProxy's log (HTTP, TCP, default)",
    gives="CONNECT and absolute requests with the client's port, verdict and bytes; of TCP and a web server's requests nothing.",
    device_of=device_of,
)
