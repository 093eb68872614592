"""Whether a member of a group does nothing although it could: pure, time comes in.

librdkafka (2.16.0) may lose its partitions while the broker is away and never ask for any again, without a word; so does every
member that lost them in the same moment. Starting the process again is what helps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from common.group_lag import Place, Progress


class Sign(NamedTuple):
    """What would have changed if anything had been done."""

    joined: bool
    """The group gave it partitions, or told that there are none for it."""
    committed: Mapping[Place, Progress]
    """Of its own partitions, as the broker has it."""
    done: Hashable
    """A count of what it has done."""
    failing: bool
    """It waits for whoever takes what it has, who is away."""


class Stall:
    """Since when nothing has changed."""

    def __init__(self, secs_max: float) -> None:
        self.secs_max = secs_max
        self._since: float | None = None
        self._before: Hashable = None

    def forget(self) -> None:
        """Kafka was away: standing still so far says nothing."""
        self._since = None

    def look(self, sign: Sign, now: float) -> str:
        """Why it stands still, "" when it does not."""
        waits = any(place.committed < place.end for place in sign.committed.values())
        committed = frozenset((place, progress.committed) for place, progress in sign.committed.items())
        before, self._before = self._before, (sign.joined, committed, sign.done)
        if sign.failing or (sign.joined and not waits) or before != self._before or self._since is None:
            self._since = now
        if now - self._since <= self.secs_max:
            return ""
        what = "input waits and nothing was done" if sign.joined else "Kafka answers, and the group gives no partitions"
        return f"{what} for {now - self._since:.0f} s"
