"""The part of a Kafka consumer loop that the sink and the forwarder share: errors, committed offsets, leaving the group."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from common.consumer_settings import group_config
from common.kafka import what_to_do
from common.throttle import Throttle
from schemas.settings import ForwardSettings, KafkaSettings, SinkSettings
from sinks.base import SinkRefused
from sinks.writer import WARN_SECS

log = logging.getLogger(__name__)

MESSAGES_MAX = 64
"""Largest number of messages taken from Kafka at once."""
POLL_SECS = 0.05

COMMITTED_SECS_FIRST, COMMITTED_SECS_MAX = 0.5, 4.0
"""Timeout of a request for the committed offsets, first and longest. It is short: a stop takes effect only between two tries."""

_FATAL_ERRORS = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
"""Fatal errors. Some callbacks deliver them without the fatal flag, so their codes are compared."""

OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]


class GroupMember:
    """A member of a consumer group; `part` names the process in messages, `section` its settings."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: SinkSettings | ForwardSettings,
        part: str,
        section: str,
        on_commit: OnCommit,
    ) -> None:
        self.joined = False
        """The group assigned its partitions, possibly none."""
        self._bootstrap = kafka.bootstrap
        self._part, self._section, self._name = part, section, settings.name
        self._throttle = Throttle(WARN_SECS)
        self._stop = threading.Event()
        self._consumer = Consumer({**group_config(kafka, settings), "error_cb": self._on_error, "on_commit": on_commit})

    def _committed_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition] | None:
        """Return the committed offsets, negative where nothing is committed; retry until they arrive. None if stopping."""
        secs_max = COMMITTED_SECS_FIRST
        while not self._stop.is_set():
            try:
                known = self._consumer.committed(partitions, timeout=secs_max)
                if not (wrong := [place.error for place in known if place.error]):
                    return known
                self._warn("kafka does not return the committed offsets, will retry", str(wrong[0]))
            except KafkaException as error:
                self._on_error(error.args[0])
            secs_max = min(2 * secs_max, COMMITTED_SECS_MAX)
        return None

    def _leave(self, secs_max: float) -> None:
        """Leave the group, for at most so long: it calls the broker, which may be unreachable."""
        leaving = threading.Thread(target=self._consumer.close, daemon=True)
        leaving.start()
        leaving.join(secs_max)

    def _on_error(self, error: KafkaError) -> None:
        """Log an error at a limited rate. Raises SinkRefused for a fatal one."""
        if error.fatal() or error.code() in _FATAL_ERRORS:
            named = f' called "{self._name}"' if self._name else ""
            raise SinkRefused(
                f"Kafka does not let this {self._part}{named} go on: {error.str()}; give each {self._part} its own "
                f"{self._section}.name, or none, and start it again"
            )
        if error.code() != KafkaError._PARTITION_EOF:
            self._warn("kafka is in trouble, will retry", f"{error.str()}; {what_to_do(error, self._bootstrap)}")

    def _warn(self, what: str, error: str) -> None:
        if self._throttle.due():
            log.warning(what, extra={"error": error})


def start_of(place: TopicPartition) -> TopicPartition:
    """Return where to begin to read a partition: at its committed offset, else at its first message."""
    return TopicPartition(place.topic, place.partition, place.offset if place.offset >= 0 else OFFSET_BEGINNING)
