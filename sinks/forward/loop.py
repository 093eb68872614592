"""The main loop of the forwarder: block-alerts → queues → senders → commit.

One thread reads and commits; other threads send. An offset is committed only after all messages before it were
delivered, skipped or put on the rejects topic. After a crash, a stop or a rebalance, some alerts are therefore sent
again, and none is lost.
While the receiver is unreachable, the queues fill, the partitions are paused, and polling continues, so that Kafka
keeps the consumer in its group.
"""

from __future__ import annotations

import logging
import threading
import time

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from common.group_lag import Place
from schemas.events import Reject
from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, REJECTS, topic_name
from sinks.forward.alert import read, why_not
from sinks.forward.pending import PendingAlerts
from sinks.forward.queues import Item
from sinks.forward.sender import Sender
from sinks.forward.target import Answer, Target
from sinks.group_member import MESSAGES_MAX, POLL_SECS, GroupMember, commit_error, is_usual
from sinks.rejects import RejectsProducer

log = logging.getLogger(__name__)

COMMIT_SECS = 0.2
"""Shortest time, in seconds, between two commits."""
COMMIT_ANSWER_SECS_MAX = 30.0
"""Seconds after which a commit without an answer is given up."""
SENDING_SECS_MAX = 4.0
"""Longest wait of a stop, in seconds, for the requests under way."""
LEAVING_SECS_MAX = 1.0
"""Longest wait of a stop, in seconds, for leaving the group, after the wait for the requests."""


class Forwarder(GroupMember):
    """The loop that sends the alerts in Kafka to one target; `run` is called once."""

    def __init__(self, settings: Settings, target: Target) -> None:
        self._settings = settings.forward
        self._target = target
        self.topic = topic_name(settings, BLOCK_ALERTS)
        self.pending = PendingAlerts(coalesce=settings.forward.coalesce, waiting_max=settings.forward.waiting_max)
        self.missed = 0
        """Number of messages that retention deleted before they were read."""
        self.commit_failures = 0
        self._rejects = RejectsProducer(settings.kafka, topic_name(settings, REJECTS))
        self._rerouting = threading.Lock()
        self._own: set[int] = set()
        self._paused: set[int] = set()
        self._committed: dict[int, int] = {}
        self._sent_at: float | None = None
        """Monotonic time at which the commit under way was sent; None if there is none."""
        self._commit_at = 0.0
        super().__init__(settings.kafka, settings.forward, "forwarder", "forward", self._on_commit)
        self._threads = self._senders = [
            Sender(self.pending, target, self._reroute, settings.forward.retry_secs_max) for _ in range(target.parallel)
        ]

    @property
    def own(self) -> set[Place]:
        """Topics and partitions that are assigned now."""
        return {(self.topic, partition) for partition in self._own}

    @property
    def done(self) -> tuple[int, int]:
        """Number of alerts sent or refused, and number of failed tries that were postponed."""
        return self.pending.sent + self.pending.refused, self.pending.retries.total()

    @property
    def is_misconfigured(self) -> bool:
        """Whether the receiver refuses alerts until an operator acts."""
        return any(sender.answer is Answer.MISCONFIGURED for sender in self._senders)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then end within six seconds. Raises errors that cannot be retried."""
        self._stop = stop
        self._subscribe([self.topic])
        for sender in self._senders:
            sender.start()
        try:
            while not stop.is_set():
                self._step()
        finally:
            self.pending.stop()
            self._join(SENDING_SECS_MAX)
            # Leaving the group revokes the partitions, whose offsets are then committed a last time.
            self._leave(LEAVING_SECS_MAX)
            self._rejects.close()

    def _step(self) -> None:
        self._raise_failure()
        self._pause_while_full()
        for message in self._consumer.consume(MESSAGES_MAX, POLL_SECS):
            self._take(message)
        self._commit_due(time.monotonic())

    def _pause_while_full(self) -> None:
        own = self._own
        if self.pending.full and (fresh := own - self._paused):
            self._consumer.pause([TopicPartition(self.topic, partition) for partition in fresh])
            self._paused |= fresh
        elif self._paused and not self.pending.full:
            self._resume(self._paused)

    def _resume(self, partitions: set[int]) -> None:
        self._consumer.resume([TopicPartition(self.topic, partition) for partition in partitions])
        self._paused = self._paused - partitions

    def _take(self, message: confluent_kafka.Message) -> None:
        if (error := message.error()) is not None:
            self._on_error(error)
            return
        partition, offset, raw = message.partition(), message.offset(), message.value() or b""
        assert partition is not None
        assert offset is not None
        expected = self.pending.expected(partition)
        if expected is None:
            # The message was fetched before the partition was revoked.
            return
        if 0 <= expected < offset:
            self._miss(partition, expected, offset)
        _, timestamp_ms = message.timestamp()
        alert = read(raw)
        if isinstance(alert, Reject):
            self.pending.add(Item(partition, offset, timestamp_ms, raw, None, alert.detail))
        elif why := why_not(alert, self._settings):
            self.pending.skip(partition, offset, why)
        else:
            self.pending.add(Item(partition, offset, timestamp_ms, raw, alert))

    def _miss(self, partition: int, expected: int, offset: int) -> None:
        self.missed += offset - expected
        log.error(
            "alerts were deleted before they were read; give the topic a longer retention, or look why nothing was sent",
            extra={"topic": self.topic, "partition": partition, "from": expected, "to": offset - 1},
        )

    def _commit_due(self, now: float) -> None:
        if self._sent_at is not None and now < self._sent_at + COMMIT_ANSWER_SECS_MAX:
            return
        if now >= self._commit_at:
            self._commit_at = now + COMMIT_SECS
            self._commit(self._own)

    def _commit(self, partitions: set[int]) -> None:
        """Commit the offsets that Kafka does not have yet, without waiting."""
        fresh = [
            TopicPartition(self.topic, partition, offset)
            for partition, offset in self.pending.committable().items()
            if partition in partitions and 0 <= offset != self._committed.get(partition)
        ]
        if not fresh:
            return
        self._sent_at = time.monotonic()
        try:
            self._consumer.commit(offsets=fresh, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], fresh)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._sent_at = None
        if trouble := commit_error(error, partitions):
            if not is_usual(trouble):
                self.commit_failures += 1
                self._warn("offsets could not be committed, will retry", str(trouble))
            return
        self._committed |= {place.partition: place.offset for place in partitions if place.partition in self._own}

    def _adopt(self, place: TopicPartition) -> None:
        self.pending.begin(place.partition, place.offset)
        self._own = self._own | {place.partition}

    def _release(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        gone = {place.partition for place in partitions}
        if not lost:
            self._commit(gone)
        if paused := gone & self._paused:
            # librdkafka remembers a pause: without this resume, a partition that is assigned again would deliver
            # nothing.
            self._resume(paused)
        self._own = self._own - gone
        for partition in gone:
            self._committed.pop(partition, None)
            self.pending.leave(partition)

    def _reroute(self, item: Item, why: str) -> None:
        place = f"{self.topic}/{item.partition}/{item.offset}"
        record_id = f"{self._settings.group}:{place}@{item.timestamp_ms}"
        with self._rerouting:
            self._rejects.send(item.raw, f"{place}: {self._target.name}: {why}", record_id)
