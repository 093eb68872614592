"""Cuts a file's bytes into lines with a bound on memory, whatever the file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from producers.source import Line, SourceFile
from schemas.events import Dialect
from schemas.recognition import dialect_of_each

CHUNK_BYTES = 256 * 1024
KEPT_BYTES_OF_TOO_LONG = 1024 * 1024
"""So much of a line over the limit is kept, for `rejects`."""


class Lines:
    """The lines of one file: feed it bytes in order, get whole lines; `finish` gives the last one without newline.

    Empty lines say nothing and are passed over. An export's envelope is taken apart into its rows, each a line of its own; a
    restart in the middle of it begins with its first row again. Of a line longer than `line_bytes_max` only the beginning is
    kept, with the length and the hash of the whole: it cannot be published, but it does not vanish.
    """

    def __init__(self, file: SourceFile, dialect: Dialect, line_bytes_max: int) -> None:
        self.file = file
        self.fed_to = file.taken
        self._dialect_of = dialect_of_each(dialect)
        self._line_bytes_max = line_bytes_max
        self._start = file.taken
        self._written = 0
        self._parts: list[bytes] = []
        self._length = 0
        self._hash: hashlib._Hash | None = None

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

    def unfinished_bytes(self) -> int:
        """Bytes after the last newline so far."""
        return self._length

    def _short(self, value: bytes, newline: int = 1) -> Iterator[Line]:
        dialect = self._dialect_of(value)
        rows = dialect.split(value) if dialect.split is not None else [value]
        start = self._start
        for row in rows[:-1]:
            yield self._line(dialect, row, start, start)
        yield self._line(dialect, rows[-1], start, start + len(value) + newline)

    def _line(self, dialect: Dialect, value: bytes, start: int, end: int, too_long: str = "") -> Line:
        self._start = end
        self._written = written = dialect.written_at(value) or self._written
        return Line(dialect.name, self.file.sensor, value, self.file, start, end, written, too_long)

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
            yield self._line(self._dialect_of(value), value, self._start, self._start + length + newline, detail)
        elif value == b"\r":
            self._start += length + newline
        else:
            yield from self._short(value, newline)
