"""Equality, order, `between` and `in`, with KQL's null rules.

| | both null | one null |
|---|---|---|
| `==` | null | false |
| `!=` | null | true |
| `<`, `<=`, `>`, `>=` | null | null |

Source: learn.microsoft.com/kusto/query/scalar-data-types/null-values. `where` drops a row whose predicate is null, so inside
its conditions (`filtering`) null and false are the same, and SQL can stay plain, which lets ClickHouse use its indexes.
"""

from __future__ import annotations

import re

from hunting.kql import literals
from hunting.kql.errors import KqlError, Span
from hunting.kql.types import NUMBERS, TEXTS, Type
from hunting.kql.values import Value, constant, converted, to_text, widest

_SQL = {"==": "=", "!=": "!=", "<>": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}


def aligned(left: Value, right: Value, span: Span) -> tuple[Value, Value]:
    """Return both operands with one type. Raises KqlError where KQL cannot compare them."""
    if left.type is right.type or (left.type in TEXTS and right.type in TEXTS):
        return left, right
    if left.type in NUMBERS and right.type in NUMBERS:
        return _numbers(left, right, span)
    if right.is_constant and right.constant is None:
        return left, constant(left.type, None)
    if left.is_constant and left.constant is None:
        return constant(right.type, None), right
    if Type.DYNAMIC in (left.type, right.type):
        type_ = right.type if left.type is Type.DYNAMIC else left.type
        return converted(left, type_, span), converted(right, type_, span)
    if right.type is Type.STRING and right.is_constant:
        return left, _from_text(right, left.type, span)
    if left.type is Type.STRING and left.is_constant:
        return _from_text(left, right.type, span), right
    if {left.type, right.type} <= {Type.BOOL, *NUMBERS}:
        return converted(left, Type.LONG, span), converted(right, Type.LONG, span)
    raise KqlError(f"a {left.type} cannot be compared with a {right.type}; convert one, as with tostring( )", span)


def _numbers(left: Value, right: Value, span: Span) -> tuple[Value, Value]:
    type_ = widest((left.type, right.type))
    if type_ is Type.DECIMAL:
        return converted(left, type_, span), converted(right, type_, span)
    return left, right


def _from_text(value: Value, type_: Type, span: Span) -> Value:
    """Return a written text as a value of another type, as KQL reads it in a comparison."""
    written = str(value.constant)
    if type_ is Type.DATETIME and (micros := literals.micros(written)) is not None:
        return constant(type_, micros)
    if type_ is Type.TIMESPAN and (ticks := literals.ticks(written)) is not None:
        return constant(type_, ticks)
    if type_ in (Type.INT, Type.LONG) and re.fullmatch(r"\s*-?\d{1,18}\s*", written):
        return constant(type_, int(written))
    if type_ in (Type.REAL, Type.DECIMAL) and re.fullmatch(r"\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*", written):
        return constant(Type.REAL, float(written))
    if type_ is Type.BOOL and written.lower() in ("true", "false"):
        return constant(type_, written.lower() == "true")
    raise KqlError(f"the text {written[:40]!r} cannot be compared with a {type_}", span)


def compare(operator: str, left: Value, right: Value, span: Span, *, filtering: bool) -> Value:
    """Return a comparison of two values."""
    left, right = aligned(left, right, span)
    if left.type is Type.DYNAMIC:
        left, right = to_text(left), to_text(right)
    if operator in ("=~", "!~"):
        left, right = lower(left, span), lower(right, span)
        operator = {"=~": "==", "!~": "!="}[operator]
    if operator not in ("==", "!=", "<>") and left.type is Type.GUID:
        raise KqlError(f"`{operator}` does not compare values of the type {left.type}", span)
    plain = f"({left.sql} {_SQL[operator]} {right.sql})"
    if not (left.nullable or right.nullable):
        return Value(plain, Type.BOOL, False)
    if operator in ("==", "!=", "<>"):
        return _equality(operator, plain, left, right, filtering=filtering)
    return Value(plain, Type.BOOL, True)


def _equality(operator: str, plain: str, left: Value, right: Value, *, filtering: bool) -> Value:
    is_equal = operator == "=="
    if is_equal and filtering:
        return Value(plain, Type.BOOL, True)
    otherwise = "false" if is_equal else "true"
    known = f"ifNull({plain}, {otherwise})"
    if left.nullable and right.nullable:
        return Value(f"if(isNull({left.sql}) AND isNull({right.sql}), NULL, {known})", Type.BOOL, True)
    return Value(known, Type.BOOL, False)


def lower(value: Value, span: Span) -> Value:
    """Return a text in lower case. Raises KqlError for other types."""
    if value.type is Type.DYNAMIC:
        value = to_text(value)
    if value.type not in TEXTS:
        raise KqlError(f"expected a string, found a {value.type}", span)
    if value.is_constant:
        return constant(Type.STRING, str(value.constant).lower())
    return Value(f"lowerUTF8({value.sql})", Type.STRING, False)


def between(value: Value, low: Value, high: Value, span: Span, *, negated: bool, filtering: bool) -> Value:
    """Return `value between (low .. high)`. A timespan as `high` of a datetime counts from `low`."""
    if value.type is Type.DATETIME and high.type is Type.TIMESPAN:
        high = Value(f"addMicroseconds({low.sql}, intDiv({high.sql}, 10))", Type.DATETIME, low.nullable)
    first = compare(">=", value, low, span, filtering=filtering)
    last = compare("<=", value, high, span, filtering=filtering)
    sql = f"({first.sql} AND {last.sql})"
    return Value(f"(NOT {sql})" if negated else sql, Type.BOOL, first.nullable or last.nullable)
