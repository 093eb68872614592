"""What /proc knows of the process behind a thread, asked the moment it connects, as many are gone soon after.

Nothing is reported that might be another process's: one that started after the connection has only inherited the PID.

PID, UID, parent and start are the kernel's word. Name and command line are whatever the process wrote there, the path is the one
that its own mount namespace shows, and a container's id is the name of a cgroup, which a user may choose below a cgroup that is
delegated to them. All of them may hold any bytes, and stay bytes until `_text` decodes them with replacement.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from producers.sensor.ring import Program, Task
from schemas.logins import without_logins

KEPT_MAX = 4_096
"""Processes remembered; beyond it the one that connected longest ago is looked at again next time."""
KEPT_SECS_MAX = 1.0
"""So long an answer holds: a process may change its user, or its words, without being another."""
COMMAND_LINE_CHARS_MAX = 1_024
READ_BYTES_MAX = 8_192
"""Of a file in /proc: `stat`, `cgroup`, and `status` up to its user, are shorter; a command line may have megabytes."""
USERS_KEPT_MAX = 1_024
THREADS_KEPT_MAX = 65_536
"""Threads whose process is remembered though they may be gone."""
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_CONTAINER = re.compile(rb"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?:/|$)", re.MULTILINE)
"""Docker, containerd, CRI-O and Podman name a container's cgroup by its id of 64 digits."""
_TICKS = os.sysconf("SC_CLK_TCK")
_TICK_NS = 1_000_000_000 // _TICKS
# Places in /proc/PID/stat behind the name (proc(5)), counted from the state.
_PARENT, _STARTED, _STACK, _ARGUMENTS = 1, 19, 25, 45


class _Stat(NamedTuple):
    """What is used of /proc/PID/stat."""

    name: bytes
    parent: int
    started_ns: int
    program: tuple[bytes, bytes]
    """Where stack and arguments lie in memory: differs between two programs of one process."""


class Who(NamedTuple):
    """A process, as far as /proc tells."""

    pid: int
    """Of the process, not of the thread that connected."""
    name: str = ""
    path: str = ""
    command_line: str = ""
    uid: int | None = None
    user: str = ""
    """"" in a container, whose names are its own."""
    parent_pid: int | None = None
    parent_name: str = ""
    started_ns: int | None = None
    """By the boot clock; whole ticks of the kernel, mostly 10 ms."""
    container: str = ""


