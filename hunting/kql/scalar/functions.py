"""All scalar functions by name: those with a signature, and those that need more than their arguments' values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar import conditions, dynamics, network, numbers, texts, times
from hunting.kql.scalar.signatures import Signature
from hunting.kql.scope import near
from hunting.kql.syntax import Call, Literal, SubQuery, TypeOf
from hunting.kql.types import Type
from hunting.kql.values import Value, constant, converted, to_dynamic, to_text

if TYPE_CHECKING:
    from hunting.kql.protocols import Binder

SIGNATURES: dict[str, Signature] = {
    **texts.FUNCTIONS, **times.FUNCTIONS, **numbers.FUNCTIONS, **dynamics.FUNCTIONS, **network.FUNCTIONS,
}  # fmt: skip
TO_TYPES = {
    "tostring": Type.STRING, "toint": Type.INT, "tolong": Type.LONG, "toreal": Type.REAL, "todouble": Type.REAL,
    "todecimal": Type.DECIMAL, "tobool": Type.BOOL, "toboolean": Type.BOOL, "todatetime": Type.DATETIME,
    "totimespan": Type.TIMESPAN, "totime": Type.TIMESPAN, "toguid": Type.GUID,
}  # fmt: skip
_PARTS = {"parse_url": network.url_parts, "parseurl": network.url_parts, "parse_path": texts.path_parts}
"""Functions whose result has properties that are cheaper to compute alone."""
_CHOICES = ("iff", "iif", "case")


def call(node: Call, arguments: Sequence[Value], spans: Sequence[Span]) -> Value:
    """Return a function of its arguments. Raises KqlError for an unknown function or wrong arguments."""
    name = node.function
    if name in TO_TYPES and len(arguments) == 1:
        return converted(arguments[0], TO_TYPES[name], node.span)
    if name in ("parse_json", "parsejson", "todynamic", "toobject") and len(arguments) == 1:
        return dynamics.parsed(arguments[0])
    if name in _CHOICES:
        return conditions.chosen(name, arguments, node.span)
    if name in ("max_of", "min_of"):
        return conditions.extreme(name, arguments, node.span)
    others: dict[str, Callable[[Sequence[Value], Span], Value]] = {
        "coalesce": conditions.coalesced, "not": conditions.negation, "hash": conditions.hashed,
        "hash_xxhash64": conditions.hashed,
    }  # fmt: skip
    if name in others:
        return others[name](arguments, node.span)
    if name in ("bin", "floor") and len(arguments) == 2:
        return times.binned(arguments, spans)
    signature = SIGNATURES.get(name)
    if signature is None:
        raise KqlError(f"the function `{name}` is not supported{near(name, known())}", node.name_span)
    try:
        value = signature.call(arguments, spans, node.span, name)
        return value if name not in _PARTS else replace(value, parts=_PARTS[name](to_text(arguments[0]).sql))
    except KqlError as error:
        # A template knows no place: its errors are about the whole call.
        raise KqlError(error.message, node.span if error.span == Span(0, 1) else error.span) from None


def known() -> list[str]:
    """Return the names of all functions."""
    return sorted(
        {
            *SIGNATURES,
            *TO_TYPES,
            *SPECIAL,
            *_CHOICES,
            "coalesce",
            "not",
            "hash",
            "hash_xxhash64",
            "bin",
            "floor",
            "max_of",
            "min_of",
        }
    )


def _now(scalars: Binder, node: Call) -> Value:
    """Return now([offset]) or ago(timespan)."""
    micros = scalars.tables.now
    if not node.arguments:
        return constant(Type.DATETIME, micros)
    span = scalars.bind(node.arguments[0].value)
    if span.type is not Type.TIMESPAN:
        raise KqlError(f"expected a timespan such as 7d, found a {span.type}", node.arguments[0].value.span)
    sign = -1 if node.function == "ago" else 1
    if isinstance(span.constant, int):
        return constant(Type.DATETIME, micros + sign * span.constant // 10)
    return numbers.arithmetic("-" if sign < 0 else "+", constant(Type.DATETIME, micros), span, node.span)


def _toscalar(scalars: Binder, node: Call) -> Value:
    argument = node.arguments[0].value if len(node.arguments) == 1 else None
    if argument is None:
        raise KqlError("`toscalar` takes one query", node.span)
    relation = scalars.relation_of(argument)
    if relation is None:
        return scalars.bind(argument)
    return scalars.bind(argument) if isinstance(argument, SubQuery) else scalars.first_value(relation, node.span)


def _extract(scalars: Binder, node: Call) -> Value:
    """Return extract(pattern, group, text[, typeof(type)])."""
    arguments = [argument.value for argument in node.arguments]
    type_ = arguments[-1].type if len(arguments) == 4 and isinstance(arguments[-1], TypeOf) else Type.STRING
    values = [scalars.bind(argument) for argument in arguments[:3]]
    found = SIGNATURES[node.function].call(
        values, [argument.span for argument in arguments[:3]], node.span, node.function
    )
    return converted(found, type_, node.span)


def _json_path(scalars: Binder, node: Call) -> Value:
    arguments = [argument.value for argument in node.arguments]
    type_ = arguments[-1].type if len(arguments) == 3 and isinstance(arguments[-1], TypeOf) else Type.STRING
    values = [scalars.bind(argument) for argument in arguments[:2]]
    found = SIGNATURES[node.function].call(
        values, [argument.span for argument in arguments[:2]], node.span, node.function
    )
    return converted(found, type_, node.span)


def _column_if_exists(scalars: Binder, node: Call) -> Value:
    if len(node.arguments) != 2 or not isinstance(node.arguments[0].value, Literal):
        raise KqlError("`column_ifexists` takes the name of a column in quotes and a default", node.span)
    name = str(node.arguments[0].value.value)
    found = scalars.scope.columns.get(name)
    return found if found is not None else scalars.bind(node.arguments[1].value).called(name)


def _ingestion_time(scalars: Binder, node: Call) -> Value:
    """Rows have no time of ingestion here; the event's time is the nearest that hunts can mean."""
    for name in ("TimeGenerated", "Timestamp"):
        if name in scalars.scope.columns:
            return scalars.scope.columns[name].called("$IngestionTime")
    raise KqlError("`ingestion_time` needs a column Timestamp or TimeGenerated", node.span)


