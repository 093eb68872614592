"""`summarize` and `top-nested`. Source: learn.microsoft.com/kusto/query/summarize-operator, .../top-nested-operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.aggregates import MULTIPLE, ROW_NUMBER, Aggregates, percentile_name, percentile_of
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Order, Relation, Scope, unused
from hunting.kql.types import NEVER_NULL, Type
from hunting.kql.values import Value, as_column, converted, identifier

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation


@dataclass(slots=True)
class _Groups:
    """A summarize on its way: columns of the result, and what the grouping SELECT computes."""

    keys: list[tuple[str, Value]]
    cells: list[str] = field(default_factory=list)
    """Expressions of the SELECT that groups."""
    shown: list[tuple[Column, str]] = field(default_factory=list)
    """Columns of the result with their SQL on the groups."""

    def taken(self) -> set[str]:
        """Return the names of the columns so far."""
        return {name for name, _ in self.keys} | {column.name for column, _ in self.shown}

    def add(self, name: str, value: Value) -> None:
        """Add a column that the grouping computes."""
        self.cells.append(f"{as_column(value)} AS {identifier(name)}")
        self.shown.append((Column(name, value.type, value.nullable), f"t.{identifier(name)}"))


def summarize(translation: Translation, node: s.Summarize, relation: Relation, scope: Scope) -> Relation:
    """Return the groups of a table. Raises KqlError."""
    relation, ordered = _numbered(translation, node, relation)
    scalars = Scalars(translation, scope.over(relation))
    groups = _Groups(_keys(scalars, node.by))
    aggregates = Aggregates(ordered=ordered)
    number = 0
    for item in node.aggregates:
        if isinstance(item.value, s.Call) and item.value.function in MULTIPLE and _is_multiple(item.value):
            _multiple(scalars, item, groups, relation)
            continue
        value = Scalars(translation, scalars.scope, aggregates).bind(item.value)
        if not value.aggregate and not value.is_constant:
            raise KqlError("expected an aggregate such as count() or make_set(Column)", item.value.span)
        name = item.names[0] if item.names else value.name
        if not name:
            number += 1
            name = f"Column{number}"
        groups.add(name if item.names else unused(name, groups.taken()), value)
    return _grouped(translation, groups, relation, node.span)


def _numbered(translation: Translation, node: s.Summarize, relation: Relation) -> tuple[Relation, bool]:
    """Return the rows with their number where make_list needs their order."""
    if not relation.order or not any(_makes_list(item.value) for item in node.aggregates):
        return relation, False
    order = ", ".join(key.sql for key in relation.order)
    body = f"SELECT t.*, row_number() OVER (ORDER BY {order}) AS {ROW_NUMBER} FROM {relation.source} AS t"
    return translation.cte(body, relation, node.span), True


def _makes_list(node: s.Expression) -> bool:
    return isinstance(node, s.Call) and (
        node.function.startswith(("make_list", "makelist"))
        or any(_makes_list(argument.value) for argument in node.arguments)
    )


def _keys(scalars: Scalars, by: Sequence[s.Named]) -> list[tuple[str, Value]]:
    found: list[tuple[str, Value]] = []
    number = 0
    for item in by:
        name, value = scalars.named(item)
        if value.type is Type.DYNAMIC:
            raise KqlError(
                "rows cannot be grouped by a dynamic value; convert it, as with tostring( )", item.value.span
            )
        if not name:
            number += 1
            name = f"Column{number}"
        found.append((unused(name, {other for other, _ in found}), value))
    return found


def _grouped(translation: Translation, groups: _Groups, relation: Relation, span: Span) -> Relation:
    partition = [f"t.{identifier(name)}" for name in relation.partition]
    keys = [f"{as_column(value)} AS {identifier(name)}" for name, value in groups.keys]
    by = [*partition, *(as_column(value) for _, value in groups.keys)]
    group = f" GROUP BY {', '.join(by)}" if by else ""
    body = f"SELECT {', '.join([*partition, *keys, *groups.cells])} FROM {relation.source} AS t{group}"
    columns = [Column(name, value.type, value.nullable) for name, value in groups.keys]
    columns += [column for column, _ in groups.shown]
    hidden = tuple(column for column in relation.hidden if column.name in relation.partition)
    found = replace(relation, columns=tuple(columns), hidden=hidden, order=(), serialized=False)
    if all(sql == f"t.{identifier(column.name)}" for column, sql in groups.shown):
        if not (groups.cells or by):
            raise KqlError("nothing to summarize", span)
        return translation.cte(body, found, span)
    inner = translation.cte(body, found, span)
    shown = [*partition, *(f"t.{identifier(name)}" for name, _ in groups.keys)]
    shown += [f"{sql} AS {identifier(column.name)}" for column, sql in groups.shown]
    return translation.cte(f"SELECT {', '.join(shown)} FROM {inner.source} AS t", found, span)


def _is_multiple(node: s.Call) -> bool:
    if node.function in ("any", "take_any"):
        return len(node.arguments) > 1 or any(isinstance(argument.value, s.Star) for argument in node.arguments)
    return True


def _multiple(scalars: Scalars, item: s.Named, groups: _Groups, relation: Relation) -> None:
    """Add the columns of an aggregate that may give several."""
    node = item.value
    assert isinstance(node, s.Call)
    if node.function == "percentiles":
        _percentiles(scalars, item, node, groups)
        return
    name = node.function.replace("argm", "arg_m")
    extreme = name.startswith("arg_")
    if not node.arguments or (extreme and isinstance(node.arguments[0].value, s.Star)):
        raise KqlError(f"`{node.function}` takes the value to compare, and the columns to return", node.span)
    key = scalars.bind(node.arguments[0].value) if extreme else None
    names = list(item.names)
    returned = _returned(
        scalars, node.arguments[1 if extreme else 0 :], groups, relation, names[1:] if extreme else names
    )
    if key is not None:
        first = names[0] if names else key.name or f"{name.replace('arg_', '')}_"
        # `*` does not repeat the compared column.
        star = any(isinstance(argument.value, s.Star) for argument in node.arguments)
        kept = [pair for pair in returned if not star or pair[0] not in (first, key.name)]
        returned = [(first, key), *kept]
    _tuple(name, key, returned, groups)


def _returned(
    scalars: Scalars, arguments: Sequence[s.Argument], groups: _Groups, relation: Relation, names: list[str]
) -> list[tuple[str, Value]]:
    found: list[tuple[str, Value]] = []
    keys = {name for name, _ in groups.keys}
    for argument in arguments:
        if isinstance(argument.value, s.Star):
            found += [(column.name, column.value()) for column in relation.columns if column.name not in keys]
            continue
        value = scalars.bind(argument.value)
        found.append((names.pop(0) if names else value.name or f"Column{len(found) + 1}", value))
    return found


def _tuple(name: str, key: Value | None, pairs: list[tuple[str, Value]], groups: _Groups) -> None:
    """Add columns of one row of the group: all are taken from it together, as one tuple."""
    cell = f"__{name}{len(groups.cells)}"
    values = f"tuple({', '.join(as_column(value) for _, value in pairs)})"
    if key is None:
        sql = f"any({values})"
    elif key.nullable:
        known = f"isNotNull({key.sql})" if name == "arg_max" else f"isNull({key.sql})"
        sql = f"{name.replace('arg_m', 'argM')}({values}, ({known}, assumeNotNull({key.sql})))"
    else:
        sql = f"{name.replace('arg_m', 'argM')}({values}, {key.sql})"
    groups.cells.append(f"{sql} AS {cell}")
    # Without rows and without `by` the tuple has ClickHouse's defaults such as 0 where KQL has null.
    empty = not groups.keys
    if empty:
        groups.cells.append(f"count() AS {cell}_rows")
    taken = groups.taken()
    for place, (column, value) in enumerate(pairs, 1):
        unique = unused(column, taken)
        taken.add(unique)
        sql = f"tupleElement(t.{cell}, {place})"
        nullable = value.nullable
        if empty and value.type not in NEVER_NULL and not nullable:
            sql, nullable = f"if(t.{cell}_rows = 0, NULL, {sql})", True
        groups.shown.append((Column(unique, value.type, nullable), sql))


def _percentiles(scalars: Scalars, item: s.Named, node: s.Call, groups: _Groups) -> None:
    value = scalars.bind(node.arguments[0].value)
    for number, argument in enumerate(node.arguments[1:]):
        share = scalars.bind(argument.value).constant
        if not isinstance(share, int | float):
            raise KqlError("expected a constant percentile from 0 to 100", argument.value.span)
        name = item.names[number] if number < len(item.names) else percentile_name(value.name, share)
        groups.add(unused(name, groups.taken()), percentile_of(value, float(share), "", node.span))


def top_nested(translation: Translation, node: s.TopNested, relation: Relation, scope: Scope) -> Relation:
    """Return the top values of each level within those of the level above."""
    keys: list[Column] = []
    measures: list[Column] = []
    current: Relation | None = None
    for number, level in enumerate(node.levels):
        if level.others is not None and len(node.levels) > 1:
            raise KqlError("`with others` is supported with one level only", level.others.span)
        current = _level(translation, level, relation, scope, keys, measures, current, number, node.span)
    assert current is not None
    if node.levels[0].others is not None:
        return _with_others(translation, node.levels[0], relation, scope, current, node.span)
    return current


def _with_others(
    translation: Translation, level: s.TopLevel, relation: Relation, scope: Scope, top: Relation, span: Span
) -> Relation:
    """Return the top rows and one row for the records of all other values."""
    assert level.others is not None
    key, measure = top.columns
    value = Scalars(translation, scope.over(relation)).bind(level.by.value)
    name = converted(Scalars(translation, scope.without_columns()).bind(level.others), key.type, level.others.span)
    others = Scalars(translation, scope.over(relation), Aggregates()).bind(level.order.value)
    kept = f"(SELECT groupArray(tuple(0, u.{identifier(key.name)})) FROM {top.source} AS u)"
    rest = f"NOT has({kept}, tuple(0, {as_column(value)}))"
    cells = [f"{name.sql} AS {identifier(key.name)}", f"{as_column(others)} AS {identifier(measure.name)}"]
    body = (
        f"SELECT {key.value().sql}, {measure.value().sql} FROM {top.source} AS t\n  UNION ALL\n"
        f"  SELECT {', '.join(cells)} FROM {relation.source} AS t WHERE {rest} HAVING count() > 0"
    )
    columns = (replace(key, nullable=key.nullable or name.nullable), measure)
    return translation.cte(body, Relation("", columns, weight=top.weight * 2 + relation.weight), span)


def _level(
    translation: Translation,
    level: s.TopLevel,
    relation: Relation,
    scope: Scope,
    keys: list[Column],
    measures: list[Column],
    above: Relation | None,
    number: int,
    span: Span,
) -> Relation:
    scalars = Scalars(translation, scope.over(relation))
    name, value = scalars.named(level.by)
    name = name or f"Column{number + 1}"
    measure = Scalars(translation, scope.over(relation), Aggregates()).bind(level.order.value)
    measure_name = level.measure or f"aggregated_{name}"
    upper = [f"t.{identifier(key.name)}" for key in keys]
    cells = [*upper, f"{as_column(value)} AS {identifier(name)}", f"{as_column(measure)} AS {identifier(measure_name)}"]
    source = relation.source
    if above is not None:
        on = " AND ".join(f"l.{identifier(key.name)} = u.{identifier(key.name)}" for key in keys)
        distinct = ", ".join(identifier(key.name) for key in keys)
        kept = f"(SELECT DISTINCT {distinct} FROM {above.source})"
        source = f"(SELECT l.* FROM {relation.source} AS l INNER JOIN {kept} AS u ON {on})"
    by = ", ".join([*upper, as_column(value)])
    columns = [*keys, Column(name, value.type, value.nullable), Column(measure_name, measure.type, measure.nullable)]
    grouped = translation.cte(
        f"SELECT {', '.join(cells)} FROM {source} AS t GROUP BY {by}",
        Relation("", tuple(columns), weight=relation.weight),
        span,
    )
    if level.count is not None:
        count = Scalars(translation, scope.without_columns()).bind(level.count).constant
        direction = "DESC" if level.order.descending else "ASC"
        limit = f"LIMIT {count} BY {', '.join(upper)}" if upper else f"LIMIT {count}"
        body = f"SELECT * FROM {grouped.source} AS t ORDER BY t.{identifier(measure_name)} {direction} {limit}"
        grouped = translation.cte(body, grouped, span)
    keys.append(Column(name, value.type, value.nullable))
    measures.append(Column(measure_name, measure.type, measure.nullable))
    return _with_measures(translation, grouped, above, keys, measures, span)


def _with_measures(
    translation: Translation,
    level: Relation,
    above: Relation | None,
    keys: list[Column],
    measures: list[Column],
    span: Span,
) -> Relation:
    """Return the level with the measures of the levels above: key, measure, key, measure ..."""
    columns = tuple(column for pair in zip(keys, measures, strict=True) for column in pair)
    order = tuple(Order(measure.name, descending=True, nulls_first=False) for measure in measures)
    if above is None:
        return replace(level, columns=columns, order=order)
    on = " AND ".join(f"l.{identifier(key.name)} = u.{identifier(key.name)}" for key in keys[:-1])
    cells = [
        f"{'u' if column in measures[:-1] else 'l'}.{identifier(column.name)} AS {identifier(column.name)}"
        for column in columns
    ]
    body = f"SELECT {', '.join(cells)} FROM {level.source} AS l INNER JOIN {above.source} AS u ON {on}"
    return translation.cte(body, Relation("", columns, order, weight=level.weight), span)
