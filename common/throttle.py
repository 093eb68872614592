"""A limit on how often something is reported."""

from __future__ import annotations

import time


class Throttle:
    """Allows one report per interval of `secs` seconds.

    With `at_once`, the first report is due immediately, otherwise after the first interval.
    """

    def __init__(self, secs: float, *, at_once: bool = True) -> None:
        self.reported_at = float("-inf") if at_once else time.monotonic()
        """Monotonic time of the last report."""
        self._secs = secs

    def due(self) -> bool:
        """Return whether `secs` have passed since the last report; if so, the next interval begins."""
        now = time.monotonic()
        if now - self.reported_at < self._secs:
            return False
        self.reported_at = now
        return True
