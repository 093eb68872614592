"""The worker's health, from facts."""

from __future__ import annotations

from common.group_lag import Progress
from common.health import Looks
from streams.worker.guards.watchdog import Stall
from streams.worker.health import WorkerFacts, alive, ready


def facts(**changes: bool) -> WorkerFacts:
    """A worker at work, but for what the test is about."""
    return WorkerFacts(Looks(looked_at=100.0), **{"started": True, "joined": True, "recovered": True, **changes})


def test_ready_step_by_step() -> None:
    """Not ready, and in words why, until Kafka, group and state are there."""
    whys = [ready(facts(**{step: False}), 30.0, 101.0) for step in ("started", "joined", "recovered")]

    assert [verdict.ok for verdict in whys] == [False, False, False]
    assert [verdict.why.split()[0] for verdict in whys] == ["waits", "joins", "recovers"]
    assert ready(facts(), 30.0, 101.0).ok
    silent = facts()
    silent.looks.silent(101.0)
    assert not ready(silent, 30.0, 102.0).ok
    assert alive(silent, 30.0, 102.0).ok


def test_unwell_before_it_ends_itself() -> None:
    """From half of stall_secs_max on, /healthz reports a stall; at all of it the watchdog ends the process."""
    standing = facts()
    standing.looks.answered(3, standing_since=100.0, now=100.0)

    assert alive(standing, 30.0, 115.0).ok
    assert not alive(standing, 30.0, 116.0).ok
    assert ready(standing, 30.0, 115.0).ok
    assert ready(standing, 30.0, 116.0) == alive(standing, 30.0, 116.0)


def test_a_spare_is_unwell_with_its_group() -> None:
    """A worker without partitions stands still only when the whole group does."""
    stall = Stall(30)
    stall.stalled({0: Progress(5, 9), 1: Progress(5, 9), 2: Progress(9, 9)}, 10, everywhere=True)
    assert not stall.stalled({0: Progress(5, 9), 1: Progress(6, 9), 2: Progress(9, 9)}, 20, everywhere=True)

    assert stall.standing_since(everywhere=True) == 20
    assert stall.stalled({0: Progress(5, 9), 1: Progress(7, 9), 2: Progress(9, 9)}, 41, everywhere=True) == [0]
    stall.stalled({0: Progress(9, 9)}, 50, everywhere=True)
    assert stall.standing_since(everywhere=True) is None
