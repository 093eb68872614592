"""The sink's health, from facts."""

from __future__ import annotations

from typing import Any

from common.health import AWAY_SECS_MAX, Looks
from sinks.health import FAILING_SECS_MAX, STANDING_SECS_MAX, Facts, alive, ready, standing_secs_max


def facts(now: float, **changes: Any) -> Facts:
    """A sink that waits for rows, but for what the test is about."""
    standing_since = changes.pop("standing_since", None)
    looks = Looks()
    looks.answered(9 if standing_since is not None else 0, standing_since, now)
    return Facts(
        **{
            "looks": looks,
            "joined": True,
            "failing_since": None,
            "failed_at": float("-inf"),
            "failure": "ClickHouse has taken nothing",
            "standing_secs_max": STANDING_SECS_MAX,
            **changes,
        },
    )


def test_idle_is_well() -> None:
    """Nothing to write is nothing to complain of."""
    assert alive(facts(100.0), 101.0).ok
    assert ready(facts(100.0), 101.0).ok
    assert not ready(facts(100.0, joined=False), 101.0).ok


def test_clickhouse_may_be_away_for_a_while() -> None:
    """While ClickHouse takes nothing the sink is alive, soon not ready, and after long not alive either."""
    failing = facts(100.0, failing_since=50.0, failed_at=100.0, standing_since=1.0)

    assert ready(failing, 50 + FAILING_SECS_MAX).ok
    verdict = ready(failing, 101.0)
    assert (verdict.ok, verdict.why) == (False, "ClickHouse has taken nothing for 51 s; the log states why")
    assert alive(failing, 101.0).ok
    assert not alive(failing, 51 + AWAY_SECS_MAX).ok


def test_standing_still_is_not_alive() -> None:
    """Rows wait, no write fails, and nothing is committed; time in which ClickHouse was away does not count."""
    end = 100 + STANDING_SECS_MAX + 1

    assert not alive(facts(end, standing_since=100.0), end).ok
    assert not ready(facts(end, standing_since=100.0), end).ok
    assert alive(facts(end, standing_since=100.0, failed_at=end - 5), end).ok
    assert alive(facts(end, standing_since=100.0, standing_secs_max=standing_secs_max(31.0)), end).ok
