"""`mv-expand` and `mv-apply`. Source: learn.microsoft.com/kusto/query/mv-expand-operator, .../mv-apply-operator.

Both give one row for each element of an array or property of a bag, one row with null for a null value, and none for an empty
array or bag. Several arrays are expanded side by side, the shorter ones filled with null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Relation, Scope
from hunting.kql.types import NUMBERS, Type
from hunting.kql.values import Value, converted, identifier

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation


def expand(translation: Translation, node: s.MvExpand, relation: Relation, scope: Scope) -> Relation:
    """Return one row for each element."""
    pair = "concat('[', toJSONString(p.1), ',', p.2, ']')" if node.bag_as_array else _BAG
    return _expanded(
        translation, node.values, relation, scope, node.span, index=node.index_column, limit=node.limit, pair=pair
    )


_BAG = "concat('{', toJSONString(p.1), ':', p.2, '}')"
"""The element for a property of a bag: a bag with that property alone."""


def _expanded(
    translation: Translation,
    values: Sequence[s.Expanded],
    relation: Relation,
    scope: Scope,
    span: Span,
    *,
    index: str,
    limit: s.Expression | None,
    pair: str = _BAG,
) -> Relation:
    scalars = Scalars(translation, scope.over(relation))
    pairs: list[tuple[str, Value, Type]] = []
    for item in values:
        name, value = scalars.named(item.named)
        if value.type is not Type.DYNAMIC:
            raise KqlError(f"expected a dynamic value, found a {value.type}", item.named.value.span)
        pairs.append((name or f"Column{len(pairs) + 1}", value, item.type or Type.DYNAMIC))
    zipped = _zipped([_elements(value.sql, pair) for _, value, _ in pairs], indexed=bool(index))
    if limit is not None:
        count = scalars.bind(limit).constant
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
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
    return translation.cte(body, replace(relation, columns=tuple(shown), order=relation.order_without(set(new))), span)


def _elements(sql: str, pair: str) -> str:
    """Return the JSON of each element; another value than an array or bag is its only element."""
    bags = f"arrayMap(p -> {pair}, JSONExtractKeysAndValuesRaw(j))"
    found = f"multiIf(JSONType(j) = 'Array', JSONExtractArrayRaw(j), JSONType(j) = 'Object', {bags}, [j])"
    return f"arrayElement(arrayMap(j -> {found}, [{sql}]), 1)"


def _zipped(arrays: Sequence[str], *, indexed: bool) -> str:
    """Return an array of tuples of the elements, with their place (from 1) as last item where it is wanted."""
    names = [f"a{number}" for number in range(len(arrays))]
    if len(arrays) > 1:
        longest = f"arrayMax([{', '.join(f'length({name})' for name in names)}])"
        items = [f"arrayResize({name}, {longest}, '')" for name in names]
    else:
        items = names
    place = [f"arrayEnumerate({items[0]})"] if indexed else []
    given = ", ".join(f"[{array}]" for array in arrays)
    return f"arrayElement(arrayMap(({', '.join(names)}) -> arrayZip({', '.join([*items, *place])}), {given}), 1)"


def _cell(number: int, type_: Type, span: Span) -> Value:
    """Return an element as its declared type, null where its JSON has another one: KQL casts here, it does not parse."""
    element = f"tupleElement(t.__element, {number})"
    if type_ in NUMBERS or type_ is Type.BOOL:
        kinds = "'Bool'" if type_ is Type.BOOL else "'Int64', 'UInt64', 'Double'"
        sql = f"if(JSONType({element}) IN ({kinds}), {element}, '')"
    else:
        sql = f"if({element} = 'null', '', {element})"
    return converted(Value(sql, Type.DYNAMIC, False), type_, span)


def apply(translation: Translation, node: s.MvApply, relation: Relation, scope: Scope) -> Relation:
    """Run operators on the elements of each row.

    The row's number and a tuple of its columns are hidden keys by which the operators work: the row is read once, and each
    row of the result finds its columns in the tuple. The result has the row's columns but the expanded ones, and the columns
    that the operators give.
    """
    number = Column(f"__apply{len(relation.partition)}", Type.LONG, False)
    row = Column(f"__row{len(relation.partition)}", Type.DYNAMIC, False)
    expanded = {name for item in node.values for name in (item.named.names or (_name(item.named.value),))}
    outer = [column for column in relation.columns if column.name not in expanded]
    carried = (*outer, *relation.hidden)
    values = ", ".join(["0", *(column.value().sql for column in carried)])
    body = (
        f"SELECT t.*, row_number() OVER () AS {number.name}, tuple({values}) AS {row.name} FROM {relation.source} AS t"
    )
    partition = tuple(column for column in relation.hidden if column.name in relation.partition)
    inner = replace(
        relation,
        hidden=(*partition, number, row),
        partition=(*relation.partition, number.name, row.name),
        order=(),
    )
    found = translation.cte(body, replace(relation, hidden=(*relation.hidden, number, row)), node.span)
    inner = replace(inner, source=found.source)
    found = _expanded(translation, node.values, inner, scope, node.span, index=node.index_column, limit=node.limit)
    found = translation.relation(s.Query(None, node.query, span=node.span), scope.over(found))
    new = [column for column in found.columns if column.name not in {c.name for c in outer}]
    cells = [
        f"tupleElement(t.{row.name}, {place}) AS {identifier(column.name)}" for place, column in enumerate(carried, 2)
    ]
    cells[len(outer) : len(outer)] = [column.value().sql for column in new]
    body = f"SELECT {', '.join(cells)} FROM {found.source} AS t"
    return translation.cte(body, replace(relation, columns=(*outer, *new), weight=found.weight), node.span)


def _name(node: s.Expression) -> str:
    return node.text if isinstance(node, s.Name) else ""
