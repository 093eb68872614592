"""What is in force from one moment of the log's time to another, and what ended lately.

A message is judged by what was in force at the log's time of it, so that a replay of the log judges alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

FOREVER = 1 << 62
PAST_MAX = 200_000
"""Of entries that ended so many are kept for messages logged before; beyond it the oldest go."""


class Entry(msgspec.Struct, Generic[T], gc=False):
    """A value and the log's milliseconds in which it holds, the last one excluded."""

    value: T
    since_ms: int
    to_ms: int = FOREVER


class TemporalIndex(Generic[T]):
    """Entries by id: the latest of each, and those that ended, oldest first."""

    def __init__(self) -> None:
        self._latest: dict[str, Entry[T]] = {}
        self._past: deque[Entry[T]] = deque()

    def __len__(self) -> int:
        return len(self._latest)

    @property
    def empty(self) -> bool:
        """Nothing at all, past entries neither."""
        return not self._latest and not self._past

    def holds(self, id_: str, value: T) -> bool:
        """Whether the latest of this id is just this."""
        entry = self._latest.get(id_)
        return entry is not None and entry.value == value

    def put(self, id_: str, value: T, since_ms: int) -> Entry[T]:
        """A value holds from then on; `end` says first that an earlier one does not."""
        entry = self._latest[id_] = Entry(value, since_ms)
        return entry

    def end(self, id_: str, since_ms: int) -> Iterator[Entry[T]]:
        """The latest of this id ends there; gives the entries that are needed no more."""
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
        """Gives the entries that ended before then, and are needed no more."""
        while self._past and self._past[0].to_ms <= before_ms:
            yield self._past.popleft()

    def __iter__(self) -> Iterator[Entry[T]]:
        """All that are kept, past ones first."""
        yield from tuple(self._past)
        yield from tuple(self._latest.values())
