"""The health of the forwarder. Pure: the time is an argument.

An unreachable receiver is waited for, as the sink waits for ClickHouse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.health import AWAY_SECS_MAX, Looks, Verdict, goes_forward, in_reach

STANDING_SECS_MAX = 120.0
"""Seconds that alerts may wait without a commit while the receiver accepts alerts; beyond, the forwarder is unhealthy."""
FAILING_SECS_MAX = 10.0
"""Seconds that tries may fail before the forwarder is no longer ready."""


@dataclass(frozen=True, slots=True)
class ForwardFacts:
    """State of a forwarder that its health pages use."""

    looks: Looks
    joined: bool
    """The group assigned its partitions, possibly none."""
    failing_since: float | None
    """Monotonic time since which an alert cannot be sent; None if all can."""
    failed_at: float
    """Monotonic time of the last failed try."""


def alive(facts: ForwardFacts, now: float) -> Verdict:
    """Return whether it is alive: it commits, or nothing waits, or Kafka or the receiver is away for a limited time."""
    if facts.failing_since is not None:
        failing_secs = now - facts.failing_since
        why = f"the receiver has not taken an alert for {failing_secs:.0f} s (at most {AWAY_SECS_MAX:.0f})"
        return Verdict(failing_secs <= AWAY_SECS_MAX, why)
    looks = facts.looks
    if looks.standing_since is not None:
        # Alerts that waited for the receiver begin to move only after its last failure.
        looks = replace(looks, standing_since=max(looks.standing_since, facts.failed_at))
    return goes_forward(looks, STANDING_SECS_MAX, now)


def ready(facts: ForwardFacts, now: float) -> Verdict:
    """Return whether it is ready: a group member, Kafka answers, the receiver accepts alerts, and commits advance."""
    if not facts.joined:
        return Verdict(False, "joins its group")
    if facts.failing_since is not None and now - facts.failing_since > FAILING_SECS_MAX:
        waited = now - facts.failing_since
        return Verdict(False, f"the receiver has not taken an alert for {waited:.0f} s; the log states why")
    well = alive(facts, now)
    return in_reach(facts.looks, now) if well.ok else well
