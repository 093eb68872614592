"""`parse`, `parse-where` and `parse-kv`. Source: learn.microsoft.com/kusto/query/parse-operator, .../parse-kv-operator.

A pattern becomes one regular expression over the whole text. A column of type `long`, `int` or `real` matches a number only;
where the text does not match, all columns are null or empty.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scalar.terms import quoted
from hunting.kql.scope import Column, Relation, Scope
from hunting.kql.types import Type
from hunting.kql.values import Value, converted, identifier, text_literal, to_text

if TYPE_CHECKING:
    from hunting.kql.translation import Translation

_WHOLE, _REAL = r"[+-]?\d+", r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"


def parse(translation: Translation, node: s.Parse, relation: Relation, scope: Scope) -> Relation:
    """Return the table with columns from a text."""
    scalars = Scalars(translation, scope.over(relation))
    text = to_text(scalars.bind(node.source)).sql
    columns = [part for part in node.parts if isinstance(part, s.ColumnType)]
    pattern = text_literal(_pattern(node))
    cells, shown = _columns(columns, f"extractGroups({text}, {pattern})", node, relation)
    condition = f" WHERE match({text}, {pattern})" if node.filters else ""
    body = f"SELECT {cells} FROM {relation.source} AS t{condition}"
    return translation.cte(body, replace(relation, columns=shown), node.span)


def _pattern(node: s.Parse) -> str:
    """Return the regular expression of all parts."""
    if node.kind not in ("simple", "relaxed", "regex"):
        raise KqlError(f"`{node.kind}` is no kind of parse", node.span)
    parts: list[str] = []
    for number, part in enumerate(node.parts):
        last = number == len(node.parts) - 1
        if part is None:
            parts.append(".*" if last else ".*?")
        elif isinstance(part, str):
            parts.append(part if node.kind == "regex" else quoted(part))
        else:
            parts.append(f"({_column_pattern(part.type, last=last)})")
    flags = "s" + "".join(flag for flag in node.flags if flag in "imUs" and flag != "s")
    return f"(?{flags})^{''.join(parts)}$"


def _column_pattern(type_: Type, *, last: bool) -> str:
    if type_ in (Type.INT, Type.LONG):
        return _WHOLE
    if type_ in (Type.REAL, Type.DECIMAL):
        return _REAL
    return ".*" if last else ".*?"


def _columns(
    columns: list[s.ColumnType], groups: str, node: s.Parse, relation: Relation
) -> tuple[str, tuple[Column, ...]]:
    new: dict[str, Value] = {}
    for number, column in enumerate(columns, 1):
        text = Value(f"arrayElement({groups}, {number})", Type.STRING, False)
        trimmed = text if column.type is Type.STRING else Value(f"trimBoth({text.sql})", Type.STRING, False)
        new[column.name] = converted(trimmed, column.type, node.span)
    replaced = ", ".join(f"{new[c.name].sql} AS {identifier(c.name)}" for c in relation.columns if c.name in new)
    star = f"t.* REPLACE ({replaced})" if replaced else "t.*"
    added = [f"{value.sql} AS {identifier(name)}" for name, value in new.items() if not relation.column(name)]
    shown = [Column(c.name, new[c.name].type, new[c.name].nullable) if c.name in new else c for c in relation.columns]
    shown += [Column(name, value.type, value.nullable) for name, value in new.items() if not relation.column(name)]
    return ", ".join([star, *added]), tuple(shown)


def parse_kv(translation: Translation, node: s.ParseKv, relation: Relation, scope: Scope) -> Relation:
    """Return the table with columns from a text of keys and values."""
    properties = {name: str(value) for name, value in node.properties}
    unknown = set(properties) - {"pair_delimiter", "kv_delimiter", "quote", "escape", "greedy"}
    if unknown or "escape" in properties or "greedy" in properties:
        raise KqlError(
            f"the property {', '.join(sorted(unknown) or ['escape or greedy'])} of parse-kv is not supported", node.span
        )
    text = to_text(Scalars(translation, scope.over(relation)).bind(node.source)).sql
    pair, key = properties.get("pair_delimiter", " "), properties.get("kv_delimiter", "=")
    quote = properties.get("quote", "")
    ends = "".join(f"\\{character}" for character in pair)
    cells: list[str] = ["t.*"]
    shown = list(relation.columns)
    for column in node.columns:
        quoted_value = f"{quoted(quote)}([^{quoted(quote)}]*){quoted(quote)}|" if quote else ""
        pattern = f"(?:^|[{ends}])\\s*{quoted(column.name)}\\s*{quoted(key)}\\s*(?:{quoted_value}([^{ends}]*))"
        groups = f"extractGroups({text}, {text_literal(pattern)})"
        found = (
            f"concat(arrayElement({groups}, 1), arrayElement({groups}, {2 if quote else 1}))"
            if quote
            else f"arrayElement({groups}, 1)"
        )
        value = converted(Value(f"trimBoth({found})", Type.STRING, False), column.type, node.span)
        cells.append(f"{value.sql} AS {identifier(column.name)}")
        shown.append(Column(column.name, value.type, value.nullable))
    body = f"SELECT {', '.join(cells)} FROM {relation.source} AS t"
    return translation.cte(body, replace(relation, columns=tuple(shown)), node.span)
