"""Year and zone for timestamps that lack both: the year from the file's modification time, the zone of this machine.

A line cannot be younger than its file's last change. Its year is therefore the latest one in which it is not younger,
with a tolerance for different zones (`ZONES`). If the line is then still younger, by more than `CLOCKS`, its zone or its
clock differs from this machine's, and its time is unknown.
"""

from __future__ import annotations

import re
from datetime import datetime

from schemas.clock import MICROS
from schemas.events import Micros

CLOCKS: Micros = 2 * MICROS
"""Tolerance for clocks: a line may be younger than its file's last change by this much."""
ZONES: Micros = 26 * 3_600 * MICROS
"""Largest difference between two zones. A line that is younger than its file's last change by more is of an earlier year."""
_TIME = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def dated(text: str, changed: Micros) -> Micros:
    """Return the time of a stamp such as `Nov 24 19:07:24.258` in this machine's zone, for a file last changed at `changed`.

    The result is 0 if the time is not certain.
    """
    found = _TIME.fullmatch(text)
    if found is None or not changed or found[1] not in _MONTHS:
        return 0
    month, day, hour, minute, second = _MONTHS.index(found[1]) + 1, *map(int, found.group(2, 3, 4, 5))
    decimals = int((found[6] or "").ljust(6, "0"))
    this_year = datetime.fromtimestamp((changed + ZONES) // MICROS).year  # noqa: DTZ006  # this machine's zone is meant
    for year in (this_year, this_year - 1):
        try:
            local = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001  # likewise
        except ValueError:
            continue  # 29 February does not exist in this year
        at = int(local.timestamp()) * MICROS + decimals
        if at <= changed + ZONES:
            # An hour that occurs twice when summer time ends, or not at all when it begins, is ambiguous.
            is_one = local.timestamp() == local.replace(fold=1).timestamp()
            return at if is_one and 0 < at <= changed + CLOCKS else 0
    return 0
