"""What an operator does about parts that a full disk under ClickHouse left damaged: `unproxy refill`, as it is called by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from schemas.clock import iso_micros
from schemas.settings import PREFIX, Settings
from schemas.topics import TABLE_OF_TOPIC
from tests.faults.parts import ROOT
from unproxy.ops.damage import Part, damaged
from unproxy.query.client import of_settings

LOOK_SECS = 2.0
CURE_SECS_MAX = 60.0


class Cure:
    """Looks for damaged parts, and cures what it finds."""

    def __init__(self, settings: Settings, config: Path) -> None:
        self.parts: list[str] = []
        """What was put aside, by us or by ClickHouse itself, and brought back."""
        self._settings = settings
        self._config = config
        self._since = iso_micros(int(time.time()) * 1_000_000)
        self._known: set[Part] = set()
        self._looked_at = float("-inf")

    def now_and_then(self) -> None:
        """Look, if the last time was a while ago."""
        if time.monotonic() - self._looked_at >= LOOK_SECS:
            self.look()

    def look(self) -> None:
        """Look, and cure what is new. A sink that waits for rows of a damaged part goes on by itself then."""
        client = of_settings(self._settings)
        found = {part for table in TABLE_OF_TOPIC.values() for part in damaged(client, table)}
        if found - self._known:
            self._refill()
            # What ClickHouse put aside by itself is reported each time, and needs no second cure.
            self._known = found
        self._looked_at = time.monotonic()

    def _refill(self) -> None:
        command = ["refill", "--since", self._since, "--detach-damaged", "--format", "jsonl"]
        done = subprocess.run(
            [sys.executable, "-m", "unproxy", "--config", str(self._config), *command],
            cwd=self._config.parent,
            env={
                **{key: value for key, value in os.environ.items() if not key.upper().startswith(PREFIX)},
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            timeout=CURE_SECS_MAX,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"unproxy refill ended with {done.returncode}: {done.stderr}")
        reported = [json.loads(line) for line in done.stdout.splitlines()]
        parts = [f"{one['Table']} {one['Part']} ({one['Why'][:80]})" for one in reported if "Part" in one]
        self.parts.extend(part for part in parts if part not in self.parts)
