"""Following another topic on the real Kafka: every line arrives whichever process is killed; offsets show what is published."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from common.kafka import client_config
from producers.network.kafka import FRUITLESS_MAX, KafkaInput
from producers.run import produce
from producers.sources.source import SourceError, parse_source
from schemas.settings import Settings
from schemas.topics import TELEMETRY, Topic
from tests.producers.running import Running, lines_of
from tests.streams.worker.worker_process import wait_until
from unproxy.local.meter import scrape
from unproxy.local.parts import write_settings
from unproxy.local.servers.broker import create_topics
from unproxy.local.servers.service import free_port

EveMaker = Callable[..., bytes]
MessagesOf = Callable[[Settings, str], list[Message]]
SettingsFor = Callable[..., Settings]


def topic_of(settings: Settings, partitions: int = 2) -> str:
    """A topic to follow, on the same broker as ours."""
    name = f"{settings.kafka.topic_prefix}theirs"
    create_topics(settings.kafka, [Topic(name, "A foreign topic", partitions, {})])
    return name


def put(settings: Settings, topic: str, values: Iterable[bytes | None], pause_secs: float = 0.0) -> None:
    """What a shipper writes there."""
    producer = Producer(client_config(settings.kafka))
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % 2)
        if pause_secs and number % 20 == 0:
            producer.poll(0)
            time.sleep(pause_secs)
    assert producer.flush(20) == 0


def committed(settings: Settings, topic: str) -> int:
    """Messages behind the group's offsets."""
    consumer = Consumer({**client_config(settings.kafka), "group.id": settings.inputs.kafka_group})
    try:
        places = consumer.committed([TopicPartition(topic, number) for number in (0, 1)], timeout=20)
        return sum(max(place.offset, 0) for place in places)
    finally:
        consumer.close()


@pytest.fixture
def settings(kafka_settings_for: SettingsFor, unique: str) -> Settings:
    """A group of this test's own."""
    port = free_port()
    return kafka_settings_for(
        inputs={"kafka_group": unique, "kafka_name": "one", "kafka_session_timeout_secs": 6},
        publisher={"batch_age_secs_max": 0.05, "metrics_port": port},
    )


def test_each_line_once(settings: Settings, messages_of: MessagesOf, eve: EveMaker) -> None:
    """One line, several, a message without content: lines arrive once each, also over a graceful stop, and it is counted."""
    topic = topic_of(settings)
    source = f"auto:kafka://{settings.kafka.bootstrap}/{topic}"
    put(settings, topic, [eve(1), eve(2) + b"\n" + eve(3) + b"\n", None, b"", b"\n", b"unclaimed"])
    with Running(settings, source) as one:
        wait_until(lambda: one.report.received["kafka_acknowledged"] == 6, "all acknowledged")
        page = scrape(settings.publisher.metrics_port) or {}
        asked = time.monotonic()
    assert time.monotonic() - asked < 4
    assert page["unproxy_publisher_received_total"]["kafka_acknowledged"] == 6
    assert committed(settings, topic) == 6
    put(settings, topic, [eve(4)])
    with Running(settings, source) as two:
        wait_until(lambda: committed(settings, topic) == 7, "the rest")

    assert sorted(lines_of(messages_of(settings, TELEMETRY))) == sorted([*map(eve, (1, 2, 3, 4)), b"unclaimed"])
    assert (one.report.lines, two.report.lines) == (4, 1)


def test_kill_loses_nothing(settings: Settings, messages_of: MessagesOf, eve: EveMaker, tmp_path: Path) -> None:
    """Killed twice in the middle: every line arrives, at most once more for each kill, and numbers have no gap."""
    topic = topic_of(settings)
    write_settings(settings, tmp_path / "unproxy.toml")
    lines = [eve(number, f"dev-{number % 5}", at=number / 1_000) for number in range(8_000)]
    writer = threading.Thread(target=put, args=(settings, topic, lines, 0.01))
    writer.start()
    command = [sys.executable, "-m", "unproxy", "--config", str(tmp_path / "unproxy.toml"), "produce"]
    source = f"suricata:kafka://{settings.kafka.bootstrap}/{topic}"
    for share in (0.1, 0.5):
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen([*command, source], stdout=log, stderr=log)
        wait_until(
            lambda share=share: len(set(lines_of(messages_of(settings, TELEMETRY)))) > share * len(lines),  # type: ignore[misc]  # mypy cannot infer it
            "lines in Kafka",
            40.0,
        )
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with Running(settings, source):
        writer.join()
        wait_until(lambda: committed(settings, topic) == len(lines), "everything committed", 40.0)

    messages = messages_of(settings, TELEMETRY)
    arrived = lines_of(messages)
    assert set(arrived) == set(lines)
    assert len(arrived) <= 3 * len(lines)
    numbers: dict[Any, set[int]] = defaultdict(set)
    for message in messages:
        pairs: Any = message.headers()
        found = dict(pairs)
        first = int(found["seq"])
        numbers[message.key(), found["sensor"]].update(range(first, first + int(found["lines"])))
    assert all(seqs == set(range(1, max(seqs) + 1)) for seqs in numbers.values())


