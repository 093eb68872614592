"""Where rows come from: tables, variables, functions, datatable, externaldata, print, range, union, search and find."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Function, Relation, Scope, near
from hunting.kql.tabular.unions import combined
from hunting.kql.types import CLICKHOUSE, NEVER_NULL, Type, of_clickhouse, stored
from hunting.kql.values import as_column, constant, converted, identifier, text_literal

if TYPE_CHECKING:
    from hunting.kql.protocols import Table, Translation

EXTERNAL_ROWS_MAX = 100_000
"""Rows of one externaldata; they are written into the SQL."""

_Row = list[object] | dict[str, object]
"""Cells in order, or by the names of columns."""


def bind(translation: Translation, node: s.Source, scope: Scope) -> Relation:
    """Return the table of a source. Raises KqlError."""
    match node:
        case s.Table():
            return _table(translation, node, scope)
        case s.Datatable():
            return _datatable(translation, node, scope)
        case s.ExternalData():
            return _externaldata(translation, node)
        case s.Print():
            return _print(translation, node, scope)
        case s.Range():
            return _range(translation, node, scope)
        case s.Union():
            return _union(translation, node, scope)
        case s.Materialize():
            return translation.relation(node.query, scope)
        case s.Search():
            return _search(translation, node, scope)
        case s.Find():
            return _find(translation, node, scope)
    raise AssertionError(node)


def _table(translation: Translation, node: s.Table, scope: Scope) -> Relation:
    if node.arguments is not None:
        return _called(translation, node, scope)
    found = translation.table(node.name, scope)
    if found is not None:
        return found
    variable = scope.variables.get(node.name)
    if isinstance(variable, Function):
        return _called(translation, s.Table(node.name, (), span=node.span), scope)
    if variable is not None:
        raise KqlError(f"`{node.name}` is a value, expected a table", node.span)
    hint = near(node.name, [*translation.database, *scope.variables])
    raise KqlError(f"there is no table `{node.name}`{hint}", node.span)


def _called(translation: Translation, node: s.Table, scope: Scope) -> Relation:
    if not isinstance(scope.variables.get(node.name), Function):
        raise KqlError(f"the function `{node.name}` is not supported as a table", node.span)
    assert node.arguments is not None
    call = s.Call(node.name, node.arguments, node.span, span=node.span)
    result = Scalars(translation, scope).function(call)
    if not isinstance(result, Relation):
        raise KqlError(f"`{node.name}` gives a value, expected a table", node.span)
    return result


def of_database(translation: Translation, name: str, table: Table) -> Relation:
    """Return a table of the database; columns of types that KQL does not have are converted."""
    columns: list[Column] = []
    replaced: list[str] = []
    for column, written in table.columns.items():
        type_, nullable, converts = of_clickhouse(written)
        columns.append(Column(column, type_, nullable and type_ not in NEVER_NULL))
        if converts:
            replaced.append(
                f"{_canonical(identifier(column), written, type_, nullable=nullable)} AS {identifier(column)}"
            )
    relation = Relation(table.source, tuple(columns), name=name)
    if not replaced:
        return relation
    return translation.cte(f"SELECT * REPLACE ({', '.join(replaced)}) FROM {table.source}", relation, f"table {name}")


def _canonical(sql: str, written: str, type_: Type, *, nullable: bool) -> str:
    if type_ is Type.DYNAMIC:
        return f"toJSONString({sql})"
    if type_ is Type.STRING:
        text = sql if "String" in written else f"toString({sql})"
        return f"ifNull({text}, '')" if "Nullable" in written else text
    return f"CAST({sql}, {text_literal(stored(type_) if nullable else CLICKHOUSE[type_])})"


def literal_rows(
    translation: Translation, columns: Sequence[s.ColumnType], rows: Sequence[Sequence[str]], span: Span
) -> Relation:
    """Return a table of rows that are written into the SQL; each cell is SQL of its column's type."""
    relation = Relation(
        "", tuple(Column(column.name, column.type, column.type not in NEVER_NULL) for column in columns), weight=0
    )
    structure = ", ".join(f"{identifier(column.name)} {stored(column.type)}" for column in columns)
    if not rows:
        nothing = ", ".join(
            f"CAST({constant(c.type, None).sql}, {text_literal(stored(c.type))}) AS {identifier(c.name)}"
            for c in columns
        )
        return translation.cte(f"SELECT {nothing} WHERE false", relation, span)
    written = ", ".join(f"({', '.join(row)})" for row in rows)
    return translation.cte(f"SELECT * FROM VALUES({text_literal(structure)}, {written})", relation, span)


