"""Cuts a file's bytes into lines with a bound on memory, whatever the file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from producers.source import Line, SourceFile
from schemas.events import Dialect

CHUNK_BYTES = 256 * 1024
KEPT_BYTES_OF_TOO_LONG = 1024 * 1024
"""So much of a line over the limit is kept, for `rejects`."""
_NO_CONTEXT = b" "
"""Stands for the beginning of a line that is longer than any that tells how others are to be read."""


class Lines:
    """The lines of one file: feed it bytes in order, get whole lines; `finish` gives the last one without newline.

    Empty lines say nothing and are passed over. An export's envelope is taken apart into its rows, each a line of its own; a
    restart in the middle of it begins with its first row again. Where lines cannot be read alone, the dialect's framing makes
    lines that can: `start` and `end` then tell before which offset everything was given. Of a line longer than `line_bytes_max`
    only the beginning is kept, with the length and the hash of the whole: it cannot be published, but it does not vanish.
    """

    def __init__(self, file: SourceFile, dialect: Dialect, line_bytes_max: int) -> None:
        self.file = file
        self.fed_to = file.taken
        self._dialect = dialect
        self._split = dialect.split
        self._framing = dialect.framing() if dialect.framing is not None else None
        self._line_bytes_max = line_bytes_max
        self._start = file.taken
        self._written = 0
        self._parts: list[bytes] = []
        self._length = 0
        self._hash: hashlib._Hash | None = None

    def recall(self, read: Callable[[int], bytes]) -> None:
        """Where reading goes on in the middle: what lines before say of later ones. `read` begins at the file's beginning."""
        framing, left, rest = self._framing, self.fed_to, b""
        if framing is None or not framing.context:
            return
        mark = b"\n" + framing.context
        while left and (chunk := read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            block = rest + chunk
            ended, _, rest = block.rpartition(b"\n")
            if mark in b"\n" + ended:
                for line in ended.split(b"\n"):
                    if line.startswith(framing.context):
                        framing.take(line, 0)
            rest = rest if len(rest) <= CHUNK_BYTES else _NO_CONTEXT

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in this chunk. Use up the iterator before feeding more."""
        self.fed_to += len(chunk)
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if self._length:
                self._grow(part)
                yield from self._whole(newline=1)
            elif part and part != b"\r":
                yield from self._short(part) if len(part) <= self._line_bytes_max else self._long(part)
            else:
                self._start += len(part) + 1
        self._grow(rest)

    def finish(self) -> Iterator[Line]:
        """What is left after the last newline, as a line."""
        if self._length:
            yield from self._whole(newline=0)
        yield from self.let_go()

    def let_go(self) -> Iterator[Line]:
        """What the framing holds back, as nothing more may come: at the end, or when the file is quiet."""
        if self._framing is not None and self._framing.held is not None:
            done = self._done()
            yield from self._given(self._framing.let_go(), done)

    def unfinished_bytes(self) -> int:
        """Bytes after the last newline so far."""
        return self._length

    def _short(self, value: bytes, newline: int = 1) -> Iterator[Line]:
        done = self._done()
        if self._framing is not None:
            rows = self._framing.take(value, self._start)
        else:
            rows = self._split(value) if self._split is not None else [value]
        self._start += len(value) + newline
        return self._given(rows, done)

    def _done(self) -> int:
        """Everything before this offset was given."""
        held = self._framing.held if self._framing is not None else None
        return self._start if held is None else held

    def _given(self, rows: list[bytes], start: int, too_long: str = "") -> Iterator[Line]:
        done, last = self._done(), len(rows) - 1
        for place, row in enumerate(rows):
            self._written = written = self._dialect.written_at(row) or self._written
            end = done if place == last else start
            yield Line(self._dialect.name, self.file.sensor, row, self.file, start, end, written, too_long)

    def _long(self, part: bytes) -> Iterator[Line]:
        self._grow(part)
        yield from self._whole(newline=1)

    def _grow(self, part: bytes) -> None:
        if not part:
            return
        self._length += len(part)
        if self._hash is not None:
            self._hash.update(part)
            return
        self._parts.append(part)
        if self._length > self._line_bytes_max:
            begun = b"".join(self._parts)
            self._hash = hashlib.sha256(begun)
            self._parts = [begun[:KEPT_BYTES_OF_TOO_LONG]]

    def _whole(self, newline: int) -> Iterator[Line]:
        value, length, digest = b"".join(self._parts), self._length, self._hash
        self._parts, self._length, self._hash = [], 0, None
        if digest is not None:
            detail = f"{length} bytes, limit {self._line_bytes_max}, sha256 {digest.hexdigest()}"
            done = self._done()
            self._start += length + newline
            yield from self._given([value], done, detail)
        elif value == b"\r":
            self._start += length + newline
        else:
            yield from self._short(value, newline)
