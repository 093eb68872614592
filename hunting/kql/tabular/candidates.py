"""Reads the rows of a selective hunt by time instead of the whole table.

The view of a table's latest versions (FINAL) reads all rows of a table whose key is no time. If the first operators of a query
are `where` with a start of the time, and a condition that few rows meet, the rows come from the view of all versions
instead (`hunting.latest`). The operators stay as they are and filter these rows again: the conditions here only leave out rows
that they would drop. If more than `ROWS_MAX` versions meet the conditions, the query reads the view of the latest versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Relation, Scope
from hunting.kql.types import NEVER_NULL, Type, of_clickhouse
from hunting.kql.values import Value, identifier
from hunting.latest import latest
from schemas.ddl import DAY

if TYPE_CHECKING:
    from hunting.kql.protocols import Table, Translation

ROWS_MAX = 200_000
"""Versions that meet the conditions. With more of them their look-up costs as much as reading all rows."""
CONDITIONS_MAX = 50
"""Conditions that are evaluated twice, in the candidates and in the operator. Further ones only in the operator."""

CONDITION_CHARS_MAX = 20_000
"""Length of all conditions in SQL; they occur five times in the query."""

_TIMES = ("Timestamp", "TimeGenerated")
_BOUNDS = {">": ">=", ">=": ">=", "<": "<=", "<=": "<=", "==": "="}
"""What a bound on a time means for its day."""
_TEXT_OPERATORS = {
    "has", "has_cs", "hasprefix", "hasprefix_cs", "hassuffix", "hassuffix_cs", "contains", "contains_cs", "startswith",
    "startswith_cs", "endswith", "endswith_cs", "matches regex", "==", "=~",
}  # fmt: skip
"""Operators that few rows meet. `has` with its negation and others are conditions as well, but no reason to look rows up."""
_COMPARED = {"!=", "<>", "<", ">", "<=", ">=", "!~"}
_CONSTANTS = {"ago", "now", "datetime", "startofday", "endofday", "startofhour", "endofhour"}
"""Functions that depend on their arguments and the time of the query alone."""


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition that every wanted row meets."""

    sql: str
    device: bool = False
    """It selects devices by DeviceId, with which the view is read by the table's key."""
    from_time: bool = False
    """It is a lower bound of the time."""
    selective: bool = False


def source_of(translation: Translation, query: s.Query, scope: Scope) -> str:
    """Return what to select the rows of a query's table from instead of the table, "" for the table itself."""
    node = query.source
    if (
        not isinstance(node, s.Table)
        or node.arguments is not None
        or isinstance(scope.variables.get(node.name), Relation)
    ):
        return ""
    table = translation.database.get(node.name)
    if table is None or not table.history:
        return ""
    wheres = takewhile(lambda operator: isinstance(operator, s.Where), query.operators)
    terms = [term for where in wheres if isinstance(where, s.Where) for term in _terms(where.predicate)]
    inner = Scalars(translation, scope.over(Relation("", tuple(_unchanged(table)))))
    found = [one for term in terms[:CONDITIONS_MAX] for one in _conditions(inner, term)]
    wanted = any(one.selective for one in found) and any(one.from_time for one in found)
    if not wanted or any(one.device for one in found):
        return ""
    condition = " AND ".join(dict.fromkeys(one.sql for one in found))
    if len(condition) > CONDITION_CHARS_MAX:
        return ""
    counted = f"SELECT 1 FROM {table.history} AS t WHERE {condition} LIMIT {ROWS_MAX + 1}"
    few = f"(SELECT count() <= {ROWS_MAX} FROM ({counted}))"
    names = ", ".join(f"t.{identifier(name)} AS {identifier(name)}" for name in table.columns)
    fast = latest(table.history, names, condition, only_if=few, candidates_max=ROWS_MAX)
    body = f"{fast}\n  UNION ALL\n  SELECT {names} FROM {table.source} AS t WHERE NOT {few} AND {condition}"
    return translation.cte(body, Relation("", ()), "latest versions of the rows that the next operators keep").source