def _datatable(translation: Translation, node: s.Datatable, scope: Scope) -> Relation:
    width = len(node.columns)
    if width == 0 or len(node.values) % width:
        raise KqlError(f"found {len(node.values)} values for {width} columns", node.span)
    scalars = Scalars(translation, scope)
    cells = []
    for number, expression in enumerate(node.values):
        value = converted(scalars.bind(expression), node.columns[number % width].type, expression.span)
        cells.append(as_column(value))
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    relation = literal_rows(translation, node.columns, rows, node.span)
    return Relation(relation.source, relation.columns, weight=0)


def _print(translation: Translation, node: s.Print, scope: Scope) -> Relation:
    scalars = Scalars(translation, scope)
    columns: list[Column] = []
    parts: list[str] = []
    for number, item in enumerate(node.values):
        value = scalars.bind(item.value)
        name = item.names[0] if item.names else f"print_{number}"
        columns.append(Column(name, value.type, value.nullable))
        parts.append(f"{as_column(value)} AS {identifier(name)}")
    return translation.cte(f"SELECT {', '.join(parts)}", Relation("", tuple(columns), weight=0), node.span)


def _range(translation: Translation, node: s.Range, scope: Scope) -> Relation:
    scalars = Scalars(translation, scope)
    first, last, step = (scalars.bind(part) for part in (node.first, node.last, node.step))
    type_ = first.type if first.type is not Type.INT else Type.LONG
    if type_ not in (Type.LONG, Type.REAL, Type.DATETIME, Type.TIMESPAN):
        raise KqlError(f"expected a number, datetime or timespan, found a {first.type}", node.first.span)
    if type_ is Type.DATETIME:
        if step.type is not Type.TIMESPAN:
            raise KqlError(f"expected a timespan such as 1h, found a {step.type}", node.step.span)
        start, end = (f"toUnixTimestamp64Micro({value.sql})" for value in (first, last))
        size = f"intDiv({step.sql}, 10)"
        cell = f"fromUnixTimestamp64Micro(toInt64({start} + number * {size}), 'UTC')"
    else:
        start, end, size = first.sql, last.sql, step.sql
        cell = f"{start} + number * {size}"
        cell = f"toFloat64({cell})" if type_ is Type.REAL else f"toInt64({cell})"
    count = f"toUInt64(greatest(floor(({end} - {start}) / {size}) + 1, 0))"
    relation = Relation("", (Column(node.column, type_, False),), weight=0, serialized=True)
    return translation.cte(f"SELECT {cell} AS {identifier(node.column)} FROM numbers({count})", relation, node.span)


def tables_like(translation: Translation, patterns: Sequence[str]) -> list[str]:
    """Return the tables of the database that patterns such as `Device*` name."""
    return [name for pattern in patterns for name in translation.database if fnmatch.fnmatchcase(name, pattern)]


def _union(translation: Translation, node: s.Union, scope: Scope) -> Relation:
    return combined(translation, union_parts(translation, node, scope), node)


