"""Applies the missing migrations to a database, in order, each once.

The table `schema_migrations` records the applied migrations. The statements are idempotent: an interrupted migration
can be applied again, and two processes can migrate at the same time.

A view that is missing or lacks a column is recreated, because it is only a definition. A missing table is recreated
only on request (`recreate_tables`), because its rows are lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from clickhouse_connect.driver.client import Client

from schemas import ddl
from schemas.ddl import Migration, migrations, quoted
from schemas.joined_tables import JOINED
from sinks.base import SinkRefused

_BOOK = """
CREATE TABLE IF NOT EXISTS {database}.schema_migrations
(
    number UInt32,
    name String,
    sha256 String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree ORDER BY number
"""


def pending(client: Client, database: str) -> list[str]:
    """Return the titles of the missing migrations, in order; all if the database does not exist. Read-only.

    Raises SinkRefused if an applied migration differs from its file.
    """
    return [migration.title for migration in _missing(client, database)]


def broken_views(client: Client, database: str) -> list[str]:
    """Return the views of applied migrations that are missing or lack a column although their table exists."""
    seen = _seen(client, database)
    return [
        name
        for name in _made(client, database)
        if name + ddl.VERSIONS in seen and not ddl.view_columns(name) <= seen.get(name, set())
    ]


def lost_tables(client: Client, database: str) -> list[str]:
    """Return the tables of applied migrations that no longer exist, by the names that hunters use."""
    seen = _seen(client, database)
    joined = [name for name in _made(client, database, ddl.JOINED_MADE) if name not in seen]
    return [*(name for name in _made(client, database) if name + ddl.VERSIONS not in seen), *joined]


def recreate_tables(client: Client, database: str) -> list[str]:
    """Recreate the missing tables, empty, and return their names."""
    lost = lost_tables(client, database)
    for name in lost:
        made = ddl.joined_table(name) if name in JOINED else ddl.table(name)
        for statement in ddl.statements(made, database):
            client.command(statement)
    return lost


def migrate(client: Client, database: str) -> list[str]:
    """Apply the missing migrations, recreate broken views, and return the titles of both.

    Raises SinkRefused if an applied migration differs from its file.
    """
    missing = _missing(client, database)
    client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    client.command(_BOOK.format(database=quoted(database)))
    for migration in missing:
        for statement in migration.statements(database):
            client.command(statement)
        client.command(
            f"INSERT INTO {quoted(database)}.schema_migrations (number, name, sha256) "
            f"VALUES ({migration.number}, '{migration.name}', '{migration.sha256}')"
        )
    views = broken_views(client, database)
    for name in views:
        for statement in ddl.statements(ddl.view(name, again=True) + ddl.owned(name), database):
            client.command(statement)
    return [*(migration.title for migration in missing), *(f"view {name}" for name in views)]


def _made(client: Client, database: str, by_title: Mapping[str, tuple[str, ...]] = ddl.MADE) -> list[str]:
    """Return the tables that the applied migrations have created."""
    applied = _applied(client, database)
    return [name for one in migrations() if one.number in applied for name in by_title.get(one.title, ())]


def _seen(client: Client, database: str) -> dict[str, set[str]]:
    """Return the names of the existing columns, by table or view."""
    found = client.query(
        "SELECT table, groupArray(name) FROM system.columns WHERE database = {database:String} GROUP BY table",
        parameters={"database": database},
    )
    return {str(name): set(names) for name, names in found.result_rows}


def _missing(client: Client, database: str) -> list[Migration]:
    applied = _applied(client, database)
    ours = migrations()
    for migration in ours:
        if migration.number in applied and applied[migration.number] != migration.sha256:
            raise SinkRefused(
                f"database {database}: migration {migration.title} was applied with other content than its file has; "
                "put the file back as it was released, and make changes in a new one"
            )
    return [migration for migration in ours if migration.number not in applied]


def _applied(client: Client, database: str) -> dict[int, str]:
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'",
        parameters={"database": database},
    )
    if not there.result_rows[0][0]:
        return {}
    book = client.query(f"SELECT number, sha256 FROM {quoted(database)}.schema_migrations FINAL")
    return {int(number): str(sha256) for number, sha256 in book.result_rows}
