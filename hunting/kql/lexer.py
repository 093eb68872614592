"""The words of a query: names, literals and signs, each with its position.

Source of the forms: learn.microsoft.com/kusto/query, "Scalar data types" (each page has its literals) and "Entity names".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from hunting.kql.errors import KqlError, Span

TEXT_CHARS_MAX = 256 * 1024
"""Longest query, in characters. Reading one of this length takes half a second."""


class Kind(Enum):
    """What a token is."""

    NAME = auto()
    QUOTED_NAME = auto()
    TEXT = auto()
    NUMBER = auto()
    TIMESPAN = auto()
    TYPED = auto()
    """`datetime(...)`, `timespan(...)` or `guid(...)`: a literal whose text is no KQL."""
    SIGN = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One word. `value` is a name, a text without quotes and escapes, or what is written."""

    kind: Kind
    value: str
    span: Span


_TOKENS = re.compile(
    r"""(?P<space>(?:\s+|//[^\n]*)+)
      | (?P<typed>\b(?:datetime|date|timespan|time|guid)\s*\(\s*(?:[^()"'\n]*|"[^"\n]*"|'[^'\n]*')\s*\))
      | (?P<verbatim>[hH]?@"(?:[^"]|"")*"|[hH]?@'(?:[^']|'')*')
      | (?P<block>[hH]?```.*?```|[hH]?~~~.*?~~~)
      | (?P<text>[hH]?"(?:\\.|[^"\\\n])*"|[hH]?'(?:\\.|[^'\\\n])*')
      | (?P<name>[A-Za-z_$][A-Za-z_0-9]*)
      | (?P<hex>0[xX][0-9a-fA-F]+\b)
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+\b)?)(?P<unit>[A-Za-z]+)?
      | (?P<sign>![A-Za-z_]+~?|!=|!~|=~|==|=>|<=|>=|<>|<\||\.\.|[-+*/%()\[\]{},;:.|<>=?@^&!~])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_TYPED_NAMES = {"date": "datetime", "time": "timespan"}

TICKS = {"tick": 1, "microsecond": 10, "millisecond": 10_000, "second": 10_000_000}
"""Ticks of 100 ns in a unit of time; more below."""
TICKS |= {"minute": 60 * TICKS["second"], "hour": 3_600 * TICKS["second"], "day": 86_400 * TICKS["second"]}
_UNIT_NAMES = {
    "tick": ("tick", "ticks"),
    "microsecond": ("micro", "micros", "microsecond", "microseconds"),
    "millisecond": ("ms", "milli", "millis", "millisecond", "milliseconds"),
    "second": ("s", "sec", "second", "seconds"),
    "minute": ("m", "min", "minute", "minutes"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "day": ("d", "day", "days"),
}
UNITS = {written: TICKS[unit] for unit, names in _UNIT_NAMES.items() for written in names}
"""Ticks of 100 ns in the unit of a timespan literal such as `1d`."""


def tokens(text: str) -> list[Token]:
    """Return the words of a query; the last one is of kind END. Raises KqlError."""
    if len(text) > TEXT_CHARS_MAX:
        raise KqlError(
            f"the query is longer than {TEXT_CHARS_MAX:,} characters", Span(TEXT_CHARS_MAX, TEXT_CHARS_MAX + 1)
        )
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            raise _unreadable(text, at)
        if match.lastgroup != "space":
            found.append(_token(match, found))
        at = match.end()
    found.append(Token(Kind.END, "", Span(len(text), len(text))))
    return found


def _token(match: re.Match[str], before: list[Token]) -> Token:
    span = Span(match.start(), match.end())
    written = match.group()
    group = match.lastgroup
    if group in ("number", "unit"):
        return _number(match, span)
    if group == "hex":
        return Token(Kind.NUMBER, str(int(written, 16)), span)
    if group == "name":
        return Token(Kind.NAME, written, span)
    if group == "typed":
        if before and before[-1].value == ".":
            raise KqlError(f"found {written!r}, expected the name of a property", span)
        return Token(Kind.TYPED, _typed(written), span)
    if group == "sign":
        return Token(Kind.SIGN, written, span)
    return Token(Kind.TEXT, _text(written, str(group), span), span)


def _number(match: re.Match[str], span: Span) -> Token:
    unit = match["unit"]
    if unit is None:
        return Token(Kind.NUMBER, match["number"], span)
    if unit not in UNITS:
        raise KqlError(f"found {match.group()!r}, expected a number or a timespan such as 1d, 2h or 30m", span)
    return Token(Kind.TIMESPAN, str(round(float(match["number"]) * UNITS[unit])), span)


def _typed(written: str) -> str:
    name, _, rest = written.partition("(")
    name = name.strip()
    return f"{_TYPED_NAMES.get(name, name)} {rest[:-1].strip().strip(chr(34) + chr(39))}"


def _text(written: str, group: str, span: Span) -> str:
    written = written.lstrip("hH")
    if group == "verbatim":
        quote = written[1]
        return written[2:-1].replace(quote * 2, quote)
    if group == "block":
        return written[3:-3]

    def plain(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "uUx" and len(code) > 1:
            number = int(code[1:], 16)
        elif code[0] in "01234567":
            number = int(code, 8)
        elif code in _ESCAPED:
            return _ESCAPED[code]
        else:
            at = span.start + match.start() + 1
            raise KqlError(f'\\{code} is no escape; write \\\\{code}, or the text as @"..."', Span(at, at + 2))
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise KqlError(f"\\{code} is no character", span)
        return chr(number)

    return _ESCAPES.sub(plain, written[1:-1])


def _unreadable(text: str, at: int) -> KqlError:
    if text[at] in "\"'@" or text[at : at + 3] in ("```", "~~~"):
        end = text.find("\n", at)
        return KqlError("the text has no closing quote", Span(at, len(text) if end < 0 else end))
    return KqlError(f"found {text[at]!r}, which starts no name, number, text or operator", Span(at, at + 1))
