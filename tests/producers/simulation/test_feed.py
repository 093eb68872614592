"""A simulated world on the real Kafka: every line is there, counted, keyed and packed as a publisher does it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import Message

from producers.publish.publisher import PublisherFailed
from producers.publish.report import Report
from producers.simulation import World, WorldSettings, simulate, truth
from producers.simulation.output.feed import feed
from producers.simulation.output.shards import feed_all, processes_for
from producers.simulation.output.truth_file import truth_file
from schemas.settings import PREFIX, Settings
from schemas.topics import TELEMETRY

SMALL = WorldSettings(seed=21, devices=9, lines_per_sec=600, duration_secs=6, flow_timeout_secs=2)
SettingsFor = Callable[..., Settings]
MessagesOf = Callable[[Settings, str], list[Message]]


class Clock:
    """Time that passes only when it is asked for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now


def headers(message: Message) -> dict[str, str]:
    """A message's headers as text."""
    pairs: Any = message.headers()
    return {name: value.decode() for name, value in pairs}


def device_of(message: Message) -> str:
    """A message's key."""
    key: Any = message.key()
    return str(key.decode())


def lines_of(messages: Iterable[Message]) -> dict[tuple[str, str, str], list[bytes]]:
    """The lines of each sensor's file, in the order of the topic."""
    found: dict[tuple[str, str, str], list[bytes]] = {}
    for message in messages:
        outcome, value = headers(message), message.value()
        assert isinstance(value, bytes)
        found.setdefault((device_of(message), outcome["dialect"], outcome["sensor"]), []).extend(value.split(b"\n"))
    return found


def written(settings: WorldSettings) -> dict[tuple[str, str, str], list[bytes]]:
    """The same as the world has it."""
    found: dict[tuple[str, str, str], list[bytes]] = {}
    for line in simulate(settings):
        found.setdefault((line.device, line.dialect, line.sensor), []).append(line.value)
    return found


def test_every_line_arrives_once_and_in_order(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """Each file's lines are there as written; lines are counted from 1; a device lies where Faust looks for it."""
    settings = kafka_settings_for()
    report = feed(settings, World(SMALL), stop=Event(), speed=0)
    messages = messages_of(settings, TELEMETRY)

    assert lines_of(messages) == written(SMALL)
    assert report.lines == sum(map(len, written(SMALL).values())) == report.by_dialect.total()
    assert (report.messages, report.unacknowledged_messages) == (len(messages), 0)
    counted: dict[tuple[str, ...], list[int]] = {}
    for message in messages:
        outcome = headers(message)
        first = int(outcome["seq"])
        numbers = counted.setdefault((device_of(message), outcome["dialect"], outcome["sensor"]), [])
        numbers += range(first, first + int(outcome["lines"]))
        hashed: int = murmur2(device_of(message).encode())  # type: ignore[no-untyped-call]  # it has no types
        assert message.partition() == (hashed & 0x7FFFFFFF) % 4
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in counted.values())
    assert len(messages) < report.lines / 3, "several lines make a message"