def _unchanged(table: Table) -> Iterator[Column]:
    """Yield the columns that KQL sees as they are stored."""
    for name, written in table.columns.items():
        type_, nullable, converts = of_clickhouse(written)
        if not converts:
            yield Column(name, type_, nullable and type_ not in NEVER_NULL)


def _terms(node: s.Expression) -> Iterator[s.Expression]:
    """Yield the conditions of a conjunction."""
    if isinstance(node, s.Junction) and node.operator == "and":
        for term in node.terms:
            yield from _terms(term)
    else:
        yield node


def _conditions(scalars: Scalars, term: s.Expression) -> Iterator[_Condition]:
    """Yield what a term of the predicate demands of each row; nothing if the term depends on more than the row."""
    if not _is_local(scalars, term):
        return
    value = scalars.predicate(term)
    yield from _days(scalars, term)
    name = term.left.text if isinstance(term, s.Operation | s.Membership) and isinstance(term.left, s.Name) else ""
    equal = isinstance(term, s.Operation | s.Membership) and term.operator in ("==", "in")
    is_time = name in _TIMES
    yield _Condition(value.sql, device=equal and name == "DeviceId", selective=not is_time and _is_selective(term))


def _days(scalars: Scalars, term: s.Expression) -> Iterator[_Condition]:
    """Yield the bounds of the day that follow from bounds of the time."""
    if isinstance(term, s.Between) and not term.negated and _is_time(term.value):
        low = scalars.bind(term.low)
        if _is_datetime(low):
            yield _Condition(f"{DAY}(t.Timestamp) >= {DAY}({low.sql})", from_time=True)
        high = scalars.bind(term.high)
        if _is_datetime(high):
            yield _Condition(f"{DAY}(t.Timestamp) <= {DAY}({high.sql})")
    elif isinstance(term, s.Operation) and term.operator in _BOUNDS and _is_time(term.left):
        bound = scalars.bind(term.right)
        if _is_datetime(bound):
            sign = _BOUNDS[term.operator]
            # Rows before midnight are of the day before. Without this, `< midnight` would read the next day, too.
            day = f"{DAY}(subtractMicroseconds({bound.sql}, 1))" if term.operator == "<" else f"{DAY}({bound.sql})"
            yield _Condition(f"{DAY}(t.Timestamp) {sign} {day}", from_time=sign != "<=")


def _is_time(node: s.Expression) -> bool:
    return isinstance(node, s.Name) and node.text in _TIMES


def _is_datetime(value: Value) -> bool:
    """Return whether a value is a time that is never null, so that its day bounds the day of the rows."""
    return value.type is Type.DATETIME and not value.nullable


def _is_selective(term: s.Expression) -> bool:
    if isinstance(term, s.Junction):
        return all(_is_selective(one) for one in term.terms)
    if isinstance(term, s.Operation):
        return term.operator in _TEXT_OPERATORS
    return isinstance(term, s.Membership) and not term.operator.startswith("!")


def _is_local(scalars: Scalars, node: s.Expression) -> bool:
    """Return whether an expression depends on one row alone, and is one whose meaning is known here."""
    match node:
        case s.Literal():
            return True
        case s.Name():
            variable = scalars.scope.variables.get(node.text)
            return node.text in scalars.scope.columns or (isinstance(variable, Value) and variable.is_constant)
        case s.Operation():
            known = node.operator in _TEXT_OPERATORS | _COMPARED | {"+", "-", "*", "/"} or node.operator.startswith("!")
            return known and _is_local(scalars, node.left) and _is_local(scalars, node.right)
        case s.Junction():
            return all(_is_local(scalars, term) for term in node.terms)
        case s.Membership():
            return all(_is_local(scalars, part) for part in (node.left, *node.items))
        case s.Between():
            return all(_is_local(scalars, part) for part in (node.value, node.low, node.high))
        case s.Call():
            inside = all(_is_local(scalars, argument.value) for argument in node.arguments)
            return node.function in _CONSTANTS and node.function not in scalars.scope.variables and inside
        case _:
            return False
