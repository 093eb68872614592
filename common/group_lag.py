"""The lag of a consumer group: the number of messages, per topic, that the group has not committed.

The broker reports the offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from common.kafka import client_config
from schemas.settings import KafkaSettings, Settings
from schemas.topics import TABLE_OF_TOPIC, topic_name

ANSWER_SECS_MAX = 10.0

Place = tuple[str, int]
"""Topic and partition."""


class Progress(NamedTuple):
    """Progress of the group in one partition."""

    committed: int
    """Offset of the next message to process; the first existing offset if nothing is committed."""
    end: int
    """Offset after the last message."""


class GroupView:
    """A Kafka client that reads the offsets of a consumer group without joining it. Not thread-safe."""

    def __init__(
        self, kafka: KafkaSettings, group: str, timeout_secs: float = ANSWER_SECS_MAX, log_level: int = 2
    ) -> None:
        self._timeout_secs = timeout_secs
        config = {**client_config(kafka), "group.id": group}
        self._consumer = Consumer({**config, "enable.auto.commit": False, "log_level": log_level})

    def places(self, topics: Iterable[str]) -> list[Place]:
        """Return all partitions of these topics; topics that do not exist are left out. Raises KafkaException."""
        known = self._consumer.list_topics(timeout=self._timeout_secs).topics
        return [(topic, partition) for topic in topics if topic in known for partition in known[topic].partitions]

    def progress(self, places: Iterable[Place]) -> dict[Place, Progress]:
        """Return the group's progress in these partitions. Raises KafkaException."""
        asked = list(places)
        if not asked:
            return {}
        # A look-up of the timestamp OFFSET_END returns the end offsets of all partitions in one request.
        ends = self._consumer.offsets_for_times(
            [TopicPartition(*place, OFFSET_END) for place in asked], timeout=self._timeout_secs
        )
        end_of = {(place.topic, place.partition): place for place in ends}
        found = {}
        for place in self._consumer.committed([TopicPartition(*place) for place in asked], timeout=self._timeout_secs):
            key = place.topic, place.partition
            if error := place.error or end_of[key].error:
                raise KafkaException(error)
            found[key] = Progress(place.offset if place.offset >= 0 else self._first(place), end_of[key].offset)
        return found

    def _first(self, place: TopicPartition) -> int:
        first, _ = self._consumer.get_watermark_offsets(place, timeout=self._timeout_secs)
        return first

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()


def lag(settings: Settings) -> dict[str, int]:
    """Return the number of messages that the sink has not written yet, by topic.

    Raises KafkaException if Kafka does not answer.
    """
    names = [topic_name(settings, name) for name in TABLE_OF_TOPIC]
    group = GroupView(settings.kafka, settings.sink.group)
    try:
        return by_topic(names, group.progress(group.places(names)))
    finally:
        group.close()


def by_topic(names: Iterable[str], progress: dict[Place, Progress]) -> dict[str, int]:
    """Return the number of messages after the committed offsets, summed by topic."""
    behind = dict.fromkeys(names, 0)
    for (topic, _), place in progress.items():
        behind[topic] += max(0, place.end - place.committed)
    return behind
