"""Times as people give them on the command line: ISO 8601, only the day, only the time of day, or how long ago (1h, -1h).

UTC where no zone is given.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from schemas.clock import MICROS, parse_micros
from schemas.events import Micros

DAY: Micros = 86_400 * MICROS
OVER_MIDNIGHT_MAX = timedelta(hours=12)
"""From 23:50 to 00:10 goes over midnight; from 20:00 to 19:00 two times were swapped."""
_AGO = re.compile(r"-?(\d{1,6})([smhdw])")
_UNIT_SECS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment(text: str, now: datetime, after: Micros = 0) -> Micros:
    """Parse a time; a time of day is the latest one, or that of the day of another time. Raises ValueError."""
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
    """Return a time of a row for people, cut to milliseconds or to fewer characters."""
    return str(time).replace("T", " ").removesuffix("Z")[:chars]


def is_day(text: str) -> bool:
    """Return whether it is a day without a time."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