def union_parts(translation: Translation, node: s.Union, scope: Scope) -> list[tuple[str, Relation]]:
    """Return the tables of a union with their names; names with `*` stand for all that match."""
    parts: list[tuple[str, Relation]] = []
    for number, query in enumerate(node.tables):
        source = query.source
        if isinstance(source, s.Table) and "*" in source.name:
            names = tables_like(translation, [source.name])
            parts += [(name, table) for name in names if (table := translation.table(name, scope)) is not None]
            continue
        name = source.name if isinstance(source, s.Table) and not query.operators else f"union_arg{number}"
        parts.append((name, translation.relation(query, scope)))
    if not parts:
        raise KqlError("no table has such a name", node.span)
    return parts


def _search(translation: Translation, node: s.Search, scope: Scope) -> Relation:
    names = tables_like(translation, node.tables or ["*"])
    if not names:
        raise KqlError("no table has such a name", node.span)
    parts: list[tuple[str, Relation]] = []
    for name in names:
        relation = translation.table(name, scope)
        assert relation is not None
        parts.append((name, searched(translation, node, relation, scope)))
    return combined(translation, parts, s.Union((), source_column="$table", span=node.span))


def searched(translation: Translation, node: s.Search, relation: Relation, scope: Scope) -> Relation:
    """Return the rows in which any column matches."""
    scalars = Scalars(translation, scope.over(relation))
    operator = "has_cs" if node.case_sensitive else "has"
    condition = scalars.predicate(_searching(node.predicate, operator))
    return translation.cte(f"SELECT * FROM {relation.source} AS t WHERE {condition.sql}", relation, node.span)


def searched_input(translation: Translation, node: s.Search, relation: Relation, scope: Scope) -> Relation:
    """Return the rows of the input in which any column matches, with the name of their table as the first column."""
    found = searched(translation, node, relation, scope)
    column = Column("$table", Type.STRING, False)
    if relation.column(column.name):
        return found
    body = f"SELECT {text_literal(relation.name)} AS {identifier(column.name)}, t.* FROM {found.source} AS t"
    return translation.cte(body, replace(found, columns=(column, *found.columns)), node.span)


def _searching(node: s.Expression, operator: str) -> s.Expression:
    """Return the predicate of a search: a text alone means `* has text`, with `*` in it a pattern."""
    if isinstance(node, s.Literal) and node.type is Type.STRING:
        return _pattern(str(node.value), node.span, operator)
    if isinstance(node, s.Junction):
        return s.Junction(node.operator, tuple(_searching(term, operator) for term in node.terms), span=node.span)
    if isinstance(node, s.Operation) and node.operator == ":":
        return s.Operation(operator, node.left, node.right, span=node.span)
    return node


def _pattern(text: str, span: Span, operator: str) -> s.Expression:
    plain = text.strip("*")
    if "*" in plain:
        raise KqlError("`*` inside a search text is not supported, only at its ends", span)
    suffix = "_cs" if operator.endswith("_cs") else ""
    starts, ends = text.startswith("*"), text.endswith("*") and len(text) > 1
    chosen = {
        (True, True): f"contains{suffix}",
        (False, True): f"hasprefix{suffix}",
        (True, False): f"hassuffix{suffix}",
    }
    star = s.Star(span=span)
    return s.Operation(chosen.get((starts, ends), operator), star, s.Literal(Type.STRING, plain, span=span), span=span)


def _find(translation: Translation, node: s.Find, scope: Scope) -> Relation:
    names = tables_like(translation, node.tables or ["*"])
    used = _names_in(node.predicate) if not node.projected else list(node.projected)
    parts: list[tuple[str, Relation]] = []
    for name in names:
        relation = translation.table(name, scope)
        assert relation is not None
        if not any(relation.column(column) for column in used):
            continue
        kept = tuple(column for column in relation.columns if column.name in used)
        if node.projected:
            kept = tuple(column for name in used if (column := relation.column(name)))
        condition = Scalars(translation, scope.over(relation)).predicate(_searching(node.predicate, "has"))
        shown = ", ".join(column.value().sql for column in kept)
        body = f"SELECT {shown} FROM {relation.source} AS t WHERE {condition.sql}"
        parts.append((name, translation.cte(body, Relation("", kept, weight=relation.weight), node.span)))
    if not parts:
        raise KqlError("no table has these columns", node.span)
    return combined(translation, parts, s.Union((), source_column=node.source_column, span=node.span))


