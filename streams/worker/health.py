"""Health of the worker, from the watchdog's observations and the worker's state in its group; pure, the time is an argument.

The watchdog ends a worker that stands still for `worker.stall_secs_max`. The worker reports unhealthy from half of that on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.health import Looks, Verdict, goes_forward, in_reach

STANDING_SHARE_MAX = 0.5
"""Share of worker.stall_secs_max for which input may wait without a commit before the worker is unhealthy."""


@dataclass(slots=True)
class WorkerFacts:
    """The facts behind a worker's health pages: written by the watchdog and the app, read by the pages' threads."""

    looks: Looks = field(default_factory=Looks)
    started: bool = False
    """Whether Kafka and all topics were available, so that Faust could start."""
    joined: bool = False
    """Whether the group assigned partitions to the worker; an empty assignment counts."""
    recovered: bool = False
    """Whether the state of these partitions is recovered."""


def alive(facts: WorkerFacts, stall_secs_max: float, now: float) -> Verdict:
    """Return ok if the worker commits, or no input waits, or Kafka has been unavailable only for a tolerated time."""
    return goes_forward(facts.looks, stall_secs_max * STANDING_SHARE_MAX, now)


def ready(facts: WorkerFacts, stall_secs_max: float, now: float) -> Verdict:
    """Return ok if the worker is in its group, its state is recovered, Kafka answers, and the worker is alive."""
    if not facts.started:
        return Verdict(False, "waits for Kafka and its topics; the log names what is missing")
    if not facts.joined:
        return Verdict(False, "joins its group")
    if not facts.recovered:
        return Verdict(False, "recovers its state")
    well = alive(facts, stall_secs_max, now)
    return in_reach(facts.looks, now) if well.ok else well
