"""ClickHouse's errors in three classes: retry, needs a person, bad rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from schemas.settings import ClickHouseSettings
from sinks import clickhouse
from sinks.base import RowsRefused, SinkBusy, SinkRefused
from sinks.clickhouse import NAMES_MAX, ClickHouseSink, connect
from sinks.migrate import migrate
from sinks.presence import all_there
from streams.model.device import Device
from streams.rows.presence_rows import coverage_row
from tests.sinks.sink_world import damage
from unproxy.local.servers.engine import Engine

TABLE = "DeviceNetworkEvents"


def row(number: int = 1, **changes: Any) -> bytes:
    """A row of DeviceNetworkEvents."""
    fields = {"Timestamp": "2026-11-24T10:00:00.000000Z", "DeviceId": "d", "RecordId": f"r{number}", "Version": 1}
    return msgspec.json.encode({**fields, **changes})


@pytest.fixture
def config(engine: Engine, unique: str) -> ClickHouseSettings:
    """Where the run's engine is; the database is this test's own, and not there yet."""
    return engine.settings(unique)


@pytest.fixture
def sink(config: ClickHouseSettings) -> Iterator[ClickHouseSink]:
    """A sink into that database."""
    made = ClickHouseSink(config)
    yield made
    made.close()


def ask(config: ClickHouseSettings, query: str) -> Any:
    """One value."""
    with connect(config) as client:
        return client.query(query).result_rows[0][0]


def make_tables(config: ClickHouseSettings) -> None:
    """Migrate."""
    with connect(config) as client:
        migrate(client, config.database)


def test_no_listener() -> None:
    """A server that cannot be reached is busy: it may come back."""
    sink = ClickHouseSink(ClickHouseSettings(url="http://127.0.0.1:1"))

    with pytest.raises(SinkBusy, match=r"http://127\.0\.0\.1:1 does not take rows now"):
        sink.write(TABLE, [row()], "a")
    sink.close()


def test_missing_table(config: ClickHouseSettings, sink: ClickHouseSink) -> None:
    """A missing database or table needs a person, and the message names the command."""
    with pytest.raises(SinkRefused, match="run `unproxy migrate`"):
        sink.write(TABLE, [row()], "a")
    make_tables(config)
    with pytest.raises(SinkRefused, match="no Missing in database"):
        sink.write("Missing", [row()], "a")
    sink.write(TABLE, [row()], "a")

    assert ask(config, f"SELECT count() FROM {config.database}.{TABLE}") == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"no json",
        b'{"RecordId":',
        row(Version="many"),
        row(Timestamp="yesterday"),
        row(RemotePort=[]),
        row(Colour="blue"),
    ],
)
def test_bad_rows(config: ClickHouseSettings, sink: ClickHouseSink, bad: bytes) -> None:
    """Bad rows are distinguished from all other errors, and nothing of their write lands."""
    make_tables(config)
    with pytest.raises(RowsRefused, match=TABLE):
        sink.write(TABLE, [row(1), bad, row(2)], "a")

    assert ask(config, f"SELECT count() FROM {config.database}.{TABLE}_versions") == 0


def test_tables_behind(config: ClickHouseSettings, sink: ClickHouseSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a migration is missing, an unknown column is not the rows' fault."""
    make_tables(config)
    monkeypatch.setattr(clickhouse, "pending", lambda *_: ["0002_colour"])

    with pytest.raises(SinkRefused, match="run `unproxy migrate`"):
        sink.write(TABLE, [row(Colour="blue")], "a")


def test_one_insert_is_one_block(config: ClickHouseSettings, sink: ClickHouseSink) -> None:
    """However large, a write becomes one part, so it lands whole and its token stands for all of it."""
    make_tables(config)
    with connect(config) as client:
        client.command(f"SYSTEM STOP MERGES {config.database}.{TABLE}_versions")
    pieces = [b"\n".join(row(number) for number in range(start, start + 5_000)) for start in range(0, 70_000, 5_000)]
    for _ in range(2):
        sink.write(TABLE, pieces, "large")
    parts = (
        "SELECT groupArray(rows) FROM system.parts "
        f"WHERE database = '{config.database}' AND table = '{TABLE}_versions' AND active"
    )

    assert ask(config, parts) == [70_000]


def test_compressed_is_the_same(config: ClickHouseSettings, sink: ClickHouseSink) -> None:
    """To a server elsewhere rows go compressed, and arrive the same."""
    make_tables(config)
    assert ClickHouseSink(config.model_copy(update={"url": "https://clickhouse.example:8443"}))._compressed
    sink._compressed = True
    sink.write(TABLE, [row(number) for number in range(5_000)], "a")

    assert ask(config, f"SELECT (count(), uniqExact(RecordId)) FROM {config.database}.{TABLE}") == (5_000, 5_000)


