"""Year and zone for sensors' times that have neither: the file's last change tells the year, this machine's settings the zone.

A line cannot be younger than its file's last change. So the year is the latest in which it is not, and a line that would be
younger by a little shows that the zone, or a clock, is another one: then nothing is certain.
"""

from __future__ import annotations

import re
from datetime import datetime

from producers.sources.source import SourceFile
from schemas.clock import MICROS
from schemas.events import Micros

CLOCKS: Micros = 2 * MICROS
"""How much younger than its file's last change a line may look."""
ZONES: Micros = 26 * 3_600 * MICROS
"""No two zones are further apart: what looks younger by more is of another year."""
_TIME = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class FileDates:
    """The dates of one file's lines."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file

    def __call__(self, text: str) -> Micros:
        """The time of a line."""
        return dated(text, self._file.changed)


def dated(text: str, changed: Micros) -> Micros:
    """The time that `Nov 24 19:07:24.258` is in this machine's zone and a file that was last changed then.

    0 where that is not certain.
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
            # An hour that is there twice when summer ends, or not at all when it begins, is two times.
            is_one = local.timestamp() == local.replace(fold=1).timestamp()
            return at if is_one and 0 < at <= changed + CLOCKS else 0
    return 0
