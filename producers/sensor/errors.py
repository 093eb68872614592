"""Errors caused by one connection, process or packet: counted, logged at a limited rate, and never the end of a thread."""

from __future__ import annotations

import logging
from types import TracebackType

log = logging.getLogger(__name__)


class Errors:
    """A context that skips what raises an exception inside it.

    Every such exception is a defect of the sensor. It is logged the first, second, fourth, eighth … time, so that input which
    provokes it cannot flood the log. The context may be entered again and again; `KeyboardInterrupt` and the like pass through.
    """

    def __init__(self, skipped: str) -> None:
        self._skipped = skipped
        self.count = 0

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.count += 1
        if self.count & (self.count - 1) == 0:
            log.error(
                "skipped after an error, please report it",
                extra={"skipped": self._skipped, "so_far": self.count},
                exc_info=error,
            )
        return True
