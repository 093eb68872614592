"""Functions of times and timespans. Weeks begin on Sunday.

The last moment of a day is its last microsecond here, 100 ns before the next day in Kusto.
Source: learn.microsoft.com/kusto/query/scalar-functions, "DateTime and timespan functions".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hunting.kql.errors import KqlError, Span
from hunting.kql.lexer import TICKS
from hunting.kql.scalar import numbers
from hunting.kql.scalar.signatures import Signature
from hunting.kql.types import NUMBERS, Type
from hunting.kql.values import EPOCH_TICKS, Value, converted, widest

DATETIME, TIMESPAN, LONG, INT, STRING = Type.DATETIME, Type.TIMESPAN, Type.LONG, Type.INT, Type.STRING

_PARTS = {
    "year": "toYear({0})", "quarter": "toQuarter({0})", "month": "toMonth({0})", "week_of_year": "toISOWeek({0})",
    "day": "toDayOfMonth({0})", "dayofyear": "toDayOfYear({0})", "hour": "toHour({0})", "minute": "toMinute({0})",
    "second": "toSecond({0})", "millisecond": "intDiv(toUnixTimestamp64Micro({0}) % 1000000, 1000)",
    "microsecond": "(toUnixTimestamp64Micro({0}) % 1000000)", "nanosecond": "(toUnixTimestamp64Micro({0}) % 1000000 * 1000)",
}  # fmt: skip
_UNITS = {
    "year": "Year", "quarter": "Quarter", "month": "Month", "week": "Week", "day": "Day", "hour": "Hour", "minute": "Minute",
    "second": "Second", "millisecond": "Millisecond", "microsecond": "Microsecond",
}  # fmt: skip


def _part_name(value: Value, known: dict[str, str]) -> str:
    name = str(value.constant).lower()
    if name not in known:
        raise KqlError(f"{value.constant!r} is no part of a time; known are {', '.join(known)}", Span(0, 1))
    return name


def _datepart(values: Sequence[Value]) -> str:
    return f"toInt32({_PARTS[_part_name(values[0], _PARTS)].format(values[1].sql)})"


def _added(values: Sequence[Value]) -> str:
    unit = _UNITS[_part_name(values[0], _UNITS)]
    return f"add{unit}s({values[2].sql}, {values[1].sql})"


def _difference(values: Sequence[Value]) -> str:
    """Return how many boundaries of the unit lie between two times; weeks begin on Sunday."""
    unit = _part_name(values[0], {**_UNITS, "nanosecond": ""})
    later, earlier = values[1].sql, values[2].sql
    if unit == "week":
        return f"toInt64(intDiv(toInt32({_start_of_week(later)}) - toInt32({_start_of_week(earlier)}), 7))"
    if unit == "nanosecond":
        return f"((toUnixTimestamp64Micro({later}) - toUnixTimestamp64Micro({earlier})) * 1000)"
    return f"toInt64(dateDiff('{unit}', {earlier}, {later}))"


def _start_of_week(sql: str) -> str:
    return _STARTS["Week"].format(f"toDate32({sql})")


_STARTS = {
    "Day": "{0}",
    "Week": "subtractDays({0}, toDayOfWeek({0}) % 7)",
    "Month": "subtractDays({0}, toDayOfMonth({0}) - 1)",
    "Year": "subtractDays({0}, toDayOfYear({0}) - 1)",
}
"""The first day of a period, as a Date32: ClickHouse's own functions know no time before 1970."""


def _start(unit: str, offset_function: str, *, end: bool = False) -> Signature:
    """Return startof... or endof...: the last tick of a period is one microsecond before the next one."""

    def sql(values: Sequence[Value]) -> str:
        offset = values[1].sql if len(values) > 1 else "0"
        if end:
            offset = f"{offset} + 1"
        truncated = _STARTS[unit].format(f"toDate32({values[0].sql})")
        moved = truncated if offset == "0" else f"{offset_function}({truncated}, {offset})"
        found = f"toDateTime64({moved}, 6, 'UTC')"
        return f"subtractMicroseconds({found}, 1)" if end else found

    return Signature(DATETIME, "d?l", sql, keeps_name=unit == "Day" and not end)


_FORMATS = {
    "yyyy": "%Y", "yy": "%y", "y": "%y", "MM": "%m", "M": "%c", "dd": "%d", "d": "%e", "HH": "%H", "H": "%k",
    "hh": "%h", "h": "%l", "mm": "%i", "m": "%i", "ss": "%S", "s": "%S", "tt": "%p",
}  # fmt: skip
_FORMAT_WORDS = re.compile(r"y+|M+|d+|H+|h+|m+|s+|f+|F+|t+|.", re.DOTALL)


