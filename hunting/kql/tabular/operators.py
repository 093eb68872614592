"""Operators behind a pipe: `bind` returns the table after one of them, and the scope for the next.

Each operator becomes one CTE that reads the one before it as `t`. Operators that keep rows in place keep their order; the
keys of an order that a projection removes stay as hidden columns.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Function, Order, Relation, Scope, unused
from hunting.kql.tabular import arrays, joins, parsing, plugins, series, sources, summaries, windows
from hunting.kql.tabular.unions import combined
from hunting.kql.types import NUMBERS, Type
from hunting.kql.values import Value, as_column, identifier, text_literal

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation

Binder = Callable[["Translation", Any, Relation, Scope], Relation]
"""Returns the table after an operator."""


def bind(translation: Translation, node: s.Operator, relation: Relation, scope: Scope) -> tuple[Relation, Scope]:
    """Return the table after an operator, and the scope for the next one. Raises KqlError."""
    if isinstance(node, s.As):
        return relation, scope.with_variable(node.name, relation)
    if relation.partition and not isinstance(node, _BY_PARTITION):
        raise KqlError("this operator is not supported inside `mv-apply` and `partition`", node.span)
    return _BINDERS[type(node)](translation, node, relation, scope), scope


def _names(columns: Iterable[Column]) -> str:
    return ", ".join(column.value().sql for column in columns)


def _where(translation: Translation, node: s.Where, relation: Relation, scope: Scope) -> Relation:
    predicate, relation, inner_scope = windows.staged(translation, node.predicate, relation, scope, node.span)
    condition = Scalars(translation, inner_scope).predicate(predicate)
    if " OVER (" in condition.sql:
        inner = translation.cte(f"SELECT *, {condition.sql} AS __kept FROM {relation.source} AS t", relation, node.span)
        names = _names([*relation.columns, *relation.hidden])
        return translation.cte(f"SELECT {names} FROM {inner.source} AS t WHERE t.__kept", relation, node.span)
    return translation.cte(f"SELECT * FROM {relation.source} AS t WHERE {condition.sql}", relation, node.span)


def assigned(scalars: Scalars, values: Sequence[s.Named], taken: set[str] | None = None) -> list[tuple[str, Value]]:
    """Return names and values of a list of expressions, in which a name that KQL makes up differs from those before it.

    An expression without a name of its own is called Column1, Column2, ...; these differ from `taken` as well. Raises KqlError
    for a name that is written twice.
    """
    found: list[tuple[str, Value]] = []
    written: set[str] = set()
    number = 0
    for item in values:
        name, value = scalars.named(item)
        names = {other for other, _ in found}
        if item.names or isinstance(item.value, s.Name):
            if name in written or (item.names and name in names):
                raise KqlError(f"the column `{name}` is there twice", item.value.span)
            written.add(name)
        if not name:
            number += 1
            name = unused_numbered("Column", number, names | (taken or set()))
        found.append((unused(name, names), value))
    return found


def unused_numbered(prefix: str, number: int, taken: set[str]) -> str:
    """Return the first free name of the form prefix and number."""
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def _extend(translation: Translation, node: s.Extend, relation: Relation, scope: Scope) -> Relation:
    return extended(translation, node.values, relation, scope, node.span)


def extended(
    translation: Translation, values: Sequence[s.Named], relation: Relation, scope: Scope, span: Span
) -> Relation:
    """Return the table with more columns; an existing one is replaced in place."""
    values, relation, inner_scope = windows.staged(translation, tuple(values), relation, scope, span)
    new = _replacing(Scalars(translation, inner_scope), values, relation)
    if any(key.column in new for key in relation.order):
        kept = [(column.name, new.pop(column.name, column.value())) for column in relation.columns]
        return _projected(translation, [*kept, *new.items()], relation, span)
    columns = [
        Column(column.name, new[column.name].type, new[column.name].nullable) if column.name in new else column
        for column in relation.columns
    ]
    columns += [Column(name, value.type, value.nullable) for name, value in new.items() if not relation.column(name)]
    replaced = ", ".join(f"{as_column(new[c.name])} AS {identifier(c.name)}" for c in relation.columns if c.name in new)
    added = [f"{as_column(value)} AS {identifier(name)}" for name, value in new.items() if not relation.column(name)]
    star = f"t.* REPLACE ({replaced})" if replaced else "t.*"
    body = f"SELECT {', '.join([star, *added])} FROM {relation.source} AS t"
    return translation.cte(body, replace(relation, columns=tuple(columns)), span)


def _replacing(scalars: Scalars, values: Sequence[s.Named], relation: Relation) -> dict[str, Value]:
    """Return the columns of `extend` by name. A name that KQL makes up, as of `tostring(a)`, replaces a column as well."""
    new: dict[str, Value] = {}
    taken = {column.name for column in relation.columns}
    written: set[str] = set()
    number = 0
    for item in values:
        name, value = scalars.named(item)
        if item.names and name in written:
            raise KqlError(f"the column `{name}` is there twice", item.value.span)
        written.update(item.names[:1])
        if not name:
            number += 1
            name = unused_numbered("Column", number, taken | set(new))
        new[name] = value
    return new


def _projected(
    translation: Translation, pairs: Sequence[tuple[str, Value]], relation: Relation, span: Span
) -> Relation:
    """Return a table of exactly these columns. Raises KqlError for a name that is there twice."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise KqlError(f"the column `{name}` is there twice", span)
        seen.add(name)
    kept = {name for name, value in pairs if value.name == name and value.sql == f"t.{identifier(name)}"}
    columns = tuple(Column(name, value.type, value.nullable) for name, value in pairs)
    hidden, order = _carried(relation, kept)
    cells = [f"{as_column(value)} AS {identifier(name)}" for name, value in pairs]
    cells += [f"{old} AS {identifier(new.name)}" for old, new in hidden]
    body = f"SELECT {', '.join(cells)} FROM {relation.source} AS t"
    return translation.cte(
        body, replace(relation, columns=columns, hidden=tuple(new for _, new in hidden), order=order), span
    )


