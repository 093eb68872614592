"""`make-series`. Source: learn.microsoft.com/kusto/query/make-series-operator.

The axis goes from `from` to `to` (excluded) in steps; points without rows have the aggregate's default (0 unless given).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError
from hunting.kql.scalar.aggregates import Aggregates
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scalar.dynamics import array
from hunting.kql.scope import Column, Relation, Scope
from hunting.kql.types import NUMBERS, Type
from hunting.kql.values import EPOCH_TICKS, Value, as_column, identifier, to_dynamic

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation

POINTS_MAX = 1_048_576


def make_series(translation: Translation, node: s.MakeSeries, relation: Relation, scope: Scope) -> Relation:
    """Return arrays of aggregates over an axis. Raises KqlError."""
    scalars = Scalars(translation, scope.over(relation))
    axis_name, axis = scalars.named(node.axis)
    step = scalars.bind(node.step)
    if axis.type not in (Type.DATETIME, Type.TIMESPAN, *NUMBERS):
        raise KqlError(f"expected a number, datetime or timespan, found a {axis.type}", node.axis.value.span)
    axis_name = axis_name or "Column1"
    outer = Scalars(translation, scope.without_columns())
    size = f"intDiv({step.sql}, 10)" if axis.type is Type.DATETIME else step.sql
    first = _plain(outer.bind(node.first)) if node.first is not None else _first_bin(axis, relation, size)
    last = _plain(outer.bind(node.last)) if node.last is not None else _end(axis, relation, first, size)
    keys = [scalars.named(item) for item in node.by]
    number = f"toInt64(floor(({_plain(axis)} - {first}) / {size}))"
    count = f"toUInt64(least(greatest(ceil(({last} - {first}) / {size}), 0), {POINTS_MAX}))"
    cells = [f"{as_column(value)} AS {identifier(name)}" for name, value in keys]
    pairs: list[tuple[str, Value, str]] = []
    for item, default in node.aggregates:
        value = Scalars(translation, scalars.scope, Aggregates()).bind(item.value)
        name = item.names[0] if item.names else value.name or f"Column{len(pairs) + 1}"
        json = to_dynamic(outer.bind(default)).sql if default is not None else "'0'"
        pairs.append((name, value, json))
        cells.append(f"{to_dynamic(value).sql} AS {identifier(name)}")
    by = ", ".join([*(as_column(value) for _, value in keys), number])
    columns = [Column(name, Type.DYNAMIC, False) for name, _, _ in pairs]
    key_columns = [Column(name, value.type, value.nullable) for name, value in keys]
    condition = f"{_plain(axis)} >= {first} AND {_plain(axis)} < {last}"
    body = f"SELECT {', '.join([*cells, f'{number} AS __point'])} FROM {relation.source} AS t WHERE {condition} GROUP BY {by}"
    grouped = translation.cte(body, Relation("", (*key_columns, *columns), weight=relation.weight), node.span)
    shown = [column.value().sql for column in key_columns]
    for name, _, json in pairs:
        points = f"CAST((groupArray(t.__point), groupArray(t.{identifier(name)})), 'Map(Int64, String)')"
        values = f"arrayMap(i -> if(mapContains(m, toInt64(i)), m[toInt64(i)], {json}), range({count}))"
        shown.append(f"arrayElement(arrayMap(m -> {array(values)}, [{points}]), 1) AS {identifier(name)}")
    axis_values = f"arrayMap(i -> {_point(axis, first, size)}, range({count}))"
    shown.insert(len(key_columns) + len(pairs), f"{array(axis_values)} AS {identifier(axis_name)}")
    group = f" GROUP BY {', '.join(column.value().sql for column in key_columns)}" if key_columns else ""
    if not key_columns and not node.nonempty:
        group = " HAVING count() > 0"
    result = Relation("", (*key_columns, *columns, Column(axis_name, Type.DYNAMIC, False)), weight=relation.weight)
    return translation.cte(f"SELECT {', '.join(shown)} FROM {grouped.source} AS t{group}", result, node.span)


def _plain(value: Value) -> str:
    """Return a value of the axis as a number: microseconds of a datetime."""
    return f"toUnixTimestamp64Micro({value.sql})" if value.type is Type.DATETIME else value.sql


def _first_bin(axis: Value, relation: Relation, size: str) -> str:
    """Return the start of the bin of the smallest value; bins of times count from the year 1, as those of `bin`."""
    origin = EPOCH_TICKS // 10 if axis.type is Type.DATETIME else 0
    bin_ = f"floor((min({_plain(axis)}) + {origin}) / {size}) * {size} - {origin}"
    if axis.type in (Type.DATETIME, Type.TIMESPAN, Type.INT, Type.LONG):
        bin_ = f"min({_plain(axis)}) - positiveModulo(min({_plain(axis)}) + {origin}, {size})"
    return f"(SELECT {bin_} FROM {relation.source} AS t)"


def _end(axis: Value, relation: Relation, first: str, size: str) -> str:
    """Return the end of the bin of the largest value."""
    return f"({first} + (floor(((SELECT max({_plain(axis)}) FROM {relation.source} AS t) - {first}) / {size}) + 1) * {size})"


def _point(axis: Value, first: str, size: str) -> str:
    if axis.type is Type.DATETIME:
        at = f"fromUnixTimestamp64Micro(toInt64({first} + i * {size}), 'UTC')"
        return to_dynamic(Value(at, Type.DATETIME, False)).sql
    cell = Value(
        f"toInt64({first} + i * {size})" if axis.type is not Type.REAL else f"({first} + i * {size})", axis.type, False
    )
    return to_dynamic(cell).sql
