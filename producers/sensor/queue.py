"""Lines that wait to be written or published, with a bound: the threads that find them never wait for the one that takes them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Of a dialect's lines that wait to be taken; some 30,000. Each has its own, so that a flood of requests takes no room from
connections."""


@dataclass(slots=True)
class Queue:
    """Lines that wait, each with its dialect's name. Beyond a dialect's bound its newest are dropped."""

    bytes_max: int = QUEUE_BYTES_MAX
    dropped: int = 0
    """Lines for which there was no room."""
    _waiting_bytes: dict[str, int] = field(default_factory=dict)
    _lines: deque[tuple[str, bytes]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, line: bytes, dialect: str) -> None:
        """Take a line if there is room."""
        with self._lock:
            waiting = self._waiting_bytes.get(dialect, 0) + len(line)
            if waiting > self.bytes_max:
                self.dropped += 1
            else:
                self._lines.append((dialect, line))
                self._waiting_bytes[dialect] = waiting

    def take(self) -> list[tuple[str, bytes]]:
        """All that wait."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            self._waiting_bytes.clear()
        return lines
