"""The health of the sink and of the forwarder, and their HTTP pages. The verdicts are pure: the time is an argument.

A process that cannot write to its destination stays alive for a while, but is not ready: a restart does not bring
ClickHouse or a receiver back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from common.exporter import Family, served
from common.health import AWAY_SECS_MAX, Health, Looks, Verdict, goes_forward, in_reach
from schemas.settings import ForwardSettings, SinkSettings
from sinks.group_member import GroupMember

STANDING_SECS_MAX = 60.0
"""Seconds that rows may wait without a commit while ClickHouse accepts writes; beyond, the sink is unhealthy.

If the settings allow an insert more than half of this, twice the time of an insert applies.
"""
FAILING_SECS_MAX = 10.0
"""Seconds that writes may fail before the process is no longer ready."""


@dataclass(frozen=True, slots=True)
class Facts:
    """State that the health pages use."""

    looks: Looks
    joined: bool
    failing_since: float | None
    failed_at: float
    failure: str
    """Text for a failing destination, which the seconds follow: "ClickHouse has taken nothing"."""
    standing_secs_max: float
    """Seconds that input may wait without a commit while the destination accepts writes."""


def standing_secs_max(insert_secs_max: float) -> float:
    """Return how many seconds rows may wait without a commit; beyond, the sink is unhealthy and its watch ends it."""
    return max(STANDING_SECS_MAX, 2 * insert_secs_max)


def alive(facts: Facts, now: float) -> Verdict:
    """Return whether it is alive: it commits, or nothing waits, or Kafka or the destination is away for a limited time."""
    if facts.failing_since is not None:
        failing_secs = now - facts.failing_since
        why = f"{facts.failure} for {failing_secs:.0f} s (at most {AWAY_SECS_MAX:.0f})"
        return Verdict(failing_secs <= AWAY_SECS_MAX, why)
    looks = facts.looks
    if looks.standing_since is not None:
        # Input that waited for the destination begins to move only after its last failure.
        looks = replace(looks, standing_since=max(looks.standing_since, facts.failed_at))
    return goes_forward(looks, facts.standing_secs_max, now)


def ready(facts: Facts, now: float) -> Verdict:
    """Return whether it is ready: a group member, Kafka answers, the destination accepts writes, and commits advance."""
    if not facts.joined:
        return Verdict(False, "joins its group")
    if facts.failing_since is not None and now - facts.failing_since > FAILING_SECS_MAX:
        return Verdict(False, f"{facts.failure} for {now - facts.failing_since:.0f} s; the log states why")
    well = alive(facts, now)
    return in_reach(facts.looks, now) if well.ok else well


def served_pages(
    part: str,
    settings: SinkSettings | ForwardSettings,
    families: Callable[[], Iterable[Family]],
    loop: GroupMember,
    looks: Looks,
    failure: str,
    secs_max: float,
) -> AbstractContextManager[None]:
    """Serve metrics and health of a loop within the context, if the settings name a port. Raises SettingsError.

    `failure` and `secs_max` are those of `Facts`.
    """

    def verdict(of: Callable[[Facts, float], Verdict]) -> Verdict:
        facts = Facts(looks, loop.joined, loop.failing_since, loop.failed_at, failure, secs_max)
        return of(facts, time.monotonic())

    health = Health(partial(verdict, alive), partial(verdict, ready))
    return served(part, settings.metrics_host, settings.metrics_port, families, health)
