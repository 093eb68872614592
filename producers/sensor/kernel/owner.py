"""Names of what the sensor makes in the kernel: they tell whose it is, so that what a killed sensor left can be removed."""

from __future__ import annotations

import os
import re
from pathlib import Path

_STARTED = 19
_NAME = re.compile(r"unproxy-(\d{1,10})-(\d{1,20})")


def own_name() -> str:
    """The name for what this process makes: its number, and its start, as numbers are used again."""
    return f"unproxy-{os.getpid()}-{_started(os.getpid())}"


def is_left(name: str) -> bool:
    """It is of a sensor that is no more."""
    parts = _NAME.fullmatch(name)
    return parts is not None and _started(int(parts[1])) != parts[2]


def _started(process: int) -> str:
    """When it began, in the kernel's ticks; "" when there is no such process."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[_STARTED]
