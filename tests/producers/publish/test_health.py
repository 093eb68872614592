"""The producer's health, from facts."""

from __future__ import annotations

from common.health import AWAY_SECS_MAX
from producers.publish.health import QUIET_SECS_MAX, PublisherFacts, alive, ready, with_dialects


def test_idle_is_well() -> None:
    """A silent sensor is no fault; whether Kafka is there decides."""
    idle = PublisherFacts(0, None)

    assert alive(idle, 1e6).ok
    assert ready(idle, True, 1e6).ok
    assert ready(idle, False, 1e6) == (False, "Kafka does not answer")


def test_it_reports_what_it_found() -> None:
    """Which dialects the lines were written in, the most frequent first."""
    verdict = with_dialects(alive(PublisherFacts(0, None), 1e6), {"auto": 2, "suricata": 1_000})

    assert verdict == (True, "nothing waits for Kafka; lines read: suricata 1,000, auto 2")


def test_without_acknowledgements_it_is_not_ready() -> None:
    """What waits for Kafka for longer than a bound: not ready first, then not alive."""
    waiting = PublisherFacts(3, 100.0)

    assert ready(waiting, True, 100 + QUIET_SECS_MAX).ok
    assert not ready(waiting, True, 101 + QUIET_SECS_MAX).ok
    assert alive(waiting, 100 + AWAY_SECS_MAX).ok
    verdict = alive(waiting, 101 + AWAY_SECS_MAX)
    assert (verdict.ok, verdict.why) == (
        False,
        "3 messages wait for Kafka, which acknowledged nothing for 301 s (at most 300)",
    )
