"""The current message and line of the worker, in a small mapped file that the next process reads after a death.

A parser that does not return, or that uses up the memory, ends the process without a log entry. The operating system keeps the
pages of a mapped file whatever the process dies of, so the next process reads where the last one ended. A store into the
mapping costs less than 0.5 µs and no system call. After a crash of the machine the file may be outdated; then the death is not
counted.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import MutableSequence
from pathlib import Path
from typing import NamedTuple

from streams.quarantine import NO_LINE, Death

_RECORD = struct.Struct("=5q")
"""Number of messages begun by this process (0: no message is being processed), partition, offset, line, exit code."""
_NUMBER, _LINE, _EXIT_CODE = 0, 3, 4


class Place(NamedTuple):
    """The position of a process, or its last one before it died."""

    partition: int
    death: Death


class AtHand:
    """The file of one worker process. It is beside the data folder, because that may be put aside."""

    def __init__(self, data_dir: Path) -> None:
        file = os.open(data_dir.with_name(data_dir.name + ".at-hand"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            # A store into a hole of the file ends the process when the disk is full.
            os.posix_fallocate(file, 0, _RECORD.size)
            self._map = mmap.mmap(file, _RECORD.size)
        finally:
            os.close(file)
        number, place = self.look()
        self.last = place if number else None
        """Place of the message at which the previous process with this file died; None if it did not die in a message."""
        self._fields = memoryview(self._map).cast("q")
        self._begun = 0
        self.line: MutableSequence[int] = self._fields[_LINE:_EXIT_CODE]  # type: ignore[assignment]  # a view has item assignment
        """One number: the line that is being processed."""

    def begin(self, partition: int, offset: int) -> None:
        """Record that the processing of a message begins."""
        self._begun += 1
        _RECORD.pack_into(self._map, 0, self._begun, partition, offset, NO_LINE, 0)

    def done(self) -> None:
        """Record that no message is being processed; an exit from now on is not attributed to a message."""
        self._fields[_NUMBER] = 0

    def note_exit(self, code: int) -> None:
        """Record the exit code with which the process is about to end itself."""
        self._fields[_EXIT_CODE] = code

    def look(self) -> tuple[int, Place]:
        """Return the number of the current message, 0 if there is none, and its place; for other threads."""
        number, partition, *death = _RECORD.unpack_from(self._map)
        return number, Place(partition, Death(*death))