def _carried(relation: Relation, kept: set[str]) -> tuple[list[tuple[str, Column]], tuple[Order, ...]]:
    """Return the hidden columns of a projection with their SQL, and the order that refers to them."""
    hidden = [(column.value().sql, column) for column in relation.hidden]
    known = {column.name for column in relation.hidden}
    order: list[Order] = []
    for key in relation.order:
        if key.column in kept or key.column in known:
            order.append(key)
            continue
        column = relation.column(key.column)
        assert column is not None
        new = replace(column, name=f"__order{len(hidden)}")
        hidden.append((column.value().sql, new))
        order.append(replace(key, column=new.name))
    return hidden, tuple(order)


def _project(translation: Translation, node: s.Project, relation: Relation, scope: Scope) -> Relation:
    values, relation, inner_scope = windows.staged(translation, node.values, relation, scope, node.span)
    pairs = assigned(Scalars(translation, inner_scope), values)
    return _projected(translation, pairs, relation, node.span)


def _distinct(translation: Translation, node: s.Distinct, relation: Relation, scope: Scope) -> Relation:
    if len(node.values) == 1 and isinstance(node.values[0].value, s.Star):
        pairs = [(column.name, column.value()) for column in relation.columns]
    else:
        pairs = assigned(Scalars(translation, scope.over(relation)), node.values)
    cells = [f"{as_column(value)} AS {identifier(name)}" for name, value in pairs]
    columns = tuple(Column(name, value.type, value.nullable) for name, value in pairs)
    keys = [f"t.{identifier(name)}" for name in relation.partition]
    body = f"SELECT DISTINCT {', '.join([*cells, *keys])} FROM {relation.source} AS t"
    return translation.cte(body, _unordered(relation, columns), node.span)


def _unordered(relation: Relation, columns: Sequence[Column]) -> Relation:
    """Return a relation with new rows: only the keys of a partition stay."""
    hidden = tuple(column for column in relation.hidden if column.name in relation.partition)
    return replace(relation, columns=tuple(columns), hidden=hidden, order=(), serialized=False)


def _project_names(translation: Translation, node: s.ProjectNames, relation: Relation, _scope: Scope) -> Relation:
    matched: list[Column] = []
    for pattern, order, span in node.patterns:
        # translate() makes groups atomic, so that `*a*a*a...` costs no backtracking
        named = re.compile(fnmatch.translate(pattern.replace("[", "[[]").replace("?", "[?]")))
        found = [column for column in relation.columns if named.fullmatch(column.name)]
        if not found and "*" not in pattern:
            relation.need(pattern, span)
        if order:
            key = _natural if order.startswith("granny") else _plain
            found.sort(key=key, reverse=order.endswith("desc"))
        matched += [column for column in found if column not in matched]
    if node.operator == "project-away":
        kept = [column for column in relation.columns if column not in matched]
    elif node.operator == "project-keep":
        kept = [column for column in relation.columns if column in matched]
    else:
        kept = [*matched, *(column for column in relation.columns if column not in matched)]
    return _projected(translation, [(column.name, column.value()) for column in kept], relation, node.span)


def _plain(column: Column) -> str:
    return column.name


