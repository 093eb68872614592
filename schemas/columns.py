"""Annotations of the fields of contracts, and what is generated from them: table columns, JSON Schemas, model fields.

A contract is a msgspec struct (`schemas.tables`, `schemas.indicators`, `schemas.suppressions`). The annotation of a field states
its meaning and unit, and in a row class also the ClickHouse type of its column. If the field's type allows None, the column is
Nullable.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
from msgspec import Meta


def text(about: str) -> Meta:
    """Return the annotation of a string or of a closed set of strings; its column is never null. `about` describes the field."""
    return number(about, "String")


def texts(about: str) -> Meta:
    """Return the annotation of a list of strings; its column is never null. `about` describes the field."""
    return number(about, "Array(String)")


def number(about: str, clickhouse: str) -> Meta:
    """Return the annotation of a number, or of any field with this ClickHouse type. `about` describes the field."""
    return Meta(description=about, extra={"clickhouse": clickhouse})


def utc_time(about: str, *, merged: str = "") -> Meta:
    """Return the annotation of a time as ISO 8601 text (UTC, microseconds). `about` describes the field.

    With `merged` (`min` or `max`) the table keeps the smallest or largest time of all rows with the same key.
    """
    kind = "DateTime64(6, 'UTC')"
    return Meta(
        description=f"{about} (UTC, microseconds)",
        extra_json_schema={"format": "date-time"},
        extra={"clickhouse": f"SimpleAggregateFunction({merged}, {kind})" if merged else kind},
    )


def micros(about: str) -> Meta:
    """Return the annotation of a time as an integer: microseconds since 1970, UTC. Rows of tables use `utc_time` instead."""
    return Meta(description=f"{about} (microseconds since 1970, UTC)", extra={"micros": True})


class Field(msgspec.Struct, frozen=True):
    """One field of a contract, as its struct declares it."""

    name: str
    kind: Any
    """The field's type without its annotation, as a type of `msgspec.inspect`."""
    about: str
    extra: dict[str, Any]
    """Further annotations: `clickhouse` is the column's type, `micros` marks a time that is an integer."""
    is_time: bool
    required: bool
    """Whether every row has the field: it has no default."""
    default: Any

    @property
    def nullable(self) -> bool:
        """Whether the field's type allows None."""
        return isinstance(self.kind, msgspec.inspect.UnionType) and self.kind.includes_none

    @property
    def clickhouse(self) -> str:
        """The ClickHouse type of the field's column."""
        kind: str = self.extra["clickhouse"]
        return f"Nullable({kind})" if self.nullable else kind


def columns(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return all fields of a contract in order; the fields of a row class are its table's columns."""
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
