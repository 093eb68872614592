"""Log limits for the worker's libraries: warnings only, and each kind once per interval.

While Kafka is unavailable, aiokafka logs thirty lines per second, which bury the relevant one.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from common.throttle import Throttle

LIBRARIES = ("faust", "mode", "aiokafka")
PAUSE_SECS = 10.0


class OnceInAWhile(logging.Filter):
    """A filter that passes each kind of library message once per `pause_secs`, and all messages of unproxy."""

    def __init__(self, pause_secs: float = PAUSE_SECS) -> None:
        super().__init__()
        self._pause_secs = pause_secs
        self._throttles: dict[tuple[str, int], Throttle] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log this record."""
        if record.name.partition(".")[0] not in LIBRARIES or record.levelno < logging.WARNING:
            return True
        # The kind is the place in the code: a closed set, whatever the text is.
        kind = (record.pathname, record.lineno)
        return self._throttles.setdefault(kind, Throttle(self._pause_secs)).due()


def quiet_libraries() -> None:
    """Add the limit to every handler; set up basic logging if the caller has not."""
    threading.excepthook = _thread_died
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)
    for handler in root.handlers:
        handler.addFilter(OnceInAWhile())


def _thread_died(what: threading.ExceptHookArgs) -> None:
    """Log the death of a thread, except by cancellation: a stop cancels Faust's threads while Kafka is unavailable."""
    if not issubclass(what.exc_type, asyncio.CancelledError):
        threading.__excepthook__(what)
