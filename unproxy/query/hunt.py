"""A hunt in KQL: parameters in, rows out. The command line and other callers share these functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunting import catalog
from hunting.kql.errors import KqlError
from hunting.kql.translation import Result, Table, translate
from hunting.kql.types import Type
from unproxy.errors import Fixable
from unproxy.query.answer import READ_ONLY
from unproxy.query.client import JSON_SETTINGS, Client

EXTERNAL_BYTES_MAX = 64 * 1024 * 1024
"""Largest file that stands in for an address of externaldata."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one hunt may cost."""

    secs: int = 120
    rows: int = 100_000
    """Rows of the result; 0 for all of them."""
    memory_mb: int = 4_096

    def settings(self) -> dict[str, str]:
        """Return them as ClickHouse's settings, with those that make a hunt read only."""
        found = {
            **READ_ONLY,
            "max_execution_time": str(self.secs),
            "max_memory_usage": str(self.memory_mb * 1_000_000),
            "max_ast_elements": "500000",
            "max_expanded_ast_elements": "5000000",
            "max_query_size": "4000000",
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
            if path.stat().st_size > EXTERNAL_BYTES_MAX:
                raise Fixable(f"{path}: larger than {EXTERNAL_BYTES_MAX // 1_000_000} MB")
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise Fixable(f"{path}: {error.strerror}; name a file that can be read") from None


def tables_of(client: Client) -> dict[str, Table]:
    """Return the tables of the client's database."""
    return catalog.of_server(client.rows(catalog.COLUMNS_QUERY, {"database": client.database}), client.database)


def prepared(client: Client, hunt: Hunt) -> Result:
    """Return the hunt in SQL for this server."""

    def ask(sql: str) -> Sequence[tuple[str, Sequence[str]]]:
        lines = client.lines(sql, output="JSONCompactEachRow", settings={**JSON_SETTINGS, **hunt.limits.settings()})
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
    """Return the rows of a translated hunt, with what it cost."""
    settings = {**JSON_SETTINGS, **limits.settings()}
    body = b"".join(client.chunks(result.sql, output="JSONCompact", settings=settings))
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
    """Yield the rows of a translated hunt as they arrive; dynamic values are what their JSON is."""
    settings = {**JSON_SETTINGS, **limits.settings()}
    for number, line in enumerate(client.lines(result.sql, output="JSONCompactEachRow", settings=settings)):
        if limits.rows and number >= limits.rows:
            return
        row = _readable(result, json.loads(line))
        yield dict(zip((column.name for column in result.columns), row, strict=True))


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
