"""The plan of a partition, stored in the metadata of its committed offset, so that a crash changes no batch.

The end of a batch may depend on its age or on former settings. It is therefore committed before the insert begins. The
next owner of the partition cuts at the same offsets: the same messages get the same token, and the table drops the
duplicates.

    offset 100, metadata "unproxy-batches-1 150 230"

means that all messages before 100 are written, and that the batches 100 to 149 and 150 to 229 may be written.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

MARK = "unproxy-batches-1"
"""Prefix of the metadata. Metadata of other programs or versions is ignored."""

ENDS_MAX = 128
"""Largest number of batches in a plan, as the broker accepts 4,096 bytes (offset.metadata.max.bytes); further batches wait."""

_DIGITS_MAX = 19


class Plan(NamedTuple):
    """The offset before which a partition is written, and the ends of the next batches, which may be written, too."""

    written: int
    ends: tuple[int, ...] = ()

    @property
    def metadata(self) -> str:
        """Metadata to commit with the offset."""
        return " ".join([MARK, *map(str, self.ends)]) if self.ends else ""

    @classmethod
    def read(cls, offset: int, metadata: str | None) -> Plan | None:
        """Return the plan in a committed offset and its metadata; None if nothing is committed.

        Metadata that is not a valid plan is ignored: the plan then has no ends.
        """
        if offset < 0:
            return None
        mark, *words = (metadata or "").split(" ")
        if mark != MARK or not all(word.isdecimal() and len(word) <= _DIGITS_MAX for word in words):
            return cls(offset)
        ends = tuple(map(int, words))
        rising = all(one < other for one, other in pairwise((offset, *ends)))
        return cls(offset, ends if rising else ())
