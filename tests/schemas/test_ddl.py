"""The tables: generated from the classes, migrated once, with views of the latest version of each row."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from schemas import ddl
from schemas.columns import columns
from schemas.ddl import migrations, quoted
from schemas.joined_tables import JOINED
from schemas.tables import TABLES
from sinks import migrate as migrating
from sinks.base import SinkRefused
from sinks.clickhouse import ClickHouseSink, connect
from sinks.migrate import broken_views, lost_tables, migrate, pending, recreate_tables
from unproxy.local.servers.engine import Engine


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    """A client in no database."""
    with connect(engine.settings("")) as made:
        yield made


@pytest.fixture
def database(client: Client, unique: str) -> str:
    """A database with our tables."""
    migrate(client, unique)
    return unique


@pytest.mark.parametrize("title", ddl.MADE)
def test_file_and_classes_agree(title: str) -> None:
    """A generated migration equals its file, except for tables and comments that a later one changes."""
    (migration,) = (found for found in migrations() if found.title == title)
    later = [*ddl.CHANGED.items(), *ddl.VIEWED.items()]
    changed = {name for other, names in later if other > title for name in names}
    described = any(other > title for other in ddl.DESCRIBED)

    assert changed or described or migration.text == ddl.made(title)
    for statement, expected in zip(migration.statements("x"), _statements(ddl.made(title)), strict=True):
        if not any(f"`{name}" in statement for name in changed):
            assert statement == expected or (described and _bare(statement) == _bare(expected))


def _bare(statement: str) -> str:
    """Return a statement without the comments of columns."""
    return re.sub(r"(?:COMMENT COLUMN `\w+`|COMMENT) '(?:[^'\\]|\\.)*'", "", statement)


def _statements(text: str) -> list[str]:
    return replace(migrations()[0], text=text).statements("x")


def test_lost_joined_table_is_recreated(client: Client, database: str) -> None:
    """A lost table that hunts join is found, and recreated with the same columns on request."""
    shape = f"SELECT name, type, default_expression FROM system.columns WHERE database = '{database}' AND table = 'DeviceInfo'"
    whole = client.query(shape).result_rows
    client.command(f"DROP TABLE {database}.DeviceInfo SYNC")

    assert lost_tables(client, database) == ["DeviceInfo"]
    assert recreate_tables(client, database) == ["DeviceInfo"]
    assert client.query(shape).result_rows == whole


def test_every_table_is_made_once() -> None:
    """Every class has a table, created once."""
    assert sorted(name for names in ddl.MADE.values() for name in names) == sorted(TABLES)
    assert sorted(name for names in ddl.JOINED_MADE.values() for name in names) == sorted(JOINED)


def test_numbers_have_no_gaps() -> None:
    """Migrations are numbered from 1, and each has statements."""
    found = migrations()

    assert [migration.number for migration in found] == list(range(1, len(found) + 1))
    assert all(migration.statements("x") for migration in found)
    assert found[0].title == "0001_tables"
    assert len(found[0].statements("x")) == 2 * len(ddl.MADE["0001_tables"])


def test_names_are_quoted() -> None:
    """A database may be called anything."""
    assert quoted("a`b\\c") == r"`a\`b\\c`"


def test_migrations_apply_once(client: Client, unique: str) -> None:
    """Missing migrations are applied in order; then none is pending, and applying again does nothing."""
    titles = [migration.title for migration in migrations()]

    assert pending(client, unique) == titles
    assert migrate(client, unique) == titles
    assert pending(client, unique) == []
    assert migrate(client, unique) == []


def test_half_applied_is_finished(client: Client, unique: str) -> None:
    """A migration that stopped half-way is not recorded, and applying it again does the rest."""
    client.command(f"CREATE DATABASE {unique}")
    client.command(migrations()[0].statements(unique)[0])

    assert migrate(client, unique) == [migration.title for migration in migrations()]


def test_changed_file_is_an_error(client: Client, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An applied migration whose file changed is an error, not skipped."""
    changed = (replace(migrations()[0], text=migrations()[0].text + "\n-- later thought"), *migrations()[1:])
    monkeypatch.setattr(migrating, "migrations", lambda: changed)

    with pytest.raises(SinkRefused, match="0001_tables was applied with other content"):
        pending(client, database)


