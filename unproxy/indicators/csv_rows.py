"""Reads the rows of a CSV file, with the columns named by its first line; the separator is detected."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping

from schemas.indicator_input import Refused
from schemas.indicator_values import Why
from unproxy.output import with_formula

SEPARATORS = ",;\t"
Row = Mapping[str, str]


def names_in(line: str) -> list[str]:
    """Return the columns named by a first line, in lower case, without blanks and underscores.

    The separator is the one that yields the most columns.
    """
    return _names(line, _separator(line))


def rows(lines: Iterable[str]) -> Iterator[tuple[str, Row | Refused]]:
    """Yield the place of each row, and its cells by column; Refused for a row that cannot be read."""
    source = iter(lines)
    first = next(source, "")
    separator = _separator(first)
    names = _names(first, separator)
    reader = csv.reader(source, delimiter=separator)
    while True:
        begin = reader.line_num + 2
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield f"line {begin}", Refused("", Why.UNREADABLE, str(error))
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield f"line {begin}", dict(zip(names, (with_formula(cell.strip()) for cell in cells), strict=False))


def _separator(line: str) -> str:
    return max(SEPARATORS, key=lambda one: len(_names(line, one)))


def _names(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []
    return [cell.strip().lower().replace(" ", "").replace("_", "") for cell in cells]
