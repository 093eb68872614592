"""Kafka, worker, sink and engine together, disturbed: the tables hold the rows that an undisturbed replay of the files gives."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from confluent_kafka import Producer
from msgspec import to_builtins

from common.kafka import client_config
from schemas.settings import CorrelationSettings, Settings
from schemas.tables import TABLES, columns
from schemas.topics import TELEMETRY, topic_name
from sinks.clickhouse import connect
from sinks.migrate import migrate
from streams.pipeline import Message, Pipeline
from tests.conftest import SettingsMaker
from tests.factories import DEVICE, Row, latest
from tests.sample import SampleLine, sample
from tests.streams.rows.presence_story import Sent, clock, in_a_row, message
from tests.streams.worker.worker_process import wait_until
from unproxy.cli import run
from unproxy.local.parts import write_settings

SHUFFLE_MICROS = 2_000_000


def replayed(lines: list[SampleLine]) -> tuple[list[Row], list[Row], list[Row]]:
    """Return the latest rows, verdicts and alerts of an undisturbed run."""
    pipeline = Pipeline(CorrelationSettings())
    rows: list[Row] = []
    verdicts: list[Row] = []
    alerts: list[Row] = []
    for number, line in enumerate(lines):
        pipeline.take(Message(number, 0, line.device.encode(), line.value, line.dialect))
    pipeline.finish()
    output = pipeline.drain()
    rows += map(json.loads, output.network_events)
    verdicts += map(json.loads, output.device_events)
    alerts += (json.loads(alert) for _, alert in output.alerts)
    return latest(rows), latest(verdicts), latest(alerts, "AlertId")


def disturbed(lines: list[SampleLine], chance: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Yield device, dialect and value of the lines, shuffled within 2 s, each twice, in messages of random size."""
    twice = sorted([*lines, *lines], key=lambda line: line.at + chance.uniform(0, SHUFFLE_MICROS))
    waiting: dict[tuple[str, str], list[bytes]] = {}
    for line in twice:
        waiting.setdefault((line.device, line.dialect), []).append(line.value)
        if chance.random() < 0.1:
            # A device's lines are sent together, as by the publisher's age limit.
            for key in [key for key in waiting if key[0] == line.device]:
                yield *key, b"\n".join(waiting.pop(key))
    for (device, dialect), values in waiting.items():
        yield device, dialect, b"\n".join(values)


