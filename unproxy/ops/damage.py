"""Parts of a table that ClickHouse cannot read any more, and how they are put aside.

A disk that fills up while ClickHouse writes may leave a part behind that lacks a file, or half of one: from then on
questions to the table fail. A detached part is asked no more. It stays in the table's folder `detached`; nothing is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from schemas.ddl import VERSIONS, quoted
from sinks.presence import UNREADABLE
from unproxy.query.client import Client, QueryRefused, readable

PART_SECS_MAX = 3_600.0
"""How long one part may take to read; a merged one has up to 150 GB."""

_CHECK_SETTINGS = {"check_query_single_value_result": "0", "wait_end_of_query": "1"}
_GONE = 232
"""NO_SUCH_DATA_PART: merged meanwhile, so it could be read."""

Progress = Callable[[int, int], None]
"""Told of each part: how many were looked at, of how many."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table of versions that cannot be read."""

    table: str
    """The table of versions."""
    name: str
    rows: int | None
    """None where nobody can tell any more."""
    first_written: str
    """When its rows were written, from and to; "" where nobody can tell."""
    last_written: str
    why: str = ""
    aside: bool = False
    """ClickHouse put it aside by itself when it started: the table can be read, without its rows."""


def damaged(client: Client, table: str, progress: Progress = lambda _, __: None) -> Iterator[Part]:
    """The damaged parts of this table, first those that are in the way. Changes nothing. Raises Failed."""
    patient = replace(client, timeout_secs=PART_SECS_MAX)
    parts = _active(client, table + VERSIONS)
    for number, part in enumerate(parts):
        progress(number, len(parts))
        if why := _why(patient, part):
            yield replace(part, why=why)
    yield from _put_aside(client, table + VERSIONS)


def detach(client: Client, part: Part) -> None:
    """Put it aside; merges under way are waited for. Raises Failed."""
    patient = replace(client, timeout_secs=PART_SECS_MAX)
    list(patient.lines(f"ALTER TABLE {quoted(part.table)} DETACH PART '{part.name}'", output="JSONEachRow"))


def _active(client: Client, table: str) -> list[Part]:
    rows = client.rows(
        "SELECT name, rows, min_time, max_time, modification_time FROM system.parts "
        "WHERE database = {database:String} AND table = {table:String} AND active ORDER BY min_block_number",
        {"database": client.database, "table": table},
    )
    return [Part(table, row["name"], int(row["rows"]), *_times(row)) for row in rows]


def _times(row: dict[str, Any]) -> tuple[str, str]:
    known = not row["min_time"].startswith("1970")
    return (row["min_time"], row["max_time"]) if known else ("", row["modification_time"])


def _why(client: Client, part: Part) -> str:
    """Why this part cannot be read; "" when it can. Its files are compared with their checksums, then all is read."""
    check = f"CHECK TABLE {quoted(part.table)} PART '{part.name}'"
    try:
        for line in client.lines(check, output="JSONEachRow", settings=_CHECK_SETTINGS):
            if not (found := json.loads(line))["is_passed"]:
                return readable(found["message"])
        client.rows(
            f"SELECT count() AS n FROM {quoted(part.table)} WHERE _part = {{part:String}} AND NOT ignore(*)",
            {"part": part.name},
        )
    except QueryRefused as error:
        if error.code in UNREADABLE:
            return str(error)
        if error.code != _GONE:
            raise
    return ""


def _put_aside(client: Client, table: str) -> Iterator[Part]:
    rows = client.rows(
        "SELECT name, reason, modification_time FROM system.detached_parts "
        "WHERE database = {database:String} AND table = {table:String} AND reason LIKE 'broken%' ORDER BY name",
        {"database": client.database, "table": table},
    )
    for row in rows:
        yield Part(table, row["name"], None, "", row["modification_time"] or "", row["reason"], aside=True)
