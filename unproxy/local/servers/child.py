"""Start of this program's modules as processes in which Python does not import from the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_OUR_ROOT = str(Path(__file__).absolute().parents[3])


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module. Without `-P`, Python would first look for modules in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_path(environment: Mapping[str, str]) -> str:
    """Return the PYTHONPATH of a child process: the folder of these packages, then the user's absolute entries.

    Relative and empty entries are left out, because they refer to the current folder.
    """
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([_OUR_ROOT, *filter(os.path.isabs, given)])
