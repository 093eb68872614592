"""Bound values: an expression in SQL with its KQL type; and how values of one type become another.

User text enters SQL in two functions only: `text_literal` and `identifier`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from hunting.kql.errors import KqlError, Span
from hunting.kql.literals import DATETIME_TEXT, EPOCH, GUID_TEXT, as_json, guid
from hunting.kql.types import CLICKHOUSE, NEVER_NULL, NUMBERS, TEXTS, Type, stored

SQL_CHARS_MAX = 1_000_000
"""Longest SQL of one expression. A `let` that is used twice in each of twenty others would need a million times its length."""
EPOCH_TICKS = 621_355_968_000_000_000
"""Ticks of 100 ns from the year 1, where KQL's time begins, to 1970."""


class _NoConstant:
    """The value is known only when the query runs."""


NO_CONSTANT = _NoConstant()


@dataclass(frozen=True, slots=True)
class Value:
    """An expression. `name` is the name that KQL gives to a column of it, "" for none."""

    sql: str
    type: Type
    nullable: bool = True
    constant: object = NO_CONSTANT
    name: str = ""
    path: tuple[str, tuple[str | int, ...]] | None = None
    """A dynamic value that is a property: SQL of its base, names and places."""
    aggregate: bool = False
    parts: Mapping[str, str] | None = None
    """Of a property bag that is computed: SQL of the texts of its properties."""
    text: str = ""
    """Of a dynamic value that is a text: SQL of it."""

    def __post_init__(self) -> None:
        if len(self.sql) > SQL_CHARS_MAX:
            raise KqlError(f"the SQL of one expression exceeds {SQL_CHARS_MAX:,} characters", Span(0, 1))

    @property
    def is_constant(self) -> bool:
        """Whether the value is written in the query."""
        return not isinstance(self.constant, _NoConstant)

    def called(self, name: str) -> Value:
        """Return the value with another name."""
        return replace(self, name=name)


def text_literal(text: str) -> str:
    """Return a text as SQL."""
    escaped = (
        text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0").replace("\n", "\\n").replace("\r", "\\r")
    )
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """Return the name of a column or table as SQL."""
    if _PLAIN_NAME.fullmatch(name):
        return f"`{name}`" if name.upper() in _RESERVED else name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`").replace("\0", "\\0").replace("\n", "\\n")
    return f"`{escaped}`"


_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_RESERVED = {
    "ALL", "AND", "ANTI", "ANY", "ARRAY", "AS", "ASC", "ASOF", "BETWEEN", "BOTH", "BY", "CASE", "CAST", "CROSS", "DATE", "DESC",
    "DISTINCT", "ELSE", "END", "EXCEPT", "FALSE", "FINAL", "FOR", "FORMAT", "FROM", "FULL", "GLOBAL", "GROUP", "HAVING", "ID",
    "IF", "ILIKE", "IN", "INF", "INNER", "INTERSECT", "INTERVAL", "INTO", "IS", "JOIN", "KEY", "LEADING", "LEFT", "LIKE", "LIMIT",
    "NAN", "NOT", "NULL", "NULLS", "OFFSET", "ON", "OR", "ORDER", "OUTER", "OVER", "PARTITION", "PREWHERE", "QUALIFY", "RIGHT",
    "ROW", "ROWS", "SAMPLE", "SELECT", "SEMI", "SET", "SETTINGS", "TABLE", "THEN", "TIMESTAMP", "TO", "TOP", "TOTALS", "TRAILING",
    "TRUE", "TYPE", "UNION", "USING", "VALUES", "VIEW", "WHEN", "WHERE", "WINDOW", "WITH", "INDEX", "DIV", "MOD", "EXTRACT",
}  # fmt: skip


# -- constants


def constant(type_: Type, value: object) -> Value:
    """Return a constant of this type; the value is as in `syntax.Literal`."""
    if type_ is Type.DYNAMIC:
        return Value(text_literal(as_json(value)), type_, False, value)
    if value is None:
        sql = "''" if type_ in NEVER_NULL else f"CAST(NULL, {text_literal(stored(type_))})"
        return Value(sql, type_, type_ not in NEVER_NULL, None)
    return Value(_constant_sql(type_, value), type_, False, value)


def _constant_sql(type_: Type, value: object) -> str:
    if type_ in TEXTS:
        return text_literal(str(value))
    if type_ is Type.BOOL:
        return "true" if value else "false"
    if type_ is Type.DATETIME:
        assert isinstance(value, int)
        at = EPOCH + timedelta(microseconds=value)
        return f"toDateTime64('{at.isoformat(' ', 'microseconds').partition('+')[0]}', 6, 'UTC')"
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        if math.isinf(value):
            return "inf" if value > 0 else "(-inf)"
        written = repr(value)
        return written if value >= 0 else f"({written})"
    written = str(int(str(value)))
    return written if not written.startswith("-") else f"({written})"


def as_column(value: Value) -> str:
    """Return SQL that has the exact type of a column.

    ClickHouse gives a number the smallest type that holds it, and a condition the type UInt8.
    """
    if value.type not in _EXACT or _COLUMN.fullmatch(value.sql) or (value.is_constant and value.constant is None):
        return value.sql
    if value.type is Type.BOOL and value.is_constant:
        return value.sql
    return f"to{CLICKHOUSE[value.type]}({value.sql})"


_EXACT = (Type.BOOL, Type.INT, Type.LONG, Type.TIMESPAN, Type.REAL)
_COLUMN = re.compile(r"[a-z]\.(\w+|`[^`]*`)")


