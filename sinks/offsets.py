"""What is written and must be committed. Writers note it; the loop alone commits, as two threads hang librdkafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

PAUSE_SECS = 1.0
"""Before a commit that failed is tried again."""


class Offsets:
    """The next offset of each partition, from when its rows are in the sink until Kafka has taken note."""

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._written: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._again_at = 0.0
        self.failures = 0
        """Commits that Kafka did not take."""

    def note(self, topic: str, partition: int, offset: int) -> None:
        """All before this offset is in the sink."""
        with self._lock:
            self._written[topic, partition] = offset

    def forget(self, topic: str, partition: int) -> None:
        """The partition is no longer ours."""
        with self._lock:
            self._written.pop((topic, partition), None)

    def commit(self, consumer: Consumer, now: float) -> None:
        """Send what there is to commit, without waiting; `answered` hears of it."""
        if now >= self._again_at and (offsets := self._take()):
            try:
                consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self.answered(error.args[0], offsets)

    def commit_at_once(self, consumer: Consumer) -> None:
        """Commit and wait: before partitions go, so that nothing is read again without need."""
        if offsets := self._take():
            try:
                consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                self.failures += 1
                self._warn("offsets could not be committed, rows will be read again", str(error))

    def answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Kafka's answer to a commit. The rows are safe; without it they would be read again, so try on."""
        failed = [place for place in partitions if error or place.error]
        if not failed:
            return
        self.failures += 1
        self._warn("offsets could not be committed, will retry", str(error or failed[0].error))
        self._again_at = time.monotonic() + PAUSE_SECS
        with self._lock:
            for place in failed:
                self._written.setdefault((place.topic, place.partition), place.offset)

    def _take(self) -> list[TopicPartition]:
        with self._lock:
            taken, self._written = self._written, {}
        return [TopicPartition(topic, partition, offset) for (topic, partition), offset in taken.items()]
