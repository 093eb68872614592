"""Access of commands to the topic `indicators`: reads it to its end, and publishes changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from common.kafka import ONCE_IN_ORDER
from schemas.indicator_topic import PARTITION, key_of, read, value_of
from schemas.indicators import Indicator
from schemas.settings import Settings
from schemas.suppressions import Suppression
from schemas.topics import INDICATORS, topic_name
from unproxy.errors import Failed
from unproxy.kafka.cluster import kafka_client_config, partitions_of
from unproxy.timeouts import ASK_SECS_MAX, POLL_SECS, KafkaWait

MESSAGES_MAX = 2_000

T = TypeVar("T")


class Board:
    """Reads the latest value of each key on the topic, and publishes changes.

    Raises KafkaAway if Kafka does not answer, and Fixable if the topic does not exist.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._bootstrap = settings.kafka.bootstrap
        self._topic = topic_name(settings, INDICATORS)
        self._client: dict[str, Any] = kafka_client_config(settings)
        self._failure = ""
        self._progress_at = time.monotonic()
        self._producer: Producer | None = None
        self.wait = KafkaWait(self._bootstrap, "start the command again, what it did stays done")
        self.published = 0
        """Number of messages that Kafka has acknowledged."""
        partitions_of(settings, self._topic)

    def latest(self, form: Callable[[bytes], T]) -> dict[bytes, T]:
        """Return the latest value of each key, converted by `form`. Raises KafkaAway, Stopped."""
        found: dict[bytes, T] = {}
        for key, value in self._read():
            if value:
                found[key] = form(value)
            else:
                found.pop(key, None)
        return found

    def indicators(self) -> list[Indicator]:
        """Return all indicators, sorted by value."""
        known = [one for one in self._known() if isinstance(one, Indicator)]
        return sorted(known, key=lambda one: (one.value, one.id))

    def suppressions(self) -> list[Suppression]:
        """Return all suppressions, sorted by their end."""
        known = [one for one in self._known() if isinstance(one, Suppression)]
        return sorted(known, key=lambda one: (one.until, one.id))

    def put(self, one: Indicator | Suppression) -> None:
        """Publish the present state of an indicator or suppression; `flush` waits for Kafka's acknowledgement."""
        self._send(key_of(one), value_of(one))

    def remove(self, one: Indicator | Suppression) -> None:
        """Publish the removal of an indicator or suppression; `flush` waits for Kafka's acknowledgement."""
        self._send(key_of(one), None)

    def flush(self) -> None:
        """Wait until Kafka has acknowledged all messages. Raises KafkaAway, Failed, and Stopped."""
        self._progress_at = time.monotonic()
        while self._producer is not None and len(self._producer):
            self.wait.check(self._progress_at)
            self._producer.poll(POLL_SECS)
        if self._failure:
            raise Failed(f"{self._bootstrap}: topic {self._topic} does not take it: {self._failure}")

    def _known(self) -> Iterator[object]:
        for key, value in self.latest(bytes).items():
            try:
                yield read(key, value)
            except ValueError:
                continue  # the workers ignore and count an invalid message

    def _read(self) -> Iterator[tuple[bytes, bytes | None]]:
        consumer = Consumer(
            {
                **self._client,
                "group.id": "unproxy-indicators",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        try:
            low, end = self.wait.retried(
                consumer.get_watermark_offsets, TopicPartition(self._topic, PARTITION), ASK_SECS_MAX
            )
            place = low
            consumer.assign([TopicPartition(self._topic, PARTITION, low)])
            self._progress_at = time.monotonic()
            while place < end:
                self.wait.check(self._progress_at)
                for message in consumer.consume(MESSAGES_MAX, POLL_SECS):
                    self._progress_at = time.monotonic()
                    error, offset = message.error(), message.offset() or 0
                    if error is None:
                        place = offset + 1
                        yield message.key() or b"", message.value()
                    elif error.code() == KafkaError._PARTITION_EOF:
                        place = max(place, offset)
        finally:
            consumer.close()

    def _send(self, key: bytes, value: bytes | None) -> None:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self._client,
                    **ONCE_IN_ORDER,
                    "compression.type": "zstd",
                    "message.timeout.ms": 0,  # `KafkaWait` decides how long to wait
                    "linger.ms": 20,
                }
            )
        self._progress_at = time.monotonic()
        while True:
            try:
                self._producer.produce(self._topic, value, key, PARTITION, on_delivery=self._delivered)
                self._producer.poll(0)
                return
            except BufferError:
                self.wait.check(self._progress_at)
                self._producer.poll(POLL_SECS)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._progress_at = time.monotonic()
        if error is None:
            self.published += 1
        else:
            self._failure = error.str()
            self.wait.note(error)
