"""Tinyproxy's log, by file or syslog: `CONNECT   Nov 24 19:07:24.847 [11485]: Connect (file descriptor 6): 198.51.100.11`.

Several lines tell of one request, joined by nothing but the number of a file descriptor that is soon used again: the client's
address is on one, what it asked for on the next, what became of it on others. No line alone tells who asked for what, so each is
read and holds nothing. None is about a device: lines that belong together stay together under the key of their file. The time has
neither year nor zone, so it is not told either.
"""

from __future__ import annotations

import re

from schemas.carried import Carried, carried
from schemas.events import Dialect, Ignored, Micros, Parsed, Reason
from schemas.proxy_log import Unread, guarded, time_in

_LINE = re.compile(
    r"(?:(?:CONNECT|CRITICAL|ERROR|WARNING|NOTICE|INFO|DEBUG[0-9]?|UNKNOWN) +"
    r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \[\d{1,10}\]: )(.*)",
    re.DOTALL,
)
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
"""How a message begins, and the kind it is counted as; all others are `other`."""


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    return guarded(raw, _read)


def _read(line: Carried) -> Parsed:
    found = _LINE.fullmatch(line.text)
    message = found[1] if found is not None else line.text
    for beginning, kind in _KINDS:
        if message.startswith(beginning):
            return Ignored("", line.at, kind)
    if found is None:
        raise Unread(Reason.MALFORMED, "neither level and time nor a message that is known")
    return Ignored("", line.at, "other")


def written_at(raw: bytes) -> Micros:
    """A carrier's time; tinyproxy's own has no year."""
    return time_in(parse(raw))


def device_of(raw: bytes) -> str:  # noqa: ARG001  # every dialect's takes the line
    """None: not even the client's, or lines of one request would be parted."""
    return ""


def claims(raw: bytes) -> bool:
    """Level, time without year, process in brackets; in syslog the messages of a request."""
    text = carried(raw).text
    return _LINE.fullmatch(text) is not None or (
        "file descriptor" in text[:80] and text.startswith(("Connect (", "Request (", "Established connection to "))
    )


DIALECT = Dialect(
    "tinyproxy",
    parse,
    written_at,
    device_of,
    title="Tinyproxy's log",
    gives="Nothing yet: no line alone tells who asked for what; each is read and counted by kind.",
    claims=claims,
)
