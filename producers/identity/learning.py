"""Addresses that endpoints report as their own, learnt from recorded files in advance.

An endpoint's own record of a connection contains the device and its local address. A network sensor or a proxy knows
only the address; the learnt pair assigns its lines to the device, too. All files are read before the first line is
assigned to a device, so that a restart in the middle uses the same table for the rest. Own records contain a mark
(`Dialect.own_marks`), so that other lines need not be parsed.
"""

from __future__ import annotations

import gzip
import logging
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader

from producers.files.lines import CHUNK_BYTES
from producers.files.replay import existing, is_gzip, open_file
from producers.identity.sightings import Sightings
from producers.identity.table import How, IdentityTable
from producers.sources.failures import DialectFailures
from producers.sources.source import STDIN, Source
from schemas.dialect import Dialect
from schemas.events import ConnectionOpened
from schemas.parsers import dialects
from schemas.parsers.recognition import candidates

log = logging.getLogger(__name__)

OWN = tuple(dialect for dialect in dialects().values() if dialect.own_marks)
"""Dialects in which endpoints report on themselves."""
LEARNT_FROM = frozenset({How.NAMED, How.TABLE})
"""How the device of a record must be found for its address to be learnt: not by an address, and not if it is ambiguous."""

Progress = Callable[[int, int], None]
"""Receives the number of bytes read and their total."""


class LearningStopped(Exception):
    """A stop was requested during learning. The incomplete result must not be used."""


class Learning:
    """A reader of recorded files that learns the addresses of devices. It reads nothing until `sightings` is called."""

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        line_bytes_max: int,
        stopped: Callable[[], bool] = lambda: False,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._sources = list(sources)
        self._line_bytes_max = line_bytes_max
        self._stopped, self._progress = stopped, progress

    def sightings(self, table: IdentityTable) -> Sightings:
        """Read all files; return which device had which address when. `table` maps the devices' names to DeviceIds.

        The result is empty if a file can be read only once, such as a pipe: it could contain another device with the same
        address. Raises LearningStopped after a stop request, and SourceError for a missing file.
        """
        seen = Sightings()
        files = [(source, path, _size(path)) for source, path in existing(self._sources)]
        of, done = sum(max(size, 0) for _, _, size in files), 0
        if any(size < 0 for _, _, size in files):
            return seen
        for source, path, size in files:
            if own := [dialect for dialect in candidates(source.dialect) if dialect in OWN]:
                with open_file(path) as stream:
                    for line in self._lines(stream, own, done, of):
                        for event in _opened(line, own, source.failures):
                            _take(event, table, seen)
            done += size
        if seen.left_out:
            log.warning(
                "too many addresses to learn, some devices keep their address as name", extra={"learnt": seen.learnt}
            )
        log.info("addresses learnt", extra={"learnt": seen.learnt, "ambiguous": seen.ambiguous, "bytes": of})
        return seen

    def _lines(self, stream: BufferedReader, own: list[Dialect], done: int, of: int) -> Iterator[bytes]:
        """Yield the lines of each block that contains a mark of the `own` dialects.

        Damaged parts, and lines that are too long to be published, are skipped. `done` is the size of the files read
        before, `of` the size of all files.
        """
        marks = [mark for dialect in own for mark in dialect.own_marks]
        content: BufferedReader | gzip.GzipFile = gzip.GzipFile(fileobj=stream) if is_gzip(stream) else stream
        rest, skipping = b"", False
        try:
            while chunk := content.read1(CHUNK_BYTES):
                if self._stopped():
                    raise LearningStopped
                self._progress(done + stream.tell(), of)
                ended, newline, after = chunk.rpartition(b"\n")
                if not newline:
                    rest, skipping = (rest, True) if len(rest) > self._line_bytes_max else (rest + chunk, skipping)
                    continue
                if skipping:
                    ended, rest, skipping = ended.partition(b"\n")[2], b"", False
                ended, rest = rest + ended, after
                if any(mark in ended for mark in marks):
                    yield from (line for line in ended.split(b"\n") if len(line) <= self._line_bytes_max)
        except (OSError, EOFError, zlib.error):
            return  # reported when the file is read for publishing
        if not skipping and len(rest) <= self._line_bytes_max:
            yield rest


def _opened(line: bytes, own: list[Dialect], failures: DialectFailures) -> list[ConnectionOpened]:
    """Return the connections that a line reports in one of the `own` dialects. Exceptions are added to `failures`."""
    for dialect in own:
        try:
            if any(mark in line for mark in dialect.own_marks) and (len(own) == 1 or dialect.claims(line)):
                rows = dialect.split(line) if dialect.split is not None else [line]
                return [event for row in rows if isinstance(event := dialect.parse(row), ConnectionOpened)]
        except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
            failures.add(dialect, error)
    return []


def _take(event: ConnectionOpened, table: IdentityTable, seen: Sightings) -> None:
    found = table.find(event.device, lambda: event.at)
    if found.how in LEARNT_FROM:
        for at in (event.at, event.ended):
            if at:
                seen.saw(found.device, event.flow.local_ip, at)


def _size(path: str) -> int:
    """Return the size of a regular file in bytes; -1 for standard input, a pipe or a missing file."""
    if path == STDIN:
        return -1
    try:
        status = os.stat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
