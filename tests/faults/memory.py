"""How much memory each process of a run takes at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import psutil

LOOK_SECS = 0.5


class Memory(threading.Thread):
    """Looks until closed; the highest resident size in MB of each process, by name."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        super().__init__(name="memory", daemon=True)
        self.peak_mb: dict[str, int] = {}
        self._pids = pids
        self._closed = threading.Event()
        self.start()

    def run(self) -> None:
        """Look again and again; a process that is gone at the moment is passed over."""
        while not self._closed.wait(LOOK_SECS):
            for name, pid in self._pids().items():
                try:
                    size = psutil.Process(pid).memory_info().rss >> 20 if pid else 0
                except psutil.NoSuchProcess:
                    continue
                self.peak_mb[name] = max(self.peak_mb.get(name, 0), size)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self.join()
