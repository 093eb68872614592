"""Growing files, followed through rotation, truncation and restarts.

    renamed, a new file in its place   the old file is read until it is quiet, then only the new one
    truncated (copytruncate)           detected by size or first bytes; read again from the beginning
    rotated while not observed         found in the same folder by its inode; its rest is read first. Files created and
                                       rotated in between (`log.1`, `log-20261124`) are found by their times
    not there yet, or a pattern        searched in each round

Lines of a multi-line event are held back until the event is complete or the file has been quiet for `HELD_SECS_MAX`. A
last line without newline is held back until the newline arrives, or until its file is rotated or truncated.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from producers.files.lines import CHUNK_BYTES, Lines
from producers.files.position import Positions
from producers.files.replay import is_gzip, merge
from producers.sources.source import Line, Source, SourceFile, changed_at

log = logging.getLogger(__name__)

HELD_SECS_MAX = 1.0
"""Seconds without growth after which a file's held-back lines are yielded; a sensor writes the lines of one event together."""
_ROTATED_ENDING = re.compile(r"[.-][0-9.-]+")
ROTATED_QUIET_SECS = 5.0
"""Seconds without growth after which a rotated file is finished, because its writer now uses the new file."""


class Tail:
    """All followed files. `lines` never ends; it yields None when all available lines were yielded."""

    def __init__(
        self, sources: Iterable[Source], positions: Positions, *, line_bytes_max: int, clock: Callable[[], float]
    ) -> None:
        self._sources = list(sources)
        self._positions = positions
        self._line_bytes_max = line_bytes_max
        self._clock = clock
        self._current: dict[tuple[str, str], _Followed] = {}
        self._rotated: list[_Followed] = []
        self._looked_for: set[tuple[str, str]] = set()
        self._complained: set[str] = set()

    def lines(self) -> Iterator[Line | None]:
        """Yield new lines, merged over the files by the time of writing; None at the end of each round."""
        try:
            while True:
                for source in self._sources:
                    self._look(source)
                yield from merge(self._round())
                for followed in [one for one in self._rotated if one.finished]:
                    self._rotated.remove(followed)
                    followed.stream.close()
                yield None
        finally:
            for followed in (*self._current.values(), *self._rotated):
                followed.stream.close()

    def _round(self) -> list[Iterator[Line]]:
        """Return the new lines of each path, those of its rotated files first."""
        now = self._clock()
        by_place: dict[tuple[str, str], list[Iterator[Line]]] = {}
        for followed in self._rotated:
            by_place.setdefault(followed.place, []).append(followed.last_lines(now))
        for followed in self._current.values():
            by_place.setdefault(followed.place, []).append(followed.new_lines(now))
        return [chain(*parts) for parts in by_place.values()]

    def _look(self, source: Source) -> None:
        """Detect new, replaced, truncated and missing files."""
        paths = source.paths()
        for path in paths:
            place = (source.dialect.name, path)
            followed = self._current.get(place)
            if followed is None:
                self._find_rotated(source, path)
            elif followed.was_truncated():
                log.info("file was truncated, read from its beginning", extra={"path": path})
                self._positions.forget(followed.file)
                self._set_aside(followed)
                followed.gone = True
            elif not _is_at(path, followed.stream):
                self._set_aside(followed)
                self._open_between(source, path, os.fstat(followed.stream.fileno()).st_mtime_ns)
            else:
                continue
            self._open(source, path)
        for followed in [one for one in self._current.values() if one.source is source and one.path not in paths]:
            self._set_aside(followed)

    def _set_aside(self, followed: _Followed) -> None:
        del self._current[followed.place]
        self._rotated.append(followed)
        followed.quiet_since = self._clock()

    def _open(self, source: Source, path: str, place: str | None = None) -> None:
        try:
            stream = open(path, "rb", buffering=0)  # noqa: SIM115  # open as long as it is followed
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain("file cannot be read, will try again", path, error.strerror or "")
            return
        status = os.fstat(stream.fileno())
        known = (source.dialect.name, status.st_dev, status.st_ino)
        others = chain(self._current.values(), (one for one in self._rotated if not one.gone))
        if any(one.file.identity == known for one in others):
            stream.close()  # a rotated file under its new name
            return
        if is_gzip(stream):
            self._complain("compressed file is not followed, produce it without --follow", path, "")
            stream.close()
            return
        # A rotated file keeps the path it was written under, so that a restart in the middle of it finds it again.
        file = self._positions.adopt(source, place or path, stream)
        lines = Lines(file, source.dialect, self._line_bytes_max, source.failures)
        lines.recall(stream.read)
        followed = _Followed(source, place or path, stream, lines)
        followed.quiet_since = self._clock()
        if place is None:
            self._current[followed.place] = followed
        else:
            self._rotated.append(followed)

    def _find_rotated(self, source: Source, path: str) -> None:
        """Open the file that was read under this path before the last stop, if it was rotated since."""
        if (source.dialect.name, path) in self._looked_for:
            return
        self._looked_for.add((source.dialect.name, path))
        known = self._positions.last_known_as(source, path)
        elsewhere = [file for file in known if not _begins(path, file)]
        beside = {entry.inode(): entry for entry in _beside(path) if Path(entry.path) != Path(path)}
        since = []
        for file in elsewhere:
            entry = beside.get(file.inode)
            if entry is None:
                self._positions.forget(file)
            else:
                since.append(entry.stat().st_mtime_ns)
                self._open(source, entry.path, place=path)
        if known and len(elsewhere) == len(known):
            self._open_between(source, path, max(since, default=self._positions.saved_at_ns))

    def _open_between(self, source: Source, path: str, since_ns: int) -> None:
        """Open files that were created under this path after the last known one and rotated before they were seen."""
        later = [entry for entry in _beside(path) if entry.stat().st_mtime_ns >= since_ns]
        for entry in sorted(later, key=lambda entry: entry.stat().st_mtime_ns):
            ending = entry.name.removeprefix(Path(path).name)
            if _ROTATED_ENDING.fullmatch(ending):
                self._open(source, entry.path, place=path)
            elif _ROTATED_ENDING.fullmatch(ending.removesuffix(".gz")):
                self._complain(
                    "rotated file was compressed, perhaps unread; produce it without --follow", entry.path, ""
                )

    def _complain(self, what: str, path: str, error: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            log.warning(what, extra={"path": path, "error": error})


def _beside(path: str) -> list[os.DirEntry[str]]:
    """Return the entries of the file's folder whose names begin with the file's name."""
    try:
        with os.scandir(Path(path).parent) as entries:
            return [entry for entry in entries if entry.name.startswith(Path(path).name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _begins(path: str, file: SourceFile) -> bool:
    """Return whether the file at this path has the given file's inode and first bytes; False if it cannot be opened."""
    try:
        with open(path, "rb") as stream:
            return os.fstat(stream.fileno()).st_ino == file.inode and file.begins_like(stream)
    except OSError:
        return False


class _Followed:
    """One open file and how far it was read."""

    def __init__(self, source: Source, path: str, stream: BinaryIO, lines: Lines) -> None:
        self.source = source
        self.path = path
        self.stream = stream
        self.file = lines.file
        self.finished = False
        self.gone = False
        """Whether it was truncated, so that its old content cannot be read any more."""
        self.quiet_since = 0.0
        self._lines = lines

    @property
    def place(self) -> tuple[str, str]:
        return self.source.dialect.name, self.path

    def was_truncated(self) -> bool:
        """Return whether the file is shorter than what was read, or begins differently, as it was truncated and grew again."""
        return os.fstat(self.stream.fileno()).st_size < self._lines.fed_to or not self.file.begins_like(self.stream)

    def new_lines(self, now: float) -> Iterator[Line]:
        """Yield whole lines up to the present end."""
        while chunk := os.pread(self.stream.fileno(), CHUNK_BYTES, self._lines.fed_to):
            if self.was_truncated():
                return  # the chunk may be of the new content; the next round handles it
            self.quiet_since = now
            self.file.remember_head(self.stream)
            self.file.changed = changed_at(os.fstat(self.stream.fileno()))
            yield from self._lines.feed(chunk)
        if now - self.quiet_since >= HELD_SECS_MAX:
            yield from self._lines.release()

    def last_lines(self, now: float) -> Iterator[Line]:
        """Yield the last lines of a rotated or truncated file. Once it is finished, its last line may lack a newline."""
        if not self.gone:
            yield from self.new_lines(now)
        if self.gone or now - self.quiet_since >= ROTATED_QUIET_SECS:
            self.finished = True
            yield from self._lines.finish()


def _is_at(path: str, stream: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
