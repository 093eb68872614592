"""The trace's clock in UTC: the kernel's boot clock, and how far it is from the wall clock.

Both run at the same rate (adjtime moves both), so the distance changes only when somebody sets the wall clock. It is measured
again now and then; less than `STEP_NS_MIN` is taken for the measurement's own error and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

STEP_NS_MIN = 100_000
"""100 µs: a smaller difference between two measurements is not looked at. With the measurement's width the error of all times."""
JUMP_NS_MIN = 1_000_000
"""1 ms: from here on the wall clock was set, and it is told."""
LOOKS = 5


class Distance(NamedTuple):
    """Wall clock minus boot clock, and at most how wrong that is."""

    ns: int
    error_ns: int


def measured(
    wall: Callable[[], int] = time.time_ns, boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
) -> Distance:
    """The best of a few looks: the wall clock read between two readings of the boot clock."""
    looks = []
    for _ in range(LOOKS):
        before, now, after = boot(), wall(), boot()
        looks.append(Distance(now - (before + after) // 2, (after - before + 1) // 2))
    return min(looks, key=lambda look: look.error_ns)


class Clock:
    """Keeps the distance and counts the jumps."""

    def __init__(self, first: Distance) -> None:
        self.distance = first
        self.jumps = 0

    def look(self, now: Distance) -> int:
        """Take a new measurement; gives by how many ns the wall clock jumped, 0 if it did not."""
        moved = now.ns - self.distance.ns
        if abs(moved) <= max(STEP_NS_MIN, now.error_ns + self.distance.error_ns):
            return 0
        self.distance = now
        if abs(moved) < JUMP_NS_MIN:
            return 0
        self.jumps += 1
        return moved
