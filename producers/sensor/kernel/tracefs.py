"""The sensor's own ftrace instance, with its own buffer, filter and counters; removed when the sensor ends.

Source: Documentation/trace/ftrace.rst of the kernel. Needs the kernel's initial PID namespace, to which the trace's PIDs belong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from producers.sensor.kernel.owner import is_left, own_name
from producers.sensor.kernel.trace_ring import FormatError, Layout
from producers.sources.source import SourceError

PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
BUFFER_KB = 4_096
"""Kernel memory for records of all CPUs, for some 50,000 changes. When it is full, the oldest are overwritten and counted."""
BUFFER_KB_MIN, BUFFER_KB_MAX = 64, 2_048
"""Bounds of the buffer per CPU."""
FILTER = "protocol == 6 && (newstate == 2 || oldstate == 2 || (newstate == 7 && oldstate != 10))"
"""TCP only: attempts, their outcomes, and ends, except ends of listening sockets."""
_EVENT = "events/sock/inet_sock_set_state"
_TASK, _PROGRAM = "events/task/task_newtask", "events/sched/sched_process_exec"
_LEAVING = "events/sched/sched_prepare_exec"
"""Events of threads and programs, for processes that end or execute another program before /proc is read."""
_INIT_PIDS = "pid:[4026531836]"
"""The kernel's initial PID namespace always has this number (PROC_PID_INIT_INO)."""
_LOST = re.compile(r"^(?:overrun|commit overrun|dropped events): (\d+)$", re.MULTILINE)


class SensorError(SourceError):
    """The sensor cannot run here; the message gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An open ftrace instance."""

    folder: Path
    layout: Layout
    pipes: tuple[int, ...]
    """One non-blocking descriptor per CPU; a read returns a page or nothing."""

    def lost(self) -> int:
        """Return the number of records that passed the filter and were lost so far, because the buffer was full."""
        return sum(
            int(count)
            for stats in self.folder.glob("per_cpu/cpu*/stats")
            for count in _LOST.findall(stats.read_text(encoding="ascii"))
        )


def place(given: Path | None = None) -> Path:
    """Return the directory of tracefs, `given` or a usual one. Raises SensorError if it is missing or not accessible."""
    for folder in (given,) if given else PLACES:
        try:
            if (folder / "instances").is_dir():
                return folder
        except PermissionError:
            raise SensorError(f"{folder}: permission denied; run the sensor as root") from None
    where = given or PLACES[0]
    if os.geteuid():
        raise SensorError(f"{where}: tracefs is not accessible; run the sensor as root")
    raise SensorError(f"{where}: no tracefs; mount it with: mount -t tracefs tracefs {where}")


@contextmanager
def opened(folder: Path, buffer_kb: int = BUFFER_KB) -> Iterator[Instance]:
    """Provide a tracing instance in this tracefs inside the block. Raises SensorError."""
    if os.readlink("/proc/self/ns/pid") != _INIT_PIDS:
        raise SensorError(
            "the sensor is in a PID namespace of its own, where the kernel's PIDs are other processes;"
            " run it on the host, or its container with the host's (--pid=host)"
        )
    if not (folder / _EVENT).is_dir():
        raise SensorError(f"{folder / _EVENT}: this kernel has no such tracepoint; Linux 4.16 or later is needed")
    remove_stale(folder)
    own = folder / "instances" / own_name()
    with ExitStack() as undo:
        try:
            own.mkdir()
            undo.callback(_remove, own)
            more = [name for name in (_TASK, _PROGRAM, _LEAVING) if (own / name).is_dir()]
            layout = Layout.of(
                _read(own / _EVENT / "format"),
                _read(folder / "events/header_page"),
                *(_read(own / name / "format") if name in more else "" for name in (_TASK, _PROGRAM, _LEAVING)),
            )
            _set_up(own, buffer_kb)
            pipes = []
            for cpu in sorted(own.glob("per_cpu/cpu*/trace_pipe_raw")):
                pipes.append(os.open(cpu, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                undo.callback(os.close, pipes[-1])
            for name in (*more, _EVENT):
                _write(own / name / "enable", "1")
        except PermissionError as error:
            raise SensorError(f"{error.filename}: permission denied; run the sensor as root") from None
        except (OSError, FormatError) as error:
            raise SensorError(f"{own}: cannot trace: {error}") from None
        yield Instance(own, layout, tuple(pipes))


def remove_stale(folder: Path) -> list[str]:
    """Remove the instances of killed sensors; return their names."""
    removed = []
    for one in sorted((folder / "instances").glob("unproxy-*-*")):
        if is_left(one.name):
            _remove(one)
            removed.append(one.name)
    return removed


def _set_up(own: Path, buffer_kb: int) -> None:
    _write(own / "trace_clock", "boot")
    cpus = len(list(own.glob("per_cpu/cpu*")))
    each = min(BUFFER_KB_MAX, max(BUFFER_KB_MIN, buffer_kb // max(1, cpus)))
    _write(own / "buffer_size_kb", str(each))
    with suppress(FileNotFoundError):  # Linux before 5.0, which always wakes readers at once
        _write(own / "buffer_percent", "0")
    _write(own / _EVENT / "filter", FILTER)


def _remove(own: Path) -> None:
    """Remove an instance. The kernel refuses while a process reads it; the next start then removes it."""
    with suppress(OSError):
        _write(own / "events/enable", "0")
        own.rmdir()


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii")


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(text)
