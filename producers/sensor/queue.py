"""Lines that wait to be written or published, with a bound: whoever finds them never waits for whoever takes them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

QUEUE_BYTES_MAX = 32 * 1024 * 1024
"""Of lines that wait to be taken; some 60,000."""


@dataclass(slots=True)
class Queue:
    """Lines that wait, each with its dialect's name. Beyond the bound the newest are dropped."""

    bytes_max: int = QUEUE_BYTES_MAX
    waiting_bytes: int = 0
    dropped: int = 0
    """Lines for which there was no room."""
    _lines: deque[tuple[str, bytes]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, line: bytes, dialect: str) -> None:
        """Take a line if there is room."""
        with self._lock:
            if self.waiting_bytes + len(line) > self.bytes_max:
                self.dropped += 1
            else:
                self._lines.append((dialect, line))
                self.waiting_bytes += len(line)

    def take(self) -> list[tuple[str, bytes]]:
        """All that wait."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            self.waiting_bytes = 0
        return lines
