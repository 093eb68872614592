"""Temporal index: values with a validity in log time, including recently ended ones.

A message is assessed with the values that are valid at its log time, so that a replay of the log gives the same result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

FOREVER = 1 << 62
PAST_MAX = 200_000
"""Ended entries kept for messages with an earlier log time. Beyond it the oldest are evicted."""


class Entry(msgspec.Struct, Generic[T], gc=False):
    """Value and its validity in milliseconds of log time; `to_ms` is excluded."""

    value: T
    since_ms: int
    to_ms: int = FOREVER


class TemporalIndex(Generic[T]):
    """Entries with a validity in log time: the latest one of each id, and up to `PAST_MAX` ended ones, oldest first."""

    def __init__(self) -> None:
        self._latest: dict[str, Entry[T]] = {}
        self._past: deque[Entry[T]] = deque()

    def __len__(self) -> int:
        return len(self._latest)

    @property
    def empty(self) -> bool:
        """Return whether the index holds no entries, including past ones."""
        return not self._latest and not self._past

    def holds(self, id_: str, value: T) -> bool:
        """Return whether the latest entry of this id has exactly this value."""
        entry = self._latest.get(id_)
        return entry is not None and entry.value == value

    def put(self, id_: str, value: T, since_ms: int) -> Entry[T]:
        """Make a value valid from `since_ms` on. The caller ends an earlier value of the id first (`end`)."""
        entry = self._latest[id_] = Entry(value, since_ms)
        return entry

    def end(self, id_: str, since_ms: int) -> Iterator[Entry[T]]:
        """End the latest entry of this id at `since_ms`; yield the entries that are no longer needed."""
        entry = self._latest.pop(id_, None)
        if entry is None:
            return
        entry.to_ms = since_ms
        if entry.since_ms >= since_ms:
            yield entry
            return
        self._past.append(entry)
        if len(self._past) > PAST_MAX:
            yield self._past.popleft()

    def forget(self, before_ms: int) -> Iterator[Entry[T]]:
        """Remove and yield the entries that ended at or before `before_ms`."""
        while self._past and self._past[0].to_ms <= before_ms:
            yield self._past.popleft()

    def __iter__(self) -> Iterator[Entry[T]]:
        """Yield all entries, past ones first."""
        yield from tuple(self._past)
        yield from tuple(self._latest.values())
