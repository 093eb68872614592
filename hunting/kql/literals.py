"""Literals that have a text of their own: datetime, timespan, guid and dynamic.

Source: learn.microsoft.com/kusto/query/scalar-data-types/datetime, .../timespan and .../dynamic.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from hunting.kql.errors import KqlError, Span
from hunting.kql.lexer import TICKS, UNITS, Kind, Token
from hunting.kql.stream import Stream
from hunting.kql.syntax import Literal
from hunting.kql.types import Type

_Item = TypeVar("_Item")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATETIME_TEXT = (
    r"^(\d{4}[-/]\d{1,2}([-/]\d{1,2}([T ]+\d{1,2}:\d{2}(:\d{2}([.]\d{1,9})?)?( ?[AP]M)?)?)? ?(Z|GMT|UTC|[-+]\d{2}:?\d{2})?"
    r"|\d{1,2}/\d{1,2}/\d{4}( \d{1,2}:\d{2}(:\d{2}([.]\d{1,9})?)?( ?[AP]M)?)?"
    r"|([A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2,8} \d{4}( \d{1,2}:\d{2}(:\d{2})?)?( (Z|GMT|UTC|[-+]\d{4}))?)$"
)
"""Texts that `todatetime` reads: a regular expression (RE2)."""
GUID_TEXT = r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"
"""Texts that `toguid` reads: a regular expression (RE2)."""

_DATETIME = re.compile(
    r"(\d{4})-(\d{1,2})(?:-(\d{1,2}))?(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|GMT|UTC|[+-]\d{2}:?\d{2})?",
    re.I,
)
_SPAN = re.compile(r"(-)?(?:(\d+)\.)?(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,7}))?)?")
_SPAN_UNIT = re.compile(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_GUID = re.compile(r"\{?([0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12})\}?")


def typed(word: Token) -> Literal:
    """Return the literal of a word of kind TYPED. Raises KqlError."""
    name, _, text = word.value.partition(" ")
    type_ = Type(name)
    if text in ("null", ""):
        return Literal(type_, None if type_ is not Type.GUID else "", span=word.span)
    read = {Type.DATETIME: micros, Type.TIMESPAN: ticks, Type.GUID: guid}[type_]
    value = read(text)
    if value is None:
        raise KqlError(f"{text!r} is no {name}, or out of its range", word.span)
    return Literal(type_, value, span=word.span)


def micros(text: str) -> int | None:
    """Return microseconds since 1970 of a written time (UTC where it has no zone), None if it is no time."""
    match = _DATETIME.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        at = datetime(
            int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
        at += timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))
        if zone and zone[0] in "+-":
            at -= timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[-2:]))
    except (ValueError, OverflowError):
        return None
    return (at - EPOCH) // timedelta(microseconds=1)


def ticks(text: str) -> int | None:
    """Return the ticks of 100 ns of a written timespan, None if it is none. A number alone is days."""
    text = text.strip()
    if match := _SPAN.fullmatch(text):
        sign, days, hours, minutes, seconds, fraction = match.groups()
        whole = ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds or 0)
        found = whole * TICKS["second"] + int((fraction or "0").ljust(7, "0"))
        return -found if sign else found
    if (match := _SPAN_UNIT.fullmatch(text)) and match[2] in UNITS:
        return round(float(match[1]) * UNITS[match[2]])
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return round(float(text) * TICKS["day"])
    return None


def guid(text: str) -> str | None:
    """Return a written guid in lower case with its dashes, None if it is none."""
    match = _GUID.fullmatch(text)
    if match is None:
        return None
    digits = match[1].replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def number(word: Token) -> Literal:
    """Return the literal of a number; a fraction or an exponent makes it real. Raises KqlError."""
    if re.fullmatch(r"\d+", word.value):
        value = int(word.value)
        if value >= 2**63:
            raise KqlError("the number is larger than a long", word.span)
        return Literal(Type.LONG, value, span=word.span)
    return Literal(Type.REAL, float(word.value), span=word.span)


def in_parentheses(stream: Stream, type_: Type, start: Span) -> Literal:
    """Read `null`, a number, a text or a truth value and the closing parenthesis, as in `long(null)`. Raises KqlError."""
    sign = -1 if stream.accept("-") else 1
    stream.accept("+")
    word = stream.advance()
    value = _constant(word, type_)
    if value is _NO_VALUE:
        raise KqlError(f"found `{word.value[:40]}`, expected a {type_} or null", word.span)
    end = stream.expect(")")
    if isinstance(value, int | float) and not isinstance(value, bool):
        value *= sign
    return Literal(type_, value, span=start.to(end.span))


_NO_VALUE = object()
_REALS = {"nan": float("nan"), "NaN": float("nan"), "inf": float("inf")}


def _constant(word: Token, type_: Type) -> object:
    if word.value == "null":
        return None
    if word.kind is Kind.NUMBER:
        if type_ is Type.BOOL:
            return float(word.value) != 0
        found = number(word).value
        assert isinstance(found, int | float)
        return float(found) if type_ in (Type.REAL, Type.DECIMAL) else int(found)
    if word.kind is Kind.NAME and type_ is Type.BOOL and word.value.lower() in ("true", "false"):
        return word.value.lower() == "true"
    if word.kind is Kind.NAME and type_ is Type.REAL and word.value in _REALS:
        return _REALS[word.value]
    if word.kind is Kind.TEXT and type_ is Type.STRING:
        return word.value
    return _NO_VALUE


def dynamic(stream: Stream, start: Span) -> Literal:
    """Read what is inside `dynamic( )` and the closing parenthesis: JSON, with KQL's literals in it. Raises KqlError."""
    value = _json(stream)
    end = stream.expect(")")
    return Literal(Type.DYNAMIC, value, span=start.to(end.span))


