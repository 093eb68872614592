"""The sink on the real Kafka and the real engine: nothing lost, nothing doubled, whatever dies on the way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from common.group_lag import lag
from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, DEVICE_EVENTS, NETWORK_EVENTS, REJECTS, TABLE_OF_TOPIC, topic_name
from sinks import consumer as consuming
from sinks import group_member
from tests.sinks.memory_sink import MemorySink
from tests.sinks.sink_world import (
    SinkProcess,
    ask,
    loop_of,
    messages,
    metric,
    nothing_waits,
    prepare,
    publish,
    row,
    until,
)
from unproxy.local.meter import scrape
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.service import free_port

SettingsMaker = Callable[..., Settings]


def test_all_topics_arrive(settings_for: SettingsMaker) -> None:
    """Each topic's rows are in its table, the bytes of rejects too; then there is no lag, by the counters too."""
    settings = prepare(settings_for(sink={"batch_age_secs_max": 0.1}))
    publish(settings, NETWORK_EVENTS, messages(10))
    publish(settings, DEVICE_EVENTS, [row(1) + b"\n" + row(2), row(3)])
    publish(settings, BLOCK_ALERTS, [b'{"AlertId":"a","Version":1,"DeviceId":"d","DestinationHosts":["h"]}'])
    publish(settings, REJECTS, [b"\x00\xff not json"], {"reason": "malformed", "detail": "x", "dialect": "suricata"})
    assert sum(lag(settings).values()) == 14

    with loop_of(settings) as loop:
        until(lambda: loop.rows_written == 55)
        until(lambda: nothing_waits(settings))

        assert loop.rows_read == 55
        assert loop.batches >= 4
        assert (loop.retries, loop.refused) == (0, 0)
        read = {NETWORK_EVENTS: 50, DEVICE_EVENTS: 3, BLOCK_ALERTS: 1, REJECTS: 1}
        carried = {NETWORK_EVENTS: 10, DEVICE_EVENTS: 2, BLOCK_ALERTS: 1, REJECTS: 1}
        assert metric(loop, "unproxy_sink_rows_read_total") == {topic_name(settings, k): v for k, v in read.items()}
        assert metric(loop, "unproxy_sink_messages_total") == {topic_name(settings, k): v for k, v in carried.items()}
        assert metric(loop, "unproxy_sink_rows_written_total") == {TABLE_OF_TOPIC[k]: v for k, v in read.items()}
        assert metric(loop, "unproxy_sink_batches_written_total").keys() == {TABLE_OF_TOPIC[name] for name in read}
        until(lambda: not metric(loop, "unproxy_sink_rows_waiting"))
        assert metric(loop, "unproxy_sink_batch_rows_count") == metric(loop, "unproxy_sink_batches_written_total")
        assert metric(loop, "unproxy_sink_batch_rows_sum") == metric(loop, "unproxy_sink_rows_written_total")
        assert metric(loop, "unproxy_sink_latency_seconds_count") == {TABLE_OF_TOPIC[k]: v for k, v in carried.items()}
        assert metric(loop, "unproxy_sink_rebalances_total") == {"assigned": 1}
    assert ask(settings, "SELECT uniqExact(RecordId) FROM DB.DeviceNetworkEvents") == 50
    assert ask(settings, "SELECT count() FROM DB.DeviceEvents") == 3
    assert ask(settings, "SELECT DestinationHosts FROM DB.BlockAlerts") == ["h"]
    assert ask(settings, "SELECT (Reason, Dialect, hex(Raw)) FROM DB.Rejects") == (
        "malformed",
        "suricata",
        b"\x00\xff not json".hex().upper(),
    )


def test_killed_sink_loses_and_doubles_nothing(settings_for: SettingsMaker, tmp_path: Path) -> None:
    """Kill -9 in the middle, twice: a new one goes on, and hunters see each row once. Its page has the progress."""
    port = free_port()
    sink = {"batch_rows_max": 25, "batch_age_secs_max": 0.2, "name": "sink-1", "metrics_port": port}
    settings = prepare(settings_for(sink=sink))
    publish(settings, NETWORK_EVENTS, messages(1_000))
    stored = "SELECT uniqExact(RecordId) FROM DB.DeviceNetworkEvents_versions"

    seen = 0
    for _ in range(2):
        process = SinkProcess(settings, tmp_path / "sink.log").start()
        before = seen
        until(lambda before=before: ask(settings, stored) > before)  # type: ignore[misc]  # mypy cannot infer it
        until(lambda: (scrape(port) or {}).get("unproxy_sink_rows_written_total", {}).get("DeviceNetworkEvents", 0) > 0)
        process.kill()
        seen = ask(settings, stored)
        assert seen < 5_000, "it was too quick to be killed in the middle"
    with loop_of(settings):
        until(lambda: nothing_waits(settings))

    assert ask(settings, "SELECT (count(), uniqExact(RecordId)) FROM DB.DeviceNetworkEvents") == (5_000, 5_000)


