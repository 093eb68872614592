"""`mv-expand` and `mv-apply`. Source: learn.microsoft.com/kusto/query/mv-expand-operator, .../mv-apply-operator.

`mv-expand` gives one row for each element; a null or empty array gives one row with null. Several arrays are expanded side by
side, the shorter ones filled with null. `mv-apply` gives no row for a null or empty array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Order, Relation, Scope
from hunting.kql.types import Type
from hunting.kql.values import Value, converted, identifier

if TYPE_CHECKING:
    from hunting.kql.translation import Translation


def expand(translation: Translation, node: s.MvExpand, relation: Relation, scope: Scope) -> Relation:
    """Return one row for each element."""
    return _expanded(translation, node.values, relation, scope, node.span, index=node.index_column, limit=node.limit)


def _expanded(
    translation: Translation,
    values: Sequence[s.Expanded],
    relation: Relation,
    scope: Scope,
    span: Span,
    *,
    index: str = "",
    limit: s.Expression | None = None,
    keeps_empty: bool = True,
) -> Relation:
    scalars = Scalars(translation, scope.over(relation))
    pairs: list[tuple[str, Value, Type]] = []
    for item in values:
        name, value = scalars.named(item.named)
        if value.type is not Type.DYNAMIC:
            raise KqlError(f"expected a dynamic value, found a {value.type}", item.named.value.span)
        pairs.append((name or f"Column{len(pairs) + 1}", value, item.type or Type.DYNAMIC))
    arrays = [_elements(value.sql, keeps_empty=keeps_empty) for _, value, _ in pairs]
    longest = f"greatest({', '.join(f'length({array})' for array in arrays)})" if len(arrays) > 1 else ""
    resized = [f"arrayResize({array}, {longest}, '')" if longest else array for array in arrays]
    indexed = f", arrayEnumerate({resized[0]})" if index else ""
    zipped = f"arrayZip({', '.join(resized)}{indexed})"
    if limit is not None:
        count = scalars.bind(limit).constant
        if not isinstance(count, int):
            raise KqlError("expected a constant number of elements", limit.span)
        zipped = f"arraySlice({zipped}, 1, {count})"
    inner = translation.cte(f"SELECT *, arrayJoin({zipped}) AS __element FROM {relation.source} AS t", relation, span)
    new = {name: _cell(number, type_, span) for number, (name, _, type_) in enumerate(pairs, 1)}
    shown = [Column(c.name, new[c.name].type, new[c.name].nullable) if c.name in new else c for c in relation.columns]
    shown += [Column(name, value.type, value.nullable) for name, value in new.items() if not relation.column(name)]
    cells = [f"{new[c.name].sql} AS {identifier(c.name)}" if c.name in new else c.value().sql for c in shown]
    if index:
        shown.append(Column(index, Type.LONG, False))
        cells.append(f"toInt64(tupleElement(t.__element, {len(pairs) + 1})) - 1 AS {identifier(index)}")
    cells += [column.value().sql for column in relation.hidden]
    body = f"SELECT {', '.join(cells)} FROM {inner.source} AS t"
    return translation.cte(body, replace(relation, columns=tuple(shown), order=_kept(relation, set(new))), span)


def _kept(relation: Relation, lost: set[str]) -> tuple[Order, ...]:
    return tuple(key for key in relation.order if key.column not in lost)


def _elements(sql: str, *, keeps_empty: bool) -> str:
    """Return the JSON of each element; a bag gives one bag for each property, another value itself."""
    bags = "arrayMap(p -> concat('{', toJSONString(p.1), ':', p.2, '}'), JSONExtractKeysAndValuesRaw(j))"
    found = f"multiIf(JSONType(j) = 'Array', JSONExtractArrayRaw(j), JSONType(j) = 'Object', {bags}, j = '', [], [j])"
    kept = f"if(empty({found}), [''], {found})" if keeps_empty else found
    return f"arrayElement(arrayMap(j -> {kept}, [{sql}]), 1)"


def _cell(number: int, type_: Type, span: Span) -> Value:
    element = f"if(tupleElement(t.__element, {number}) = 'null', '', tupleElement(t.__element, {number}))"
    return converted(Value(element, Type.DYNAMIC, False), type_, span)


def apply(translation: Translation, node: s.MvApply, relation: Relation, scope: Scope) -> Relation:
    """Run operators on the elements of each row: the row's number is a hidden key by which they work.

    The result has the row's columns but the expanded ones, and the columns that the operators give.
    """
    key = "__apply"
    body = f"SELECT t.*, rowNumberInAllBlocks() AS {key} FROM {relation.source} AS t"
    hidden = Column(key, Type.LONG, False)
    # The number must be the same wherever the rows are read again, so they are computed once.
    rows = translation.cte(body, replace(relation, hidden=(*relation.hidden, hidden)), node.span, materialized=True)
    inner = replace(rows, hidden=(hidden,), partition=(key,), order=())
    found = _expanded(
        translation, node.values, inner, scope, node.span, index=node.index_column, limit=node.limit, keeps_empty=False
    )
    found = translation.relation(s.Query(None, node.query, span=node.span), scope.over(found))
    expanded = {name for item in node.values for name in (item.named.names or (_name(item.named.value),))}
    outer = [column for column in relation.columns if column.name not in expanded]
    new = [column for column in found.columns if column.name not in {c.name for c in outer}]
    cells = [f"l.{identifier(column.name)} AS {identifier(column.name)}" for column in outer]
    cells += [f"r.{identifier(column.name)} AS {identifier(column.name)}" for column in new]
    cells += [f"l.{identifier(column.name)} AS {identifier(column.name)}" for column in relation.hidden]
    body = f"SELECT {', '.join(cells)} FROM {rows.source} AS l INNER JOIN {found.source} AS r ON l.{key} = r.{key}"
    return translation.cte(body, replace(relation, columns=(*outer, *new)), node.span)


def _name(node: s.Expression) -> str:
    return node.text if isinstance(node, s.Name) else ""
