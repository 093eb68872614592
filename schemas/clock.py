"""Parsing and formatting of times as integer microseconds since 1970 UTC, optimised for lines with nearly equal times.

Sensors write thousands of lines a second whose times have the same first 19 characters. The value of these is cached.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = 0
LATEST = 7_258_118_400 * MICROS
"""Latest accepted time, 2200-01-01: a later one comes from a wrong clock, and ClickHouse's DateTime64 ends at 2299."""

SECONDS_CHARS_MAX = len("2026-01-01T12:00:00Z")
MILLIS_CHARS_MAX = len("2026-01-01T12:00:00.123Z")
NANOSECOND_DIGITS = 9
TEXT_CHARS_MAX = 40
"""Longest accepted text of a time. No sensor writes a longer one, but `datetime.fromisoformat` accepts a million decimals."""
NOON = 12
_US = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}), (\d{1,2})(:\d\d:\d\d(?:\.\d{1,6})?) ([AP]M)")
_AFTER_SECONDS = {f".{millis:03d}{zone}": millis * 1_000 for zone in ("Z", "") for millis in range(1_000)}
"""Microseconds by the text after the seconds: three decimals and a zone or none, as Elastic's agents and Sysmon write it."""
_AFTER_MICROS = frozenset(
    ("+0000", "Z", *(f"{rest:0{digits}d}Z" for digits in (1, 2, 3) for rest in range(10**digits)))
)
"""Texts accepted after six decimals: a zone, or up to three more decimals and a zone, as Windows writes (100 ns)."""


def _in_range(micros: int, text: str) -> int:
    if not EARLIEST <= micros <= LATEST:
        raise ValueError(f"time {text} is outside 1970 to 2200")
    return micros


@lru_cache(maxsize=8_192)
def _whole_second(text: str) -> int:
    seconds = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    return _in_range(seconds * MICROS, text)


def parse_micros(text: str) -> int:
    """Parse an ISO 8601 time to microseconds; a time without zone is UTC.

    Raises ValueError if it is invalid or not in 1970 to 2200.
    """
    if len(text) > MILLIS_CHARS_MAX:
        if text[26:] in _AFTER_MICROS and text[19] == "." and (micros := text[20:26]).isdigit():
            return _whole_second(text[:19]) + int(micros)
    elif len(text) <= SECONDS_CHARS_MAX:
        return _any_spelling(text)
    elif (millis := _AFTER_SECONDS.get(text[19:])) is not None:
        return _whole_second(text[:19]) + millis
    if text[19:20] == ".":
        decimals = text[20:].removesuffix("Z")
        if decimals.isdigit() and len(decimals) <= NANOSECOND_DIGITS:
            return _whole_second(text[:19]) + int((decimals + "00000")[:6])
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"a time of {len(text)} characters")
    return _any_spelling(text)


@lru_cache(maxsize=8_192)
def _any_spelling(text: str) -> int:
    when = datetime.fromisoformat(text)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return _in_range((when - _EPOCH) // timedelta(microseconds=1), text)


def us_micros(text: str) -> int:
    """Parse a US English time such as `3/30/2022, 10:52:35.857 AM` to microseconds; the Azure portal exports such times in UTC.

    Raises ValueError for any other format.
    """
    found = _US.fullmatch(text)
    if found is None:
        raise ValueError(f"time is {text[:TEXT_CHARS_MAX]!r}")
    month, day, year, hour, rest, half = found.groups()
    if not 1 <= int(hour) <= NOON:
        raise ValueError(f"hour is {hour} {half}")
    return parse_micros(f"{year}-{month:0>2}-{day:0>2}T{int(hour) % NOON + NOON * (half == 'PM'):02d}{rest}Z")


@lru_cache(maxsize=8_192)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4_096)
def iso_micros(micros: int) -> str:
    """Format microseconds since 1970 as ISO 8601 with six decimals and `Z`."""
    seconds, rest = divmod(micros, MICROS)
    return f"{_second_text(seconds)}.{rest:06d}Z"
