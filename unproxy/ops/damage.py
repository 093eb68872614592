"""Finds the damaged parts of a table and detaches them.

If the disk fills up while ClickHouse writes, a part may have a missing or incomplete file. Queries of the table then
fail. A detached part is not read. It stays in the table's folder `detached`; nothing is deleted.
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
"""Longest time, in seconds, to read one part; a merged part has up to 150 GB."""

_CHECK_SETTINGS = {"check_query_single_value_result": "0", "wait_end_of_query": "1"}
_GONE = 232
"""NO_SUCH_DATA_PART: the part was merged meanwhile, so it was readable."""

Progress = Callable[[int, int], None]
"""Called for each part with the number of parts checked and of all parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table of versions that cannot be read."""

    table: str
    """Name of the table of versions."""
    name: str
    rows: int | None
    """Number of rows; None if unknown."""
    first_written: str
    """Time of the first insert of its rows; "" if unknown."""
    last_written: str
    why: str = ""
    detached: bool = False
    """Whether ClickHouse detached the part when it started; the table is then readable, without the rows of the part."""


def damaged(client: Client, table: str, progress: Progress = lambda _, __: None) -> Iterator[Part]:
    """Yield the damaged parts of this table: first the parts that make queries fail, then those detached already.

    Changes nothing. Raises Failed.
    """
    patient = replace(client, timeout_secs=PART_SECS_MAX)
    parts = _active(client, table + VERSIONS)
    for number, part in enumerate(parts):
        progress(number, len(parts))
        if why := _why(patient, part):
            yield replace(part, why=why)
    yield from _detached(client, table + VERSIONS)


def detach(client: Client, part: Part) -> bool:
    """Detach the part once the merges under way have ended; return False if one of them replaced it. Raises Failed."""
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

    ClickHouse deletes the tokens of a part that is detached by a query. It keeps the tokens of a part that it detached
    when it started: it would drop the rows of a repeated batch and report success.
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
    """Verify the checksums of a part's files, then read all of it; return the error, "" if there is none."""
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
