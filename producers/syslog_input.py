"""Takes syslog over TCP (RFC 6587) and UDP (RFC 5426); headers stay on the lines, dialects take them off.

TCP    each message is counted (`83 <134>1 …`) or ends with a newline, told message by message. Nothing acknowledges: who sends
       too fast is slowed, as we do not read. What we read is published before a graceful stop ends; what a crash can lose is
       what was read and not published, and what was in the system's buffers.
UDP    a datagram is a message. What finds no room is dropped by the system, and counted where it tells (Linux).
"""

from __future__ import annotations

import logging
import selectors
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from producers.endpoint import Endpoint
from producers.inputs import Outcome
from producers.lines import Lines
from producers.listening import bound, here
from producers.source import Line, Source, SourceFile
from producers.syslog_frames import Frames
from schemas.address import canonical_ip
from schemas.settings import InputSettings

log = logging.getLogger(__name__)

READ_BYTES_MAX = 64 * 1024
"""Read from one connection before the others have their turn."""
DATAGRAMS_MAX = 1_000
"""Read before waiting lines are looked at."""
CLIENTS_MAX = 1_000
"""Addresses that send datagrams whose lines are remembered as one file."""
HELD_SECS_MAX = 1.0
"""Of a client that sent nothing for this long no line is held back for others that may belong to it."""
UDP_BUFFER_BYTES = 16 * 1024 * 1024
"""Asked of the system for datagrams that wait; it may give less (net.core.rmem_max)."""
_SO_RXQ_OVFL = 40
"""Linux tells with each datagram how many found no room since the socket was opened (socket(7))."""


