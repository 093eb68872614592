"""An `up` as a process in the background, and what it is asked and done to."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition

from common.kafka import client_config
from schemas.settings_file import load
from schemas.topics import NETWORK_EVENTS

UP_SECS_MAX = 120.0
ROOT = Path(__file__).parents[3]


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str
    secs: float


@dataclass
class Story:
    """What happened."""

    folder: Path
    up: Done
    while_running: dict[str, Done] = field(default_factory=dict)
    stop_secs: float = 0.0
    left_running: list[int] = field(default_factory=list)
    open_files: list[str] = field(default_factory=list)
    """What others than the owner could read or write in its folder while it ran."""
    command_lines: list[str] = field(default_factory=list)
    """Of it and all its processes."""


def unproxy(*arguments: str, secs_max: float = UP_SECS_MAX) -> Done:
    """Run a command to its end, as a user does."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "unproxy", *arguments],
        capture_output=True, text=True, cwd=ROOT, timeout=secs_max, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)


def wait_for(fact: Callable[[], Any], what: str, secs_max: float = UP_SECS_MAX) -> Any:
    """The first true answer. Fails when none comes in time."""
    deadline = time.monotonic() + secs_max
    while time.monotonic() < deadline:
        if answer := fact():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {secs_max:g} s")


class Running:
    """An `up` in the background."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._out, self._err = folder.with_suffix(".out"), folder.with_suffix(".err")
        self._begun = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "unproxy", "up", "--data", str(folder), *arguments],
                stdout=out, stderr=err, cwd=ROOT,
            )  # fmt: skip

    @property
    def out(self) -> str:
        """What it printed."""
        return self._out.read_text()

    def pids(self) -> dict[str, int]:
        """Its parts, once it wrote them down."""
        try:
            state = json.loads((self.folder / "up.json").read_text())
        except (OSError, ValueError):
            return {}
        parts = {name: pid["number"] for name, pid in state["parts"].items()}
        return parts if state["clickhouse"] and state["up"]["number"] == self.process.pid else {}

    def wait_for_parts(self, *names: str) -> dict[str, int]:
        """Their pids, once all of them were started."""
        parts: dict[str, int] = wait_for(
            lambda: (found := self.pids()) and set(names) <= set(found) and found, f"start of {', '.join(names)}"
        )
        return parts

    def end(self, how: signal.Signals) -> Done:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(UP_SECS_MAX)
        return Done(code, self.out, self._err.read_text(), time.monotonic() - self._begun)


def servers_of(folder: Path) -> list[int]:
    """The embedded servers that run on this folder."""
    found = []
    for file in folder.glob("*/*.pid"):
        pid = int(file.read_text())
        if psutil.pid_exists(pid) and any(str(folder) in word for word in psutil.Process(pid).cmdline()):
            found.append(pid)
    return found


def parts_of(folder: Path) -> list[int]:
    """Processes that run with the settings of this folder, recorded or not."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("UNPROXY_CONFIG") == str(folder / "settings.toml"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def open_files(folder: Path) -> list[str]:
    """Files and folders of a data folder that are not for their owner only."""
    inside = (Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files))
    found = {}
    for path in (folder, *inside):
        with suppress(FileNotFoundError):  # ClickHouse removes parts that it has merged.
            found[path] = path.lstat().st_mode
    # Links have no mode of their own.
    return [str(path) for path, mode in found.items() if mode & 0o077 and not stat.S_ISLNK(mode)]


def command_lines(running: Running) -> list[str]:
    """What everybody on the machine sees of an `up` and its processes."""
    pids = [running.process.pid, *running.pids().values(), *servers_of(running.folder)]
    return [" ".join(psutil.Process(pid).cmdline()) for pid in pids]


def rows_were_made(folder: Path) -> bool:
    """Whether the worker delivered something."""
    kafka = load(folder / "settings.toml").kafka
    consumer = Consumer({**client_config(kafka), "group.id": "looks-only"})
    try:
        return any(
            consumer.get_watermark_offsets(TopicPartition(NETWORK_EVENTS, number), timeout=5)[1] for number in range(4)
        )
    finally:
        consumer.close()


def follow_alerts(data: list[str]) -> Done:
    """`alerts --follow` until its first alert, then Ctrl-C."""
    command = [sys.executable, "-u", "-m", "unproxy", "alerts", *data, "--follow", "--from-start", "--device", "dev-b"]
    with subprocess.Popen(
        [*command, "--format", "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=UP_SECS_MAX)
    return Done(process.returncode, first + out, err, 0.0)


def ask_around(folder: Path) -> dict[str, Done]:
    """Commands that meet the running `up`."""
    settings = ["--config", str(folder / "settings.toml")]
    data = ["--data", str(folder)]
    return {
        "query": unproxy("query", *data, "--format", "csv", "SELECT count() FROM DeviceNetworkEvents"),
        "check": unproxy(*settings, "check"),
        "migrate": unproxy(*settings, "migrate", "--dry-run"),
        "topics": unproxy(*settings, "topics", "--create"),
        "second up": unproxy("up", *data, "--once"),
        "alerts": follow_alerts(data),
        "produce": unproxy(*settings, "produce", "sockets:unproxy/samples/sockets.jsonl.gz"),
    }
