"""Continuity: each message is the next one, so nothing can be passed over unseen.

A topic without transactions or compaction has no holes in its offsets. Where one shows, messages were lost on the way
to us or on the broker, and acknowledging what follows would make it final. Faust takes a hole for a compaction gap and
commits past it; therefore the worker looks itself, and ends before it acknowledges anything behind a hole.
"""

from __future__ import annotations

from collections.abc import Sequence


class Continuity:
    """Remembers the last offset seen of each partition."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def forget(self) -> None:
        """Partitions were assigned or taken away: the next message of each is a first one again."""
        self._last.clear()

    def knows(self, partition: int) -> bool:
        """Whether a message of this partition was seen since its assignment."""
        return partition in self._last

    def begin(self, partition: int, first: int, start: int) -> str:
        """The first message since an assignment, and where the group stands; says what is wrong, "" if nothing is."""
        if first > start:
            return (
                f"partition {partition}: the group stands at offset {start}, but the first message is {first}: "
                f"{first - start} messages were passed over; where that comes again and again they are gone (deleted by "
                f"retention?): to accept that, move the group's offset with kafka-consumer-groups --reset-offsets"
            )
        self._last[partition] = first - 1
        return ""

    def follow(self, partition: int, offsets: Sequence[int]) -> str:
        """Further messages of a partition, in the order read; says what is wrong, "" if nothing is."""
        last = self._last[partition]
        for offset in offsets:
            # Faust may read a stretch again after a seek; only a step forward can skip something.
            if offset > last + 1:
                return (
                    f"partition {partition}: offset {offset} follows {last}: {offset - last - 1} messages are missing"
                )
            last = offset
        self._last[partition] = last
        return ""
