"""Landlock (Linux 5.13 and later): the kernel confines the engine's process to its data folder.

ClickHouse's grants do not cover everything that the library can do: INTO OUTFILE, FROM INFILE, the scalar function `file`
and the table engine Executable act with the rights of the process. The kernel therefore restricts these rights: the
process cannot read or write files outside of the given folders, execute programs or open TCP connections.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System call numbers, the same on all architectures."""
_ASK_VERSION = 1
_NO_NEW_PRIVILEGES = 38
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_READ = _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

_FILE_RIGHTS_SINCE = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of file rights, which are the lowest bits, by the version of Landlock that introduced the last of them."""
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Return the kernel's version of Landlock; 0 if it has none or it is disabled."""
    try:
        return _call(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def confine(*, read: Iterable[Path], write: Iterable[Path], port: int) -> bool:
    """Confine this thread and the threads that it starts to these folders and files, and to listening on this TCP port.

    Return False if the kernel has no Landlock; nothing is confined then. Paths that do not exist are ignored. Before
    version 4 (Linux 6.7), TCP is not restricted. Raises OSError.
    """
    offered = version()
    if not offered:
        return False
    every = (1 << max(bits for since, bits in _FILE_RIGHTS_SINCE.items() if since <= offered)) - 1
    network = _BIND_TCP | _CONNECT_TCP if offered >= _NETWORK_SINCE else 0
    scopes = _ABSTRACT_SOCKETS | _SIGNALS if offered >= _SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", every, network, scopes)
    rules = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in read:
            _allow(rules, path, _READ)
        for path in write:
            _allow(rules, path, every & ~_EXECUTE)
        if network:
            _call(_ADD_RULE, rules, _NET_PORT, struct.pack("=QQ", _BIND_TCP, port), 0)
        if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return True


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, handle), 0)
    finally:
        os.close(handle)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