# -- conversions


def to_text(value: Value) -> Value:
    """Return the value as `tostring` does; null becomes an empty text."""
    if value.type in TEXTS:
        return replace(value, type=Type.STRING, path=None)
    if value.type is Type.DYNAMIC:
        if value.text:
            return Value(value.text, Type.STRING, False, name=value.name)
        if value.is_constant:
            whole = value.constant
            return constant(Type.STRING, whole if isinstance(whole, str) else as_json(whole))
        base, path = value.path or (value.sql, ())
        places = "".join(f"{place(step)}, " for step in path)
        return Value(f"JSONExtract({base}, {places}'String')", Type.STRING, False, name=value.name)
    template = _TEXTS.get(value.type, "toString({0})")
    if value.nullable and value.type is Type.BOOL:
        template = "multiIf(isNull({0}), '', {0}, 'true', 'false')"
    sql = template.format(value.sql)
    return Value(f"ifNull({sql}, '')" if value.nullable else sql, Type.STRING, False, name=value.name)


def place(step: str | int) -> str:
    """Return a step of a path as an argument of ClickHouse's JSON functions, which count from 1."""
    if isinstance(step, str):
        return text_literal(step)
    return str(step + 1 if step >= 0 else step)


_SPAN_TEXT = (
    "arrayElement(arrayMap(t -> concat(if(t < 0, '-', ''),"
    " if(abs(t) >= 864000000000, concat(toString(intDiv(abs(t), 864000000000)), '.'), ''),"
    " leftPad(toString(intDiv(abs(t), 36000000000) % 24), 2, '0'), ':',"
    " leftPad(toString(intDiv(abs(t), 600000000) % 60), 2, '0'), ':',"
    " leftPad(toString(intDiv(abs(t), 10000000) % 60), 2, '0'),"
    " if(abs(t) % 10000000 = 0, '', concat('.', leftPad(toString(abs(t) % 10000000), 7, '0')))), [{0}]), 1)"
)
_REAL_TEXT = (
    "replaceRegexpOne(replaceRegexpOne(replaceRegexpOne(toString({0}), '^(-?\\\\d+)$', '\\\\1.0'), '^nan$', 'NaN'),"
    " 'inf$', 'Infinity')"
)
_TEXTS = {
    Type.REAL: _REAL_TEXT,
    Type.BOOL: "if({0}, 'true', 'false')",
    Type.DATETIME: "concat(formatDateTime({0}, '%Y-%m-%dT%H:%i:%S.%f'), '0Z')",
    Type.TIMESPAN: _SPAN_TEXT,
}


