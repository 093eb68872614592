"""Whether the forwarder is well: pure, time comes in. A receiver that is away is waited for, as a sink waits for ClickHouse."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.health import AWAY_SECS_MAX, Looks, Verdict, goes_forward, in_reach

STANDING_SECS_MAX = 120.0
"""Alerts that wait without a commit for longer are not healthy, if the receiver takes what it is given."""
FAILING_SECS_MAX = 10.0
"""Tries may fail for so long before it does not count as ready any more."""


@dataclass(frozen=True, slots=True)
class ForwardFacts:
    """What its pages know of a forwarder."""

    looks: Looks
    joined: bool
    """The group gave us partitions, or told that there are none for us."""
    failing_since: float | None
    """An alert could not be sent since then; None while none waits for that."""
    failed_at: float
    """When a try failed last."""


def alive(facts: ForwardFacts, now: float) -> Verdict:
    """It commits while alerts wait, or nothing waits, or Kafka or the receiver are away for not too long."""
    if facts.failing_since is not None:
        failing_secs = now - facts.failing_since
        why = f"the receiver has not taken an alert for {failing_secs:.0f} s (at most {AWAY_SECS_MAX:.0f})"
        return Verdict(failing_secs <= AWAY_SECS_MAX, why)
    looks = facts.looks
    if looks.standing_since is not None:
        # What waited for the receiver begins to move only now.
        looks = replace(looks, standing_since=max(looks.standing_since, facts.failed_at))
    return goes_forward(looks, STANDING_SECS_MAX, now)


def ready(facts: ForwardFacts, now: float) -> Verdict:
    """It is a member of its group, Kafka answers, the receiver takes alerts, and it does not stand still."""
    if not facts.joined:
        return Verdict(False, "joins its group")
    if facts.failing_since is not None and now - facts.failing_since > FAILING_SECS_MAX:
        waited = now - facts.failing_since
        return Verdict(False, f"the receiver has not taken an alert for {waited:.0f} s; the log says why")
    well = alive(facts, now)
    return in_reach(facts.looks, now) if well.ok else well
