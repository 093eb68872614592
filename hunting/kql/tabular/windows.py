"""Functions of neighbouring rows inside each other, and those that start again: each becomes a column of a CTE before.

ClickHouse computes no window function of a window function. What `row_cumsum(x, y != prev(y))` needs is therefore computed
first: the number of the row, whether the sum starts again at it, and how often it did so before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar import windows
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Order, Relation, Scope
from hunting.kql.types import Type
from hunting.kql.values import Value, as_column, identifier

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation

STAGES_MAX = 200
"""Most columns that one operator may need before its own; each is a CTE, and names all columns before it."""


def staged(
    translation: Translation, parts: Any, relation: Relation, scope: Scope, span: Span
) -> tuple[Any, Relation, Scope]:
    """Return expressions without window functions inside others, the rows with the columns for it, and their scope.

    `parts` is an expression or a tuple of expressions with names.
    """
    inside = _staged_call(parts)
    if inside is None:
        return parts, relation, scope.over(relation)
    windows.order_of(Scalars(translation, scope.over(relation)), inside)
    stages = _Stages(translation, relation, scope, span)
    return stages.without(parts), stages.relation, stages.scope


def _staged_call(part: Any, inside: bool = False) -> s.Call | None:
    """Return a window function that is inside another one, or starts again; None where there is none."""
    window = part if isinstance(part, s.Call) and part.function in windows.NAMES else None
    if window and (inside or _starts_again(window)):
        return window
    found = (_staged_call(child, inside or window is not None) for child in _children(part))
    return next((call for call in found if call is not None), None)


def _starts_again(node: s.Call) -> bool:
    if node.function in windows.RANKS or node.function == windows.SESSION:
        return True
    return len(node.arguments) > windows.RESTARTS.get(node.function, len(node.arguments))


def _children(part: Any) -> Sequence[Any]:
    if isinstance(part, tuple):
        return part
    if not is_dataclass(part) or isinstance(part, s.SubQuery):
        return []
    return [getattr(part, field.name) for field in fields(part)]


class _Stages:
    """The rows with a column for each window function that another one needs. Their order becomes that of a number."""

    def __init__(self, translation: Translation, relation: Relation, scope: Scope, span: Span) -> None:
        self._translation = translation
        self._span = span
        self._added_count = 0
        self.relation = relation
        self.scope = scope.over(relation)
        number = self._column(f"toInt64(row_number() OVER ({windows.order_of_rows(relation)}))", Type.LONG, hidden=True)
        self.relation = replace(self.relation, order=(Order(number.text, descending=False, nulls_first=False),))
        self.scope = replace(self.scope, relation=self.relation)

    def without(self, part: Any, *, inside: bool = False) -> Any:
        """Return an expression in which names stand for the window functions that have to be computed before."""
        if isinstance(part, tuple):
            return tuple(self.without(child, inside=inside) for child in part)
        if not _children(part):
            return part
        is_window = isinstance(part, s.Call) and part.function in windows.NAMES
        changed = {f.name: self.without(getattr(part, f.name), inside=inside or is_window) for f in fields(part)}
        node = replace(part, **changed)
        if not is_window:
            return node
        found = self._prepared(node) if _starts_again(node) else node
        if not inside or isinstance(found, s.Name):
            return found
        value = self._scalars().bind(found)
        return self._column(as_column(value), value.type, nullable=value.nullable)

    def _prepared(self, node: s.Call) -> s.Expression:
        """Return a function with columns as arguments: the group in which a row is, and for a rank its run."""
        place = windows.RESTARTS[node.function]
        restarts = ""
        if len(node.arguments) > place:
            restart = self._scalars().predicate(node.arguments[place].value)
            restarts = f"ifNull({restart.sql}, false)" if restart.nullable else restart.sql
        if node.function == windows.SESSION:
            return self._session(node, restarts)
        kept = node.arguments[:place]
        if node.function in windows.RANKS:
            value = self._scalars().bind(node.arguments[0].value)
            before = windows.neighbour(value, self.relation)
            kept = (s.Argument(self._count_of(_or(restarts, _differ(value, before)))),)
        group = (s.Argument(self._count_of(restarts)),) if restarts else ()
        return replace(node, arguments=(*kept, *group))

    def _session(self, node: s.Call, restarts: str) -> s.Name:
        """Return the column of row_window_session.

        Rows that are far from the row before begin a run. The sessions of a run follow from each other: a fold over its rows
        finds their first rows.
        """
        if not 3 <= len(node.arguments) <= 4:
            raise KqlError(f"`{node.function}` takes a datetime and two timespans", node.span)
        time, whole, gap = (self._scalars().bind(argument.value) for argument in node.arguments[:3])
        if (time.type, whole.type, gap.type) != (Type.DATETIME, Type.TIMESPAN, Type.TIMESPAN):
            raise KqlError(f"`{node.function}` takes a datetime and two timespans", node.span)
        column = self._column(as_column(time), Type.DATETIME, nullable=time.nullable)
        time = self._scalars().bind(column)
        before = windows.neighbour(time, self.relation)
        far = f"ifNull(dateDiff('microsecond', {before}, {time.sql}) >= intDiv({gap.sql}, 10), true)"
        column = self._count_of(_or(restarts, far))
        run = self._scalars().bind(column)
        number = self.relation.order[0].column
        carried = [*self.scope.columns.values(), *(column.value() for column in self.relation.hidden)]
        rows = f"arraySort(r -> r.1, groupArray(tuple(t.{number}, {', '.join(v.sql for v in [time, *carried])})))"
        by = ", ".join([*(f"t.{identifier(name)}" for name in self.relation.partition), run.sql])
        grouped = self._translation.cte(
            f"SELECT {rows} AS __rows FROM {self.relation.source} AS t GROUP BY {by}", self.relation, self._span
        )
        is_first = (
            f"isNull(t.__rows[s[-1]].2) OR dateDiff('microsecond', t.__rows[s[-1]].2, r.2) >= intDiv({whole.sql}, 10)"
        )
        starts = f"arrayFold((s, r, i) -> if(empty(s) OR {is_first}, arrayPushBack(s, i), s), t.__rows,"
        starts += " arrayEnumerate(t.__rows), CAST([], 'Array(UInt32)'))"
        pairs = "arrayMap((r, i) -> (r, t.__rows[arrayLast(p -> p <= i, s)].2), t.__rows, arrayEnumerate(t.__rows))"
        body = (
            f"SELECT arrayJoin(arrayElement(arrayMap(s -> {pairs}, [{starts}]), 1)) AS __row FROM {grouped.source} AS t"
        )
        joined = self._translation.cte(body, self.relation, self._span)
        cells = [f"t.__row.1.{place} AS {identifier(value.name)}" for place, value in enumerate(carried, 3)]
        body = f"SELECT {', '.join(cells)}, t.__row.2 AS {self._free()} FROM {joined.source} AS t"
        return self._added(body, Column(self._free(), Type.DATETIME))

    def _count_of(self, condition: str) -> s.Name:
        """Return a column with the number of rows so far for which a condition holds."""
        flag = self._column(f"toBool({condition})", Type.BOOL)
        order = windows.order_of_rows(self.relation)
        return self._column(f"toInt64(countIf(t.{flag.text}) OVER ({order} {windows.UP_TO_ROW}))", Type.LONG)

    def _column(self, sql: str, type_: Type, *, nullable: bool = False, hidden: bool = False) -> s.Name:
        """Add a column in a CTE of its own and return its name."""
        name = self._free()
        body = f"SELECT t.*, {sql} AS {name} FROM {self.relation.source} AS t"
        return self._added(body, Column(name, type_, nullable), hidden=hidden)

    def _added(self, body: str, column: Column, *, hidden: bool = False) -> s.Name:
        self._added_count += 1
        if self._added_count > STAGES_MAX:
            raise KqlError(
                "too many functions of neighbouring rows inside each other; write several operators", self._span
            )
        relation = replace(self.relation, hidden=(*self.relation.hidden, column)) if hidden else self.relation
        self.relation = self._translation.cte(body, relation, self._span)
        self.scope = replace(self.scope, relation=self.relation)
        if not hidden:
            self.scope = replace(self.scope, columns={**self.scope.columns, column.name: column.value()})
        return s.Name(column.name, span=self._span)

    def _free(self) -> str:
        """Return the name of the next column: the CTE that it is computed from is no other one's."""
        return f"__{''.join(c for c in self.relation.source if c.isalnum())}"

    def _scalars(self) -> Scalars:
        return Scalars(self._translation, self.scope)


def _or(*conditions: str) -> str:
    return " OR ".join(f"({condition})" for condition in conditions if condition)


def _differ(value: Value, other: str) -> str:
    """Return whether a value differs from another one that is null where there is none."""
    if not value.nullable and value.type in (Type.STRING, Type.GUID, Type.DYNAMIC):
        return f"{value.sql} != {other}"
    return f"isNull({value.sql}) != isNull({other}) OR ifNull({value.sql} != {other}, false)"
