"""Writes rows into the tables of versions again, from what Kafka still has of their topics.

Rows that are there already are written once more under the same identity and version: views show them once, merges take
one away. No consumer group is used and nothing is committed, so the sinks go on undisturbed; starting again is safe.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import NamedTuple

import confluent_kafka
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.clock import iso_micros
from schemas.settings import Settings
from schemas.topics import REJECTS, TABLE_OF_TOPIC, topic_name
from sinks.base import Sink, SinkBusy, SinkRefused
from sinks.batch import Batch, Limits
from sinks.clickhouse import ClickHouseSink
from sinks.rejects import as_rows
from sinks.writer import PAUSE_SECS_FIRST, write
from unproxy.errors import Failed, Fixable, KafkaAway
from unproxy.kafka.cluster import kafka_client_config, partitions_of
from unproxy.timeouts import ASK_SECS_MAX, POLL_SECS, Patience

BUSY_SECS_MAX = 120.0
"""So long an insert is tried again."""
SAY_SECS = 2.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Account:
    """What became of one table's messages."""

    messages: int = 0
    of: int = 0
    rows: int = 0
    """Written again."""
    refused: int = 0
    """Rows in messages that ClickHouse does not store."""
    why_refused: str = ""
    """What it said of the first one."""
    deleted_before: str = ""
    """Kafka has nothing older than this, though older was asked for; "" where it has all."""


class _Span(NamedTuple):
    """A piece of one partition."""

    topic: str
    table: str
    partition: int
    begin: int
    end: int


@dataclass(slots=True)
class _Afresh:
    """A sink that gives each insert a name of its own, so that the table does not take it for one that it had."""

    sink: Sink
    """Where it goes."""

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        """Write, whatever the token."""
        del token, again
        self.sink.write(table, rows, uuid.uuid4().hex)

    def close(self) -> None:
        """Let go of the connections."""
        self.sink.close()


