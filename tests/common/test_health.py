"""Health is decided from facts alone."""

from __future__ import annotations

from common.health import AWAY_SECS_MAX, LOOK_SECS_MAX, Looks, Standstill, Verdict, goes_forward, in_reach


def test_a_standstill_is_lag_without_commit() -> None:
    """A place whose input waits is known by when its commit was first seen there; a commit, or no lag, ends that."""
    standstill = Standstill[str]()
    standstill.look({"a": (5, 9), "b": (9, 9)}, 10)
    standstill.look({"a": (5, 12), "b": (9, 10)}, 20)
    assert standstill.since == {"a": 10, "b": 20}

    standstill.look({"a": (6, 12), "b": (10, 10)}, 30)
    assert standstill.since == {"a": 30}
    standstill.look({}, 40)
    assert standstill.since == {}


def test_standing_still_is_not_alive() -> None:
    """Input that waits without a commit for longer than the bound; not before, and not while nothing waits."""
    looks = Looks()
    looks.answered(7, standing_since=100.0, now=101.0)

    assert goes_forward(looks, 15.0, 115.0) == Verdict(True, "7 messages wait")
    assert goes_forward(looks, 15.0, 116.0) == Verdict(
        False, "7 messages wait and nothing was committed for 16 s (at most 15)"
    )
    looks.answered(0, standing_since=None, now=116.0)
    assert goes_forward(looks, 15.0, 130.0) == Verdict(True, "nothing waits")


def test_kafka_may_be_away_for_a_while() -> None:
    """While Kafka is away a process is alive and not ready; beyond the bound it is not alive either."""
    looks = Looks()
    looks.answered(7, standing_since=1.0, now=100.0)
    looks.silent(110.0)
    looks.silent(140.0)

    assert goes_forward(looks, 15.0, 141.0) == Verdict(True, "Kafka has not answered for 31 s (at most 300)")
    assert in_reach(looks, 141.0) == Verdict(False, "Kafka has not answered for 31 s")
    looks.silent(110 + AWAY_SECS_MAX)
    assert not goes_forward(looks, 15.0, 111 + AWAY_SECS_MAX).ok
    looks.answered(7, standing_since=411.0, now=411.0)
    assert goes_forward(looks, 15.0, 412.0).ok
    assert in_reach(looks, 412.0).ok


def test_a_start_begins_in_silence() -> None:
    """Before the first look nothing is known: alive for as long as Kafka may be away, and not ready."""
    looks = Looks(silent_since=0.0)

    assert goes_forward(looks, 15.0, 200.0).ok
    assert not in_reach(looks, 200.0).ok
    assert not goes_forward(looks, 15.0, AWAY_SECS_MAX + 1).ok


def test_a_stopped_watch_is_not_alive() -> None:
    """Old facts do not count: when the watch itself has stopped, the verdict states it."""
    looks = Looks()
    looks.answered(0, standing_since=None, now=10.0)

    assert goes_forward(looks, 15.0, 10 + LOOK_SECS_MAX).ok
    assert goes_forward(looks, 15.0, 11 + LOOK_SECS_MAX) == Verdict(False, "consumer group last checked 31 s ago")