def to_dynamic(value: Value) -> Value:
    """Return the value as JSON; null becomes an empty text."""
    if value.type is Type.DYNAMIC:
        return value
    if value.is_constant and value.type not in (Type.DATETIME, Type.TIMESPAN, Type.REAL):
        return constant(Type.DYNAMIC, value.constant)
    if value.type is Type.REAL:
        # JSON has no infinity.
        sql = f"if(isFinite({value.sql}), {to_text(value).sql}, '')"
    elif value.type in (Type.BOOL, *NUMBERS):
        sql = to_text(value).sql
    elif value.type in TEXTS:
        sql = f"toJSONString({value.sql})"
    elif value.nullable:
        sql = f"if(isNull({value.sql}), '', toJSONString({to_text(value).sql}))"
    else:
        sql = f"toJSONString({to_text(value).sql})"
    return Value(sql, Type.DYNAMIC, False, name=value.name)


_WHOLE = (
    "coalesce(toInt64OrNull(s),"
    " if(match(s, '^[-+]?\\\\d+[.]\\\\d*$'), accurateCastOrNull(trunc(toFloat64OrNull(s)), 'Int64'), NULL),"
    " if(match(s, '^0[xX][0-9a-fA-F]{1,16}$'), reinterpretAsInt64(reverse(unhex(leftPad(substring(s, 3), 16, '0')))), NULL))"
)
_TICKS = (
    "multiIf(match(s, '^-?(\\\\d+[.])?\\\\d+:\\\\d+(:\\\\d+([.]\\\\d+)?)?$'),"
    " if(startsWith(s, '-'), -1, 1) * (toInt64OrZero(extract(s, '(\\\\d+)[.]\\\\d+:')) * 864000000000"
    " + toInt64OrZero(extract(s, '(\\\\d+):')) * 36000000000 + toInt64OrZero(extract(s, ':(\\\\d+)')) * 600000000"
    " + toInt64OrZero(extract(s, ':\\\\d+:(\\\\d+)')) * 10000000"
    " + toInt64OrZero(rightPad(extract(s, ':\\\\d+:\\\\d+[.](\\\\d+)'), 7, '0'))),"
    " match(s, '^-?\\\\d+([.]\\\\d+)?(d|h|m|s|ms)?$'), accurateCastOrNull(round(toFloat64OrNull(extract(s, '^[-.0-9]+'))"
    " * transform(extract(s, '[a-z]+'), ['', 'd', 'h', 'm', 's', 'ms'],"
    " [864000000000, 864000000000, 36000000000, 600000000, 10000000, 10000], 0)), 'Int64'), NULL)"
)
_FROM_TEXT = {
    Type.LONG: _WHOLE,
    Type.INT: f"accurateCastOrNull({_WHOLE}, 'Int32')",
    Type.REAL: "toFloat64OrNull(s)",
    Type.DECIMAL: "toDecimal128OrNull(s, 12)",
    Type.BOOL: "multiIf(lower(s) IN ('true', '1'), true, lower(s) IN ('false', '0'), false, NULL)",
    Type.DATETIME: f"if(match(s, {text_literal(DATETIME_TEXT)}), parseDateTime64BestEffortUSOrNull(s, 6, 'UTC'), NULL)",
    Type.TIMESPAN: _TICKS,
}
"""How a text `s` without spaces around it is read."""
_CASTS = {
    (Type.REAL, Type.LONG): "accurateCastOrNull(trunc({0}), 'Int64')",
    (Type.REAL, Type.INT): "accurateCastOrNull(trunc({0}), 'Int32')",
    (Type.DECIMAL, Type.LONG): "toInt64({0})",
    (Type.LONG, Type.INT): "accurateCastOrNull({0}, 'Int32')",
    (Type.INT, Type.LONG): "toInt64({0})",
    (Type.DATETIME, Type.LONG): f"(toUnixTimestamp64Micro({{0}}) * 10 + {EPOCH_TICKS})",
    (Type.LONG, Type.DATETIME): f"fromUnixTimestamp64Micro(intDiv({{0}} - {EPOCH_TICKS}, 10), 'UTC')",
    (Type.TIMESPAN, Type.LONG): "{0}",
    (Type.LONG, Type.TIMESPAN): "{0}",
    (Type.INT, Type.TIMESPAN): "toInt64({0})",
    (Type.INT, Type.DATETIME): f"fromUnixTimestamp64Micro(intDiv(toInt64({{0}}) - {EPOCH_TICKS}, 10), 'UTC')",
    (Type.DATETIME, Type.REAL): f"toFloat64(toUnixTimestamp64Micro({{0}}) * 10 + {EPOCH_TICKS})",
    (Type.TIMESPAN, Type.REAL): "toFloat64({0})",
    (Type.BOOL, Type.LONG): "toInt64({0})",
    (Type.BOOL, Type.INT): "toInt32({0})",
    (Type.BOOL, Type.REAL): "toFloat64({0})",
    (Type.LONG, Type.BOOL): "({0} != 0)",
    (Type.INT, Type.BOOL): "({0} != 0)",
    (Type.REAL, Type.BOOL): "({0} != 0)",
}
_WIDER = {
    Type.INT: "toInt32({0})",
    Type.LONG: "toInt64({0})",
    Type.REAL: "toFloat64({0})",
    Type.DECIMAL: "toDecimal128({0}, 12)",
}


