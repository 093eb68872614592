"""How far the groups are, again and again: from it one reads how long it took to go on after a fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, TELEMETRY, topic_name

ASK_SECS = 0.2
ANSWER_SECS_MAX = 1.0
PARTITIONS = 4
WAITING_MAX = 8
"""Messages on their way at any moment of a healthy run."""


class Look(NamedTuple):
    """Committed offsets of one group at one moment."""

    at: float
    offsets: tuple[int, ...]
    waiting: int = 0
    """Messages that are not committed."""


class Watch(threading.Thread):
    """Looks until closed. A broker that is away gives no looks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="watch", daemon=True)
        self.workers: list[Look] = []
        self.sinks: list[Look] = []
        self._closed = threading.Event()
        self._asked = [
            (_asker(settings, settings.worker.group), topic_name(settings, TELEMETRY), self.workers),
            (_asker(settings, settings.sink.group), topic_name(settings, NETWORK_EVENTS), self.sinks),
        ]
        self.start()

    def run(self) -> None:
        """Ask again and again."""
        while not self._closed.wait(ASK_SECS):
            for consumer, topic, looks in self._asked:
                places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
                try:
                    found = consumer.committed(places, timeout=ANSWER_SECS_MAX)
                    ends = [consumer.get_watermark_offsets(place, timeout=ANSWER_SECS_MAX)[1] for place in places]
                except KafkaException:
                    continue
                if not any(place.error for place in found):
                    offsets = tuple(place.offset for place in found)
                    waiting = sum(end - max(offset, 0) for end, offset in zip(ends, offsets, strict=True))
                    looks.append(Look(time.monotonic(), offsets, waiting))

    def close(self) -> None:
        """Stop asking."""
        self._closed.set()
        self.join()
        for consumer, _, _ in self._asked:
            consumer.close()


def went_on_after(looks: Iterable[Look], since: float) -> float | None:
    """Seconds until every partition had moved; None when that was not seen."""
    before: tuple[int, ...] | None = None
    for look in looks:
        if look.at <= since:
            before = look.offsets
        elif before is not None and all(now > then for now, then in zip(look.offsets, before, strict=True)):
            return look.at - since
    return None


def caught_up_after(looks: Iterable[Look], since: float) -> float | None:
    """Seconds until hardly anything waited any more; None when that was not seen."""
    return next((look.at - since for look in looks if look.at > since and look.waiting <= WAITING_MAX), None)


def _asker(settings: Settings, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "log_level": 0,
            "reconnect.backoff.max.ms": 500,
        }
    )
