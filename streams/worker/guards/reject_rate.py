"""The share of rejected lines in a time window, and whether it is too high; pure, the caller passes the time in seconds.

The share counts only once the window has enough lines: a single broken line must raise no alarm. A worker that stopped for its
rejects is *doubted* after its restart: then the share counts from the first line. Otherwise each start would let some of the
rejected lines through.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SLOTS = 60
"""Number of steps in which the window moves, so that its cost does not depend on the number of batches."""


@dataclass(slots=True)
class _Slot:
    began: float
    lines: int = 0
    rejected: int = 0


class RejectRate:
    """The share of rejected lines within a window of time."""

    def __init__(self, share_max: float, window_secs: float, lines_min: int, *, doubted: bool = False) -> None:
        self._share_max, self._window_secs, self._lines_min = share_max, window_secs, lines_min
        self._slots: deque[_Slot] = deque()
        self._seen = 0
        self.doubted = doubted
        self.lines = self.rejected = 0
        """Counts within the window."""

    @property
    def share(self) -> float:
        """Return the share of rejected lines among all lines in the window, 0 to 1."""
        return self.rejected / self.lines if self.lines else 0.0

    @property
    def over(self) -> bool:
        """Return whether the share is above its limit and based on enough lines."""
        return self.lines >= (1 if self.doubted else self._lines_min) and self.share > self._share_max

    def note(self, lines: int, rejected: int, now: float) -> bool:
        """Add the counts of a batch at time `now`; return whether the share is above its limit."""
        while self._slots and self._slots[0].began <= now - self._window_secs:
            gone = self._slots.popleft()
            self.lines -= gone.lines
            self.rejected -= gone.rejected
        if lines:
            if not self._slots or now >= self._slots[-1].began + self._window_secs / SLOTS:
                self._slots.append(_Slot(now))
            slot = self._slots[-1]
            slot.lines += lines
            slot.rejected += rejected
            self.lines += lines
            self.rejected += rejected
            self._seen += lines
        over = self.over
        if self._seen >= self._lines_min and not over:
            self.doubted = False
        return over
