"""An entry of a file of indicators: its place, and its content or the reason for its refusal."""

from __future__ import annotations

from typing import NamedTuple

from schemas.indicator_input import Given, Refused


class Entry(NamedTuple):
    """An entry as it was read, before it is normalised."""

    where: str
    """Place in the file: the line in a text, the path in JSON."""
    content: Given | Refused


def as_list(text: str) -> tuple[str, ...]:
    """Return the parts of a text between its commas, without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def as_text(value: object) -> str:
    """Return a value of a foreign file as text; "" for None."""
    return "" if value is None else str(value).strip()


def as_bool(value: object) -> bool:
    """Return whether a value of a foreign file is True, 1, "1", "true" or "yes"."""
    return as_text(value).lower() in ("1", "true", "yes")
