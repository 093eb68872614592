"""Annotations of contract fields, and what is derived from them: columns of a table, JSON Schema, fields of a model.

A contract is a msgspec struct (`schemas.tables`, `schemas.indicators`, `schemas.suppressions`). Each field is annotated with its
meaning, its unit and, in a row, its type in ClickHouse. A field whose type allows None is Nullable there.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
from msgspec import Meta


def text(about: str) -> Meta:
    """Declare a string or a closed set of strings; never null."""
    return number(about, "String")


def texts(about: str) -> Meta:
    """Declare a list of strings; never null."""
    return number(about, "Array(String)")


def number(about: str, clickhouse: str) -> Meta:
    """Declare a number, or a column with another type of ClickHouse's."""
    return Meta(description=about, extra={"clickhouse": clickhouse})


def utc_time(about: str, *, merged: str = "") -> Meta:
    """Declare a time, as ISO 8601 text; with `merged` (`min` or `max`) the table keeps the extreme of all rows of a key."""
    kind = "DateTime64(6, 'UTC')"
    return Meta(
        description=f"{about} (UTC, microseconds)",
        extra_json_schema={"format": "date-time"},
        extra={"clickhouse": f"SimpleAggregateFunction({merged}, {kind})" if merged else kind},
    )


def micros(about: str) -> Meta:
    """Declare a time, as an integer; not for rows."""
    return Meta(description=f"{about} (microseconds since 1970, UTC)", extra={"micros": True})


class Field(msgspec.Struct, frozen=True):
    """One field of a contract, as its struct declares it."""

    name: str
    kind: Any
    """A type of `msgspec.inspect`."""
    about: str
    extra: dict[str, Any]
    """The keys are `clickhouse` (a type there) and `micros`."""
    is_time: bool
    required: bool
    """It is on every row."""
    default: Any

    @property
    def nullable(self) -> bool:
        """The type allows None."""
        return isinstance(self.kind, msgspec.inspect.UnionType) and self.kind.includes_none

    @property
    def clickhouse(self) -> str:
        """The type of its column."""
        kind: str = self.extra["clickhouse"]
        return f"Nullable({kind})" if self.nullable else kind


def columns(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return all fields of a contract, in order: of a row class its columns."""
    found = []
    for field in msgspec.inspect.type_info(struct).fields:  # type: ignore[attr-defined]  # a struct's info has fields
        annotated: Any = field.type
        schema, default = annotated.extra_json_schema, field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found.append(
            Field(
                field.name,
                annotated.type,
                schema["description"],
                annotated.extra,
                schema.get("format") == "date-time",
                field.required,
                default,
            )
        )
    return tuple(found)


def json_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a contract."""
    schema = msgspec.json.schema(struct)
    for part in schema["$defs"].values():
        part["description"] = inspect.cleandoc(part["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
