"""Handling of errors caused by one connection, process or packet: count, log at a limited rate, keep the thread running."""

from __future__ import annotations

import logging
from types import TracebackType

log = logging.getLogger(__name__)


class Errors:
    """A reusable context manager that suppresses and counts exceptions.

    `skipped` names for the log what an exception skips. Every exception is a defect of the sensor. The first, second,
    fourth, eighth … exception is logged, so that input which provokes them cannot flood the log. Exceptions outside the
    class `Exception`, such as `KeyboardInterrupt`, propagate.
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
