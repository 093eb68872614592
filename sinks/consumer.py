"""The main loop of the sink: messages → batches per partition → commit of their ends → inserts → commit of the offset.

One thread reads and cuts batches. Other threads (`sinks.writer`) write them; a partition always has the same writer, so
its batches stay in order. When the writers fall behind, reading stops; after `PAUSE_AFTER_SECS` the partitions are
paused and polling continues, so that Kafka keeps the consumer in its group.

The offsets of messages that are not written are never committed: after a crash, a stop or a rebalance, the messages are
read again. The ends of the batches are committed before the inserts (`sinks.plan`). The repeated inserts therefore have
the same rows and tokens, and the tables drop the duplicates.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence

import confluent_kafka
from confluent_kafka import TopicPartition

from schemas.settings import Settings
from schemas.topics import REJECTS, TABLE_OF_TOPIC, topic_name
from sinks.base import Sink, SinkRefused
from sinks.batch import Batch, Cutter, Limits
from sinks.counters import Written, zeros
from sinks.group_member import MESSAGES_MAX, POLL_SECS, GroupMember
from sinks.offsets import Key, Offsets
from sinks.plan import Plan
from sinks.rejects import RejectsProducer, as_rows
from sinks.writer import Refusal, Writer

log = logging.getLogger(__name__)

BATCHES_WAITING_MAX = 2
"""Largest number of batches that wait at a writer; at this number, reading stops.

Reading also stops when the bytes of all held batches reach this number times `batch_bytes_max` for each writer.
"""

PAUSE_AFTER_SECS = 5.0
"""Seconds without room after which the partitions are paused; not earlier, because pausing discards prefetched messages."""
ACKNOWLEDGED_POLL_SECS = 0.005
"""Seconds between two polls while reading has stopped and batches wait for Kafka's acknowledgement.

Only a poll receives the acknowledgement.
"""

PLANNED_SECS_MAX = 10.0
"""Seconds that a batch with a planned end may be open before the loop checks whether its other messages still exist."""

STOP_SECS_MAX = 0.6
"""Longest wait of a stop, in seconds, for the inserts under way, and the same again for leaving the group.