def test_partitions_move(settings: Settings, messages_of: MessagesOf, eve: EveMaker, tmp_path: Path) -> None:
    """A second producer of the group takes a partition over, and both when the first one stops: every line arrives."""
    topic = topic_of(settings)
    second = settings.model_copy(
        update={
            "inputs": settings.inputs.model_copy(update={"kafka_name": "two"}),
            "publisher": settings.publisher.model_copy(update={"state_dir": str(tmp_path / "two"), "metrics_port": 0}),
        }
    )
    source = f"suricata:kafka://{settings.kafka.bootstrap}/{topic}"
    sent: list[bytes] = []

    def both_read() -> bool:
        more = [eve(len(sent) + number) for number in range(100)]
        put(settings, topic, more)
        sent.extend(more)
        return one.report.lines > 0 and two.report.lines > 0

    with Running(second, source) as two:
        with Running(settings, source) as one:
            wait_until(both_read, "each has a partition")
        more = [eve(len(sent) + number) for number in range(100)]
        put(settings, topic, more)
        sent.extend(more)
        wait_until(lambda: committed(settings, topic) == len(sent), "the one that is left has both")

    arrived = lines_of(messages_of(settings, TELEMETRY))
    assert set(arrived) == set(sent)
    assert len(arrived) < 2 * len(sent)


def test_nothing_is_committed_before_it_is_published(settings: Settings, eve: EveMaker) -> None:
    """While our own Kafka is away no offset moves, and what is read is bounded."""
    topic = topic_of(settings)
    put(settings, topic, [eve(number) for number in range(2_000)])
    away = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"}),
            "publisher": settings.publisher.model_copy(update={"queue_bytes_max": 20_000, "batch_bytes_max": 4_000}),
        }
    )
    with Running(away, f"suricata:kafka://{settings.kafka.bootstrap}/{topic}") as one:
        wait_until(lambda: one.report.messages > 0, "lines on their way")
        assert not threading.Event().wait(1.0)
        read = one.report.lines

    assert 0 < read < 1_000
    assert committed(settings, topic) == 0


def test_held_lines_are_released(settings: Settings, messages_of: MessagesOf) -> None:
    """Records of one event come as messages of their own, are published together, and committed only then."""
    topic = topic_of(settings)
    head = b"type=%s msg=audit(1770000000.123:45): "
    records = [
        head % b"SYSCALL" + b"arch=c000003e syscall=42 success=yes exit=0 pid=7",
        head % b"SOCKADDR" + b"saddr=0200",
    ]
    put(settings, topic, [value for record in records for value in (record, None)])
    with Running(settings, f"auditd:kafka://{settings.kafka.bootstrap}/{topic}") as one:
        wait_until(lambda: committed(settings, topic) == 4, "all committed")

    assert one.report.received["kafka_acknowledged"] == 4
    assert len(messages_of(settings, TELEMETRY)) == 1


def test_messages_without_lines_leave_others_their_turn(settings: Settings) -> None:
    """However many there are, the producer observes the input every thousand messages, so it commits, and stops when asked."""
    topic = topic_of(settings)
    put(settings, topic, [None, b"\n"] * 10_000)
    source = parse_source(f"auto:kafka://{settings.kafka.bootstrap}/{topic}")
    assert source.endpoint is not None
    counts = Counter[str]()
    one = KafkaInput(source, source.endpoint, settings.inputs, counts, line_bytes_max=1_000, clock=time.monotonic)
    turns = [0]
    with closing(one):
        lines = one.lines()

        def acknowledged() -> bool:
            assert next(lines) is None
            one.acknowledged({})
            turns.append(counts["kafka_acknowledged"])
            return turns[-1] == 20_000

        wait_until(acknowledged, "all of them")

    assert max(after - before for before, after in pairwise(turns)) <= FRUITLESS_MAX


def test_calls_that_cannot_be(settings: Settings, tmp_path: Path) -> None:
    """No such topic, files without --follow, a pace: each names the remedy."""
    place = f"auto:kafka://{settings.kafka.bootstrap}"
    topic = topic_of(settings)
    for given, options, message in (
        ([f"{place}/{topic}-not"], {}, "create it, or name another one"),
        ([f"{place}/{topic}", f"auto:{tmp_path}/x"], {}, "need --follow"),
        ([f"{place}/{topic}"], {"speed": 1.0}, "--speed does not apply"),
    ):
        with pytest.raises(SourceError, match=message):
            produce(settings, map(parse_source, given), stop=threading.Event(), **options)  # type: ignore[arg-type]  # the table's options
