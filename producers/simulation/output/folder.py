"""Write a world into files, as its sensors would, and the truth into two other files.

NAME.eve.json  NAME.sockets.jsonl   of each device: `unproxy replay 'suricata:DIR/*.eve.json' 'sockets:DIR/*.sockets.jsonl'`
truth.jsonl    direct.jsonl         the truth: the proxied requests, and the connections that bypass the proxies
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event

from producers.simulation.settings import WorldSettings
from producers.simulation.world import World

TRUTH_FILE, DIRECT_FILE = "truth.jsonl", "direct.jsonl"
ENDINGS = (".sockets.jsonl", ".eve.json")
"""Endings of the names of a device's files, in the order of `DeviceLines.lines`."""
WAITING_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of lines that are collected before they are written. There may be too many devices to keep all files open."""


class Folder:
    """Growing files in a folder; each is open only while lines are written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: dict[str, list[bytes]] = {}
        self._waiting_bytes = 0

    def add(self, name: str, lines: list[bytes]) -> None:
        """Append lines to a file, at once or with a later call."""
        self._waiting.setdefault(name, []).extend(lines)
        self._waiting_bytes += sum(map(len, lines))
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self.write()

    def write(self) -> None:
        """Write all collected lines."""
        for name, lines in self._waiting.items():
            with (self.path / name).open("ab") as file:
                file.write(b"\n".join([*lines, b""]))
        self._waiting.clear()
        self._waiting_bytes = 0


def write_folder(
    settings: WorldSettings, path: Path, stop: Event, progress: Callable[[int], None] = lambda _: None
) -> Counter[str]:
    """Write a world into a new or empty folder until it ends or `stop` is set; return the world's tally.

    `progress` receives the number of lines so far after each time slice. Raises OSError.
    """
    path.mkdir(parents=True, exist_ok=True)
    folder = Folder(path)
    files = {TRUTH_FILE: list[bytes](), DIRECT_FILE: list[bytes]()}
    world = World(
        settings,
        truth=lambda lines_of_file: files[TRUTH_FILE].append(json.dumps(lines_of_file).encode()),
        direct=lambda lines_of_file: files[DIRECT_FILE].append(json.dumps(lines_of_file).encode()),
    )
    lines_so_far = 0
    for _, by_device in world.slices():
        for one in by_device:
            for ending, lines in zip(ENDINGS, one.lines, strict=True):
                if lines:
                    lines_so_far += len(lines)
                    folder.add(one.device + ending, [line for _, line in lines])
        for name, lines_of_file in files.items():
            folder.add(name, lines_of_file)
            lines_of_file.clear()
        progress(lines_so_far)
        if stop.is_set():
            break
    folder.write()
    return world.tally