def test_rows_that_vanish_are_reported(
    config: ClickHouseSettings, sink: ClickHouseSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that a TTL or a row policy removes or hides at once are reported, and the sink goes on."""
    make_tables(config)
    monkeypatch.setattr(clickhouse, "all_there", lambda *_: False)
    sink.write(TABLE, [row()], "a", again=True)

    assert "ClickHouse accepted rows, but the table does not contain them" in caplog.text
    assert ask(config, f"SELECT count() FROM {config.database}.{TABLE}_versions") == 1 + NAMES_MAX


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (TABLE, [row(1, DeviceId="d'\\"), row(1, DeviceId="d'\\", Version=3) + b"\n" + row(2)]),
        ("DeviceEvents", [row(1)]),
        ("BlockAlerts", [msgspec.json.encode({"AlertId": "a", "Version": 2, "DeviceId": "d"})]),
        ("Rejects", [msgspec.json.encode({"RecordId": "r", "Reason": "malformed"})]),
    ],
)
def test_rows_are_looked_for(config: ClickHouseSettings, sink: ClickHouseSink, table: str, rows: list[bytes]) -> None:
    """Each table's rows are found when they are there, merged or not, and missed when one is not."""
    make_tables(config)
    with connect(config) as client:
        assert not all_there(client, config.database, table, rows)
        sink.write(table, rows[:1], "a")
        assert all_there(client, config.database, table, rows) == (len(rows) == 1)
        sink.write(table, rows[1:] or rows, "b")
        assert all_there(client, config.database, table, rows)
        client.command(f"OPTIMIZE TABLE {config.database}.{table}_versions FINAL")
        assert all_there(client, config.database, table, [*rows, b"not to be read"])


def test_rows_that_merge_are_inserted_again(config: ClickHouseSettings, sink: ClickHouseSink) -> None:
    """An earlier row of the same identity does not prove that the later one is there."""
    make_tables(config)
    device = Device("d")
    rows = [msgspec.json.encode(coverage_row(device, "sockets\0s", first, first + 1)) for first in (0, 5_000_000)]
    sink.write("DeviceCoverage", rows[:1], "a")
    for _ in range(2):
        sink.write("DeviceCoverage", rows[1:], "b", again=True)
    places = (
        f"SELECT (count(), toString(min(FirstTime)), toString(max(LastTime))) FROM {config.database}.DeviceCoverage"
    )

    assert ask(config, places) == (1, "1970-01-01 00:00:00.000000", "1970-01-01 00:00:05.000001")


def test_repeated_in_the_next_month(config: ClickHouseSettings, sink: ClickHouseSink) -> None:
    """Tokens count within a month of writing: a repetition in the next one is found by looking, and else stands twice."""
    make_tables(config)
    sink.write(TABLE, [row()], "a")
    with connect(config) as client:
        client.command(
            f"ALTER TABLE {config.database}.{TABLE}_versions MODIFY COLUMN IngestedAt DateTime64(3, 'UTC') "
            "MATERIALIZED addMonths(now64(3), 1)"
        )
    sink.write(TABLE, [row()], "a", again=True)
    assert ask(config, f"SELECT count() FROM {config.database}.{TABLE}_versions") == 1
    sink.write(TABLE, [row()], "a")

    assert ask(config, f"SELECT count() FROM {config.database}.{TABLE}_versions") == 2
    assert ask(config, f"SELECT count() FROM {config.database}.{TABLE}") == 1


@pytest.mark.parametrize(
    ("file", "keep", "message"),
    [
        ("data.*mrk*", 0.0, "Code: 246"),
        ("data.*mrk*", 0.5, "Code: 33"),
        ("data.bin", 0.5, "Code: 33"),
    ],
)
def test_a_damaged_part_is_no_fault_of_the_rows(
    config: ClickHouseSettings, sink: ClickHouseSink, file: str, keep: float, message: str
) -> None:
    """A table that cannot be read when rows are looked for: they are kept until a person repairs it, then written once."""
    make_tables(config)
    rows = [row(number) for number in range(2_000)]
    sink.write(TABLE, rows, "a")
    part = damage(config, TABLE, file, keep)
    for _ in range(2):
        with pytest.raises(SinkRefused, match="run `unproxy detach-damaged`") as refused:
            sink.write(TABLE, rows, "a", again=True)
        assert message in str(refused.value)
    with connect(config) as client:
        client.command(f"ALTER TABLE `{config.database}`.{TABLE}_versions DETACH PART '{part}'")
    sink.write(TABLE, rows, "a", again=True)

    assert ask(config, f"SELECT (count(), uniqExact(RecordId)) FROM {config.database}.{TABLE}_versions") == (
        2_000,
        2_000,
    )
