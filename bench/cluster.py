"""What the bench of worker and sink needs around them: servers, messages on a topic, a part as a process, its progress."""

from __future__ import annotations

import os
import subprocess
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

from bench.figures import tell
from producers.publisher import producer_config
from schemas.kafka_config import client_config
from schemas.settings import PREFIX, Settings

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
    """What lies on a topic: weight of each offset by partition."""

    topic: str
    weights: dict[int, list[int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All events or rows."""
        return sum(map(sum, self.weights.values()))

    def weight_until(self, offsets: dict[int, int]) -> int:
        """Events or rows before these offsets."""
        return sum(sum(self.weights[part][: max(0, offset)]) for part, offset in offsets.items())


def publish(settings: Settings, topic: str, messages: Iterable[ToSend]) -> Published:
    """Bring messages onto an empty topic, as the producer does."""
    found: dict[int, dict[int, int]] = {}

    def delivered(error: KafkaError | None, message: Message, weight: int) -> None:
        assert error is None, f"publishing failed: {error}"
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        found.setdefault(partition, {})[offset] = weight

    producer = Producer(producer_config(settings, lambda error: tell(f"kafka: {error.str()}")))
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
    return Published(topic, {part: [by[offset] for offset in sorted(by)] for part, by in found.items()})


@dataclass(slots=True)
class Span:
    """What was done between two looks, and what it took."""

    weight: int
    wall_secs: float
    cpu_secs: float
    other_cpu_secs: float = 0.0


class Part:
    """`unproxy worker` or `unproxy sink` as a process of its own."""

    def __init__(self, settings: Settings, verb: str, folder: Path) -> None:
        self.log = folder / f"{verb}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "unproxy", verb],
                cwd=folder,
                env=environment(settings),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._usage = psutil.Process(self._process.pid)

    def cpu_secs(self) -> float:
        """CPU time it has used so far. Raises RuntimeError when it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.log.stem} ended: {self.log.read_text(errors='replace')[-2_000:]}")
        return cpu_secs(self._usage)

    def end(self) -> None:
        """SIGTERM, then the end at the latest after a while."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def part_of(settings: Settings, verb: str, folder: Path) -> Iterator[Part]:
    """A running part that is ended whatever happens."""
    part = Part(settings, verb, folder)
    try:
        yield part
    finally:
        part.end()


def follow(
    settings: Settings, group: str, published: Published, part: Part, other: psutil.Process | None = None
) -> Span:
    """Watch the group's commits from the first one to the last: what was done in between."""
    asker = Consumer({**client_config(settings.kafka), "group.id": group, "enable.auto.commit": False, "log_level": 2})
    places = [TopicPartition(published.topic, partition) for partition in published.weights]
    first: tuple[float, float, float, int] | None = None
    deadline = time.monotonic() + SECS_MAX
    try:
        while True:
            assert time.monotonic() < deadline, f"not done after {SECS_MAX:g} s; see {part.log}"
            offsets = {place.partition: place.offset for place in asker.committed(places, timeout=10)}
            now = time.monotonic(), part.cpu_secs(), cpu_secs(other) if other else 0.0, published.weight_until(offsets)
            if first is None and now[3]:
                first = now
            if first is not None and now[3] >= published.total:
                return Span(now[3] - first[3], now[0] - first[0], now[1] - first[1], now[2] - first[2])
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
    if published is not None:
        ends = {partition: len(published.weights.get(partition, ())) for partition in ends}
    missing = sum(ends.values())
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
                if offset < ends[partition]:
                    missing -= 1
                    yield message
    finally:
        consumer.close()


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
            kept[f"{PREFIX}{section.upper()}__{name.upper()}"] = str(value)
    return kept
