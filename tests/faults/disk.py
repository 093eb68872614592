"""A small disk of its own that can be filled up: a tmpfs, mounted in a mount namespace that ends with the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

MARK = "FAULTS_NAMESPACE"
FILL_CHUNK = bytes(1 << 20)


def enter_namespace(module: str) -> None:
    """Go on as the same command in a mount namespace of our own; root is not needed, user namespaces are."""
    if os.environ.pop(MARK, ""):
        return
    _become(["unshare", "--mount" if os.geteuid() == 0 else "-Urm"], [sys.executable, "-m", module, *sys.argv[1:]])


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
