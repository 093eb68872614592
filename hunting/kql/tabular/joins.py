"""`join` and `lookup`. Source: learn.microsoft.com/kusto/query/join-operator and .../lookup-operator.

| kind | left rows | right rows | columns |
|---|---|---|---|
| `innerunique` (default) | one of each key | all matches | both |
| `inner`, `leftouter`, `rightouter`, `fullouter` | as in SQL | | both |
| `leftsemi`, `leftanti` | with, without a match | | left |
| `rightsemi`, `rightanti` | | with, without a match | right |

A right column whose name the left table has gets the first free number behind its name. Null keys match nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar import comparisons
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Relation, Scope, unused
from hunting.kql.types import NEVER_NULL, Type
from hunting.kql.values import Value, identifier

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation

_SQL = {
    "innerunique": "INNER JOIN", "inner": "INNER JOIN", "leftouter": "LEFT JOIN", "rightouter": "RIGHT JOIN",
    "fullouter": "FULL JOIN",
}  # fmt: skip
_ONE_SIDE = {
    "leftsemi": ("l", "IN"), "leftanti": ("l", "NOT IN"), "anti": ("l", "NOT IN"), "leftantisemi": ("l", "NOT IN"),
    "rightsemi": ("r", "IN"), "rightanti": ("r", "NOT IN"), "rightantisemi": ("r", "NOT IN"),
}  # fmt: skip


def join(translation: Translation, node: s.Join, relation: Relation, scope: Scope) -> Relation:
    """Return the join of two tables. Raises KqlError."""
    right = translation.relation(node.right, scope)
    pairs = _pairs(translation, node.on, relation, right, scope)
    if node.kind in _ONE_SIDE:
        return _one_side(translation, node, relation, right, pairs)
    columns, cells = _columns(node, relation, right, pairs)
    left_source, right_source = relation.source, right.source
    if node.kind == "innerunique":
        keys = ", ".join(left.sql for left, _ in pairs)
        left_source = f"(SELECT * FROM {relation.source} AS l LIMIT 1 BY {keys})"
    if node.kind in ("leftouter", "fullouter"):
        right_source = _with_nulls(right)
    if node.kind in ("rightouter", "fullouter"):
        left_source = _with_nulls(relation)
    on = " AND ".join(f"{left.sql} = {right_.sql}" for left, right_ in pairs)
    body = f"SELECT {', '.join(cells)} FROM {left_source} AS l {_SQL[node.kind]} {right_source} AS r ON {on}"
    found = Relation("", tuple(columns), weight=relation.weight + right.weight)
    return translation.cte(body, found, node.span)


def _pairs(
    translation: Translation, on: Sequence[s.Expression], left: Relation, right: Relation, scope: Scope
) -> list[tuple[Value, Value]]:
    """Return the pairs of columns that have to be equal."""
    scalars = Scalars(translation, scope.joined(left, right))
    found: list[tuple[Value, Value]] = []
    for expression in on:
        joined = isinstance(expression, s.Junction) and expression.operator == "and"
        parts = expression.terms if isinstance(expression, s.Junction) and joined else (expression,)
        found.extend(_pair(scalars, part, left, right) for part in parts)
    return found


def _pair(scalars: Scalars, part: s.Expression, left: Relation, right: Relation) -> tuple[Value, Value]:
    if isinstance(part, s.Name):
        first, second = left.need(part.text, part.span).value("l"), right.need(part.text, part.span).value("r")
    elif isinstance(part, s.Operation) and part.operator == "==":
        sides = (_side(part.left), _side(part.right))
        if sides not in (("$left", "$right"), ("$right", "$left")):
            raise KqlError("expected $left.Column == $right.Column", part.span)
        first, second = scalars.bind(part.left), scalars.bind(part.right)
        if sides[0] == "$right":
            first, second = second, first
    else:
        raise KqlError("expected a column, or $left.Column == $right.Column", part.span)
    return _comparable(first, second, part.span)


def _side(node: s.Expression) -> str:
    return node.base.text if isinstance(node, s.Member) and isinstance(node.base, s.Name) else ""


def _comparable(left: Value, right: Value, span: Span) -> tuple[Value, Value]:
    if Type.DYNAMIC in (left.type, right.type):
        raise KqlError("tables cannot be joined by a dynamic value; convert it, as with tostring( )", span)
    return comparisons.aligned(left, right, span)


def _columns(
    node: s.Join, left: Relation, right: Relation, pairs: Sequence[tuple[Value, Value]]
) -> tuple[list[Column], list[str]]:
    outer_left = node.kind in ("rightouter", "fullouter")
    outer_right = node.kind in ("leftouter", "fullouter")
    columns = [_maybe(column, outer_left) for column in left.columns]
    cells = [f"l.{identifier(column.name)} AS {identifier(column.name)}" for column in left.columns]
    taken = {column.name for column in left.columns}
    keys = {right_.name for _, right_ in pairs} if node.lookup else set()
    for column in right.columns:
        if column.name in keys:
            continue
        name = unused(column.name, taken)
        taken.add(name)
        columns.append(_maybe(Column(name, column.type, column.nullable), outer_right))
        cells.append(f"r.{identifier(column.name)} AS {identifier(name)}")
    return columns, cells


def _maybe(column: Column, outer: bool) -> Column:
    return Column(column.name, column.type, column.nullable or (outer and column.type not in NEVER_NULL))


def _with_nulls(relation: Relation) -> str:
    """Return the source with columns that can be null: ClickHouse fills the others with defaults such as 0."""
    fixed = [column for column in relation.columns if not column.nullable and column.type not in NEVER_NULL]
    if not fixed:
        return relation.source
    replaced = ", ".join(f"toNullable({identifier(column.name)}) AS {identifier(column.name)}" for column in fixed)
    return f"(SELECT * REPLACE ({replaced}) FROM {relation.source})"


def _one_side(
    translation: Translation, node: s.Join, left: Relation, right: Relation, pairs: Sequence[tuple[Value, Value]]
) -> Relation:
    """Return the rows of one table that have a match in the other one, or none."""
    side, test = _ONE_SIDE[node.kind]
    kept, other = (left, right) if side == "l" else (right, left)
    mine = [pair[0 if side == "l" else 1] for pair in pairs]
    theirs = [pair[1 if side == "l" else 0] for pair in pairs]
    alias = "r" if side == "l" else "l"
    keys = ", ".join(value.sql for value in mine)
    wanted = ", ".join(value.sql for value in theirs)
    known = " AND ".join(f"isNotNull({value.sql})" for value in theirs if value.nullable)
    where = f" WHERE {known}" if known else ""
    condition = f"({keys}) {test} (SELECT {wanted} FROM {other.source} AS {alias}{where})"
    if test == "NOT IN":
        nulls = " OR ".join(f"isNull({value.sql})" for value in mine if value.nullable)
        condition = f"({nulls} OR {condition})" if nulls else condition
    body = f"SELECT {side}.* FROM {kept.source} AS {side} WHERE {condition}"
    found = Relation("", kept.columns, kept.order, kept.hidden, kept.partition, left.weight + right.weight)
    return translation.cte(body, found, node.span)
