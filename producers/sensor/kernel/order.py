"""Records of several CPUs in time order: pure.

The CPUs' buffers are read one after the other. A record of a later CPU may therefore be newer than an unread record of an
earlier one, for example the end of a socket on one CPU and its next attempt on another. Only records older than the whole read
round are returned. Under a flood a round does not drain a CPU's buffer; then only records older than the last one read from it
are returned.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import Generic, TypeVar

from producers.sensor.kernel.trace_ring import Record

Kind = TypeVar("Kind", bound=Record)
_BY_TIME = itemgetter(0)


HELD_MAX = 65_536
"""Maximum number of records held back. Beyond it all are returned, and records of a CPU that is read late may be out of order."""


class Ordered(Generic[Kind]):
    """A sorting buffer that holds back records that are too new."""

    def __init__(self) -> None:
        self._held: list[Kind] = []

    def __len__(self) -> int:
        return len(self._held)

    def take(self, records: list[Kind], until_ns: int | None) -> list[Kind]:
        """Take the records of one round; return those not newer than `until_ns`, all if it is None, in time order."""
        held = sorted([*self._held, *records], key=_BY_TIME)
        count = len(held) if until_ns is None else bisect_right(held, until_ns, key=_BY_TIME)
        if len(held) - count > HELD_MAX:
            count = len(held)
        self._held = held[count:]
        return held[:count]
