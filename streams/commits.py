"""Commits: never past what was handled, whatever Faust takes for acknowledged.

While its flow is suspended, or right after a rebalance, Faust's stream skips messages that it still holds and acknowledges
them, "or the lag would increase"; and before the first commit of a partition it takes any acknowledged offset for a good
one to begin with. What was skipped so must be read again. So each commit is cut at what the bench has handled since the
assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Place(Protocol):
    """A topic and a partition, as Faust has them."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


class Commits:
    """Stands between Faust's consumer and its commits."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._handled: dict[int, int] = {}
        self._consumer: Any = None

    def forget(self) -> None:
        """Partitions were assigned or taken away: nothing was handled yet."""
        self._handled.clear()

    def handled(self, partition: int, offset: int) -> None:
        """Everything in this partition up to and with this offset is done."""
        self._handled[partition] = max(offset + 1, self._handled.get(partition, 0))

    def watch(self, consumer: Any) -> None:
        """Cut this consumer's commits (private, so pinned)."""
        if consumer is self._consumer:
            return
        self._consumer = consumer
        commit = consumer._commit_offsets

        async def commit_handled(offsets: Mapping[Any, int], *rest: Any, **options: Any) -> Any:
            safe = self.cut(offsets)
            return await commit(safe, *rest, **options) if safe else False

        consumer._commit_offsets = commit_handled

    def cut(self, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """What of these may be committed."""
        safe = {}
        for place, offset in offsets.items():
            if place.topic != self._topic:
                safe[place] = offset
            elif place.partition in self._handled:
                safe[place] = min(offset, self._handled[place.partition])
        return safe
