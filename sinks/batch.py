"""Batches: whole Kafka messages of one partition that go into one insert, and where one ends and the next begins.

A batch says when it is time; somebody else writes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from sinks.plan import Plan


class Message(NamedTuple):
    """A Kafka message as the sink sees it: a piece of JSON lines at a place in its partition."""

    offset: int
    timestamp_ms: int
    value: bytes
    """Empty for a message without rows; it only moves the offset."""

    @property
    def rows(self) -> int:
        """How many rows are in it, without reading them."""
        return self.value.count(b"\n") + 1 if self.value else 0


class Limits(NamedTuple):
    """When a batch ends that nobody has planned yet."""

    rows_max: int
    bytes_max: int
    age_secs_max: float


@dataclass(slots=True)
class Batch:
    """Messages of one partition, in order, waiting for one insert."""

    topic: str
    partition: int
    limits: Limits
    start: int
    """The offset from which on it stands for its partition. Its first message may be later: retention deletes."""
    end: int | None = None
    """The offset before which it ends, where it was planned before; then no limits count."""
    messages: list[Message] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    opened_at: float = 0.0
    abandoned: bool = False
    """Its partition went to another sink, which reads these messages again."""

    def fits(self, message: Message) -> bool:
        """Whether this message may still come in. One message alone always may, however large."""
        if self.end is not None:
            return message.offset < self.end
        if not self.messages:
            return True
        return (
            self.rows + message.rows <= self.limits.rows_max
            and self.bytes + len(message.value) <= self.limits.bytes_max
        )

    def add(self, message: Message, now: float) -> None:
        """Take one message; the first one starts the clock."""
        assert not self.messages or message.offset > self.messages[-1].offset, "messages of a partition come in order"
        if not self.messages:
            self.opened_at = now
        self.messages.append(message)
        self.rows += message.rows
        self.bytes += len(message.value)

    def due(self, now: float) -> bool:
        """Complete as planned; else full, or its first message has waited long enough."""
        if not self.messages:
            return False
        if self.end is not None:
            return self.messages[-1].offset + 1 >= self.end
        full = self.rows >= self.limits.rows_max or self.bytes >= self.limits.bytes_max
        return full or now - self.opened_at >= self.limits.age_secs_max

    @property
    def next_offset(self) -> int:
        """What to commit once it is written."""
        return self.messages[-1].offset + 1 if self.end is None else self.end


class Cutter:
    """Cuts the messages of one partition into batches: first where its last owner planned to, then by the limits."""

    def __init__(self, topic: str, partition: int, limits: Limits, plan: Plan | None) -> None:
        self.open: Batch | None = None
        self.position = plan.written if plan else None
        """The offset that should come next; None where nothing is known of the partition."""
        self.begun = False
        """Whether a message came."""
        self._topic = topic
        self._partition = partition
        self._limits = limits
        self._start = self.position
        self._ends = deque(plan.ends if plan else ())

    def take(self, message: Message, now: float) -> Batch | None:
        """Take the next message; gives the batch that ended before it."""
        ended = self._close() if self.open and not self.open.fits(message) else None
        if self._start is None:
            self._start = message.offset
        while self._ends and self._ends[0] <= message.offset:
            # Retention deleted all that was planned there; the next batch begins where it began before.
            self._start = self._ends.popleft()
        if self.open is None:
            end = self._ends.popleft() if self._ends else None
            self.open = Batch(self._topic, self._partition, self._limits, self._start, end)
        self.open.add(message, now)
        self.position = message.offset + 1
        self.begun = True
        return ended

    def due(self, now: float) -> Batch | None:
        """The batch for which it is time."""
        return self._close() if self.open and self.open.due(now) else None

    def planned_since(self) -> float | None:
        """Since when it waits for the rest of a batch that was planned."""
        return self.open.opened_at if self.open and self.open.end is not None else None

    def forget_plan(self) -> None:
        """What was planned cannot come any more: go on by the limits."""
        self._ends.clear()
        if self.open:
            self.open.end = None

    def _close(self) -> Batch:
        assert self.open
        ended, self.open = self.open, None
        self._start = ended.next_offset
        return ended


def token(topic: str, partition: int, start: int, end: int, last: Message) -> str:
    """The name of an insert: the same piece of a partition always gives the same one.

    A time is in it because offsets start again where a topic is made anew, and the table may remember the old ones. It is
    the last message's, as retention deletes the first ones first.
    """
    place = f"{topic} {partition} {start} {end} {last.timestamp_ms}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]
