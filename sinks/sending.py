"""A thread that hands rows or alerts to their destination and retries what fails."""

from __future__ import annotations

import threading
import time

from common.throttle import Throttle

WARN_SECS = 10.0
"""Shortest interval between two log entries about errors."""


class SendingThread(threading.Thread):
    """The state of such a thread that other threads read."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.failing_since: float | None = None
        """Monotonic time since which the current write or alert fails; None if it does not."""
        self.failed_at = float("-inf")
        """Monotonic time of the last failed try."""
        self.failure: BaseException | None = None
        """Unexpected exception that ended the thread."""
        self._throttle = Throttle(WARN_SECS)

    def _note_failure(self) -> None:
        self.failed_at = time.monotonic()
        self.failing_since = self.failed_at if self.failing_since is None else self.failing_since
