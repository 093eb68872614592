"""Plugins of `evaluate`. Source: learn.microsoft.com/kusto/query/evaluate-operator.

A plugin whose columns depend on the rows (`bag_unpack`, `pivot`) needs them declared behind it, as in
`evaluate bag_unpack(Bag) : (Name: string, Size: long)`: the SQL must name its columns before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql import syntax as s
from hunting.kql.errors import KqlError
from hunting.kql.scalar import network
from hunting.kql.scalar.aggregates import Aggregates
from hunting.kql.scalar.binder import Scalars
from hunting.kql.scope import Column, Relation, Scope, unused
from hunting.kql.types import NEVER_NULL, Type, stored
from hunting.kql.values import Value, constant, converted, identifier, text_literal, to_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from hunting.kql.protocols import Translation


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
    given = _arguments(node, ("column", "OutputColumnPrefix", "columnsConflict", "ignoredProperties"))
    if not isinstance(given.get("column"), s.Name):
        raise KqlError("`bag_unpack` takes the name of a dynamic column", node.span)
    bag = relation.need(str(getattr(given["column"], "text", "")), given["column"].span)
    if bag.type is not Type.DYNAMIC:
        raise KqlError(f"expected a dynamic column, found a {bag.type}", given["column"].span)
    scalars = Scalars(translation, scope)
    constants = {name: scalars.bind(value).constant for name, value in given.items() if name != "column"}
    prefix = str(constants.get("OutputColumnPrefix", ""))
    conflict = str(constants.get("columnsConflict", "error"))
    ignored = constants.get("ignoredProperties", [])
    kept = [column for column in relation.columns if column.name != bag.name]
    if node.columns and not node.keeps_others:
        kept = []
    new: dict[str, tuple[str, Value]] = {}
    for name, key, type_ in _properties(translation, node, relation, bag, prefix):
        if isinstance(ignored, list) and key in ignored:
            continue
        place = f"t.{identifier(bag.name)}"
        value = Value(f"JSONExtractRaw({place}, {text_literal(key)})", Type.DYNAMIC, False, path=(place, (key,)))
        new[name] = (name, converted(value, type_, node.span))
    twice = [column.name for column in kept if column.name in new]
    if twice and conflict not in ("replace_source", "keep_source"):
        raise KqlError(f"the bag and the table both have `{twice[0]}`; give a prefix or columnsConflict", node.span)
    if conflict == "keep_source":
        new = {name: pair for name, pair in new.items() if name not in twice}
    kept = [column for column in kept if column.name not in new]
    cells = [column.value().sql for column in kept]
    cells += [f"{value.sql} AS {identifier(name)}" for name, value in new.values()]
    cells += [column.value().sql for column in relation.hidden]
    shown = (*kept, *(Column(name, value.type, value.nullable) for name, value in new.values()))
    order = relation.order_without({c.name for c in relation.columns} - {c.name for c in kept})
    body = f"SELECT {', '.join(cells)} FROM {relation.source} AS t"
    return translation.cte(body, replace(relation, columns=shown, order=order), node.span)


def _properties(
    translation: Translation, node: s.Evaluate, relation: Relation, bag: Column, prefix: str
) -> list[tuple[str, str, Type]]:
    """Return column, key and type of each property. Raises KqlError where they are neither declared nor can be asked."""
    if node.columns:
        others = {column.name for column in relation.columns if column.name != bag.name}
        return [
            (column.name, column.name.removeprefix(prefix), column.type)
            for column in node.columns
            # With `*` the declaration may repeat columns of the input.
            if not (node.keeps_others and column.name in others)
        ]
    found = translation.properties_of(relation, bag)
    if not found:
        raise KqlError(
            f"the columns depend on the rows; declare them: evaluate bag_unpack({bag.name}) : (*, Name: string)",
            node.span,
        )
    return [(f"{prefix}{column.name}", column.name, column.type) for column in found]


def _arguments(node: s.Evaluate, names: Sequence[str]) -> dict[str, s.Expression]:
    """Return the arguments of a plugin by the names of its parameters. Raises KqlError for too many or an unknown name."""
    found: dict[str, s.Expression] = {}
    for number, argument in enumerate(node.plugin.arguments):
        name = argument.name or (names[number] if number < len(names) else "")
        if name not in names or name in found:
            raise KqlError(f"`{node.plugin.function}` has no such argument", argument.value.span)
        found[name] = argument.value
    return found


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
    """Return the rows with the columns of the networks that contain their address.

    More names are keys that both tables have and that must be equal. `return_unmatched` adds the rows without a network.
    Source: learn.microsoft.com/kusto/query/ipv4-lookup-plugin.
    """
    arguments = [argument.value for argument in node.plugin.arguments if not argument.name]
    scalars = Scalars(translation, scope.over(relation))
    table = scalars.relation_of(arguments[0]) if len(arguments) > 2 else None
    if table is None or not all(isinstance(argument, s.Name) for argument in arguments[2:3]):
        raise KqlError("`ipv4_lookup` takes a table, a column of addresses and a column of networks", node.span)
    keeps, keys = _lookup_options(scalars, node, arguments[3:])
    address = to_text(scalars.bind(arguments[1])).sql
    column = table.need(str(getattr(arguments[2], "text", "")), arguments[2].span)
    pairs = [(relation.need(key.text, key.span), table.need(key.text, key.span)) for key in keys]
    condition = _lookup_condition(address, column.value("r").sql, [(a.value().sql, b.value("r").sql) for a, b in pairs])
    taken = {c.name for c in relation.columns}
    shown = list(relation.columns)
    matched = [c.value().sql for c in shown]
    unmatched = list(matched)
    for other in table.columns:
        if other.name in {key.text for key in keys}:
            continue
        name = unused(other.name, taken)
        taken.add(name)
        new = Column(name, other.type, other.nullable or (keeps and other.type not in NEVER_NULL))
        shown.append(new)
        sql = other.value("r").sql if other.nullable or not new.nullable else f"toNullable({other.value('r').sql})"
        matched.append(f"{sql} AS {identifier(name)}")
        unmatched.append(
            f"CAST({constant(other.type, None).sql}, {text_literal(stored(other.type))}) AS {identifier(name)}"
        )
    body = f"SELECT {', '.join(matched)} FROM {relation.source} AS t CROSS JOIN {table.source} AS r WHERE {condition}"
    if keeps:
        wanted = ", ".join([column.value("r").sql, *(b.value("r").sql for _, b in pairs), "0"])
        rows = f"(SELECT groupUniqArray(tuple({wanted})) FROM {table.source} AS r)"
        places = [(a.value().sql, f"tupleElement(n, {place})") for place, (a, _) in enumerate(pairs, 2)]
        test = f"arrayExists(n -> {_lookup_condition(address, 'tupleElement(n, 1)', places)}, {rows})"
        body += f"\n  UNION ALL\n  SELECT {', '.join(unmatched)} FROM {relation.source} AS t WHERE NOT {test}"
    weight = (relation.weight + table.weight) * (2 if keeps else 1)
    return translation.cte(body, Relation("", tuple(shown), weight=weight), node.span)


def _lookup_condition(address: str, written: str, keys: Sequence[tuple[str, str]]) -> str:
    return " AND ".join([network.in_range(address, written), *(f"{left} = {right}" for left, right in keys)])


def _lookup_options(scalars: Scalars, node: s.Evaluate, others: Sequence[s.Expression]) -> tuple[bool, list[s.Name]]:
    """Return whether rows without a network are returned, and the keys besides the address."""
    keys = [other for other in others if isinstance(other, s.Name)]
    flags: list[s.Expression] = [other for other in others if not isinstance(other, s.Name)]
    for argument in node.plugin.arguments:
        if argument.name and argument.name != "return_unmatched":
            raise KqlError("`ipv4_lookup` has no such argument", argument.value.span)
        if argument.name:
            flags.append(argument.value)
    values = [scalars.bind(flag).constant for flag in flags]
    if len(values) > 1 or not all(isinstance(value, bool) for value in values):
        raise KqlError("return_unmatched is true or false", flags[0].span)
    return values == [True], keys


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
