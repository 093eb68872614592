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
"""A longer line is read again each time, so that long lines do not fill the memory."""
Read = TypeVar("Read")


def read_once(read: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    """Return `read` with a memory of its last results.

    `read` must depend on the line alone; errors are raised again.
    """
    remembered = lru_cache(maxsize=LINES_MAX)(read)
    return lambda raw: remembered(raw) if len(raw) <= LINE_BYTES_MAX else read(raw)
