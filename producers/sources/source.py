"""What a producer reads: sources as given on the command line, the files behind them, and the lines in the files."""

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
from schemas.events import Dialect, Micros
from schemas.parsers import dialects
from schemas.parsers.recognition import AUTO, NOBODYS

STDIN = "-"
SENSOR = "sensor"
"""Stands for a path where lines come from our own sensor."""
HEAD_BYTES_MAX = 1024
"""So much of a file's beginning is remembered to tell it from another one with the same inode."""


class SourceError(Exception):
    """A source cannot be read as given; the message says which, why and what to do."""


class SourceDamaged(SourceError):
    """Part of a source could not be read; everything before the damage was."""


@dataclass(frozen=True, slots=True)
class Source:
    """`DIALECT:PATH` on the command line; the path may be a pattern, - for standard input, or a place on the network.

    With `auto` for a dialect each line tells its own.
    """

    dialect: Dialect
    path: str
    endpoint: Endpoint | None = None
    """Where on the network it is; None for files."""
    grants: Grants | None = field(default=None, compare=False)
    """Where the grant of each of its files is looked up; None: they are unrestricted."""
    failures: DialectFailures = field(default_factory=DialectFailures, compare=False)
    """Where exceptions in its dialects' code are counted."""

    def grant_of(self, path: str) -> Grant | None:
        """Return what the sender of a file, or of a topic, may report; None if that is not restricted."""
        return self.grants.for_source(path) if self.grants is not None else None

    def paths(self) -> list[str]:
        """The files that are there now; a path that is no pattern whether it is there or not."""
        if self.endpoint is not None:
            return []
        return sorted(glob.glob(self.path)) if glob.has_magic(self.path) else [self.path]


def parse_source(text: str) -> Source:
    """Read `DIALECT:PATH`. Raises SourceError."""
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
    """One file as its content, whatever it is called by now: told by device, inode and its first bytes."""

    dialect: str
    path: str
    sensor: str
    device_number: int = 0
    inode: int = 0
    head_bytes: int = 0
    head_sha256: str = ""
    taken: int = 0
    """Everything before this (uncompressed) offset was handed on; reading begins here."""
    once: bool = False
    """It cannot be read again: what Kafka does not acknowledge before we end is lost."""
    changed: Micros = 0
    """When it was last written to: no line of it is younger. 0: nothing tells, as of what is no file."""
    grant: Grant | None = None
    """What its sender may report; None: the source is unrestricted."""

    @property
    def identity(self) -> tuple[str, int, int]:
        """What is known of the file without opening it."""
        return self.dialect, self.device_number, self.inode

    def begins_like(self, stream: BinaryIO) -> bool:
        """Whether an open file still has the first bytes that were remembered."""
        return self.head_sha256 == _head(stream, self.head_bytes)[1]

    def remember_head(self, stream: BinaryIO) -> None:
        """Remember more of the beginning of a file that was shorter before."""
        if self.head_bytes < HEAD_BYTES_MAX:
            self.head_bytes, self.head_sha256 = _head(stream, HEAD_BYTES_MAX)


def describe(source: Source, path: str, stream: BinaryIO) -> SourceFile:
    """A file seen for the first time, to be read from its beginning."""
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
    """When a file was last written to; 0 for a pipe."""
    return status.st_mtime_ns // 1_000 if stat.S_ISREG(status.st_mode) else 0


class Line(NamedTuple):
    """One line without its newline, and where it is from: as much as the merge, the batcher and the position need."""

    dialect: str
    sensor: str
    value: bytes
    file: SourceFile
    start: int
    end: int
    """Offset after the newline; of a row before the last one of its envelope still the envelope's beginning."""
    written: Micros
    """When the sensor wrote it; the time of the line before where it does not say."""
    too_long: str = ""
    """Length and hash of the whole line where `value` is only its beginning."""


def _head(stream: BinaryIO, size: int) -> tuple[int, str]:
    head = os.pread(stream.fileno(), size, 0)
    return len(head), hashlib.sha256(head).hexdigest()
