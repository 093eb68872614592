"""A server that keeps all its files in a folder; a later process can find and take over the running server.

The folder holds the server's data, its log, its PID, its port and the secret that clients must know. The next process
can therefore take over a server that still runs, or start one with the same data at the same address. Only the owner may
read the folder and its files. The server has its own session, so Ctrl-C in the terminal does not reach it.

    EmbeddedError    the user can fix this: the message states what to do
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pydantic import SecretStr

from unproxy.local.servers.secret import secret_of

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
# These ports are below the range that systems use for outgoing connections. Otherwise, a client that reconnects to a
# killed server could itself get the server's port, and the server could not start again.
PORTS = range(18_000, 32_000)
PORT_TRIES_MAX = 200
PORTS_REMEMBERED = 1_000
_given: deque[int] = deque(maxlen=PORTS_REMEMBERED)
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_LINES_SHOWN = 12
POLL_SECS = 0.02
KILL_SECS_MAX = 10.0


class EmbeddedError(Exception):
    """An embedded server cannot run; the message states why and what to do."""


class Service(ABC):
    """A server in a folder; a folder has at most one server of each kind."""

    name: str
    """Its name in messages and file names."""

    start_secs_max: float = 60.0

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self._asked_port = port
        self._port: int | None = None
        self._process: psutil.Process | None = None

    @abstractmethod
    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        """Write the files that the server reads when it starts; return its command and environment."""

    @abstractmethod
    def _is_ours(self, command: list[str]) -> bool:
        """Return whether a running process with this command line is the server of this folder."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether the server answers now."""

    @property
    def port(self) -> int:
        """The port that it listens on; known once it has started."""
        assert self._port is not None, f"the embedded {self.name} was not started"
        return self._port

    @property
    def pid(self) -> int:
        """The PID of its process; known once it has started."""
        assert self._process is not None, f"the embedded {self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and _alive(self._process)

    @property
    def secret(self) -> SecretStr:
        """The password for its clients; its folder must exist."""
        return secret_of(self.folder)

    @property
    def log_file(self) -> Path:
        """Path of its log."""
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start the server, or take over the one that still runs in this folder; return once it answers.

        Raises EmbeddedError if it does not answer within `start_secs_max` seconds.
        """
        make_private(self.folder)
        with locked(self.folder / "start.lock"):
            # A server that is just ending is still found. It does not come to answer, and a new one is started.
            if self.attach() and self._comes_to_answer():
                return
            self._spawn()
            if not self._comes_to_answer():
                self._pid_file.unlink(missing_ok=True)
                raise EmbeddedError(f"the embedded {self.name} ended while starting; {self._last_words()}")

    def attach(self) -> bool:
        """Find the server that runs in this folder, without starting one; return False if none runs."""
        process, port = self._left_running(), _number_in(self._port_file)
        if process is None or port is None:
            return False
        self._process, self._port = process, port
        return True

    def stop(self, timeout_secs: float = 10) -> None:
        """Ask the server to end, and wait; kill it after `timeout_secs` seconds. Do nothing if it does not run."""
        self._end(signal.SIGTERM, timeout_secs)

    def kill(self) -> None:
        """Kill the server, which has the same effects as a crash."""
        self._end(signal.SIGKILL, 0)

    def _end(self, how: signal.Signals, timeout_secs: float) -> bool:
        """Send the signal and wait; return whether it ended in time or had ended before."""
        process, self._process = self._process, None
        if process is None or not _alive(process):
            return True
        try:
            process.send_signal(how)
            if how is not signal.SIGKILL:
                process.wait(timeout_secs)
        except psutil.TimeoutExpired:
            log.warning(
                "embedded server did not end in time and is killed", extra={"server": self.name, "secs": timeout_secs}
            )
            how = signal.SIGKILL
        except psutil.NoSuchProcess:
            pass
        if how is signal.SIGKILL and _alive(process):
            process.kill()
            # If its parent died, a zombie may remain; it holds no resource.
            with suppress(psutil.TimeoutExpired):
                process.wait(KILL_SECS_MAX)
        if _number_in(self._pid_file) == process.pid:
            self._pid_file.unlink(missing_ok=True)
        return how is not signal.SIGKILL

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def _port_file(self) -> Path:
        return self.folder / f"{self.name}.port"

    def _left_running(self) -> psutil.Process | None:
        pid = _number_in(self._pid_file)
        try:
            process = psutil.Process(pid) if pid else None
            return process if process and _alive(process) and self._is_ours(process.cmdline()) else None
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def _choose_port(self) -> int:
        """Return the requested port, else the port of the last start if it is free, else any free port.

        Raises EmbeddedError if the requested port is taken.
        """
        asked = self._asked_port or self._port
        if asked:
            if not port_is_free(asked):
                raise EmbeddedError(
                    f"port {asked} for the embedded {self.name} is taken by another program; end it or name another port"
                )
            return asked
        last = _number_in(self._port_file)
        if last and port_is_free(last):
            return last
        if last:
            log.warning("port of the last start is taken, choosing another", extra={"server": self.name, "port": last})
        return free_port()

    def _spawn(self) -> None:
        self._port = self._choose_port()
        command, environment = self._prepare(self._port)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        out = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Not subprocess.Popen, which warns if the process outlives the object, as this one does on purpose.
            with private_files():
                pid = os.posix_spawn(
                    command[0],
                    command,
                    environment,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, out, 1),
                        (os.POSIX_SPAWN_DUP2, out, 2),
                    ],
                    setsid=True,
                )
        except OSError as error:
            raise EmbeddedError(
                f"{command[0]}: cannot be run: {error.strerror}; install unproxy[embedded] again"
            ) from None
        finally:
            os.close(out)
        self._process = psutil.Process(pid)
        with private_files():
            self._port_file.write_text(f"{self._port}\n")
            self._pid_file.write_text(f"{pid}\n")

    def _comes_to_answer(self) -> bool:
        """Wait for the first answer; return False if the process ends before. Raises EmbeddedError after the timeout."""
        deadline = time.monotonic() + self.start_secs_max
        while time.monotonic() < deadline:
            if self._answers():
                return True
            if not self.running:
                return False
            time.sleep(POLL_SECS)
        raise EmbeddedError(
            f"the embedded {self.name} did not answer within {self.start_secs_max:g} s; {self._last_words()}"
        )

    def _last_words(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        shown = [line for line in lines if not line.startswith("\tat ")]
        return f"the end of {self.log_file}:\n" + "\n".join(shown[-LOG_LINES_SHOWN:])


def make_private(folder: Path) -> None:
    """Create a folder for its owner only, or restrict an existing one to its owner.

    Raises EmbeddedError if that fails or if the folder belongs to another user.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            # The owner could read the secret in the folder, and replace tables, settings and logs.
            raise EmbeddedError(f"{folder}: belongs to another user (uid {found.st_uid}); choose a folder of your own")
        folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(f"{folder}: cannot be made: {error.strerror}; choose another folder") from None


@contextmanager
def private_files() -> Iterator[None]:
    """Restrict files that are created within the context to their owner, also in processes that are started within."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file within the context; other processes wait for it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise EmbeddedError(f"port {port}: {error.strerror}; choose another") from None
    return True


def free_port() -> int:
    """Return a port without a listener that this function has not returned lately. Raises EmbeddedError."""
    for port in random.SystemRandom().sample(PORTS, PORT_TRIES_MAX):
        if port not in _given and port_is_free(port):
            _given.append(port)
            return port
    raise EmbeddedError(f"found no free port from {PORTS.start} to {PORTS.stop - 1}; end some servers or name a port")


def _alive(process: psutil.Process) -> bool:
    """Return whether a process runs; reap it if it is a dead child."""
    try:
        if not process.is_running():
            return False
        if process.status() == psutil.STATUS_ZOMBIE:
            process.wait(1)
            return False
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        return False
    return True


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
