"""A line that is asked about several times in a row is read once.

A producer asks of each line whether it is of a dialect (`auto`), when it was written and whose it is. In between it reads on, a
line or so in each of its files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

LINES_MAX = 32
LINE_BYTES_MAX = 16_384
"""A longer line is read anew each time, so that nobody's lines fill the memory."""
Read = TypeVar("Read")


def read_once(read: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    """The same as `read`, which depends on the line alone, and whose answer nobody changes. What it raises is raised again."""
    remembered = lru_cache(maxsize=LINES_MAX)(read)
    return lambda raw: remembered(raw) if len(raw) <= LINE_BYTES_MAX else read(raw)
