"""What Kafka must know of each partition: up to where it is written, and the batches planned beyond.

A batch waits here until Kafka has acknowledged its end (`sinks.plan`); only then it may be written. Writers note what is
written; the loop alone commits, as two threads hang librdkafka. One commit is under way at a time, so that an older plan
never comes after a newer one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from sinks.batch import Batch
from sinks.plan import ENDS_MAX, Plan

PAUSE_SECS = 0.2
"""Before a commit that failed is tried again."""

ANSWER_SECS_MAX = 30.0
"""A commit without any answer for so long is given up; librdkafka answers much earlier, whatever happens."""

_USUAL_ERRORS = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID)
"""Members come and go. Where this one is meant, its partitions are lost at the next heartbeat, and that is told."""

Key = tuple[str, int]


@dataclass(slots=True)
class _Place:
    """One partition of ours."""

    written: int | None
    ends: deque[int]
    """Of batches that are planned and not written."""
    acknowledged: int
    """Kafka knows of all planned ends up to here."""
    told: Plan | None
    """What Kafka has acknowledged last."""
    waiting: deque[Batch] = field(default_factory=deque)

    def plan(self) -> Plan | None:
        """What Kafka should know."""
        return None if self.written is None else Plan(self.written, tuple(self.ends)[:ENDS_MAX])

    def note(self, offset: int) -> None:
        """All before this offset is in the sink."""
        self.written = offset
        while self.ends and self.ends[0] <= offset:
            self.ends.popleft()

    def acknowledge(self, plan: Plan) -> None:
        """Kafka has this plan."""
        self.told = plan
        self.acknowledged = max(self.acknowledged, plan.written, *plan.ends)


class Offsets:
    """The plans of our partitions, and the batches that wait until Kafka has them."""

    def __init__(self, write: Callable[[Batch], None], warn: Callable[[str, str], None]) -> None:
        self._write = write
        self._warn = warn
        self._places: dict[Key, _Place] = {}
        self._sent: dict[Key, Plan] = {}
        self._sent_at = 0.0
        self._again_at = 0.0
        self.failures = 0
        """Commits that Kafka did not take."""
        self._lock = threading.Lock()

    def adopt(self, topic: str, partition: int, plan: Plan | None) -> None:
        """The partition is ours, with the plan that Kafka has of it."""
        known = Plan(-1) if plan is None else plan
        ends = deque(known.ends)
        place = _Place(plan.written if plan else None, ends, ends[-1] if ends else known.written, plan)
        with self._lock:
            self._places[topic, partition] = place

    def plan(self, batch: Batch) -> None:
        """Have the batch written once Kafka knows where it ends, which may be now."""
        place = self._places[batch.topic, batch.partition]
        with self._lock:
            if place.written is None:
                place.written = batch.start
            if batch.next_offset > (place.ends[-1] if place.ends else place.written):
                place.ends.append(batch.next_offset)
            place.waiting.append(batch)
        self._release(place)

    def forget_plan(self, topic: str, partition: int) -> None:
        """The batches that were planned cannot come any more."""
        place = self._places[topic, partition]
        with self._lock:
            place.ends.clear()
            place.acknowledged = -1 if place.written is None else place.written

    def note(self, batch: Batch) -> None:
        """The batch is in the sink."""
        with self._lock:
            if place := self._places.get((batch.topic, batch.partition)):
                place.note(batch.next_offset)

    def waiting(self) -> list[Batch]:
        """Batches that wait for Kafka's word."""
        return [batch for place in list(self._places.values()) for batch in list(place.waiting)]

    def commit(self, consumer: Consumer, now: float) -> None:
        """Send what Kafka does not know yet, without waiting; `answered` hears of it."""
        if now >= self._again_at and not (self._sent and now < self._sent_at + ANSWER_SECS_MAX):
            self._sent_at = now
            self._send(consumer, list(self._places))

    def leave(self, consumer: Consumer | None, keys: Iterable[Key]) -> list[Batch]:
        """The partitions go: commit a last time where one still may, and give what waited for it.

        Without waiting for an answer: librdkafka brings it out before it lets go of the partition, and without it the
        next owner merely writes the same batches with the same tokens.
        """
        given = [key for key in keys if key in self._places]
        if consumer is not None:
            self._send(consumer, given)
        with self._lock:
            left = [self._places.pop(key) for key in given]
            for key in given:
                self._sent.pop(key, None)
        return [batch for place in left for batch in place.waiting]

    def answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Kafka's answer to a commit: what waited for it may be written; what failed is sent again."""
        if trouble := error or next((place.error for place in partitions if place.error), None):
            self._again_at = time.monotonic() + PAUSE_SECS
            if trouble.code() not in _USUAL_ERRORS:
                self.failures += 1
                self._warn("offsets could not be committed, will retry", str(trouble))
        if error:
            self._sent.clear()
            return
        for answer in partitions:
            key = answer.topic, answer.partition
            sent, place = self._sent.pop(key, None), self._places.get(key)
            # An answer from before the partition went and came back says nothing of what it is now.
            if not answer.error and place and sent and sent == Plan.read(answer.offset, answer.metadata):
                place.acknowledge(sent)
                self._release(place)

    def _send(self, consumer: Consumer, keys: list[Key]) -> None:
        with self._lock:
            plans = {key: self._places[key].plan() for key in keys}
            fresh = {key: plan for key, plan in plans.items() if plan and plan != self._places[key].told}
        self._sent = {**self._sent, **fresh} if fresh else self._sent
        offsets = [TopicPartition(*key, plan.written, metadata=plan.metadata) for key, plan in fresh.items()]
        if not offsets:
            return
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self.answered(error.args[0], offsets)

    def _release(self, place: _Place) -> None:
        while place.waiting and place.waiting[0].next_offset <= place.acknowledged:
            self._write(place.waiting.popleft())