class Processes:
    """Looks processes up, remembering them for a moment."""

    def __init__(
        self, root: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic, *, command_lines: bool = True
    ) -> None:
        self._root = os.fsencode(root)
        self._clock = clock
        self._command_lines = command_lines
        self._kept: OrderedDict[tuple[bytes, ...], tuple[float, Who]] = OrderedDict()
        self._users: OrderedDict[int, str] = OrderedDict()
        self._threads: OrderedDict[int, int] = OrderedDict()
        self._programs: OrderedDict[int, tuple[int, Who | None]] = OrderedDict()
        self.gone = 0
        """How many had ended, or were others, before they could be looked at."""

    def of(self, thread: int, at_ns: int) -> Who | None:
        """The process of a thread that connected at that time of the boot clock; None when it cannot be told any more."""
        who = self._now(thread, at_ns)
        if who is None and (process := self._threads.get(thread)) is not None:
            who = self._now(process, at_ns)
            thread = process
        since, ran = self._programs.get(who.pid if who else thread, (0, None))
        if since > at_ns:
            # Another program has taken the place of the one that connected.
            who = Who(who.pid) if who else None
        elif ran is not None and (who is None or not who.path):
            who = ran
        self.gone += who is None
        return who

    def began(self, task: Task) -> None:
        """Remember whose thread it is; a process is nobody's, and what was known of its number is another's."""
        self._threads.pop(task.new, None)
        self._programs.pop(task.new, None)
        if task.is_thread:
            process = self._threads.get(task.pid) or _number(self._read(task.pid, b"status"), b"\nTgid:")
            if process is not None:
                self._threads[task.new] = process
                _cut(self._threads, THREADS_KEPT_MAX)

    def runs(self, program: Program) -> None:
        """Look at a program as it begins: it may be gone when its connection is heard of."""
        self._programs.pop(program.pid, None)
        self._programs[program.pid] = program.at_ns, self._now(program.pid, program.at_ns)
        # Many a program changes its user before it connects, so it is asked again then.
        kept = next(reversed(self._kept), None)
        if kept is not None and kept[0] == b"%d" % program.pid:
            del self._kept[kept]
        _cut(self._programs, KEPT_MAX)

    def forget(self) -> None:
        """Records were lost: what was heard may be of others by now."""
        self._threads.clear()
        self._programs.clear()

    def _now(self, thread: int, at_ns: int) -> Who | None:
        stat = _stat(self._read(thread, b"stat"))
        if stat is None or stat.started_ns > at_ns:
            return None
        key = (b"%d" % thread, b"%d" % stat.started_ns, *stat.program)
        now = self._clock()
        kept = self._kept.pop(key, None)
        if kept is None or now - kept[0] > KEPT_SECS_MAX:
            who = self._asked(thread, stat)
            if who is None:
                return None
            kept = now, who
        self._kept[key] = kept
        _cut(self._kept, KEPT_MAX)
        return kept[1]

    def _asked(self, thread: int, stat: _Stat) -> Who | None:
        status = self._read(thread, b"status")
        process, uid = _number(status, b"\nTgid:"), _number(status, b"\nUid:")
        if process is None:
            return None
        if process != thread:
            # A thread has a name and a start of its own.
            leader = _stat(self._read(process, b"stat"))
            if leader is None:
                return None
            stat = leader
        container = _CONTAINER.search(self._read(process, b"cgroup"))
        found = container[1].decode() if container else ""
        # Both go with the process's memory: a path that is still there afterwards vouches for the words.
        command_line = self._command_line(process) if self._command_lines else ""
        path = self._path(process)
        return Who(
            process,
            _text(stat.name),
            path,
            command_line,
            uid,
            self._user(uid) if uid is not None and not found else "",
            stat.parent or None,
            _text(self._read(stat.parent, b"comm").removesuffix(b"\n")) if stat.parent else "",
            stat.started_ns,
            found,
        )

    def _command_line(self, process: int) -> str:
        raw = self._read(process, b"cmdline")
        words = _text(raw.rstrip(b"\0").replace(b"\0", b" "))
        return without_logins(words, is_cut=len(raw) == READ_BYTES_MAX)[:COMMAND_LINE_CHARS_MAX]

    def _path(self, process: int) -> str:
        try:
            link = os.readlink(b"%s/%d/exe" % (self._root, process))
        except OSError:  # gone, a thread of the kernel, or a path longer than the kernel gives
            return ""
        return _text(link.removesuffix(b" (deleted)"))

    def _read(self, process: int, name: bytes) -> bytes:
        """The first `READ_BYTES_MAX` of a file of the process; empty where it cannot be read."""
        try:
            handle = os.open(b"%s/%d/%s" % (self._root, process, name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(handle, READ_BYTES_MAX)
        except OSError:
            return b""
        finally:
            os.close(handle)

    def _user(self, uid: int) -> str:
        if uid not in self._users:
            try:
                self._users[uid] = _text(os.fsencode(pwd.getpwuid(uid).pw_name))
            except KeyError:
                self._users[uid] = ""
            _cut(self._users, USERS_KEPT_MAX)
        return self._users[uid]


def _cut(kept: OrderedDict[_Key, _Value], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)


def _stat(raw: bytes) -> _Stat | None:
    """Read /proc/PID/stat; None where the process is gone or the text is cut short.

    The name may hold brackets, spaces and newlines: it ends at the last bracket.
    """
    name, _, rest = raw.rpartition(b")")
    words = rest.split()
    try:
        return _Stat(
            name.partition(b"(")[2],
            int(words[_PARENT]),
            int(words[_STARTED]) * _TICK_NS,
            (words[_STACK], words[_ARGUMENTS]),
        )
    except (IndexError, ValueError):
        return None


def _number(status: bytes, before: bytes) -> int | None:
    """The number behind these bytes; None where there is none."""
    try:
        return int(status.partition(before)[2].split(None, 1)[0])
    except (IndexError, ValueError):
        return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
