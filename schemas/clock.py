"""Times as whole microseconds since 1970 UTC, read and written fast.

Sensors write thousands of lines a second with the same first 19 characters, so the calendar is worked out once for
all of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = 0
LATEST = 7_258_118_400 * MICROS
"""2200-01-01: a clock beyond it is broken, and the table's time type ends at 2299."""


@lru_cache(maxsize=8_192)
def _whole_seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def parse_micros(text: str) -> int:
    """An ISO 8601 time to microseconds; a time without zone is UTC. Raises ValueError, also outside 1970 to 2200."""
    if text[26:] in ("Z", "+0000") and text[19] == "." and text[20:26].isdigit():
        micros = _whole_seconds(text[:19]) * MICROS + int(text[20:26])
    else:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        micros = (when - _EPOCH) // timedelta(microseconds=1)
    if not EARLIEST <= micros <= LATEST:
        raise ValueError(f"time {text} is outside 1970 to 2200")
    return micros


@lru_cache(maxsize=8_192)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4_096)
def iso_micros(micros: int) -> str:
    """Microseconds to ISO 8601 with six decimals and Z."""
    seconds, rest = divmod(micros, MICROS)
    return f"{_second_text(seconds)}.{rest:06d}Z"
