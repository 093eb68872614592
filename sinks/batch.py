"""Batches: whole Kafka messages of one partition that go into one insert, and where each batch ends.

This module decides when a batch is due; `sinks.writer` writes it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from sinks.plan import Plan


class Message(NamedTuple):
    """A Kafka message as the sink uses it: JSON lines at an offset of a partition."""

    offset: int
    timestamp_ms: int
    value: bytes
    """Empty for a message without rows, which only advances the offset."""

    @property
    def rows(self) -> int:
        """Number of rows, counted without parsing them."""
        return self.value.count(b"\n") + 1 if self.value else 0


class Limits(NamedTuple):
    """Limits that end a batch without a planned end."""

    rows_max: int
    bytes_max: int
    age_secs_max: float


@dataclass(slots=True)
class Batch:
    """Messages of one partition, in order, for one insert."""

    topic: str
    partition: int
    limits: Limits
    start: int
    """First offset that the batch covers. Its first message may be later, because retention deletes messages."""
    end: int | None = None
    """Planned end of the batch, exclusive. If set, the limits do not apply."""
    messages: list[Message] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    opened_at: float = 0.0
    abandoned: bool = False
    """Whether the partition was assigned to another sink, which reads these messages again."""

    def fits(self, message: Message) -> bool:
        """Return whether the batch can take this message. Without a planned end, it takes a first message of any size."""
        if self.end is not None:
            return message.offset < self.end
        if not self.messages:
            return True
        return (
            self.rows + message.rows <= self.limits.rows_max
            and self.bytes + len(message.value) <= self.limits.bytes_max
        )

    def add(self, message: Message, now: float) -> None:
        """Add a message; the first one starts the clock."""
        assert not self.messages or message.offset > self.messages[-1].offset, "messages of a partition come in order"
        if not self.messages:
            self.opened_at = now
        self.messages.append(message)
        self.rows += message.rows
        self.bytes += len(message.value)

    def due(self, now: float) -> bool:
        """Return whether the batch has reached its planned end; without one, whether it is full or old enough."""
        if not self.messages:
            return False
        if self.end is not None:
            return self.messages[-1].offset + 1 >= self.end
        full = self.rows >= self.limits.rows_max or self.bytes >= self.limits.bytes_max
        return full or now - self.opened_at >= self.limits.age_secs_max

    @property
    def next_offset(self) -> int:
        """Offset to commit once the batch is written."""
        return self.messages[-1].offset + 1 if self.end is None else self.end


class Cutter:
    """Splits the messages of one partition into batches.

    The first batches end where the sink that had the partition before has planned it, the others at the limits.
    """

    def __init__(self, topic: str, partition: int, limits: Limits, plan: Plan | None) -> None:
        self.open: Batch | None = None
        self.position = plan.written if plan else None
        """Expected offset of the next message; None if the partition has no committed offset."""
        self.begun = False
        """Whether at least one message was taken."""
        self._topic = topic
        self._partition = partition
        self._limits = limits
        self._start = self.position
        self._ends = deque(plan.ends if plan else ())

    def take(self, message: Message, now: float) -> Batch | None:
        """Take the next message; return the batch that it ended, if any."""
        ended = self._close() if self.open and not self.open.fits(message) else None
        if self._start is None:
            self._start = message.offset
        while self._ends and self._ends[0] <= message.offset:
            # Retention deleted the whole planned batch. The next batch starts where it was planned to start.
            self._start = self._ends.popleft()
        if self.open is None:
            end = self._ends.popleft() if self._ends else None
            self.open = Batch(self._topic, self._partition, self._limits, self._start, end)
        self.open.add(message, now)
        self.position = message.offset + 1
        self.begun = True
        return ended

    def due(self, now: float) -> Batch | None:
        """Close and return the open batch if it is due; else return None."""
        return self._close() if self.open and self.open.due(now) else None

    def planned_since(self) -> float | None:
        """Return the time at which the open batch started, if its end is planned; else None."""
        return self.open.opened_at if self.open and self.open.end is not None else None

    def forget_plan(self) -> None:
        """Drop the planned ends, whose messages no longer exist; the limits apply from here on."""
        self._ends.clear()
        if self.open:
            self.open.end = None

    def _close(self) -> Batch:
        assert self.open
        ended, self.open = self.open, None
        self._start = ended.next_offset
        return ended


def token(topic: str, partition: int, start: int, end: int, last: Message) -> str:
    """Return the deduplication token of an insert: the same range of a partition always has the same token.

    The token includes a timestamp, because a recreated topic has the same offsets again while the table still
    remembers the old tokens. It is the timestamp of the last message, because retention deletes the oldest messages
    first.
    """
    place = f"{topic} {partition} {start} {end} {last.timestamp_ms}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]
