"""The data folder of `up`: its files, the lock on it, and the record of the processes that run in it.

kafka/ clickhouse/        data, logs and PIDs of the servers
producer/ worker-N/       positions in files, local state
log/                      the logs, one per part
settings.toml             the settings that the parts run with, including the logins
up.json                   the running processes and their addresses; written whenever a process starts
lock                      locked by the command that has the folder open; contains its name

Only the owner may read the folder and its files: settings.toml and the servers' folders hold secrets, and the rows show
what people did.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from unproxy.errors import Fixable
from unproxy.local.servers.service import EmbeddedError, make_private, private_files

STARTED_SECS_SLACK = 0.05
"""Largest difference, in seconds, between two readings of a process's start time.

The start times of two processes with the same PID differ by far more.
"""
POLL_SECS = 0.1
_OF_PARTS = frozenset(("producer", "worker"))
"""Names that other commands create in the default folder before an `up` runs: publisher.state_dir, worker.data_dir."""


@dataclass(frozen=True, slots=True)
class Pid:
    """A process, identified by its PID and its start time: a later process may have the same PID."""

    number: int
    started: float

    @classmethod
    def of(cls, number: int) -> Pid:
        """Return the process that has this PID now. Raises psutil.NoSuchProcess."""
        return cls(number, psutil.Process(number).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process; None if it has ended."""
        try:
            found = psutil.Process(self.number)
            same = abs(found.create_time() - self.started) <= STARTED_SECS_SLACK
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(slots=True)
class Running:
    """The content of up.json: the process of `up`, the addresses of its servers, its settings file and its parts.

    The addresses are empty until the servers have started.
    """

    up: Pid
    kafka: str = ""
    clickhouse: str = ""
    settings: str = ""
    parts: dict[str, Pid] = field(default_factory=dict)

    def alive(self) -> bool:
        """Return whether this `up` still runs."""
        return self.up.process() is not None


class Folder:
    """A data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kafka = path / "kafka"
        """The broker's folder."""
        self.clickhouse = path / "clickhouse"
        """The engine's folder."""
        self.logs = path / "log"
        """The parts' logs."""
        self.settings = path / "settings.toml"
        """The settings that the parts run with."""
        self._record = path / "up.json"
        self._lock = path / "lock"

    def has_tables(self) -> bool:
        """Return whether an engine has ever run in this folder."""
        return self.clickhouse.is_dir()

    def make(self) -> None:
        """Create the folder if it is missing, and restrict it to its owner.

        Raises Fixable if that fails, or if the folder holds files that are not from `up`.
        """
        try:
            if self.path.is_dir() and not self._lock.exists() and {p.name for p in self.path.iterdir()} - _OF_PARTS:
                # It may be a home folder or /tmp, which must not be restricted to its owner.
                raise Fixable(
                    f"{self.path}: holds files that are not of `unproxy up`; choose another folder with --data"
                )
            make_private(self.path)
            self._lock.touch(mode=0o600)
        except EmbeddedError as error:
            raise Fixable(f"{error} with --data") from None
        except OSError as error:
            raise Fixable(f"{self.path}: cannot be used: {error.strerror}; choose another folder with --data") from None

    def read(self) -> Running | None:
        """Return what the last `up` recorded, whether it still runs or not; None if there is no valid record.

        The folder of another user is not trusted: the result is None, too.
        """
        try:
            if self.path.stat().st_uid != os.geteuid():
                return None
            found = json.loads(self._record.read_text(encoding="utf-8"))
            parts = {name: Pid(**pid) for name, pid in found["parts"].items()}
            return Running(Pid(**found["up"]), found["kafka"], found["clickhouse"], found["settings"], parts)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, running: Running) -> None:
        """Replace up.json atomically, so that no reader sees an incomplete file."""
        fresh = self._record.with_suffix(".new")
        with private_files():
            fresh.write_text(json.dumps(asdict(running), indent=1), encoding="utf-8")
        fresh.replace(self._record)

    def forget(self) -> None:
        """Delete up.json, because no process runs in the folder any more."""
        self._record.unlink(missing_ok=True)

    def holder(self) -> str:
        """Return which command has the folder open, or had it last."""
        try:
            return self._lock.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    @contextmanager
    def opened(self, name: str, *, wait_secs: float, waiting: Callable[[str], None]) -> Iterator[None]:
        """Lock the folder within the context, in the name of this command.

        If another command holds the lock, wait for at most `wait_secs` seconds; `waiting` is called once with the
        holder. Raises Fixable after that time, and at once if the holder is an `up`.
        """
        self.make()
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(handle, wait_secs, waiting)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{name} (pid {os.getpid()})\n".encode(), 0)
            yield
        finally:
            os.close(handle)

    def _take(self, handle: int, wait_secs: float, waiting: Callable[[str], None]) -> None:
        deadline = time.monotonic() + wait_secs
        reported = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                holder = self.holder()
            if time.monotonic() >= deadline or holder.startswith("up "):
                raise Fixable(
                    f"{self.path}: is in use by {holder}; end that one first, or choose another folder with --data"
                ) from None
            if not reported:
                waiting(holder)
                reported = True
            time.sleep(POLL_SECS)


def end_leftovers(running: Running, secs_max: float = 5.0) -> list[str]:
    """End the parts that a dead `up` left running, and return their names.

    They get SIGTERM and, after `secs_max` seconds, SIGKILL. Other processes with the same PIDs are not touched.
    """
    found = {name: process for name, pid in running.parts.items() if (process := pid.process())}
    for process in found.values():
        _signal(process, signal.SIGTERM)
    _, left = psutil.wait_procs(found.values(), timeout=secs_max)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=secs_max)
    return list(found)


def _signal(process: psutil.Process, how: signal.Signals) -> None:
    try:
        process.send_signal(how)
    except psutil.NoSuchProcess:
        return