def _natural(column: Column) -> list[tuple[int, str]]:
    """Return a key by which numbers in names are compared as numbers: `a2` before `a10`."""
    parts = re.split(r"(\d+)", column.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _rename(translation: Translation, node: s.Rename, relation: Relation, _scope: Scope) -> Relation:
    names = {}
    for new, old, span in node.pairs:
        relation.need(old, span)
        names[old] = new
    pairs = [(names.get(column.name, column.name), column.value()) for column in relation.columns]
    return _projected(translation, pairs, relation, node.span)


def sorted_by(
    translation: Translation, keys: Sequence[s.SortKey], relation: Relation, scope: Scope, span: Span
) -> Relation:
    """Return the relation with an order. Keys that are no columns become hidden columns."""
    scalars = Scalars(translation, scope.over(relation))
    partition = tuple(column for column in relation.hidden if column.name in relation.partition)
    order: list[Order] = []
    added: list[tuple[str, Column]] = []
    for key in keys:
        value = scalars.bind(key.value)
        nulls_first = not key.descending if key.nulls_first is None else key.nulls_first
        name = value.name if value.name in scalars.scope.columns and value.sql == f"t.{identifier(value.name)}" else ""
        if value.type is Type.DYNAMIC:
            raise KqlError("rows cannot be sorted by a dynamic value; convert it, as with tostring( )", key.value.span)
        if not name:
            name = f"__sort{len(added)}"
            added.append((as_column(value), Column(name, value.type, value.nullable)))
        order.append(Order(name, key.descending, nulls_first))
    hidden = (*partition, *(column for _, column in added))
    found = replace(relation, order=tuple(order), hidden=hidden, serialized=True)
    cells = [*(column.value().sql for column in (*relation.columns, *partition))]
    cells += [f"{sql} AS {identifier(column.name)}" for sql, column in added]
    if not added and hidden == relation.hidden:
        return found
    return translation.cte(f"SELECT {', '.join(cells)} FROM {relation.source} AS t", found, span)


def _sort(translation: Translation, node: s.Sort, relation: Relation, scope: Scope) -> Relation:
    return sorted_by(translation, node.keys, relation, scope, node.span)


def whole(translation: Translation, node: s.Expression, scope: Scope) -> int:
    """Return a constant count of rows. Raises KqlError for anything else."""
    value = Scalars(translation, scope.without_columns()).bind(node)
    if not isinstance(value.constant, int) or value.constant < 0 or value.type not in NUMBERS:
        raise KqlError("expected a constant number of rows", node.span)
    return value.constant


def _take(translation: Translation, node: s.Take, relation: Relation, scope: Scope) -> Relation:
    count = whole(translation, node.count, scope)
    if node.keys:
        relation = sorted_by(translation, node.keys, relation, scope, node.span)
    order = f" ORDER BY {', '.join(key.sql for key in relation.order)}" if relation.order else ""
    body = f"SELECT * FROM {relation.source} AS t{order} LIMIT {count}{_by(relation)}"
    return translation.cte(body, relation, node.span)


def _sample(translation: Translation, node: s.Sample, relation: Relation, scope: Scope) -> Relation:
    count = whole(translation, node.count, scope)
    if node.distinct is None:
        body = f"SELECT * FROM {relation.source} AS t ORDER BY rand() LIMIT {count}{_by(relation)}"
        return translation.cte(body, replace(relation, order=()), node.span)
    distinct = s.Distinct((s.Named(node.distinct),), span=node.span)
    found = _distinct(translation, distinct, relation, scope)
    return translation.cte(f"SELECT * FROM {found.source} AS t LIMIT {count}{_by(relation)}", found, node.span)


def _by(relation: Relation) -> str:
    """Return the end of a LIMIT that counts in each partition."""
    return f" BY {', '.join(f't.{identifier(name)}' for name in relation.partition)}" if relation.partition else ""


def _count(translation: Translation, node: s.Count, relation: Relation, _scope: Scope) -> Relation:
    column = Column(node.name, Type.LONG, False)
    keys = [f"t.{identifier(name)}" for name in relation.partition]
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    cells = [f"toInt64(count()) AS {identifier(node.name)}", *keys]
    return translation.cte(
        f"SELECT {', '.join(cells)} FROM {relation.source} AS t{group}", _unordered(relation, (column,)), node.span
    )


def _union(translation: Translation, node: s.UnionWith, relation: Relation, scope: Scope) -> Relation:
    parts = [("union_arg0", relation), *sources.union_parts(translation, node.union, scope)]
    return combined(translation, parts, node.union)


def _serialize(translation: Translation, node: s.Serialize, relation: Relation, scope: Scope) -> Relation:
    relation = replace(relation, serialized=True)
    return extended(translation, node.values, relation, scope, node.span) if node.values else relation


def _search(translation: Translation, node: s.PipedSearch, relation: Relation, scope: Scope) -> Relation:
    return sources.searched_input(translation, node.search, relation, scope)


def _get_schema(translation: Translation, node: s.GetSchema, relation: Relation, _scope: Scope) -> Relation:
    columns = (
        s.ColumnType("ColumnName", Type.STRING), s.ColumnType("ColumnOrdinal", Type.LONG),
        s.ColumnType("DataType", Type.STRING), s.ColumnType("ColumnType", Type.STRING),
    )  # fmt: skip
    rows = [
        [text_literal(column.name), str(number), text_literal(_DATA_TYPES[column.type]), text_literal(column.type)]
        for number, column in enumerate(relation.columns)
    ]
    found = sources.literal_rows(translation, columns, rows, node.span)
    return replace(found, order=(Order("ColumnOrdinal", descending=False, nulls_first=True),))


_DATA_TYPES = {
    Type.BOOL: "System.SByte", Type.INT: "System.Int32", Type.LONG: "System.Int64", Type.REAL: "System.Double",
    Type.DECIMAL: "System.Data.SqlTypes.SqlDecimal", Type.STRING: "System.String", Type.DATETIME: "System.DateTime",
    Type.TIMESPAN: "System.TimeSpan", Type.DYNAMIC: "System.Object", Type.GUID: "System.Guid",
}  # fmt: skip
"""Names of .NET types that getschema shows (learn.microsoft.com/kusto/query/getschema-operator)."""


def _invoke(translation: Translation, node: s.Invoke, relation: Relation, scope: Scope) -> Relation:
    """Return `T | invoke f(x)`: the function's first parameter is the table."""
    call = node.function
    if not isinstance(scope.variables.get(call.function), Function):
        raise KqlError(f"the function `{call.function}` is not supported", call.name_span)
    name = "__input"
    arguments = (s.Argument(s.Name(name, span=node.span)), *call.arguments)
    inner = Scalars(translation, scope.with_variable(name, relation))
    result = inner.function(s.Call(call.function, arguments, call.name_span, span=call.span))
    if not isinstance(result, Relation):
        raise KqlError(f"`{call.function}` gives a value, expected a table", call.span)
    return result


def _partition(translation: Translation, node: s.Partition, relation: Relation, scope: Scope) -> Relation:
    """Run the operators on each partition: its key is hidden, and the operators work by it."""
    column = relation.need(node.column, node.span)
    key = f"__partition{len(relation.partition)}"
    body = f"SELECT t.*, {column.value().sql} AS {key} FROM {relation.source} AS t"
    inner = replace(
        relation, hidden=(*relation.hidden, replace(column, name=key)), partition=(*relation.partition, key)
    )
    found = translation.cte(body, inner, node.span)
    found = translation.relation(s.Query(None, node.query, span=node.span), scope.over(found))
    hidden = tuple(column for column in found.hidden if column.name != key)
    return replace(found, hidden=hidden, partition=relation.partition, order=())


def _unsupported(_translation: Translation, node: s.Operator, _relation: Relation, _scope: Scope) -> Relation:
    raise KqlError(f"the operator `{type(node).__name__.lower()}` is not supported", node.span)


_BY_PARTITION = (
    s.Where, s.Extend, s.Project, s.Distinct, s.ProjectNames, s.Rename, s.Sort, s.Take, s.Sample, s.Count, s.Serialize,
    s.Summarize, s.MvExpand, s.MvApply, s.Parse, s.ParseKv, s.Invoke, s.Partition,
)  # fmt: skip
"""Operators that work by the hidden keys of a partition."""
_BINDERS: dict[type, Binder] = {
    s.Where: _where, s.Extend: _extend, s.Project: _project, s.Distinct: _distinct, s.ProjectNames: _project_names,
    s.Rename: _rename, s.Sort: _sort, s.Take: _take, s.Sample: _sample, s.Count: _count, s.UnionWith: _union,
    s.Serialize: _serialize, s.PipedSearch: _search, s.GetSchema: _get_schema, s.Invoke: _invoke, s.Partition: _partition,
    s.Summarize: summaries.summarize, s.TopNested: summaries.top_nested, s.Join: joins.join, s.MvExpand: arrays.expand,
    s.MvApply: arrays.apply, s.Parse: parsing.parse, s.ParseKv: parsing.parse_kv, s.Evaluate: plugins.evaluate,
    s.MakeSeries: series.make_series, s.Scan: _unsupported,
}  # fmt: skip
