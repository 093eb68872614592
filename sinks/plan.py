"""The plan of a partition, kept in the metadata of its committed offset, so that a crash changes no batch.

Where a batch ends may be an accident: it was merely old, or the settings were others then. So its end is committed before
its insert begins, and whoever gets the partition next cuts at the very same places: the same messages, the same token,
and the table drops what it has already.

    offset 100, metadata "unproxy-batches-1 150 230"    all before 100 is in the sink; 100 to 149 and 150 to 229 may be
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

MARK = "unproxy-batches-1"
"""Begins our metadata; anything else is somebody else's, or of another version, and is not followed."""

ENDS_MAX = 128
"""Batches in one plan at most: the broker takes 4,096 bytes (offset.metadata.max.bytes); further ones wait."""

_DIGITS_MAX = 19


class Plan(NamedTuple):
    """Up to where a partition is written, and where the batches end that may be written, too."""

    written: int
    ends: tuple[int, ...] = ()

    @property
    def metadata(self) -> str:
        """What is committed beside the offset."""
        return " ".join([MARK, *map(str, self.ends)]) if self.ends else ""

    @classmethod
    def read(cls, offset: int, metadata: str | None) -> Plan | None:
        """The plan of a committed offset; None where nothing was committed yet."""
        if offset < 0:
            return None
        mark, *words = (metadata or "").split(" ")
        if mark != MARK or not all(word.isdecimal() and len(word) <= _DIGITS_MAX for word in words):
            return cls(offset)
        ends = tuple(map(int, words))
        rising = all(one < other for one, other in pairwise((offset, *ends)))
        return cls(offset, ends if rising else ())
