"""What /proc says of the process behind a thread, read as soon as the kernel's record of its connection is read.

Name, path and command line are of one program: the one that connected. A process may run another program (exec) at any time,
also between two reads of its files. So each look at /proc is noted with its time, and is believed only once all programs that
began until then are known, and none of them is that process's. Otherwise the look at the beginning of the program that connected
counts, by the same rule; else its name is the one that the kernel's own record gives it, and path and command line are empty.

A process that started after the connection has only inherited the PID: nothing of it is reported.

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

from producers.sensor.kernel.trace_ring import Leaving, Program, Record, Task
from schemas.logins import without_logins

KEPT_MAX = 4_096
"""Processes remembered; beyond it the one that connected longest ago is looked at again next time."""
KEPT_NS_MAX = 1_000_000_000
"""So long a look at a process is used again: a process may change its user, or its words, without being another."""
LOOKS_MAX = 65_536
"""Looks that wait for their record's turn; beyond it the oldest is dropped, and that connection's process is not read."""
PROGRAMS_MAX = 16
"""Beginnings and ends of programs remembered of one process, the latest. What ran before them is unknown."""
EXEC_NS = 30_000_000
"""So long before the kernel's record of a program /proc may show parts of it, where no record tells that it is about to begin."""
COMMAND_LINE_CHARS_MAX = 1_024
NAME_BYTES_MAX = 15
"""Of a name that the kernel keeps (`TASK_COMM_LEN` in linux/sched.h)."""
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
_STATE, _PARENT, _STARTED, _STACK, _ARGUMENTS = 0, 1, 19, 25, 45
_ENDED = (b"Z", b"X")
"""States of a process that has ended and was not waited for (zombie)."""


class _Stat(NamedTuple):
    """What is used of /proc/PID/stat."""

    name: bytes
    parent: int
    started_ns: int
    program: tuple[bytes, bytes]
    """Where stack and arguments lie in memory: differs between two programs of one process."""
    ended: bool


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
    ended: bool = False
    """It had ended when it was looked at (zombie): it has a name, but neither path nor command line any more."""


class _Look(NamedTuple):
    """What /proc said, and when, by the boot clock."""

    who: Who | None
    begin_ns: int
    end_ns: int


class _Began(NamedTuple):
    """A process began to run a program, or began with that of the process that made it; or it is about to run another one."""

    at_ns: int
    name: str
    """Of the program that began, or that is left; "" where it is not known."""
    look: _Look | None = None
    is_left: bool = False


class Processes:
    """Looks processes up, remembering them for a moment. `see` takes records as they are read, the other methods in order."""

    def __init__(
        self,
        root: Path = Path("/proc"),
        boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        *,
        command_lines: bool = True,
        exec_ns: int = 0,
    ) -> None:
        """`exec_ns` is 0 where the kernel tells that a program is about to begin, else `EXEC_NS`."""
        self._root = os.fsencode(root)
        self._boot = boot
        self._command_lines, self._exec_ns = command_lines, exec_ns
        self._kept: OrderedDict[int, tuple[tuple[bytes, ...], int, Who]] = OrderedDict()
        self._users: OrderedDict[int, str] = OrderedDict()
        self._threads: OrderedDict[int, int] = OrderedDict()
        self._programs: OrderedDict[int, tuple[_Began, ...]] = OrderedDict()
        self._looks: OrderedDict[tuple[int, int], _Look] = OrderedDict()
        self.known_ns = 0
        """All programs that began until then are known once the records at hand were given in order."""

    def see(self, record: Record) -> None:
        """Look at the process of an attempt or a program, as soon as the record is read: it may soon be gone or another one.

        Of changes only attempts are to be given.
        """
        if isinstance(record, Task):
            if record.is_thread:
                self._belongs(record)
            return
        if isinstance(record, Program):
            self._kept.pop(record.pid, None)
            look = self._look(record.pid, record.at_ns)
            # Many a program changes its user before it connects, so it is read again then.
            self._kept.pop(record.pid, None)
        elif not isinstance(record, Leaving):
            look = self._look(record.pid, record.at_ns)
            if look.who is None and (process := self._threads.get(record.pid)) is not None:
                look = self._look(process, record.at_ns)
        else:
            return
        self._looks[record.at_ns, record.pid] = look
        _cut(self._looks, LOOKS_MAX)

    def settled_ns(self) -> int:
        """Until when records can be given in order: the looks of those before it ended by `known_ns`."""
        until_ns = self.known_ns
        for (at_ns, _), look in reversed(self._looks.items()):
            if look.end_ns + self._exec_ns <= self.known_ns:
                break
            until_ns = min(until_ns, at_ns - 1)
        return until_ns

    def began(self, task: Task) -> None:
        """A process or a thread began: what is remembered under its number is another's. To be called in turn with `runs`."""
        self._programs.pop(task.new, None)
        if not task.is_thread:
            self._threads.pop(task.new, None)
            self._remember(task.new, _Began(task.at_ns, _text(task.name)))

    def leaves(self, leaving: Leaving) -> None:
        """A process is about to run another program. To be called in turn with `runs`."""
        process = self._threads.get(leaving.pid, leaving.pid)
        # A thread has a name of its own.
        name = _text(leaving.name) if process == leaving.pid else ""
        self._remember(process, _Began(leaving.at_ns, name, is_left=True))

    def runs(self, program: Program) -> None:
        """A process began to run a program. To be called before `of` for all attempts that may have been before it."""
        name = (
            _text(program.path.rpartition(b"/")[2][:NAME_BYTES_MAX]) if not program.path.startswith(b"/dev/fd/") else ""
        )
        look = self._looks.pop((program.at_ns, program.pid), None)
        self._remember(program.pid, _Began(program.at_ns, name, look))

    def of(self, thread: int, at_ns: int) -> Who | None:
        """The process of a thread that connected at that time of the boot clock; None where it is not known."""
        look = self._looks.pop((at_ns, thread), None)
        who = look.who if look is not None else None
        process = who.pid if who is not None else self._threads.get(thread, thread)
        programs = self._programs.get(process, ())
        before = sum(began.at_ns <= at_ns for began in programs)
        ran = next((began for began in reversed(programs[:before]) if not began.is_left), None)
        after = programs[before] if before < len(programs) else None
        if ran is None and len(programs) == PROGRAMS_MAX:
            look = None  # Of what ran then, and how long, nothing is remembered.
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
        """Records were lost: what was heard may be of others by now."""
        self._threads.clear()
        self._programs.clear()
        self._looks.clear()

    def _believed(self, look: _Look | None, ran: _Began | None, after: _Began | None) -> Who | None:
        """What a look says, where the program that connected ran from its beginning to its end."""
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
            stat.ended,
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
            words[_STATE] in _ENDED,
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
