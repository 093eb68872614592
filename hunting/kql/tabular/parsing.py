"""`parse`, `parse-where` and `parse-kv`. Source: learn.microsoft.com/kusto/query/parse-operator, .../parse-kv-operator.

A pattern becomes one regular expression over the whole text. Where the text does not match, all columns are null or empty.
`simple` and `regex` want each column to have its type: a value that has not makes all columns null. `relaxed` makes that one
column null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scalar.terms import quoted
from hunting.kql.scope import Column, Relation, Scope
from hunting.kql.types import NEVER_NULL, NUMBERS, Type
from hunting.kql.values import Value, converted, identifier, text_literal, to_text

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation

_WHOLE, _REAL = r"[+-]?\d+", r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_FLAGS = "imsU"
_GROUPS = "__groups"


def parse(translation: Translation, node: s.Parse, relation: Relation, scope: Scope) -> Relation:
    """Return the table with columns from a text."""
    pattern, numbers = _pattern(node)
    text = to_text(Scalars(translation, scope.over(relation)).bind(node.source)).sql
    groups = f"extractGroups({text}, {text_literal(pattern)}) AS {_GROUPS}"
    inner = translation.cte(f"SELECT *, {groups} FROM {relation.source} AS t", relation, node.span)
    columns = [part for part in node.parts if isinstance(part, s.ColumnType)]
    new: dict[str, Value] = {}
    strict: list[str] = []
    for column, number in zip(columns, numbers, strict=True):
        found = f"arrayElement(t.{_GROUPS}, {number})"
        text_value = Value(found if column.type is Type.STRING else f"trimBoth({found})", Type.STRING, False)
        new[column.name] = value = converted(text_value, column.type, node.span)
        if column.type not in NEVER_NULL:
            strict.append(f"isNotNull({value.sql})")
    matched = " AND ".join([f"notEmpty(t.{_GROUPS})", *(strict if node.kind != "relaxed" else [])])
    if strict and node.kind != "relaxed":
        new = {name: _if_matched(value, matched) for name, value in new.items()}
    condition = f" WHERE {matched}" if node.filters else ""
    return _with_columns(translation, node, relation, inner, new, condition)


def _if_matched(value: Value, matched: str) -> Value:
    nothing = "''" if value.type in NEVER_NULL else "NULL"
    return replace(value, sql=f"if({matched}, {value.sql}, {nothing})")


def _with_columns(
    translation: Translation,
    node: s.Parse | s.ParseKv,
    relation: Relation,
    inner: Relation,
    new: dict[str, Value],
    condition: str = "",
) -> Relation:
    """Return the table with these columns; an existing one is replaced in place."""
    shown = [Column(c.name, new[c.name].type, new[c.name].nullable) if c.name in new else c for c in relation.columns]
    shown += [Column(name, value.type, value.nullable) for name, value in new.items() if not relation.column(name)]
    cells = [f"{new[c.name].sql} AS {identifier(c.name)}" if c.name in new else c.value().sql for c in shown]
    cells += [column.value().sql for column in relation.hidden]
    order = relation.order_without(set(new))
    body = f"SELECT {', '.join(cells)} FROM {inner.source} AS t{condition}"
    return translation.cte(body, replace(relation, columns=tuple(shown), order=order), node.span)


def _pattern(node: s.Parse) -> tuple[str, list[int]]:
    """Return the regular expression of all parts, and for each column the number of its group."""
    if node.kind not in ("simple", "relaxed", "regex"):
        raise KqlError(f"`{node.kind}` is no kind of parse", node.span)
    if unknown := node.flags.strip(_FLAGS):
        raise KqlError(f"the flags `{unknown}` are not supported, only i, m, s and U", node.span)
    regex = node.kind == "regex"
    parts: list[str] = []
    numbers: list[int] = []
    groups = 0
    for place, part in enumerate(node.parts):
        last = place == len(node.parts) - 1
        if part is None:
            parts.append(_any(lazy=not last, swapped="U" in node.flags))
        elif isinstance(part, str):
            parts.append(f"(?:{part})" if regex else quoted(part))
            groups += _groups(part) if regex else 0
        else:
            groups += 1
            numbers.append(groups)
            # A text takes as much as it can in regex mode, as the page's examples show, and as little elsewhere.
            greedy = last or (regex and "U" not in node.flags)
            parts.append(f"({_column_pattern(part.type, node, greedy=greedy)})")
    flags = (node.flags if "s" in node.flags else f"{node.flags}-s") if regex else "s"
    return f"(?{flags})^{''.join(parts)}$", numbers


def _any(*, lazy: bool, swapped: bool) -> str:
    """Return the pattern for any text. The flag U swaps what `?` means."""
    return ".*?" if lazy is not swapped else ".*"


def _column_pattern(type_: Type, node: s.Parse, *, greedy: bool) -> str:
    if node.kind != "relaxed" and type_ in (Type.INT, Type.LONG):
        return _WHOLE
    if node.kind != "relaxed" and type_ in NUMBERS:
        return _REAL
    return _any(lazy=not greedy, swapped="U" in node.flags)


def _groups(pattern: str) -> int:
    """Return how many groups of a regular expression of the query capture."""
    found, at, in_class = 0, 0, False
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
            # `]` is a plain character at the start of a class.
            at += len(pattern[at + 1 : at + 3]) if pattern[at + 1 : at + 3] == "^]" else pattern[at + 1 : at + 2] == "]"
        elif character == "(" and (pattern[at + 1 : at + 2] != "?" or pattern[at + 2 : at + 3] in ("P", "<")):
            found += 1
        at += 1
    return found


# -- parse-kv

_KV_PROPERTIES = {"pair_delimiter", "kv_delimiter", "quote", "escape", "greedy", "regex"}


def parse_kv(translation: Translation, node: s.ParseKv, relation: Relation, scope: Scope) -> Relation:
    """Return the table with columns from a text of keys and values; the first value of a key counts."""
    properties = {name: str(value) for name, value in node.properties}
    unknown = sorted(set(properties) - _KV_PROPERTIES)
    if unknown or "escape" in properties:
        raise KqlError(f"the property {(unknown or ['escape'])[0]} of parse-kv is not supported", node.span)
    text = to_text(Scalars(translation, scope.over(relation)).bind(node.source)).sql
    new: dict[str, Value] = {}
    for column in node.columns:
        if column.name in new:
            raise KqlError(f"the column `{column.name}` is there twice", node.span)
        found = _kv_value(text, column.name, properties, node)
        new[column.name] = converted(Value(f"trimBoth({found})", Type.STRING, False), column.type, node.span)
    return _with_columns(translation, node, relation, relation, new)


def _kv_value(text: str, key: str, properties: dict[str, str], node: s.ParseKv) -> str:
    """Return SQL of the value of a key, "" where the key is missing."""
    if "regex" in properties:
        return _kv_by_regex(text, key, properties["regex"], node)
    pattern, groups = _kv_pattern(key, properties, node)
    found = f"extractGroups({text}, {text_literal(pattern)})"
    values = [f"arrayElement({found}, {number})" for number in range(1, groups + 1)]
    return f"concat({', '.join(values)})" if len(values) > 1 else values[0]


def _kv_by_regex(text: str, key: str, pattern: str, node: s.ParseKv) -> str:
    """Return the second group of the first match whose first group is the key."""
    if _groups(pattern) != 2:
        raise KqlError("the regex of parse-kv needs two groups: the key and the value", node.span)
    matches = f"extractAllGroups({text}, {text_literal(pattern)})"
    return f"arrayElement(arrayFirst(g -> trimBoth(arrayElement(g, 1)) = {text_literal(key.strip())}, {matches}), 2)"


def _kv_pattern(key: str, properties: dict[str, str], node: s.ParseKv) -> tuple[str, int]:
    """Return the regular expression of a key and its value, and its number of groups, of which one has the value."""
    opening, closing = _quotes(properties.get("quote", ""), node)
    inside = f"{quoted(opening)}([^{_in_class(closing)}]*){quoted(closing)}" if opening else ""
    name = f"(?:{quoted(opening + key + closing)}|{quoted(key)})" if opening else quoted(key)
    if "pair_delimiter" not in properties and "kv_delimiter" not in properties:
        # Any character but letters and digits ends keys and values.
        other = r"[^0-9A-Za-z\pL\pN]"
        quotes = f"{inside}|" if inside else ""
        before = rf"{other}+?" if inside else rf"{other}+"
        return rf"(?:^|{other}){name}{before}(?:{quotes}([0-9A-Za-z\pL\pN]+))", 1 + bool(inside)
    pair, kv = properties.get("pair_delimiter", ""), properties.get("kv_delimiter", "")
    if not pair or not kv:
        raise KqlError("parse-kv needs both pair_delimiter and kv_delimiter, or none of them", node.span)
    end = rf"(?:{quoted(pair)}|$)"
    if properties.get("greedy", "false") == "true":
        others: Sequence[str] = [column.name for column in node.columns]
        # The value ends where the next key begins.
        end = rf"(?:{quoted(pair)}\s*(?:{'|'.join(quoted(other) for other in others)})\s*{quoted(kv)}|$)"
    plain = rf"(?:(.*?){end})"
    value = rf"(?:{inside}|{plain})" if inside else plain
    return rf"(?s)(?:^|{quoted(pair)})\s*{name}\s*{quoted(kv)}\s*{value}", 1 + bool(inside)


def _quotes(written: str, node: s.ParseKv) -> tuple[str, str]:
    if len(written) > 2:
        raise KqlError("the quote of parse-kv has one or two characters", node.span)
    return written[:1], written[-1:]


def _in_class(character: str) -> str:
    return "\\" + character if character in "\\]^-[" else character