def converted(value: Value, type_: Type, span: Span) -> Value:
    """Return the value as `tolong(...)`, `todatetime(...)` and the like do. Raises KqlError where KQL has no conversion.

    The documentation leaves open how texts are read. Here spaces around them are ignored; `tolong` reads decimal digits, cuts
    a fraction ("12.7" is 12) and reads hexadecimal digits behind 0x; a datetime is ISO 8601, RFC 822 with four digits of the
    year, or month/day/year; everything else is null.
    """
    if value.type is type_ or (value.type in TEXTS and type_ is Type.STRING):
        return replace(value, type=type_)
    if type_ is Type.GUID and value.type in (Type.STRING, Type.DYNAMIC):
        return _guid(to_text(value))
    if type_ in TEXTS:
        return replace(to_text(value), type=type_)
    if type_ is Type.DYNAMIC:
        return to_dynamic(value)
    if value.type in TEXTS or value.type is Type.DYNAMIC:
        return Value(
            f"arrayElement(arrayMap(s -> {_FROM_TEXT[type_]}, [trim({to_text(value).sql})]), 1)",
            type_,
            True,
            name=value.name,
        )
    template = _CASTS.get((value.type, type_))
    if template is None and value.type in NUMBERS and type_ in NUMBERS:
        template = _WIDER[type_]
    if template is None:
        raise KqlError(f"a {value.type} cannot be converted to {type_}", span)
    return Value(template.format(value.sql), type_, value.nullable or "OrNull" in template, name=value.name)


def _guid(text: Value) -> Value:
    """Return a text as a guid: in lower case, empty where it is none."""
    if isinstance(text.constant, str):
        return constant(Type.GUID, guid(text.constant.strip()) or "")
    sql = f"if(match({text.sql}, {text_literal(GUID_TEXT)}), lower({text.sql}), '')"
    return Value(sql, Type.GUID, False, name=text.name)


def widest(types: Sequence[Type]) -> Type:
    """Return the widest of numeric types: int, long, real, decimal."""
    return max(types, key=NUMBERS.index)


def common(values: Sequence[Value], span: Span) -> Type:
    """Return the type of `iff`, `case`, `coalesce` and the like. Raises KqlError where values have none in common."""
    types = {value.type for value in values if not (value.is_constant and value.constant is None)} or {values[0].type}
    if len(types) == 1:
        return types.pop()
    if types <= set(NUMBERS):
        return widest(list(types))
    if types <= set(TEXTS):
        return Type.STRING
    if Type.DYNAMIC in types:
        others = types - {Type.DYNAMIC}
        return others.pop() if len(others) == 1 else Type.DYNAMIC
    raise KqlError(f"values of the types {', '.join(sorted(types))} are mixed; convert them, as with tostring( )", span)
