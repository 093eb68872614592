"""A sink into files: one of JSON lines a table, and beside it an index of what was written.

A write appends rows, syncs them, then appends one line to the index: token and length of the rows file. Only the index
says what counts. What lies beyond its last length when a file is opened was cut off by a crash and is removed; the same
token comes again and writes it anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sinks.base import Entry, SinkBusy, SinkRefused

TOKENS_MAX = 10_000
"""How many writes back a repeated token is recognised."""


@dataclass(frozen=True)
class JsonlConfig:
    """Where the files are."""

    folder: Path


class JsonlSink:
    """Appends rows to `folder/TABLE.jsonl`. One process at a time."""

    def __init__(self, config: JsonlConfig) -> None:
        self._folder = config.folder
        self._files: dict[str, _TableFile] = {}

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        """Append the rows, once a token; on the disk when it returns."""
        del again  # the index names a token only when its rows are on the disk
        try:
            if table not in self._files:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._files[table] = _TableFile(self._folder / f"{table}.jsonl")
            self._files[table].append(rows, token)
        except OSError as error:
            # The file may hold half of it now; opening it again repairs that.
            self._forget(table)
            raise SinkBusy(f"{self._folder / table}.jsonl: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the files."""
        for table in list(self._files):
            self._forget(table)

    def _forget(self, table: str) -> None:
        if file := self._files.pop(table, None):
            file.close()


class _TableFile:
    def __init__(self, path: Path) -> None:
        index_path = path.with_suffix(".tokens")
        size = path.stat().st_size if path.exists() else 0
        if size and not index_path.exists():
            raise SinkRefused(f"{path}: has no index {index_path.name} beside it; move it away, or put the index back")
        entries = _read_index(index_path)
        self._length = next(reversed(entries.values()), 0)
        self._tokens = dict.fromkeys(list(entries)[-TOKENS_MAX:])
        if size < self._length:
            raise SinkRefused(
                f"{path}: has {size} bytes, {index_path.name} says {self._length}; put it back, or move both away"
            )
        self._rows = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._rows, self._length)
        _write_whole(index_path, [f"{token} {entries[token]}\n" for token in self._tokens])
        self._index = os.open(index_path, os.O_WRONLY | os.O_APPEND)

    def append(self, rows: Sequence[bytes], token: str) -> None:
        if token in self._tokens:
            return
        content = b"".join(piece + b"\n" for piece in rows)
        _write_all(self._rows, content)
        os.fsync(self._rows)
        _write_all(self._index, f"{token} {self._length + len(content)}\n".encode())
        os.fsync(self._index)
        self._length += len(content)
        self._tokens[token] = None
        if len(self._tokens) > TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]

    def close(self) -> None:
        os.close(self._rows)
        os.close(self._index)


def _read_index(path: Path) -> dict[str, int]:
    """Token to length, oldest first; a last line that was cut off does not count."""
    if not path.exists():
        return {}
    whole, _, _ = path.read_text(encoding="ascii").rpartition("\n")
    entries = {}
    for line in whole.splitlines():
        token, _, length = line.partition(" ")
        entries[token] = int(length)
    return entries


def _write_whole(path: Path, lines: list[str]) -> None:
    fresh = path.with_suffix(".fresh")
    with fresh.open("w", encoding="ascii") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


SINK = Entry("jsonl", JsonlConfig, JsonlSink)
