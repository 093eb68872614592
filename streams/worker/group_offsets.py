"""The consumer group as the broker sees it: committed and end offsets, read with a separate client.

The guards check Faust's view of these offsets, so that view cannot be the reference. The client never subscribes: it does not
join the group and moves no offsets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from common.kafka import client_config
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name

NO_OFFSET = 0
"""A committed offset below this means that nothing was committed yet."""


class Progress(NamedTuple):
    """The group's progress in one partition."""

    committed: int
    """Next offset to handle; the first available one if nothing was committed."""
    end: int


class GroupView:
    """The client for the group's offsets; safe in any thread. Each request blocks for at most a few seconds."""

    def __init__(self, settings: Settings, timeout_secs: float = 1.0) -> None:
        self._topic = topic_name(settings, TELEMETRY)
        self._timeout_secs = timeout_secs
        self._consumer = Consumer(
            {
                **client_config(settings.kafka),
                "group.id": settings.worker.group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def progress(self, partitions: Iterable[int]) -> Mapping[int, Progress] | None:
        """Return the group's progress in these partitions; None when the broker does not answer."""
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        if not asked:
            return {}
        found = {}
        try:
            for place in self._consumer.committed(asked, timeout=self._timeout_secs):
                if place.error is not None:
                    return None
                low, high = self._consumer.get_watermark_offsets(place, timeout=self._timeout_secs)
                found[place.partition] = Progress(place.offset if place.offset >= NO_OFFSET else low, high)
        except KafkaException:
            return None
        return found

    def stands_at(self, partition: int) -> int:
        """Return the offset at which the group resumes in this partition; wait while the broker is unavailable."""
        while True:
            progress = self.progress([partition])
            if progress is not None:
                return progress[partition].committed
            time.sleep(self._timeout_secs / 4)  # a refused connection fails at once
