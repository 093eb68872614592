"""Names of the sensor's kernel objects. A name identifies the owner, so that leftovers of killed sensors can be removed."""

from __future__ import annotations

import os
import re
from pathlib import Path

_STARTED = 19
_NAME = re.compile(r"unproxy-(\d{1,10})-(\d{1,20})")


def own_name() -> str:
    """Return the name for this process's objects: its PID, and its start time because PIDs are reused."""
    return f"unproxy-{os.getpid()}-{_started(os.getpid())}"


def is_left(name: str) -> bool:
    """Return whether the name is of a sensor that no longer runs."""
    parts = _NAME.fullmatch(name)
    return parts is not None and _started(int(parts[1])) != parts[2]


def _started(process: int) -> str:
    """Return a process's start time in kernel ticks; "" if there is no such process."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[_STARTED]