def _formatted(values: Sequence[Value]) -> str:
    """Return format_datetime: each specifier is one part of a concatenation."""
    at = values[0].sql
    parts = [_format_part(word, at) for word in _FORMAT_WORDS.findall(str(values[1].constant))]
    return f"concat({', '.join(parts)})" if len(parts) > 1 else (parts or ["''"])[0]


def _format_part(word: str, at: str) -> str:
    if word[0] in "fF":
        digits = (
            f"substring(concat(leftPad(toString(toUnixTimestamp64Micro({at}) % 1000000), 6, '0'), '0'), 1, {len(word)})"
        )
        return digits if word[0] == "f" else f"replaceRegexpOne({digits}, '0+$', '')"
    single = {"M": "toString(toMonth({0}))", "d": "toString(toDayOfMonth({0}))", "H": "toString(toHour({0}))"}
    single |= {
        "m": "toString(toMinute({0}))",
        "s": "toString(toSecond({0}))",
        "h": "toString((toHour({0}) + 11) % 12 + 1)",
    }
    if word in single:
        return single[word].format(at)
    if word in _FORMATS:
        return f"formatDateTime({at}, '{_FORMATS[word]}')"
    if word[0] in "yMdHhmst":
        raise KqlError(f"{word!r} is no part of a time format", Span(0, 1))
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _span_formatted(values: Sequence[Value]) -> str:
    """Return format_timespan: each specifier is one part of a concatenation."""
    t = f"abs({values[0].sql})"
    whole = {"d": f"intDiv({t}, {TICKS['day']})"}
    whole |= {"h": f"intDiv({t}, {TICKS['hour']}) % 24", "H": f"intDiv({t}, {TICKS['hour']}) % 24"}
    whole |= {"m": f"intDiv({t}, {TICKS['minute']}) % 60", "s": f"intDiv({t}, {TICKS['second']}) % 60"}
    parts: list[str] = []
    for word in re.findall(r"d+|H+|h+|m+|s+|f+|F+|.", str(values[1].constant), re.DOTALL):
        if word[0] in whole:
            parts.append(f"leftPad(toString({whole[word[0]]}), {len(word)}, '0')")
        elif word[0] in "fF":
            digits = f"substring(leftPad(toString({t} % 10000000), 7, '0'), 1, {len(word)})"
            parts.append(digits if word[0] == "f" else f"replaceRegexpOne({digits}, '0+$', '')")
        else:
            parts.append("'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'")
    return f"concat({', '.join(parts)}, '')"


def _make_datetime(values: Sequence[Value]) -> str:
    if len(values) == 1:
        return converted(values[0], DATETIME, Span(0, 1)).sql
    year, month, day, hour, minute, second = (*[value.sql for value in values], *(["0"] * (6 - len(values))))[:6]
    date = f"makeDate32({year}, {month}, {day})"
    known = (
        f"toYear({date}) = {year} AND toMonth({date}) = {month} AND toDayOfMonth({date}) = {day} AND {hour} BETWEEN 0 AND 23"
        f" AND {minute} BETWEEN 0 AND 59 AND {second} >= 0 AND {second} < 60"
    )
    micros = f"toInt64(({hour} * 60 + {minute}) * 60000000 + round({second} * 1000000))"
    return f"if({known}, addMicroseconds(toDateTime64({date}, 6, 'UTC'), {micros}), NULL)"


def _make_timespan(values: Sequence[Value]) -> str:
    if len(values) == 1:
        return converted(values[0], TIMESPAN, Span(0, 1)).sql
    parts = [value.sql for value in values]
    if len(parts) < 4:
        parts = ["0", *parts, *(["0"] * (3 - len(parts)))]
    units = (TICKS["day"], TICKS["hour"], TICKS["minute"], TICKS["second"])
    return f"toInt64({' + '.join(f'{part} * {unit}' for part, unit in zip(parts, units, strict=True))})"


def binned(values: Sequence[Value], spans: Sequence[Span]) -> Value:
    """Return `bin(value, size)`: the value rounded down. Times are counted from the year 1, so weeks begin on Monday."""
    value, size = values
    if value.type is Type.DYNAMIC:
        value = converted(value, Type.REAL, spans[0])
    nullable = value.nullable or size.nullable
    if isinstance(size.constant, int | float) and size.constant == 0:
        raise KqlError("the size of a bin must not be 0", spans[1])
    if value.type is DATETIME:
        if size.type is not TIMESPAN:
            raise KqlError(f"expected a timespan such as 1h, found a {size.type}", spans[1])
        return Value(_binned_time(value.sql, size), DATETIME, nullable, name=value.name)
    if value.type is TIMESPAN and size.type is not TIMESPAN:
        raise KqlError(f"expected a timespan such as 1h, found a {size.type}", spans[1])
    if value.type is TIMESPAN or (value.type in (INT, LONG) and size.type in (INT, LONG)):
        divisor, may_be_null = numbers.divisor(size)
        sql = f"toInt64({value.sql} - positiveModulo({value.sql}, {divisor}))"
        type_ = widest((value.type, size.type)) if value.type is not TIMESPAN else TIMESPAN
        return Value(sql, type_, nullable or may_be_null, name=value.name)
    if value.type in NUMBERS and size.type in NUMBERS:
        sql = f"(floor({value.sql} / {size.sql}) * {size.sql})"
        return Value(sql, widest((value.type, size.type)), nullable, name=value.name)
    raise KqlError(f"a {value.type} has no bins of the type {size.type}", spans[0])


