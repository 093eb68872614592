"""Times on the command line: ISO 8601, only the day, or only the time of day; UTC if no zone is given."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from schemas.clock import MICROS, parse_micros
from schemas.events import Micros

DAY: Micros = 86_400 * MICROS
OVER_MIDNIGHT_MAX = timedelta(hours=12)
"""Longest span between two times of day that is taken to pass midnight.

23:50 to 00:10 passes midnight; 20:00 to 19:00 are two swapped times.
"""


def moment(text: str, now: datetime, after: Micros = 0) -> Micros:
    """Return a time in microseconds since 1970. Raises ValueError.

    A time of day means its latest occurrence before `now`. If the time `after` is given, which the result should follow, it
    means that time on the day of `after`, or on the next day if the span passes midnight (`OVER_MIDNIGHT_MAX`).
    """
    try:
        of_day = time.fromisoformat(text)
    except ValueError:
        return parse_micros(text)
    if of_day.tzinfo or ":" not in text:
        return parse_micros(text)
    near = datetime.fromtimestamp(after / MICROS, UTC) if after else now
    at = datetime.combine(near.date(), of_day, UTC)
    if after and at <= near and at + timedelta(days=1) - near <= OVER_MIDNIGHT_MAX:
        at += timedelta(days=1)
    elif not after and at > near:
        at -= timedelta(days=1)
    return parse_micros(at.isoformat())


def readable(time: object, chars: int = 23) -> str:
    """Return a row's time as text for people, cut to `chars` characters; the default is milliseconds."""
    return str(time).replace("T", " ").removesuffix("Z")[:chars]


def is_day(text: str) -> bool:
    """Return whether the text is a day without a time."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
