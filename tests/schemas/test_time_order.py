"""The projections of DeviceNetworkEvents: an existing table gets them without losing rows, and queries read few rows by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from bench.hunting.__main__ import fill
from hunting.latest import highest, latest
from schemas.ddl import migrations
from sinks import migrate as migrating
from sinks.clickhouse import connect
from sinks.migrate import migrate
from unproxy.local.servers.engine import Engine
from unproxy.query import client as query_client

TITLE = "0010_time_order"
STATEMENTS = next(len(one.statements("x")) for one in migrations() if one.title == TITLE)


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    """A client in no database."""
    with connect(engine.settings("")) as made:
        yield made


def write(client: Client, database: str, first: int, version: int = 1) -> None:
    """Insert a thousand rows of ten devices, one a minute."""
    client.command(
        f"INSERT INTO {database}.DeviceNetworkEvents_versions (Timestamp, DeviceId, RecordId, Version, RemoteUrl) "
        f"SELECT toDateTime64('2026-11-01 00:00:00', 6, 'UTC') + number * 60, concat('dev-', toString(number % 10)), "
        f"concat('r', toString(number)), {version}, 'a.example' FROM numbers({first}, 1000)"
    )


def shown(client: Client, database: str) -> object:
    """Return the number of rows of the view, and the sum of their versions."""
    return client.query(f"SELECT count(), sum(Version) FROM {database}.DeviceNetworkEvents").result_rows


@pytest.mark.parametrize("done", range(STATEMENTS + 1))
def test_table_with_rows_keeps_them(client: Client, unique: str, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    """The migration may stop after each statement while rows arrive: all rows stay, and running it again finishes it."""
    earlier = tuple(one for one in migrations() if one.title < TITLE)
    monkeypatch.setattr(migrating, "migrations", lambda: earlier)
    migrate(client, unique)
    write(client, unique, 0)
    broken = next(one for one in migrations() if one.title == TITLE)
    for statement in broken.statements(unique)[:done]:
        client.command(statement)
    write(client, unique, 500, version=2)
    monkeypatch.undo()

    assert TITLE in migrate(client, unique)
    write(client, unique, 1_000, version=3)

    assert shown(client, unique) == [(2_000, 500 + 2 * 500 + 3 * 1_000)]
    table = f"{unique}.DeviceNetworkEvents_versions"
    for projection in ("by_day", "by_hash"):
        client.command(f"ALTER TABLE {table} MATERIALIZE PROJECTION {projection}", settings={"mutations_sync": 2})
        rows = f"SELECT sum(rows) FROM system.projection_parts WHERE database = '{unique}' AND active AND name = '{projection}'"
        assert client.command(rows) == client.command(f"SELECT count() FROM {table}")


def test_new_table_and_migrated_table_agree(client: Client, unique: str) -> None:
    """A table that is recreated has the projections of a migrated one."""
    migrate(client, unique)
    definition = (
        f"SELECT arraySort(extractAll(create_table_query, 'PROJECTION (\\\\w+)')) FROM system.tables "
        f"WHERE database = '{unique}' AND name = 'DeviceNetworkEvents_versions'"
    )
    migrated = client.query(definition).result_rows
    client.command(f"DROP TABLE {unique}.DeviceNetworkEvents_versions SYNC")
    migrating.recreate_tables(client, unique)

    assert migrated == client.query(definition).result_rows == [(["by_day", "by_hash"],)]


def test_history_has_the_columns_of_the_view(client: Client, unique: str) -> None:
    """A hunt names the columns of the view of the latest versions, and may read the view of all versions instead."""
    migrate(client, unique)
    latest_ones, all_ones = (
        client.query(
            f"SELECT name, type FROM system.columns WHERE database = '{unique}' AND table = '{name}'"
        ).result_rows
        for name in ("DeviceNetworkEvents", "DeviceNetworkEvents_history")
    )

    assert latest_ones
    assert latest_ones == all_ones


def test_merge_keeps_projections_right(client: Client, unique: str) -> None:
    """A merge removes old versions from the projections, too."""
    migrate(client, unique)
    write(client, unique, 0)
    write(client, unique, 0, version=2)
    table = f"{unique}.DeviceNetworkEvents_versions"
    client.command(f"OPTIMIZE TABLE {table} FINAL")

    day = f"SELECT count(), sum(Version) FROM {table} WHERE toDate32(Timestamp) = '2026-11-01' AND Version > 0"
    assert client.query(day).result_rows == [(1_000, 2_000)]
    assert client.query(f"{day} SETTINGS force_optimize_projection = 1").result_rows == [(1_000, 2_000)]


@pytest.fixture(scope="module")
def many(engine: Engine) -> str:
    """A database with 200,000 generated rows and their corrections."""
    with connect(engine.settings("")) as made:
        migrate(made, "time_order")
        made.command("SYSTEM STOP MERGES time_order.DeviceNetworkEvents_versions")
    settings = engine.settings("time_order")
    client = query_client.Client(
        settings.url, "time_order", settings.username, settings.password.get_secret_value(), timeout_secs=120
    )
    fill(client, 200_000, block_rows=100_000, devices=50)
    return "time_order"


def plan(client: Client, sql: str) -> str:
    """Return how ClickHouse reads for a query."""
    return "\n".join(str(line) for (line,) in client.query(f"EXPLAIN indexes = 1 {sql}").result_rows)


DAY = "toDate32(t.Timestamp) = '2026-11-15' AND t.Timestamp >= '2026-11-15' AND t.Timestamp < '2026-11-16'"
RARE = f"{DAY} AND t.RemoteUrl LIKE '%dead-7.example%'"


def test_day_is_read_by_the_day(client: Client, many: str) -> None:
    """A condition on a day reads the part of the projection that has it."""
    found = plan(client, f"SELECT t.RemoteUrl FROM {many}.DeviceNetworkEvents_history AS t WHERE {DAY}")

    assert "ReadFromMergeTree (by_day)" in found


def test_versions_are_found_by_the_hash(client: Client, many: str) -> None:
    """The versions of few rows are looked up in the projection by hash."""
    history = f"{many}.DeviceNetworkEvents_history"
    report = client.command(f"SELECT min(ReportId) FROM {history} AS t WHERE {DAY}")
    found = plan(client, highest(history, f"{DAY} AND t.ReportId = {report}"))

    assert "ReadFromMergeTree (by_hash)" in found


def test_device_is_read_by_the_key(client: Client, many: str) -> None:
    """The view of the latest versions reads one device by the table's key."""
    found = plan(client, f"SELECT RemoteUrl FROM {many}.DeviceNetworkEvents WHERE DeviceId IN ('ws-00007', 'ws-00008')")

    assert "Condition: (DeviceId in" in found
    assert "DeviceId" in found.partition("PrimaryKey")[2]


