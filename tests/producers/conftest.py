"""Makers and readers for the producers' tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from common.kafka import client_config
from schemas.clock import MICROS, iso_micros, parse_micros
from schemas.settings import Settings
from schemas.topics import topic_name

START = parse_micros("2026-11-24T19:07:30.000000Z")
EveMaker = Callable[..., bytes]
TopicReader = Callable[[Settings, str], list[Message]]


@pytest.fixture
def eve() -> EveMaker:
    """Makes a sensor's line: `eve(number, device, at=seconds)`; at=None leaves the time out."""

    def make(number: int, device: str = "dev-a", at: float | None = 0.0) -> bytes:
        when = "" if at is None else f'"timestamp":"{iso_micros(START + round(at * MICROS))[:-1]}+0000",'
        return b'{%s"event_type":"stats","n":%d,"host":"%s"}' % (when.encode(), number, device.encode())

    return make


@pytest.fixture
def write() -> Callable[[Path, Iterable[bytes]], None]:
    """Appends lines to a file."""

    def append(path: Path, lines: Iterable[bytes]) -> None:
        with path.open("ab") as file:
            file.writelines(line + b"\n" for line in lines)

    return append


@pytest.fixture
def messages_of() -> TopicReader:
    """Everything in a topic by now."""

    def read(settings: Settings, name: str) -> list[Message]:
        topic = topic_name(settings, name)
        consumer = Consumer({**client_config(settings.kafka), "group.id": "reader", "enable.auto.commit": False})
        try:
            partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            places = [TopicPartition(topic, partition, 0) for partition in partitions]
            deadline = time.monotonic() + 30
            ends = {place.partition: _end(consumer, place, deadline) for place in places}
            consumer.assign(places)
            found: list[Message] = []
            while len(found) < sum(ends.values()):
                assert time.monotonic() < deadline, "the topic could not be read in time"
                for message in consumer.consume(1000, timeout=0.2):
                    error = message.error()
                    assert error is None or error.code() == KafkaError._PARTITION_EOF, str(error)
                    found.append(message)
            return found
        finally:
            consumer.close()

    return read


def _end(consumer: Consumer, place: TopicPartition, deadline: float) -> int:
    """A new partition's leader needs a moment before it knows that it is one."""
    while True:
        try:
            offsets = consumer.get_watermark_offsets(place, timeout=20)
            assert offsets is not None
            return offsets[1]
        except KafkaException:
            assert time.monotonic() < deadline, "the partition has no leader in time"
