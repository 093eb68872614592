"""The health of the sink and of the forwarder, and their HTTP pages. The verdicts are pure: the time is an argument.

A process that cannot write to its destination counts as alive for a limited time, but not as ready: a restart does not
bring ClickHouse or a receiver back.
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
"""Seconds that rows may wait without a commit, while ClickHouse accepts writes, before the sink is unhealthy.

If the settings allow an insert to take more than half of this, the limit is twice the time of an insert.
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
    """Beginning of the message about a failing destination, such as "ClickHouse has taken nothing"."""
    standing_secs_max: float
    """Seconds that input may wait without a commit while the destination accepts writes."""


def standing_secs_max(insert_secs_max: float) -> float:
    """Return how many seconds rows may wait without a commit before the sink is unhealthy and its watch ends it.

    `insert_secs_max` is the longest time, in seconds, that the settings allow an insert.
    """
    return max(STANDING_SECS_MAX, 2 * insert_secs_max)


def alive(facts: Facts, now: float) -> Verdict:
    """Return whether the process is alive.

    It is alive if it commits offsets, or no input waits, or Kafka or the destination has been unreachable for at most
    `AWAY_SECS_MAX` seconds.
    """
    if facts.failing_since is not None:
        failing_secs = now - facts.failing_since
        why = f"{facts.failure} for {failing_secs:.0f} s (at most {AWAY_SECS_MAX:.0f})"
        return Verdict(failing_secs <= AWAY_SECS_MAX, why)
    looks = facts.looks
    if looks.standing_since is not None:
        # While the destination failed, input could not be written: count the waiting time from the last failure.
        looks = replace(looks, standing_since=max(looks.standing_since, facts.failed_at))
    return goes_forward(looks, facts.standing_secs_max, now)


def ready(facts: Facts, now: float) -> Verdict:
    """Return whether the process is ready.

    It is ready if it has joined its group, Kafka answers, the destination accepts writes, and offsets are committed.
    """
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

    `part` is the section of the settings; `failure` and `secs_max` become `failure` and `standing_secs_max` of `Facts`.
    """

    def verdict(of: Callable[[Facts, float], Verdict]) -> Verdict:
        facts = Facts(looks, loop.joined, loop.failing_since, loop.failed_at, failure, secs_max)
        return of(facts, time.monotonic())

    health = Health(partial(verdict, alive), partial(verdict, ready))
    return served(part, settings.metrics_host, settings.metrics_port, families, health)
