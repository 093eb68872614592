"""The place of a live run: two network namespaces joined by a wire, and what runs in them.

    near   the clients and the sensor; the run itself is here                  198.51.100.11, 2001:db8:51::11
    far    squid, the servers behind it, the load's own proxies                198.51.100.80, 2001:db8:51::80 and more

Both, and the wire, exist only as long as their processes do, and these end with the run, however it ends. Nothing of the
machine's own network is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.settings import PREFIX

ROOT = Path(__file__).parents[2]
MODULE = "tests.live"
NEAR, NEAR_6 = "198.51.100.11", "2001:db8:51::11"
PROXY, PROXY_6, PROXY_PORT = "198.51.100.80", "2001:db8:51::80", 3128
LOAD_PROXIES = tuple(f"198.51.100.{last}" for last in range(100, 108))
"""Several, so that a client has enough ports at 2,000 connections a second."""
SERVERS = tuple(f"203.0.113.{last}" for last in (10, 11, 12, 66))
UNPRIVILEGED = 65_534
"""ID of Linux's unprivileged user, and of its group."""
ENTERED = "LIVE_ENTERED"
STOP_SECS = 15.0
START_SECS = 60.0
TIED = ("setpriv", "--pdeathsig", "KILL")
"""In front of a command: it ends with the run, even if that is killed."""
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "openssl", "curl", "mount")

_LISTEN, _TIME_WAIT = "0A", "06"
"""States in /proc/net/tcp."""

Arguments = Sequence[str | Path]


class CannotRun(Exception):
    """Something is missing that a live run needs; the message names the remedy."""


class WentWrong(Exception):
    """What should run does not."""


def check_machine() -> None:
    """Raise CannotRun where no live run is possible."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise CannotRun("a live run needs Linux and root; call it with sudo")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise CannotRun(f"{', '.join(missing)} not found; install Debian's iproute2, util-linux, openssl and curl")


def enter_namespaces() -> None:
    """Go on in a network and a mount namespace of its own: the same command once more, under the same PID."""
    if os.environ.get(ENTERED):
        return
    os.environ[ENTERED] = "1"
    words = ["unshare", "--net", "--mount", sys.executable, "-m", MODULE, *sys.argv[1:]]
    os.execvp(words[0], words)


class Stage:
    """Both namespaces, and the processes begun in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._families: set[int] = set()
        # It ends at the end of its input: when this process does.
        self._far = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._lay_wire()

    def near(self, words: Arguments, name: str) -> subprocess.Popen[bytes]:
        """Begin a program in the clients' namespace; its output is in NAME.log."""
        return self._begin([*TIED, *words], name)

    def far(self, words: Arguments, name: str, *, user: int = 0) -> subprocess.Popen[bytes]:
        """Begin a program in the proxy's namespace."""
        as_user = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return self._begin([*self._in_far(), TIED[0], *as_user, *TIED[1:], *words], name)

    def far_family(self, words: Arguments, name: str) -> subprocess.Popen[bytes]:
        """Begin a program there that starts others, or changes its user: in a PID namespace, so that all end with the run.

        The namespace's first process is a shell: a program that changes its user would no longer be tied to the run.
        """
        shell = ["sh", "-c", '"$@"; exit $?', "sh"]
        process = self.far(["unshare", "--pid", "--fork", "--kill-child", *shell, *words], name)
        self._families.add(process.pid)
        return process

    def own_in_far(self, network: str) -> None:
        """Make every address of a network one of the far namespace's own, for who listens on all of them."""
        _ip(f"route add local {network} dev lo", self._in_far())

    def is_open(self, address: str, port: int) -> bool:
        """Whether something listens there."""
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((address, port)) == 0

    def is_far_connected(self) -> bool:
        """Whether a TCP connection of the far namespace is being made, is open or is being closed there."""
        lines = Path(f"/proc/{self._far.pid}/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[3] not in (_LISTEN, _TIME_WAIT) for line in lines)

    def output(self, name: str) -> str:
        """Return the output of the program of that name."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self, process: subprocess.Popen[bytes], asked_with: int = signal.SIGTERM) -> int:
        """Ask it to end and wait; kill it where it does not."""
        if process.poll() is None:
            process.send_signal(asked_with)
        try:
            return process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            with suppress(ValueError):
                self._running.remove(process)

    def close(self) -> None:
        """End everything that was begun; the namespaces and the wire go with it."""
        for process in reversed(self._running.copy()):
            self.stop(process, signal.SIGKILL if process.pid in self._families else signal.SIGTERM)
        assert self._far.stdin is not None
        self._far.stdin.close()
        self._far.wait()

    def _begin(self, words: Arguments, name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                words, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def _in_far(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._far.pid}/ns/net"]

    def _lay_wire(self) -> None:
        here = os.readlink("/proc/self/ns/net")
        await_that(lambda: os.readlink(f"/proc/{self._far.pid}/ns/net") != here, "the far namespace")
        _ip("link set lo up")
        _ip(f"link add near type veth peer name far netns {self._far.pid}")
        _ip(f"address add {NEAR}/24 dev near")
        _ip(f"address add {NEAR_6}/64 dev near nodad")
        _ip("link set near up")
        far = self._in_far()
        _ip("link set lo up", far)
        for address in (PROXY, *LOAD_PROXIES):
            _ip(f"address add {address}/24 dev far", far)
        _ip(f"address add {PROXY_6}/64 dev far nodad", far)
        for address in SERVERS:
            _ip(f"address add {address}/32 dev lo", far)
        _ip("link set far up", far)
        _ip(f"route add 203.0.113.0/24 via {PROXY}")


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stage until the block is left."""
    made = Stage(folder)
    try:
        yield made
    finally:
        made.close()


def await_that(fact: Callable[[], bool], what: str, secs: float = START_SECS) -> None:
    """Wait until it is so. Raises WentWrong."""
    until = time.monotonic() + secs
    while not fact():
        if time.monotonic() > until:
            raise WentWrong(f"{what}: not within {secs:.0f} s")
        time.sleep(0.05)


def environment() -> dict[str, str]:
    """The environment without settings of the developer's own."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}


def module(name: str, *words: str | Path) -> Arguments:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", f"{MODULE}.{name}", *words]


def _ip(words: str, before: Sequence[str] = ()) -> None:
    done = subprocess.run([*before, "ip", *words.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WentWrong(f"ip {words}: {done.stderr.strip()}")
