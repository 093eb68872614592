"""What a run has for itself: a small disk that can be filled up (a tmpfs), and a network, so that none meets another's ports.

Both are namespaces that end with the process.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

MARK = "FAULTS_NAMESPACE"
FILL_CHUNK = bytes(1 << 20)

SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1
LOOPBACK = struct.pack("16sh22x", b"lo", 0)
"""netdevice(7): a `struct ifreq` with the name, and the flags behind it."""


def enter_namespaces(module: str) -> None:
    """Go on as the same command in namespaces of our own; root is not needed, user namespaces are.

    There is no way out of the new network: what is fetched must be there before.
    """
    if os.environ.pop(MARK, ""):
        _raise_loopback()
        return
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    _become(["unshare", *as_root, "--mount", "--net"], [sys.executable, "-m", module, *sys.argv[1:]])


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, LOOPBACK))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", name, flags | IFF_UP))


def _become(wrapper: list[str], command: list[str]) -> NoReturn:
    os.environ[MARK] = "1"
    os.execvp(wrapper[0], [*wrapper, *command])


class SmallDisk:
    """A folder that can be full."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("ab", buffering=0) as file:
            for chunk in (FILL_CHUNK, FILL_CHUNK[:4096]):
                try:
                    while file.write(chunk):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it; what was in it is gone."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