class Part:
    """`unproxy worker` or `unproxy sink` as a process of its own."""

    def __init__(self, verb: str, settings: Path) -> None:
        self.command = [sys.executable, "-m", "unproxy", "--config", str(settings), verb]
        self.log = settings.with_name(f"{verb}.log")
        self.start()

    def start(self) -> None:
        """Start it, the first time or again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill -9 and wait for the end."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def parts() -> Iterator[Callable[[str, Path], Part]]:
    """Starts a part; ended afterwards."""
    started: list[Part] = []

    def start(verb: str, settings: Path) -> Part:
        started.append(Part(verb, settings))
        return started[-1]

    yield start
    for part in started:
        part.kill()


def test_disturbed_on_the_way_the_rows_are_the_same(
    settings_for: SettingsMaker, tmp_path: Path, parts: Callable[[str, Path], Part]
) -> None:
    """Shuffled, twice, cut at random, the worker killed -9 twice: the same ids, the same latest content, in the table."""
    settings = settings_for(worker={"session_timeout_secs": 6}, protection={"alert_gap_secs": 0})
    with_database(settings)
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    chance = random.Random(11)
    lines = sample()
    expected = replayed(lines)
    parts("sink", file)
    worker = parts("worker", file)
    producer = Producer({**client_config(settings.kafka), "partitioner": "murmur2_random"})
    messages = list(disturbed(lines, chance))
    before = kills = 0
    for number, (device, dialect, value) in enumerate(messages):
        producer.produce(topic_name(settings, TELEMETRY), value, device, headers={"dialect": dialect})
        producer.poll(
            0.01
        )  # a pause in the middle of shuffled lines would be more disorder than is promised to be borne
        if kills < 2 and number % 20 == 0 and written(settings) > before:
            worker.kill()
            worker.start()
            before, kills = written(settings), kills + 1
    assert producer.flush(30) == 0
    for table, rows, key in (
        ("DeviceNetworkEvents", expected[0], "RecordId"),
        ("DeviceEvents", expected[1], "RecordId"),
        ("BlockAlerts", expected[2], "AlertId"),
    ):
        wanted = picture(rows, key)
        with contextlib.suppress(AssertionError):  # the comparison below names what is missing
            wait_until(lambda t=table, w=wanted, k=key: stored(settings, t, k) == w, table, 45)  # type: ignore[misc]  # defaults
        found = stored(settings, table, key)

        assert differences(found, wanted) == {}, table
    assert kills == 2


def differences(found: dict[object, Row], wanted: dict[object, Row]) -> dict[object, object]:
    """Return the first few rows that differ, and their differences."""
    apart: dict[object, object] = {}
    for key in [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)][:5]:
        one, other = found.get(key, {}), wanted.get(key, {})
        apart[key] = {
            name: (one.get(name), other.get(name))
            for name in one.keys() | other.keys()
            if one.get(name) != other.get(name)
        }
    return apart


def test_what_is_lost_on_the_way_shows_until_it_comes(
    settings_for: SettingsMaker,
    tmp_path: Path,
    parts: Callable[[str, Path], Part],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A lost message is a row and an answer of `coverage` until it arrives; silence and restart stay."""
    settings = settings_for(worker={"session_timeout_secs": 6}, correlation={"silence_secs": 4})
    with_database(settings)
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    parts("sink", file)
    parts("worker", file)
    producer = Producer({**client_config(settings.kafka), "partitioner": "murmur2_random"})

    def send(*some: Sent) -> None:
        for one in some:
            headers = {"dialect": "suricata", "sensor": "host:eve", "seq": str(one.seq), "lines": str(one.lines)}
            producer.produce(topic_name(settings, TELEMETRY), message(0, one).value, DEVICE, headers={**headers})
        assert producer.flush(30) == 0

    def gaps() -> list[Row]:
        return ask(settings, "select * from SensorGaps order by DetectedAt, FromTime")

    def coverage(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["--config", str(file), "coverage", DEVICE.upper(), *arguments]) == 0
        return capsys.readouterr().out

    first, lost, third = in_a_row([5, 7, 5])
    send(first, third)
    wait_until(lambda: [gap["Kind"] for gap in gaps()] == ["loss", "silence"], "the gap, then silence", 60)
    loss, silence = gaps()
    assert (loss["LinesMissing"], loss["FromSeq"], loss["ToSeq"], loss["Status"]) == (7, 6, 13, "open")
    assert (silence["FromTime"], silence["ToTime"], silence["Status"]) == (clock(16), None, "open")
    assert "partly seen" in coverage(clock(0), clock(10))
    assert "7 lines missing between 2026-11-24 19:07:32.000 and 2026-11-24 19:07:40.000" in coverage(
        clock(0), clock(10)
    )
    assert "silent from 2026-11-24 19:07:44.000 on, it still is" in coverage(clock(60))
    assert coverage(clock(0), clock(3)).count(": seen\n") == 1

    send(lost)
    wait_until(lambda: "loss" not in [gap["Kind"] for gap in gaps()], "the gap is filled", 60)
    wait_until(
        lambda: ": seen\n" in coverage(clock(0), clock(10)), "all coverage is written once the device is quiet", 60
    )

    send(Sent(1, 5, 600))
    wait_until(lambda: "restart" in [gap["Kind"] for gap in gaps()], "the restart", 60)
    found = {gap["Kind"]: gap for gap in gaps() if gap["Status"] == "closed"}
    assert (found["restart"]["FromTime"], found["restart"]["LinesMissing"]) == (clock(16), None)
    capsys.readouterr()
    assert run(["--config", str(file), "query", "--kql", "SensorGaps | take 10", "--format", "csv"]) == 0
    assert "restart" in capsys.readouterr().out


def with_database(settings: Settings) -> None:
    """Create the tables for these settings."""
    client = connect(settings.clickhouse)
    migrate(client, settings.clickhouse.database)
    client.close()


def written(settings: Settings) -> int:
    """Return the number of row versions in the table."""
    return int(str(ask(settings, "select count() as n from DeviceNetworkEvents_versions")[0]["n"]))


def stored(settings: Settings, table: str, key: str) -> dict[object, Row]:
    """Return the rows that hunters see."""
    names = ", ".join(f"`{column.name}`" for column in columns(TABLES[table]))
    return picture(ask(settings, f"select {names} from {table}"), key)


def ask(settings: Settings, query: str) -> list[Row]:
    """Return the rows of an answer as JSON has them."""
    host, _, port = settings.clickhouse.url.removeprefix("http://").partition(":")
    client = clickhouse_connect.get_client(
        host=host,
        port=int(port),
        database=settings.clickhouse.database,
        password=settings.clickhouse.password.get_secret_value(),
    )
    options = {"output_format_json_quote_64bit_integers": 0, "date_time_output_format": "iso"}
    try:
        raw = client.raw_query(query, fmt="JSONEachRow", settings=options)
    finally:
        client.close()
    return [json.loads(line) for line in raw.splitlines()]


def picture(rows: list[Row], key: str) -> dict[object, Row]:
    """Return rows by identity without empty values, which the topic omits and the table has."""
    found = {}
    for row in to_builtins(rows):
        kept = {name: value for name, value in row.items() if value not in ("", None, [])}
        if kept.get("LocalPort") == 20_000:
            # A 5-tuple used again within milliseconds, shuffled, may need one more version to come out the same.
            kept.pop("Version")
        found[kept[key]] = kept
    return found


def test_the_picture_can_differ() -> None:
    """The comparison above distinguishes another outcome."""
    rows, _, _ = replayed(sample()[:2000])
    changed = [row | {"Outcome": "failed"} if row["Outcome"] == "allowed" else row for row in rows]

    assert picture(changed, "RecordId") != picture(rows, "RecordId")