def test_rows_left_to_another_are_counted(kafka_settings_for: SettingsMaker) -> None:
    """What was read and not written when the partitions go is counted as waiting, then as left."""
    settings = kafka_settings_for(sink={"batch_age_secs_max": 600.0})
    publish(settings, NETWORK_EVENTS, messages(4))
    with loop_of(settings, MemorySink()) as loop:
        until(lambda: metric(loop, "unproxy_sink_rows_waiting") == {"DeviceNetworkEvents": 20})

    until(lambda: metric(loop, "unproxy_sink_rows_left_total") == {"DeviceNetworkEvents": 20})
    assert metric(loop, "unproxy_sink_rows_waiting") == {}


def test_killed_engine_loses_and_doubles_nothing(kafka_settings_for: SettingsMaker, tmp_path: Path) -> None:
    """ClickHouse killed in the middle and back again: the sink waits, then goes on by itself."""
    engine = Engine(tmp_path / "clickhouse")
    engine.start()
    try:
        settings = kafka_settings_for(
            clickhouse=engine.settings("own").model_dump(exclude_unset=True),
            sink={"batch_rows_max": 25, "batch_age_secs_max": 0.1, "retry_secs_max": 0.5},
        )
        prepare(settings)
        before, after = messages(600)[:300], messages(600)[300:]
        publish(settings, NETWORK_EVENTS, before)
        with loop_of(settings) as loop:
            until(lambda: loop.rows_written > 0)
            engine.kill()
            publish(settings, NETWORK_EVENTS, after)
            until(lambda: loop.retries > 0)
            assert loop.rows_written <= 1_500
            engine.start()
            until(lambda: nothing_waits(settings))

        assert ask(settings, "SELECT (count(), uniqExact(RecordId)) FROM DB.DeviceNetworkEvents") == (3_000, 3_000)
    finally:
        engine.stop()


def test_missing_tables_are_waited_for(settings_for: SettingsMaker, caplog: pytest.LogCaptureFixture) -> None:
    """Without tables nothing is dropped: the log names the command, and after that the rows come."""
    settings = settings_for(sink={"batch_age_secs_max": 0.1, "retry_secs_max": 0.2})
    publish(settings, NETWORK_EVENTS, messages(4))
    with loop_of(settings) as loop:
        until(lambda: loop.retries > 1)
        since = loop.failing_since
        assert since is not None
        assert since <= loop.failed_at <= time.monotonic()
        prepare(settings)
        until(lambda: loop.rows_written == 20)
        until(lambda: loop.failing_since is None)

        assert metric(loop, "unproxy_sink_retries_total")["DeviceNetworkEvents"] == loop.retries
    assert any("run `unproxy migrate`" in record.__dict__.get("error", "") for record in caplog.records)
    assert ask(settings, "SELECT count() FROM DB.DeviceNetworkEvents") == 20


def test_bad_rows_go_to_rejects(settings_for: SettingsMaker) -> None:
    """A message that cannot be stored ends in Rejects with its bytes; its neighbours are stored."""
    settings = prepare(settings_for(sink={"batch_age_secs_max": 0.1}))
    bad = [b'{"RecordId": 7, "Version": "many"}', b"not json at all", row(900, Colour="blue")]
    good = messages(30)
    publish(settings, NETWORK_EVENTS, [*good[:10], bad[0], *good[10:20], bad[1], *good[20:], bad[2]])
    with loop_of(settings) as loop:
        until(lambda: loop.rows_written == 150 + len(bad))

        assert loop.refused == len(bad)
        assert metric(loop, "unproxy_sink_rows_refused_total") == {"DeviceNetworkEvents": len(bad)}
    assert ask(settings, "SELECT count() FROM DB.DeviceNetworkEvents") == 150
    assert ask(settings, "SELECT groupUniqArray(Reason) FROM DB.Rejects") == ["not_deliverable"]
    kept = ask(settings, "SELECT groupArray(Raw) FROM DB.Rejects")
    assert sorted(kept) == sorted(raw.decode() for raw in bad)