def test_messages_keep_their_limit(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """No message of several lines is larger than a publisher would make it."""
    settings = kafka_settings_for(publisher={"batch_bytes_max": 3_000})
    feed(settings, World(SMALL), stop=Event(), speed=0)
    values = [message.value() or b"" for message in messages_of(settings, TELEMETRY)]

    assert all(len(value) <= 3_000 or b"\n" not in value for value in values)
    assert sum(value.count(b"\n") + 1 for value in values) == sum(map(len, written(SMALL).values()))


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_keeps_the_pace_of_the_world(kafka_settings_for: SettingsFor, speed: float) -> None:
    """At its own pace a world takes as long as it lasts, at fourfold pace a quarter."""
    clock = Clock()
    feed(kafka_settings_for(), World(replace(SMALL, duration_secs=1.0)), stop=Event(), speed=speed, clock=clock)

    assert clock.now >= 1.0 / speed


def test_stop_ends_it_with_everything_acknowledged(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """When stopped, it sends what the sensors have written by then, waits for Kafka, and reports what is there."""
    settings, stop = kafka_settings_for(), Event()
    world = World(replace(SMALL, duration_secs=10_000))

    def progress(report: Report) -> None:
        if report.lines > 500:
            stop.set()

    report = feed(settings, world, stop=stop, speed=0, progress=progress)
    there = lines_of(messages_of(settings, TELEMETRY))

    assert (
        500
        < report.lines
        == sum(map(len, there.values()))
        == world.tally["lines: sockets"] + world.tally["lines: suricata"]
    )
    assert report.unacknowledged_messages == 0


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_send_the_same_as_one(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, processes: int
) -> None:
    """However many processes share the devices: the same lines, the same counts, the same truth in the same order."""
    settings, file = kafka_settings_for(), tmp_path / "truth.jsonl"
    outcome = feed_all(settings, SMALL, stop=Event(), speed=0, processes=processes, truth=file)
    expected = tmp_path / "expected.jsonl"
    with truth_file(expected) as write:
        for one in truth(SMALL):
            write(one)
    whole = World(SMALL)
    assert sum(1 for _ in whole.lines()) == outcome.report.lines

    assert lines_of(messages_of(settings, TELEMETRY)) == written(SMALL)
    assert file.read_bytes() == expected.read_bytes()
    assert outcome.tally == Counter({name: count for name, count in whole.tally.items() if count})
    assert [path.name for path in tmp_path.glob("truth*")] == ["truth.jsonl"]


def test_stop_reaches_all_processes(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """A stop ends every process, with what it sent acknowledged."""
    settings, stop = kafka_settings_for(), Event()

    def progress(report: Report) -> None:
        # A broker that acknowledged nothing yet may still be making the topic.
        if report.lines > 500 and report.acknowledged_by_dialect:
            stop.set()

    endless = replace(SMALL, duration_secs=10_000)
    outcome = feed_all(settings, endless, stop=stop, speed=2.0, processes=2, progress=progress)

    assert outcome.report.unacknowledged_messages == 0
    assert outcome.report.lines == sum(map(len, lines_of(messages_of(settings, TELEMETRY)).values()))


def test_stop_at_once_is_no_trouble(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """Processes that are still beginning when they are asked to stop end as others do."""
    settings, stop = kafka_settings_for(), Event()
    stop.set()
    outcome = feed_all(settings, replace(SMALL, duration_secs=10_000), stop=stop, speed=2.0, processes=2)
    there = sum(map(len, lines_of(messages_of(settings, TELEMETRY)).values()))

    assert outcome.report.lines == there or outcome.report.unacknowledged_messages


def test_trouble_in_a_process_ends_all(kafka_settings_for: SettingsFor) -> None:
    """A process that dies ends all of them, and it is reported."""

    def progress(report: Report) -> None:
        if report.lines:
            for child in multiprocessing.active_children()[:1]:
                child.kill()

    endless = replace(SMALL, duration_secs=10_000)
    with pytest.raises(PublisherFailed, match="ended with -9"):
        feed_all(kafka_settings_for(), endless, stop=Event(), speed=2.0, processes=2, progress=progress)
    assert multiprocessing.active_children() == []


def test_truth_that_cannot_be_written_fails_first(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """Nothing is published when the truth has nowhere to go."""
    with pytest.raises(FileNotFoundError):
        feed_all(kafka_settings_for(), SMALL, stop=Event(), speed=0, processes=2, truth=tmp_path / "none" / "truth")


def test_processes_follow_the_pace() -> None:
    """One process for a pace that any machine keeps, more for a faster one, never more than devices."""
    assert processes_for(SMALL, 1.0) == 1
    assert 1 <= processes_for(WorldSettings(devices=500, lines_per_sec=100_000), 0.0) <= 8
    assert processes_for(WorldSettings(devices=1, lines_per_sec=100), 0.0) == 1


def test_processes_end_with_their_parent(kafka_settings_for: SettingsFor) -> None:
    """When the parent is killed its processes end by themselves, without a word."""
    settings = kafka_settings_for()
    process = subprocess.Popen(
        [sys.executable, "-m", "unproxy", "simulate", "--devices", "8", "--duration", "9999", "--processes", "2"],
        env={
            **os.environ,
            f"{PREFIX}KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
            f"{PREFIX}KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        next(line for line in process.stderr if "publishing" in line and "lines=0 " not in line)
        children = psutil.Process(process.pid).children()
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=30)
        output = process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()

    assert len(children) >= 2
    assert alive == []
    assert "Traceback" not in output
