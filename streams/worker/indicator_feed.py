"""The indicator feed: follows the topic `indicators` in its own thread and keeps the sets of indicators and suppressions.

**When a change takes effect.** A change takes effect GRACE_MS after the broker appended it, compared with the log time of the
telemetry message (`Policy.logged_ms`). Both times are the broker's: both topics have LogAppendTime. So all workers assess a
message alike, whenever they read it and however often.

**Freshness.** A worker must not handle a message with log time L while it may have missed a change that has effect at L. Such
a change was appended before L - GRACE_MS. It was on the topic GRACE_MS before the message was on telemetry, hence GRACE_MS
before now. A feed that reached the end of the topic less than GRACE_MS ago has read it. No clock of this machine is compared
with a broker's. The leaders of the two topics may be two brokers, so SKEW_MS is subtracted for the difference of their clocks.
Besides, a missed change comes after those that were read: up to GRACE_MS after the append time of the newest message read, all
changes are known.

**Limits.** Two workers may decide differently about the seconds around a change if either topic has producers' times
(CreateTime, reported by `unproxy check`), or if the brokers' clocks differ by more than SKEW_MS or are set back. Nothing else
is affected. After a day compaction removes older versions of an indicator (deploy/topics.toml): a worker that starts later and
reads older telemetry again assesses it with the versions that are left.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from common.exporter import Family, one
from common.kafka import client_config, what_to_do
from common.throttle import Throttle
from schemas import metrics
from schemas.indicator_topic import INDICATOR_MARK, PARTITION, Removed, read
from schemas.indicators import Indicator
from schemas.settings import KafkaSettings, Settings
from schemas.suppressions import Suppression
from schemas.topics import INDICATORS, topic_name
from streams.indicators.index import IndicatorSet
from streams.indicators.suppressions import SuppressionSet

log = logging.getLogger(__name__)

GRACE_MS = 5_000
"""Milliseconds from the append time of a change to the log time at which it takes effect."""
SKEW_MS = 1_000
"""Milliseconds by which the clocks of two brokers may differ."""
FRESH_SECS = (GRACE_MS - SKEW_MS) / 1_000
LOOK_SECS = 0.2
ASK_SECS_MAX = 2.0
"""Short, as a stop is noticed only between two requests."""
POLL_SECS = 0.05
MESSAGES_MAX = 1_000
LOG_SECS = 10.0


class FeedError(Exception):
    """A failure to read the indicators; the message states what to do."""


class IndicatorFeed:
    """The two sets, which follow the topic once `load` has read it."""

    def __init__(self, settings: Settings, indicators: IndicatorSet, suppressions: SuppressionSet) -> None:
        self._kafka = settings.kafka
        self._topic = topic_name(settings, INDICATORS)
        self._indicators, self._suppressions = indicators, suppressions
        self._thread = threading.Thread(target=self._follow, name="indicator-feed", daemon=True)
        self._stop, self._loaded = threading.Event(), threading.Event()
        self._next = 0
        """Offset of the next message to read."""
        self._newest_ms = 0
        """Append time of the newest message read."""
        self._complete_at = float("-inf")
        """Monotonic time in seconds: everything that was on the topic then has been read."""
        self._trouble = _Trouble(self._kafka, self._topic)
        self.unreadable = 0
        """Number of messages without a usable indicator or suppression."""

    def load(self, timeout_secs: float) -> None:
        """Read the topic to its present end and follow it from then on. Raises FeedError if that takes longer."""
        self._thread.start()
        if not self._loaded.wait(timeout_secs):
            self.close()
            raise FeedError(self._trouble.in_words())
        log.info(
            "indicators read", extra={"indicators": len(self._indicators), "suppressions": len(self._suppressions)}
        )

    def close(self) -> None:
        """End the thread; the sets keep their content."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def age_secs(self) -> float:
        """Seconds since the feed was last known to be at the end of the topic; infinite before."""
        return time.monotonic() - self._complete_at

    def is_fresh(self, logged_ms: int) -> bool:
        """Return whether a telemetry message of this log time can be assessed now."""
        return logged_ms < self._newest_ms + GRACE_MS or self.age_secs < FRESH_SECS

    async def wait_fresh(self, logged_ms: int) -> None:
        """Wait until `is_fresh`; while Kafka is unavailable, until it is back. Raises FeedError when the feed has ended."""
        while not self.is_fresh(logged_ms):
            if not self._thread.is_alive():
                raise FeedError("the indicator feed has ended; the reason is in the log")
            await asyncio.sleep(POLL_SECS)

    def families(self) -> Iterator[Family]:
        """Yield the feed's metrics as Prometheus families."""
        yield one(metrics.INDICATORS, len(self._indicators))
        yield one(metrics.SUPPRESSIONS, len(self._suppressions))
        yield one(metrics.INDICATORS_UNREADABLE, self.unreadable)
        yield one(metrics.INDICATORS_AGE, self.age_secs)

    def _follow(self) -> None:
        consumer = Consumer(
            {
                **client_config(self._kafka),
                "log_level": 0,
                # The client requires a group; none commits to it, and every worker reads the whole topic.
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
        """Return the end offset of the topic, -1 when Kafka does not answer; (re)start reading if necessary."""
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(self._topic, PARTITION), ASK_SECS_MAX)
        except KafkaException as error:
            self._trouble.note(error.args[0])
            return -1
        if not consumer.assignment():
            # Assign only once the topic exists: the client would notice a topic created later after minutes.
            consumer.assign([TopicPartition(self._topic, PARTITION, OFFSET_BEGINNING)])
        elif end < self._next:
            log.warning(
                "topic was created again, read from its beginning; entries that it lacks stay valid until a restart",
                extra={"topic": self._topic, "offset": self._next, "end": end},
            )
            consumer.assign([TopicPartition(self._topic, PARTITION, OFFSET_BEGINNING)])
            self._next = 0
        return end

    def _take(self, message: Message) -> None:
        error, offset = message.error(), message.offset()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # Compaction may leave offsets without a message behind the last message.
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
            if self.unreadable.bit_count() == 1:  # the first, second, fourth, eighth …
                log.warning(
                    "message skipped, its content cannot be used",
                    extra={
                        "topic": self._topic,
                        "offset": offset,
                        "so far": self.unreadable,
                        "error": str(wrong)[:300],
                    },
                )
        self._newest_ms = max(self._newest_ms, appended_ms)
        self._next = offset + 1

    def _apply(self, change: Indicator | Suppression | Removed, since_ms: int) -> None:
        if isinstance(change, Indicator):
            self._indicators.put(change, since_ms)
        elif not isinstance(change, Removed):
            self._suppressions.put(change, since_ms)
        elif change.mark == INDICATOR_MARK:
            self._indicators.remove(change.id, since_ms)
        else:
            self._suppressions.remove(change.id, since_ms)


class _Trouble:
    """The latest error from Kafka, logged at most once per LOG_SECS."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._bootstrap, self._topic = kafka.bootstrap, topic
        self._error: KafkaError | None = None
        self._throttle = Throttle(LOG_SECS)

    def note(self, error: KafkaError) -> None:
        """Record an error of a request that will be retried."""
        self._error = error
        if self._throttle.due():
            log.warning(
                "indicators cannot be read at the moment, the known ones stay valid", extra={"error": self.in_words()}
            )

    def in_words(self) -> str:
        """Return the brokers, the topic, the error and what to do."""
        if self._error is None:
            return f"{self._bootstrap}: topic {self._topic} could not be read to its end in time; try again"
        return (
            f"{self._bootstrap}: topic {self._topic}: {self._error.str()}; {what_to_do(self._error, self._bootstrap)}"
        )
