"""Compares the retention of the tables with the settings, and changes it.

A table's TTL is the end of the month in which a row was written, plus a number of days. Partitions are these months, so all rows
of a part expire at once, and ClickHouse removes the part as a whole (`ttl_only_drop_parts`). All versions of a row that are in
one month go together; a version that was written in a later month stays.

Each part stores the date on which it expires. A changed TTL applies to new parts only (`materialize_ttl_after_modify = 0`), so a
mutation recalculates the date of the others (`materialize_ttl_recalculate_only = 1`). It reads one column, and writes the
other columns of a wide part as hard links. Parts below 256 MiB are compact and are written again.

A table that had a limit gets a TTL of UNLIMITED_DAYS when the limit is lifted. Without a TTL, parts would keep their old dates,
and a limit that is set later would remove parts by these dates before they are recalculated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from clickhouse_connect.driver.client import Client

from schemas.ddl import VERSIONS, quoted
from schemas.joined_tables import JOINED
from schemas.sections.retention import RetentionSettings
from schemas.tables import TABLES

UNLIMITED_DAYS = 18_250
"""Days of a TTL that stands for no limit: fifty years. ClickHouse's Date ends in 2149."""

_TTL = re.compile(r" TTL (.+?)(?: SETTINGS |$)", re.DOTALL)
_OURS = re.compile(r"\(?toStartOfMonth\(IngestedAt\) \+ toIntervalMonth\(1\)\)? \+ toIntervalDay\((\d+)\)")
_SETTINGS = "ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1"


@dataclass(frozen=True, slots=True)
class Month:
    """The rows of a table that were written in one month."""

    first: date
    """First day of the month."""
    rows: int
    parts_expire: tuple[date, ...]
    """Stored dates of its parts; 1970-01-01 for a part without one."""

    def expires(self, days: int) -> date:
        """Return the day on which the month goes if rows are kept for `days` after its end."""
        following = (self.first + timedelta(days=31)).replace(day=1)
        return following + timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention of one table, in the settings and in ClickHouse."""

    table: str
    wanted_days: int
    """0 for no limit."""
    stored_days: int | None
    """Days of the table's TTL, 0 without one; None if it has another TTL than ours."""
    other_ttl: str
    """The TTL, if it is not ours."""
    complete: bool
    """Whether the table has the settings with which whole parts go."""
    months: tuple[Month, ...]
    today: date
    changing: bool
    """Whether ClickHouse recalculates the dates of parts at the moment."""

    @property
    def differs(self) -> bool:
        """Whether the table's TTL must be changed. A TTL that is not ours stays where the settings have no limit."""
        if self.stored_days is None:
            return bool(self.wanted_days)
        return self.stored_days != self.wanted_days or (bool(self.wanted_days) and not self.complete)

    @property
    def stale_parts(self) -> int:
        """Number of parts whose stored date is not that of the table's TTL, if the TTL is ours."""
        if self.stored_days is None or not self.complete:
            return 0
        days = self.stored_days or UNLIMITED_DAYS
        return sum(found != month.expires(days) for month in self.months for found in month.parts_expire)

    @property
    def going(self) -> tuple[Month, ...]:
        """The months that go at once when the settings are applied."""
        if not self.wanted_days or not (self.differs or self.stale_parts):
            return ()
        return tuple(month for month in self.months if month.expires(self.wanted_days) <= self.today)

    def in_words(self) -> str:
        """Return what the table has, and its oldest month."""
        stored = f"another TTL, {self.other_ttl}" if self.stored_days is None else days_in_words(self.stored_days)
        oldest = f"oldest rows written in {self.months[0].first:%Y-%m}" if self.months else "no rows"
        return f"{stored}; {oldest}"


def days_in_words(days: int) -> str:
    """Return a number of days as text; 0 is no limit."""
    return f"{days} day{'s' if days > 1 else ''}" if days else "unlimited"


