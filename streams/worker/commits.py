"""Commits: never past the handled messages, and a return to them wherever messages already read are dropped.

While its flow is suspended, or right after a rebalance, Faust's stream skips messages that it still holds and acknowledges
them, "or the lag would increase". Before the first commit of a partition, Faust accepts any acknowledged offset as a start.
The skipped messages must be read again. `Commits` therefore limits each commit to what the batch processor has handled since
the assignment.

Where Faust moves back to the committed offsets, aiokafka keeps its position in a partition without a first commit. There
`Commits` moves to the beginning, from which the group must resume.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

log = logging.getLogger(__name__)


class Commits:
    """The filter between Faust's consumer and its commits."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._handled: dict[int, int] = {}
        self._consumer: Any = None

    def forget(self) -> None:
        """Drop the handled offsets: after an assignment or a revocation nothing has been handled yet."""
        self._handled.clear()

    def handled(self, partition: int, offset: int) -> None:
        """Record that everything in this partition up to and including this offset is handled."""
        self._handled[partition] = max(offset + 1, self._handled.get(partition, 0))

    def watch(self, consumer: Any) -> None:
        """Limit this consumer's commits, and make its return to committed offsets cover every partition.

        It replaces private methods, so the version of Faust is pinned.
        """
        if consumer is self._consumer:
            return
        self._consumer = consumer
        commit = consumer._commit_offsets
        seek_to_committed = consumer.seek_to_committed

        async def commit_handled(offsets: Mapping[Any, int], *rest: Any, **options: Any) -> Any:
            safe = self.cut(offsets)
            return await commit(safe, *rest, **options) if safe else False

        async def seek_everywhere() -> Mapping[Any, int | None]:
            offsets: Mapping[Any, int | None] = await seek_to_committed()
            await self._seek_to_beginning([place for place, offset in offsets.items() if not offset])
            return offsets

        consumer._commit_offsets = commit_handled
        consumer.seek_to_committed = seek_everywhere

    async def _seek_to_beginning(self, uncommitted: Collection[Any]) -> None:
        ours = [place for place in uncommitted if place.topic == self._topic]
        if not ours:
            return
        thread = self._consumer._thread
        try:
            await thread.call_thread(_go_to_beginning, thread._ensure_consumer(), ours)
        except KafkaError as error:
            log.warning("could not go back to the beginning", extra={"error": repr(error)})

    def cut(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        """Return the offsets that may be committed, each limited to what was handled."""
        safe = {}
        for place, offset in offsets.items():
            if place.topic != self._topic:
                safe[place] = offset
            elif place.partition in self._handled:
                safe[place] = min(offset, self._handled[place.partition])
        return safe


async def _go_to_beginning(kafka: Any, places: Collection[Any]) -> None:
    """Move to the beginning offset of each place that is still assigned.

    `seek_to_beginning` is no alternative: it leaves the position unknown for a moment, which crashes Faust's livelock detector.
    """
    for place, offset in (await kafka.beginning_offsets(places)).items():
        if place in kafka.assignment():
            kafka.seek(place, offset)
