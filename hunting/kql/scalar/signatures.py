"""How functions are declared: a table of SQL templates with the types of parameters and result.

Parameters are one letter each: `s` string, `l` long, `n` number, `r` real, `b` bool, `d` datetime, `t` timespan, `y` dynamic,
`a` any, `S` a constant string, `L` a constant long. Letters behind `?` are optional, `*` at the end repeats the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hunting.kql.errors import KqlError, Span
from hunting.kql.types import NEVER_NULL, NUMBERS, TEXTS, Type
from hunting.kql.values import Value, converted, to_dynamic, to_text

LETTERS = {
    "s": Type.STRING, "S": Type.STRING, "l": Type.LONG, "L": Type.LONG, "r": Type.REAL, "b": Type.BOOL, "d": Type.DATETIME,
    "t": Type.TIMESPAN, "y": Type.DYNAMIC,
}  # fmt: skip
REPEATED_MAX = 64
"""Arguments of a function that takes any number; KQL's own limit."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function. `result` is a type; `nullable`: it may be null though no argument is."""

    result: Type | Callable[[Sequence[Value]], Type]
    parameters: str
    sql: str | Callable[[Sequence[Value]], str]
    keeps_name: bool = False
    nullable: bool = False
    prefix: str = ""
    """What begins the name of a column of it, before that of the first argument: `strlen_x`."""

    def call(self, arguments: Sequence[Value], spans: Sequence[Span], span: Span, name: str) -> Value:
        """Return the call. Raises KqlError for a wrong number or type of arguments."""
        letters = self._letters(len(arguments), span, name)
        values = [
            self._argument(letter, *pair)
            for letter, pair in zip(letters, zip(arguments, spans, strict=True), strict=False)
        ]
        sql = self.sql.format(*(value.sql for value in values)) if isinstance(self.sql, str) else self.sql(values)
        result = self.result if isinstance(self.result, Type) else self.result(values)
        nullable = self.nullable or any(value.nullable for value in values)
        if nullable and result in NEVER_NULL:
            sql, nullable = f"ifNull({sql}, '')", False
        aggregate = any(argument.aggregate for argument in arguments)
        first = arguments[0].name if arguments else ""
        column = f"{self.prefix}_{first}" if self.prefix else (first if self.keeps_name else "")
        return Value(sql, result, nullable, name=column, aggregate=aggregate)

    def _letters(self, count: int, span: Span, name: str) -> list[str]:
        required = self.parameters.replace("*", "").partition("?")[0]
        least = len(required)
        letters = list(self.parameters.replace("*", "").replace("?", ""))
        if self.parameters.endswith("*"):
            letters += letters[-1:] * (REPEATED_MAX - len(letters))
        if not least <= count <= len(letters):
            wanted = str(least) if least == len(letters) else f"{least} to {len(letters)}"
            raise KqlError(f"`{name}` takes {wanted} arguments, found {count}", span)
        return letters[:count]

    def _argument(self, letter: str, value: Value, span: Span) -> Value:
        if letter == "a":
            return value
        if letter == "n":
            return number(value, span)
        if letter in "SL" and not value.is_constant:
            raise KqlError("expected a constant", span)
        type_ = LETTERS[letter]
        if value.type is type_:
            return value
        return _coerced(value, type_, span)


def _coerced(value: Value, type_: Type, span: Span) -> Value:
    """Return an argument as its parameter's type; KQL does so for dynamic values and between numbers."""
    if type_ is Type.DYNAMIC and value.type is Type.STRING:
        return to_dynamic(value)
    numbers = value.type in NUMBERS and type_ in NUMBERS
    if value.type is Type.DYNAMIC or numbers or (value.type in TEXTS and type_ in TEXTS):
        return to_text(value) if type_ is Type.STRING else converted(value, type_, span)
    if value.is_constant and value.constant is None:
        return converted(value, type_, span)
    raise KqlError(f"expected a {type_}, found a {value.type}", span)


def number(value: Value, span: Span) -> Value:
    """Return a numeric argument; a dynamic value is read as real. Raises KqlError for other types."""
    if value.type in NUMBERS:
        return value
    if value.type is Type.DYNAMIC:
        return converted(value, Type.REAL, span)
    raise KqlError(f"expected a number, found a {value.type}", span)


def first_type(values: Sequence[Value]) -> Type:
    """Return the type of the first argument."""
    return values[0].type
