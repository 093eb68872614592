"""The consumer group as the broker sees it: committed and end offsets, read with a separate client.

The guards check Faust's view of these offsets, so that view cannot be the reference. The client never subscribes: it does not
join the group and moves no offsets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaException

from common import group_lag
from common.group_lag import Progress
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name


class GroupView:
    """The client for the group's offsets; safe in any thread. Each request blocks for at most a few seconds."""

    def __init__(self, settings: Settings, timeout_secs: float = 1.0) -> None:
        self._topic = topic_name(settings, TELEMETRY)
        self._timeout_secs = timeout_secs
        self._group = group_lag.GroupView(settings.kafka, settings.worker.group, timeout_secs, log_level=0)

    def progress(self, partitions: Iterable[int]) -> Mapping[int, Progress] | None:
        """Return the group's progress in these partitions; None when the broker does not answer."""
        try:
            found = self._group.progress((self._topic, partition) for partition in partitions)
        except KafkaException:
            return None
        return {partition: progress for (_, partition), progress in found.items()}

    def stands_at(self, partition: int) -> int:
        """Return the offset at which the group resumes in this partition; wait while the broker is unavailable."""
        while (progress := self.progress([partition])) is None:
            time.sleep(self._timeout_secs / 4)  # a refused connection fails at once
        return progress[partition].committed
