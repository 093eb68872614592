"""The register of worker deaths, shared by all workers: metadata of a consumer group's offsets in Kafka.

The group `GROUP-deaths` has no members. So any worker may commit to it at any time, also for a partition that another worker
has now. The group's offset in an input partition is that of the latest death; the metadata lists the latest deaths. If two
workers register at the same moment, one death may be lost; then one more death is needed. By the brokers' default Kafka
deletes the group after seven days without a death.
"""

from __future__ import annotations

import logging
import time
from itertools import count

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from common.kafka import client_config
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name
from streams.quarantine import Death

log = logging.getLogger(__name__)

DEATHS_MAX = 100
"""Number of latest deaths kept per partition; they fit into the 4,096 bytes of metadata that a broker accepts."""
ASK_SECS_MAX = 5.0
REFUSED_TRIES = 3
"""Number of consecutive timeouts after which the group counts as refused, if Kafka answers other requests."""
PAUSE_SECS = 0.5

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Death]).decode


class Deaths:
    """The client of the register; safe in any thread. Its methods wait while the broker is unavailable."""

    def __init__(self, settings: Settings) -> None:
        self._topic = topic_name(settings, TELEMETRY)
        self._group = f"{settings.worker.group}-deaths"
        # Not an admin client: that aborts the process when the broker dies during a request (librdkafka 2.16).
        config = client_config(settings.kafka)
        self._consumer = Consumer({**config, "group.id": self._group, "enable.auto.commit": False, "log_level": 0})

    def of(self, partition: int) -> list[Death]:
        """Return the deaths in a partition, the latest one last; none if Kafka refuses the group."""
        for tries in count(1):
            try:
                return self._ask(partition)
            except KafkaException as error:
                if self._forbidden(error, tries):
                    break
                self._wait(error)
        return []

    def register(self, partition: int, death: Death) -> None:
        """Add a death; return once Kafka has it, or refuses the group."""
        for tries in count(1):
            try:
                deaths = [*self._ask(partition), death][-DEATHS_MAX:]
                place = TopicPartition(self._topic, partition, death.offset, _encode(deaths).decode())
                self._consumer.commit(offsets=[place], asynchronous=False)
                return
            except KafkaException as error:
                if self._forbidden(error, tries):
                    return
                self._wait(error)

    def _ask(self, partition: int) -> list[Death]:
        (place,) = self._consumer.committed([TopicPartition(self._topic, partition)], timeout=ASK_SECS_MAX)
        if place.error is not None:
            raise KafkaException(place.error)
        try:
            return _decode(place.metadata or "[]")
        except msgspec.MsgspecError as error:
            log.warning("the record of worker deaths cannot be read, a new one is started", extra={"error": str(error)})
            return []

    def _forbidden(self, error: KafkaException, tries: int) -> bool:
        """Return whether Kafka refuses the group; then the worker runs without quarantine, which is better than no worker.

        A client without the right to look up the group's coordinator only times out. So several timeouts while Kafka answers
        count as a refusal.
        """
        code = error.args[0].code()
        timed_out = code == KafkaError._TIMED_OUT and tries >= REFUSED_TRIES and self._kafka_answers()
        if code != KafkaError.GROUP_AUTHORIZATION_FAILED and not timed_out:
            return False
        log.error(
            "consumer group %s: Kafka does not allow its use, so a line that ends workers is not rejected; expected Read on "
            "it: add an ACL for this worker's user",
            self._group,
        )
        return True

    def _kafka_answers(self) -> bool:
        try:
            self._consumer.list_topics(self._topic, timeout=ASK_SECS_MAX)
        except KafkaException:
            return False
        return True

    def _wait(self, error: KafkaException) -> None:
        log.warning("the record of worker deaths cannot be requested, will retry", extra={"error": str(error)})
        time.sleep(PAUSE_SECS)
