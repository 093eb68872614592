"""Runs KQL for tests: translates a query and runs its SQL on one ClickHouse engine inside the process of the tests.

rows     The rows of a query as Python values: `rows("print 1 + 1") == [[2]]`.
value    The only cell of a query with one row and one column.
refused  The message of a query that is refused, with the text that the error marks.

Queries bring their rows with `print` or `datatable`. A `datetime` is its text in ISO 8601 with microseconds, a `timespan` its
text as `tostring` gives it, a `dynamic` value what its JSON is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import chdb

from hunting.kql.errors import KqlError
from hunting.kql.protocols import Table
from hunting.kql.translation import translate
from hunting.kql.types import Type

NOW = 1_700_000_000_000_000
"""What `now()` is in these queries: 2023-11-14T22:13:20Z, in microseconds since 1970."""
_SETTINGS = {
    "join_use_nulls": "0",
    "date_time_output_format": "'iso'",
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_denormals": "1",
    "max_subquery_depth": "1000",
}


def rows(query: str, tables: Mapping[str, Table] | None = None, **options: Any) -> list[list[Any]]:
    """Return the rows of a query; `options` are those of `translate`. Raises KqlError."""
    result = translate(query, tables or {}, **{"now": NOW, **options})
    found = [json.loads(line) for line in run(result.sql).splitlines()]
    dynamic = [column.type is Type.DYNAMIC for column in result.columns]
    return [[_loaded(cell) if loads else cell for cell, loads in zip(row, dynamic, strict=True)] for row in found]


def value(query: str, tables: Mapping[str, Table] | None = None, **options: Any) -> Any:
    """Return the only cell of a query. Raises KqlError."""
    ((cell,),) = rows(query, tables, **options)
    return cell


def refused(query: str, tables: Mapping[str, Table] | None = None) -> tuple[str, str]:
    """Return message and marked text of a query that is refused. Raises AssertionError for one that is translated."""
    try:
        result = translate(query, tables or {}, now=NOW)
    except KqlError as error:
        return error.message, query[error.span.start : error.span.end]
    raise AssertionError(result.sql)


def run(sql: str) -> str:
    """Run SQL on the engine and return its rows as lines of JSON arrays."""
    return str(_engine().query(sql, "JSONCompactEachRow").bytes().decode())


@cache
def _engine() -> Any:
    connection = chdb.connect(":memory:")
    for name, written in _SETTINGS.items():
        connection.query(f"SET {name} = {written}")
    return connection


def _loaded(cell: str) -> Any:
    """Return a dynamic value; a null one is an empty text in the database."""
    return json.loads(cell) if cell else None
