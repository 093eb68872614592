"""Turns Ctrl-C, SIGTERM and the closing of the terminal into KeyboardInterrupt.

While a process is started and recorded they are deferred, because an interrupt could leave a process without a record.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Interrupts:
    """The handling of the signals that end this process; within `held` they are deferred."""

    _holders: int = 0
    _waiting: bool = False

    def listen(self) -> None:
        """Let each of the signals raise KeyboardInterrupt in the main thread."""
        for wanted in SIGNALS:
            signal.signal(wanted, self._on_signal)

    def ignore(self) -> None:
        """Ignore the signals, as the process is ending already."""
        for wanted in SIGNALS:
            signal.signal(wanted, signal.SIG_IGN)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Defer signals to the end of a short critical section."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
        if self._waiting and not self._holders:
            self._waiting = False
            raise KeyboardInterrupt

    def _on_signal(self, *_: object) -> None:
        if self._holders:
            self._waiting = True
        else:
            raise KeyboardInterrupt
