"""Plugins of `evaluate`. Source: learn.microsoft.com/kusto/query/evaluate-operator.

A plugin whose columns depend on the rows (`bag_unpack`, `pivot`) needs them declared behind it, as in
`evaluate bag_unpack(Bag) : (Name: string, Size: long)`: the SQL must name its columns before it runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError
from hunting.kql.scalar import network
from hunting.kql.scalar.aggregates import Aggregates
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Relation, Scope, unused
from hunting.kql.types import Type
from hunting.kql.values import Value, converted, identifier, text_literal, to_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from hunting.kql.translation import Translation


def evaluate(translation: Translation, node: s.Evaluate, relation: Relation, scope: Scope) -> Relation:
    """Return the result of a plugin. Raises KqlError for an unknown one."""
    plugins: dict[str, Callable[[Translation, s.Evaluate, Relation, Scope], Relation]] = {
        "bag_unpack": _bag_unpack, "pivot": _pivot, "ipv4_lookup": _ipv4_lookup, "narrow": _narrow,
    }  # fmt: skip
    plugin = plugins.get(node.plugin.function)
    if plugin is None:
        raise KqlError(f"the plugin `{node.plugin.function}` is not supported", node.plugin.name_span)
    return plugin(translation, node, relation, scope)


def _bag_unpack(translation: Translation, node: s.Evaluate, relation: Relation, scope: Scope) -> Relation:
    """Return the properties of a bag as columns: the declared ones, or those that occur in the rows."""
    arguments = [argument.value for argument in node.plugin.arguments]
    if not arguments or not isinstance(arguments[0], s.Name):
        raise KqlError("`bag_unpack` takes the name of a dynamic column", node.span)
    bag = relation.need(arguments[0].text, arguments[0].span)
    if bag.type is not Type.DYNAMIC:
        raise KqlError(f"expected a dynamic column, found a {bag.type}", arguments[0].span)
    prefix = ""
    if len(arguments) > 1:
        prefix = str(Scalars(translation, scope).bind(arguments[1]).constant)
    declared = node.columns or translation.properties_of(relation, bag)
    if not declared:
        raise KqlError(
            f"the columns depend on the rows; declare them: evaluate bag_unpack({bag.name}) : (Name: string)", node.span
        )
    kept = [column for column in relation.columns if column.name != bag.name]
    known = {column.name for column in kept}
    cells = [column.value().sql for column in kept]
    shown = list(kept)
    for column in declared:
        if column.name in known and node.columns:
            continue
        name = column.name if column.name.startswith(prefix) and node.columns else f"{prefix}{column.name}"
        key = column.name.removeprefix(prefix) if node.columns else column.name
        place = f"t.{identifier(bag.name)}"
        value = Value(f"JSONExtractRaw({place}, {text_literal(key)})", Type.DYNAMIC, False, path=(place, (key,)))
        found = converted(value, column.type, node.span)
        name = unused(name, known)
        known.add(name)
        cells.append(f"{found.sql} AS {identifier(name)}")
        shown.append(Column(name, found.type, found.nullable))
    cells += [column.value().sql for column in relation.hidden]
    body = f"SELECT {', '.join(cells)} FROM {relation.source} AS t"
    return translation.cte(body, replace(relation, columns=tuple(shown), order=()), node.span)


def _pivot(translation: Translation, node: s.Evaluate, relation: Relation, scope: Scope) -> Relation:
    """Return one column for each declared value of the pivot column."""
    arguments = [argument.value for argument in node.plugin.arguments]
    if not arguments or not isinstance(arguments[0], s.Name):
        raise KqlError("`pivot` takes the name of a column", node.span)
    pivot = relation.need(arguments[0].text, arguments[0].span)
    aggregate = arguments[1] if len(arguments) > 1 else s.Call("count", (), node.span, span=node.span)
    if not isinstance(aggregate, s.Call):
        raise KqlError("expected an aggregate such as count()", aggregate.span)
    keys = [argument.text for argument in arguments[2:] if isinstance(argument, s.Name)]
    used = {pivot.name, *(a.value.text for a in aggregate.arguments if isinstance(a.value, s.Name))}
    kept = [column for column in relation.columns if (column.name in keys if keys else column.name not in used)]
    values = [column for column in node.columns if column.name not in {c.name for c in kept}]
    if not values:
        raise KqlError(
            "the columns depend on the rows; declare them: evaluate pivot(Column) : (Value: long)", node.span
        )
    scalars = Scalars(translation, scope.over(relation), Aggregates())
    cells = [column.value().sql for column in kept]
    shown = list(kept)
    for column in values:
        condition = s.Operation(
            "==", s.Call("tostring", (s.Argument(s.Name(pivot.name, span=node.span)),), node.span, span=node.span),
            s.Literal(Type.STRING, column.name, span=node.span), span=node.span,
        )  # fmt: skip
        name = {
            "count": "countif",
            "sum": "sumif",
            "avg": "avgif",
            "min": "minif",
            "max": "maxif",
            "dcount": "dcountif",
        }
        function = name.get(aggregate.function)
        if function is None:
            raise KqlError(f"`{aggregate.function}` in pivot is not supported", aggregate.name_span)
        value = scalars.bind(s.Call(function, (*aggregate.arguments, s.Argument(condition)), node.span, span=node.span))
        cells.append(f"{value.sql} AS {identifier(column.name)}")
        shown.append(Column(column.name, value.type, value.nullable))
    group = f" GROUP BY {', '.join(column.value().sql for column in kept)}" if kept else ""
    body = f"SELECT {', '.join(cells)} FROM {relation.source} AS t{group}"
    return translation.cte(body, replace(relation, columns=tuple(shown), order=(), hidden=()), node.span)


def _ipv4_lookup(translation: Translation, node: s.Evaluate, relation: Relation, scope: Scope) -> Relation:
    """Return the rows with the columns of the networks that contain their address."""
    arguments = [argument for argument in node.plugin.arguments if not argument.name]
    if len(arguments) < 3:
        raise KqlError("`ipv4_lookup` takes a table, a column of addresses and a column of networks", node.span)
    scalars = Scalars(translation, scope.over(relation))
    table = scalars.relation_of(arguments[0].value)
    if table is None:
        raise KqlError("expected a table", arguments[0].value.span)
    address = to_text(scalars.bind(arguments[1].value)).sql.replace("t.", "l.", 1)
    network_node = arguments[2].value
    column = table.need(network_node.text if isinstance(network_node, s.Name) else "", network_node.span)
    keeps = any(
        scalars.bind(argument.value).constant is True
        for argument in (
            *node.plugin.arguments[3:],
            *(a for a in node.plugin.arguments if a.name == "return_unmatched"),
        )
    )
    if keeps:
        raise KqlError("return_unmatched of ipv4_lookup is not supported", node.span)
    taken = {c.name for c in relation.columns}
    shown, cells = list(relation.columns), [f"l.{identifier(c.name)} AS {identifier(c.name)}" for c in relation.columns]
    for other in table.columns:
        name = unused(other.name, taken)
        taken.add(name)
        shown.append(replace(other, name=name))
        cells.append(f"r.{identifier(other.name)} AS {identifier(name)}")
    condition = network.in_range(address, f"r.{identifier(column.name)}")
    body = f"SELECT {', '.join(cells)} FROM {relation.source} AS l CROSS JOIN {table.source} AS r WHERE {condition}"
    return translation.cte(body, Relation("", tuple(shown), weight=relation.weight + table.weight), node.span)


def _narrow(translation: Translation, node: s.Evaluate, relation: Relation, _scope: Scope) -> Relation:
    """Return one row for each cell."""
    cells = ", ".join(f"({text_literal(c.name)}, {to_text(c.value()).sql})" for c in relation.columns)
    columns = (
        Column("Row", Type.LONG, False),
        Column("Column", Type.STRING, False),
        Column("Value", Type.STRING, False),
    )
    inner = f"SELECT rowNumberInAllBlocks() AS n, arrayJoin([{cells}]) AS c FROM {relation.source} AS t"
    body = f"SELECT toInt64(n) AS Row, c.1 AS `Column`, c.2 AS Value FROM ({inner})"
    return translation.cte(body, Relation("", columns, weight=relation.weight), node.span)