def _names_in(node: s.Expression) -> list[str]:
    match node:
        case s.Name():
            return [node.text]
        case s.Junction():
            return [name for term in node.terms for name in _names_in(term)]
        case s.Operation():
            return [*_names_in(node.left), *_names_in(node.right)]
        case s.Membership():
            return _names_in(node.left)
        case s.Call():
            return [name for argument in node.arguments for name in _names_in(argument.value)]
        case _:
            return []


# -- externaldata


def _externaldata(translation: Translation, node: s.ExternalData) -> Relation:
    if translation.external is None:
        raise KqlError(
            f"externaldata is not fetched; save {', '.join(node.addresses)[:200]} and name the file with --external ADDRESS=FILE",
            node.span,
        )
    properties = {str(name).lower(): value for name, value in node.properties}
    format_ = str(properties.get("format") or _format_of(node.addresses)).lower()
    skips = str(properties.get("ignorefirstrecord", "false")).lower() == "true"
    rows: list[_Row] = []
    for address in node.addresses:
        rows += _rows(translation.external(address), format_, address, node.span)[1 if skips else 0 :]
    if len(rows) > EXTERNAL_ROWS_MAX:
        raise KqlError(f"the data have more than {EXTERNAL_ROWS_MAX:,} rows", node.span)
    names = [column.name for column in node.columns]
    cells = [
        [_cell(column.type, _value(row, number, names)) for number, column in enumerate(node.columns)] for row in rows
    ]
    return literal_rows(translation, node.columns, cells, node.span)


def _rows(text: str, format_: str, address: str, span: Span) -> list[_Row]:
    """Return the rows of a file. Raises KqlError where it is not of this format."""
    try:
        return _READERS.get(format_, _text_rows)(text)
    except (ValueError, csv.Error, RecursionError) as error:
        raise KqlError(f"the data of {address[:200]} cannot be read as {format_}: {str(error)[:100]}", span) from None


def _value(row: _Row, number: int, names: list[str]) -> object:
    if isinstance(row, dict):
        return row.get(names[number])
    return row[number] if number < len(row) else None


def _cell(type_: Type, value: object) -> str:
    if type_ is Type.DYNAMIC and isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return constant(type_, value).sql
    if type_ is Type.DYNAMIC or value is None:
        return constant(type_, value).sql
    text = value if isinstance(value, str) else json.dumps(value)
    return as_column(converted(constant(Type.STRING, text), type_, Span(0, 1)))


def _format_of(addresses: Sequence[str]) -> str:
    name = addresses[0].partition("?")[0].rpartition("/")[2] if addresses else ""
    return name.rpartition(".")[2] if "." in name else "csv"


def _delimited(delimiter: str) -> Callable[[str], list[_Row]]:
    return lambda text: [list(row) for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]


def _text_rows(text: str) -> list[_Row]:
    return [[line] for line in text.splitlines() if line]


def _raw(text: str) -> list[_Row]:
    return [[text]]


def _json_rows(text: str) -> list[_Row]:
    """Return objects of a JSON array or of lines; with one column of type dynamic each is the cell."""
    try:
        loaded = json.loads(text)
        found = loaded if isinstance(loaded, list) else [loaded]
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [item if isinstance(item, dict) else [item] for item in found]


_READERS: dict[str, Callable[[str], list[_Row]]] = {
    "csv": _delimited(","), "tsv": _delimited("\t"), "psv": _delimited("|"), "scsv": _delimited(";"), "txt": _text_rows,
    "raw": _raw, "json": _json_rows, "multijson": _json_rows,
}  # fmt: skip
