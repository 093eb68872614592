"""What the bench of worker and sink needs around them: servers, messages on a topic, a part as a process, its progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from pydantic import SecretStr

from bench.child import child
from bench.figures import report_progress
from common.kafka import client_config
from producers.publish.publisher import producer_config
from schemas.settings import PREFIX, Settings
from schemas.topics import TELEMETRY, topic_name

HOUSE = Path(__file__).resolve().parents[1]
SECS_MAX = 300.0
"""For everything that is waited for."""
POLL_SECS = 0.05


class ToSend(NamedTuple):
    """A message for a topic, and what it weighs: its events or rows."""

    key: bytes | None
    value: bytes
    weight: int
    headers: dict[str, str | bytes | None]
    partition: int = -1
    """-1 leaves it to the key."""


@dataclass(slots=True)
class Published:
    """What was brought onto a topic: by partition and offset the weight of each message."""

    topic: str
    weights: dict[int, dict[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All events or rows."""
        return sum(sum(by_offset.values()) for by_offset in self.weights.values())

    def done(self, committed: dict[int, int]) -> bool:
        """All of it lies before these offsets."""
        return all(committed[part] > max(by_offset) for part, by_offset in self.weights.items())


def publish(settings: Settings, topic: str, messages: Iterable[ToSend]) -> Published:
    """Bring messages onto a topic, as the producer does."""
    published = Published(topic)

    def delivered(error: KafkaError | None, message: Message, weight: int) -> None:
        assert error is None, f"publishing failed: {error}"
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        published.weights.setdefault(partition, {})[offset] = weight

    producer = Producer(producer_config(settings, lambda error: report_progress(f"kafka: {error.str()}")))
    for one in messages:
        then = partial(delivered, weight=one.weight)
        while True:
            try:
                producer.produce(topic, one.value, one.key, one.partition, then, headers=one.headers)
                break
            except BufferError:
                producer.poll(POLL_SECS)
        producer.poll(0)
    assert producer.flush(SECS_MAX) == 0, "Kafka did not take everything"
    return published


class Used(NamedTuple):
    """What a piece of work took: time by the clock, CPU time of the part and of the server behind it."""

    wall_secs: float
    cpu_secs: float
    server_cpu_secs: float


@contextmanager
def part_of(settings: Settings, verb: str, folder: Path) -> Iterator[psutil.Process]:
    """`unproxy worker` or `unproxy sink` as a process of its own; ended when the block is left."""
    command = [sys.executable, "-m", "unproxy", verb]
    with (
        _log(folder, verb).open("ab") as log,
        child(command, cwd=folder, env=environment(settings), stdout=log, stderr=log) as process,
    ):
        yield psutil.Process(process.pid)


def work_off(
    settings: Settings,
    verb: str,
    folder: Path,
    published: Published,
    *,
    start_secs: float = 0.0,
    server: psutil.Process | None = None,
) -> Used:
    """Run a part until it has committed everything; what came before it had used `start_secs` of CPU does not count.

    The first commit would be too late a beginning: what is under way then was never seen to begin.
    """
    group = {"worker": settings.worker.group, "sink": settings.sink.group}[verb]
    asker = Consumer({**client_config(settings.kafka), "group.id": group, "enable.auto.commit": False, "log_level": 2})
    places = [TopicPartition(published.topic, partition) for partition in published.weights]
    deadline = time.monotonic() + SECS_MAX
    begin: Used | None = None
    try:
        with part_of(settings, verb, folder) as part:
            while True:
                if time.monotonic() > deadline or part.status() == psutil.STATUS_ZOMBIE:
                    output = _log(folder, verb).read_text(errors="replace")
                    raise RuntimeError(f"{verb} ended, or was not done after {SECS_MAX:g} s: {output[-2_000:]}")
                now = Used(time.monotonic(), cpu_secs(part), cpu_secs(server) if server else 0.0)
                if begin is None or now.cpu_secs <= start_secs:
                    begin = now
                committed = asker.committed(places, timeout=10)
                if published.done({place.partition: place.offset for place in committed}):
                    took = [end - beginning for end, beginning in zip(now, begin, strict=True)]
                    took[1] = now.cpu_secs - start_secs
                    return Used(*(max(secs, POLL_SECS) for secs in took))  # shorter times cannot be measured
                time.sleep(POLL_SECS)
    finally:
        asker.close()


def read_all(settings: Settings, topic: str, published: Published | None = None) -> Iterator[Message]:
    """Every message that is on a topic, or what was published, with a consumer as bare as it gets."""
    consumer = Consumer(
        {
            **client_config(settings.kafka),
            "group.id": "bench-floor",
            "enable.auto.commit": False,
            "check.crcs": False,
            "queued.max.messages.kbytes": 65_536,
            "fetch.queue.backoff.ms": 10,
            "log_level": 2,
        }
    )
    places = [
        TopicPartition(topic, partition, 0) for partition in consumer.list_topics(topic, 10).topics[topic].partitions
    ]
    ends = {place.partition: consumer.get_watermark_offsets(place, timeout=10)[1] for place in places}
    wanted = published.weights if published else {partition: range(end) for partition, end in ends.items()}
    missing = sum(map(len, wanted.values()))
    consumer.assign(places)
    deadline = time.monotonic() + SECS_MAX
    try:
        while missing:
            assert time.monotonic() < deadline, "the bare consumer did not get everything"
            for message in consumer.consume(500, 0.1):
                assert message.error() is None, str(message.error())
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if offset in wanted.get(partition, ()):
                    missing -= 1
                    yield message
    finally:
        consumer.close()


def committed(settings: Settings) -> dict[int, int]:
    """Where the worker's group stands in each partition of its input."""
    group = {"group.id": settings.worker.group, "enable.auto.commit": False, "log_level": 2}
    asker = Consumer({**client_config(settings.kafka), **group})
    topic = topic_name(settings, TELEMETRY)
    try:
        places = [
            TopicPartition(topic, partition) for partition in asker.list_topics(topic, 10).topics[topic].partitions
        ]
        return {place.partition: max(place.offset, 0) for place in asker.committed(places, timeout=10)}
    finally:
        asker.close()


def _log(folder: Path, verb: str) -> Path:
    return folder / f"{verb}.log"


def cpu_secs(process: psutil.Process) -> float:
    """CPU time of a process."""
    used = process.cpu_times()
    return float(used.user + used.system)


def environment(settings: Settings) -> dict[str, str]:
    """Our settings as a part reads them, and nothing of the caller's own."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOUSE), kept.get("PYTHONPATH", "")]))
    for section, values in settings.model_dump(mode="json", exclude_unset=True).items():
        for name, value in values.items():
            given = getattr(getattr(settings, section), name)
            output = given.get_secret_value() if isinstance(given, SecretStr) else str(value)
            kept[f"{PREFIX}{section.upper()}__{name.upper()}"] = output
    return kept
