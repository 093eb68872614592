"""The process of a thread, from /proc, read as soon as the kernel's record of the thread's connection is read.

Name, path and command line belong to one program: the one that connected. A process may run another program (exec) at any time,
even between two reads of its files. Each snapshot of /proc is therefore stored with its time. It is valid only once all execs up
to that time are known and none is of that process. Otherwise the snapshot from the start of the program that connected is used,
under the same condition. If neither is valid, the name comes from the kernel's record, and path and command line are empty.

A process that started after the connection has reused the PID and is not reported.

The kernel sets PID, UID, parent and start time. The process can write any name and command line. The path is the one in the
process's mount namespace. A container id is a cgroup name, which a user can choose below a cgroup delegated to that user. All
these texts may contain any bytes; `_text` decodes them with replacement.
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

from producers.sensor.kernel.trace_ring import Leaving, Program, Record, Task
from schemas.logins import without_logins

KEPT_MAX = 4_096
"""Maximum number of cached processes. Beyond it the least recently used is evicted and read again next time."""
KEPT_NS_MAX = 1_000_000_000
"""How long a snapshot is reused. A process may change its user or command line without an exec."""
LOOKS_MAX = 65_536
"""Maximum number of snapshots that wait until their record is processed. Beyond it the oldest is dropped without being used."""
PROGRAMS_MAX = 16
"""The number of latest program starts and ends remembered per process. Earlier programs are unknown."""
EXEC_NS = 30_000_000
"""How long before an exec record /proc may show parts of the new program, on kernels without a record of the exec's begin."""
COMMAND_LINE_CHARS_MAX = 1_024
NAME_BYTES_MAX = 15
"""Maximum length of a process name in the kernel (`TASK_COMM_LEN` in linux/sched.h)."""
READ_BYTES_MAX = 8_192
"""Bytes read of a /proc file. `stat`, `cgroup`, and `status` up to the user are shorter; a command line may have megabytes."""
USERS_KEPT_MAX = 1_024
THREADS_KEPT_MAX = 65_536
"""Maximum number of threads whose process is remembered, including threads that have ended."""
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_CONTAINER = re.compile(rb"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?:/|$)", re.MULTILINE)
"""Docker, containerd, CRI-O and Podman name a container's cgroup by its id of 64 hexadecimal digits."""
_TICKS = os.sysconf("SC_CLK_TCK")
_TICK_NS = 1_000_000_000 // _TICKS
# Indices of fields in /proc/PID/stat behind the name (proc(5)), counted from the state.
_STATE, _PARENT, _STARTED, _STACK, _ARGUMENTS = 0, 1, 19, 25, 45
_ENDED = (b"Z", b"X")
"""States of a process that has ended and has not been waited for (zombie)."""


class _Stat(NamedTuple):
    """The used fields of /proc/PID/stat."""

    name: bytes
    parent: int
    started_ns: int
    program: tuple[bytes, bytes]
    """Memory addresses of stack and arguments. They differ between two programs of one process."""
    ended: bool


class Who(NamedTuple):
    """A process with the facts from /proc."""

    pid: int
    """PID of the process, not of the thread that connected."""
    name: str = ""
    path: str = ""
    command_line: str = ""
    uid: int | None = None
    user: str = ""
    """"" in a container, which has its own user names."""
    parent_pid: int | None = None
    parent_name: str = ""
    started_ns: int | None = None
    """Boot clock time, in whole kernel ticks, usually 10 ms."""
    container: str = ""
    ended: bool = False
    """The process had ended before /proc was read (zombie): its name is known, path and command line are not."""


class _Look(NamedTuple):
    """A snapshot of /proc with the boot clock times of its beginning and end."""

    who: Who | None
    begin_ns: int
    end_ns: int


class _Began(NamedTuple):
    """The start of a program in a process (by exec, or inherited at the process's creation), or the beginning of an exec."""

    at_ns: int
    name: str
    """Name of the program that began, or that ends with the exec; "" if unknown."""
    look: _Look | None = None
    is_left: bool = False
    """Whether this is the beginning of an exec, in which the process leaves its program."""


