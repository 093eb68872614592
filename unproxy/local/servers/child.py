"""How our own modules are started as processes: Python must not import from the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_OUR_ROOT = str(Path(__file__).absolute().parents[3])


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs this module; without `-P`, `-m` would look for modules in the current folder first."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_path(environment: Mapping[str, str]) -> str:
    """Return the PYTHONPATH of a child: the folder of this package, installed or not, then the user's own absolute entries.

    Relative and empty entries mean the current folder and are left out.
    """
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([_OUR_ROOT, *filter(os.path.isabs, given)])
