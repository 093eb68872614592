"""CEF (ArcSight's Common Event Format) and LEEF (QRadar's), in which many appliances send events to a SIEM.

    CEF:0|Vendor|Product|version|class|name|severity|key=value key=value        values may contain spaces
    LEEF:1.0|Vendor|Product|version|event|key=value<tab>key=value

A `=` in a value should be escaped by a backslash, and often is not. Text from the client (such as its user agent) may therefore
look like further pairs. Pairs before that text are valid; of the pairs after it, a key that occurs twice is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from schemas.clock import parse_micros, us_micros
from schemas.events import Micros
from schemas.parsers.common.proxy_log import MONTHS, PAIRS_MAX, epoch
from schemas.parsers.common.quoting import unescaped

CLIENTS_OWN = frozenset({"requestClientApplication", "userAgent", "useragent"})
"""Keys whose value the client wrote; the value may contain text that looks like further pairs."""
SECONDS_DIGITS_MAX = 10
VALUE_CHARS_MAX = 65_536
"""Length in characters to which a value is cut before its escapes are removed; events keep 1,024 characters of a text."""

_BEGIN = re.compile(r' ?(?:[^|="{]{0,120}?\b(?:CEF|(LEEF)): ?)?\d(?:\.\d)?\|')
_KEY = re.compile(r"(?<!\S)([A-Za-z][\w.-]{0,63})=")
_CLOCK = r"(\d\d:\d\d:\d\d(?:\.\d{1,6})?)"
_DATE = re.compile(
    rf"(?:[A-Z][a-z]{{2}} )?([A-Z][a-z]{{2}}) +(\d{{1,2}})(?: (\d{{4}}))? {_CLOCK}(?: [A-Z]{{2,5}})?(?: (\d{{4}}))?"
)


class Formatted(NamedTuple):
    """Vendor, product, event and pairs of a line."""

    vendor: str
    product: str
    event: str
    fields: dict[str, str]


def formatted(text: str) -> Formatted | None:
    """Parse a line in one of the formats; None for any other line.

    `CEF:` may be missing, as some relays take it for a syslog tag.
    """
    begin = _BEGIN.match(text)
    if begin is None:
        return None
    parts = 4 if begin[1] else 6
    header = text[begin.end() :].split("|", parts)
    if len(header) <= parts:
        return None
    return Formatted(header[0], header[1], header[3], _pairs(header[parts]))


def names(text: str, beginning: str) -> bool:
    """Return whether a line is of this vendor and product (`Vendor|Product`), without parsing it."""
    begin = _BEGIN.match(text)
    return begin is not None and text.startswith(beginning, begin.end())


def _pairs(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    sure: set[str] = set()
    for key, value in _tabbed(text) if "\t" in text.strip() else _spaced(text):
        if key not in fields:
            written = value.strip()
            fields[key] = unescaped(written[:VALUE_CHARS_MAX], "=|") if "\\" in written else written
        elif key not in sure:
            fields[key] = ""
        if key in CLIENTS_OWN and not sure:
            sure = set(fields)
    return fields


def _tabbed(text: str) -> Iterator[tuple[str, str]]:
    pairs = (pair.strip().partition("=") for pair in text.split("\t", PAIRS_MAX)[:PAIRS_MAX])
    return ((key, value) for key, equals, value in pairs if equals)


def _spaced(text: str) -> Iterator[tuple[str, str]]:
    key, begin = "", 0
    for found in islice(_KEY.finditer(text), PAIRS_MAX):
        if key:
            yield key, text[begin : found.start()]
        key, begin = found[1], found.end()
    if key:
        yield key, text[begin:]


def moment(text: str) -> Micros:
    """Parse a time; without a zone, or with the name of a zone, it is taken as UTC. Raises ValueError.

    Formats: ISO 8601, milliseconds or seconds since 1970, `Mar 02 2020 02:57:01 GMT`, `3/2/2020, 2:57:01.000 AM`.
    """
    if text.isdigit() and text.isascii():
        return epoch(text) if len(text) <= SECONDS_DIGITS_MAX else epoch(f"{text[:-3]}.{text[-3:]}")
    found = _DATE.fullmatch(text)
    if found is None:
        return us_micros(text) if text.endswith("M") else parse_micros(text)
    month, day, year, clock = (found[1], found[2], found[3] or found[5], found[4])
    if month not in MONTHS or not year:
        raise ValueError(f"date is {text[:40]!r}")
    return parse_micros(f"{year}-{MONTHS[month]}-{int(day):02d}T{clock}Z")
