"""Find the damaged parts of a table and detach them.

A disk that fills up while ClickHouse writes may leave a part that lacks a file, or half of one: from then on queries of
the table fail. A detached part is not read. It stays in the table's folder `detached`; nothing is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from schemas.ddl import DEDUPLICATION_WINDOW, VERSIONS, quoted
from sinks.presence import UNREADABLE
from unproxy.query.client import Client, QueryRefused, readable

PART_SECS_MAX = 3_600.0
"""Longest time to read one part; a merged one has up to 150 GB."""

_CHECK_SETTINGS = {"check_query_single_value_result": "0", "wait_end_of_query": "1"}
_GONE = 232
"""NO_SUCH_DATA_PART: it was merged meanwhile, so it was readable."""

Progress = Callable[[int, int], None]
"""Called for each part with the number of parts checked and of all parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table of versions that cannot be read."""

    table: str
    """The table of versions."""
    name: str
    rows: int | None
    """None if unknown."""
    first_written: str
    """Time of the first insert of its rows; "" if unknown."""
    last_written: str
    why: str = ""
    detached: bool = False
    """ClickHouse detached it when it started: the table is readable, without the rows of this part."""


def damaged(client: Client, table: str, progress: Progress = lambda _, __: None) -> Iterator[Part]:
    """Yield the damaged parts of this table, first those that make queries fail. Changes nothing. Raises Failed."""
    patient = replace(client, timeout_secs=PART_SECS_MAX)
    parts = _active(client, table + VERSIONS)
    for number, part in enumerate(parts):
        progress(number, len(parts))
        if why := _why(patient, part):
            yield replace(part, why=why)
    yield from _detached(client, table + VERSIONS)


def detach(client: Client, part: Part) -> bool:
    """Detach the part after the merges under way; False if one of them replaced it. Raises Failed."""
    patient = replace(client, timeout_secs=PART_SECS_MAX)
    try:
        list(patient.lines(f"ALTER TABLE {quoted(part.table)} DETACH PART '{part.name}'", output="JSONEachRow"))
    except QueryRefused as error:
        if error.code != _GONE:
            raise
        return False
    return True


def forget_inserts(client: Client, table: str) -> None:
    """Delete the deduplication tokens of a table, so that it accepts a batch that it had before. Raises Failed.

    ClickHouse deletes the tokens of a part that is detached by a query, and keeps those of a part that it detached at its
    start: it would drop the rows of a repeated batch and report success.
    """
    for window in (0, DEDUPLICATION_WINDOW):
        setting = f"MODIFY SETTING non_replicated_deduplication_window = {window}"
        list(client.lines(f"ALTER TABLE {quoted(table + VERSIONS)} {setting}", output="JSONEachRow"))


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
    """Return the error of reading this part, "" if there is none. Verifies the checksums of its files, then reads all."""
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


def _detached(client: Client, table: str) -> Iterator[Part]:
    rows = client.rows(
        "SELECT name, reason, modification_time FROM system.detached_parts "
        "WHERE database = {database:String} AND table = {table:String} AND reason LIKE 'broken%' ORDER BY name",
        {"database": client.database, "table": table},
    )
    for row in rows:
        yield Part(table, row["name"], None, "", row["modification_time"] or "", row["reason"], detached=True)
