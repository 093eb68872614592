"""The data folder of `up`: what lies where, who is using it, and how others find what runs in it.

kafka/ clickhouse/        the servers' data, logs and pids
producer/ worker-N/       positions, local state
log/                      one log a part
settings.toml             the settings the parts run with, logins included
up.json                   who runs, and where to reach it; renewed whenever something starts
lock                      held by the process that has the folder open, whose name stands in it

The folder and everything in it is for its owner only: settings.toml and the servers' folders hold secrets, and the rows show
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
"""Two readings of one process's start may differ by a clock tick; two processes of one pid by far more."""
POLL_SECS = 0.1
_OF_PARTS = frozenset(("producer", "worker"))
"""What commands put into the default folder before there is an `up`: publisher.state_dir, worker.data_dir."""


@dataclass(frozen=True, slots=True)
class Pid:
    """A process that cannot be mistaken for a later one of the same number."""

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
    """The content of up.json."""

    up: Pid
    kafka: str = ""
    clickhouse: str = ""
    settings: str = ""
    parts: dict[str, Pid] = field(default_factory=dict)

    def alive(self) -> bool:
        """Return whether that `up` still runs."""
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
        """Return whether an engine ever ran here."""
        return self.clickhouse.is_dir()

    def make(self) -> None:
        """Make it where it is missing, for its owner only. Raises Fixable where that cannot be done."""
        try:
            if self.path.is_dir() and not self._lock.exists() and {p.name for p in self.path.iterdir()} - _OF_PARTS:
                # It may be a home folder, or /tmp: neither may be closed to others.
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
        """Return what the last `up` recorded, running or not; None in a folder of another user, which is not trusted."""
        try:
            if self.path.stat().st_uid != os.geteuid():
                return None
            found = json.loads(self._record.read_text(encoding="utf-8"))
            parts = {name: Pid(**pid) for name, pid in found["parts"].items()}
            return Running(Pid(**found["up"]), found["kafka"], found["clickhouse"], found["settings"], parts)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, running: Running) -> None:
        """Replace up.json atomically, so that no reader sees half of it."""
        fresh = self._record.with_suffix(".new")
        with private_files():
            fresh.write_text(json.dumps(asdict(running), indent=1), encoding="utf-8")
        fresh.replace(self._record)

    def forget(self) -> None:
        """Delete up.json, as nothing runs here any more."""
        self._record.unlink(missing_ok=True)

    def holder(self) -> str:
        """Return which command has the folder open, or had it last."""
        try:
            return self._lock.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    @contextmanager
    def opened(self, name: str, *, wait_secs: float, waiting: Callable[[str], None]) -> Iterator[None]:
        """Lock the folder. `waiting` is called once with the holder of the lock. Raises Fixable at the timeout."""
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
    """End the parts that an `up` which died left behind; never a stranger. Gives their names."""
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
