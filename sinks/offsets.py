"""The offsets and plans to commit: up to where each partition is written, and which batches are planned after that.

A batch waits here until Kafka has acknowledged the commit of its end (`sinks.plan`); only then may it be written.
Writers record which batches are written. Only the loop commits, because commits from two threads make librdkafka hang.
Only one commit is in flight at a time, so that an older plan never overwrites a newer one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from sinks.batch import Batch
from sinks.group_member import commit_error, is_usual
from sinks.plan import ENDS_MAX, Plan

PAUSE_SECS = 0.2
"""Pause, in seconds, before a failed commit is retried."""

ANSWER_SECS_MAX = 30.0
"""Seconds after which a commit without an answer is given up. librdkafka always answers much earlier."""

Key = tuple[str, int]


@dataclass(slots=True)
class _Place:
    """State of one assigned partition."""

    written: int | None
    """Offset before which all messages are written; None if it is unknown."""
    ends: deque[int]
    """Ends of batches that are planned and not written."""
    acknowledged: int
    """Offset up to which Kafka has acknowledged the planned ends."""
    planned: Plan | None
    """Plan that Kafka acknowledged last."""
    waiting: deque[Batch] = field(default_factory=deque)
    """Batches that may be written once Kafka has acknowledged their ends."""

    def plan(self) -> Plan | None:
        """Return the plan to commit; None if it is not known up to where the partition is written."""
        return None if self.written is None else Plan(self.written, tuple(self.ends)[:ENDS_MAX])

    def note(self, offset: int) -> None:
        """Record that all messages before this offset are written."""
        self.written = offset
        while self.ends and self.ends[0] <= offset:
            self.ends.popleft()

    def acknowledge(self, plan: Plan) -> None:
        """Record that Kafka acknowledged the commit of this plan."""
        self.planned = plan
        self.acknowledged = max(self.acknowledged, plan.written, *plan.ends)


class Offsets:
    """The plans of the assigned partitions, and the batches that wait for an acknowledgement."""

    def __init__(self, write: Callable[[Batch], None], warn: Callable[[str, str], None]) -> None:
        self._write = write
        self._warn = warn
        self._places: dict[Key, _Place] = {}
        self._sent: dict[Key, Plan] = {}
        self._sent_at = 0.0
        self._again_at = 0.0
        self.failures = 0
        """Number of commits that Kafka rejected."""
        self._lock = threading.Lock()

    def adopt(self, topic: str, partition: int, plan: Plan | None) -> None:
        """Add a newly assigned partition with its committed plan."""
        known = Plan(-1) if plan is None else plan
        ends = deque(known.ends)
        place = _Place(plan.written if plan else None, ends, ends[-1] if ends else known.written, plan)
        with self._lock:
            self._places[topic, partition] = place

    def plan(self, batch: Batch) -> None:
        """Plan a batch. It is written once Kafka has acknowledged its end; at once if Kafka already has."""
        place = self._places[batch.topic, batch.partition]
        with self._lock:
            if place.written is None:
                place.written = batch.start
            if batch.next_offset > (place.ends[-1] if place.ends else place.written):
                place.ends.append(batch.next_offset)
            place.waiting.append(batch)
        self._release(place)

    def forget_plan(self, topic: str, partition: int) -> None:
        """Drop the planned ends of a partition, because the messages before them no longer exist."""
        place = self._places[topic, partition]
        with self._lock:
            place.ends.clear()
            place.acknowledged = -1 if place.written is None else place.written

    def note(self, batch: Batch) -> None:
        """Record that the batch is written."""
        with self._lock:
            if place := self._places.get((batch.topic, batch.partition)):
                place.note(batch.next_offset)

    def waiting(self) -> list[Batch]:
        """Return the batches that wait for Kafka's acknowledgement."""
        return [batch for place in list(self._places.values()) for batch in list(place.waiting)]

    def commit(self, consumer: Consumer, now: float) -> None:
        """Commit the plans that Kafka does not have yet, without waiting; the answer goes to `answered`.

        While a commit is in flight, or a failed one is paused, this does nothing.
        """
        if now >= self._again_at and not (self._sent and now < self._sent_at + ANSWER_SECS_MAX):
            self._sent_at = now
            self._send(consumer, list(self._places))

    def leave(self, consumer: Consumer | None, keys: Iterable[Key]) -> list[Batch]:
        """Remove revoked partitions, after a last commit if `consumer` is given; return their batches that still waited.

        This does not wait for the answer to the commit: librdkafka sends it before it gives up the partition. If the
        commit is lost, the next owner writes the same batches with the same tokens.
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
        """Handle the answer to a commit: release the batches that waited for it; failed plans are sent again later."""
        if trouble := commit_error(error, partitions):
            self._again_at = time.monotonic() + PAUSE_SECS
            if not is_usual(trouble):
                self.failures += 1
                self._warn("offsets could not be committed, will retry", str(trouble))
        if error:
            self._sent.clear()
            return
        for answer in partitions:
            key = answer.topic, answer.partition
            sent, place = self._sent.pop(key, None), self._places.get(key)
            # An answer from before a partition was revoked and assigned again does not apply to its present state.
            if not answer.error and place and sent and sent == Plan.read(answer.offset, answer.metadata):
                place.acknowledge(sent)
                self._release(place)

    def _send(self, consumer: Consumer, keys: list[Key]) -> None:
        with self._lock:
            plans = {key: self._places[key].plan() for key in keys}
            fresh = {key: plan for key, plan in plans.items() if plan and plan != self._places[key].planned}
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
