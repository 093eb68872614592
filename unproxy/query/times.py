"""Times on the command line: ISO 8601, only the day, only the time of day, or how long ago (1h, -1h); UTC if no zone is given."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from schemas.clock import MICROS, parse_micros
from schemas.events import Micros

DAY: Micros = 86_400 * MICROS
OVER_MIDNIGHT_MAX = timedelta(hours=12)
"""Longest span between two times of day that is taken to pass midnight.

23:50 to 00:10 passes midnight; 20:00 to 19:00 are two swapped times.
"""
_AGO = re.compile(r"-?(\d{1,6})([smhdw])")
_UNIT_SECS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment(text: str, now: datetime, after: Micros = 0) -> Micros:
    """Return a time in microseconds since 1970. Raises ValueError.

    A time of day means its latest occurrence before `now`. If the time `after` is given, which the result should follow, it
    means that time on the day of `after`, or on the next day if the span passes midnight (`OVER_MIDNIGHT_MAX`).
    """
    if ago := _AGO.fullmatch(text):
        secs = int(ago[1]) * _UNIT_SECS[ago[2]]
        try:
            return parse_micros((now - timedelta(seconds=secs)).isoformat())
        except OverflowError:
            raise ValueError(text) from None
    of_day = _clock(text)
    if of_day is None:
        return parse_micros(text)
    near = datetime.fromtimestamp(after / MICROS, UTC) if after else now
    at = datetime.combine(near.date(), of_day, UTC)
    if after and at <= near and at + timedelta(days=1) - near <= OVER_MIDNIGHT_MAX:
        at += timedelta(days=1)
    elif not after and at > near:
        at -= timedelta(days=1)
    return parse_micros(at.isoformat())


def is_clock(text: str) -> bool:
    """Return whether it is a time of day without a day."""
    return _clock(text) is not None


def _clock(text: str) -> time | None:
    try:
        of_day = time.fromisoformat(text)
    except ValueError:
        return None
    return None if of_day.tzinfo or ":" not in text else of_day


def end_of_day(day: str) -> datetime:
    """Return the last moment of the day of a row's time, UTC."""
    return datetime.combine(date.fromisoformat(day[:10]), time.max, UTC)


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
