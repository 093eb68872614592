"""Continuity: checks that the offsets of each partition have no holes, so that no message is skipped unnoticed.

A topic without transactions or compaction has no holes in its offsets. A hole means that messages were lost on the broker or on
the way to the worker; acknowledging the messages behind it would make the loss final. Faust treats a hole as a compaction gap
and commits past it. Therefore the worker checks the offsets itself and ends before it acknowledges anything behind a hole.
"""

from __future__ import annotations

from collections.abc import Sequence


class Continuity:
    """The last offset read of each partition."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def forget(self) -> None:
        """Drop all offsets after an assignment or a revocation: the next message of each partition is its first again."""
        self._last.clear()

    def knows(self, partition: int) -> bool:
        """Return whether a message of this partition was read since its assignment."""
        return partition in self._last

    def begin(self, partition: int, first: int, start: int) -> str:
        """Check the offset of the first message since an assignment against the group's; return the fault, "" if there is none.

        `start` is the offset at which the group resumes.
        """
        if first > start:
            return (
                f"partition {partition}: the group stands at offset {start}, but the first message is {first}: "
                f"{first - start} messages were passed over; where that comes again and again they are gone (deleted by "
                f"retention?): to accept that, move the group's offset with kafka-consumer-groups --reset-offsets"
            )
        self._last[partition] = first - 1
        return ""

    def follow(self, partition: int, offsets: Sequence[int]) -> str:
        """Check the offsets of further messages, in the order read; return the fault, "" if there is none."""
        last = self._last[partition]
        for offset in offsets:
            # Faust may read messages again after a seek; only a step forward can skip messages.
            if offset > last + 1:
                return (
                    f"partition {partition}: offset {offset} follows {last}: {offset - last - 1} messages are missing"
                )
            last = offset
        self._last[partition] = last
        return ""
