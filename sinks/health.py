"""The health of the sink. Pure: the time is an argument.

A sink that cannot write stays alive for a while, but is not ready: a restart does not bring ClickHouse back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.health import AWAY_SECS_MAX, Looks, Verdict, goes_forward, in_reach

STANDING_SECS_MAX = 60.0
"""Seconds that input may wait without a commit while ClickHouse accepts writes; beyond, the sink is unhealthy.

If the settings allow an insert more than half of this, twice the time of an insert applies.
"""
FAILING_SECS_MAX = 10.0
"""Seconds that writes may fail before the sink is no longer ready."""


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """State of a sink that its health pages use."""

    looks: Looks
    joined: bool
    """The group assigned its partitions, possibly none."""
    failing_since: float | None
    """Monotonic time since which no write succeeds; None if no write is failing."""
    failed_at: float
    """Monotonic time of the last failed write."""


def standing_secs_max(insert_secs_max: float) -> float:
    """Return how many seconds input may wait without a commit; beyond, the sink is unhealthy and its watch ends it."""
    return max(STANDING_SECS_MAX, 2 * insert_secs_max)


def alive(facts: SinkFacts, insert_secs_max: float, now: float) -> Verdict:
    """Return whether the sink is alive: it commits, or nothing waits, or Kafka or ClickHouse is away for a limited time."""
    if facts.failing_since is not None:
        failing_secs = now - facts.failing_since
        why = f"ClickHouse has taken nothing for {failing_secs:.0f} s (at most {AWAY_SECS_MAX:.0f})"
        return Verdict(failing_secs <= AWAY_SECS_MAX, why)
    looks = facts.looks
    if looks.standing_since is not None:
        # Rows that waited for ClickHouse begin to move only after its last failure.
        looks = replace(looks, standing_since=max(looks.standing_since, facts.failed_at))
    return goes_forward(looks, standing_secs_max(insert_secs_max), now)


def ready(facts: SinkFacts, insert_secs_max: float, now: float) -> Verdict:
    """Return whether the sink is ready: a group member, Kafka answers, ClickHouse accepts rows, and commits advance."""
    if not facts.joined:
        return Verdict(False, "joins its group")
    if facts.failing_since is not None and now - facts.failing_since > FAILING_SECS_MAX:
        return Verdict(False, f"ClickHouse has taken nothing for {now - facts.failing_since:.0f} s; the log states why")
    well = alive(facts, insert_secs_max, now)
    return in_reach(facts.looks, now) if well.ok else well
