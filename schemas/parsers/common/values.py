"""Values of JSON and XML events as text and numbers."""

from __future__ import annotations

Scalar = str | int | float | bool | None
"""A value as shipped: a string, in some shapes also a number or a truth value."""
NUMBER_DIGITS_MAX = 10


class Missing(ValueError):
    """An event lacks what everything rests on."""


def text(value: object) -> str:
    """A value as text; "" where there is none, or a dash in its place."""
    if value.__class__ is str:  # nearly always, and fast
        return "" if value == "-" else value
    if value is None:  # often, and as fast
        return ""
    return str(value) if isinstance(value, (int, float)) else ""  # a union would be built anew each time


def needed(value: object, name: str) -> str:
    """A value as text. Raises Missing where there is none."""
    if value.__class__ is str and value and value != "-":  # nearly always, and fast
        return value
    written = text(value)
    if not written:
        raise Missing(f"{name} is missing")
    return written


def number(value: object, what: str, largest: int) -> int:
    """A whole number, also one written as text. Raises ValueError."""
    if isinstance(value, str) and len(value) <= NUMBER_DIGITS_MAX and value.isdigit():
        value = int(value)
    if value.__class__ is int and 0 <= value <= largest:  # a truth value is of another class
        return value
    raise ValueError(f"{what} is {str(value)[:40]!r}, not a number up to {largest}")
