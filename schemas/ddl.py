"""The tables as SQL: numbered migrations, and the generator of those that create tables from the classes in `schemas.tables`.

Each table consists of two objects. `NAME_versions` keeps every version of a row that was written. `NAME`, which hunters
use, is a view of the latest version of each row. Reasons and cost: docs/decisions/0001-latest-version.md.

    python -m schemas.ddl 0001_tables > schemas/migrations/0001_tables.sql

A migration that was released is never changed: a new column gets a new file. `{database}` stands for the database.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from importlib import resources

from schemas import joined_tables
from schemas.columns import columns
from schemas.joined_tables import JOINED
from schemas.tables import TABLES

HISTORY = "_history"
"""Suffix of the name of the view with all versions."""
DAY = "toDate32"
"""Function of the day by which the projection `by_day` is sorted. Date32 covers all years that the column can hold."""
VERSIONS = "_versions"
"""Suffix of the name of the table behind a view."""

DEDUPLICATION_WINDOW = 10_000
"""Number of latest inserts among which a repeated deduplication token is recognised."""

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the database."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the migration's text. It shows whether the file was changed after the migration was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """Number and name, as in the file name."""
        return f"{self.number:04}_{self.name}"

    def statements(self, database: str) -> list[str]:
        """Return the migration's statements for this database, to be run one by one."""
        return statements(self.text, database)


def migrations() -> tuple[Migration, ...]:
    """Return all migrations in order; their numbers have no gaps."""
    folder = resources.files("schemas").joinpath("migrations")
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := _FILE_NAME.fullmatch(file.name))
    ]
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    assert numbers == list(range(1, len(found) + 1)), "schemas/migrations: a number is missing or there twice"
    return tuple(found)


def statements(text: str, database: str) -> list[str]:
    """Split the text of a migration into statements, with the database's name inserted."""
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    filled = code.replace("{database}", quoted(database))
    return [statement.strip() for statement in filled.split(";\n") if statement.strip()]


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


@dataclass(frozen=True, slots=True)
class _Shape:
    key: tuple[str, ...]
    """Sorting key: only columns that are equal in all versions of a row; otherwise several versions would stay visible."""
    version: str
    looked_up: tuple[str, ...]
    """Columns with a skip index, for queries that look up few rows among millions."""
    times: tuple[str, ...]
    shown: tuple[str, ...]
    """Further expressions of the view, after the columns."""
    shown_if: str = ""
    """Condition of the view: rows whose latest version does not meet it are not shown."""
    merged: bool = False
    """Whether rows with the same key are merged column by column. Such a table has no versions."""
    projections: tuple[str, ...] = ()
    """Further orders of the stored rows: name, rows and settings of each projection."""


_BY_DAY = f"by_day (SELECT * ORDER BY {DAY}(`Timestamp`), DeviceId, `Timestamp`)"
"""All columns of the table, for hunts in a range of time and for a device's timeline. `*` stands for the columns at the time of
the statement: a migration that adds a column must drop the projection and add it again, else queries of that column skip it.
"""
_BY_HASH = (
    "by_hash (SELECT cityHash64(RecordId), RecordId, DeviceId, Version ORDER BY cityHash64(RecordId)) "
    "WITH SETTINGS (index_granularity = 256)"
)
"""All versions of given rows, wherever their times are (`hunting.latest`)."""


_SHAPES = {
    "DeviceNetworkEvents": _Shape(
        ("DeviceId", "RecordId"),
        "Version",
        ("RecordId", "ConnectionId", "DestinationHost", "RemoteIP"),
        ("Timestamp",),
        ("Timestamp AS TimeGenerated",),
        projections=(_BY_DAY, _BY_HASH),
    ),
    "DeviceEvents": _Shape(
        ("DeviceId", "RecordId"),
        "Version",
        ("RecordId", "ConnectionId", "DestinationHost"),
        ("Timestamp",),
        ("Timestamp AS TimeGenerated",),
    ),
    "BlockAlerts": _Shape(("DeviceId", "AlertId"), "Version", ("AlertId",), ("LastTime",), ()),
    "Rejects": _Shape(("RecordId",), "", (), ("RejectedAt",), ("base64Decode(RawBase64) AS Raw",)),
    "SensorGaps": _Shape(("DeviceId", "RecordId"), "Version", (), ("FromTime",), (), shown_if="Status != 'filled'"),
    "ProtectionModes": _Shape(
        ("DeviceId", "RecordId"), "Version", (), ("FromTime",), (), shown_if="Status != 'withdrawn'"
    ),
    "DeviceCoverage": _Shape(
        ("DeviceId", "Bucket", "Dialect", "Sensor", "RecordId"), "", (), ("Bucket",), (), merged=True
    ),
}
MADE = {
    "0001_tables": ("DeviceNetworkEvents", "DeviceEvents", "BlockAlerts", "Rejects"),
    "0002_sensor_gaps": ("SensorGaps", "DeviceCoverage"),
    "0003_protection": ("ProtectionModes",),
    "0004_proxy_logs": (),
    "0006_descriptions": (),
    "0007_joined_tables": (),
    "0010_time_order": (),
}
"""Tables that a generated migration creates, by the migration's title."""

