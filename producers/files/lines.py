"""Cuts a file's bytes into lines with a bound on memory, whatever the file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from producers.files.dates import FileDates
from producers.sources.failures import DialectFailures
from producers.sources.source import Line, SourceFile
from schemas.events import Dialect, Framing
from schemas.parsers.recognition import candidates, dialect_of_each

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

    Exceptions in a dialect's code are added to `failures`; the line is given as it is. A framing that raises in `take` releases
    what it holds back; one that raises in `let_go` or `held` is replaced by a new one, and what it held back is lost.
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
        """Where reading goes on in the middle: what lines before say of later ones. `read` begins at the file's beginning."""
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
        """Feed a line from before to whom it tells something, given how many bytes there are from its block to where we go on."""
        dialect = self._dialect_of(line)
        framing = self._framing_of(dialect)
        if framing is not None and (left <= framing.reach or (framing.context and line.startswith(framing.context))):
            try:
                framing.take(line, 0)
            except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
                self._failures.add(dialect, error)

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

    def message(self, value: bytes) -> Iterator[Line]:
        """The lines of a message, which ends its last line with or without a newline. Use up the iterator before the next one.

        A part at a time: a message of nothing but newlines would become a list eight times its size.
        """
        if value and not value.endswith(b"\n"):
            value += b"\n"
        for start in range(0, len(value), CHUNK_BYTES):
            yield from self.feed(value[start : start + CHUNK_BYTES])
        self.file.taken = self.given_to

    def finish(self) -> Iterator[Line]:
        """What is left after the last newline, as a line."""
        if self._length:
            yield from self._whole(newline=0)
        yield from self.let_go()

    def let_go(self) -> Iterator[Line]:
        """What the framings hold back, as nothing more may come: at the end, or when the file is quiet."""
        for dialect, _ in list(self._framings.values()):
            done = self._done()
            yield from self._given(dialect, self._released(dialect), done)

    @property
    def given_to(self) -> int:
        """Everything before this offset was given, once the iterators are used up."""
        return self._done()

    def unfinished_bytes(self) -> int:
        """Bytes after the last newline so far."""
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
        """What this file's lines of a dialect go through; None where they can be read alone."""
        if dialect.framing is None:
            return None
        if dialect.name not in self._framings:
            try:
                self._framings[dialect.name] = dialect, dialect.framing(FileDates(self.file))
            except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
                self._failures.add(dialect, error)
                return None
        return self._framings[dialect.name][1]

    def _released(self, dialect: Dialect) -> list[bytes]:
        """What the framing of a dialect held back; a framing that raises is dropped, and the next line begins a new one."""
        _, framing = self._framings.get(dialect.name, (dialect, None))
        try:
            return framing.let_go() if framing is not None and framing.held is not None else []
        except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
            self._failures.add(dialect, error)
            del self._framings[dialect.name]
            return []

    def _done(self) -> int:
        """Everything before this offset was given."""
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
