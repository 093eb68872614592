"""The sink under kill -9, pauses and moves: nothing lost, and nothing twice even in the tables of all versions."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.settings import Settings
from schemas.topics import DEVICE_EVENTS, NETWORK_EVENTS, TABLE_OF_TOPIC, topic_name
from sinks import consumer as consuming
from sinks.consumer import SinkLoop
from sinks.plan import Plan
from tests.sinks.memory_sink import MemorySink
from tests.sinks.sink_world import (
    PARTITIONS,
    SinkProcess,
    ask,
    inserts,
    loop_of,
    metric,
    nothing_waits,
    prepare,
    publish,
    row,
    until,
)

SettingsMaker = Callable[..., Settings]
TOPICS = (NETWORK_EVENTS, DEVICE_EVENTS)
STORED = "SELECT (count(), uniqExact(RecordId)) FROM DB.{}_versions"


class Flow:
    """Rows that go on coming, now many, now few, and how many there were."""

    def __init__(self, settings: Settings) -> None:
        self.rows = 0
        self._settings = settings
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self._luck = random.Random(7)

    def _go_on(self) -> None:
        while not self._enough.wait(self._luck.choice((0.02, 0.05, 0.1, 0.3))):
            values = []
            for _ in range(self._luck.choice((1, 3, 20))):
                size = self._luck.choice((1, 5, 30))
                values.append(b"\n".join(row(self.rows + number) for number in range(size)))
                self.rows += size
            self._luck.shuffle(values)
            # Two topics, as each of two sinks gets the partitions of one.
            for name in TOPICS:
                publish(self._settings, name, values)

    @contextmanager
    def coming(self) -> Iterator[Flow]:
        """While the block runs."""
        self._thread.start()
        try:
            yield self
        finally:
            self._enough.set()
            self._thread.join()


def offsets(settings: Settings) -> list[TopicPartition]:
    """What the group has committed on the topic of rows."""
    asker = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": settings.sink.group})
    try:
        names = [topic_name(settings, name) for name in TOPICS]
        places = [TopicPartition(name, number) for name in names for number in range(PARTITIONS)]
        return list(asker.committed(places, timeout=10.0))
    finally:
        asker.close()


def goes_on(settings: Settings, batches: int = 4) -> None:
    """Wait until more is written."""
    before = sum(max(place.offset, 0) for place in offsets(settings))
    until(lambda: sum(max(place.offset, 0) for place in offsets(settings)) > before + batches)


def all_is_written(settings: Settings) -> None:
    """Wait until nothing is left to do."""
    until(lambda: nothing_waits(settings), 120.0)


def assert_stored_once(settings: Settings, flow: Flow) -> None:
    """All that came is there, and no version twice."""
    for name in TOPICS:
        assert ask(settings, STORED.format(TABLE_OF_TOPIC[name])) == (flow.rows, flow.rows)


def assert_one_token_each(*files: Path) -> None:
    """No token ever stood for other rows, and no rows ever had another token."""
    reported = inserts(*files)
    assert reported
    assert Counter(token for token, _ in reported).most_common(1)[0][1] == 1
    assert Counter(rows for _, rows in reported).most_common(1)[0][1] == 1


def test_killed_again_and_again(settings_for: SettingsMaker, tmp_path: Path) -> None:
    """Kill -9 at any moment and at the worst ones, while rows come as they like: each is stored exactly once."""
    settings = prepare(settings_for(sink={"batch_rows_max": 200, "batch_age_secs_max": 0.2, "name": "sink-1"}))
    sink = SinkProcess(settings, tmp_path / "a.log", crash=0.1)
    with Flow(settings).coming() as flow:
        sink.keep_alive()
        try:
            until(lambda: len(sink.exits) >= 6, 90.0)
            for _ in range(4):
                goes_on(settings, batches=1)
                sink.send(signal.SIGKILL)
        finally:
            sink.kill()
    last = SinkProcess(settings, tmp_path / "b.log").start()
    try:
        all_is_written(settings)
        code = last.stop()
    finally:
        last.kill()

    assert code == 0
    assert set(sink.exits) == {-signal.SIGKILL}
    assert_stored_once(settings, flow)
    assert_one_token_each(sink.inserts_file, last.inserts_file)
    assert [Plan.read(place.offset, place.metadata) for place in offsets(settings)] == [
        Plan(place.offset) for place in offsets(settings)
    ]


def test_come_and_go(settings_for: SettingsMaker, tmp_path: Path) -> None:
    """Sinks join, leave, are killed and join again while rows come: each is stored exactly once."""
    settings = prepare(settings_for(sink={"batch_rows_max": 200, "batch_age_secs_max": 0.2, "session_timeout_secs": 6}))
    stays, comes = (SinkProcess(settings, tmp_path / f"{name}.log") for name in "ab")
    codes = []
    with Flow(settings).coming() as flow:
        try:
            stays.start()
            goes_on(settings)
            for _ in range(2):
                comes.start()
                until(lambda: bool(inserts(comes.inserts_file)))
                goes_on(settings)
                codes.append(comes.stop())
                goes_on(settings)
                comes.inserts_file.rename(comes.inserts_file.with_suffix(f".{len(codes)}"))
            comes.start()
            until(lambda: bool(inserts(comes.inserts_file)))
            comes.kill()
            goes_on(settings)
        except BaseException:  # whatever it is, no process is left behind
            stays.kill()
            raise
        finally:
            comes.kill()
    try:
        all_is_written(settings)
        codes.append(stays.stop())
    finally:
        stays.kill()

    assert codes == [0, 0, 0]
    assert_stored_once(settings, flow)
    assert_one_token_each(stays.inserts_file, comes.inserts_file, *tmp_path.glob("b.[0-9]"))


def test_a_zombie_doubles_nothing(settings_for: SettingsMaker, tmp_path: Path) -> None:
    """A sink that sleeps past its session and wakes with batches in hand writes what is there already, if anything."""
    settings = prepare(settings_for(sink={"batch_rows_max": 200, "batch_age_secs_max": 0.2, "session_timeout_secs": 6}))
    sleeper, waker = (SinkProcess(settings, tmp_path / f"{name}.log") for name in "ab")
    with Flow(settings).coming() as flow:
        try:
            sleeper.start()
            for _ in range(2):
                goes_on(settings)
                sleeper.send(signal.SIGSTOP)
                if not inserts(waker.inserts_file):
                    waker.start()
                    until(lambda: bool(inserts(waker.inserts_file)))
                goes_on(settings)
                goes_on(settings)
                sleeper.send(signal.SIGCONT)
                woken = len(inserts(sleeper.inserts_file))
                until(lambda woken=woken: len(inserts(sleeper.inserts_file)) > woken)  # type: ignore[misc]  # mypy cannot infer it
        except BaseException:  # whatever it is, no process is left behind
            waker.kill()
            sleeper.kill()
            raise
    try:
        all_is_written(settings)
        codes = sleeper.stop(), waker.stop()
    finally:
        sleeper.kill()
        waker.kill()

    assert codes == (0, 0)
    assert "partitions were lost" in sleeper.log_text()
    assert_stored_once(settings, flow)
    assert_one_token_each(sleeper.inserts_file, waker.inserts_file)


def test_two_of_one_name(settings_for: SettingsMaker, tmp_path: Path) -> None:
    """Of two sinks with one name the first ends with an error that names it: its supervisor may start it again."""
    settings = prepare(settings_for(sink={"name": "sink-1", "session_timeout_secs": 6}))
    first, second = (SinkProcess(settings, tmp_path / f"{name}.log") for name in "ab")
    try:
        first.start()
        publish(settings, NETWORK_EVENTS, [row(1)])
        all_is_written(settings)
        second.start()
        code = first.wait()
    finally:
        first.kill()
        second.kill()

    assert code == 1
    assert 'this sink called "sink-1"' in first.log_text()
    assert "give each sink its own sink.name" in first.log_text()


def test_retention_that_passes_the_sink(kafka_settings_for: SettingsMaker, caplog: pytest.LogCaptureFixture) -> None:
    """Rows deleted before the sink read them are counted and logged as an error; the rest comes."""
    settings = kafka_settings_for(sink={"batch_age_secs_max": 0.1})
    name = topic_name(settings, NETWORK_EVENTS)
    publish(settings, NETWORK_EVENTS, [row(number) for number in range(4 * PARTITIONS)])
    first = MemorySink()
    with loop_of(settings, first):
        until(lambda: len(first.rows.get("DeviceNetworkEvents", [])) == 4 * PARTITIONS)
        until(lambda: nothing_waits(settings))
    publish(settings, NETWORK_EVENTS, [row(number) for number in range(4 * PARTITIONS)])
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    for deleted in admin.delete_records([TopicPartition(name, 2, 7)]).values():
        deleted.result(10)
    second = MemorySink()
    with loop_of(settings, second) as loop:
        until(lambda: len(second.rows.get("DeviceNetworkEvents", [])) == 4 * PARTITIONS - 3)

        assert metric(loop, "unproxy_sink_messages_missed_total") == {name: 3}
        until(lambda: nothing_waits(settings))
    (record,) = [record for record in caplog.records if "deleted before they were read" in record.message]
    assert (record.__dict__["from"], record.__dict__["to"], record.__dict__["messages"]) == (4, 6, 3)


def test_a_recreated_topic_is_read_from_its_start(kafka_settings_for: SettingsMaker) -> None:
    """What was committed lies beyond the end, with a plan still further: all that is there is read."""
    settings = kafka_settings_for(sink={"batch_age_secs_max": 0.1})
    name = topic_name(settings, NETWORK_EVENTS)
    commit(settings, [TopicPartition(name, number, 100, Plan(100, (200,)).metadata) for number in range(PARTITIONS)])
    publish(settings, NETWORK_EVENTS, [row(number) for number in range(PARTITIONS)])
    sink = MemorySink()
    with loop_of(settings, sink):
        until(lambda: len(sink.rows.get("DeviceNetworkEvents", [])) >= PARTITIONS)

    assert len(sink.rows["DeviceNetworkEvents"]) == PARTITIONS


def test_a_plan_beyond_the_end(kafka_settings_for: SettingsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rest of a planned batch is gone, what is there does not wait for it for ever."""
    monkeypatch.setattr(consuming, "PLANNED_SECS_MAX", 0.3)
    settings = kafka_settings_for(sink={"batch_age_secs_max": 0.1})
    name = topic_name(settings, NETWORK_EVENTS)
    publish(settings, NETWORK_EVENTS, [row(number) for number in range(PARTITIONS)])
    commit(settings, [TopicPartition(name, 0, 0, Plan(0, (3, 9)).metadata)])
    sink = MemorySink()
    with loop_of(settings, sink):
        until(lambda: len(sink.rows.get("DeviceNetworkEvents", [])) == PARTITIONS)
        until(lambda: nothing_waits(settings))


def commit(settings: Settings, places: list[TopicPartition]) -> None:
    """Commit as the group, which has no members now."""
    group = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": settings.sink.group})
    try:
        group.commit(offsets=places, asynchronous=False)
    finally:
        group.close()


def test_nothing_is_written_that_kafka_does_not_know(
    kafka_settings_for: SettingsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While commits fail, batches wait, few of them; once they go through, all is written."""
    settings = kafka_settings_for(sink={"batch_age_secs_max": 0.05, "batch_rows_max": 10})
    publish(settings, NETWORK_EVENTS, [row(number) for number in range(2_000)])
    sink = MemorySink()
    monkeypatch.setattr(Plan, "metadata", "more than the broker takes" * 200)
    with loop_of(settings, sink) as loop:
        until(lambda: len(loop._offsets.waiting()) > 2)
        read = rows_once_still(loop)
        assert (sink.rows, loop.rows_written) == ({}, 0)
        assert read < 2_000
        monkeypatch.undo()
        until(lambda: len(sink.rows.get("DeviceNetworkEvents", [])) == 2_000)


def rows_once_still(loop: SinkLoop) -> int:
    """The rows read when no more are."""
    until(lambda: bool(loop._paused))
    return loop.rows_read