def _pack_all(scalars: Binder, node: Call) -> Value:
    """Return a bag of all columns; pack_all(true) leaves out null and empty ones."""
    skips = bool(node.arguments) and scalars.bind(node.arguments[0].value).constant is True
    pairs = [(constant(Type.STRING, name), value) for name, value in scalars.scope.columns.items()]
    if not skips:
        return SIGNATURES["pack"].call(
            [v for pair in pairs for v in pair], [node.span] * 2 * len(pairs), node.span, "pack"
        )
    parts = ", ".join(
        f"({key.sql}, if({to_text(value).sql} = '', '', {to_dynamic(value).sql}))" for key, value in pairs
    )
    kept = f"arrayFilter(p -> p.2 != '', [{parts}])"
    sql = f"concat('{{', arrayStringConcat(arrayMap(p -> concat(toJSONString(p.1), ':', p.2), {kept}), ','), '}}')"
    return Value(sql, Type.DYNAMIC, False)


def _window(scalars: Binder, node: Call) -> Value:
    from hunting.kql.scalar import windows

    return windows.call(scalars, node)


def _geo(scalars: Binder, node: Call) -> Value:
    """There are no geographic data here: the answer is an empty bag, as Kusto's for an unknown address."""
    for argument in node.arguments:
        scalars.bind(argument.value)
    return constant(Type.DYNAMIC, {})


def _bin_at(scalars: Binder, node: Call) -> Value:
    """Return bin_at(value, size, fixed point): the value rounded down to a multiple of the size from the fixed point."""
    if len(node.arguments) != 3:
        raise KqlError("`bin_at` takes a value, a size and a fixed point", node.span)
    value, size, fixed = (scalars.bind(argument.value) for argument in node.arguments)
    distance = numbers.arithmetic("-", value, fixed, node.span)
    sql = Value(
        f"toInt64({distance.sql} - positiveModulo({distance.sql}, {size.sql}))", distance.type, distance.nullable
    )
    if distance.type is Type.REAL:
        sql = Value(f"(floor({distance.sql} / {size.sql}) * {size.sql})", Type.REAL, distance.nullable)
    return numbers.arithmetic("+", fixed, sql, node.span).called(value.name)


SPECIAL: dict[str, Callable[[Binder, Call], Value]] = {
    "now": _now, "ago": _now, "toscalar": _toscalar, "extract": _extract, "extract_json": _json_path,
    "extractjson": _json_path, "column_ifexists": _column_if_exists, "columnifexists": _column_if_exists,
    "ingestion_time": _ingestion_time, "pack_all": _pack_all, "bin_at": _bin_at,
    "geo_info_from_ip_address": _geo,
    **dict.fromkeys(
        ("prev", "next", "row_number", "row_cumsum", "row_rank_dense", "row_rank_min", "row_window_session"), _window
    ),
}  # fmt: skip
