"""A damaged part is detached, and its rows come back from Kafka after an offset reset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.settings import Settings
from schemas.topics import DEVICE_EVENTS, NETWORK_EVENTS, REJECTS, TABLE_OF_TOPIC, topic_name
from sinks.clickhouse import connect
from tests.conftest import SettingsMaker
from tests.sinks.sink_world import PARTITIONS, damage, loop_of, messages, nothing_waits, prepare, publish, until
from unproxy.cli import run
from unproxy.local.parts import write_settings
from unproxy.local.servers.engine import Engine

TABLE = "DeviceNetworkEvents"


@contextmanager
def own_engine(kafka_settings_for: SettingsMaker, tmp_path: Path) -> Iterator[tuple[Engine, Settings]]:
    """Yield an engine of this test, with tables that do not merge, and settings that cut the same batches in each run."""
    engine = Engine(tmp_path / "clickhouse")
    engine.start()
    try:
        yield (
            engine,
            prepare(
                kafka_settings_for(
                    clickhouse=engine.settings("own").model_dump(exclude_unset=True),
                    sink={"batch_age_secs_max": 1.0, "batch_rows_max": 50, "retry_secs_max": 0.3},
                )
            ),
        )
    finally:
        engine.kill()


def written(settings: Settings) -> None:
    """Run a sink until the rows of all topics are written."""
    with loop_of(settings):
        until(lambda: nothing_waits(settings))


def shown(settings: Settings) -> Mapping[str, list[Any]]:
    """Return the rows of the views."""
    with connect(settings.clickhouse) as client:
        return {
            table: sorted(map(repr, client.query(f"SELECT * FROM own.{table}").result_rows))
            for table in ("DeviceNetworkEvents", "DeviceEvents", "Rejects")
        }


def reset_offsets(settings: Settings) -> None:
    """Set the sink's consumer group to the beginning of all topics, as `kafka-consumer-groups.sh --to-earliest` does."""
    places = [
        TopicPartition(topic_name(settings, topic), number, 0)
        for topic in TABLE_OF_TOPIC
        for number in range(PARTITIONS)
    ]
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    request = [ConsumerGroupTopicPartitions(settings.sink.group, places)]
    for future in admin.alter_consumer_group_offsets(request).values():
        future.result()


def command_of(settings: Settings, tmp_path: Path) -> list[str]:
    """Return the command line of `unproxy detach-damaged` with these settings."""
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    return ["--config", str(file), "detach-damaged"]


def test_a_damaged_part(kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Empty or cut marks fail the queries; after detaching and an offset reset the views show all rows again."""
    with own_engine(kafka_settings_for, tmp_path) as (_, settings):
        publish(settings, NETWORK_EVENTS, messages(400))
        publish(settings, DEVICE_EVENTS, messages(40))
        publish(settings, REJECTS, [b"no line"] * 8, {"reason": "malformed", "dialect": "suricata"})
        written(settings)
        before = shown(settings)
        empty, cut = damage(settings.clickhouse, TABLE), damage(settings.clickhouse, "DeviceEvents", keep=0.1)
        with pytest.raises(Exception, match=r"CORRUPTED_DATA|CANNOT_READ_ALL_DATA"):
            shown(settings)
        command = command_of(settings, tmp_path)
        assert run([*command[:2], "query", f"SELECT count() FROM {TABLE}"]) == 1
        assert "; run `unproxy detach-damaged`" in capsys.readouterr().err
        assert run([*command, "--dry-run"]) == 0
        planned = capsys.readouterr().out
        with pytest.raises(Exception, match=r"CORRUPTED_DATA|CANNOT_READ_ALL_DATA"):
            shown(settings)

        assert f"DeviceNetworkEvents_versions  part {empty} to detach: " in planned
        assert run([*command, "--table", "Rejects"]) == 0
        assert "no part is damaged" in capsys.readouterr().err
        assert run(command) == 0
        done = capsys.readouterr()
        assert f"DeviceNetworkEvents_versions  part {empty} detached: " in done.out
        assert f"DeviceEvents_versions  part {cut} detached: " in done.out
        assert f"reset the offsets of consumer group {settings.sink.group} to a time before 20" in done.err
        assert len(shown(settings)[TABLE]) < len(before[TABLE])
        reset_offsets(settings)
        written(settings)
        assert shown(settings) == before
        assert run([*command, "--format", "json"]) == 0
        again = capsys.readouterr()
        assert json.loads(again.out) == []
        assert "no part is damaged" in again.err


def test_a_part_that_clickhouse_detached(
    kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ClickHouse detaches a damaged part at its start and keeps its tokens; the command reports it and deletes these."""
    with own_engine(kafka_settings_for, tmp_path) as (engine, settings):
        publish(settings, NETWORK_EVENTS, messages(400))
        written(settings)
        before = shown(settings)
        name = damage(settings.clickhouse, TABLE)
        engine.kill()
        engine.start()
        assert len(shown(settings)[TABLE]) < len(before[TABLE])

        assert run([*command_of(settings, tmp_path), "--format", "jsonl"]) == 0
        done = capsys.readouterr()
        (part,) = [json.loads(line) for line in done.out.splitlines()]
        assert (part["Part"], part["Done"]) == (f"broken-on-start_{name}", "detached by ClickHouse before")
        assert "to the earliest ones" in done.err
        reset_offsets(settings)
        written(settings)
        assert shown(settings) == before
