"""Our own processes as a supervisor runs them: started again a second after they end, whatever they ended of."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from schemas.settings import CONFIG_VARIABLE, PREFIX

ROOT = Path(__file__).parents[2]
RESTART_SECS = 1.0
POLL_SECS = 0.05
STACKS_SECS_MAX = 5.0
"""For the stacks of all threads to be written."""


class Part:
    """One process that is kept running until it is asked to stop."""

    def __init__(self, name: str, command: Sequence[str], config: Path, own: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.exits: list[int] = []
        """How it ended, each time it was not asked to."""
        self.log = log
        self._command = [sys.executable, *command]
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(PREFIX)}
        self._environment = {
            **kept, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", CONFIG_VARIABLE: str(config), **own
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._paused = False
        self._lock = threading.RLock()
        self._ended_at = 0.0

    @property
    def pid(self) -> int:
        """The process; 0 when there is none at the moment."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def wanted(self) -> bool:
        """Whether it is to run."""
        return self._wanted

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        with self._lock:
            self._wanted = True
            if not self.pid:
                self._spawn()

    def look(self, now: float) -> None:
        """Start it again when it is time to."""
        with self._lock:
            if not self._wanted or self._process is None or self._process.poll() is None:
                return
            if not self._ended_at:
                self._ended_at = now
                self.exits.append(self._process.returncode)
            elif now - self._ended_at >= RESTART_SECS:
                self._spawn()

    def kill(self, lost_folder: Path | None = None) -> None:
        """Kill -9; with a folder, its disk is lost as well."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            if lost_folder is not None:
                for path in lost_folder.iterdir() if lost_folder.exists() else ():
                    shutil.rmtree(path, ignore_errors=True)

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signum)

    def report_where_it_stands(self) -> None:
        """Have it write the stacks of its threads into its log, and end: of one that goes on no more nothing else is left."""
        with self._lock:
            self._wanted = False
            if self._process is None or self._process.poll() is not None:
                return
            with self.log.open("a") as log:
                for task in sorted(Path(f"/proc/{self.pid}/task").iterdir()):
                    with suppress(OSError):  # a thread that ended meanwhile
                        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
                        log.write(
                            f"{task.name} {(task / 'comm').read_text().strip()}: {state} {(task / 'wchan').read_text()}\n"
                        )
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STACKS_SECS_MAX)

    def stop(self, secs_max: float = 30.0) -> float:
        """SIGTERM, and do not start it again; how long it took, in seconds. Killed when that is too long."""
        with self._lock:
            self._wanted = False
            began = time.monotonic()
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGCONT)
                self._process.terminate()
                try:
                    code = self._process.wait(secs_max)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    code = self._process.wait()
                if code:
                    self.exits.append(code)
            return time.monotonic() - began

    def _spawn(self) -> None:
        self._ended_at = 0.0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


class Keeper(threading.Thread):
    """Looks after parts until it is closed."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(name="keeper", daemon=True)
        self._parts = parts
        self._closed = threading.Event()
        self.start()

    def run(self) -> None:
        """Start again what ended."""
        while not self._closed.wait(POLL_SECS):
            for part in self._parts:
                part.look(time.monotonic())

    def close(self) -> None:
        """Start nothing again from now on."""
        self._closed.set()
        self.join()
