"""Keeps indicators and suppressions as the topic `indicators` says, in a thread of its own.

**When a change holds.** From GRACE_MS after the broker appended it, by the log's time of the telemetry at hand
(`Policy.logged_ms`, the broker's time as well: both topics have LogAppendTime). So every worker judges a message alike, whenever
it reads it, and so does one that reads it again.

**Fresh.** A worker must not handle a message with log time L while it may have missed a change that holds at L. Such a change
was appended before L - GRACE_MS, so it was on the topic GRACE_MS before the message was on telemetry, hence GRACE_MS before now.
Whoever knew less than that ago that nothing was left to read has not missed it. No clock of this machine is compared with a
broker's. The leaders of the two topics may be two brokers: their clocks may differ by SKEW_MS, which is taken off. Besides, what
is missed comes after what was read: before the append time of the newest message, and GRACE_MS after it, everything is known.

**What does not hold.** With producers' times on either topic (CreateTime, `unproxy check` tells of it), or with brokers' clocks
further apart or set back, two workers may decide differently about the seconds around a change; nothing else is harmed. After a
day compaction takes older versions of an indicator away (deploy/topics.toml): a worker that starts later and reads older
telemetry again judges it by what it finds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

import schemas.metrics as declared
from common.exporter import Family, one
from common.kafka import client_config, what_to_do
from schemas.indicator_topic import INDICATOR_MARK, PARTITION, Removed, read
from schemas.indicators import Indicator
from schemas.settings import KafkaSettings, Settings
from schemas.suppressions import Suppression
from schemas.topics import INDICATORS, topic_name
from streams.indicators.index import IndicatorSet
from streams.indicators.suppressions import SuppressionSet

log = logging.getLogger(__name__)

GRACE_MS = 5_000
"""From a change's append time to the log time from which on it holds."""
SKEW_MS = 1_000
"""Clocks of two brokers may differ by so much."""
FRESH_SECS = (GRACE_MS - SKEW_MS) / 1_000
LOOK_SECS = 0.2
ASK_SECS_MAX = 2.0
"""Short, as a stop is only heard between two questions."""
POLL_SECS = 0.05
MESSAGES_MAX = 1_000
SAY_SECS = 10.0


class FeedError(Exception):
    """The indicators could not be read; the message says what to do."""