def test_broken_view_is_made_again(client: Client, database: str) -> None:
    """A view that is not there, or lacks a column, comes back as it was; rows are left alone."""
    definition = f"SELECT create_table_query FROM system.tables WHERE database = '{database}' AND name = 'Rejects'"
    whole = client.query(definition).result_rows
    for damage in (f"DROP VIEW {database}.Rejects", f"CREATE OR REPLACE VIEW {database}.Rejects AS SELECT 1 AS Reason"):
        client.command(damage)

        assert broken_views(client, database) == ["Rejects"]
        assert pending(client, database) == []
        assert migrate(client, database) == ["view Rejects"]
        assert client.query(definition).result_rows == whole
        assert migrate(client, database) == []


def test_lost_table_is_recreated_only_on_request(client: Client, database: str) -> None:
    """Its rows are gone, so migrating does not recreate it; on request it is recreated as it was, and the view works again."""
    shape = f"SELECT name, type FROM system.columns WHERE database = '{database}' AND table = 'DeviceNetworkEvents_versions'"
    whole = client.query(shape).result_rows
    client.command(f"DROP TABLE {database}.DeviceNetworkEvents_versions SYNC")

    assert migrate(client, database) == []
    assert lost_tables(client, database) == ["DeviceNetworkEvents"]
    assert recreate_tables(client, database) == ["DeviceNetworkEvents"]
    assert client.query(shape).result_rows == whole
    assert client.query(f"SELECT count() FROM {database}.DeviceNetworkEvents").result_rows == [(0,)]
    assert (lost_tables(client, database), recreate_tables(client, database)) == ([], [])


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_the_columns(client: Client, database: str, table: str) -> None:
    """After all migrations a table and its view have each column of the class, with its type; the table with its comment."""
    found = client.query(
        "SELECT table, name, type, comment FROM system.columns WHERE database = {database:String} ORDER BY table, position",
        parameters={"database": database},
    ).result_rows
    types = {where: {name: kind for table_, name, kind, _ in found if table_ == where} for where, *_ in found}
    comments = {(where, name): comment for where, name, _, comment in found}

    for column in columns(TABLES[table]):
        assert types[table][column.name] == column.clickhouse
        assert types[table + ddl.VERSIONS][column.name] == column.clickhouse
        assert comments[table + ddl.VERSIONS, column.name] == column.about
    assert "IngestedAt" not in types[table]
    assert ("TimeGenerated" in types[table]) == ("Timestamp" in types[table])


def network_event(record: int, version: int, **changes: Any) -> dict[str, Any]:
    """A row with the columns that every row has."""
    row: dict[str, Any] = {
        "Timestamp": "2026-11-24T10:00:00.000000Z",
        "DeviceId": "dev-a",
        "RecordId": f"r{record}",
        "Version": version,
        "ConnectionTime": "2026-11-24T10:00:00.000000Z",
    }
    return {**row, **changes}


@pytest.fixture
def written(engine: Engine, client: Client, database: str) -> Any:
    """Writes rows, each call as one insert, with merges held so that all versions stay."""
    sink = ClickHouseSink(engine.settings(database))
    for table in TABLES:
        client.command(f"SYSTEM STOP MERGES {database}.{table}_versions")
    count = 0

    def write(*rows: dict[str, Any], table: str = "DeviceNetworkEvents") -> None:
        nonlocal count
        count += 1
        sink.write(table, [msgspec.json.encode(row) for row in rows], f"insert {count}")

    yield write
    sink.close()


def test_left_out_is_empty(client: Client, database: str, written: Any) -> None:
    """A column that a row leaves out is empty or NULL, as in the class; times keep microseconds."""
    written(network_event(1, 1, Timestamp="2026-11-24T10:00:00.123456Z", HttpEventIds=["a", "b"]))
    (row,) = client.query(f"SELECT * FROM {database}.DeviceNetworkEvents").named_results()
    for column in columns(TABLES["DeviceNetworkEvents"]):
        if not column.required and column.name != "HttpEventIds":
            assert row[column.name] == (None if column.clickhouse.startswith("Nullable") else "")
    fine = f"SELECT toUnixTimestamp64Micro(TimeGenerated) % 1000000 FROM {database}.DeviceNetworkEvents"
    age = f"SELECT now() - IngestedAt < 3600 FROM {database}.DeviceNetworkEvents_versions"

    assert row["HttpEventIds"] == ["a", "b"]
    assert client.command(fine) == 123_456
    assert client.command(age) == 1


