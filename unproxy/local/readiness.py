"""Decides from readings when all rows of the lines that were sent are in the tables."""

from __future__ import annotations

from dataclasses import dataclass

from unproxy.local.meter import Offsets, Reading

QUIET_SECS = 2.5
"""Seconds without a change after which the pipeline counts as quiet; ticks come once a second."""


@dataclass(slots=True)
class Readiness:
    """Examines one reading after the other."""

    telemetry: str
    results: list[str]
    workers: int
    decide_secs_max: float
    """Seconds to wait, once all messages are processed, for connections to be decided; then they are shown as waiting."""
    _goal: Offsets | None = None
    _since: float = 0.0
    _reached_at: float | None = None
    _state: object = None
    _quiet_since: float = 0.0

    def again(self, now: float) -> None:
        """Discard earlier readings, because something was sent or started."""
        self._goal, self._since, self._reached_at, self._state = None, now, None, None

    def look(self, reading: Reading) -> str:
        """Return in one word what the pipeline still does; "" if nothing is missing."""
        if reading.at <= self._since or not reading.end:
            return "asking"
        if self._goal is None:
            # The goal is one message more than each partition has: a tick that came after all other messages. A worker
            # that has processed it has counted the whole partition.
            self._goal = {place: end + 1 for place, end in reading.end.items() if place[0] == self.telemetry}
        if not reading.reached(self._goal) or reading.books_answering < self.workers:
            return "working"
        if self._reached_at is None:
            self._reached_at = reading.at
        if reading.book.get("waiting") and reading.at - self._reached_at < self.decide_secs_max:
            return "deciding"
        if any(reading.behind(topic) for topic in self.results):
            return "writing"
        return "" if self._is_quiet(reading) else "writing"

    def _is_quiet(self, reading: Reading) -> bool:
        """Return whether nothing changed for some ticks: in a rebalance, partitions are not counted for about a second."""
        state = (
            {place: end for place, end in reading.end.items() if place[0] in self.results},
            reading.book.get("read"),
            reading.book.get("connections"),
        )
        if state != self._state:
            self._state, self._quiet_since = state, reading.at
        return reading.at - self._quiet_since >= QUIET_SECS
