"""The base of the threads that write rows or send alerts to a destination and retry after failures."""

from __future__ import annotations

import threading
import time

from common.throttle import Throttle

WARN_SECS = 10.0
"""Shortest interval, in seconds, between two log entries about errors."""


class SendingThread(threading.Thread):
    """A thread that writes rows or sends alerts, and its state, which other threads read."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.failing_since: float | None = None
        """Monotonic time since which the current write or alert fails; None if it does not."""
        self.failed_at = float("-inf")
        """Monotonic time of the last failed try; minus infinity if no try has failed."""
        self.failure: BaseException | None = None
        """Unexpected exception that ended the thread."""
        self._throttle = Throttle(WARN_SECS)

    def _note_failure(self) -> None:
        self.failed_at = time.monotonic()
        self.failing_since = self.failed_at if self.failing_since is None else self.failing_since
