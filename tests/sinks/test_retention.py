"""Retention on the real engine: whole months go, the rest stays, and a change that removes rows is named before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from pydantic import ValidationError

from schemas.sections.retention import RetentionSettings
from sinks.clickhouse import connect
from sinks.migrate import migrate
from sinks.retention import UNLIMITED_DAYS, Month, Retention, apply, losses, retentions
from unproxy.local.servers.engine import Engine

TABLE = "DeviceNetworkEvents"
WAIT_SECS = 60


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    """A client in no database."""
    with connect(engine.settings("")) as made:
        yield made


@pytest.fixture
def database(client: Client, unique: str) -> str:
    """A database with our tables. Expired parts of `TABLE` go within seconds instead of hours."""
    migrate(client, unique)
    client.command(
        f"ALTER TABLE {unique}.{TABLE}_versions MODIFY SETTING merge_with_ttl_timeout = 0, merge_selecting_sleep_ms = 200, "
        "max_merge_selecting_sleep_ms = 500"
    )
    return unique


def limit(days: int = 0, **tables: int) -> RetentionSettings:
    """Settings with these days, and others for some tables."""
    return RetentionSettings.model_validate(
        {"total_days": days, "tables": {name: {"total_days": count} for name, count in tables.items()}}
    )


def write(client: Client, database: str, months_ago: int, *versions: tuple[str, int]) -> str:
    """Write versions of rows as if it were an earlier month; return the month as in partitions."""
    month = datetime.now(UTC).date().replace(day=1)
    for _ in range(months_ago):
        month = (month - timedelta(days=1)).replace(day=1)
    rows = ", ".join(f"('{record}', 'd', {version}, '{month} 12:00:00')" for record, version in versions)
    client.command(
        f"INSERT INTO {database}.{TABLE}_versions (RecordId, DeviceId, Version, IngestedAt) VALUES {rows}",
        settings={"insert_allow_materialized_columns": 1},
    )
    return f"{month:%Y%m}"


def stored(client: Client, database: str) -> list[str]:
    """Partitions with rows."""
    question = f"SELECT DISTINCT _partition_id FROM {database}.{TABLE}_versions ORDER BY 1"
    return [str(month) for (month,) in client.query(question).result_rows]


def shown(client: Client, database: str) -> list[tuple[str, int]]:
    """Rows that hunters see."""
    found = client.query(f"SELECT RecordId, Version FROM {database}.{TABLE} ORDER BY 1").result_rows
    return [(str(record), int(version)) for record, version in found]


def of_table(client: Client, database: str, settings: RetentionSettings) -> Retention:
    """The retention of `TABLE`."""
    (found,) = (one for one in retentions(client, database, settings) if one.table == TABLE)
    return found


def until(client: Client, database: str, months: list[str]) -> None:
    """Wait until only these months have rows."""
    end = time.monotonic() + WAIT_SECS
    while stored(client, database) != months:
        assert time.monotonic() < end, f"{stored(client, database)} instead of {months}"
        time.sleep(0.2)


def await_dates(client: Client, database: str, settings: RetentionSettings) -> None:
    """Wait until all parts have their date."""
    end = time.monotonic() + WAIT_SECS
    while of_table(client, database, settings).stale_parts:
        assert time.monotonic() < end, "parts keep their old dates"
        time.sleep(0.2)


def test_whole_months_go(client: Client, database: str) -> None:
    """Expired months go, also those written before there was a limit; later versions and months stay."""
    write(client, database, 6, ("old", 1), ("corrected", 1))
    kept = [write(client, database, 2, ("corrected", 2), ("late", 1)), write(client, database, 0, ("new", 1))]
    wanted = limit(90)
    (loss,) = losses(retentions(client, database, wanted))
    assert loss.startswith(f"{TABLE}: 2 stored rows, written in ")

    assert f"retention {TABLE}: unlimited -> 90 days" in apply(client, database, wanted)
    until(client, database, kept)
    await_dates(client, database, wanted)
    assert shown(client, database) == [("corrected", 2), ("late", 1), ("new", 1)]
    assert list(losses(retentions(client, database, wanted))) == []
    assert apply(client, database, wanted) == []
    write(client, database, 6, ("other", 1))
    until(client, database, kept)


def test_longer_retention_changes_the_dates_of_parts(client: Client, database: str) -> None:
    """A longer limit, or none, also holds for parts that were written under a shorter one."""
    month = write(client, database, 2, ("a", 1))
    for days in (100, 300, 0, 200):
        wanted = limit(days)
        apply(client, database, wanted)
        await_dates(client, database, wanted)
        found = of_table(client, database, wanted)
        assert (found.stored_days, found.differs, found.going) == (days, False, ())
        (kept,) = found.months
        assert set(kept.parts_expire) == {kept.expires(days or UNLIMITED_DAYS)}
        assert apply(client, database, wanted) == []
    assert stored(client, database) == [month]


def test_each_table_has_its_own(client: Client, database: str) -> None:
    """A table's own days hold for it, and the general ones for all others, also those that hunts join."""
    wanted = limit(400, Rejects=30, DeviceInfo=0)
    apply(client, database, wanted)
    found = {one.table: one.stored_days for one in retentions(client, database, wanted)}

    assert found.pop("Rejects") == 30
    assert found.pop("DeviceInfo") == 0
    assert set(found.values()) == {400}
    assert len(found) > 15


