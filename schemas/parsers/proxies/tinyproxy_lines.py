"""Tinyproxy's log, line by line (tinyproxy's src/reqs.c, acl.c, sock.c, log.c, 1.6 to 1.11).

    Connect (file descriptor 6): 192.0.2.7                              who it is; up to 1.10 `name [192.0.2.7]`
    Request (file descriptor 6): CONNECT a.example:443 HTTP/1.1         what is asked for, once on each connection
    Established connection to host "a.example" using file descriptor 7.
    Closed connection between local client (fd:6) and remote client (fd:7)      at level `Info`, not at `Connect`

In its own file `CONNECT   Nov 24 19:07:24.847 [11485]: ` stands before each; up to 1.10 without milliseconds.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from schemas.events import Micros, ProxyDecision
from schemas.parsers.common.carriers import carried
from schemas.parsers.common.proxy_log import maybe_address

_STAMP = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})?"
LINE = re.compile(
    rf"(?:CONNECT|CRITICAL|ERROR|WARNING|NOTICE|INFO|DEBUG[0-9]?|UNKNOWN) +({_STAMP}) \[(\d{{1,10}})\]: (.*)", re.DOTALL
)
"""A line of the log file: time, process, message."""
_OLD_HEADER = re.compile(rf"(?:<\d{{1,3}}>)? ?(?:({_STAMP}) )?.*?\[(\d{{1,10}})\]: ?", re.DOTALL)
_NEW_HEADER = re.compile(r"<\d{1,3}>\d{1,2} \S+ \S+ \S+ (\d{1,10}) ")
_PEER = re.compile(r"(?:([\w.:%]+)|\S* \[([\w.:%]+)\])(?: at \[([\w.:%]+)\])?")
_ASKED = re.compile(r"(\S+) (\S+) HTTP/\d{1,3}\.\d{1,3}")
_CUT = re.compile(r"(\S+) (http://[^/?#\s]+/\S*)(?: \S{0,7})?", re.IGNORECASE)
"""A request that was cut off after its host."""
CUT_CHARS = 700


class LogLine(NamedTuple):
    """A line without the prefix of its message."""

    program: str
    """The machine and the program from the carrier; "" if it names none."""
    host: str
    """The machine from the carrier."""
    pid: str
    """The process ID; "" if unknown."""
    at: Micros
    """The carrier's time; 0 if it has none, or none with a year."""
    stamp: str
    """The line's time without year and zone; "" if it has none."""
    message: str
    is_torn: bool
    """Whether the line is a mixture of two lines."""

    @property
    def process(self) -> tuple[str, str]:
        """Machine or program, and PID, of the process that wrote the line."""
        return self.program, self.pid


class Peer(NamedTuple):
    """The client's address, and the address of the proxy to which it connected ("" if unknown)."""

    address: str
    proxy: str


class Request(NamedTuple):
    """A request: method and target."""

    method: str
    target: str


def read_line(raw: bytes) -> LogLine:
    """Split a line into its parts. Never raises."""
    line = carried(raw)
    program = f"{line.host} {line.tag}"
    at = 0 if raw[:1] == b"{" else line.at  # a shipper's own time is the time of reading
    found = LINE.fullmatch(line.text)
    if found is not None:
        stamp, pid, message = found.groups()
        return LogLine(program, line.host, pid, at, stamp, message, LINE.fullmatch(message) is not None)
    whole = raw.decode("utf-8", "replace").rstrip("\r\n")
    header = whole[: len(whole) - len(line.text)] if line.tag and whole.endswith(line.text) else ""
    new, old = _NEW_HEADER.match(header), _OLD_HEADER.fullmatch(header)
    if new is not None:
        return LogLine(program, line.host, new[1], at, "", line.text, False)
    stamp, pid = old.groups("") if old is not None else ("", "")
    return LogLine(program, line.host, pid, at, stamp, line.text, False)


def peer(text: str) -> Peer | None:
    """Parse the text after `Connect (file descriptor 6): `; None if it has no address."""
    found = _PEER.fullmatch(text)
    client = maybe_address(found[1] or found[2]) if found is not None else ""
    return Peer(client, maybe_address(found[3] or "")) if found is not None and client else None


def request(text: str) -> Request | None:
    """Parse the text after `Request (file descriptor 6): `; None if it may have been cut off."""
    found = _ASKED.fullmatch(text) or (_CUT.fullmatch(text) if len(text) >= CUT_CHARS else None)
    return Request(found[1], found[2]) if found is not None else None


CONNECT = re.compile(r"Connect \(file descriptor (\d{1,9})\): (.*)", re.DOTALL)
REQUEST = re.compile(r"Request \(file descriptor (\d{1,9})\): (.*)", re.DOTALL)
ESTABLISHED = re.compile(
    r'Established connection to (host|\w+ proxy) "(.*)" using file descriptor (\d{1,9})\.', re.DOTALL
)
CLOSED = re.compile(r"Closed connection between local client \(fd:(\d{1,9})\) and remote client \(fd:(\d{1,9})\)")
LEFT = re.compile(r"read_request_line: Client \(file descriptor: (\d{1,9})\) closed socket before read\.")
LOOP = re.compile(r"Prevented endless loop \(file descriptor (\d{1,9})\): .*")
UNAUTHORIZED = re.compile(r'Unauthorized connection from "?([^"\s]*)"?(?: \[([^\]\s]*)\])?\.?')
BAD = re.compile(r"process_request: \D* on file descriptor (\d{1,9})")
FAILED_LOGIN = re.compile(r"Failed auth attempt \(file descriptor: (\d{1,9})\), .*")
FILTERED = re.compile(r'Proxying refused on filtered (domain|url) "(.*)"', re.DOTALL)
REFUSED_PORT = re.compile(r"Refused CONNECT method on port (\d{1,5})")
UNREACHED = re.compile(
    r"opensock: Could not (?:retrieve (?:address )?info for|establish a connection to) (\S+?)(?::(\d{1,5}))?(?:: .*)?"
)
RESTART = re.compile(r"(?:Initializing |Starting main loop|Shutting down|Reloading config).*")
DETAIL = re.compile(
    r"(?:No (?:upstream )?proxy for |Found upstream proxy |opensock: (?:opening|getaddrinfo) ).*", re.DOTALL
)

DECISIONS = (
    (CLOSED, ProxyDecision.SERVED),
    (ESTABLISHED, ProxyDecision.SERVED),
    (FILTERED, ProxyDecision.DENIED),
    (REFUSED_PORT, ProxyDecision.DENIED),
    (FAILED_LOGIN, ProxyDecision.DENIED),
    (UNREACHED, ProxyDecision.FAILED),
)
"""Decision on a request by the message about its outcome."""


def decision_of(message: str) -> ProxyDecision | None:
    """Return the decision by a message about a request's end; None for any other message."""
    return next((decision for pattern, decision in DECISIONS if pattern.fullmatch(message) is not None), None)
