"""Names the device of each line: what the line says, by the identity table, and what stands in where it says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from producers.identity import How
from producers.identity_files import IdentityFiles
from producers.source import Line
from schemas.dialects import dialects
from schemas.recognition import AUTO, NOBODYS
from schemas.settings import IdentitySettings


class Named(NamedTuple):
    """The device of a line."""

    device: str
    told: bool
    """The line itself names it, so all that comes out of the line is its; else it only says where the line came from."""


class Devices:
    """Finds the device of each line and counts how. Raises SourceError when the table cannot be read."""

    def __init__(
        self, settings: IdentitySettings, counts: Counter[str], *, clock: Callable[[], float], given: str = ""
    ) -> None:
        self._dialects = dialects() | {AUTO: NOBODYS}
        self._files = IdentityFiles(settings, clock)
        self._table = self._files.table
        self._given = given
        self._counts = counts

    @property
    def unusable(self) -> int:
        """Lines of the table's files that were left out when they were last read."""
        return self._files.unusable

    def look(self, now: float) -> None:
        """Follow the table's files."""
        if self._files.look(now):
            self._table = self._files.table

    def of(self, line: Line) -> Named:
        """The device that a line is about; for one that does not say the given one, else the sensor."""
        dialect = self._dialects[line.dialect]
        found = self._table.find(dialect.device_of(line.value), partial(dialect.written_at, line.value))
        self._counts[found.how] += 1
        if found.how is not How.UNTOLD:
            return Named(found.device, True)
        given = self._table.find(self._given, partial(dialect.written_at, line.value)).device
        return Named(given or line.sensor, False)
