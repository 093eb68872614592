"""The bounded queue of lines to write or publish. Producing threads never wait for the consuming thread."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of queued lines per dialect, some 30,000 lines. Each dialect has its own bound, so that a flood of requests does not
displace connections."""


@dataclass(slots=True)
class Queue:
    """A queue of lines with their dialects' names. When a dialect's bound is reached, its new lines are dropped."""

    bytes_max: int = QUEUE_BYTES_MAX
    dropped: int = 0
    """Lines dropped because their dialect's bound was reached."""
    _waiting_bytes: dict[str, int] = field(default_factory=dict)
    _lines: deque[tuple[str, bytes]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, line: bytes, dialect: str) -> None:
        """Append a line, or drop and count it when its dialect's bound is reached."""
        with self._lock:
            waiting = self._waiting_bytes.get(dialect, 0) + len(line)
            if waiting > self.bytes_max:
                self.dropped += 1
            else:
                self._lines.append((dialect, line))
                self._waiting_bytes[dialect] = waiting

    def take(self) -> list[tuple[str, bytes]]:
        """Remove and return all queued lines."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            self._waiting_bytes.clear()
        return lines
