"""Completion of syslog times without a year (RFC 3164), for lines without another time: `<134>Nov  3 12:41:27 gw-1 vendor=…`.

The time of the file's last change gives the year, as no line is later; the settings of the machine that reads the file give the
zone. The reader of the file writes the complete time into the header: `<134>2020-11-03T12:41:27.000000Z gw-1 vendor=…`. If year
or zone are uncertain, or if the line does not come from a file, the line stays unchanged.
"""

from __future__ import annotations

import re

from schemas.clock import iso_micros
from schemas.dialect import Dates, Framing

_HEADER = re.compile(
    rb"((?:<\d{1,3}>)? ?)([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) (?![A-Z]{3,5} |\d{4} )"  # a zone, a year
)


class DatedHeaders(Framing):
    """The converter of one file."""

    def __init__(self, dates: Dates) -> None:
        self._dates = dates

    def take(self, line: bytes, start: int) -> list[bytes]:
        """Return the line, with the complete time in its header if year and zone are certain."""
        del start
        found = _HEADER.match(line)
        at = self._dates(found[2].decode()) if found is not None else 0
        if found is None or not at:
            return [line]
        return [b"%b%b %b" % (found[1], iso_micros(at).encode(), line[found.end() :])]
