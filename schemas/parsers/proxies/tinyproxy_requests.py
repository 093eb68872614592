"""The lines of one request of tinyproxy's, joined.

Up to 1.10 each connection is handled by a process of its own, from 1.11 on by threads of one (tinyproxy's src/child.c). Lines
are joined by process and descriptor, and the kernel gives a descriptor to the next connection as soon as it is closed. Whatever
ends a connection that has asked for nothing is logged. So a request is that of the `Connect` of its descriptor which still waits,
if that is the only one: where a line is missing, or another machine's stand between, there is none or there are two.

    Closed connection … (fd:6) … (fd:7)     it was served: by `Established`, 7 is a connection to the host that 6 asked for
    Established connection to host …        the same, where the level is `Connect` and so no `Closed` is to come
    Proxying refused …, opensock: Could not …, Refused CONNECT …, Failed auth attempt …     it was not

All but the first name no descriptor of the client's: they are used if exactly one request can be meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.clock import MICROS, iso_micros
from schemas.dialect import Dates, Framing
from schemas.events import Micros
from schemas.parsers.common.proxy_log import destination, host_of, maybe_address
from schemas.parsers.proxies.tinyproxy_lines import (
    BAD,
    CLOSED,
    CONNECT,
    DETAIL,
    ESTABLISHED,
    FAILED_LOGIN,
    FILTERED,
    LEFT,
    LOOP,
    REFUSED_PORT,
    REQUEST,
    RESTART,
    UNAUTHORIZED,
    UNREACHED,
    peer,
    read_line,
    request,
)

JOINED = b"\x1e"
"""Separator of the lines of a joined request: ASCII's record separator. A line that contains it is not joined."""
REACH_BYTES = 16 * 1024 * 1024
"""Number of bytes before the offset of resumption that are read again. A request that began earlier is not joined."""
LINE_BYTES_MAX = 4_096
"""Number of bytes of a line that are parsed; tinyproxy itself cuts at 800."""
DESCRIPTORS_MAX = 4_096
"""Maximum number of descriptors stored per file; beyond it the oldest is removed."""
KEPT_BYTES_MAX = 8 * 1024 * 1024
"""Maximum size of the lines stored per file; beyond it the oldest are removed."""
PROCESSES_MAX = 1_024
WAITING_MAX = 64
"""Maximum number of connections that one descriptor may refer to; with two or more none is certain."""
WAIT: Micros = 600 * MICROS
"""Tinyproxy's default `Timeout`: it closes a connection without a request after this time."""
TORN: Micros = 2 * MICROS
"""Up to version 1.10 a line is written in three pieces. After a mixed line nothing is joined for this time."""
_ANYWHERE = "*"
"""Stands for an unknown host, of a request that goes to another proxy; no host has this name."""
_NOWHERE = "-"
"""Stands for the host of a request that names none."""

_Process = tuple[str, str]
_Key = tuple[str, str, str]


class _Waiting(NamedTuple):
    """A client's connection without a request so far."""

    at: Micros
    client: str
    line: bytes
    """The `Connect` line; b"" if it names no client."""


@dataclass(slots=True)
class _Asked:
    """A request whose outcome is not known yet."""

    started: Micros
    connect: bytes
    """The `Connect` line; b"" if it is uncertain."""
    line: bytes
    method: str
    target: str
    host: str
    port: int


@dataclass(slots=True)
class _Descriptor:
    waiting: list[_Waiting] = field(default_factory=list)
    asked: _Asked | None = None
    connected_by: str = ""
    """Descriptor of the connection that the proxy made for the request; "" if unknown."""
    kept_bytes: int = 0
    sought_as: str = ""
    """The host under which the request is stored in the index of hosts."""

    def weigh(self) -> int:
        """Return the size of the stored lines in bytes."""
        lines = sum(len(one.line) for one in self.waiting)
        return lines + (len(self.asked.connect) + len(self.asked.line) if self.asked is not None else 0)


