"""Rows that ClickHouse lost come back from Kafka, each once, and nothing else changes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from common.group_lag import lag
from schemas.clock import iso_micros
from schemas.settings import Settings
from schemas.topics import DEVICE_EVENTS, NETWORK_EVENTS, REJECTS, TABLE_OF_TOPIC, topic_name
from sinks.base import SinkBusy, SinkRefused
from sinks.clickhouse import ClickHouseSink, connect
from tests.conftest import SettingsMaker
from tests.sinks.sink_world import ask, damage, loop_of, messages, nothing_waits, prepare, publish, row, until
from unproxy.cli import run
from unproxy.errors import Failed, Fixable
from unproxy.local.parts import write_settings
from unproxy.local.servers.engine import Engine
from unproxy.ops import refill as carrying
from unproxy.ops.refill import Account, Refill
from unproxy.timeouts import Stopped

TABLE = "DeviceNetworkEvents"
TABLES = list(TABLE_OF_TOPIC.values())
HOUR_MS = 3_600_000
BEGIN = "2020-01-01"


@contextmanager
def own_engine(kafka_settings_for: SettingsMaker, tmp_path: Path) -> Iterator[tuple[Engine, Settings]]:
    """An engine that may be harmed, with tables that do not merge."""
    engine = Engine(tmp_path / "clickhouse")
    engine.start()
    try:
        yield (
            engine,
            prepare(
                kafka_settings_for(
                    clickhouse=engine.settings("own").model_dump(exclude_unset=True),
                    sink={"batch_age_secs_max": 0.1, "retry_secs_max": 0.3},
                )
            ),
        )
    finally:
        engine.kill()


def written(settings: Settings) -> None:
    """Let a sink write what is on the topics."""
    with loop_of(settings):
        until(lambda: nothing_waits(settings))


def shown(settings: Settings) -> Mapping[str, list[Any]]:
    """All that the views show."""
    with connect(settings.clickhouse) as client:
        return {
            table: sorted(map(repr, client.query(f"SELECT * FROM own.{table}").result_rows))
            for table in ("DeviceNetworkEvents", "DeviceEvents", "Rejects")
        }


def refilled(settings: Settings, since_ms: int = 0, until_ms: int | None = None, *tables: str) -> dict[str, Account]:
    """Refill; what became of it."""
    return Refill(settings, tables or TABLES, since_ms, until_ms, print).until(threading.Event(), dry_run=False)


def file_of(settings: Settings, tmp_path: Path) -> str:
    """The settings as a file."""
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    return str(file)


def test_a_damaged_part(kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Marks that are empty or cut: the question fails; after the cure all is shown as before, the second time as well."""
    with own_engine(kafka_settings_for, tmp_path) as (_, settings):
        publish(settings, NETWORK_EVENTS, messages(400))
        publish(settings, DEVICE_EVENTS, messages(40))
        publish(settings, REJECTS, [b"no line"] * 8, {"reason": "malformed", "dialect": "suricata"})
        written(settings)
        before, waiting = shown(settings), lag(settings)
        empty, cut = damage(settings.clickhouse, TABLE), damage(settings.clickhouse, "DeviceEvents", keep=0.1)
        with pytest.raises(Exception, match=r"CORRUPTED_DATA|CANNOT_READ_ALL_DATA"):
            shown(settings)
        assert run(["--config", file_of(settings, tmp_path), "query", f"SELECT count() FROM {TABLE}"]) == 1
        assert "; run `unproxy refill --since T --detach-damaged`" in capsys.readouterr().err
        command = ["--config", file_of(settings, tmp_path), "refill", "--since", BEGIN]
        assert run([*command, "--detach-damaged", "--dry-run"]) == 0
        planned = capsys.readouterr().out
        with pytest.raises(Exception, match=r"CORRUPTED_DATA|CANNOT_READ_ALL_DATA"):
            shown(settings)

        assert f"DeviceNetworkEvents_versions  part {empty} to detach: " in planned
        assert "DeviceNetworkEvents  400 messages to read\n" in planned
        assert run([*command, "--detach-damaged"]) == 0
        told = capsys.readouterr().out
        assert f"DeviceNetworkEvents_versions  part {empty} detached: " in told
        assert f"DeviceEvents_versions  part {cut} detached: " in told
        assert "DeviceNetworkEvents  2,000 rows of 400 messages written again\n" in told
        assert shown(settings) == before
        assert run([*command, "--detach-damaged", "--format", "jsonl"]) == 0
        again = capsys.readouterr()
        assert "no part is damaged" in again.err
        assert {"Table": "Rejects", "Messages": 8, "Rows": 8, "Refused": 0, "Done": "written"} in [
            json.loads(line) for line in again.out.splitlines()
        ]
        assert shown(settings) == before
        assert lag(settings) == waiting
        assert ask(settings, f"SELECT count() FROM DB.{TABLE}_versions") >= 4_000


