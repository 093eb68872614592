"""Values of JSON and XML events as text and numbers."""

from __future__ import annotations

from schemas.events import TEXT_CHARS_MAX
from schemas.parsers.common.rejects import Missing

Scalar = str | int | float | bool | None
"""A value as shipped: a string, in some shapes also a number or a truth value."""
NUMBER_DIGITS_MAX = 10
PORT_MAX = 65_535
PID_MAX = 2**32
COUNT_MAX = 2**62
"""A larger number of bytes or packets is refused: it must fit where rows and state keep it."""
STATUS_MAX = 999


def text(value: object) -> str:
    """A value as text; "" where there is none, or a dash in its place."""
    if value.__class__ is str:  # nearly always, and fast
        return "" if value == "-" else value
    if value is None:  # often, and as fast
        return ""
    return str(value) if isinstance(value, (int, float)) else ""  # a union would be built each time


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


def maybe_number(value: object, what: str, largest: int) -> int | None:
    """Return a whole number, None if there is no value. Raises ValueError."""
    if value.__class__ is int and 0 <= value <= largest:  # nearly always, and fast
        return value
    return number(value, what, largest) if text(value) else None


def short(written: str | None) -> str:
    """Return the first TEXT_CHARS_MAX characters, "" for None."""
    return written[:TEXT_CHARS_MAX] if written else ""


def file_name(path: str) -> str:
    """Return the last part of a path, of Windows or another system."""
    return path.rpartition("/" if path.startswith("/") else "\\")[2]


def device_name(name: str | None) -> str:
    """Return the name of a machine as it identifies a device: lower case, without a final dot; "" for None."""
    return name.strip().rstrip(".").lower() if name else ""