def test_two_sinks_share(settings_for: SettingsMaker) -> None:
    """Partitions move to a second sink and back while rows flow, and each row is seen once."""
    settings = prepare(settings_for(sink={"batch_rows_max": 50, "batch_age_secs_max": 0.1}))
    with loop_of(settings) as first:
        publish(settings, NETWORK_EVENTS, messages(200))
        until(lambda: first.rows_written > 0)
        with loop_of(settings) as second:
            publish(settings, NETWORK_EVENTS, [value.replace(b'"r', b'"s') for value in messages(200)])
            until(lambda: second.rows_written > 0 or nothing_waits(settings))
        publish(settings, NETWORK_EVENTS, [value.replace(b'"r', b'"t') for value in messages(200)])
        until(lambda: nothing_waits(settings))

    assert ask(settings, "SELECT (count(), uniqExact(RecordId)) FROM DB.DeviceNetworkEvents") == (3_000, 3_000)


class Closed(MemorySink):
    """Takes nothing until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        self.opened.wait()
        super().write(table, rows, token, again=again)


def test_an_assignment_leaves_nothing_to_ask(
    kafka_settings_for: SettingsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was committed the beginning is named: librdkafka's own question may be lost with its coordinator."""
    given: list[TopicPartition] = []

    def begin(place: TopicPartition) -> TopicPartition:
        given.append(start_of(place))
        return given[-1]

    start_of = group_member.start_of
    monkeypatch.setattr(group_member, "start_of", begin)
    with loop_of(kafka_settings_for()) as loop:
        until(lambda: loop.joined)

    assert {place.offset for place in given} == {OFFSET_BEGINNING}


def test_patient_sink_is_paused(kafka_settings_for: SettingsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the sink takes nothing, little is held in memory and the partitions are paused; then all of it comes."""
    monkeypatch.setattr(consuming, "PAUSE_AFTER_SECS", 0.1)
    settings = kafka_settings_for(sink={"batch_rows_max": 10, "batch_age_secs_max": 0.1})
    publish(settings, NETWORK_EVENTS, messages(1_000))
    sink = Closed()
    try:
        with loop_of(settings, sink) as loop:
            until(lambda: bool(loop._paused))
            assert loop.rows_read < 5_000
            sink.opened.set()
            until(lambda: len(sink.rows.get("DeviceNetworkEvents", [])) == 5_000)

            assert loop.rows_read == 5_000
    finally:
        sink.opened.set()


def test_stop_while_clickhouse_is_away(kafka_settings_for: SettingsMaker) -> None:
    """No listener at ClickHouse's address: a stop request ends the sink within two seconds (see loop_of)."""
    settings = kafka_settings_for(clickhouse={"url": "http://127.0.0.1:1"}, sink={"batch_age_secs_max": 0.1})
    publish(settings, NETWORK_EVENTS, messages(4))
    with loop_of(settings) as loop:
        until(lambda: loop.retries > 0)

    assert sum(lag(settings).values()) == 4


def test_stop_while_clickhouse_hangs(kafka_settings_for: SettingsMaker) -> None:
    """ClickHouse takes the connection and never answers: a stop request ends the sink within two seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        settings = kafka_settings_for(clickhouse={"url": url, "timeout_secs": 20}, sink={"batch_age_secs_max": 0.1})
        publish(settings, NETWORK_EVENTS, messages(4))
        with loop_of(settings):
            connection, _ = server.accept()
        connection.close()

    assert sum(lag(settings).values()) == 4


def test_failed_commits_are_counted() -> None:
    """A commit that Kafka does not take is counted, once, however many partitions are in it."""
    settings = Settings.model_validate({"kafka": {"bootstrap": "127.0.0.1:1"}})
    with loop_of(settings, MemorySink()) as loop:
        loop._offsets.answered(KafkaError(KafkaError._TRANSPORT), [TopicPartition("topic", part, 5) for part in (0, 1)])

        assert metric(loop, "unproxy_sink_commit_failures_total") == {"": 1}


def test_stop_while_kafka_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """No listener at Kafka's address: the log states it, and a stop request ends the sink within two seconds."""
    settings = Settings.model_validate({"kafka": {"bootstrap": "127.0.0.1:1"}})
    with loop_of(settings, MemorySink()):
        until(lambda: "kafka is in trouble, will retry" in caplog.messages)
