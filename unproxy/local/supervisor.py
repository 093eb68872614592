"""Starts the parts as processes, restarts those that end, and stops them in order.

Each part has its own session, so that Ctrl-C in the terminal reaches only this process. A part that ends is restarted
a second later, whatever the reason and without limit: its state is in Kafka and its folder, and its log states why it
ended.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from unproxy.local.interrupts import Interrupts
from unproxy.local.servers.child import module_command
from unproxy.local.servers.service import EmbeddedError, private_files

RESTART_SECS = 1.0
LOG_BYTES_MAX = 8 * 1024 * 1024
LAST_WORDS_BYTES = 4_096
LAST_WORDS_CHARS = 200
PRODUCER_STOP_SECS = 1.0
PARTS_STOP_SECS = 4.0
SERVERS_STOP_SECS = 3.5
"""Seconds that the servers have to stop, after the producers and then the other parts.

The three times add up to less than the ten seconds that Ctrl-C may take.
"""


class Server(Protocol):
    """The embedded broker or engine."""

    @property
    def running(self) -> bool:
        """Whether its process is alive."""

    @property
    def log_file(self) -> Path:
        """Path of its log."""

    def start(self) -> None:
        """Start it, or take over the running one. Raises EmbeddedError."""

    def stop(self, timeout_secs: float) -> None:
        """Stop it; kill it after `timeout_secs` seconds."""


@dataclass(slots=True)
class Part:
    """A command of this program that runs as a process."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
    finished: Callable[[int], bool] | None = None
    """For a part that ends by itself: a function that returns whether an exit code means that its work is done."""
    process: subprocess.Popen[bytes] | None = None
    due: float | None = None
    """Monotonic time at which it is restarted; None if it runs or is done."""
    restarts: int = 0
    done: bool = False
    """Whether it ended by itself and its work is done; it is then not restarted."""

    def start(self) -> None:
        """Start the process; its output is appended to its log."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with private_files(), self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                module_command("unproxy", *self.arguments),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.due = None

    def last_words(self) -> str:
        """Return the last line of its log, which may state why it ended; "" if there is none."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - LAST_WORDS_BYTES))
                lines = log.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:LAST_WORDS_CHARS] for line in reversed(lines) if line.strip()), "")

    def signal(self, how: signal.Signals) -> None:
        """Send a signal if the process is alive."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)

    def ends(self, deadline: float) -> bool:
        """Wait for its end until the deadline, a monotonic time; return whether it has ended."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        return True

    def wait(self, deadline: float) -> None:
        """Wait for its end until the deadline, a monotonic time; then kill it."""
        if not self.ends(deadline) and self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class Supervisor:
    """Restarts parts and servers that end. It calls `warn` whenever one ends, and `changed` whenever one starts."""

    warn: Callable[[str], None]
    changed: Callable[[], None]
    interrupts: Interrupts = field(default_factory=Interrupts)
    parts: list[Part] = field(default_factory=list)
    servers: dict[str, Server] = field(default_factory=dict)
    servers_due: dict[str, float] = field(default_factory=dict)
    restarts: int = 0

    def start(self, part: Part) -> None:
        """Start a part and supervise it from now on."""
        with self.interrupts.held():
            self.parts.append(part)
            part.start()
            self.changed()

    def start_server(self, name: str, server: Server) -> None:
        """Start a server, or take over the one that runs in its folder, and supervise it from now on."""
        self.servers[name] = server
        server.start()
        self.changed()

    def look(self) -> None:
        """Detect parts and servers that ended, and restart those that are due. Call it a few times a second."""
        now = time.monotonic()
        for name, server in self.servers.items():
            self._look_at_server(name, server, now)
        for part in self.parts:
            self._look_at_part(part, now)

    def _look_at_part(self, part: Part, now: float) -> None:
        if part.done or part.process is None:
            return
        if part.due is not None:
            if now >= part.due:
                with self.interrupts.held():
                    part.start()
                    part.restarts += 1
                    self.restarts += 1
                    self.changed()
            return
        code = part.process.poll()
        if code is None:
            return
        if part.finished and part.finished(code):
            part.done = True
            return
        part.due = now + RESTART_SECS
        reason = f": {part.last_words()}" if code > 0 else ""
        self.warn(f"{part.name} ended ({_in_words(code)}) and is started again; its log is {part.log_file}{reason}")

    def _look_at_server(self, name: str, server: Server, now: float) -> None:
        due = self.servers_due.get(name)
        if due is None:
            if not server.running:
                self.servers_due[name] = now + RESTART_SECS
                self.warn(f"{name} ended and is started again; its log is {server.log_file}")
            return
        if now < due:
            return
        try:
            server.start()
        except EmbeddedError as error:
            self.warn(f"{name} does not start: {str(error).splitlines()[0]}")
            self.servers_due[name] = time.monotonic() + RESTART_SECS
            return
        del self.servers_due[name]
        self.restarts += 1
        self.changed()

    def stop(self) -> None:
        """Stop all parts in the order of the data flow; kill those that take too long.

        A killed part loses nothing, except for a producer whose input cannot be read again. The producers are therefore
        asked to stop first, and are killed only at the deadline of the other parts.
        """
        producers = [part for part in self.parts if part.finished]
        for part in producers:
            part.signal(signal.SIGTERM)
        deadline = time.monotonic() + PRODUCER_STOP_SECS
        for part in producers:
            part.ends(deadline)
        for part in self.parts:
            if not part.finished:
                part.signal(signal.SIGTERM)
        deadline = time.monotonic() + PARTS_STOP_SECS
        for part in self.parts:
            part.wait(deadline)
        enders = [threading.Thread(target=s.stop, args=(SERVERS_STOP_SECS,)) for s in self.servers.values()]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