def test_reject_shows_its_bytes(client: Client, database: str, written: Any) -> None:
    """The bytes of a reject can be read as they were."""
    written({"RecordId": "a", "RejectedAt": "2026-11-24T10:00:00.000000Z", "RawBase64": "AP9hCg=="}, table="Rejects")

    assert client.command(f"SELECT hex(Raw) FROM {database}.Rejects") == "00FF610A"


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimize_move_to_prewhere_if_final": 1}, {"do_not_merge_across_partitions_select_final": 1}],
    ids=str,
)
def test_filled_gaps_are_not_shown(client: Client, database: str, written: Any, settings: dict[str, Any]) -> None:
    """A filled gap is not shown, its history stays; an older, open version is never shown instead."""
    common = {"DeviceId": "dev", "DetectedAt": "2026-11-24T10:00:00.000000Z", "Kind": "loss"}
    for record, version, status in (("a", 1, "open"), ("b", 2, "filled"), ("b", 1, "open"), ("c", 1, "closed")):
        written({**common, "RecordId": record, "Version": version, "Status": status}, table="SensorGaps")
    shown = client.query(f"SELECT RecordId, Status FROM {database}.SensorGaps ORDER BY 1", settings=settings)

    assert shown.result_rows == [("a", "open"), ("c", "closed")]
    assert client.command(f"SELECT count() FROM {database}.SensorGaps_versions") == 4


def test_coverage_is_merged(client: Client, database: str, written: Any) -> None:
    """Of the same five minutes the earliest and the latest time are shown, in whatever order rows arrived, merged or not."""
    common = {"DeviceId": "dev", "DeviceName": "dev", "Dialect": "d", "Bucket": "2026-11-24T10:00:00.000000Z"}
    for record, first, last in (("a", "02", "03"), ("a", "01", "02"), ("b", "04", "04"), ("a", "02", "05")):
        times = {"FirstTime": f"2026-11-24T10:{first}:00.000000Z", "LastTime": f"2026-11-24T10:{last}:00.000000Z"}
        written({**common, **times, "RecordId": record, "Sensor": record}, table="DeviceCoverage")
    question = f"SELECT Sensor, toMinute(FirstTime), toMinute(LastTime) FROM {database}.DeviceCoverage ORDER BY 1"

    assert client.query(question).result_rows == [("a", 1, 5), ("b", 4, 4)]
    client.command(f"SYSTEM START MERGES {database}.DeviceCoverage_versions")
    client.command(f"OPTIMIZE TABLE {database}.DeviceCoverage_versions FINAL")
    assert client.query(question).result_rows == [("a", 1, 5), ("b", 4, 4)]
    assert client.command(f"SELECT count() FROM {database}.DeviceCoverage_versions") == 2


