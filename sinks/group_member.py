"""The part of a Kafka consumer loop that the sink and the forwarder share: errors, committed offsets, leaving the group."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from common.consumer_settings import group_config
from common.kafka import what_to_do
from common.throttle import Throttle
from schemas.settings import ForwardSettings, KafkaSettings, SinkSettings
from sinks.base import SinkRefused
from sinks.sending import WARN_SECS, SendingThread

log = logging.getLogger(__name__)

MESSAGES_MAX = 64
"""Largest number of messages taken from Kafka at once."""
POLL_SECS = 0.05

COMMITTED_SECS_FIRST, COMMITTED_SECS_MAX = 0.5, 4.0
"""First and longest timeout, in seconds, of a request for the committed offsets.

They are short because a stop takes effect only between two requests.
"""

_FATAL_ERRORS = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
"""Fatal errors. Some callbacks deliver them without the fatal flag, so their codes are compared."""

_USUAL_ERRORS = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID)
"""Errors of commits during ordinary membership changes.

If the change affects this member, the next heartbeat reports its partitions as lost.
"""

OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]


class GroupMember(ABC):
    """A member of a consumer group with sending threads; `part` names the process in messages, `section` its settings."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: SinkSettings | ForwardSettings,
        part: str,
        section: str,
        on_commit: OnCommit,
    ) -> None:
        self.joined = False
        """Whether the group has assigned partitions to it, possibly none."""
        self.rebalances = {"assigned": 0, "revoked": 0}
        self._threads: Sequence[SendingThread] = ()
        self._bootstrap = kafka.bootstrap
        self._part, self._section, self._name = part, section, settings.name
        self._throttle = Throttle(WARN_SECS)
        self._stop = threading.Event()
        self._consumer = Consumer({**group_config(kafka, settings), "error_cb": self._on_error, "on_commit": on_commit})

    @property
    def failing_since(self) -> float | None:
        """Monotonic time since which a thread cannot write or send; None if all can."""
        return min((since for one in self._threads if (since := one.failing_since) is not None), default=None)

    @property
    def failed_at(self) -> float:
        """Monotonic time of the last failed try."""
        return max(thread.failed_at for thread in self._threads)

    @abstractmethod
    def _adopt(self, place: TopicPartition) -> None:
        """Take over an assigned partition. Its offset is the committed one, negative if nothing is committed."""

    @abstractmethod
    def _release(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        """Give up partitions. If they are `lost`, their offsets can no longer be committed."""

    def _subscribe(self, topics: list[str]) -> None:
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _raise_failure(self) -> None:
        """Raise the exception that ended a thread, if one did."""
        for thread in self._threads:
            if thread.failure is not None:
                raise thread.failure

    def _join(self, secs_max: float) -> None:
        """Wait for the threads to end, at most `secs_max` seconds in total; threads that still run are abandoned."""
        deadline = time.monotonic() + secs_max
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        known = self._committed_offsets(partitions)
        if known is None:
            return
        for place in known:
            self._adopt(place)
        # Assign explicit offsets, also to partitions without a committed one: reading starts at the adopted offset, and
        # librdkafka does not query it again. If that query meets a moving coordinator, librdkafka never fetches
        # (librdkafka issue 5586).
        consumer.incremental_assign([start_of(place) for place in known])
        self.joined = True
        self.rebalances["assigned"] += 1
        log.info("partitions assigned", extra={"partitions": len(partitions)})

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalances["revoked"] += 1
        self._release(partitions, lost=False)
        log.info("partitions revoked", extra={"partitions": len(partitions)})

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = False
        self.rebalances["revoked"] += 1
        self._release(partitions, lost=True)
        log.warning("partitions were lost, other members have them already", extra={"partitions": len(partitions)})

    def _committed_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition] | None:
        """Return the committed offsets; retry until they arrive. Return None if the process stops.

        The offset of a partition without a commit is negative.
        """
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
        """Leave the group. Wait at most `secs_max` seconds, because the broker may be unreachable."""
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
    """Return the partition with the offset at which reading starts: its committed offset, else its first message."""
    return TopicPartition(place.topic, place.partition, place.offset if place.offset >= 0 else OFFSET_BEGINNING)


def commit_error(error: KafkaError | None, partitions: list[TopicPartition]) -> KafkaError | None:
    """Return the error in the answer to a commit: that of the whole request, else that of the first failed partition."""
    return error or next((place.error for place in partitions if place.error), None)


def is_usual(error: KafkaError) -> bool:
    """Return whether a commit failed because of an ordinary membership change."""
    return error.code() in _USUAL_ERRORS
