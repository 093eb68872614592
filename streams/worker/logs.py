"""What the libraries below the worker may say: warnings, and each of them once in a while.

While Kafka is away aiokafka says so thirty times a second, and the line that matters is lost among them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time

LIBRARIES = ("faust", "mode", "aiokafka")
PAUSE_SECS = 10.0


class OnceInAWhile(logging.Filter):
    """Lets each kind of library message pass once in so many seconds; our own pass always."""

    def __init__(self, pause_secs: float = PAUSE_SECS) -> None:
        super().__init__()
        self._pause_secs = pause_secs
        self._said_at: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is shown."""
        if record.name.partition(".")[0] not in LIBRARIES or record.levelno < logging.WARNING:
            return True
        # The place in the code stands for the kind: a closed set, whatever the text says.
        kind = (record.pathname, record.lineno)
        now = time.monotonic()
        if now - self._said_at.get(kind, float("-inf")) < self._pause_secs:
            return False
        self._said_at[kind] = now
        return True


def quiet_libraries() -> None:
    """Limit the libraries on every handler; set logging up plainly where the caller has not."""
    threading.excepthook = _thread_died
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)
    for handler in root.handlers:
        handler.addFilter(OnceInAWhile())


def _thread_died(what: threading.ExceptHookArgs) -> None:
    """Stopped while Kafka is away, Faust's threads are cancelled in the middle of a try: no news."""
    if not issubclass(what.exc_type, asyncio.CancelledError):
        threading.__excepthook__(what)