@pytest.mark.parametrize("newer_first", [False, True])
def test_filter_on_a_column_that_changed(client: Client, database: str, written: Any, newer_first: bool) -> None:
    """An older version never shows because a filter left out the newer one, whichever came first and on which day."""
    old = network_event(1, 1, Timestamp="2026-11-23T23:59:59.900000Z", DestinationHost="", Outcome="unknown")
    new = network_event(
        1,
        2,
        Timestamp="2026-11-24T00:00:00.100000Z",
        DestinationHost="example.com",
        Outcome="allowed",
        RemoteIP="192.0.2.1",
    )
    for row in (new, old) if newer_first else (old, new):
        written(row)

    def found(condition: str) -> int:
        return int(str(client.command(f"SELECT count() FROM {database}.DeviceNetworkEvents WHERE {condition}")))

    assert found("Timestamp < '2026-11-24'") == 0
    assert found("TimeGenerated BETWEEN '2026-11-23' AND '2026-11-23 23:59:59.999999'") == 0
    assert found("Outcome = 'unknown'") == 0
    assert found("DestinationHost = ''") == 0
    assert found("RemoteIP = ''") == 0
    assert found("Version = 1") == 0
    assert (
        found("RecordId = 'r1'") == found("Timestamp >= '2026-11-24'") == found("DestinationHost = 'example.com'") == 1
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimize_move_to_prewhere_if_final": 1},
        {"use_skip_indexes_if_final_exact_mode": 0},
        {"do_not_merge_across_partitions_select_final": 1},
    ],
    ids=str,
)
def test_latest_version_against_an_oracle(
    client: Client, database: str, written: Any, settings: dict[str, Any]
) -> None:
    """Thousands of rows in many parts and two months of writing: each filter finds the rows whose latest version matches."""
    seed = 7
    chance = random.Random(seed)
    latest: dict[int, dict[str, Any]] = {}
    for part in range(6):
        rows = []
        for record in chance.sample(range(30_000), 8_000):
            version = chance.randrange(1, 1_000)
            row = network_event(
                record,
                version,
                Timestamp=f"2026-11-{chance.randrange(1, 29):02}T{chance.randrange(24):02}:00:00.000000Z",
                DestinationHost=f"host-{chance.randrange(2_000)}",
                DeviceId=f"dev-{record % 20}",
            )
            rows.append(row)
            # Of equal versions the one written last holds, but then they are the same row.
            if record not in latest or version > latest[record]["Version"]:
                latest[record] = row
            elif version == latest[record]["Version"]:
                rows.pop()
        if part == 3:
            _age_what_is_there(client, database)
        written(*rows)
    stored = f"SELECT count() > {len(latest)}, uniq(_partition_id) FROM {database}.DeviceNetworkEvents_versions"
    assert client.query(stored).result_rows == [(1, 2)]

    def shown(condition: str) -> set[tuple[str, int]]:
        query = f"SELECT RecordId, Version FROM {database}.DeviceNetworkEvents WHERE {condition}"
        found = client.query(query, settings=settings).result_rows
        assert len(found) == len(set(found)), "a row is shown twice"
        return {(str(record), int(version)) for record, version in found}

    def expected(*, day: str = "", host: str = "", device: str = "") -> set[tuple[str, int]]:
        return {
            (row["RecordId"], row["Version"])
            for row in latest.values()
            if row["Timestamp"].startswith(day)
            and host in ("", row["DestinationHost"])
            and device in ("", row["DeviceId"])
        }

    assert shown("1") == expected()
    for number in range(0, 2_000, 400):
        assert shown(f"DestinationHost = 'host-{number}'") == expected(host=f"host-{number}")
    for day in ("2026-11-03", "2026-11-28"):
        assert shown(f"toDate(Timestamp) = '{day}'") == expected(day=day)
        window = f"Timestamp >= '{day}' AND Timestamp < toDateTime('{day}', 'UTC') + 86400"
        assert shown(f"{window} AND DeviceId = 'dev-3'") == expected(day=day, device="dev-3")


def _age_what_is_there(client: Client, database: str) -> None:
    """Put what was written so far into an earlier month's partition, as if time had passed."""
    table = f"{database}.DeviceNetworkEvents_versions"
    names = ", ".join(column.name for column in columns(TABLES["DeviceNetworkEvents"]))
    client.command(f"CREATE TABLE {database}.kept ENGINE = MergeTree ORDER BY () AS SELECT {names} FROM {table}")
    client.command(f"TRUNCATE TABLE {table}")
    client.command(
        f"INSERT INTO {table} ({names}, IngestedAt) "
        f"SELECT {names}, toDateTime64('2026-01-02', 3, 'UTC') FROM {database}.kept",
        settings={"insert_allow_materialized_columns": 1, "optimize_on_insert": 0},
    )


def test_unknown_column_is_an_error(engine: Engine, database: str) -> None:
    """A column that the table does not know is never dropped in silence."""
    sink = ClickHouseSink(engine.settings(database))
    with pytest.raises(Exception, match="Colour"):
        sink.write("DeviceNetworkEvents", [msgspec.json.encode(network_event(1, 1, Colour="blue"))], "a")
    sink.close()