def test_a_part_that_clickhouse_put_aside(
    kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started anew, ClickHouse takes a damaged part away without a word to hunters: it is told, and its rows come back."""
    with own_engine(kafka_settings_for, tmp_path) as (engine, settings):
        publish(settings, NETWORK_EVENTS, messages(100))
        written(settings)
        before = shown(settings)
        name = damage(settings.clickhouse, TABLE)
        engine.kill()
        engine.start()
        assert len(shown(settings)[TABLE]) < 500

        assert run(["--config", file_of(settings, tmp_path), "refill", "--since", BEGIN, "--detach-damaged"]) == 0
        assert f"part broken-on-start_{name} put aside by ClickHouse before: rows written until 20" in (
            capsys.readouterr().out
        )
        assert shown(settings) == before


def test_a_later_since_is_told(
    kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for less than what a damaged part held hears since when its rows were written."""
    with own_engine(kafka_settings_for, tmp_path) as (_, settings):
        publish(settings, NETWORK_EVENTS, messages(100))
        written(settings)
        damage(settings.clickhouse, TABLE)

        later = iso_micros((int(time.time()) + 3_600) * 1_000_000)
        command = ["--config", file_of(settings, tmp_path), "refill", "--since", later, "--detach-damaged"]
        assert run([*command, "--table", "DeviceEvents"]) == 0
        assert "no part is damaged" in capsys.readouterr().err
        assert run([*command, "--dry-run", "--format", "jsonl"]) == 0
        told = capsys.readouterr()
        assert "or a little earlier brings back more" in told.err
        part, table, *_ = [json.loads(line) for line in told.out.splitlines()]
        assert (part["Done"], part["Table"], part["FirstWritten"] <= part["LastWritten"]) == (
            "to detach",
            f"{TABLE}_versions",
            True,
        )
        assert (table["Messages"], table["Done"]) == (0, "to read")


def test_only_what_was_asked_for(settings: Settings) -> None:
    """Since, until and tables choose; ClickHouse has the rows under names of their own, so none is taken for a repetition."""
    prepare(settings)
    now_ms = int(time.time() * 1_000) - 10 * HOUR_MS
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for topic in (NETWORK_EVENTS, DEVICE_EVENTS):
        for at in range(10):
            producer.produce(topic_name(settings, topic), row(at), partition=at % 2, timestamp=now_ms + at * HOUR_MS)
    assert producer.flush(20.0) == 0

    some = refilled(settings, now_ms + 3 * HOUR_MS, now_ms + 8 * HOUR_MS, TABLE)
    assert (list(some), some[TABLE].rows, some[TABLE].messages, some[TABLE].of) == ([TABLE], 5, 5, 5)
    assert ask(settings, f"SELECT arraySort(groupArray(RecordId)) FROM DB.{TABLE}") == [f"r{at}" for at in range(3, 8)]
    assert ask(settings, "SELECT count() FROM DB.DeviceEvents") == 0
    assert refilled(settings, now_ms + 3 * HOUR_MS + 1, None, TABLE)[TABLE].rows == 6
    assert ask(settings, f"SELECT (count(), uniqExact(RecordId)) FROM DB.{TABLE}") == (7, 7)
    assert refilled(settings, now_ms + 20 * HOUR_MS)[TABLE].of == 0
    assert refilled(settings, 0, now_ms)[TABLE].of == 0
    assert {table: account.rows for table, account in refilled(settings).items() if account.rows} == {
        TABLE: 10,
        "DeviceEvents": 10,
    }


def test_rows_that_are_refused(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ClickHouse does not store is counted and told; everything else is written."""
    prepare(settings)
    publish(settings, NETWORK_EVENTS, [*messages(20), row(1_000, Nonsense="x")])

    assert run(["--config", file_of(settings, tmp_path), "refill", "--since", BEGIN, "--table", TABLE]) == 1
    told = capsys.readouterr()
    assert told.out == f"{TABLE}  100 rows of 21 messages written again\n"
    assert "refused 1 rows, the others are written: " in told.err
    assert "Nonsense" in told.err
    assert ask(settings, f"SELECT count() FROM DB.{TABLE}") == 100


def test_what_retention_took(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages that Kafka has deleted cannot come back, and that is said, with the time from which on it has them."""
    prepare(settings)
    at_ms = int(time.time() * 1_000) - 10 * HOUR_MS
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    topic = topic_name(settings, NETWORK_EVENTS)
    for at in range(5):
        producer.produce(topic, row(at), partition=1, timestamp=at_ms + at * HOUR_MS)
    assert producer.flush(20.0) == 0
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, 1, 2)]).values():
        future.result()

    file = file_of(settings, tmp_path)
    assert run(["--config", file, "refill", "--since", BEGIN, "--table", TABLE]) == 0
    told = capsys.readouterr()
    assert told.out == f"{TABLE}  3 rows of 3 messages written again\n"
    assert f"has deleted what came before {iso_micros((at_ms + 2 * HOUR_MS) * 1_000)}" in told.err
    assert (
        run(["--config", file, "refill", "--since", iso_micros((at_ms + 3 * HOUR_MS) * 1_000), "--table", TABLE]) == 0
    )
    told = capsys.readouterr()
    assert told.out == f"{TABLE}  2 rows of 2 messages written again\n"
    assert "deleted" not in told.err


