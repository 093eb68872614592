"""Whether the worker is well: what the watchdog saw, and where the worker stands in its group; pure, time comes in.

The watchdog ends a worker that stands still for `worker.stall_secs_max`; its health says so from half of that on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.health import Looks, Verdict, goes_forward, in_reach

STANDING_SHARE_MAX = 0.5
"""Of worker.stall_secs_max: input that waits longer than this without a commit is not healthy any more."""


@dataclass(slots=True)
class WorkerFacts:
    """What its pages know of a worker: written by the watchdog and the app, read by the pages' threads."""

    looks: Looks = field(default_factory=Looks)
    started: bool = False
    """Kafka and all topics were there, so that Faust could begin."""
    joined: bool = False
    """The group gave us partitions, or told that there are none for us."""
    recovered: bool = False
    """The state of these partitions is here."""


def alive(facts: WorkerFacts, stall_secs_max: float, now: float) -> Verdict:
    """It commits while input waits, or nothing waits, or Kafka is away for not too long."""
    return goes_forward(facts.looks, stall_secs_max * STANDING_SHARE_MAX, now)


def ready(facts: WorkerFacts, stall_secs_max: float, now: float) -> Verdict:
    """It is a member of its group, with its state at hand, Kafka answers, and it does not stand still."""
    if not facts.started:
        return Verdict(False, "waits for Kafka and its topics; the log says what is missing")
    if not facts.joined:
        return Verdict(False, "joins its group")
    if not facts.recovered:
        return Verdict(False, "takes its state back")
    well = alive(facts, stall_secs_max, now)
    return in_reach(facts.looks, now) if well.ok else well
