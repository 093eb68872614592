"""Sources as given on the command line, the files behind them, and the lines in the files."""

from __future__ import annotations

import glob
import hashlib
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from producers.sources.endpoint import Endpoint, EndpointError, parse_endpoint
from producers.sources.failures import DialectFailures
from producers.sources.grants import Grant, Grants
from schemas.dialect import Dialect
from schemas.events import Micros
from schemas.parsers import dialects
from schemas.parsers.recognition import AUTO, NOBODYS

STDIN = "-"
SENSOR = "sensor"
"""Value in place of a path if the lines come from the built-in sensor."""
HEAD_BYTES_MAX = 1024
"""Number of a file's first bytes that identify it, beside its inode, which another file may have later."""


class SourceError(Exception):
    """A source that cannot be read as given; the message names it, the reason and the remedy."""


class SourceDamaged(SourceError):
    """A part of a source is damaged; everything before the damage was read."""


@dataclass(frozen=True, slots=True)
class Source:
    """`DIALECT:PATH` on the command line; the path may be a pattern, - for standard input, or a network endpoint.

    With the dialect `auto`, the dialect of each line is recognised.
    """

    dialect: Dialect
    path: str
    endpoint: Endpoint | None = None
    """Its network endpoint; None for files."""
    grants: Grants | None = field(default=None, compare=False)
    """The grants that restrict its files or its topic; None if there are none."""
    failures: DialectFailures = field(default_factory=DialectFailures, compare=False)
    """Counter of exceptions in its dialects' code."""

    def grant_of(self, path: str) -> Grant | None:
        """Return what the sender of a file or topic may report; None if that is not restricted."""
        return self.grants.for_source(path) if self.grants is not None else None

    def paths(self) -> list[str]:
        """Return the existing files of a pattern; a path that is no pattern is returned even if it does not exist."""
        if self.endpoint is not None:
            return []
        return sorted(glob.glob(self.path)) if glob.has_magic(self.path) else [self.path]


def parse_source(text: str) -> Source:
    """Parse `DIALECT:PATH`. Raises SourceError for another form, an unknown dialect or an invalid endpoint."""
    name, colon, path = text.partition(":")
    known = dialects() | {AUTO: NOBODYS}
    if not colon or not path or name not in known:
        raise SourceError(f'"{text}" is not a source; write DIALECT:PATH with one of {", ".join(sorted(known))}')
    try:
        return Source(known[name], path, parse_endpoint(path))
    except EndpointError as error:
        raise SourceError(str(error)) from None


@dataclass(slots=True, eq=False)
class SourceFile:
    """A file, identified by device number, inode and first bytes; it stays the same file when it is renamed."""

    dialect: str
    path: str
    sensor: str
    device_number: int = 0
    inode: int = 0
    head_bytes: int = 0
    head_sha256: str = ""
    taken: int = 0
    """Offset in the uncompressed content before which all lines were taken; reading begins here."""
    once: bool = False
    """Whether it can be read only once; lines that Kafka does not acknowledge before the process ends are then lost."""
    changed: Micros = 0
    """Time of its last modification; none of its lines was written later. 0 if unknown, as for a source that is not a file."""
    grant: Grant | None = None
    """What its sender may report; None if the source is unrestricted."""

    @property
    def identity(self) -> tuple[str, int, int]:
        """The part of its identity that is known without reading its content."""
        return self.dialect, self.device_number, self.inode

    def begins_like(self, stream: BinaryIO) -> bool:
        """Return whether an open file still has the remembered first bytes."""
        return self.head_sha256 == _head(stream, self.head_bytes)[1]

    def remember_head(self, stream: BinaryIO) -> None:
        """Remember more first bytes, if the file had fewer than `HEAD_BYTES_MAX` before."""
        if self.head_bytes < HEAD_BYTES_MAX:
            self.head_bytes, self.head_sha256 = _head(stream, HEAD_BYTES_MAX)


def describe(source: Source, path: str, stream: BinaryIO) -> SourceFile:
    """Describe a file seen for the first time, to be read from its beginning."""
    status = os.fstat(stream.fileno())
    shown = "stdin" if path == STDIN else str(Path(path).absolute())
    file = SourceFile(source.dialect.name, path, f"{socket.gethostname()}:{shown}", status.st_dev, status.st_ino)
    file.grant = source.grant_of(path)
    file.once = path == STDIN
    file.changed = changed_at(status)
    if not file.once:
        file.remember_head(stream)
    return file


def changed_at(status: os.stat_result) -> Micros:
    """Return the time of a file's last modification; 0 for a pipe."""
    return status.st_mtime_ns // 1_000 if stat.S_ISREG(status.st_mode) else 0


def file_stamp(path: str | Path) -> tuple[int, int, int, int] | None:
    """Return values that change with a file's content: device, inode, size and time; None if the file is inaccessible."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Line(NamedTuple):
    """One line without its newline, and its origin, as the merge, the batcher and the positions need it."""

    dialect: str
    sensor: str
    value: bytes
    file: SourceFile
    start: int
    """Offset at which reading must resume to read this line again."""
    end: int
    """Offset at which reading resumes after this line: after its newline. An envelope is read again as a whole, so all of its
    rows except the last one have the offset of its beginning."""
    written: Micros
    """Time at which the sensor wrote the line; if the line contains none, the time of the line before."""
    too_long: str = ""
    """Length and hash of the whole line if `value` is only its beginning."""


def _head(stream: BinaryIO, size: int) -> tuple[int, str]:
    head = os.pread(stream.fileno(), size, 0)
    return len(head), hashlib.sha256(head).hexdigest()
