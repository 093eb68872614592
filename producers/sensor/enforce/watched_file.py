"""A file that is read again when it changes; what cannot be read leaves in force what was.

It is read once it has been the same at two looks in a row: what is still being written is not taken for the whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]
Content = TypeVar("Content")


class Unreadable(Exception):
    """The file does not hold what it should, or is not there; the message says which, why and what to do."""


class Watched(Generic[Content]):
    """What a file says. Raises Unreadable when it cannot be read at the start."""

    def __init__(self, path: Path, read: Callable[[Path, bytes], Content], bytes_max: int) -> None:
        self.path = path
        self._read, self._bytes_max = read, bytes_max
        self._complained = ""
        # Looked at before it is read: what comes in between is read again.
        self._stamp = self._seen = _stamp(path)
        self.content = self._taken()

    def look(self) -> bool:
        """Read it again if it changed; whether it says something else now."""
        stamp, before = _stamp(self.path), self._seen
        self._seen = stamp
        if stamp == self._stamp or stamp != before:
            return False
        self._stamp = stamp
        try:
            self.content = self._taken()
        except Unreadable as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.error("file cannot be read, what it said stays in force", extra={"error": str(error)})
            return False
        self._complained = ""
        return True

    def _taken(self) -> Content:
        try:
            with self.path.open("rb") as file:
                raw = file.read(self._bytes_max + 1)
        except OSError as error:
            raise Unreadable(f"{self.path}: cannot be read: {error.strerror}") from None
        if len(raw) > self._bytes_max:
            raise Unreadable(f"{self.path}: is larger than {self._bytes_max:,} bytes")
        return self._read(self.path, raw)


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
