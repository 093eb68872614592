"""Detach the parts that a full disk under ClickHouse left damaged, and write their rows again from Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from common.group_lag import GroupView
from schemas.settings import PREFIX, Settings
from schemas.topics import TABLE_OF_TOPIC, topic_name
from tests.faults.parts import ROOT
from tests.sinks.sink_world import loop_of, until
from unproxy.ops.damage import Part, damaged
from unproxy.query.client import of_settings

LOOK_SECS = 2.0
CURE_SECS_MAX = 60.0


class Cure:
    """Looks for damaged parts, detaches them and writes their rows again."""

    def __init__(self, settings: Settings, config: Path) -> None:
        self.parts: list[str] = []
        """What was put aside, by us or by ClickHouse itself, and brought back."""
        self._settings = settings
        self._config = config
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
            self._detach()
            self._write_again()
            # What ClickHouse detached by itself is reported each time, and needs no second cure.
            self._known = found
        self._looked_at = time.monotonic()

    def _write_again(self) -> None:
        """Run one more sink in a consumer group of its own, from the beginning of the topics to their present end."""
        settings = self._settings.model_copy(
            update={
                "sink": self._settings.sink.model_copy(update={"group": f"cure-{len(self.parts)}-{time.time_ns()}"})
            }
        )
        names = [topic_name(settings, name) for name in TABLE_OF_TOPIC]
        view = GroupView(settings.kafka, settings.sink.group)
        try:
            places = view.places(names)
            ends = {place: progress.end for place, progress in view.progress(places).items()}
            with loop_of(settings):
                until(
                    lambda: all(one.committed >= ends[place] for place, one in view.progress(places).items()),
                    CURE_SECS_MAX,
                )
        finally:
            view.close()

    def _detach(self) -> None:
        command = ["detach-damaged", "--format", "jsonl"]
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
            raise RuntimeError(f"unproxy detach-damaged ended with {done.returncode}: {done.stderr}")
        reported = [json.loads(line) for line in done.stdout.splitlines()]
        parts = [f"{one['Table']} {one['Part']} ({one['Why'][:80]})" for one in reported if "Part" in one]
        self.parts.extend(part for part in parts if part not in self.parts)
