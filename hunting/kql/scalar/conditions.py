"""`iff`, `case`, `coalesce` and functions that take values of one common type.

Source: learn.microsoft.com/kusto/query/scalar-functions, "Conditional functions".
"""

from __future__ import annotations

from collections.abc import Sequence

from hunting.kql.errors import KqlError, Span
from hunting.kql.types import NEVER_NULL, Type
from hunting.kql.values import Value, common, converted, to_text


def chosen(name: str, arguments: Sequence[Value], span: Span) -> Value:
    """Return `iff(condition, then, else)` or `case(condition, then, ..., else)`."""
    if len(arguments) < 3 or len(arguments) % 2 == 0 or (name != "case" and len(arguments) != 3):
        raise KqlError(f"`{name}` takes conditions, each with a value, and a last value", span)
    conditions, results = arguments[:-1:2], [*arguments[1::2], arguments[-1]]
    for condition in conditions:
        if condition.type is not Type.BOOL:
            raise KqlError(f"expected a condition, found a {condition.type}", span)
    type_ = common(results, span)
    values = [converted(value, type_, span) for value in results]
    parts = [f"{condition.sql}, {value.sql}" for condition, value in zip(conditions, values[:-1], strict=True)]
    function = "if" if len(conditions) == 1 else "multiIf"
    sql = f"{function}({', '.join(parts)}, {values[-1].sql})"
    return Value(
        sql, type_, any(value.nullable for value in values), aggregate=any(value.aggregate for value in arguments)
    )


def coalesced(arguments: Sequence[Value], span: Span) -> Value:
    """Return the first value that is not null; of texts the first one that is not empty."""
    if not arguments:
        raise KqlError("`coalesce` takes at least one argument", span)
    type_ = common(arguments, span)
    values = [converted(value, type_, span) for value in arguments]
    if type_ in NEVER_NULL:
        parts = [f"nullIf({value.sql}, '')" for value in values]
        return Value(f"coalesce({', '.join(parts)}, '')", type_, False)
    nullable = all(value.nullable for value in values)
    return Value(f"coalesce({', '.join(value.sql for value in values)})", type_, nullable)


def extreme(name: str, arguments: Sequence[Value], span: Span) -> Value:
    """Return `max_of` or `min_of`; nulls are left out."""
    if not arguments:
        raise KqlError(f"`{name}` takes at least one argument", span)
    type_ = common(arguments, span)
    values = [converted(value, type_, span) for value in arguments]
    array = f"[{', '.join(value.sql for value in values)}]"
    function = "arrayMax" if name == "max_of" else "arrayMin"
    if not any(value.nullable for value in values):
        return Value(f"{function}({array})", type_, False)
    known = f"arrayFilter(e -> isNotNull(e), {array})"
    return Value(f"if(empty({known}), NULL, {function}(arrayMap(e -> assumeNotNull(e), {known})))", type_, True)


def negation(arguments: Sequence[Value], span: Span) -> Value:
    """Return `not(condition)`."""
    if len(arguments) != 1 or arguments[0].type not in (Type.BOOL, Type.DYNAMIC):
        raise KqlError("`not` takes one condition", span)
    value = converted(arguments[0], Type.BOOL, span)
    return Value(f"(NOT {value.sql})", Type.BOOL, value.nullable)


def hashed(arguments: Sequence[Value], span: Span) -> Value:
    """Return `hash(value[, modulus])` and `hash_xxhash64`: xxhash64 of a text, or of the 8 bytes of a time in ticks.

    The documentation has examples of these two types only. Raises KqlError for others.
    """
    if not 1 <= len(arguments) <= 2:
        raise KqlError("`hash` takes one or two arguments", span)
    value = arguments[0]
    if value.type is Type.DATETIME:
        hashed_ = f"reinterpretAsString({converted(value, Type.LONG, span).sql})"
    elif value.type in (Type.STRING, Type.DYNAMIC):
        hashed_ = to_text(value).sql
    else:
        raise KqlError(f"the hash of a {value.type} is not documented; use hash(tostring( ))", span)
    sql = f"reinterpretAsInt64(xxHash64({hashed_}))"
    if len(arguments) == 2:
        sql = f"positiveModulo({sql}, {arguments[1].sql})"
    return Value(f"ifNull({sql}, 0)" if value.nullable else sql, Type.LONG, False)
