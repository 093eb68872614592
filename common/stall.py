"""Detection of a group member that makes no progress although it could. Pure: the time is an argument.

While the broker is unreachable, a consumer (librdkafka 2.16.0) may lose its partitions and never request any again,
without an error. All members that lose their partitions at the same moment are affected. A restart of the process
fixes it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from common.group_lag import Place, Progress


class Sign(NamedTuple):
    """State of a member, which changes whenever the member does any work."""

    joined: bool
    """Whether the group has assigned partitions to it, possibly none."""
    committed: Mapping[Place, Progress]
    """Progress in its own partitions, as reported by the broker."""
    done: Hashable
    """Counter of its work; any change counts as progress."""
    failing: bool
    """Whether the destination of its output is unreachable."""


class Stall:
    """Detects a member that could work and whose state has not changed for more than `secs_max` seconds."""

    def __init__(self, secs_max: float) -> None:
        self.secs_max = secs_max
        self._since: float | None = None
        self._before: Hashable = None

    def forget(self) -> None:
        """Discard the time recorded so far, because Kafka was unreachable."""
        self._since = None

    def look(self, sign: Sign, now: float) -> str:
        """Record the member's state at the time `now`; return why it is stalled, "" if it is not."""
        waits = any(place.committed < place.end for place in sign.committed.values())
        committed = frozenset((place, progress.committed) for place, progress in sign.committed.items())
        before, self._before = self._before, (sign.joined, committed, sign.done)
        if sign.failing or (sign.joined and not waits) or before != self._before or self._since is None:
            self._since = now
        if now - self._since <= self.secs_max:
            return ""
        what = "input waits and nothing was done" if sign.joined else "Kafka answers, and the group gives no partitions"
        return f"{what} for {now - self._since:.0f} s"
