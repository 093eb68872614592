"""Brings a database's tables up to date: applies the numbered migrations that are missing, in order, once.

What was applied stands in the table `schema_migrations`. Statements are written so that a migration that stopped
half-way can be applied again, and so that two processes that migrate at once do each other no harm.

A view that was lost or changed is only a definition, and is made again. A table that was lost had rows: it is made anew only
when somebody says so.
"""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from schemas import ddl
from schemas.ddl import Migration, migrations, quoted
from schemas.tables import TABLES, columns
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
    """What is missing in this database, in order; all of it when there is no database. Changes nothing."""
    return [migration.title for migration in _missing(client, database)]


def broken_views(client: Client, database: str) -> list[str]:
    """Views of applied migrations that are not there, or lack a column, while the table behind them is there."""
    seen = _seen(client, database)
    return [
        name
        for name in _made(client, database)
        if name + ddl.VERSIONS in seen
        and not {column.name for column in columns(TABLES[name])} <= seen.get(name, set())
    ]


def lost_tables(client: Client, database: str) -> list[str]:
    """Tables of applied migrations that are not there any more, by what hunters call them."""
    seen = _seen(client, database)
    return [name for name in _made(client, database) if name + ddl.VERSIONS not in seen]


def make_anew(client: Client, database: str) -> list[str]:
    """Make the lost tables anew, empty, and say which."""
    lost = lost_tables(client, database)
    for name in lost:
        for statement in ddl.statements(ddl.table(name), database):
            client.command(statement)
    return lost


def migrate(client: Client, database: str) -> list[str]:
    """Apply what is missing, make broken views again, and say what that was."""
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


def _made(client: Client, database: str) -> list[str]:
    """What the migrations that were applied here have made."""
    applied = _applied(client, database)
    return [name for one in migrations() if one.number in applied for name in ddl.MADE.get(one.title, ())]


def _seen(client: Client, database: str) -> dict[str, set[str]]:
    """Columns by table or view, as they are."""
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
