"""Arithmetic and functions of numbers.

Integer division cuts towards zero, `%` is never negative. Source: learn.microsoft.com/kusto/query/numerical-operators,
.../datetime-timespan-arithmetic and .../scalar-functions, "Mathematical functions".
"""

from __future__ import annotations

from collections.abc import Sequence

from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.signatures import Signature, first_type
from hunting.kql.types import NUMBERS, Type
from hunting.kql.values import Value, constant, converted, widest

REAL, LONG, BOOL, INT = Type.REAL, Type.LONG, Type.BOOL, Type.INT
DATETIME, TIMESPAN = Type.DATETIME, Type.TIMESPAN


def arithmetic(operator: str, left: Value, right: Value, span: Span) -> Value:
    """Return `left operator right`. Raises KqlError for types that have no such operation."""
    if left.type is Type.DYNAMIC and right.type is not Type.DYNAMIC:
        left = converted(left, right.type if right.type in (*NUMBERS, TIMESPAN, DATETIME) else REAL, span)
    if right.type is Type.DYNAMIC:
        right = converted(right, left.type if left.type in (*NUMBERS, TIMESPAN) else REAL, span)
    if left.type is Type.DYNAMIC:
        left = converted(left, REAL, span)
    nullable = left.nullable or right.nullable
    if left.type in NUMBERS and right.type in NUMBERS:
        return _numeric(operator, left, right, nullable=nullable)
    found = _temporal(operator, left, right)
    if found is None:
        raise KqlError(f"`{operator}` does not apply to {left.type} and {right.type}", span)
    sql, type_, may_be_null = found
    return Value(sql, type_, nullable or may_be_null)


def _numeric(operator: str, left: Value, right: Value, *, nullable: bool) -> Value:
    # The sum of two ints is a long, as Kusto's binder has it.
    type_ = widest((left.type, right.type, LONG))
    folded = _folded(operator, left, right, type_)
    if folded is not None:
        return folded
    whole = type_ in (INT, LONG)
    if operator == "/":
        if whole:
            sql, may_be_null = divisor(right, signed=True)
            return Value(f"intDiv({left.sql}, {sql})", type_, nullable or may_be_null)
        return Value(f"({left.sql} / {right.sql})", type_, nullable)
    if operator == "%":
        sql, may_be_null = divisor(right)
        return Value(f"positiveModulo({left.sql}, {sql})", type_, nullable or may_be_null)
    sql = f"({left.sql} {operator} {right.sql})"
    return Value(f"toInt64{sql}" if whole else sql, type_, nullable)


def divisor(value: Value, *, signed: bool = False) -> tuple[str, bool]:
    """Return a divisor, and whether it may be null: division by zero gives null. `signed` keeps a sign."""
    sql = value.sql if signed else f"abs({value.sql})"
    if isinstance(value.constant, int | float):
        return (sql, False) if value.constant else ("NULL", True)
    return f"nullIf({sql}, 0)", True


def _folded(operator: str, left: Value, right: Value, type_: Type) -> Value | None:
    """Return the result for two constants, None where SQL computes it."""
    first, second = left.constant, right.constant
    if type_ not in (INT, LONG) or not (isinstance(first, int) and isinstance(second, int)):
        return None
    results = {"+": first + second, "-": first - second, "*": first * second}
    if operator not in results or not -(2**63) <= results[operator] < 2**63:
        return None
    return constant(type_, results[operator])


