"""Conversion of the trace clock to UTC: the trace uses the kernel's boot clock, whose distance from the wall clock is measured.

Both run at the same rate (adjtime moves both), so the distance changes only when the wall clock is set. It is measured
periodically. A change of less than `STEP_NS_MIN` counts as measurement error and is ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

STEP_NS_MIN = 100_000
"""100 µs. A smaller difference between two measurements is ignored. All times have this error plus the measurement's error."""
JUMP_NS_MIN = 1_000_000
"""1 ms. A difference from this size on means that the wall clock was set, and is reported."""
LOOKS = 5


class Distance(NamedTuple):
    """Wall clock minus boot clock, with the maximum error; both in nanoseconds."""

    ns: int
    error_ns: int


def measured(
    wall: Callable[[], int] = time.time_ns, boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
) -> Distance:
    """Return the best of `LOOKS` measurements, each a wall clock reading between two boot clock readings."""
    looks = []
    for _ in range(LOOKS):
        before, now, after = boot(), wall(), boot()
        looks.append(Distance(now - (before + after) // 2, (after - before + 1) // 2))
    return min(looks, key=lambda look: look.error_ns)


class Clock:
    """The current distance, with a counter of jumps."""

    def __init__(self, first: Distance) -> None:
        self.distance = first
        self.jumps = 0

    def look(self, now: Distance) -> int:
        """Apply a measurement; return the wall clock's jump in nanoseconds, 0 without one."""
        moved = now.ns - self.distance.ns
        if abs(moved) <= max(STEP_NS_MIN, now.error_ns + self.distance.error_ns):
            return 0
        self.distance = now
        if abs(moved) < JUMP_NS_MIN:
            return 0
        self.jumps += 1
        return moved