@pytest.mark.parametrize("condition", [DAY, RARE, f"{DAY} AND t.Version > 1024", f"{DAY} AND t.BytesSent IS NULL"])
def test_latest_equals_the_view(client: Client, many: str, condition: str) -> None:
    """The three steps give the rows of the view: also where a newer version has left the day or meets the condition no more."""
    fast = latest(f"{many}.DeviceNetworkEvents_history", "RecordId, Version, Timestamp", condition)
    slow = f"SELECT RecordId, Version, Timestamp FROM {many}.DeviceNetworkEvents AS t WHERE {condition}"

    assert sorted(map(tuple, client.query(fast).result_rows)) == sorted(map(tuple, client.query(slow).result_rows))


def test_repeated_rows_show_once(client: Client, unique: str) -> None:
    """The same version written twice is one row, a replayed old version none."""
    migrate(client, unique)
    client.command(f"SYSTEM STOP MERGES {unique}.DeviceNetworkEvents_versions")
    for version in (1, 2, 2, 1):
        write(client, unique, 0, version)
    fast = latest(
        f"{unique}.DeviceNetworkEvents_history", "t.RecordId, t.Version", "t.Timestamp < '2026-11-01 00:03:00'"
    )

    assert sorted(map(tuple, client.query(fast).result_rows)) == [("r0", 2), ("r1", 2), ("r2", 2)]
