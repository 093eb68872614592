"""A file that is reloaded when it changes; when reading fails, the previous content stays valid.

A changed file is read once two checks in a row see it unchanged, so that a file still being written is not read in part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from producers.sources.source import file_stamp

log = logging.getLogger(__name__)

Content = TypeVar("Content")


class Unreadable(Exception):
    """The file is missing or its content is invalid; the message gives the file, the reason and the remedy."""


class Watched(Generic[Content]):
    """The parsed content of a file. The constructor raises Unreadable when the file cannot be read."""

    def __init__(self, path: Path, read: Callable[[Path, bytes], Content], bytes_max: int) -> None:
        self.path = path
        self._read, self._bytes_max = read, bytes_max
        self._complained = ""
        # Take the stamp before reading: a change in between causes another read.
        self._stamp = self._seen = file_stamp(path)
        self.content = self._taken()

    def look(self) -> bool:
        """Reload the file if it changed; return whether new content was loaded."""
        stamp, before = file_stamp(self.path), self._seen
        self._seen = stamp
        if stamp == self._stamp or stamp != before:
            return False
        self._stamp = stamp
        try:
            self.content = self._taken()
        except Unreadable as error:
            if str(error) != self._complained:
                self._complained = str(error)
                what = "file cannot be read, its last content stays in effect"
                log.error(what, extra={"error": str(error)})  # noqa: TRY400  # an error in the file needs no traceback
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
