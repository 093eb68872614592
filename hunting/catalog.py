"""The tables that a hunt may name, with their columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hunting.kql.protocols import Table
from hunting.kql.values import identifier
from schemas.columns import columns
from schemas.ddl import HISTORY
from schemas.joined_tables import JOINED, columns_of, extra_columns
from schemas.tables import TABLES

_LEFT_OUT = re.compile(r"\..*|.*_versions|.*_history|schema_migrations")
"""Tables behind a view, whose rows the view shows in their latest version; tables of ClickHouse's own and of `migrate`."""


def known(database: str = "") -> dict[str, Table]:
    """Return the tables of this version, for a translation without a server."""
    found = {}
    for name, row in TABLES.items():
        written = {column.name: column.clickhouse for column in columns(row)}
        if "Timestamp" in written:
            written["TimeGenerated"] = written["Timestamp"]
        found[name] = Table(source(name, database), written | extra_columns(name))
    found["Rejects"] = Table(source("Rejects", database), {**found["Rejects"].columns, "Raw": "String"})
    for name in JOINED:
        written = columns_of(name)
        found[name] = Table(_listed(name, database, written), written)
    return found


def of_server(rows: Iterable[Mapping[str, object]], database: str) -> dict[str, Table]:
    """Return the tables of a server from rows of `COLUMNS_QUERY`."""
    written: dict[str, dict[str, str]] = {}
    aliased, there = set(), set()
    for row in rows:
        table = str(row["table"])
        there.add(table)
        if not _LEFT_OUT.fullmatch(table):
            written.setdefault(table, {})[str(row["name"])] = str(row["type"])
            if row["default_kind"] == "ALIAS":
                aliased.add(table)
    return {
        name: Table(
            _listed(name, database, names) if name in aliased else source(name, database),
            names,
            source(name + HISTORY, database) if name + HISTORY in there else "",
        )
        for name, names in written.items()
    }


COLUMNS_QUERY = (
    "SELECT table, name, type, default_kind FROM system.columns WHERE database = {database:String} "
    "AND default_kind != 'MATERIALIZED' ORDER BY table, position"
)
"""Asks a server for its columns without those it fills in itself (`IngestedAt`); `database` is a query parameter."""


def source(name: str, database: str) -> str:
    """Return a table's name as SQL."""
    return f"{identifier(database)}.{identifier(name)}" if database else identifier(name)


def _listed(name: str, database: str, names: Iterable[str]) -> str:
    """Return a table as a subquery that lists its columns: `*` leaves out columns that are an alias of another."""
    return f"(SELECT {', '.join(identifier(column) for column in names)} FROM {source(name, database)})"