def _json(stream: Stream) -> object:
    with stream.nested():
        if stream.accept("["):
            return list(_items(stream, "]", _json))
        if stream.accept("{"):
            return dict(_items(stream, "}", _pair))
        negative = stream.accept("-") is not None
        word = stream.advance()
        if word.kind is Kind.NUMBER:
            found = number(word).value
            assert isinstance(found, int | float)
            return -found if negative else found
        if word.kind is Kind.TEXT:
            return word.value
        if word.kind is Kind.TIMESPAN:
            return span_text(int(word.value))
        if word.kind is Kind.TYPED:
            return _as_text(typed(word))
        constants = {"true": True, "false": False, "null": None}
        if word.value not in constants:
            raise KqlError(f"found `{word.value[:40]}`, expected JSON", word.span)
        return constants[word.value]


def _as_text(literal: Literal) -> str | None:
    """Return a typed literal as it is in JSON."""
    if not isinstance(literal.value, int):
        return str(literal.value) if literal.value else None
    if literal.type is Type.TIMESPAN:
        return span_text(literal.value)
    return f"{EPOCH + timedelta(microseconds=literal.value):%Y-%m-%dT%H:%M:%S.%f}0Z".rjust(28, "0")


def span_text(ticks_: int) -> str:
    """Return a timespan of so many ticks as `tostring` does."""
    seconds, fraction = divmod(abs(ticks_), TICKS["second"])
    days, seconds = divmod(seconds, 86_400)
    shown = f"{days}." if days else ""
    shown += f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return ("-" if ticks_ < 0 else "") + shown + (f".{fraction:07}" if fraction else "")


def _items(stream: Stream, closing: str, read: Callable[[Stream], _Item]) -> list[_Item]:
    found: list[_Item] = []
    while not stream.accept(closing):
        found.append(read(stream))
        if not stream.accept(","):
            stream.expect(closing, what=f"`,` or `{closing}`")
            break
    return found


def _pair(stream: Stream) -> tuple[str, object]:
    word = stream.advance()
    if word.kind is not Kind.TEXT:
        raise KqlError(f"found `{word.value[:40]}`, expected a key in quotes", word.span)
    stream.expect(":")
    return word.value, _json(stream)


def as_json(value: object) -> str:
    """Return a dynamic constant as its stored text; null is empty."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
