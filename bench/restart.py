"""A worker that holds many open connections is started again: how long until it goes on, and in how much memory.

The connections come in as real messages, on a real broker. Then the worker is stopped, killed, or killed with its disk
lost, and input arrives while it is away. Measured is the new process alone: from its start to a commit in every
partition, and the most that it ever had resident.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil

from bench.cluster import POLL_SECS, SECS_MAX, ToSend, committed, part_of, publish
from bench.figures import Case, report_progress
from bench.fleet import Fleet
from producers.simulation.fleet import device_name
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name

OPEN = 1_000_000
DEVICES = 10_000
AHEAD_MESSAGES = 2_000
"""As the publishers are never far ahead, the log's time passes between the messages and connections are decided meanwhile."""
REST_SECS = 25.0
"""Until the connections are decided, which writes them once more, and no timer is due."""
LATER_SECS = 5.0
"""After it goes on: memory is looked at for so long, as a restart is done when everything runs again."""


def run_cases(settings: Settings, folder: Path, connections: int = OPEN, devices: int = DEVICES) -> list[Case]:
    """Fill once, then end it in three ways; the topics of these settings are there and empty."""
    topic = topic_name(settings, TELEMETRY)
    report_progress(f"restart: {connections:,} connections open on {devices:,} devices")
    filling = _filling(Fleet(devices), connections)
    cases = []
    with part_of(settings, "worker", folder) as worker:
        begun = time.monotonic()
        while some := list(islice(filling, AHEAD_MESSAGES)):
            published = publish(settings, topic, some)
            _await_commits(settings, worker, {part: max(by_offset) for part, by_offset in published.weights.items()})
        figures = {"open connections": float(connections), "devices": float(devices)}
        figures["filled in, s"] = time.monotonic() - begun
        time.sleep(REST_SECS)
        figures["MB resident before"] = worker.memory_info().rss / 1e6
        figures["MB on disk"] = _megabytes(Path(settings.worker.data_dir))
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.wait(SECS_MAX)
        figures["graceful stop, s"] = time.monotonic() - begun
    cases.append(_again("stopped", settings, folder, figures))
    cases.append(_again("kill -9", settings, folder, figures))
    shutil.rmtree(settings.worker.data_dir)
    cases.append(_again("kill -9, disk lost", settings, folder, figures))
    return cases


def _filling(fleet: Fleet, connections: int) -> Iterator[ToSend]:
    for seq, one in enumerate(fleet.preload(connections), 1):
        headers: dict[str, str | bytes | None] = {"dialect": one.dialect, "sensor": "bench", "seq": str(seq)}
        yield ToSend(one.device.encode(), one.value, one.lines, headers)


def _again(what: str, settings: Settings, folder: Path, before: dict[str, float]) -> Case:
    """Start the worker over input that waits; it is killed when it was measured."""
    report_progress(f"restart: {what}")
    ends = committed(settings)
    waiting = [
        ToSend(device_name(number).encode(), b"{}", 1, {"dialect": "sockets"}, partition)
        for number, partition in enumerate(ends)
    ]
    published = publish(settings, topic_name(settings, TELEMETRY), waiting)
    wanted = {part: min(by_offset) for part, by_offset in published.weights.items()}
    begun = time.monotonic()
    with part_of(settings, "worker", folder) as worker:
        _await_commits(settings, worker, wanted)
        secs = time.monotonic() - begun
        time.sleep(LATER_SECS)
        figures = {"s to a commit everywhere": secs, "MB resident at most": _peak(worker)}
        figures["MB resident after"] = worker.memory_info().rss / 1e6
        worker.kill()
        worker.wait()
    return Case("restart", what, {**figures, **before})


def _await_commits(settings: Settings, worker: psutil.Process, wanted: dict[int, int]) -> None:
    """Wait until the group has committed these offsets."""
    deadline = time.monotonic() + SECS_MAX
    while True:
        found = committed(settings)
        if all(found[part] > offset for part, offset in wanted.items()):
            return
        if time.monotonic() > deadline or worker.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"the worker ended, or was not there after {SECS_MAX:g} s; it stands at {found}")
        time.sleep(POLL_SECS)


def _peak(worker: psutil.Process) -> float:
    """The most that the process had resident, in MB."""
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel reports no VmHWM")


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