class Requests(Framing):
    """The converter of one file.

    Lines are passed on unchanged; the line with the outcome of a request is replaced by the joined request.
    """

    reach = REACH_BYTES
    near = b"descriptor"

    def __init__(self, dates: Dates) -> None:
        self._dates = dates
        self._open: dict[_Key, _Descriptor] = {}
        self._sought: dict[_Key, dict[_Key, None]] = {}
        """Descriptors by requested host, for requests without a known connection to it."""
        self._servers: dict[_Key, str] = {}
        self._detailed: dict[_Process, None] = {}
        self._torn_at: Micros = -TORN
        self._latest: Micros = 0
        self.kept_bytes = 0

    def take(self, line: bytes, start: int) -> list[bytes]:
        """Return the line, or the joined request that ends with it."""
        del start
        return [self._read(line) or line]

    def _read(self, line: bytes) -> bytes | None:
        log_line = read_line(line[:LINE_BYTES_MAX])
        if log_line.is_torn:
            self._forget()
            self._torn_at = log_line.at or self._dates(log_line.stamp) or self._latest
            return None
        meant = _meaning(log_line.message)
        if meant is None or not log_line.pid:
            return None
        at = log_line.at or self._dates(log_line.stamp)
        if abs(at - self._torn_at) < TORN:
            return None
        found, handle = meant
        # A line without a certain time, a line that is too long, and a line with the separator change the state but are not
        # joined.
        is_usable = at and len(line) <= LINE_BYTES_MAX and JOINED not in line
        self._latest = at or self._latest
        return handle(self, log_line.process, self._latest, found, line if is_usable else b"")

    def _connected(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        one = self._at(process, found[1])
        known = peer(found[2])
        one.asked, one.connected_by = None, ""
        one.waiting = _still(one.waiting, at)[: WAITING_MAX - 1]
        one.waiting.append(_Waiting(at, known.address if known else "", line if known else b""))
        self._keep(process, found[1], one)

    def _requested(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        one = self._at(process, found[1])
        waiting = _still(one.waiting, at)
        asked = request(found[2])
        method, target = asked or ("", "")
        host, port = destination(method, target, 443)
        connect = waiting[0].line if len(waiting) == 1 else b""
        one.connected_by = ""
        one.asked = _Asked(at, connect, line if host else b"", method, target, host, port)
        one.waiting = _one_less(waiting)
        self._keep(process, found[1], one)

    def _left(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        del line
        one = self._at(process, found[1])
        one.waiting = _one_less(_still(one.waiting, at))
        self._keep(process, found[1], one)

    def _not_let_in(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        """Handle a refused client: close its connection; of several it is unknown which."""
        del line
        client = maybe_address(found[2] or found[1])
        theirs = [(key, one) for key, one in self._of(process) if any(waits.client == client for waits in one.waiting)]
        if len(theirs) == 1 and client:
            key, one = theirs[0]
            one.waiting = _one_less(_still(one.waiting, at))
            self._keep(process, key[2], one)

    def _no_request(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        del at, line
        one = self._at(process, found[1])
        one.asked = None
        self._keep(process, found[1], one)

    def _established(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> bytes | None:
        host = host_of(found[2]) if found[1] == "host" else _ANYWHERE
        self._servers.pop((*process, found[3]), None)
        self._servers[(*process, found[3])] = host
        while len(self._servers) > DESCRIPTORS_MAX:
            del self._servers[next(iter(self._servers))]
        self._is_none_of_a_clients(process, found[3])
        if process not in self._detailed:
            asked = list(self._sought.get((*process, host), ())) if host != _ANYWHERE else self._asked(process)
            return self._finished(asked, at, line)
        asked = list(self._sought.get((*process, host), ()))
        if len(asked) == 1:
            self._open[asked[0]].connected_by = found[3]
            self._keep(process, asked[0][2], self._open[asked[0]])
        return None

    def _closed(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> bytes | None:
        self._is_detailed(process)
        key = (*process, found[1])
        self._doubt(key)
        self._is_none_of_a_clients(process, found[2])
        one = self._open.get(key)
        host = self._servers.pop((*process, found[2]), "")
        if one is None or one.asked is None:
            return None
        if not host or host not in (one.asked.host, _ANYWHERE) or one.connected_by not in ("", found[2]):
            one.asked = None
            self._keep(process, found[1], one)
            return None
        return self._finished([key], at, line)

    def _failed_login(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> bytes | None:
        key = (*process, found[1])
        return self._finished([key] if key in self._open else [], at, line)

    def _filtered(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> bytes | None:
        name = found[2]
        if found[1] == "domain":
            return self._finished(list(self._sought.get((*process, host_of(name)), ())), at, line)
        return self._finished(self._asked(process, lambda one: one.target == name), at, line)

    def _refused_port(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> bytes | None:
        port = int(found[1])
        return self._finished(self._asked(process, lambda one: one.method == "CONNECT" and one.port == port), at, line)

    def _unreached(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> bytes | None:
        host, port = host_of(found[1]), int(found[2] or 0)
        sought = self._sought.get((*process, host), ())
        asked = [key for key in sought if (one := self._open[key].asked) is not None and port in (0, one.port)]
        return self._finished(asked, at, line)

    def _restarted(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        """Handle a restart: earlier requests are over, and the log level may have changed."""
        del at, found, line
        for key, one in list(self._of(process)):
            one.asked = None
            self._keep(process, key[2], one)
        for key in [key for key in self._servers if key[:2] == process]:
            del self._servers[key]
        self._detailed.pop(process, None)

    def _noted(self, process: _Process, at: Micros, found: re.Match[str], line: bytes) -> None:
        del at, found, line
        self._is_detailed(process)

    def _is_detailed(self, process: _Process) -> None:
        """Record that the log level is `Info`, at which the end of a connection is logged."""
        self._detailed.pop(process, None)
        self._detailed[process] = None
        while len(self._detailed) > PROCESSES_MAX:
            del self._detailed[next(iter(self._detailed))]

    def _finished(self, keys: list[_Key], at: Micros, line: bytes) -> bytes | None:
        """Return the joined request that this line ends; None unless exactly one request fits and all of its lines are known."""
        if len(keys) != 1:
            return None
        one = self._open[keys[0]]
        asked, one.asked = one.asked, None
        self._keep(keys[0][:2], keys[0][2], one)
        if asked is None or not asked.connect or not asked.line or not line:
            return None
        times = f"{iso_micros(min(asked.started, at))} {iso_micros(at)}".encode()
        return JOINED.join([times, asked.connect, asked.line, line])

    def _asked(self, process: _Process, is_meant: Callable[[_Asked], bool] = lambda _: True) -> list[_Key]:
        """Return the requests without a known connection to their host."""
        return [
            key for key, one in self._of(process) if one.sought_as and one.asked is not None and is_meant(one.asked)
        ]

    def _is_none_of_a_clients(self, process: _Process, descriptor: str) -> None:
        """Record that the descriptor belongs to a connection to a host; a client's connection under it is over."""
        key = (*process, descriptor)
        self._doubt(key)
        if key in self._open:
            self._open[key].asked = None
            self._keep(process, descriptor, self._open[key])

    def _doubt(self, key: _Key) -> None:
        """Mark the connection of a descriptor as uncertain: a line is missing, or lines of another machine are mixed in."""
        if key in self._open:
            one = self._open[key]
            one.waiting = [_Waiting(waits.at, "", b"") for waits in one.waiting]

    def _of(self, process: _Process) -> Iterator[tuple[_Key, _Descriptor]]:
        return ((key, one) for key, one in self._open.items() if key[:2] == process)

    def _at(self, process: _Process, descriptor: str) -> _Descriptor:
        return self._open.get((*process, descriptor)) or _Descriptor()

    def _keep(self, process: _Process, descriptor: str, one: _Descriptor) -> None:
        """Store a descriptor as the latest one; remove the oldest beyond the bounds."""
        key = (*process, descriptor)
        self._drop(key)
        if one.asked is None and not one.waiting:
            return
        self._open[key] = one
        one.kept_bytes = one.weigh()
        self.kept_bytes += one.kept_bytes
        if one.asked is not None and not one.connected_by:
            one.sought_as = one.asked.host or _NOWHERE
            self._sought.setdefault((*process, one.sought_as), {})[key] = None
        while len(self._open) > DESCRIPTORS_MAX or self.kept_bytes > KEPT_BYTES_MAX:
            self._drop(next(iter(self._open)))

    def _drop(self, key: _Key) -> None:
        one = self._open.pop(key, None)
        if one is None:
            return
        self.kept_bytes -= one.kept_bytes
        if one.sought_as:
            place = (key[0], key[1], one.sought_as)
            del self._sought[place][key]
            if not self._sought[place]:
                del self._sought[place]
            one.sought_as = ""

    def _forget(self) -> None:
        self._open.clear()
        self._sought.clear()
        self._servers.clear()
        self.kept_bytes = 0


def _still(waiting: list[_Waiting], at: Micros) -> list[_Waiting]:
    """Return the connections that may still send a request."""
    return [one for one in waiting if at - one.at < WAIT]


def _one_less(waiting: list[_Waiting]) -> list[_Waiting]:
    """Remove one connection; of several it is unknown which."""
    return [_Waiting(one.at, "", b"") for one in waiting[:-1]]


def _meaning(message: str) -> tuple[re.Match[str], _Handle] | None:
    """Return the match of a message that is used, and its handler; None for any other message."""
    for pattern, handle in _HANDLERS.get(message.partition(" ")[0], ()):
        found = pattern.fullmatch(message)
        if found is not None:
            return found, handle
    return None


_Handle = Callable[[Requests, _Process, Micros, re.Match[str], bytes], bytes | None]
_HANDLERS: dict[str, tuple[tuple[re.Pattern[str], _Handle], ...]] = {
    "Connect": ((CONNECT, Requests._connected),),
    "Request": ((REQUEST, Requests._requested),),
    "Established": ((ESTABLISHED, Requests._established),),
    "Closed": ((CLOSED, Requests._closed),),
    "read_request_line:": ((LEFT, Requests._left),),
    "Prevented": ((LOOP, Requests._left),),
    "Unauthorized": ((UNAUTHORIZED, Requests._not_let_in),),
    "process_request:": ((BAD, Requests._no_request),),
    "Failed": ((FAILED_LOGIN, Requests._failed_login),),
    "Proxying": ((FILTERED, Requests._filtered),),
    "Refused": ((REFUSED_PORT, Requests._refused_port),),
    "opensock:": ((UNREACHED, Requests._unreached), (DETAIL, Requests._noted)),
    "No": ((DETAIL, Requests._noted),),
    "Found": ((DETAIL, Requests._noted),),
    **dict.fromkeys(("Initializing", "Starting", "Shutting", "Reloading"), ((RESTART, Requests._restarted),)),
}
"""Patterns and handlers of messages, by the first word of the message."""
