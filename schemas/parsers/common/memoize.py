"""A cache of results of reading a line, for a line that is read several times within a short time.

A producer asks for the dialect of each line (`auto`), for its time and for its device. Between these questions it reads about one
line from each of its other files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

LINES_MAX = 32
LINE_BYTES_MAX = 16_384
"""Longest line in bytes whose result is cached, so that long lines do not fill the memory."""
Read = TypeVar("Read")


def read_once(read: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    """Return `read` with a cache of its last results.

    The result of `read` must depend only on the line. An error is raised again.
    """
    remembered = lru_cache(maxsize=LINES_MAX)(read)
    return lambda raw: remembered(raw) if len(raw) <= LINE_BYTES_MAX else read(raw)
