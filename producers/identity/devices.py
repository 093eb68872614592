"""The device of each line: from the line and the identity table, or a substitute if the line names none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from producers.identity.files import IdentityFiles
from producers.identity.learning import Learning
from producers.identity.table import Entry, How
from producers.sources.failures import DialectFailures
from producers.sources.grants import Grant
from producers.sources.source import Line
from schemas.parsers import dialects
from schemas.parsers.recognition import AUTO, NOBODYS
from schemas.sections.inputs import IdentitySettings


class Named(NamedTuple):
    """The device of a line."""

    device: str
    names_device: bool
    """Whether the line names the device, so that everything in the line belongs to it. If not, `device` is a substitute."""
    refused: str = ""
    """Why the line's sender may not report on the device; "" if it may."""


class Devices:
    """A finder of each line's device, which counts in `counts` how the devices were found.

    `given` is the device of lines that name none. `learning` reads the recorded files at the first line that has only an
    address and whose address is not in the table; it is not used if there is no such line. `learnt` then receives the
    counts described at `Report.learnt`. The constructor raises SourceError if an identity file cannot be read.
    """

    def __init__(
        self,
        settings: IdentitySettings,
        counts: Counter[str],
        *,
        clock: Callable[[], float],
        given: str = "",
        learning: Learning | None = None,
        learnt: Counter[str] | None = None,
        failures: DialectFailures | None = None,
    ) -> None:
        self._dialects = dialects() | {AUTO: NOBODYS}
        self._files = IdentityFiles(settings, clock)
        self._table = self._files.table
        self._given = given
        self._counts = counts
        self._failures = failures or DialectFailures()
        self._learning = learning if settings.learn else None
        self._learnt = learnt if learnt is not None else Counter()
        self._entries: list[Entry] = []

    @property
    def unusable(self) -> int:
        """Lines of the table's files that were skipped in the last read."""
        return self._files.unusable

    def look(self, now: float) -> None:
        """Reload the table if its files changed."""
        if self._files.look(now):
            self._table = self._files.table
            self._table.learn(self._entries)

    def of(self, line: Line) -> Named:
        """Return the device that the line names, else the given device, else the line's sensor.

        If the line's file has a grant, the result also states whether the grant allows reports on the device. Raises
        LearningStopped if a stop is requested while addresses are learnt; the line must then be read again.
        """
        named, grant = self._named(line), line.file.grant
        return named if grant is None or grant.unrestricted else _within(grant, named)

    def _named(self, line: Line) -> Named:
        dialect = self._dialects[line.dialect]
        try:
            name = dialect.device_of(line.value)
        except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
            self._failures.add(dialect, error)
            name = ""
        written_at = partial(self._failures.written_at, dialect, line.value)
        found = self._table.find(name, written_at)
        if found.how is How.ADDRESS and self._learning is not None:
            self._learn(self._learning)
            found = self._table.find(name, written_at)
        self._counts[found.how] += 1
        if found.how is not How.UNNAMED:
            return Named(found.device, True)
        given = self._table.find(self._given, written_at).device
        return Named(given or line.sensor, False)

    def _learn(self, learning: Learning) -> None:
        seen = learning.sightings(self._table)
        self._learning = None
        self._learnt.update(learnt=seen.learnt, ambiguous=seen.ambiguous)
        self._entries = list(seen.entries())
        self._table.learn(self._entries)


def _within(grant: Grant, named: Named) -> Named:
    """Return the device of a line, with the reason of the refusal if the grant does not allow reports on it.

    If a grant is for a single device, lines that name none belong to this device. An allowed line counts as naming its
    device. Otherwise, the worker would take the device from the parsed line, which could contain a name that is not
    allowed.
    """
    if grant.only and not named.names_device:
        return Named(grant.only, True)
    if grant.allows(named.device):
        return Named(named.device, True)
    return named._replace(refused=f'grant "{grant.name}" does not allow reports on device "{named.device}"')
