"""Read a client's bytes to a proxy: heads of requests, a client hello in a tunnel or in place of HTTP, a SOCKS request.

Pure, bounded, and safe against any bytes. Bodies are skipped. If the position within the protocol becomes unknown, bytes are
ignored until a segment begins with a whole request line or, in a tunnel, with a client hello.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from producers.sensor.http.client_hello import HANDSHAKE, HELLO_BEGINS, Hello, NotTls, hello_of
from producers.sensor.http.heads import (
    CHUNKED,
    FOUND_REQUEST,
    MAY_BEGIN,
    REQUEST_BEGINS,
    UNKNOWN,
    First,
    Request,
    Urls,
    first_of,
    foreign,
    request_of,
)
from producers.sensor.http.socks import VERSIONS, NotSocks, Socks, is_greeted, socks_of

HEAD_BYTES_MAX = 65_536
"""Maximum size of a head; Kerberos tickets take up to 48,000."""
LINE_BYTES_MAX = 16_384
CHUNK_LINE_BYTES_MAX = 1_024
CHUNK_DIGITS_MAX = 15
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CARRIAGE_RETURN = 0x0D
_ODD_END = re.compile(rb"\n(?:\n|\r[^\n])")
"""The end of a head without CR LF."""


class _State(Enum):
    FIRST = auto()
    """No byte was read yet."""
    HEAD = auto()
    TUNNEL = auto()
    """No byte was read in the tunnel yet."""
    HELLO = auto()
    SOCKS = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    LOST = auto()
    """The position within the protocol is unknown."""
    CLOSED = auto()
    """No further bytes can be read."""


_MAY_BE_TLS = frozenset({_State.FIRST, _State.TUNNEL})
_IN_CHUNKS = frozenset({_State.CHUNK, _State.CHUNK_END, _State.TRAILER})


@dataclass(slots=True)
class Faults:
    """Counts of unreadable input on all connections."""

    unreadable: int = 0
    """Heads that are ambiguous or invalid, and invalid hellos."""
    too_long: int = 0
    """Heads and lines above their maximum size."""


class Reader:
    """Parser of one client's bytes."""

    __slots__ = ("_buffer", "_faults", "_searched", "_state", "_trailer_bytes", "_urls", "beyond", "tunnel")

    def __init__(self, urls: Urls, faults: Faults, *, from_begin: bool) -> None:
        self._urls, self._faults = urls, faults
        self._state = _State.FIRST if from_begin else _State.LOST
        self._buffer = bytearray()
        self._searched = 0
        """Index in the buffer before which there is no end of a head."""
        self._trailer_bytes = 0
        self.tunnel: tuple[str, int] | None = None
        """Destination of the last CONNECT or SOCKS request, unless it was refused."""
        self.beyond = 0
        """Number of bytes after those read so far that belong to a body and need not be passed in."""

    @property
    def is_closed(self) -> bool:
        """Return whether reading has ended."""
        return self._state is _State.CLOSED

    @property
    def kept_bytes(self) -> int:
        """Return the number of stored bytes of incomplete input."""
        return len(self._buffer)

    @property
    def is_greeted(self) -> bool:
        """Return whether a complete SOCKS greeting was read whose request is still incomplete."""
        return self._state is _State.SOCKS and is_greeted(self._buffer)

    def read(self, content: bytes, *, is_begin: bool) -> list[Request | Hello | Socks]:
        """Read more bytes; return what is complete now. `is_begin` states whether a segment begins with these bytes."""
        found: list[Request | Hello | Socks] = []
        place = self.beyond = 0
        if self._state is _State.LOST and not (is_begin and self._finds_begin(content)):
            return found
        while place < len(content) and self._state not in (_State.LOST, _State.CLOSED):
            if self._state in _MAY_BE_TLS and not self._buffer and content[place] == HANDSHAKE:
                self._state = _State.HELLO
            elif self._state is _State.FIRST and not self._buffer and content[place] in VERSIONS:
                self._state = _State.SOCKS
            if self._state is _State.HELLO:
                self._read_hello(content[place:], found)
                place = len(content)
            elif self._state is _State.SOCKS:
                place = self._read_socks(content, place, found)
            elif self._state in _IN_CHUNKS:
                place = self._read_chunk_line(content, place, found)
            else:
                place = self._read_head(content, place, found)
        self.beyond = max(0, place - len(content))
        return found

    def lose(self) -> None:
        """Handle a gap before the next bytes: from now on, the position is unknown."""
        if self._state is not _State.CLOSED:
            self._go(_State.LOST)

    def cut_short(self) -> list[Request]:
        """Handle a gap: the next bytes were sent but not captured.

        If they belong to the head of a request, return a placeholder for this request.
        """
        begun = self._state in (_State.FIRST, _State.HEAD) and self._searched > 0
        found = [foreign(bytes(self._buffer[:LINE_BYTES_MAX]))] if begun else []
        self.lose()
        return found

    def begun(self) -> Request | None:
        """Stop reading an ended connection whose first request is incomplete.

        Return a placeholder for this request, without destination; None if no such request has begun.
        """
        if self._state is not _State.FIRST or not self._buffer:
            return None
        self._faults.unreadable += 1
        found = foreign(bytes(self._buffer[:LINE_BYTES_MAX]))
        self.close()
        return found

    def close(self) -> None:
        """Stop reading."""
        self._go(_State.CLOSED)

    def refuse(self) -> None:
        """Handle a refused tunnel: the next request follows, unless bytes were sent into the tunnel before."""
        if self.tunnel is not None:
            self.tunnel = None
            self._go(_State.HEAD if self._state is _State.TUNNEL and not self._buffer else _State.LOST)

    def _go(self, state: _State) -> None:
        self._state, self._searched, self._trailer_bytes = state, 0, 0
        self._buffer.clear()

    def _finds_begin(self, content: bytes) -> bool:
        if FOUND_REQUEST.match(content):
            self._go(_State.HEAD)
        elif self.tunnel is not None and HELLO_BEGINS.match(content):
            self._go(_State.HELLO)
        else:
            return False
        return True

    def _read_socks(self, content: bytes, place: int, found: list[Request | Hello | Socks]) -> int:
        """Read a SOCKS greeting and request; return the index at which to continue."""
        known = len(self._buffer)
        self._buffer += content[place:]
        try:
            asked = socks_of(self._buffer)
        except NotSocks:
            self._faults.unreadable += 1
            found.append(foreign(bytes(self._buffer[:LINE_BYTES_MAX])))
            self.close()
            return len(content)
        if asked is None:
            return len(content)
        found.append(asked)
        if not asked.host:
            self.close()
            return len(content)
        self.tunnel = asked.host, asked.port
        self._go(_State.TUNNEL)
        return place + asked.length - known

    def _read_hello(self, content: bytes, found: list[Request | Hello | Socks]) -> None:
        self._buffer += content
        try:
            hello = hello_of(self._buffer)
        except NotTls:
            self._faults.unreadable += 1
            self.close()
            return
        if hello is not None:
            self.close()
            found.append(hello)

    def _read_head(self, content: bytes, place: int, found: list[Request | Hello | Socks]) -> int:
        """Read the head of a request; return the index at which to continue."""
        buffer = self._buffer
        while not buffer and content[place : place + 1] in (b"\r", b"\n"):
            place += 1  # RFC 9112 section 2.2: empty lines before a request
        # Bytes are copied only if a head spans several segments.
        stream, begin, shift = (content, place, 0) if not buffer else (buffer, 0, place - len(buffer))
        if buffer:
            buffer += content[place:]
        if begin == len(stream):
            return len(content)
        first, line_end = (First.HEAD, -1) if self._searched else self._first_line(stream, begin)
        if first is First.FOREIGN:
            self._foreign(bytes(stream[begin : begin + LINE_BYTES_MAX]), found)
            return len(content)
        if first is First.ALONE:
            end, after = line_end, line_end + 1
        else:
            end, after = _head_end(stream, max(begin, self._searched))
        if end < 0:
            if not buffer:
                buffer += content[place:]
            self._await_end(found)
            return len(content)
        request = request_of(bytes(stream[begin:end]), self._urls)
        if not request.is_readable and self._state is _State.TUNNEL:
            # It may be another protocol, so do not treat it as unreadable; the hosts that it may name are kept in `others`.
            request = request._replace(is_readable=True)
        if not request.is_readable or (request.others and not request.host):
            self._faults.unreadable += 1
        found.append(request)
        return self._behind(request, after + shift)

    def _await_end(self, found: list[Request | Hello | Socks]) -> None:
        """Keep an incomplete head, unless it is above the maximum size."""
        # Until the request line is complete, its end is searched for from the beginning of the buffer.
        self._searched = max(0, len(self._buffer) - 3) if b"\n" in self._buffer else 0
        if len(self._buffer) > HEAD_BYTES_MAX:
            self._too_long(bytes(self._buffer[:LINE_BYTES_MAX]), found)

    def _first_line(self, stream: bytes | bytearray, begin: int) -> tuple[First, int]:
        """Return the kind of the line that begins here (HEAD while unknown), and the index of its end (-1 while incomplete)."""
        if not MAY_BEGIN.match(stream, begin):
            return First.FOREIGN, -1
        # Search for the end of the line first, so that a line that arrives byte by byte is matched only once.
        end = stream.find(b"\n", begin)
        if end >= 0 and REQUEST_BEGINS.match(stream, begin, begin + LINE_BYTES_MAX):
            return First.HEAD, end
        if (end if end >= 0 else len(stream)) - begin >= LINE_BYTES_MAX:
            return First.FOREIGN, end
        if end < 0:
            return First.HEAD, end
        return first_of(bytes(stream[begin:end]), in_tunnel=self._state is _State.TUNNEL), end

    def _foreign(self, begin: bytes, found: list[Request | Hello | Socks]) -> None:
        """Handle bytes that are not the beginning of a request. Their meaning depends on the state."""
        if len(begin) == LINE_BYTES_MAX and b"\n" not in begin and MAY_BEGIN.match(begin):
            self._too_long(begin, found)
        elif self._state is _State.TUNNEL:
            self.close()
        else:
            self._faults.unreadable += 1
            if self._state is _State.FIRST:
                found.append(foreign(begin))
                self.close()
            else:
                # Another protocol follows an upgrade, such as the frames of a WebSocket.
                self._go(_State.LOST)

    def _too_long(self, begin: bytes, found: list[Request | Hello | Socks]) -> None:
        """Handle a line or head above the maximum size, which some proxies accept."""
        self._faults.too_long += 1
        request, in_tunnel = foreign(begin), self._state is _State.TUNNEL
        if in_tunnel and not request.others:
            self.close()
            return
        found.append(request._replace(is_readable=in_tunnel))
        self._go(_State.LOST)

    def _behind(self, request: Request, place: int) -> int:
        """Skip the body; return the index at which to continue, which may be beyond the content."""
        if request.method == "CONNECT":
            self.tunnel = request.host, request.port
            self._go(_State.TUNNEL)
        elif request.body == UNKNOWN:
            self._go(_State.LOST)
        elif request.body == CHUNKED:
            self._go(_State.CHUNK)
        else:
            self._go(_State.HEAD)
            place += request.body
        return place

    def _read_chunk_line(self, content: bytes, place: int, found: list[Request | Hello | Socks]) -> int:
        """Read a line of chunked coding (RFC 9112 section 7.1); return the index at which to continue."""
        buffer = self._buffer
        end = content.find(b"\n", place)
        line = bytes(buffer) + content[place : end if end >= 0 else len(content)]
        is_trailer = self._state is _State.TRAILER
        if len(line) > CHUNK_LINE_BYTES_MAX or (is_trailer and self._trailer_bytes > HEAD_BYTES_MAX):
            self._too_long(b"", found)
            return len(content)
        if end < 0:
            buffer += content[place:]
            return len(content)
        buffer.clear()
        line = line.removesuffix(b"\r")
        if is_trailer:
            self._trailer_bytes += end + 1 - place
            if not line:
                self._go(_State.HEAD)
        elif self._state is _State.CHUNK_END and not line:
            self._go(_State.CHUNK)
        elif self._state is _State.CHUNK:
            return self._read_size(line, end + 1, found)
        else:
            self._no_chunk(found)
        return end + 1

    def _read_size(self, line: bytes, place: int, found: list[Request | Hello | Socks]) -> int:
        digits = line.partition(b";")[0].strip()
        if not 0 < len(digits) <= CHUNK_DIGITS_MAX or not _HEX.issuperset(digits):
            self._no_chunk(found)
            return place
        size = int(digits, 16)
        self._go(_State.CHUNK_END if size else _State.TRAILER)
        return place + size

    def _no_chunk(self, found: list[Request | Hello | Socks]) -> None:
        """Handle an invalid chunk. The end of the body is unknown, and so is the beginning of the next request."""
        self._faults.unreadable += 1
        found.append(foreign(b""))
        self._go(_State.LOST)


def _head_end(stream: bytes | bytearray, begin: int) -> tuple[int, int]:
    """Return the end of a head and the beginning of what follows; (-1, -1) while there is no empty line."""
    end = stream.find(b"\n\r\n", begin)
    odd = _ODD_END.search(stream, begin, end + 1 if end >= 0 else len(stream))
    if odd is not None:
        end, after = odd.span()
        if after - end > len(b"\n\n"):
            # Some proxies end a head at a line with only CR. Keep this line in the head, where it counts as malformed.
            return after - 1, after - 1
    elif end < 0:
        return -1, -1
    else:
        after = end + 3
    return end - (stream[end - 1] == _CARRIAGE_RETURN), after