class Processes:
    """A short-lived cache of processes. `see` takes records as they are read; the other methods take them in time order."""

    def __init__(
        self,
        root: Path = Path("/proc"),
        boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        *,
        command_lines: bool = True,
        exec_ns: int = 0,
    ) -> None:
        """Create the cache. `exec_ns` is 0 if the kernel reports the beginning of an exec, else `EXEC_NS`."""
        self._root = os.fsencode(root)
        self._boot = boot
        self._command_lines, self._exec_ns = command_lines, exec_ns
        self._kept: OrderedDict[int, tuple[tuple[bytes, ...], int, Who]] = OrderedDict()
        self._users: OrderedDict[int, str] = OrderedDict()
        self._threads: OrderedDict[int, int] = OrderedDict()
        self._programs: OrderedDict[int, tuple[_Began, ...]] = OrderedDict()
        self._looks: OrderedDict[tuple[int, int], _Look] = OrderedDict()
        self.known_ns = 0
        """Boot clock time up to which all execs are known, once the records read so far were processed in order."""

    def see(self, record: Record) -> None:
        """Read the process of an attempt or exec from /proc. Call it as soon as the record is read: the process may soon end.

        Of all socket changes, only attempts may be passed.
        """
        if isinstance(record, Task):
            if record.is_thread:
                self._belongs(record)
            return
        if isinstance(record, Program):
            self._kept.pop(record.pid, None)
            look = self._look(record.pid, record.at_ns)
            # Programs often change their user before they connect, so read the process again then.
            self._kept.pop(record.pid, None)
        elif not isinstance(record, Leaving):
            look = self._look(record.pid, record.at_ns)
            if look.who is None and (process := self._threads.get(record.pid)) is not None:
                look = self._look(process, record.at_ns)
        else:
            return
        self._looks[record.at_ns, record.pid] = look
        _cut(self._looks, LOOKS_MAX)

    def stable_ns(self) -> int:
        """Return the boot clock time up to which records may be processed: all execs during their snapshots are known."""
        until_ns = self.known_ns
        for (at_ns, _), look in reversed(self._looks.items()):
            if look.end_ns + self._exec_ns <= self.known_ns:
                break
            until_ns = min(until_ns, at_ns - 1)
        return until_ns

    def began(self, task: Task) -> None:
        """Apply the start of a process or thread: forget the one that had its number before. Call in time order with `runs`."""
        self._programs.pop(task.new, None)
        if not task.is_thread:
            self._threads.pop(task.new, None)
            self._remember(task.new, _Began(task.at_ns, _text(task.name)))

    def leaves(self, leaving: Leaving) -> None:
        """Apply the beginning of an exec. Call in time order with `runs`."""
        process = self._threads.get(leaving.pid, leaving.pid)
        # A thread has its own name.
        name = _text(leaving.name) if process == leaving.pid else ""
        self._remember(process, _Began(leaving.at_ns, name, is_left=True))

    def runs(self, program: Program) -> None:
        """Apply an exec. Call it before `of` also for attempts before the exec, because an exec makes later snapshots invalid."""
        name = (
            _text(program.path.rpartition(b"/")[2][:NAME_BYTES_MAX]) if not program.path.startswith(b"/dev/fd/") else ""
        )
        look = self._looks.pop((program.at_ns, program.pid), None)
        self._remember(program.pid, _Began(program.at_ns, name, look))

    def of(self, thread: int, at_ns: int) -> Who | None:
        """Return the process of a thread that connected at `at_ns` (boot clock); None if unknown."""
        look = self._looks.pop((at_ns, thread), None)
        who = look.who if look is not None else None
        process = who.pid if who is not None else self._threads.get(thread, thread)
        programs = self._programs.get(process, ())
        before = sum(began.at_ns <= at_ns for began in programs)
        ran = next((began for began in reversed(programs[:before]) if not began.is_left), None)
        after = programs[before] if before < len(programs) else None
        if ran is None and len(programs) == PROGRAMS_MAX:
            look = None  # The program of that time is no longer remembered.
        sure = self._believed(look, ran, after)
        if sure is not None and sure.path:
            return sure
        as_it_began = self._believed(ran.look, ran, after) if ran is not None else None
        if as_it_began is not None and as_it_began.path:
            return as_it_began
        if sure is not None:
            return sure
        named = after if after is not None and after.is_left and after.name else ran
        if who is not None:
            return who._replace(name=named.name if named else "", path="", command_line="", ended=False)
        if named is None and thread not in self._threads:
            return None
        return Who(process, named.name if named is not None else "")

    def forget(self) -> None:
        """Clear the state after a loss of records: PIDs and threads may have been reused."""
        self._threads.clear()
        self._programs.clear()
        self._looks.clear()

    def _believed(self, look: _Look | None, ran: _Began | None, after: _Began | None) -> Who | None:
        """Return a snapshot's process if the program that connected ran during the whole snapshot, else None."""
        if look is None or look.end_ns + self._exec_ns > self.known_ns:
            return None
        if (ran is not None and look.begin_ns < ran.at_ns) or (
            after is not None and after.at_ns - self._exec_ns <= look.end_ns
        ):
            return None
        return look.who

    def _remember(self, process: int, began: _Began) -> None:
        self._programs[process] = (*self._programs.pop(process, ()), began)[-PROGRAMS_MAX:]
        _cut(self._programs, KEPT_MAX)

    def _belongs(self, task: Task) -> None:
        process = self._threads.get(task.pid) or _number(self._read(task.pid, b"status"), b"\nTgid:")
        if process is not None:
            self._threads[task.new] = process
            _cut(self._threads, THREADS_KEPT_MAX)

    def _look(self, thread: int, at_ns: int) -> _Look:
        begin_ns = self._boot()
        stat = _stat(self._read(thread, b"stat"))
        kept = self._kept.pop(thread, None)
        if stat is None or stat.started_ns > at_ns:
            return _Look(None, begin_ns, begin_ns)
        program = (b"%d" % stat.started_ns, *stat.program, b"ended" if stat.ended else b"")
        if kept is None or kept[0] != program or begin_ns - kept[1] > KEPT_NS_MAX:
            who = self._asked(thread, stat)
            if who is None:
                return _Look(None, begin_ns, begin_ns)
            kept = program, begin_ns, who
        self._kept[thread] = kept
        _cut(self._kept, KEPT_MAX)
        return _Look(kept[2], kept[1], self._boot())

    def _asked(self, thread: int, stat: _Stat) -> Who | None:
        status = self._read(thread, b"status")
        process, uid = _number(status, b"\nTgid:"), _number(status, b"\nUid:")
        if process is None:
            return None
        if process != thread:
            # A thread has its own name and start time.
            leader = _stat(self._read(process, b"stat"))
            if leader is None:
                return None
            stat = leader
        container = _CONTAINER.search(self._read(process, b"cgroup"))
        found = container[1].decode() if container else ""
        # Both vanish with the process's memory: a path that still exists afterwards proves the command line valid.
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
            stat.ended,
        )

    def _command_line(self, process: int) -> str:
        raw = self._read(process, b"cmdline")
        words = _text(raw.rstrip(b"\0").replace(b"\0", b" "))
        return without_logins(words, is_cut=len(raw) == READ_BYTES_MAX)[:COMMAND_LINE_CHARS_MAX]

    def _path(self, process: int) -> str:
        try:
            link = os.readlink(b"%s/%d/exe" % (self._root, process))
        except OSError:  # ended, a kernel thread, or a path longer than the kernel returns
            return ""
        return _text(link.removesuffix(b" (deleted)"))

    def _read(self, process: int, name: bytes) -> bytes:
        """Read the first `READ_BYTES_MAX` bytes of a process's file; empty if unreadable."""
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
    """Parse /proc/PID/stat; None if the process has ended or the text is truncated.

    The name may contain brackets, spaces and newlines; it ends at the last bracket.
    """
    name, _, rest = raw.rpartition(b")")
    words = rest.split()
    try:
        return _Stat(
            name.partition(b"(")[2],
            int(words[_PARENT]),
            int(words[_STARTED]) * _TICK_NS,
            (words[_STACK], words[_ARGUMENTS]),
            words[_STATE] in _ENDED,
        )
    except (IndexError, ValueError):
        return None


def _number(status: bytes, before: bytes) -> int | None:
    """Return the number after `before`; None if there is none."""
    try:
        return int(status.partition(before)[2].split(None, 1)[0])
    except (IndexError, ValueError):
        return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
