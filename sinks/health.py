"""Whether the sink is well: pure, time comes in.

A sink that cannot write is alive for a while, and not ready: starting it again brings ClickHouse back to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.health import AWAY_SECS_MAX, Looks, Verdict, goes_forward, in_reach

STANDING_SECS_MAX = 60.0
"""Input that waits without a commit for longer is not healthy, if ClickHouse takes what it is given.

Twice what one insert may take, where the settings allow more than half of it.
"""
FAILING_SECS_MAX = 10.0
"""Writes may fail for so long before the sink does not count as ready any more."""


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """What its pages know of a sink."""

    looks: Looks
    joined: bool
    """The group gave us partitions, or told that there are none for us."""
    failing_since: float | None
    """No write has come through since then; None while none fails."""
    failed_at: float
    """When a write failed last."""


def standing_secs_max(insert_secs_max: float) -> float:
    """How long input may wait without a commit; beyond it the sink is not healthy, and its watch ends it."""
    return max(STANDING_SECS_MAX, 2 * insert_secs_max)


def alive(facts: SinkFacts, insert_secs_max: float, now: float) -> Verdict:
    """It commits while rows wait, or nothing waits, or Kafka or ClickHouse are away for not too long."""
    if facts.failing_since is not None:
        failing_secs = now - facts.failing_since
        why = f"ClickHouse has taken nothing for {failing_secs:.0f} s (at most {AWAY_SECS_MAX:.0f})"
        return Verdict(failing_secs <= AWAY_SECS_MAX, why)
    looks = facts.looks
    if looks.standing_since is not None:
        # What waited for ClickHouse begins to move only now.
        looks = replace(looks, standing_since=max(looks.standing_since, facts.failed_at))
    return goes_forward(looks, standing_secs_max(insert_secs_max), now)


def ready(facts: SinkFacts, insert_secs_max: float, now: float) -> Verdict:
    """It is a member of its group, Kafka answers, ClickHouse takes rows, and it does not stand still."""
    if not facts.joined:
        return Verdict(False, "joins its group")
    if facts.failing_since is not None and now - facts.failing_since > FAILING_SECS_MAX:
        return Verdict(False, f"ClickHouse has taken nothing for {now - facts.failing_since:.0f} s; the log says why")
    well = alive(facts, insert_secs_max, now)
    return in_reach(facts.looks, now) if well.ok else well
