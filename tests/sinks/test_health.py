"""The sink's health, from facts."""

from __future__ import annotations

from typing import Any

from common.health import AWAY_SECS_MAX, Looks
from sinks.health import FAILING_SECS_MAX, STANDING_SECS_MAX, SinkFacts, alive, ready

INSERT_SECS_MAX = 30.0


def facts(now: float, **changes: Any) -> SinkFacts:
    """A sink that waits for rows, but for what the test is about."""
    standing_since = changes.pop("standing_since", None)
    looks = Looks()
    looks.answered(9 if standing_since is not None else 0, standing_since, now)
    return SinkFacts(
        **{"looks": looks, "joined": True, "failing_since": None, "failed_at": float("-inf"), **changes},
    )


def test_idle_is_well() -> None:
    """Nothing to write is nothing to complain of."""
    assert alive(facts(100.0), INSERT_SECS_MAX, 101.0).ok
    assert ready(facts(100.0), INSERT_SECS_MAX, 101.0).ok
    assert not ready(facts(100.0, joined=False), INSERT_SECS_MAX, 101.0).ok


def test_clickhouse_may_be_away_for_a_while() -> None:
    """While ClickHouse takes nothing the sink is alive, soon not ready, and after long not alive either."""
    failing = facts(100.0, failing_since=50.0, failed_at=100.0, standing_since=1.0)

    assert ready(failing, INSERT_SECS_MAX, 50 + FAILING_SECS_MAX).ok
    verdict = ready(failing, INSERT_SECS_MAX, 101.0)
    assert (verdict.ok, verdict.why) == (False, "ClickHouse has taken nothing for 51 s; the log says why")
    assert alive(failing, INSERT_SECS_MAX, 101.0).ok
    assert not alive(failing, INSERT_SECS_MAX, 51 + AWAY_SECS_MAX).ok


def test_standing_still_is_not_alive() -> None:
    """Rows wait, no write fails, and nothing is committed; time in which ClickHouse was away does not count."""
    end = 100 + STANDING_SECS_MAX + 1

    assert not alive(facts(end, standing_since=100.0), INSERT_SECS_MAX, end).ok
    assert not ready(facts(end, standing_since=100.0), INSERT_SECS_MAX, end).ok
    assert alive(facts(end, standing_since=100.0, failed_at=end - 5), INSERT_SECS_MAX, end).ok
    assert alive(facts(end, standing_since=100.0), 2 * INSERT_SECS_MAX, end).ok
