"""Whether a process is well, decided from plain facts: whoever looks writes them down, the pages /healthz and /readyz read.

    alive   it goes forward, or has nothing to do, or waits for somebody who is away, and not for longer than a bound
    ready   it can do work right now

What is alive and not ready is left alone: starting it again brings nobody back. What is not alive needs a person, or a
restart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

AWAY_SECS_MAX = 300.0
"""Kafka or ClickHouse may be away for so long; beyond it, whoever waits for them is not alive any more."""
LOOK_SECS_MAX = 30.0
"""Nobody looking for so long is a fault of its own: then nothing is known."""

Place = TypeVar("Place", bound=Hashable)


class Verdict(NamedTuple):
    """Yes or no, and why, in words."""

    ok: bool
    why: str


class Health(NamedTuple):
    """What the pages ask of a process; called in a thread of their own."""

    alive: Callable[[], Verdict]
    ready: Callable[[], Verdict]


class Standstill(Generic[Place]):
    """Since when input waits without a commit, place by place."""

    def __init__(self) -> None:
        self._moved: dict[Place, tuple[int, float]] = {}

    def forget(self) -> None:
        """Standing still so far says nothing."""
        self._moved.clear()

    def look(self, places: Mapping[Place, tuple[int, int]], now: float) -> None:
        """See the committed and the end offset of every place that is ours."""
        for place in self._moved.keys() - places.keys():
            del self._moved[place]
        for place, (committed, end) in places.items():
            if committed >= end:
                self._moved.pop(place, None)
            elif self._moved.get(place, (None, now))[0] != committed:
                self._moved[place] = (committed, now)

    @property
    def since(self) -> dict[Place, float]:
        """Places whose input waits: when their commit was first seen where it still is."""
        return {place: at for place, (_, at) in self._moved.items()}


@dataclass(slots=True)
class Looks:
    """What the last look at the group, as the broker has it, brought. One thread writes, others read."""

    silent_since: float | None = None
    """Kafka has not answered since then; None: it answered the last time. A process begins in silence."""
    looked_at: float | None = None
    """None before the first look."""
    lag: int = 0
    """Messages of ours that are not committed yet."""
    standing_since: float | None = None
    """Input waits, and its commit has been where it is since then."""
    lag_by_topic: dict[str, int] = field(default_factory=dict)

    def silent(self, now: float) -> None:
        """Kafka did not answer."""
        self.looked_at = now
        self.silent_since = now if self.silent_since is None else self.silent_since
        self.standing_since = None

    def answered(self, lag: int, standing_since: float | None, now: float) -> None:
        """It did."""
        self.looked_at = now
        self.silent_since, self.lag, self.standing_since = None, lag, standing_since


def goes_forward(looks: Looks, standing_secs_max: float, now: float) -> Verdict:
    """Alive: offsets are committed while input waits, or nothing waits, or Kafka is away for not too long."""
    silent_since, standing_since = looks.silent_since, looks.standing_since
    if looks.looked_at is not None and now - looks.looked_at > LOOK_SECS_MAX:
        return Verdict(False, f"nobody has looked at the group for {now - looks.looked_at:.0f} s")
    if silent_since is not None:
        ok = now - silent_since <= AWAY_SECS_MAX
        return Verdict(ok, f"Kafka has not answered for {now - silent_since:.0f} s (at most {AWAY_SECS_MAX:.0f})")
    if standing_since is not None and now - standing_since > standing_secs_max:
        stood = f"for {now - standing_since:.0f} s (at most {standing_secs_max:.0f})"
        return Verdict(False, f"{looks.lag} messages wait and nothing was committed {stood}")
    return Verdict(True, f"{looks.lag} messages wait" if looks.lag else "nothing waits")


def in_reach(looks: Looks, now: float) -> Verdict:
    """Ready, as far as Kafka goes."""
    if looks.silent_since is not None:
        return Verdict(False, f"Kafka has not answered for {now - looks.silent_since:.0f} s")
    return Verdict(True, "Kafka answers")
