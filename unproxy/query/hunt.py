"""A hunt in KQL: parameters in, rows out. The command line and other callers share these functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hunting import catalog
from hunting.kql.errors import KqlError
from hunting.kql.protocols import Table
from hunting.kql.translation import Result, translate
from hunting.kql.types import Type
from unproxy.errors import Failed, Fixable
from unproxy.query.client import JSON_SETTINGS, READ_ONLY, Client, QueryRefused

EXTERNAL_BYTES_MAX = 64 * 1024 * 1024
"""Largest file that stands in for an address of externaldata."""
ANSWER_SECS = 10.0
"""Time after a hunt's limit in which the server must report that it ended the hunt."""
TIMEOUT_EXCEEDED = 159
MEMORY_LIMIT_EXCEEDED = 241
"""Error codes of ClickHouse."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one hunt: time, rows of the result, memory."""

    secs: int = 60
    rows: int = 100_000
    """Rows of the result; 0 for all of them."""
    memory_mb: int = 4_000

    def settings(self) -> dict[str, str]:
        """Return ClickHouse settings for these limits, and those that make a hunt read-only."""
        found = {
            **READ_ONLY,
            "max_execution_time": str(self.secs),
            "max_memory_usage": str(self.memory_mb * 1_000_000),
            # As in the reader's profile (deploy/clickhouse/users.xml), which allows no other.
            "max_query_size": "1048576",
            "max_ast_elements": "500000",
            "max_expanded_ast_elements": "5000000",
            "join_use_nulls": "0",
            "max_subquery_depth": "1000",
            "date_time_output_format": "iso",
        }
        if self.rows:
            found["limit"] = str(self.rows + 1)
        return found


@dataclass(frozen=True, slots=True)
class Hunt:
    """A query with its parameters. `files` stand in for addresses of externaldata."""

    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    limits: Limits = Limits()

    def translated(self, tables: Mapping[str, Table], ask: Callable[[str], Any] | None = None) -> Result:
        """Return the hunt in SQL. Raises Fixable with the place of the mistake."""
        try:
            return translate(self.text, tables, parameters=self.parameters, external=self._content, ask=ask)
        except KqlError as error:
            raise Fixable(error.shown(self.text)) from None

    def _content(self, address: str) -> str:
        path = self.files.get(address)
        if path is None:
            raise Fixable(f"externaldata is not fetched; save {address} and name the file: --external '{address}=FILE'")
        try:
            with path.open("rb") as opened:
                content = opened.read(EXTERNAL_BYTES_MAX + 1)  # The size of a pipe or device is not known before.
        except OSError as error:
            raise Fixable(f"{path}: {error.strerror}; name a file that can be read") from None
        if len(content) > EXTERNAL_BYTES_MAX:
            raise Fixable(f"{path}: larger than {EXTERNAL_BYTES_MAX // 1_000_000} MB; name a smaller file")
        return content.decode("utf-8", errors="replace")


def tables_of(client: Client) -> dict[str, Table]:
    """Return the tables of the client's database."""
    return catalog.of_server(client.rows(catalog.COLUMNS_QUERY, {"database": client.database}), client.database)


def prepared(client: Client, hunt: Hunt) -> Result:
    """Return the hunt in SQL for this server. Raises Fixable, or Failed if the server refuses to describe the rows."""

    def ask(sql: str) -> Sequence[tuple[str, Sequence[str]]]:
        lines = _lines(client, sql, hunt.limits)
        return [(str(name), kinds) for name, kinds in map(json.loads, lines)]

    return hunt.translated(tables_of(client), ask)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a hunt."""

    names: list[str]
    rows: list[list[object]]
    more: bool
    """Whether the result has more rows than the limit."""
    secs: float
    rows_read: int
    bytes_read: int


def answered(client: Client, result: Result, limits: Limits) -> Answer:
    """Return the rows of a translated hunt, with what it cost. Raises Failed."""
    body = b"".join(chunks(client, result.sql, limits, "JSONCompact", JSON_SETTINGS))
    found = json.loads(body)
    rows = [_readable(result, row) for row in found["data"]]
    more = bool(limits.rows) and len(rows) > limits.rows
    costs = found.get("statistics", {})
    names = [column.name for column in result.columns]
    return Answer(
        names, rows[: limits.rows] if more else rows, more, float(costs.get("elapsed", 0)), int(costs.get("rows_read", 0)),
        int(costs.get("bytes_read", 0)),
    )  # fmt: skip


def records(client: Client, result: Result, limits: Limits) -> Iterator[dict[str, object]]:
    """Yield the rows of a translated hunt as they arrive; dynamic values are what their JSON is.

    One row more than the limit is yielded if there are more. Raises Failed.
    """
    names = [column.name for column in result.columns]
    for line in _lines(client, result.sql, limits):
        yield dict(zip(names, _readable(result, json.loads(line)), strict=True))


def has_more(client: Client, result: Result, limits: Limits) -> bool:
    """Return whether the result has more rows than the limit, for formats whose rows are not counted here."""
    if not limits.rows:
        return False
    sql = f"SELECT count() FROM (SELECT 1 FROM ({result.sql}) LIMIT {limits.rows + 1})"
    (line,) = _lines(client, sql, limits)
    return int(json.loads(line)[0]) > limits.rows


def chunks(
    client: Client, sql: str, limits: Limits, output: str, settings: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """Yield a hunt's answer in one of ClickHouse's formats. Raises Failed, which names the limit that was reached."""
    with _limited(limits):
        yield from _patient(client, limits).chunks(
            sql, output=output, settings={**limits.settings(), **(settings or {})}
        )


def _lines(client: Client, sql: str, limits: Limits) -> Iterator[bytes]:
    with _limited(limits):
        settings = {**limits.settings(), **JSON_SETTINGS}
        yield from _patient(client, limits).lines(sql, output="JSONCompactEachRow", settings=settings)


def _patient(client: Client, limits: Limits) -> Client:
    """Return a client that waits for the end of a hunt: the server sends nothing before."""
    return replace(client, timeout_secs=max(client.timeout_secs, limits.secs + ANSWER_SECS))


@contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    try:
        yield
    except QueryRefused as error:
        if error.code == TIMEOUT_EXCEEDED:
            raise Failed(
                f"the hunt took more than {limits.secs} s; narrow its time range, or allow more with --timeout SECS"
            ) from None
        if error.code == MEMORY_LIMIT_EXCEEDED:
            raise Failed(
                f"the hunt needs more than {limits.memory_mb} MB of memory; narrow its time range, summarize by fewer columns,"
                " or allow more with --memory MB"
            ) from None
        raise


def _readable(result: Result, row: Sequence[object]) -> list[object]:
    return [
        _loaded(cell) if column.type is Type.DYNAMIC else cell for column, cell in zip(result.columns, row, strict=True)
    ]


def _loaded(cell: object) -> object:
    if not isinstance(cell, str) or not cell:
        return None
    try:
        return json.loads(cell)
    except ValueError:
        return cell
