"""Batches: whole Kafka messages of one partition that go into one insert.

A batch says when it is time; somebody else writes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple


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


@dataclass(slots=True)
class Batch:
    """Messages of one partition, in order, waiting for one insert.

    Its bounds depend on nothing but the messages as long as it is full before it is old, so that after a crash the same
    messages make the same batch with the same token.
    """

    topic: str
    partition: int
    rows_max: int
    bytes_max: int
    age_secs_max: float
    messages: list[Message] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    opened_at: float = 0.0
    abandoned: bool = False
    """Its partition went to another sink, which reads these messages again."""

    def fits(self, message: Message) -> bool:
        """Whether this message may still come in. One message alone always may, however large."""
        if not self.messages:
            return True
        return self.rows + message.rows <= self.rows_max and self.bytes + len(message.value) <= self.bytes_max

    def add(self, message: Message, now: float) -> None:
        """Take one message; the first one starts the clock."""
        assert not self.messages or message.offset > self.messages[-1].offset, "messages of a partition come in order"
        if not self.messages:
            self.opened_at = now
        self.messages.append(message)
        self.rows += message.rows
        self.bytes += len(message.value)

    def due(self, now: float) -> bool:
        """Full, or its first message has waited long enough."""
        if not self.messages:
            return False
        full = self.rows >= self.rows_max or self.bytes >= self.bytes_max
        return full or now - self.opened_at >= self.age_secs_max

    @property
    def next_offset(self) -> int:
        """What to commit once it is written."""
        return self.messages[-1].offset + 1


def token(topic: str, partition: int, messages: list[Message]) -> str:
    """The name of an insert: the same messages always give the same one.

    The times are in it because offsets start again where a topic is made anew, and the table may remember the old ones.
    """
    first, last = messages[0], messages[-1]
    place = f"{topic} {partition} {first.offset} {first.timestamp_ms} {last.offset} {last.timestamp_ms}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]