def _temporal(operator: str, left: Value, right: Value) -> tuple[str, Type, bool] | None:
    """Return SQL, type and whether it may be null; None where the types do not fit."""
    kinds = (left.type, operator, right.type)
    if kinds == (DATETIME, "-", DATETIME):
        return f"((toUnixTimestamp64Micro({left.sql}) - toUnixTimestamp64Micro({right.sql})) * 10)", TIMESPAN, False
    if kinds in ((DATETIME, "+", TIMESPAN), (DATETIME, "-", TIMESPAN)):
        function = "addMicroseconds" if operator == "+" else "subtractMicroseconds"
        micros = f"intDiv({right.sql}, 10)"
        if right.is_constant and isinstance(right.constant, int):
            micros = str(right.constant // 10)
        return f"{function}({left.sql}, {micros})", DATETIME, False
    if kinds == (TIMESPAN, "+", DATETIME):
        return f"addMicroseconds({right.sql}, intDiv({left.sql}, 10))", DATETIME, False
    if kinds in ((TIMESPAN, "+", TIMESPAN), (TIMESPAN, "-", TIMESPAN)):
        return f"toInt64({left.sql} {operator} {right.sql})", TIMESPAN, False
    if kinds == (TIMESPAN, "/", TIMESPAN):
        return f"(toFloat64({left.sql}) / {right.sql})", REAL, False
    if kinds == (TIMESPAN, "%", TIMESPAN):
        return f"positiveModulo({left.sql}, {divisor(right)[0]})", TIMESPAN, True
    if left.type is TIMESPAN and right.type in NUMBERS and operator in "*/":
        return f"accurateCastOrNull(trunc(toFloat64({left.sql}) {operator} {right.sql}), 'Int64')", TIMESPAN, True
    if left.type in NUMBERS and right.type is TIMESPAN and operator == "*":
        return f"accurateCastOrNull(trunc({left.sql} * toFloat64({right.sql})), 'Int64')", TIMESPAN, True
    return None


def negated(value: Value, span: Span) -> Value:
    """Return `-value`."""
    if value.type is Type.DYNAMIC:
        value = converted(value, REAL, span)
    if value.type not in (*NUMBERS, TIMESPAN):
        raise KqlError(f"`-` does not apply to {value.type}", span)
    if isinstance(value.constant, int | float) and not isinstance(value.constant, bool):
        return constant(value.type, -value.constant)
    return Value(f"(-{value.sql})", value.type, value.nullable)


def _wide(values: Sequence[Value]) -> Type:
    return LONG if values[0].type is INT else values[0].type


def _absolute(values: Sequence[Value]) -> str:
    if values[0].type not in (*NUMBERS, TIMESPAN):
        raise KqlError(f"expected a number or timespan, found a {values[0].type}", Span(0, 1))
    return f"abs({values[0].sql})"


def _round(values: Sequence[Value]) -> str:
    places = values[1].sql if len(values) > 1 else "0"
    # ClickHouse rounds halves of floats to even; KQL rounds them away from zero.
    return f"(sign({values[0].sql}) * floor(abs({values[0].sql}) * pow(10, {places}) + 0.5) / pow(10, {places}))"


def _bytes(values: Sequence[Value]) -> str:
    places = values[1].sql if len(values) > 1 else "0"
    size = values[0].sql
    if len(values) > 2:
        powers = {"Bytes": 0, "KB": 1, "MB": 2, "GB": 3, "TB": 4, "PB": 5}
        unit = str(values[2].constant)
        if unit not in powers:
            raise KqlError(f"{unit!r} is no unit; known are {', '.join(powers)}", Span(0, 1))
        return f"concat(toString(round({size} / pow(1024, {powers[unit]}), {places})), ' {unit}')"
    power = f"least(if({size} = 0, 0, toInt32(floor(log2(abs(toFloat64({size}))) / 10))), 5)"
    units = "['Bytes', 'KB', 'MB', 'GB', 'TB', 'PB']"
    return f"concat(toString(round({size} / pow(1024, {power}), {places})), ' ', arrayElement({units}, {power} + 1))"


def _real(function: str) -> Signature:
    return Signature(REAL, "n", f"{function}({{0}})", keeps_name=True)


def _bits(sql: str) -> Signature:
    return Signature(LONG, "ll", sql, keeps_name=True)


FUNCTIONS = {
    "abs": Signature(_wide, "a", _absolute, keeps_name=True),
    "sign": Signature(REAL, "n", "toFloat64(sign({0}))"),
    "sqrt": _real("sqrt"), "exp": _real("exp"), "exp2": _real("exp2"), "exp10": _real("exp10"), "log": _real("log"),
    "log2": _real("log2"), "log10": _real("log10"), "sin": _real("sin"), "cos": _real("cos"), "tan": _real("tan"),
    "asin": _real("asin"), "acos": _real("acos"), "atan": _real("atan"),
    "radians": Signature(REAL, "n", "radians({0})"), "degrees": Signature(REAL, "n", "degrees({0})"),
    "gamma": _real("tgamma"), "loggamma": _real("lgamma"), "erf": _real("erf"), "erfc": _real("erfc"),
    "cot": Signature(REAL, "n", "(1 / tan({0}))"),
    "atan2": Signature(REAL, "nn", "atan2({0}, {1})", keeps_name=True),
    "pow": Signature(REAL, "nn", "pow({0}, {1})", keeps_name=True),
    "pi": Signature(REAL, "", "pi()"),
    "rand": Signature(REAL, "?l", lambda v: f"toFloat64(rand64() % {v[0].sql})" if v else "randCanonical()"),
    "round": Signature(first_type, "n?l", _round, keeps_name=True),
    "ceiling": Signature(first_type, "n", "ceil({0})", keeps_name=True),
    "isnan": Signature(BOOL, "r", "isNaN({0})"),
    "isinf": Signature(BOOL, "r", "isInfinite({0})"),
    "isfinite": Signature(BOOL, "r", "isFinite({0})"),
    "binary_and": _bits("bitAnd(toInt64({0}), toInt64({1}))"),
    "binary_or": _bits("bitOr(toInt64({0}), toInt64({1}))"),
    "binary_xor": _bits("bitXor(toInt64({0}), toInt64({1}))"),
    "binary_not": Signature(LONG, "l", "bitNot(toInt64({0}))", keeps_name=True),
    "binary_shift_left": _bits("bitShiftLeft(toInt64({0}), {1} % 64)"),
    "binary_shift_right": _bits("bitShiftRight(toInt64({0}), {1} % 64)"),
    "bitset_count_ones": Signature(LONG, "l", "toInt64(bitCount(toInt64({0})))", keeps_name=True),
    "format_bytes": Signature(Type.STRING, "n?lS", _bytes, keeps_name=True),
}  # fmt: skip