class IndicatorFeed:
    """Two sets that follow the topic, once `load` has read it."""

    def __init__(self, settings: Settings, indicators: IndicatorSet, suppressions: SuppressionSet) -> None:
        self._kafka = settings.kafka
        self._topic = topic_name(settings, INDICATORS)
        self._indicators, self._suppressions = indicators, suppressions
        self._thread = threading.Thread(target=self._follow, name="indicator-feed", daemon=True)
        self._stop, self._loaded = threading.Event(), threading.Event()
        self._next = 0
        """The offset that is read next."""
        self._newest_ms = 0
        """Append time of the newest message read."""
        self._complete_at = float("-inf")
        """Monotonic seconds: what was on the topic then has been read."""
        self._trouble = _Trouble(self._kafka, self._topic)
        self.unreadable = 0
        """Messages that said nothing that can be used."""

    def load(self, timeout_secs: float) -> None:
        """Read all there is now, and follow from then on. Raises FeedError when that did not succeed in time."""
        self._thread.start()
        if not self._loaded.wait(timeout_secs):
            self.close()
            raise FeedError(self._trouble.in_words())
        log.info(
            "indicators read", extra={"indicators": len(self._indicators), "suppressions": len(self._suppressions)}
        )

    def close(self) -> None:
        """End the thread; what was read stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def age_secs(self) -> float:
        """Since it was last known that nothing was left to read; infinite before."""
        return time.monotonic() - self._complete_at

    def is_fresh(self, logged_ms: int) -> bool:
        """Whether a telemetry message of this log time, in hand now, can be judged."""
        return logged_ms < self._newest_ms + GRACE_MS or self.age_secs < FRESH_SECS

    async def wait_fresh(self, logged_ms: int) -> None:
        """Wait until it can be; while Kafka is away that is until it is back. Raises FeedError when the feed has ended."""
        while not self.is_fresh(logged_ms):
            if not self._thread.is_alive():
                raise FeedError("indicators are followed no more; the reason is in the log")
            await asyncio.sleep(POLL_SECS)

    def families(self) -> Iterator[Family]:
        """What is counted, as Prometheus wants it."""
        yield one(declared.INDICATORS, len(self._indicators))
        yield one(declared.SUPPRESSIONS, len(self._suppressions))
        yield one(declared.INDICATORS_UNREADABLE, self.unreadable)
        yield one(declared.INDICATORS_AGE, self.age_secs)

    def _follow(self) -> None:
        consumer = Consumer(
            {
                **client_config(self._kafka),
                "log_level": 0,
                # The client needs a name; nobody commits to it, and everybody reads everything.
                "group.id": "unproxy-indicators",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 16_384,
                "error_cb": self._trouble.note,
            }
        )
        try:
            end, asked_at = -1, float("-inf")
            while not self._stop.is_set():
                if self._next >= end and time.monotonic() - asked_at >= LOOK_SECS:
                    asked_at = time.monotonic()
                    end = self._end(consumer)
                for message in consumer.consume(MESSAGES_MAX, POLL_SECS):
                    self._take(message)
                if 0 <= end <= self._next:
                    self._complete_at = max(self._complete_at, asked_at)
                    self._loaded.set()
        finally:
            consumer.close()

    def _end(self, consumer: Consumer) -> int:
        """Where the topic ends now; -1 when nobody answers."""
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(self._topic, PARTITION), ASK_SECS_MAX)
        except KafkaException as error:
            self._trouble.note(error.args[0])
            return -1
        if not consumer.assignment():
            # Not before the topic is seen: one that comes later would be met after minutes.
            consumer.assign([TopicPartition(self._topic, PARTITION, OFFSET_BEGINNING)])
        elif end < self._next:
            log.warning(
                "topic was made anew, read from its beginning; what it no longer has is known until a restart",
                extra={"topic": self._topic, "offset": self._next, "end": end},
            )
            consumer.assign([TopicPartition(self._topic, PARTITION, OFFSET_BEGINNING)])
            self._next = 0
        return end

    def _take(self, message: Message) -> None:
        error, offset = message.error(), message.offset()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # Behind the last message there may be what compaction left empty.
                self._next = max(self._next, offset or 0)
            else:
                self._trouble.note(error)
            return
        assert offset is not None
        appended_ms = message.timestamp()[1]
        try:
            self._apply(read(message.key(), message.value()), appended_ms + GRACE_MS)
        except ValueError as wrong:
            self.unreadable += 1
            if self.unreadable.bit_count() == 1:  # the first, the second, the fourth …
                log.warning(
                    "message left aside, it says nothing that can be used",
                    extra={
                        "topic": self._topic,
                        "offset": offset,
                        "so far": self.unreadable,
                        "error": str(wrong)[:300],
                    },
                )
        self._newest_ms = max(self._newest_ms, appended_ms)
        self._next = offset + 1

    def _apply(self, said: Indicator | Suppression | Removed, since_ms: int) -> None:
        if isinstance(said, Indicator):
            self._indicators.put(said, since_ms)
        elif not isinstance(said, Removed):
            self._suppressions.put(said, since_ms)
        elif said.mark == INDICATOR_MARK:
            self._indicators.remove(said.id, since_ms)
        else:
            self._suppressions.remove(said.id, since_ms)


class _Trouble:
    """What is wrong with Kafka at the moment, said now and then."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._bootstrap, self._topic = kafka.bootstrap, topic
        self._error: KafkaError | None = None
        self._said_at = float("-inf")

    def note(self, error: KafkaError) -> None:
        """Something failed and will be tried again."""
        self._error = error
        if time.monotonic() - self._said_at >= SAY_SECS:
            self._said_at = time.monotonic()
            log.warning(
                "indicators cannot be read at the moment, what is known stays", extra={"error": self.in_words()}
            )

    def in_words(self) -> str:
        """Where, what, and what to do."""
        if self._error is None:
            return f"{self._bootstrap}: topic {self._topic} could not be read to its end in time; try again"
        return (
            f"{self._bootstrap}: topic {self._topic}: {self._error.str()}; {what_to_do(self._error, self._bootstrap)}"
        )