def _binned_time(sql: str, size: Value) -> str:
    """Return a time rounded down, counted from the year 1."""
    micros = f"toUnixTimestamp64Micro({sql})"
    if isinstance(size.constant, int) and size.constant % 10 == 0 and EPOCH_TICKS % size.constant == 0:
        # The size divides 1970: no need to count from the year 1.
        return f"fromUnixTimestamp64Micro({micros} - positiveModulo({micros}, {abs(size.constant) // 10}), 'UTC')"
    ticks = f"({micros} * 10 + {EPOCH_TICKS})"
    divisor, _ = numbers.divisor(size)
    return f"fromUnixTimestamp64Micro(intDiv({ticks} - positiveModulo({ticks}, {divisor}) - {EPOCH_TICKS}, 10), 'UTC')"


FUNCTIONS = {
    "datetime_part": Signature(INT, "Sd", _datepart),
    "datepart": Signature(INT, "Sd", _datepart),
    "datetime_add": Signature(DATETIME, "Sld", _added),
    "datetime_diff": Signature(LONG, "Sdd", _difference),
    "startofday": _start("Day", "addDays"),
    "startofweek": _start("Week", "addWeeks"),
    "startofmonth": _start("Month", "addMonths"),
    "startofyear": _start("Year", "addYears"),
    "endofday": _start("Day", "addDays", end=True),
    "endofweek": _start("Week", "addWeeks", end=True),
    "endofmonth": _start("Month", "addMonths", end=True),
    "endofyear": _start("Year", "addYears", end=True),
    "dayofweek": Signature(TIMESPAN, "d", f"(toInt64(toDayOfWeek({{0}}) % 7) * {TICKS['day']})"),
    "dayofmonth": Signature(INT, "d", "toInt32(toDayOfMonth({0}))"),
    "dayofyear": Signature(INT, "d", "toInt32(toDayOfYear({0}))"),
    "hourofday": Signature(INT, "d", "toInt32(toHour({0}))"),
    "monthofyear": Signature(INT, "d", "toInt32(toMonth({0}))"),
    "getmonth": Signature(INT, "d", "toInt32(toMonth({0}))"),
    "getyear": Signature(INT, "d", "toInt32(toYear({0}))"),
    "week_of_year": Signature(INT, "d", "toInt32(toISOWeek({0}))"),
    "weekofyear": Signature(INT, "d", "toInt32(toISOWeek({0}))"),
    "format_datetime": Signature(STRING, "dS", _formatted, keeps_name=True),
    "format_timespan": Signature(STRING, "tS", _span_formatted, keeps_name=True),
    "make_datetime": Signature(DATETIME, "a?lllln", _make_datetime, nullable=True),
    "make_timespan": Signature(TIMESPAN, "a?lln", _make_timespan, nullable=True),
    "unixtime_seconds_todatetime": Signature(DATETIME, "n", "fromUnixTimestamp64Micro(toInt64({0} * 1000000), 'UTC')"),
    "unixtime_milliseconds_todatetime": Signature(DATETIME, "n", "fromUnixTimestamp64Micro(toInt64({0} * 1000), 'UTC')"),
    "unixtime_microseconds_todatetime": Signature(DATETIME, "n", "fromUnixTimestamp64Micro(toInt64({0}), 'UTC')"),
    "unixtime_nanoseconds_todatetime": Signature(DATETIME, "n", "fromUnixTimestamp64Micro(intDiv(toInt64({0}), 1000), 'UTC')"),
    "datetime_utc_to_local": Signature(
        DATETIME, "dS", "toDateTime64(formatDateTime({0}, '%Y-%m-%d %H:%i:%S.%f', {1}), 6, 'UTC')"
    ),
    "datetime_local_to_utc": Signature(
        DATETIME, "dS", "toTimeZone(toDateTime64(formatDateTime({0}, '%Y-%m-%d %H:%i:%S.%f'), 6, {1}), 'UTC')"
    ),
}  # fmt: skip
