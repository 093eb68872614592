"""Rows of several tables, one after another. Source: learn.microsoft.com/kusto/query/union-operator.

Columns are matched by name. A name with different types becomes one column for each type, `name_type`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hunting.kql.scope import Column, Relation
from hunting.kql.types import NEVER_NULL, Type
from hunting.kql.values import constant, identifier, text_literal

if TYPE_CHECKING:
    from hunting.kql.protocols import Translation
    from hunting.kql.syntax import Union


def combined(translation: Translation, parts: Sequence[tuple[str, Relation]], node: Union) -> Relation:
    """Return the union of named tables."""
    types: dict[str, list[Type]] = {}
    for _, relation in parts:
        for column in relation.columns:
            found = types.setdefault(column.name, [])
            if column.type not in found:
                found.append(column.type)
    if node.inner:
        types = {name: kinds for name, kinds in types.items() if all(relation.column(name) for _, relation in parts)}
    columns = [
        (name, type_, name if len(kinds) == 1 else f"{name}_{type_}")
        for name, kinds in types.items()
        for type_ in kinds
    ]
    shown = [Column(result, type_, type_ not in NEVER_NULL) for _, type_, result in columns]
    if node.source_column:
        shown.insert(0, Column(node.source_column, Type.STRING, False))
    selects = [_part(name, relation, columns, node.source_column) for name, relation in parts]
    weight = sum(relation.weight for _, relation in parts)
    return translation.cte("\n  UNION ALL\n  ".join(selects), Relation("", tuple(shown), weight=weight), node.span)


def _part(name: str, relation: Relation, columns: Sequence[tuple[str, Type, str]], source_column: str) -> str:
    cells = [f"{text_literal(name)} AS {identifier(source_column)}"] if source_column else []
    for original, type_, result in columns:
        column = relation.column(original)
        if column is not None and column.type is type_:
            sql = column.value().sql
            if not column.nullable and type_ not in NEVER_NULL:
                sql = f"toNullable({sql})"
        else:
            sql = constant(type_, None).sql
        cells.append(f"{sql} AS {identifier(result)}")
    return f"SELECT {', '.join(cells)} FROM {relation.source} AS t"