@dataclass(slots=True)
class Refill:
    """One run of `unproxy refill`."""

    settings: Settings
    tables: Sequence[str]
    since_ms: int
    until_ms: int | None
    """None for the end of the topics when it begins."""
    say: Say
    accounts: dict[str, Account] = field(init=False)
    _patience: Patience = field(init=False)
    _places: list[tuple[str, TopicPartition]] = field(init=False)
    """Table, and a partition of its topic."""
    _consumer: Consumer = field(init=False)
    _said_at: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.accounts = {table: Account() for table in self.tables}
        self._patience = Patience(self._bootstrap, _AGAIN)
        topics = {topic_name(self.settings, name): table for name, table in TABLE_OF_TOPIC.items()}
        self._places = [
            (table, TopicPartition(topic, partition))
            for topic, table in topics.items()
            if table in self.tables
            for partition in partitions_of(self.settings, topic)
        ]
        self._consumer = Consumer(
            {
                **kafka_client_config(self.settings),
                "group.id": f"{self.settings.sink.group}-refill",  # the client wants one; it is never joined
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 32_768,
                "error_cb": self._patience.note,
            }
        )

    def until(self, stop: Event, *, dry_run: bool) -> dict[str, Account]:
        """Write all of it again, or as much as there is until told to stop; what became of it by table.

        Raises KafkaAway, Failed, Fixable, and Stopped.
        """
        self._patience.stop = stop
        sink = _Afresh(ClickHouseSink(self.settings.clickhouse))
        try:
            spans = list(self._spans())
            for span in spans:
                self.accounts[span.table].of += span.end - span.begin
            for span in spans if not dry_run else ():
                for batch in self._batches(span):
                    self._write(sink, span.table, batch)
            return self.accounts
        except KafkaException as error:
            raise KafkaAway(f"{self._bootstrap}: {error.args[0].str()}; {_AGAIN}") from None
        finally:
            sink.close()
            self._consumer.close()

    @property
    def _bootstrap(self) -> str:
        return self.settings.kafka.bootstrap

    def _spans(self) -> Iterator[_Span]:
        """From where to where each partition is to be read."""
        for table, place in self._places:
            first, end = self._patience.asked(self._consumer.get_watermark_offsets, place, ASK_SECS_MAX)
            begin = self._offset_at(place, self.since_ms, end)
            if self.until_ms is not None:
                end = self._offset_at(place, self.until_ms, end)
            span = _Span(place.topic, table, place.partition, begin, end)
            if 0 < begin == first:
                self._tell_deleted(span)
            if begin < end:
                yield span

    def _offset_at(self, place: TopicPartition, time_ms: int, end: int) -> int:
        """The first message of this time or later; the end where there is none."""
        asked = [TopicPartition(place.topic, place.partition, time_ms)]
        (found,) = self._patience.asked(self._offsets_for_times, asked)
        return end if found.offset in (OFFSET_END, -1) else min(found.offset, end)

    def _offsets_for_times(self, places: list[TopicPartition]) -> list[TopicPartition]:
        found = self._consumer.offsets_for_times(places, timeout=ASK_SECS_MAX)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found

    def _tell_deleted(self, span: _Span) -> None:
        """Older messages than the first one of this partition were deleted; they may have been wanted."""
        account = self.accounts[span.table]
        first = next(self._messages(span._replace(end=span.begin + 1)), None)
        since = "now" if first is None else iso_micros(first.timestamp()[1] * 1_000)
        account.deleted_before = max(account.deleted_before, since)

    def _batches(self, span: _Span) -> Iterator[Batch]:
        """What lies in this span, cut by the sink's own limits."""
        sink = self.settings.sink
        limits = Limits(sink.batch_rows_max, sink.batch_bytes_max, float("inf"))
        rejects_topic = topic_name(self.settings, REJECTS)
        batch = Batch(span.topic, span.partition, limits, span.begin)
        for raw in self._messages(span):
            message = as_rows(raw, rejects_topic)
            if not batch.fits(message):
                yield batch
                batch = Batch(span.topic, span.partition, limits, message.offset)
            batch.add(message, 0.0)
        if batch.messages:
            yield batch

    def _messages(self, span: _Span) -> Iterator[confluent_kafka.Message]:
        """The messages of this span, of those that are still there."""
        place = TopicPartition(span.topic, span.partition, span.begin)
        self._consumer.assign([place])
        heard_at = time.monotonic()
        while True:
            self._patience.check_stop()
            message = self._consumer.poll(POLL_SECS)
            if message is None:
                self._patience.check(heard_at)
                continue
            error, offset = message.error(), message.offset()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._patience.note(error)
                continue
            if error is not None or offset is None or offset >= span.end:
                return
            yield message
            if offset + 1 >= span.end:
                return
            heard_at = time.monotonic()

    def _write(self, sink: Sink, table: str, batch: Batch) -> None:
        account = self.accounts[table]
        pause, since = PAUSE_SECS_FIRST, time.monotonic()
        while True:
            self._patience.check_stop()
            try:
                refusals = write(sink, table, batch)
                break
            except SinkRefused as error:
                raise Fixable(f"{error}; {_AGAIN}") from None
            except SinkBusy as error:
                if time.monotonic() - since >= BUSY_SECS_MAX:
                    raise Failed(f"{error}; {_AGAIN}") from None
                self._patience.stop.wait(pause)
                pause = min(pause * 2, self.settings.sink.retry_secs_max)
        refused = sum(refusal.message.rows for refusal in refusals)
        account.messages += len(batch.messages)
        account.rows += batch.rows - refused
        account.refused += refused
        account.why_refused = account.why_refused or next((refusal.detail for refusal in refusals), "")
        if time.monotonic() - self._said_at >= SAY_SECS:
            self._said_at = time.monotonic()
            self.say(f"{table}: {account.messages:,} of {account.of:,} messages, {account.rows:,} rows written again")


_AGAIN = "it is safe to start this again"
