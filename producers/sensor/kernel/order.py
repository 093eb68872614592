"""Records of several CPUs in the order of their times: pure.

CPUs are read one after the other, so what a later one says may be newer than what an earlier one has not said yet: the end of a
socket on one CPU, and its next attempt on another. So only what is older than the whole round of reading is given. Under a flood
a round does not read a CPU's buffer to its end; then only what is older than the last record read of it is given.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import Generic, TypeVar

from producers.sensor.kernel.trace_ring import Record

Kind = TypeVar("Kind", bound=Record)
_BY_TIME = itemgetter(0)


HELD_MAX = 65_536
"""Records held back; beyond it all are given, and those of a CPU that is read late may come in the wrong order."""


class Ordered(Generic[Kind]):
    """Holds back what is too new."""

    def __init__(self) -> None:
        self._held: list[Kind] = []

    def __len__(self) -> int:
        return len(self._held)

    def take(self, records: list[Kind], until_ns: int | None) -> list[Kind]:
        """Take what one round of reading gave; gives what is not newer than `until_ns`, or everything."""
        held = sorted([*self._held, *records], key=_BY_TIME)
        count = len(held) if until_ns is None else bisect_right(held, until_ns, key=_BY_TIME)
        if len(held) - count > HELD_MAX:
            count = len(held)
        self._held = held[count:]
        return held[:count]
