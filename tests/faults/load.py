"""The load: a simulated fleet whose sensors write their files while the run goes on, and what they wrote."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from producers.simulation import SimulatedLine, World, WorldSettings

Row = dict[str, Any]

FILES_PER_DIALECT = 2
WRITE_SECS = 0.05
DISORDER_SECS_MAX = 1.0
FLOW_TIMEOUT_SECS = 5.0
"""Shorter than Suricata's own, so that flows end while the run goes on."""


class Load:
    """Lines made beforehand, written when their time has come."""

    def __init__(self, folder: Path, *, seed: int, secs: float, devices: int, lines_per_sec: float) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._began = 0.0
        world = WorldSettings(
            seed=seed,
            devices=devices,
            lines_per_sec=lines_per_sec,
            duration_secs=secs,
            start=datetime.now(UTC).replace(microsecond=0),
            gaps=seed % 3 == 0,
            disorder_secs_max=DISORDER_SECS_MAX,
            flow_timeout_secs=FLOW_TIMEOUT_SECS,
        )
        self.truth: list[Row] = []
        """What was really asked, as the scorer reads it."""
        self.lines = list(World(world, truth=self.truth.append).lines())
        self._origin = world.begin
        self._thread = threading.Thread(target=self._write, name="load", daemon=True)
        for file in {self._file(line) for line in self.lines}:
            file.touch()

    @property
    def sources(self) -> list[str]:
        """The sources that the producer follows."""
        return sorted({f"{line.dialect}:{self._file(line)}" for line in self.lines})

    @property
    def values(self) -> Counter[bytes]:
        """Every line, and how often it was written."""
        return Counter(line.value for line in self.lines)

    def begin(self) -> None:
        """Start to write."""
        self._began = time.monotonic()
        self._thread.start()

    def join(self) -> None:
        """Wait until all is written."""
        self._thread.join()

    def _file(self, line: SimulatedLine) -> Path:
        return self._folder / f"{line.dialect}-{sum(line.device.encode()) % FILES_PER_DIALECT}.jsonl"

    def _write(self) -> None:
        files = {path: path.open("ab", buffering=0) for path in {self._file(line) for line in self.lines}}
        waiting = iter(self.lines)
        line = next(waiting, None)
        while line is not None:
            due = (time.monotonic() - self._began) * 1_000_000
            some: dict[Path, list[bytes]] = {}
            while line is not None and line.at - self._origin <= due:
                some.setdefault(self._file(line), []).append(line.value)
                line = next(waiting, None)
            for path, values in some.items():
                files[path].write(b"\n".join(values) + b"\n")
            time.sleep(WRITE_SECS)
        for file in files.values():
            file.close()
