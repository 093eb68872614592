"""Positions of files, kept across restarts: how far Kafka has acknowledged each file.

A file is identified by its device number, its inode and a hash of its first KB, not by its name. A rotated file is
therefore the same file under another name, and a truncated or replaced file is a new one. The saved offset is the start
of the oldest unacknowledged line: a restart may send lines again, but never skips one. The saved line numbers belong to
these offsets, so that no number is skipped either.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from producers.files.batcher import Batch
from producers.sources.source import Source, SourceError, SourceFile, describe

FILES_KEPT_MAX = 10_000
"""Largest number of files.

Above it, the file that was opened longest ago is forgotten; a later run that reads this file publishes it again.
"""
SEQS_KEPT_MAX = 100_000
"""Largest number of line counters. Above it, the counter that was unused for longest is forgotten and restarts at 1."""

SeqKey = tuple[str, str, str]
"""Device, dialect, sensor: the key of a line counter."""


class _KeptFile(msgspec.Struct):
    """A file as it is saved: the first fields of SourceFile, in the same order."""

    dialect: str
    path: str
    sensor: str
    device_number: int
    inode: int
    head_bytes: int
    head_sha256: str
    offset: int


class _Kept(msgspec.Struct):
    files: list[_KeptFile] = []
    seqs: list[tuple[str, str, str, int]] = []
    version: int = 1


class Positions:
    """The positions in one folder, which only one process at a time can use.

    The constructor raises SourceError if another process uses the folder, or if its position file is invalid.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / "positions.json"
        self._lock = _lock(folder)
        try:
            kept = _read(self._path)
        except SourceError:
            self.close()
            raise
        self._files: dict[tuple[str, int, int], SourceFile] = {}
        for one in kept.files:
            file = SourceFile(*msgspec.structs.astuple(one))
            self._files[file.identity] = file
        self.seqs: dict[SeqKey, int] = {(device, dialect, sensor): seq for device, dialect, sensor, seq in kept.seqs}
        """Number of the last acknowledged line of each counter."""
        self.saved_at_ns = self._path.stat().st_mtime_ns if self._path.exists() else 0
        """Time at which the previous process saved the positions, in nanoseconds since 1970; 0 if none did."""
        self._saved = b""

    def adopt(self, source: Source, path: str, stream: BinaryIO, *, growing: bool = True) -> SourceFile:
        """Return the file behind an open stream, with the offset to resume at.

        The offset is 0 if the file is unknown or its beginning differs from the known one. It is also 0 if the file is
        `growing` but shorter than the saved offset, because it was truncated. Pass `growing=False` for a compressed file:
        its size cannot be compared with the offset, which counts uncompressed bytes.
        """
        fresh = describe(source, path, stream)
        known = self._files.pop(fresh.identity, None)
        if known is not None and known.begins_like(stream) and (not growing or _size(stream) >= known.taken):
            known.remember_head(stream)
            known.path = path
            known.changed, known.grant = fresh.changed, fresh.grant
            fresh = known
        self._files[fresh.identity] = fresh
        while len(self._files) > FILES_KEPT_MAX:
            del self._files[next(iter(self._files))]
        return fresh

    def last_known_as(self, source: Source, path: str) -> list[SourceFile]:
        """Return the files that had this path when they were last read."""
        return [file for file in self._files.values() if file.path == path and file.dialect == source.dialect.name]

    def forget(self, file: SourceFile) -> None:
        """Remove the position of a file that was deleted or truncated."""
        self._files.pop(file.identity, None)

    def acknowledge(self, batch: Batch) -> None:
        """Record that Kafka has the lines of this batch."""
        key = _count_of(batch)
        last = self.seqs.pop(key, 0)
        self.seqs[key] = max(batch.seq + len(batch.lines) - 1, last)
        while len(self.seqs) > SEQS_KEPT_MAX:
            del self.seqs[next(iter(self.seqs))]

    def save(self, outstanding: Iterable[Batch]) -> dict[SourceFile, int]:
        """Save the positions. `outstanding` are all batches that Kafka has not acknowledged.

        Return, for each file of an outstanding batch, the offset before which everything is published.
        """
        offsets: dict[SourceFile, int] = {}
        seqs = dict(self.seqs)
        for batch in outstanding:
            offsets[batch.file] = min(batch.start, offsets.get(batch.file, batch.start))
            if batch.seq:
                key = _count_of(batch)
                seqs[key] = min(batch.seq - 1, seqs.get(key, batch.seq - 1))
        kept = _Kept(
            [
                _KeptFile(
                    file.dialect, file.path, file.sensor, file.device_number, file.inode, file.head_bytes,
                    file.head_sha256, offsets.get(file, file.taken),
                )
                for file in self._files.values()
            ],
            [(*key, seq) for key, seq in seqs.items()],
        )  # fmt: skip
        content = msgspec.json.encode(kept)
        if content != self._saved:
            _write(self._path, content)
            self._saved = content
        return offsets

    def close(self) -> None:
        """Unlock the folder for other processes."""
        os.close(self._lock)


def _count_of(batch: Batch) -> SeqKey:
    return batch.device, batch.dialect, batch.sensor


def _lock(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SourceError(f"{folder}: another producer keeps its positions here; set publisher.state_dir") from None
    return handle


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _read(path: Path) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return _Kept()
    except msgspec.DecodeError as error:
        raise SourceError(f"{path}: is not a position file ({error}); remove it to publish everything again") from None


def _write(path: Path, content: bytes) -> None:
    """Write atomically and durably: a torn file would lose positions at a restart."""
    new = path.with_suffix(".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
