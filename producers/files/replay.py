"""Reading of recorded files. The lines of several files are merged in the order in which they would have arrived.

`unproxy replay` and `unproxy produce` use the same merge: it orders lines by the time at which the sensors wrote them,
and keeps the order within each file. A line counts as no later than the next line of its file, so that a single line
with a time in the future does not delay the rest of its file.
"""

from __future__ import annotations

import gzip
import heapq
import os
import select
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from io import BufferedReader
from operator import attrgetter
from typing import BinaryIO

from producers.files.lines import CHUNK_BYTES, Lines
from producers.sources.source import STDIN, Line, Source, SourceDamaged, SourceError, SourceFile, describe
from schemas.clock import MICROS

LINE_BYTES_MAX = 12 * 1024 * 1024
PAUSE_SECS_MAX = 60.0
"""Longest pause at the recorded pace; longer silences and clock jumps are cut to this."""
QUIET_ROUNDS = 20
"""Number of successive polls without input after which held-back lines of standard input are yielded."""
_GZIP_MAGIC = b"\x1f\x8b"

Adopt = Callable[[Source, str, BinaryIO, bool], SourceFile]
"""Returns the file behind a stream, with the offset to resume at.

The arguments are the source, the path, the stream, and whether the file may grow, which a compressed file does not.
"""


def from_the_beginning(source: Source, path: str, stream: BinaryIO, growing: bool) -> SourceFile:
    """Return the file with offset 0, for callers that save no positions."""
    del growing
    return describe(source, path, stream)


def replay(
    sources: Iterable[Source], *, adopt: Adopt = from_the_beginning, line_bytes_max: int = LINE_BYTES_MAX
) -> Iterator[Line]:
    """Yield all lines of the sources in the order of arrival.

    Raises SourceError before the first line if a file is missing, and SourceDamaged after the last readable line if a
    part of a file could not be read.
    """
    damage: list[str] = []
    with ExitStack() as opened:
        files = [
            _recorded(source, path, opened.enter_context(open_file(path)), adopt, line_bytes_max, damage)
            for source, path in existing(sources)
        ]
        yield from merge(files)
    if damage:
        raise SourceDamaged("; ".join(damage))


def merge(files: Iterable[Iterator[Line]]) -> Iterator[Line]:
    """Merge lines of several files by the time of writing; each file keeps its own order."""
    return heapq.merge(*(_not_after_the_next(lines) for lines in files), key=attrgetter("written"))


def paced(lines: Iterable[Line], speed: float, clock: Callable[[], float]) -> Iterator[Line | None]:
    """Yield the lines at `speed` times the recorded pace; None while waiting."""
    due, shown = clock(), 0
    for line in lines:
        step = (line.written - shown) / MICROS if shown else 0.0
        if step > 0 or -step > PAUSE_SECS_MAX or not shown:
            due += min(max(step, 0.0), PAUSE_SECS_MAX) / speed
            shown = line.written
        while clock() < due:
            yield None
        yield line


def piped(source: Source, *, line_bytes_max: int = LINE_BYTES_MAX) -> Iterator[Line | None]:
    """Yield lines from standard input as they arrive; None while there are none, so that the caller never blocks."""
    with open_file(STDIN) as stream:
        lines = Lines(describe(source, STDIN, stream), source.dialect, line_bytes_max, source.failures)
        quiet = 0
        while True:
            if not select.select([stream], [], [], 0)[0]:
                quiet += 1
                if quiet == QUIET_ROUNDS:
                    yield from lines.release()
                yield None
            elif chunk := os.read(stream.fileno(), CHUNK_BYTES):
                quiet = 0
                yield from lines.feed(chunk)
            else:
                break
        yield from lines.finish()


def is_gzip(stream: BinaryIO) -> bool:
    """Return whether an open file is gzip. The stream must be at the file's beginning and is left there."""
    magic = stream.read(len(_GZIP_MAGIC))
    stream.seek(0)
    return magic == _GZIP_MAGIC


def existing(sources: Iterable[Source]) -> list[tuple[Source, str]]:
    """Return the files of the sources, each once per dialect, even if patterns overlap.

    Raises SourceError if a pattern matches no file.
    """
    found: dict[tuple[str, str], tuple[Source, str]] = {}
    for source in sources:
        paths = source.paths()
        if not paths:
            raise SourceError(f"{source.path}: no file matches")
        for path in paths:
            found.setdefault((source.dialect.name, path), (source, path))
    return list(found.values())


def open_file(path: str) -> BufferedReader:
    """Open a file or standard input. Raises SourceError if the file cannot be opened."""
    if path == STDIN:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    try:
        return open(path, "rb")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None


def _recorded(
    source: Source, path: str, stream: BufferedReader, adopt: Adopt, line_bytes_max: int, damage: list[str]
) -> Iterator[Line]:
    if path == STDIN:
        lines = Lines(describe(source, path, stream), source.dialect, line_bytes_max, source.failures)
        content: BufferedReader | gzip.GzipFile = stream
    else:
        packed = is_gzip(stream)
        lines = Lines(adopt(source, path, stream, not packed), source.dialect, line_bytes_max, source.failures)
        content = gzip.GzipFile(fileobj=stream) if packed else stream
    try:
        if lines.fed_to:
            lines.recall(content.read)
            content.seek(lines.fed_to)
        # If a later part is damaged, read() discards the data before it; read1() returns them first.
        while chunk := content.read1(CHUNK_BYTES):
            yield from lines.feed(chunk)
    except (OSError, EOFError, zlib.error) as error:
        left = lines.unfinished_bytes()
        damage.append(f"{path}: is damaged after {lines.fed_to} bytes, {left} bytes of a line were left ({error})")
        return
    yield from lines.finish()


def _not_after_the_next(lines: Iterator[Line]) -> Iterator[Line]:
    before = next(lines, None)
    if before is None:
        return
    for line in lines:
        yield before if before.written <= line.written else before._replace(written=line.written)
        before = line
    yield before