class SyslogTcpInput:
    """One address that takes connections. Raises SourceError when it cannot be listened on."""

    def __init__(
        self,
        source: Source,
        endpoint: Endpoint,
        settings: InputSettings,
        counts: Counter[str],
        *,
        line_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._source, self._endpoint, self._line_bytes_max = source, endpoint, line_bytes_max
        self._connections_max, self._idle_secs_max = settings.syslog_connections_max, settings.syslog_idle_secs_max
        self._counts, self._clock = counts, clock
        self._selector = selectors.DefaultSelector()
        self._listener = bound(endpoint, _listener)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._connections: dict[int, _Connection] = {}
        self._stopped = False
        log.info("listening", extra={"source": str(endpoint)})

    def lines(self) -> Iterator[Line | None]:
        """Lines of all connections, each one's in its order."""
        while not self._stopped:
            ready = self._selector.select(0)
            for key, _ in ready:
                if self._stopped:
                    break
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                connection = self._connections.get(key.fd)
                if connection is not None:
                    yield from self._read(connection)
            now = self._clock()
            for connection in list(self._connections.values()):
                if now - connection.heard_at >= HELD_SECS_MAX:
                    yield from connection.lines.let_go()
                if now - connection.heard_at >= self._idle_secs_max:
                    yield from self._end(connection)
            if not ready:
                yield None
        for connection in list(self._connections.values()):
            yield from self._end(connection)
        while True:
            yield None

    def stop(self) -> None:
        """Read nothing more; what was read is still given."""
        self._stopped = True

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Nobody is told: the protocol has no acknowledgement."""

    def close(self) -> None:
        """Take nothing more."""
        for connection in self._connections.values():
            connection.stream.close()
        self._listener.close()
        self._selector.close()

    def _accept(self) -> None:
        try:
            stream, address = self._listener.accept()
        except OSError:
            return  # it went away again
        if len(self._connections) >= self._connections_max:
            self._counts[Outcome.SYSLOG_TURNED_AWAY] += 1
            stream.close()
            return
        stream.setblocking(False)
        file = _file(self._source, self._endpoint, address[0])
        lines = Lines(file, self._source.dialect, self._line_bytes_max)
        self._connections[stream.fileno()] = _Connection(stream, lines, Frames(), self._clock())
        self._selector.register(stream, selectors.EVENT_READ)

    def _read(self, connection: _Connection) -> Iterator[Line]:
        try:
            chunk = connection.stream.recv(READ_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""  # it broke: what came before it is whole or is told as cut
        if not chunk:
            yield from self._end(connection)
            return
        connection.heard_at = self._clock()
        whole = connection.frames.feed(chunk)
        self._counts[Outcome.SYSLOG_TCP] += whole.count(b"\n")
        yield from connection.lines.feed(whole)

    def _end(self, connection: _Connection) -> Iterator[Line]:
        self._selector.unregister(connection.stream)
        del self._connections[connection.stream.fileno()]
        connection.stream.close()
        if connection.frames.unfinished:
            self._counts[Outcome.SYSLOG_CUT] += 1
        yield from connection.lines.feed(connection.frames.rest())
        yield from connection.lines.finish()


class _Connection:
    """A client, and how far it is understood."""

    def __init__(self, stream: socket.socket, lines: Lines, frames: Frames, now: float) -> None:
        self.stream, self.lines, self.frames = stream, lines, frames
        self.heard_at = now


class SyslogUdpInput:
    """One address that takes datagrams. Raises SourceError when it cannot be listened on."""

    def __init__(
        self,
        source: Source,
        endpoint: Endpoint,
        settings: InputSettings,
        counts: Counter[str],
        *,
        line_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        del settings
        self._source, self._endpoint, self._line_bytes_max = source, endpoint, line_bytes_max
        self._counts, self._clock = counts, clock
        self._clients: dict[str, _Sender] = {}
        self._dropped = 0
        self._stopped = False
        self._socket = bound(endpoint, _datagrams)
        log.info("listening", extra={"source": str(endpoint)})

    def lines(self) -> Iterator[Line | None]:
        """Lines of the datagrams, in the order they came."""
        while True:
            quiet = True
            for _ in range(DATAGRAMS_MAX):
                try:
                    datagram, told, _, address = self._socket.recvmsg(65_535, socket.CMSG_SPACE(4))
                except OSError:
                    break
                quiet = False
                self._count(told)
                client = self._client(address[0])
                if len(self._clients) > CLIENTS_MAX:
                    yield from self._clients.pop(next(iter(self._clients))).lines.finish()
                client.heard_at = self._clock()
                yield from client.lines.feed(datagram.rstrip(b"\r\n\0").replace(b"\n", b" ") + b"\n")
            now = self._clock()
            for client in self._clients.values():
                if self._stopped or now - client.heard_at >= HELD_SECS_MAX:
                    yield from client.lines.let_go()
            if quiet or self._stopped:
                yield None

    def stop(self) -> None:
        """Give what waits, up to a bound, and nothing more."""
        self._stopped = True

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Nobody is told: the protocol has no acknowledgement."""

    def close(self) -> None:
        """Take nothing more."""
        self._socket.close()

    def _count(self, told: list[tuple[int, int, bytes]]) -> None:
        self._counts[Outcome.SYSLOG_UDP] += 1
        for level, kind, content in told:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                (dropped,) = struct.unpack("I", content[:4])
                self._counts[Outcome.SYSLOG_UDP_DROPPED] += (dropped - self._dropped) % 2**32
                self._dropped = dropped

    def _client(self, address: str) -> _Sender:
        client = self._clients.pop(address, None)
        if client is None:
            file = _file(self._source, self._endpoint, address)
            client = _Sender(Lines(file, self._source.dialect, self._line_bytes_max))
        self._clients[address] = client
        return client


class _Sender:
    """Who sends datagrams."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.heard_at = 0.0


def _file(source: Source, endpoint: Endpoint, address: str) -> SourceFile:
    sensor = f"{here(endpoint)}/{canonical_ip(address.partition('%')[0])}"
    return SourceFile(source.dialect.name, str(endpoint), sensor, once=True)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _listener(place: tuple[str, int]) -> socket.socket:
    return socket.create_server(place, family=_family(place[0]), backlog=128)


def _datagrams(place: tuple[str, int]) -> socket.socket:
    made = socket.socket(_family(place[0]), socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        if sys.platform == "linux":
            made.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        made.setblocking(False)
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made
