"""Tinyproxy's log, from a file or syslog, such as `CONNECT   Nov 24 19:07:24.847 [11485]: Connect (file descriptor 6).

192.0.2.7`.

A request has several lines, which share only the number of a file descriptor that is soon reused. The reader of the file joins
them (`tinyproxy_requests.py`): the line with the outcome is published together with the lines that name client and target, and
with the times of request and end, because the lines' own times have neither year nor zone. A single line names no request and no
device.
"""

from __future__ import annotations

import re

from schemas.clock import parse_micros
from schemas.events import Ignored, Micros, Parsed, Reason, Reject
from schemas.parsers.common.carriers import Carried, carried_again
from schemas.parsers.common.proxy_log import device_in, logged, proxy_dialect, uncarried_first
from schemas.parsers.common.rejects import FAULTS, Unread, reject_of
from schemas.parsers.proxies.tinyproxy_lines import CONNECT, LINE, REQUEST, decision_of, peer, read_line, request
from schemas.parsers.proxies.tinyproxy_requests import JOINED, Requests

_KINDS = (
    ("Connect (file descriptor ", "connect"),
    ("Request (file descriptor ", "request"),
    ("Established connection to ", "established"),
    ("Closed connection between ", "closed"),
    ("opensock: ", "opensock"),
    ("No upstream proxy for ", "no_upstream"),
    ("Found upstream proxy ", "upstream"),
    ("Not sending client headers ", "no_headers"),
    ("Proxying refused on ", "refused"),
    ("Unauthorized connection from ", "refused"),
)
"""Beginnings of messages, and the kind under which each is counted; all other messages are `other`."""
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
_WHOLE = re.compile(rb"(%b) (%b)\x1e[^\x1e]*\x1e[^\x1e]*\x1e[^\x1e]*" % (_TIME, _TIME))
"""A request with its lines."""


def parse(raw: bytes) -> Parsed:
    """Parse a joined request or a single line."""
    found = _WHOLE.fullmatch(raw)
    if found is None:
        return _read(raw)
    try:
        return _request(raw, parse_micros(found[1].decode()), parse_micros(found[2].decode()))
    except FAULTS as error:
        return reject_of(error, raw)


def _request(raw: bytes, started: Micros, at: Micros) -> Parsed:
    connect, asked, end = (read_line(line) for line in raw.split(JOINED)[1:])
    connected, requested = CONNECT.fullmatch(connect.message), REQUEST.fullmatch(asked.message)
    decision = decision_of(end.message)
    if connected is None or requested is None or decision is None:
        raise Unread(Reason.MALFORMED, "the lines are not Connect, Request and what became of it")
    if not connect.process == asked.process == end.process or connected[1] != requested[1]:
        raise Unread(Reason.BAD_VALUE, "the lines are not of one process and descriptor")
    client, wanted = peer(connected[2]), request(requested[2])
    if client is None or wanted is None:
        raise Unread(Reason.INCOMPLETE, "no client's address, or no request")
    return logged(
        "tinyproxy",
        asked.host,
        raw,
        client.address,
        at,
        started,
        wanted.method,
        wanted.target,
        None,
        decision,
        proxy_ip=client.proxy,
    )


@uncarried_first
def _read(line: Carried) -> Parsed:
    found = LINE.fullmatch(line.text)
    message = found[3] if found is not None else line.text
    for beginning, kind in _KINDS:
        if message.startswith(beginning):
            return Ignored("", line.at, kind)
    if found is None:
        raise Unread(Reason.MALFORMED, "neither level and time nor a message that is known")
    return Ignored("", line.at, "other")


def device_of(raw: bytes) -> str:
    """Return the client's address of a joined request; "" for a single line."""
    return device_in(parse(raw)) if JOINED in raw else ""


def claims(raw: bytes) -> bool:
    """Return whether a line has level, time without year, and process in brackets; or is a syslog message of a request.

    Or is joined.
    """
    text = carried_again(raw).text
    return (
        LINE.fullmatch(text) is not None
        or (
            "file descriptor" in text[:80] and text.startswith(("Connect (", "Request (", "Established connection to "))
        )
        or (_WHOLE.fullmatch(raw) is not None and not isinstance(parse(raw), Reject))
    )


DIALECT = proxy_dialect(
    "tinyproxy",
    parse,
    claims,
    title="Tinyproxy's log, with the lines of a request joined when they are published",
    gives="Requests with what became of them; no client port, no address gone to, no bytes. Nothing of lines by themselves.",
    framing=Requests,
    device_of=device_of,
)
