"""The lines of a device's sensors that have not arrived yet, by the time slice in which they will arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import itemgetter

from producers.simulation.settings import WorldSettings
from schemas.clock import MICROS
from schemas.events import Micros

SLICE: Micros = 200_000
"""Length of a time slice, in microseconds. By default, a publisher holds a line at most this long."""
SOCKETS, SURICATA = range(2)
"""Indexes of a device's two sensors, each of which writes its own file."""
PROXIED, DIRECT = range(2)
"""Kinds of truth: a proxied request, and a connection that bypasses the proxies."""
ODD_LINES_SHARE = 0.2
"""Share of late or doubled lines among the lines of odd connections. Other lines need no draw, which saves time."""

Written = tuple[Micros, bytes]
"""The arrival time of a line by a correct clock, and the line."""
TimedTruth = tuple[Micros, int, dict[str, object]]
"""A time by a correct clock; PROXIED or DIRECT; the truth of that time."""
_WHEN = itemgetter(0)


class Journal:
    """The future lines of a device, and its truths. Each is returned once, with its time slice."""

    def __init__(self, world: WorldSettings, draw: Callable[[], float], tally: Counter[str]) -> None:
        self._draw, self._tally = draw, tally
        self._begin = world.begin
        self._disorder = world.disorder_secs_max * MICROS
        odd = world.late_share + world.doubled_share
        self.odd_share = min(1.0, odd / ODD_LINES_SHARE)
        """Share of the connections whose lines are added with `put_oddly`."""
        self._odd_lines = odd / self.odd_share if odd else 0.0
        self._late_lines = world.late_share / self.odd_share if odd else 0.0
        self._lines: tuple[dict[int, list[Written]], dict[int, list[Written]]] = ({}, {})
        self._truths: dict[int, list[TimedTruth]] = {}
        self._next = 0

    @property
    def waits(self) -> bool:
        """Whether some lines have not arrived yet."""
        return any(self._lines)

    @property
    def waiting(self) -> int:
        """Number of lines that have not arrived yet."""
        return sum(len(lines) for slices in self._lines for lines in slices.values())

    def put(self, sensor: int, at: Micros, line: str) -> None:
        """Add a line of a sensor that arrives at `at`, in a slice that was not returned yet."""
        index, slices = (at - self._begin) // SLICE, self._lines[sensor]
        try:
            slices[index].append((at, line.encode()))
        except KeyError:
            assert index >= self._next, "nothing is written into the past"
            slices[index] = [(at, line.encode())]

    def put_oddly(self, sensor: int, at: Micros, line: str) -> None:
        """Add a line, which may be late or doubled."""
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
        """Add a truth of the time `at`. Truths from before the world's beginning belong to the first slice."""
        self._truths.setdefault(max(0, (at - self._begin) // SLICE), []).append((at, kind, truth))

    def written(self, index: int) -> tuple[list[Written], list[Written]]:
        """Remove and return the lines of each sensor that arrive in this slice, in order.

        Call it once for each slice, in order.
        """
        self._next = index + 1
        kernel, network = (slices.pop(index, []) for slices in self._lines)
        kernel.sort(key=_WHEN)
        network.sort(key=_WHEN)
        return kernel, network

    def written_before(self, until: Micros) -> tuple[list[Written], list[Written]]:
        """Remove and return the lines of each sensor in all slices that end before `until`, in order."""
        self._next = (until - self._begin) // SLICE
        kernel, network = (
            [one for index in sorted(slices) if index < self._next for one in sorted(slices.pop(index), key=_WHEN)]
            for slices in self._lines
        )
        return kernel, network

    def truths(self, index: int) -> list[TimedTruth]:
        """Remove and return the truths of this slice, in no particular order."""
        return self._truths.pop(index, [])