CHANGED = {"0003_protection": ("DeviceEvents", "BlockAlerts"), "0004_proxy_logs": ("DeviceNetworkEvents",)}
"""Tables of earlier migrations to which a migration adds columns. The earlier migration's file is not changed."""

JOINED_MADE = {"0007_joined_tables": tuple(JOINED)}
"""Tables of `schemas.joined_tables` that a migration creates."""

VIEWED = {"0007_joined_tables": ("DeviceNetworkEvents", "DeviceEvents")}
"""Views of earlier migrations to which a migration adds columns."""

PROJECTED = {"0010_time_order": ("DeviceNetworkEvents",)}
"""Tables of earlier migrations that get their projections, and a view of all versions."""

DESCRIBED = {"0006_descriptions": tuple(TABLES)}
"""Tables of earlier migrations whose columns a migration gives new comments."""


_REBUILT = "deduplicate_merge_projection_mode = 'rebuild'"
"""A merge that removes old versions of rows makes the projections of its result again."""


def identity(table: str) -> tuple[tuple[str, ...], str]:
    """Return the columns that identify a row of this table, and the column with its version ("" if it has no versions)."""
    shape = _SHAPES[table]
    return tuple(column for column in shape.key if column.endswith("Id")), shape.version


def merges(table: str) -> bool:
    """Return whether the table merges rows with the same identity, so that the same row may be inserted several times."""
    return _SHAPES[table].merged


def made(title: str) -> str:
    """Return the text of a generated migration."""
    parts = ["-- Made by `python -m schemas.ddl` from the classes in schemas/tables.py.\n"]
    for name in MADE[title]:
        parts += [table(name), view(name)]
    for name in CHANGED.get(title, ()):
        parts += [_changes(name), view(name, again=True)]
    parts += [_alter(name, _comments(name)) for name in DESCRIBED.get(title, ())]
    parts += [joined_table(name) for name in JOINED_MADE.get(title, ())]
    for name in VIEWED.get(title, ()):
        parts += [view(name, again=True), owned(name)]
    for name in PROJECTED.get(title, ()):
        parts += [*_projected(name), history(name), owned(name + HISTORY)]
    return "\n".join(parts)


def _changes(name: str) -> str:
    before, changes = "", []
    for column, comment in zip(columns(TABLES[name]), _comments(name), strict=True):
        where = f"AFTER {quoted(before)}" if before else "FIRST"
        changes += [f"ADD COLUMN IF NOT EXISTS {quoted(column.name)} {column.clickhouse} {where}", comment]
        before = column.name
    return _alter(name, changes)


def _projected(name: str) -> list[str]:
    """Return statements that add a table's projections. ClickHouse fills those of the rows that are there in the background."""
    shape = _SHAPES[name]
    adds = [f"ADD PROJECTION IF NOT EXISTS {projection}" for projection in shape.projections]
    fills = [f"MATERIALIZE PROJECTION IF EXISTS {projection.partition(' ')[0]}" for projection in shape.projections]
    setting = f"MODIFY SETTING {_REBUILT}"
    return [_alter(name, [change]) for change in (setting, *adds, *fills)]


def _comments(name: str) -> list[str]:
    return [f"COMMENT COLUMN {quoted(column.name)} {_text(column.about)}" for column in columns(TABLES[name])]


def _alter(name: str, changes: list[str]) -> str:
    return f"ALTER TABLE {{database}}.{quoted(name + VERSIONS)}\n    " + ",\n    ".join(changes) + ";\n"


