"""The scalar types of KQL and how ClickHouse stores them.

| KQL | ClickHouse | why |
|---|---|---|
| `string`, `guid` | `String` | KQL's strings are never null |
| `dynamic` | `String` with JSON; "" is null | property access needs no schema |
| `timespan` | `Nullable(Int64)`, ticks of 100 ns | exact arithmetic |
| `datetime` | `Nullable(DateTime64(6, 'UTC'))` | the tables' own precision; KQL's 100 ns are cut |
| `bool`, `int`, `long`, `real`, `decimal` | `Nullable(...)` | |

Source: learn.microsoft.com/kusto/query/scalar-data-types and its pages.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache


class Type(StrEnum):
    """A scalar type."""

    BOOL = "bool"
    INT = "int"
    LONG = "long"
    REAL = "real"
    DECIMAL = "decimal"
    STRING = "string"
    DATETIME = "datetime"
    TIMESPAN = "timespan"
    DYNAMIC = "dynamic"
    GUID = "guid"


NUMBERS = (Type.INT, Type.LONG, Type.REAL, Type.DECIMAL)
"""Numeric types, each converts to the next one."""
TEXTS = (Type.STRING, Type.GUID)
NEVER_NULL = (Type.STRING, Type.GUID, Type.DYNAMIC)
"""Types without SQL NULL: a null dynamic is an empty text."""

ALIASES = {
    "boolean": Type.BOOL, "int32": Type.INT, "int64": Type.LONG, "double": Type.REAL, "date": Type.DATETIME,
    "time": Type.TIMESPAN, "uuid": Type.GUID, "uniqueid": Type.GUID, "float": Type.REAL, "uint": Type.INT, "ulong": Type.LONG,
}  # fmt: skip

CLICKHOUSE = {
    Type.BOOL: "Bool",
    Type.INT: "Int32",
    Type.LONG: "Int64",
    Type.REAL: "Float64",
    Type.DECIMAL: "Decimal(38, 12)",
    Type.STRING: "String",
    Type.DATETIME: "DateTime64(6, 'UTC')",
    Type.TIMESPAN: "Int64",
    Type.DYNAMIC: "String",
    Type.GUID: "String",
}
"""The ClickHouse type of a value that is not null."""

_INTEGERS = re.compile(r"U?Int(8|16|32|64)")


def stored(type_: Type) -> str:
    """Return the ClickHouse type of a column of this type."""
    return CLICKHOUSE[type_] if type_ in NEVER_NULL else f"Nullable({CLICKHOUSE[type_]})"


def named(name: str) -> Type | None:
    """Return the type of this name, None if there is none."""
    try:
        return ALIASES.get(name) or Type(name)
    except ValueError:
        return None


@lru_cache(maxsize=1_000)
def of_clickhouse(written: str) -> tuple[Type, bool, bool]:
    """Return the KQL type of a ClickHouse type, whether it has nulls, and whether its values need a conversion first."""
    plain, nullable = _unwrapped(written)
    if plain == "String":
        return Type.STRING, False, nullable
    if plain == "Bool":
        return Type.BOOL, nullable, False
    if integer := _INTEGERS.fullmatch(plain):
        small = integer[1] in ("8", "16") or plain == "Int32"
        return (Type.INT if small else Type.LONG), nullable, plain == "UInt64"
    if plain.startswith("Float"):
        return Type.REAL, nullable, plain != "Float64"
    if plain.startswith("Decimal"):
        return Type.DECIMAL, nullable, plain != CLICKHOUSE[Type.DECIMAL]
    if plain.startswith("Date"):
        return Type.DATETIME, nullable, plain != CLICKHOUSE[Type.DATETIME]
    if plain.startswith(("Array", "Map", "Tuple", "JSON", "Dynamic", "Variant", "Nested")):
        return Type.DYNAMIC, False, True
    return Type.STRING, False, True


def _unwrapped(written: str) -> tuple[str, bool]:
    """Return the type inside wrappers that do not change how a value reads, and whether it has nulls."""
    nullable = False
    while match := re.fullmatch(r"(LowCardinality|Nullable|SimpleAggregateFunction)\((?:\w+, )?(.*)\)", written):
        nullable = nullable or match[1] == "Nullable"
        written = match[2]
    return written, nullable
