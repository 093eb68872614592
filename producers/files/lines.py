"""A splitter of bytes into lines within bounded memory, whatever the file contains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from producers.files.dates import dated
from producers.sources.failures import DialectFailures
from producers.sources.source import Line, SourceFile
from schemas.dialect import Dialect, Framing
from schemas.parsers.recognition import candidates, dialect_of_each

CHUNK_BYTES = 256 * 1024
KEPT_BYTES_OF_TOO_LONG = 1024 * 1024
"""Number of bytes that are kept of a line over the limit, for `rejects`."""
_NO_CONTEXT = b" "
"""Placeholder for the beginning of a line that is longer than any context line."""


class Lines:
    """The lines of one file: `feed` takes bytes in order and yields whole lines; `finish` yields the last one without newline.

    Empty lines are skipped. The envelope of an export is split into its rows, each a line of its own; a restart in the
    middle of an envelope begins with its first row again. If lines cannot be parsed alone, the dialect's framing turns
    them into lines that can; `start` and `end` of a `Line` are then the offset before which everything was yielded. A
    line longer than `line_bytes_max` goes to `rejects` instead of being published: only its beginning is kept, with the
    length and the hash of the whole line.

    Exceptions in a dialect's code are added to `failures`, and the line is yielded unchanged. A framing that raises in
    `take` releases the lines that it holds back. A framing that raises in `release` or `held` is replaced by a new one,
    and the lines that it held back are lost.
    """

    def __init__(
        self, file: SourceFile, dialect: Dialect, line_bytes_max: int, failures: DialectFailures | None = None
    ) -> None:
        self.file = file
        self.fed_to = file.taken
        self._failures = failures or DialectFailures()
        self._candidates, self._dialect_of = candidates(dialect), dialect_of_each(dialect, self._failures.add)
        self._framings: dict[str, tuple[Dialect, Framing]] = {}
        self._line_bytes_max = line_bytes_max
        self._start = file.taken
        self._written = 0
        self._parts: list[bytes] = []
        self._length = 0
        self._hash: hashlib._Hash | None = None

    def recall(self, read: Callable[[int], bytes]) -> None:
        """Restore the context that the framings need before reading resumes in the middle of the file.

        `read` returns at most the given number of bytes; its first call reads from the file's beginning.
        """
        framings = [framing for one in self._candidates if (framing := self._framing_of(one)) is not None]
        contexts = tuple(framing.context for framing in framings if framing.context)
        reach = max((framing.reach for framing in framings), default=0)
        nears = [framing.near for framing in framings if framing.reach]
        left, rest = self.fed_to, b""
        if not (contexts or reach):
            return
        marks = [b"\n" + context for context in contexts]
        while left and (chunk := read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            block = rest + chunk
            ended, _, rest = block.rpartition(b"\n")
            is_near = left <= reach and any(near in ended for near in nears)
            if not is_near and not any(mark in b"\n" + ended for mark in marks):
                rest = rest if len(rest) <= CHUNK_BYTES else _NO_CONTEXT
                continue
            for line in ended.split(b"\n"):
                if is_near or line.startswith(contexts):
                    self._remind(line, left)
            rest = rest if len(rest) <= CHUNK_BYTES else _NO_CONTEXT

    def _remind(self, line: bytes, left: int) -> None:
        """Pass an earlier line to its framing, if the framing needs it as context.

        `left` is the number of bytes between the end of the line's block and the offset at which reading resumes.
        """
        dialect = self._dialect_of(line)
        framing = self._framing_of(dialect)
        if framing is not None and (left <= framing.reach or (framing.context and line.startswith(framing.context))):
            try:
                framing.take(line, 0)
            except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
                self._failures.add(dialect, error)

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that end in this chunk. Exhaust the iterator before the next call."""
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

    def message(self, value: bytes) -> Iterator[Line]:
        """Yield the lines of a message; its last line may lack a newline. Exhaust the iterator before the next call.

        The message is split in parts, because one that consists of newlines only would become a list eight times its
        size.
        """
        if value and not value.endswith(b"\n"):
            value += b"\n"
        for start in range(0, len(value), CHUNK_BYTES):
            yield from self.feed(value[start : start + CHUNK_BYTES])
        self.file.taken = self.given_to

    def finish(self) -> Iterator[Line]:
        """Yield the bytes after the last newline as a line, then the lines that the framings hold back."""
        if self._length:
            yield from self._whole(newline=0)
        yield from self.release()

    def release(self) -> Iterator[Line]:
        """Yield the lines that the framings hold back, at the end of the file or after a time without growth."""
        for dialect, _ in list(self._framings.values()):
            done = self._done()
            yield from self._given(dialect, self._released(dialect), done)

    @property
    def given_to(self) -> int:
        """Offset before which everything was yielded, once the iterators are exhausted."""
        return self._done()

    def unfinished_bytes(self) -> int:
        """Return the number of bytes since the last newline."""
        return self._length

    def _short(self, value: bytes, newline: int = 1) -> Iterator[Line]:
        done = self._done()
        dialect = self._dialect_of(value)
        framing = self._framing_of(dialect)
        try:
            if framing is not None:
                rows = framing.take(value, self._start)
            else:
                rows = dialect.split(value) if dialect.split is not None else [value]
        except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
            self._failures.add(dialect, error)
            rows = [*self._released(dialect), value]
        self._start += len(value) + newline
        return self._given(dialect, rows, done)

    def _framing_of(self, dialect: Dialect) -> Framing | None:
        """Return this file's framing of a dialect; None if the dialect's lines can be parsed alone."""
        if dialect.framing is None:
            return None
        if dialect.name not in self._framings:
            try:
                self._framings[dialect.name] = dialect, dialect.framing(lambda text: dated(text, self.file.changed))
            except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
                self._failures.add(dialect, error)
                return None
        return self._framings[dialect.name][1]

    def _released(self, dialect: Dialect) -> list[bytes]:
        """Return the lines that a dialect's framing holds back.

        A framing that raises is dropped; the next line creates a new one.
        """
        _, framing = self._framings.get(dialect.name, (dialect, None))
        try:
            return framing.release() if framing is not None and framing.held is not None else []
        except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
            self._failures.add(dialect, error)
            del self._framings[dialect.name]
            return []

    def _done(self) -> int:
        """Return the offset before which everything was yielded."""
        done = self._start
        for dialect, framing in list(self._framings.values()) if self._framings else ():
            try:
                held = framing.held
            except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
                self._failures.add(dialect, error)
                del self._framings[dialect.name]
            else:
                done = done if held is None else min(done, held)
        return done

    def _given(self, dialect: Dialect, rows: list[bytes], start: int, too_long: str = "") -> Iterator[Line]:
        done, last = self._done(), len(rows) - 1
        for place, row in enumerate(rows):
            try:
                self._written = written = dialect.written_at(row) or self._written
            except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
                self._failures.add(dialect, error)
                written = self._written
            end = done if place == last else start
            yield Line(dialect.name, self.file.sensor, row, self.file, start, end, written, too_long)

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
            yield from self._given(self._dialect_of(value), [value], done, detail)
        elif value == b"\r":
            self._start += length + newline
        else:
            yield from self._short(value, newline)
