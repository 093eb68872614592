"""Where syslog messages end in a TCP stream (RFC 6587 section 3.4): by their counted length, or by a newline."""

from __future__ import annotations

import re

_COUNTED = re.compile(rb"([1-9]\d{0,8}) <")
_MAYBE_COUNTED = re.compile(rb"[1-9]\d{0,8} ?")


class Frames:
    """One connection's bytes in, lines out; each message tells for itself how it is framed. Holds a few bytes at most.

    A message begins with `<`, so only digits, a space and `<` are a count: other lines may begin with a number. A newline
    inside a counted message becomes a space, as a line is one message from here on.
    """

    def __init__(self) -> None:
        self._start = b""
        self._left = 0
        self._in_line = False

    @property
    def unfinished(self) -> bool:
        """In the middle of a message."""
        return bool(self._start or self._left or self._in_line)

    def feed(self, chunk: bytes) -> bytes:
        """The same messages, a line each; the last one perhaps not whole yet."""
        out: list[bytes] = []
        chunk, self._start = self._start + chunk, b""
        place = 0
        while place < len(chunk):
            if self._left:
                part = chunk[place : place + self._left]
                self._left -= len(part)
                place += len(part)
                out.append(part.replace(b"\n", b" ") + (b"" if self._left else b"\n"))
            elif self._in_line:
                end = chunk.find(b"\n", place) + 1
                self._in_line = not end
                out.append(chunk[place : end or None])
                place = end or len(chunk)
            elif counted := _COUNTED.match(chunk, place):
                self._left = int(counted[1])
                place = counted.end() - 1
            elif (maybe := _MAYBE_COUNTED.match(chunk, place)) and maybe.end() == len(chunk):
                self._start = chunk[place:]
                break
            else:
                self._in_line = True
        return b"".join(out)

    def rest(self) -> bytes:
        """What was held back, as nothing more comes."""
        rest, self._start = self._start, b""
        return rest