The metrics page takes another half second to stop.
"""


class SinkLoop(GroupMember):
    """The loop that writes the rows of all topics to the sinks; `run` is called once.

    All sinks have the same destination. Each sink has a writer, so `len(sinks)` inserts run in parallel.
    """

    def __init__(self, settings: Settings, sinks: Sequence[Sink]) -> None:
        self._settings = settings.sink
        self._tables = {topic_name(settings, name): table for name, table in TABLE_OF_TOPIC.items()}
        self.messages_by_topic = zeros(self._tables)
        self.rows_by_topic = zeros(self._tables)
        self._rows_left = zeros(self._tables.values())
        self.missed_by_topic = zeros(self._tables)
        self._rejects_topic = topic_name(settings, REJECTS)
        self._rejects = RejectsProducer(settings.kafka, self._rejects_topic)
        self._limits = Limits(
            settings.sink.batch_rows_max, settings.sink.batch_bytes_max, settings.sink.batch_age_secs_max
        )
        self._offsets = Offsets(self._write, self._warn)
        super().__init__(settings.kafka, settings.sink, "sink", "sink", self._offsets.answered)
        self._cutters: dict[Key, Cutter] = {}
        self._full_since: float | None = None
        self._paused: set[Key] = set()
        self._changed = threading.Condition()
        self._threads = self._writers = [
            Writer(sink, self._tables, self._settings.retry_secs_max, self._offsets.note, self._reroute, self._changed)
            for sink in sinks
        ]

    @property
    def rows_read(self) -> int:
        """Rows in the messages read so far."""
        return self.rows_by_topic.total()

    @property
    def rows_written(self) -> int:
        """Rows written to the sink so far."""
        return sum(writer.rows_written for writer in self._writers)

    @property
    def done(self) -> tuple[int, int]:
        """Number of batches written, and number of failed writes that were postponed."""
        return self.batches, self.retries

    @property
    def batches(self) -> int:
        """Number of batches written."""
        return sum(writer.batches for writer in self._writers)

    @property
    def retries(self) -> int:
        """Number of failed writes that were postponed."""
        return sum(writer.retries for writer in self._writers)

    @property
    def refused(self) -> int:
        """Number of messages sent to the rejects topic because their rows cannot be stored."""
        return sum(writer.refused for writer in self._writers)

    @property
    def commit_failures(self) -> int:
        """Number of commits that Kafka rejected."""
        return self._offsets.failures

    @property
    def topics(self) -> list[str]:
        """Topics that the loop reads."""
        return list(self._tables)

    @property
    def own(self) -> set[Key]:
        """Topics and partitions that are assigned now."""
        return set(self._cutters)

    def written(self) -> Written:
        """Return the counters of all writers, by table."""
        return sum((writer.counts for writer in self._writers), Written(rows_left=self._rows_left))

    def rows_waiting(self) -> Counter[str]:
        """Return the number of rows that were read and are not written yet, by table."""
        waiting = zeros(self._tables.values())
        for batch in [*self._open(), *self._offsets.waiting()]:
            waiting[self._tables[batch.topic]] += batch.rows
        for writer in self._writers:
            waiting.update(writer.rows_held())
        return waiting

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then end within two seconds. Raises errors that cannot be retried."""
        self._stop = stop
        self._subscribe(self.topics)
        try:
            while not stop.is_set():
                self._step()
        finally:
            for writer in self._writers:
                writer.stop()
            self._join(STOP_SECS_MAX)
            self._leave(STOP_SECS_MAX)
            self._rejects.close()

    def _step(self) -> None:
        self._raise_failure()
        now = time.monotonic()
        self._plan_due(now)
        self._offsets.commit(self._consumer, now)
        for message in self._read(now):
            self._take(message, now)

    def _read(self, now: float) -> list[confluent_kafka.Message]:
        """Return the messages that arrived; none if there is no room for them."""
        if self._has_room():
            self._resume()
            return self._consumer.consume(MESSAGES_MAX, POLL_SECS)
        if self._pause_when_long(now):
            return self._consumer.consume(MESSAGES_MAX, POLL_SECS)
        awaited = bool(self._offsets.waiting())
        with self._changed:
            self._changed.wait(ACKNOWLEDGED_POLL_SECS if awaited else POLL_SECS)
        return self._consumer.consume(1, 0.0) if awaited else []

    def _take(self, message: confluent_kafka.Message, now: float) -> None:
        error = message.error()
        if error is not None:
            self._on_error(error)
            return
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        cutter = self._cutters.get((topic, partition))
        if cutter is None:
            # The message was fetched before the partition was revoked. Writing it would commit an offset after rows
            # that are not written.
            return
        if cutter.position is not None and cutter.position != offset:
            cutter = self._jump(TopicPartition(topic, partition, offset), cutter)
        taken = as_rows(message, self._rejects_topic)
        self.messages_by_topic[topic] += 1
        self.rows_by_topic[topic] += taken.rows
        if ended := cutter.take(taken, now):
            self._offsets.plan(ended)

    def _jump(self, place: TopicPartition, cutter: Cutter) -> Cutter:
        """Handle a message whose offset does not follow the last one; return the cutter to use. Raises SinkRefused."""
        expected = cutter.position
        assert expected is not None
        if place.offset < expected:
            if cutter.begun:
                raise SinkRefused(
                    f"topic {place.topic}: partition {place.partition} went back from {expected} to {place.offset}, so it "
                    "was created again or lost its end; start the sink again, it will read what is there"
                )
            log.warning(
                "partition ends before what was written, reading all of it",
                extra={"topic": place.topic, "partition": place.partition, "from": place.offset, "expected": expected},
            )
            return self._begin(_key(place), Plan(place.offset))
        missed = place.offset - expected
        self.missed_by_topic[place.topic] += missed
        log.error(
            "messages were deleted before they were read; give the topic a longer retention, or look why the sink is slow",
            extra={
                "topic": place.topic, "partition": place.partition, "messages": missed, "from": expected,
                "to": place.offset - 1,
            },
        )  # fmt: skip
        return cutter

    def _plan_due(self, now: float) -> None:
        for key, cutter in self._cutters.items():
            since = cutter.planned_since()
            if since is not None and now - since > PLANNED_SECS_MAX and self._is_cut_short(key, cutter):
                cutter.forget_plan()
                self._offsets.forget_plan(*key)
                log.warning("partition ends before what was planned", extra={"topic": key[0], "partition": key[1]})
            if ended := cutter.due(now):
                self._offsets.plan(ended)

    def _is_cut_short(self, key: Key, cutter: Cutter) -> bool:
        """Return whether the partition ends at the current position although the plan goes further."""
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
        return 0 <= end == cutter.position

    def _open(self) -> list[Batch]:
        return [cutter.open for cutter in list(self._cutters.values()) if cutter.open]

    def _write(self, batch: Batch) -> None:
        self._writer_of(batch.partition).hand_over(batch)

    def _writer_of(self, partition: int) -> Writer:
        return self._writers[partition % len(self._writers)]

    def _has_room(self) -> bool:
        waiting = self._offsets.waiting()
        held = sum(writer.bytes for writer in self._writers) + sum(batch.bytes for batch in [*self._open(), *waiting])
        bytes_max = BATCHES_WAITING_MAX * len(self._writers) * self._settings.batch_bytes_max
        planned = Counter(batch.partition % len(self._writers) for batch in waiting)
        return held < bytes_max and all(
            writer.waiting + planned[number] < BATCHES_WAITING_MAX for number, writer in enumerate(self._writers)
        )

    def _pause_when_long(self, now: float) -> bool:
        """Pause the partitions if there has been no room for `PAUSE_AFTER_SECS`; return whether they are paused.

        While they are paused, polls return no messages; they only keep the consumer in its group.
        """
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < PAUSE_AFTER_SECS:
            return False
        if fresh := [place for place in self._consumer.assignment() if _key(place) not in self._paused]:
            self._consumer.pause(fresh)
            self._paused.update(map(_key, fresh))
        return True

    def _resume(self) -> None:
        self._full_since = None
        if self._paused:
            self._consumer.resume([place for place in self._consumer.assignment() if _key(place) in self._paused])
            self._paused.clear()

    def _adopt(self, place: TopicPartition) -> None:
        self._begin(_key(place), Plan.read(place.offset, place.metadata))

    def _begin(self, key: Key, plan: Plan | None) -> Cutter:
        self._offsets.adopt(*key, plan)
        self._cutters[key] = cutter = Cutter(*key, self._limits, plan)
        return cutter

    def _release(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        keys = [_key(place) for place in partitions]
        left = self._offsets.leave(None if lost else self._consumer, keys)
        # librdkafka remembers a pause: without this resume, a partition that is assigned again would deliver nothing.
        self._consumer.resume([place for place in partitions if _key(place) in self._paused])
        for key in keys:
            if (cutter := self._cutters.pop(key, None)) and cutter.open:
                left.append(cutter.open)
            self._writer_of(key[1]).abandon(*key)
        for batch in left:
            self._rows_left[self._tables[batch.topic]] += batch.rows
        self._paused.difference_update(keys)

    def _reroute(self, batch: Batch, refusal: Refusal) -> None:
        if batch.topic == self._rejects_topic:
            raise SinkRefused(f"the sink refuses a row of the rejects topic itself: {refusal.detail}")
        place = f"{batch.topic}/{batch.partition}/{refusal.message.offset}"
        record_id = f"{place}@{refusal.message.timestamp_ms}"
        self._rejects.send(refusal.message.value, f"{place}: {refusal.detail}", record_id)
        self._warn("rows cannot be stored, their message went to the rejects topic", f"{place}: {refusal.detail}")


def _key(place: TopicPartition) -> Key:
    return place.topic, place.partition
