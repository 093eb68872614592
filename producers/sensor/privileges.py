"""Dropping of the privileges that only the start needs: capabilities, the bounding set, and privilege gain through execve.

    CAP_NET_RAW      opens the packet socket; dropped after the start
    CAP_SYS_NICE     sets the reading threads' priority, which they inherit from their starter; dropped after the start
    CAP_NET_ADMIN    rules, queue and socket destruction; kept when a mode is configured, as requests may be blocked
    CAP_SYS_PTRACE   /proc/PID/exe, and the addresses in /proc/PID/stat, of other users' processes; always kept

The user stays root, which owns tracefs. Without the dropped capabilities, file permissions apply to root, too: the deny list, the
mode file, certificates and `publisher.state_dir` must belong to root or be accessible to all users.

Sources: capabilities(7), capset(2), prctl(2), setpriority(2); include/uapi/linux/capability.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path

from producers.sensor.kernel.tracefs import SensorError

NICENESS = -10
"""Niceness of the reading threads, which must look up a short-lived process before it exits."""
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=6I")
"""Effective, permitted and inheritable sets: first the lower 32 bits of each, then the upper 32 bits."""
_CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 23, 24, 38, 47, 4
_SETPCAP = 8


class Capability(IntEnum):
    """The capabilities that the sensor may keep."""

    NET_ADMIN = 12
    SYS_PTRACE = 19


def keep_only(kept: Iterable[Capability]) -> None:
    """Drop all capabilities except `kept` permanently. Raises SensorError.

    Capabilities are per thread, and a new thread inherits those of its starter. Call this before any other thread starts.
    """
    wanted = sum(1 << capability for capability in set(kept))
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise SensorError("capabilities cannot be given up: other threads have started before; this is a defect")
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _HEADER.pack(_VERSION_3, 0), ctypes.create_string_buffer(_SETS.size)
    _done(libc.capget(header, sets))
    _, permitted, _, _, permitted_upper, _ = _SETS.unpack(sets.raw)
    permitted |= permitted_upper << 32
    _done(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _done(libc.prctl(_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0))
    # Without CAP_SETPCAP the bounding set stays. It is without effect in a process that cannot gain privileges.
    capability = 0
    while permitted >> _SETPCAP & 1 and libc.prctl(_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if not wanted >> capability & 1:
            _done(libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0))
        capability += 1
    left = permitted & wanted
    low, high = left & 0xFFFFFFFF, left >> 32
    _done(libc.capset(header, _SETS.pack(low, low, 0, high, high, 0)))


@contextmanager
def prioritised() -> Iterator[None]:
    """Give the niceness `NICENESS` to threads that start inside the block, and to their children.

    Without permission, the niceness stays as it is.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICENESS))
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def _done(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise SensorError(f"capabilities cannot be given up: {os.strerror(number)}")
