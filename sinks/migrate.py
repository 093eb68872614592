"""Brings a database's tables up to date: applies the numbered migrations that are missing, in order, once.

What was applied stands in the table `schema_migrations`. Statements are written so that a migration that stopped
half-way can be applied again, and so that two processes that migrate at once do each other no harm.
"""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from schemas.ddl import Migration, migrations, quoted
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


def migrate(client: Client, database: str) -> list[str]:
    """Apply what is missing and say what that was."""
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
    return [migration.title for migration in missing]


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
