"""Counting and logging of exceptions in a dialect's code, so that no line stops a producer.

A line on which a dialect fails is published unchanged: without a time if `written_at` raises, under the substitute for
unnamed devices if `device_of` raises, and unframed if `framing` or `split` raises. The worker rejects, with the raw
line, what its dialect cannot parse. An exception is always a bug in the dialect.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from schemas.dialect import Dialect
from schemas.events import Micros

log = logging.getLogger(__name__)

LOG_SECS_MIN = 60.0
"""Shortest interval between two log entries about the same dialect."""


class DialectFailures:
    """Exceptions of each dialect's code in one producer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.by_dialect: Counter[str] = Counter()
        self._clock = clock
        self._log_at: dict[str, float] = {}

    def add(self, dialect: Dialect, error: Exception) -> None:
        """Count an exception and log where it was raised, at most once per `LOG_SECS_MIN` for each dialect.

        Its message is not logged, as it may quote the line.
        """
        self.by_dialect[dialect.name] += 1
        now = self._clock()
        if now >= self._log_at.get(dialect.name, now):
            self._log_at[dialect.name] = now + LOG_SECS_MIN
            failures = self.by_dialect[dialect.name]
            log.error(
                "a dialect failed on a line, please report it; the line is published as it is",
                extra={"dialect": dialect.name, "error": _place(error), "failures": failures},
            )

    def written_at(self, dialect: Dialect, value: bytes) -> Micros:
        """Return when a line was written; 0 if it contains no time or its dialect fails."""
        try:
            return dialect.written_at(value)
        except Exception as error:  # noqa: BLE001  # a bug in a dialect must not stop the producer
            self.add(dialect, error)
            return 0


def _place(error: Exception) -> str:
    """Return the type of an exception and the place in the code that raised it."""
    trace = error.__traceback__
    assert trace is not None, "the exception was raised"
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name} ({Path(code.co_filename).name}:{trace.tb_lineno})"
