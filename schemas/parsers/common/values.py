"""Conversion of values in JSON and XML events to text and numbers."""

from __future__ import annotations

from schemas.events import TEXT_CHARS_MAX
from schemas.parsers.common.rejects import Missing

Scalar = str | int | float | bool | None
"""A value in JSON: shippers write a number or a truth value also as a string."""
NUMBER_DIGITS_MAX = 10
PORT_MAX = 65_535
PID_MAX = 2**32
COUNT_MAX = 2**62
"""Largest accepted number of bytes or packets: rows and state could not hold a larger one."""
STATUS_MAX = 999


def text(value: object) -> str:
    """Return a value as text; "" if it is missing or a dash."""
    if value.__class__ is str:  # the most common case
        return "" if value == "-" else value
    if value is None:  # also common
        return ""
    return (
        str(value) if isinstance(value, (int, float)) else ""
    )  # no union type in isinstance: it would be created at each call


def needed(value: object, name: str) -> str:
    """Return a required value as text. Raises Missing if it is missing, empty or a dash."""
    if value.__class__ is str and value and value != "-":  # the most common case
        return value
    written = text(value)
    if not written:
        raise Missing(f"{name} is missing")
    return written


def number(value: object, what: str, largest: int) -> int:
    """Return a whole number, which may be written as text. Raises ValueError if it is invalid or larger than `largest`."""
    if isinstance(value, str) and len(value) <= NUMBER_DIGITS_MAX and value.isdigit():
        value = int(value)
    if value.__class__ is int and 0 <= value <= largest:  # excludes bool, whose class is another
        return value
    raise ValueError(f"{what} is {str(value)[:40]!r}, not a number up to {largest}")


def maybe_number(value: object, what: str, largest: int) -> int | None:
    """Return a whole number, which may be written as text; None if the value is missing. Raises ValueError."""
    if value.__class__ is int and 0 <= value <= largest:  # the most common case
        return value
    return number(value, what, largest) if text(value) else None


def short(written: str | None) -> str:
    """Return the first TEXT_CHARS_MAX characters, "" for None."""
    return written[:TEXT_CHARS_MAX] if written else ""


def file_name(path: str) -> str:
    """Return the last part of a path, of Windows or another system."""
    return path.rpartition("/" if path.startswith("/") else "\\")[2]


def device_name(name: str | None) -> str:
    """Return a machine's name in the form that identifies a device: lower case, without a trailing dot; "" for None."""
    return name.strip().rstrip(".").lower() if name else ""
