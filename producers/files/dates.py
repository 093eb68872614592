"""Year and zone for timestamps that lack both: the year from the file's modification time, the zone of this machine.

A line cannot be younger than its file's last change. The year is therefore the latest one that satisfies this. A line
that would be slightly younger shows that the zone or a clock differs; its time is then unknown.
"""

from __future__ import annotations

import re
from datetime import datetime

from schemas.clock import MICROS
from schemas.events import Micros

CLOCKS: Micros = 2 * MICROS
"""Tolerance by which a line may look younger than its file's last change."""
ZONES: Micros = 26 * 3_600 * MICROS
"""Largest distance between two zones; a line that looks younger by more is of another year."""
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
            continue  # 29 February
        at = int(local.timestamp()) * MICROS + decimals
        if at <= changed + ZONES:
            # An hour that occurs twice when summer time ends, or not at all when it begins, is ambiguous.
            is_one = local.timestamp() == local.replace(fold=1).timestamp()
            return at if is_one and 0 < at <= changed + CLOCKS else 0
    return 0