def test_other_ttl_stays_without_a_limit(client: Client, database: str) -> None:
    """A TTL that an administrator has set is left alone until the settings have a limit."""
    client.command(f"ALTER TABLE {database}.{TABLE}_versions MODIFY TTL toDateTime(IngestedAt) + INTERVAL 5 YEAR")

    assert apply(client, database, limit()) == []
    assert of_table(client, database, limit()).in_words().startswith("another TTL, toDateTime(IngestedAt)")
    assert of_table(client, database, limit(90)).differs
    apply(client, database, limit(90))
    assert of_table(client, database, limit(90)).stored_days == 90


def test_stopped_change_is_finished(client: Client, database: str) -> None:
    """Parts whose dates were not recalculated, or a table without its settings, are found and finished."""
    write(client, database, 1, ("a", 1))
    wanted = limit(300)
    client.command(
        f"ALTER TABLE {database}.{TABLE}_versions MODIFY TTL toStartOfMonth(IngestedAt) + INTERVAL 1 MONTH + INTERVAL 300 DAY",
        settings={"materialize_ttl_after_modify": 0},
    )
    assert of_table(client, database, wanted).differs
    client.command(
        f"ALTER TABLE {database}.{TABLE}_versions MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1"
    )
    found = of_table(client, database, wanted)
    assert (found.differs, found.stale_parts) == (False, 1)

    assert f"retention {TABLE}: dates of 1 parts" in apply(client, database, wanted)
    await_dates(client, database, wanted)


@pytest.mark.parametrize(("first", "days", "expected"), [((2024, 1), 0, (2024, 2, 1)), ((2025, 12), 31, (2026, 2, 1))])
def test_month_ends(first: tuple[int, int], days: int, expected: tuple[int, int, int]) -> None:
    """A month goes its days after its end, as ClickHouse calculates it."""
    assert Month(date(*first, 1), 1, ()).expires(days) == date(*expected)


@pytest.mark.parametrize("days", [-1, 3_651, 10**30, True, False, 1.5, "many", "1; DROP TABLE x", "", None, [1], "NaN"])
def test_hostile_days_are_refused(days: object) -> None:
    """Only whole numbers of days in the range are taken; `true` is not one day."""
    with pytest.raises(ValidationError):
        RetentionSettings.model_validate({"total_days": days})
    with pytest.raises(ValidationError):
        RetentionSettings.model_validate({"tables": {"Rejects": {"total_days": days}}})


@pytest.mark.parametrize("name", ["", "Rejcts", "Rejects_versions", "x` MODIFY TTL now() --"])
def test_unknown_tables_are_refused(name: str) -> None:
    """A misspelt table would keep its rows for another time than its author expects."""
    with pytest.raises(ValidationError, match="is not a table"):
        limit(**{name: 1})
