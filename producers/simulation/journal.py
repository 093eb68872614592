"""Lines of a device's sensors that are not read yet, by the slice of time in which they arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import itemgetter

from producers.simulation.settings import WorldSettings
from schemas.clock import MICROS
from schemas.events import Micros

SLICE: Micros = 200_000
"""Lines are handed out in slices of time: as long as a publisher lets a line wait for its message."""
SOCKETS, SURICATA = range(2)
"""A device's two sensors, each with a file of its own."""
PROXIED, DIRECT = range(2)
"""The two kinds of truth."""
ODD_LINES_SHARE = 0.2
"""Of the lines of an odd connection so many are late or doubled; the others are not asked, which is cheaper."""

Written = tuple[Micros, bytes]
"""When a line arrives, by a right clock, and the line."""
TimedTruth = tuple[Micros, int, dict[str, object]]
"""When something was done, by a right clock; PROXIED or DIRECT; the truth of it."""
_WHEN = itemgetter(0)


class Journal:
    """Lines and truths, each given out once."""

    def __init__(self, world: WorldSettings, draw: Callable[[], float], tally: Counter[str]) -> None:
        self._draw, self._tally = draw, tally
        self._begin = world.begin
        self._disorder = world.disorder_secs_max * MICROS
        odd = world.late_share + world.doubled_share
        self.odd_share = min(1.0, odd / ODD_LINES_SHARE)
        """Connections whose lines are put down by `put_oddly`."""
        self._odd_lines = odd / self.odd_share if odd else 0.0
        self._late_lines = world.late_share / self.odd_share if odd else 0.0
        self._lines: tuple[dict[int, list[Written]], dict[int, list[Written]]] = ({}, {})
        self._truths: dict[int, list[TimedTruth]] = {}
        self._next = 0

    @property
    def waits(self) -> bool:
        """Some line is still to come."""
        return any(self._lines)

    @property
    def waiting(self) -> int:
        """How many lines are still to come."""
        return sum(len(lines) for slices in self._lines for lines in slices.values())

    def put(self, sensor: int, at: Micros, line: str) -> None:
        """A sensor's line arrives at a time that is not past."""
        index, slices = (at - self._begin) // SLICE, self._lines[sensor]
        try:
            slices[index].append((at, line.encode()))
        except KeyError:
            assert index >= self._next, "nothing is written into the past"
            slices[index] = [(at, line.encode())]

    def put_oddly(self, sensor: int, at: Micros, line: str) -> None:
        """The same for a line that may be late or doubled."""
        luck = self._draw()
        if luck < self._odd_lines:
            delay = int(self._draw() * self._disorder)
            if luck < self._late_lines:
                self._tally["late lines"] += 1
                at += delay
            else:
                self._tally["doubled lines"] += 1
                self.put(sensor, at + delay, line)
        self.put(sensor, at, line)

    def record(self, at: Micros, kind: int, truth: dict[str, object]) -> None:
        """Record what was done at a time; what was done before the world began is given with its first slice."""
        self._truths.setdefault(max(0, (at - self._begin) // SLICE), []).append((at, kind, truth))

    def written(self, index: int) -> tuple[list[Written], list[Written]]:
        """What arrives in this slice from each of the sensors, in order. Ask for each slice once, in order."""
        self._next = index + 1
        kernel, network = (slices.pop(index, []) for slices in self._lines)
        kernel.sort(key=_WHEN)
        network.sort(key=_WHEN)
        return kernel, network

    def written_before(self, until: Micros) -> tuple[list[Written], list[Written]]:
        """Return what arrives from each of the sensors in all slices before a time, in order."""
        self._next = (until - self._begin) // SLICE
        kernel, network = (
            [one for index in sorted(slices) if index < self._next for one in sorted(slices.pop(index), key=_WHEN)]
            for slices in self._lines
        )
        return kernel, network

    def truths(self, index: int) -> list[TimedTruth]:
        """What was really done in this slice."""
        return self._truths.pop(index, [])
