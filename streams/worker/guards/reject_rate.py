"""How many of the lines are rejected lately, and whether that is too many. Pure: time comes in.

One sensor's broken line is no alarm, so a share counts only once there are enough lines in the window. A worker that has
stopped for its rejects is doubted when it comes back: what it left is judged at once, however little, or each start would
let some of it through.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SLOTS = 60
"""The window moves on in so many steps, so that it costs the same whatever the number of batches."""


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
        """Within the window."""

    @property
    def share(self) -> float:
        """Rejected lines of all within the window, 0 to 1."""
        return self.rejected / self.lines if self.lines else 0.0

    @property
    def over(self) -> bool:
        """Whether the share is above its limit, and there are enough lines to say so."""
        return self.lines >= (1 if self.doubted else self._lines_min) and self.share > self._share_max

    def note(self, lines: int, rejected: int, now: float) -> bool:
        """Take in what a batch had; whether the share is above its limit now."""
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
