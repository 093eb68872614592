"""Decisions about the health of a process, from recorded observations; the pages /healthz and /readyz show them.

    alive   the process makes progress, or has nothing to do, or waits for a limited time for an unreachable service
    ready   the process can do work now

A process that is alive and not ready needs no restart: a restart does not bring the other service back. A process that
is not alive needs an operator or a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

AWAY_SECS_MAX = 300.0
"""Seconds that Kafka or ClickHouse may be unreachable before the waiting process counts as not alive."""
LOOK_SECS_MAX = 30.0
"""Seconds without a query of Kafka after which the watch counts as failed, and the process as not alive."""

Place = TypeVar("Place", bound=Hashable)


class Verdict(NamedTuple):
    """A boolean and its reason as text."""

    ok: bool
    why: str


class Health(NamedTuple):
    """Health checks of a process; the pages call them in their own thread."""

    alive: Callable[[], Verdict]
    ready: Callable[[], Verdict]


class Standstill(Generic[Place]):
    """For each partition, the time since which input has waited without a commit."""

    def __init__(self) -> None:
        self._moved: dict[Place, tuple[int, float]] = {}

    def forget(self) -> None:
        """Discard the times recorded so far."""
        self._moved.clear()

    def look(self, places: Mapping[Place, tuple[int, int]], now: float) -> None:
        """Record the offsets of every assigned partition: `places` maps it to its committed and its end offset."""
        for place in self._moved.keys() - places.keys():
            del self._moved[place]
        for place, (committed, end) in places.items():
            if committed >= end:
                self._moved.pop(place, None)
            elif self._moved.get(place, (None, now))[0] != committed:
                self._moved[place] = (committed, now)

    @property
    def since(self) -> dict[Place, float]:
        """The time at which the present committed offset was first seen, for each partition with waiting input."""
        return {place: at for place, (_, at) in self._moved.items()}


@dataclass(slots=True)
class Looks:
    """Results of the last query of the group's state at the broker. One thread writes, others read.

    All times are monotonic.
    """

    silent_since: float | None = None
    """Time since which Kafka has not answered; None if it answered last time.

    A process initially sets it to its start time, because Kafka has not answered yet.
    """
    looked_at: float | None = None
    """Time of the last query; None before the first one."""
    lag: int = 0
    """Messages in assigned partitions that are not committed yet."""
    standing_since: float | None = None
    """Time since which input waits and its committed offset has not changed; None if no input waits."""
    lag_by_topic: dict[str, int] = field(default_factory=dict)

    def silent(self, now: float) -> None:
        """Record that Kafka did not answer."""
        self.looked_at = now
        self.silent_since = now if self.silent_since is None else self.silent_since
        self.standing_since = None

    def answered(self, lag: int, standing_since: float | None, now: float) -> None:
        """Record an answer of Kafka."""
        self.looked_at = now
        self.silent_since, self.lag, self.standing_since = None, lag, standing_since


def goes_forward(looks: Looks, standing_secs_max: float, now: float) -> Verdict:
    """Return whether the process is alive.

    It is alive if it commits offsets, or no input waits, or Kafka has been unreachable for at most `AWAY_SECS_MAX`
    seconds. `standing_secs_max` is the longest time, in seconds, that input may wait without a commit.
    """
    silent_since, standing_since = looks.silent_since, looks.standing_since
    if looks.looked_at is not None and now - looks.looked_at > LOOK_SECS_MAX:
        return Verdict(False, f"consumer group last checked {now - looks.looked_at:.0f} s ago")
    if silent_since is not None:
        ok = now - silent_since <= AWAY_SECS_MAX
        return Verdict(ok, f"Kafka has not answered for {now - silent_since:.0f} s (at most {AWAY_SECS_MAX:.0f})")
    if standing_since is not None and now - standing_since > standing_secs_max:
        stood = f"for {now - standing_since:.0f} s (at most {standing_secs_max:.0f})"
        return Verdict(False, f"{looks.lag} messages wait and nothing was committed {stood}")
    return Verdict(True, f"{looks.lag} messages wait" if looks.lag else "nothing waits")


def in_reach(looks: Looks, now: float) -> Verdict:
    """Return whether Kafka answered the last query; without an answer, no process is ready."""
    if looks.silent_since is not None:
        return Verdict(False, f"Kafka has not answered for {now - looks.silent_since:.0f} s")
    return Verdict(True, "Kafka answers")
