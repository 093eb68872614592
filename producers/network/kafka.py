"""The Kafka input: a topic of another cluster, or an Event Hub by its Kafka endpoint. A message holds one or more lines.

Offsets are committed only after our own Kafka has acknowledged the lines. After a crash or a rebalance, the next owner
of a partition therefore reads some messages again and misses none. The buffers are bounded: while our Kafka accepts
nothing, nothing is read.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from common.consumer_settings import member_config
from common.kafka import client_config
from producers.files.lines import Lines
from producers.network.inputs import Outcome, VirtualFile
from producers.publish.publisher import PublisherFailed
from producers.sources.endpoint import Endpoint
from producers.sources.source import Line, Source, SourceError, SourceFile
from schemas.sections.inputs import InputSettings
from schemas.settings import KafkaSettings

log = logging.getLogger(__name__)

MESSAGES_MAX = 64
"""Largest number of messages taken from Kafka at once."""
FRUITLESS_MAX = 1_000
"""Number of messages without a line after which other sources, commits and a stop get their turn."""
ASK_SECS_MAX = 5.0
"""Longest wait for the cluster at the start. If it does not answer, reading begins when it becomes reachable."""
STOP_SECS_MAX = 0.8
"""Time for the last commit and for leaving the group."""
WARNING_SECS_MIN = 10.0
"""Shortest interval between two warnings about the same error."""

_FATAL_ERRORS = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
"""Fatal errors. Some callbacks deliver them without the fatal flag, so their codes are compared."""


class KafkaInput:
    """A Kafka source that reads one topic.

    The constructor raises SourceError if the client's settings are invalid, or if the cluster answers that the topic does
    not exist.
    """

    def __init__(
        self,
        source: Source,
        endpoint: Endpoint,
        settings: InputSettings,
        counts: Counter[str],
        *,
        line_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._source, self._endpoint, self._grant = source, endpoint, source.grant_of(source.path)
        self._line_bytes_max, self._counts, self._clock = line_bytes_max, counts, clock
        self._partitions: dict[int, VirtualFile[int]] = {}
        """The assigned partitions, by number. Their messages are represented by the offset to commit once they are published."""
        self._warned_at: dict[str, float] = {}
        self._fatal = ""
        self._stopped = False
        # Each producer counts its own line numbers, so each is a sensor of its own.
        self._sensor = f"{settings.kafka_name or socket.gethostname()}:{endpoint}"
        config = {**consumer_config(endpoint, settings), "error_cb": self._on_error, "on_commit": self._on_commit}
        try:
            self._consumer = Consumer(config)
        except KafkaException as error:
            raise SourceError(f"{endpoint}: {error.args[0].str()}; look at the inputs.kafka_ settings") from None
        self._look_for_topic()
        self._consumer.subscribe(
            [endpoint.name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def lines(self) -> Iterator[Line | None]:
        """Yield the lines of the messages, in order per partition; None while there are none.

        Raises PublisherFailed after a fatal Kafka error, such as another producer with the same `inputs.kafka_name`.
        """
        fruitless = 0
        while True:
            messages = self._messages()
            for message in messages:
                if self._stopped:
                    break
                fruitless += 1
                for line in self._lines_of(message):
                    fruitless = 0
                    yield line
                if fruitless >= FRUITLESS_MAX:
                    fruitless = 0
                    yield None
            if not messages:
                now = self._clock()
                for partition in list(self._partitions.values()):
                    yield from partition.released(now)
                yield None

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Commit the offsets of published messages, without waiting for the result.

        `before` is described at `Input.acknowledged`.
        """
        offsets = []
        for number, partition in self._partitions.items():
            done = partition.published(before)
            if done:
                self._counts[Outcome.KAFKA_ACKNOWLEDGED] += len(done)
                offsets.append(TopicPartition(self._endpoint.name, number, done[-1]))
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self._warn("offsets were not committed, messages may be read again", error.args[0].str())

    def stop(self) -> None:
        """Stop reading. `lines` completes the current message and drops the others, which the next owner reads again."""
        self._stopped = True

    def close(self) -> None:
        """Leave the consumer group after the pending commits; wait for it at most `STOP_SECS_MAX` seconds."""
        # The cluster may be unreachable; a stop does not wait for it.
        leaving = threading.Thread(target=self._consumer.close, daemon=True)
        leaving.start()
        leaving.join(STOP_SECS_MAX)

    def _messages(self) -> list[Message]:
        if self._stopped:
            return []
        try:
            messages = self._consumer.consume(MESSAGES_MAX, timeout=0)
        except KafkaException as error:
            self._fatal = error.args[0].str()
            messages = []
        if self._fatal:
            raise PublisherFailed(
                f"following {self._endpoint} failed: {self._fatal}; give each producer its own inputs.kafka_name,"
                " and start again to go on"
            )
        return messages

    def _lines_of(self, message: Message) -> Iterator[Line]:
        error = message.error()
        if error is not None:
            self._on_error(error)
            return
        number, offset = message.partition(), message.offset()
        partition = self._partitions.get(number) if number is not None else None
        if partition is None or offset is None:  # the partition was revoked since
            self._counts[Outcome.KAFKA_LEFT] += 1
            return
        yield from partition.take(message.value() or b"", offset + 1, self._clock())

    def _look_for_topic(self) -> None:
        try:
            seen = self._consumer.list_topics(self._endpoint.name, timeout=ASK_SECS_MAX).topics
        except KafkaException as error:
            self._warn("the kafka to follow is out of reach, waiting for it", error.args[0].str())
            return
        topic = seen.get(self._endpoint.name)
        if topic is None or (topic.error is not None and topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
            self._consumer.close()
            raise SourceError(f"{self._endpoint}: there is no such topic; create it, or name another one")

    def _on_assign(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        for place in places:
            dialect = self._source.dialect
            file = SourceFile(dialect.name, str(self._endpoint), f"{self._sensor}/{place.partition}")
            file.grant = self._grant
            lines = Lines(file, dialect, self._line_bytes_max, self._source.failures)
            self._partitions[place.partition] = VirtualFile(lines, self._clock())
        log.info("follow partitions", extra={"topic": self._endpoint.name, "partitions": len(places)})

    def _on_revoke(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        for place in places:
            partition = self._partitions.pop(place.partition, None)
            self._counts[Outcome.KAFKA_LEFT] += len(partition.waiting) if partition is not None else 0

    def _on_commit(self, error: KafkaError | None, _places: list[TopicPartition]) -> None:
        if error is not None and error.code() != KafkaError._NO_OFFSET:
            self._warn("offsets were not committed, messages may be read again", error.str())

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.fatal() or error.code() in _FATAL_ERRORS:
            self._fatal = error.str()
            return
        if "AUTH" in error.name():
            todo = "check inputs.kafka_sasl_username, inputs.kafka_sasl_password and its rights on topic and group"
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:
            todo = "nothing could be published for too long; its partitions come back by themselves"
        elif "UNKNOWN_TOPIC" in error.name():
            todo = f"create topic {self._endpoint.name}"
        else:
            todo = f"start Kafka at {','.join(self._endpoint.places)}, or name another one"
        self._warn("the kafka to follow does not answer as it should, trying again", f"{error.str()}; {todo}")

    def _warn(self, what: str, detail: str) -> None:
        now = self._clock()
        if now - self._warned_at.get(what, -WARNING_SECS_MIN) >= WARNING_SECS_MIN:
            self._warned_at[what] = now
            log.warning(what, extra={"topic": self._endpoint.name, "error": detail})


def consumer_config(endpoint: Endpoint, settings: InputSettings) -> dict[str, Any]:
    """Return the settings of the client; the caller adds callbacks. Raises SettingsError if a TLS file cannot be used."""
    kafka = KafkaSettings(
        bootstrap=",".join(endpoint.places),
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=settings.kafka_sasl_password,
        ssl_ca_file=settings.kafka_ssl_ca_file,
        ssl_client_cert_file=settings.kafka_ssl_client_cert_file,
    )
    return {
        **client_config(kafka, "inputs.kafka_ssl_"),
        **member_config(settings.kafka_group, settings.kafka_name, settings.kafka_session_timeout_secs),
    }