def table(name: str) -> str:
    """Return the statement that creates the table behind a view from its class, unless it exists."""
    shape = _SHAPES[name]
    lines = [f"{quoted(c.name)} {c.clickhouse} COMMENT {_text(c.about)}" for c in columns(TABLES[name])]
    # MATERIALIZED instead of DEFAULT: ClickHouse then computes the column without tracking which columns each row lacks.
    lines.append("`IngestedAt` DateTime64(3, 'UTC') MATERIALIZED now64(3) COMMENT 'When this version was written'")
    lines += [f"INDEX by_{column} {quoted(column)} TYPE minmax GRANULARITY 1" for column in shape.times]
    lines += [f"INDEX by_{column} {quoted(column)} TYPE bloom_filter(0.01) GRANULARITY 1" for column in shape.looked_up]
    lines += [f"PROJECTION {projection}" for projection in shape.projections]
    rebuilt = f", {_REBUILT}" if shape.projections else ""
    body = ",\n    ".join(lines)
    # Partitioned by the month of insertion: an insert has one partition, and a query's filter on the event time never skips
    # the partition of a newer version. Old months can be dropped as a whole.
    # Inserted parts are compact (one file instead of two per column), which writes 30 % faster; merges make them wide.
    return (
        f"CREATE TABLE IF NOT EXISTS {{database}}.{quoted(name + VERSIONS)}\n(\n    {body}\n)\n"
        f"ENGINE = {'AggregatingMergeTree' if shape.merged else f'ReplacingMergeTree({shape.version})'}\n"
        "PARTITION BY toYYYYMM(IngestedAt)\n"
        f"ORDER BY ({', '.join(shape.key)})\n"
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, min_bytes_for_wide_part = 268435456"
        f"{rebuilt};\n"
    )


def joined_table(name: str) -> str:
    """Return the statement that creates an empty table of `schemas.joined_tables`, unless it exists."""
    time = joined_tables.time_of(name)
    lines = []
    for column, kind in joined_tables.columns_of(name).items():
        other = f" ALIAS {quoted(time)}" if column in joined_tables.TIMES and column != time else ""
        table_name = f" DEFAULT {_text(name)}" if column == "Type" else ""
        lines.append(f"{quoted(column)} {kind}{other}{table_name}")
    lines.append("`IngestedAt` DateTime64(3, 'UTC') MATERIALIZED now64(3)")
    lines.append(f"INDEX by_{time} {quoted(time)} TYPE minmax GRANULARITY 1")
    body = ",\n    ".join(lines)
    key = [column for column in ("DeviceId", "AlertId", "SystemAlertId", "AccountUpn") if column in JOINED[name]][:1]
    return (
        f"CREATE TABLE IF NOT EXISTS {{database}}.{quoted(name)}\n(\n    {body}\n)\n"
        "ENGINE = MergeTree\n"
        "PARTITION BY toYYYYMM(IngestedAt)\n"
        f"ORDER BY ({', '.join([*key, time])})\n"
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW};\n"
    )


def view_columns(name: str) -> set[str]:
    """Return the names of all columns of a view."""
    others = {expression.rpartition(" AS ")[2] for expression in _SHAPES[name].shown}
    return {column.name for column in columns(TABLES[name])} | others | set(joined_tables.extra_columns(name))


def _empty(name: str) -> list[str]:
    """Return expressions for those columns of Microsoft's table that ours does not have: empty text or NULL."""
    found = []
    for column, kind in joined_tables.extra_columns(name).items():
        value = _text(name) if column == "Type" else "NULL" if kind.startswith("Nullable") else "''"
        found.append(f"CAST({value}, {_text(kind)}) AS {quoted(column)}")
    return found


def view(name: str, *, again: bool = False) -> str:
    """Return the statement that creates a view; with `again` it replaces an existing view."""
    shape = _SHAPES[name]
    shown = ",\n    ".join([*(quoted(column.name) for column in columns(TABLES[name])), *shape.shown, *_empty(name)])
    where = f"WHERE {shape.shown_if}\n" if shape.shown_if else ""
    # The settings are ClickHouse's defaults. They are stated because a user's profile with other values would show old versions.
    kept = ", optimize_move_to_prewhere_if_final = 0" if shape.shown_if else ""
    return (
        f"CREATE {'OR REPLACE VIEW' if again else 'VIEW IF NOT EXISTS'} {{database}}.{quoted(name)} AS\nSELECT\n    {shown}\n"
        f"FROM {{database}}.{quoted(name + VERSIONS)} FINAL\n{where}"
        f"SETTINGS use_skip_indexes_if_final_exact_mode = 1, do_not_merge_across_partitions_select_final = 0{kept};\n"
    )


def history(name: str) -> str:
    """Return the statement that creates the view of all stored versions, with the same columns as the view of the latest ones."""
    shape = _SHAPES[name]
    shown = ",\n    ".join([*(quoted(column.name) for column in columns(TABLES[name])), *shape.shown, *_empty(name)])
    return (
        f"CREATE OR REPLACE VIEW {{database}}.{quoted(name + HISTORY)} AS\nSELECT\n    {shown}\n"
        f"FROM {{database}}.{quoted(name + VERSIONS)};\n"
    )


def owned(name: str) -> str:
    """Return the statement that makes a view read its table with the rights of the user who runs the statement.

    By default a view has the rights of the user who queries it, so that readers would need rights on the table.
    """
    return f"ALTER TABLE {{database}}.{quoted(name)} MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER;\n"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


if __name__ == "__main__":
    print(made(sys.argv[1]), end="")