def retentions(client: Client, database: str, settings: RetentionSettings) -> list[Retention]:
    """Return the retention of each existing table. Read-only."""
    parameters = {"database": database}
    engines = client.query(
        "SELECT name, engine_full, toDate(now('UTC')) FROM system.tables WHERE database = {database:String}",
        parameters=parameters,
    ).result_rows
    months = _months(client, database)
    changing = client.query(
        "SELECT DISTINCT table FROM system.mutations WHERE database = {database:String} AND NOT is_done "
        "AND command LIKE '%MATERIALIZE TTL%'",
        parameters=parameters,
    ).result_rows
    busy = {str(name) for (name,) in changing}
    found = {str(name): (str(engine), day) for name, engine, day in engines}
    return [
        _retention(table, settings, *found[place], tuple(months.get(place, ())), changing=place in busy)
        for table in [*TABLES, *JOINED]
        if (place := _place(table)) in found
    ]


def _retention(
    table: str, settings: RetentionSettings, engine: str, today: date, months: tuple[Month, ...], *, changing: bool
) -> Retention:
    ttl = _TTL.search(engine)
    ours = _OURS.fullmatch(ttl[1]) if ttl else None
    days = int(ours[1]) if ours else 0
    complete = ours is not None and all(setting in engine for setting in _SETTINGS.split(", "))
    return Retention(
        table,
        settings.days_of(table),
        None if ttl and not ours else 0 if days == UNLIMITED_DAYS else days,
        ttl[1] if ttl and not ours else "",
        complete,
        months,
        today,
        changing,
    )


def _months(client: Client, database: str) -> dict[str, list[Month]]:
    parts = client.query(
        "SELECT table, partition, sum(rows), groupArray(toDate(delete_ttl_info_max)) FROM system.parts "
        "WHERE database = {database:String} AND active AND rows > 0 AND match(partition, '^[0-9]{6}$') "
        "GROUP BY table, partition ORDER BY table, partition",
        parameters={"database": database},
    )
    found: dict[str, list[Month]] = {}
    for table, partition, rows, expire in parts.result_rows:
        first = date(int(partition[:4]), int(partition[4:]), 1)
        found.setdefault(str(table), []).append(Month(first, int(rows), tuple(expire)))
    return found


def apply(client: Client, database: str, settings: RetentionSettings) -> list[str]:
    """Give each existing table the retention of the settings, and return what was changed. It can be repeated.

    ClickHouse recalculates the dates of existing parts and removes expired parts in the background.
    """
    changed = []
    for one in retentions(client, database, settings):
        if one.differs:
            _alter(client, database, one)
        elif not one.stale_parts or one.changing:
            continue
        if one.months:
            client.command(f"ALTER TABLE {quoted(database)}.{quoted(_place(one.table))} MATERIALIZE TTL")
        changed.append(described(one))
    return changed


def described(one: Retention) -> str:
    """Return what applying the settings changes in a table."""
    if one.differs:
        before = one.other_ttl or days_in_words(one.stored_days or 0)
        return f"retention {one.table}: {before} -> {days_in_words(one.wanted_days)}"
    return f"retention {one.table}: dates of {one.stale_parts} parts"


def losses(found: list[Retention]) -> Iterator[str]:
    """Yield what applying the settings removes at once from each table."""
    for one in found:
        if one.going:
            rows = sum(month.rows for month in one.going)
            months = ", ".join(f"{month.first:%Y-%m}" for month in one.going)
            yield f"{one.table}: {rows:,} stored rows, written in {months}"


def _alter(client: Client, database: str, one: Retention) -> None:
    place = f"{quoted(database)}.{quoted(_place(one.table))}"
    client.command(f"ALTER TABLE {place} MODIFY SETTING {_SETTINGS}")
    days = one.wanted_days or UNLIMITED_DAYS
    client.command(
        f"ALTER TABLE {place} MODIFY TTL toStartOfMonth(IngestedAt) + INTERVAL 1 MONTH + INTERVAL {days} DAY",
        settings={"materialize_ttl_after_modify": 0},
    )


def _place(table: str) -> str:
    """Return the name of the table that holds the rows."""
    return table if table in JOINED else table + VERSIONS