def test_no_group_is_touched(settings: Settings) -> None:
    """Nothing is committed, under its own group's name neither."""
    prepare(settings)
    publish(settings, NETWORK_EVENTS, messages(8))
    refilled(settings)
    for group in (settings.sink.group, f"{settings.sink.group}-refill"):
        consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": group})
        (place,) = consumer.committed([TopicPartition(topic_name(settings, NETWORK_EVENTS), 0)], timeout=10)
        consumer.close()
        assert place.offset < 0


def test_told_to_stop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop ends it between two inserts; what is written stays, and the next run takes all again."""
    prepare(settings)
    publish(settings, NETWORK_EVENTS, messages(40))
    stop = threading.Event()
    real = ClickHouseSink.write

    def write_and_stop(sink: ClickHouseSink, table: str, rows: Any, token: str, *, again: bool = False) -> None:
        real(sink, table, rows, token, again=again)
        stop.set()

    monkeypatch.setattr(ClickHouseSink, "write", write_and_stop)
    first = Refill(settings, TABLES, 0, None, print)
    with pytest.raises(Stopped):
        first.until(stop, dry_run=False)
    monkeypatch.undo()

    assert first.accounts[TABLE].rows == 50
    assert refilled(settings)[TABLE].rows == 200
    assert ask(settings, f"SELECT count() FROM DB.{TABLE}") == 200


def test_clickhouse_that_says_no(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy one is asked again and in the end given up; where a person must act it ends at once."""
    prepare(settings)
    publish(settings, NETWORK_EVENTS, messages(4))
    answers: list[Exception] = [SinkBusy("busy"), SinkRefused("run `unproxy migrate`"), SinkBusy("busy")]
    real = ClickHouseSink.write

    def say_no(sink: ClickHouseSink, table: str, rows: Any, token: str, *, again: bool = False) -> None:
        if answers:
            raise answers.pop(0)
        real(sink, table, rows, token, again=again)

    monkeypatch.setattr(ClickHouseSink, "write", say_no)
    with pytest.raises(Fixable, match="safe to start this again"):
        refilled(settings)
    assert refilled(settings)[TABLE].rows == 20
    monkeypatch.setattr(carrying, "BUSY_SECS_MAX", 0.0)
    answers.append(SinkBusy("busy"))
    with pytest.raises(Failed, match="busy; it is safe to start this again"):
        refilled(settings)
