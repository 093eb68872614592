"""Simulated worlds against their truth: with any seed, reported requests are found, and no row is false."""

from __future__ import annotations

from typing import Any

import pytest

from producers.simulation import WorldSettings, confirmed_proxies
from schemas.settings import CorrelationSettings
from tests.factories import latest
from tests.simulated import Played, play

ORDERLY: dict[str, Any] = {"disorder_secs_max": 0.0}
DISORDERLY: dict[str, Any] = {"late_share": 0.15, "doubled_share": 0.1, "disorder_secs_max": 2.2}
SEEDS = range(1, 6)


def world(seed: int, **more: Any) -> WorldSettings:
    """Return the settings of a small world of this seed."""
    return WorldSettings(
        seed=seed, devices=8, lines_per_sec=500, duration_secs=15, flow_timeout_secs=4, astray_share=0.1, **more
    )


def not_found(played: Played) -> list[dict[str, Any]]:
    """Return requests that a sensor reported and no row has."""
    rows = [row for row in latest(played.rows) if row["Layer"] == "destination"]
    known = {(row["DeviceName"], row["LocalPort"], row["DestinationHost"], row["DestinationPort"]) for row in rows}
    return [t for t in played.truth if t["seen"] and (t["device"], t["client_port"], t["host"], t["port"]) not in known]


@pytest.mark.parametrize("disorder", [ORDERLY, {}, DISORDERLY], ids=["orderly", "as usual", "disorderly"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_seen_is_right(seed: int, disorder: dict[str, Any]) -> None:
    """Without gaps at least 98 % of all requests are right, none is wrong, no row is false, each process is the true one."""
    played = play(world(seed, **disorder))
    result = played.score()

    assert result.right / result.requests >= 0.98
    assert (result.wrong, result.wrong_rows, result.process_wrong, played.rejects) == (0, 0, 0, 0)
    assert not_found(played) == []
    assert played.book["waiting"] == 0


@pytest.mark.parametrize("disorder", [{}, DISORDERLY], ids=["as usual", "disorderly"])
@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_make_nothing_wrong(seed: int, disorder: dict[str, Any]) -> None:
    """While sensors are away, what they saw is still right, and no row is made up."""
    played = play(world(seed, gaps=True, **disorder))
    result = played.score()

    assert played.tally["requests that no sensor could see"] > 0
    assert (result.wrong, result.wrong_rows, played.rejects) == (0, 0, 0)
    assert not_found(played) == []


def test_known_proxies_change_no_answer() -> None:
    """With the proxies in the settings the same requests are right."""
    played = play(world(9), CorrelationSettings(proxies=confirmed_proxies()))
    result = played.score()

    assert result.right / result.requests >= 0.98
    assert (result.wrong, result.wrong_rows) == (0, 0)
    assert any(str(row["ProxyName"]).startswith("proxy-") for row in played.rows)


def test_outcomes_are_what_became_of_it() -> None:
    """Blocked requests are `blocked`, those the proxy refused `failed`, unanswered ones `unknown`."""
    outcomes = play(WorldSettings(seed=4, devices=20, lines_per_sec=1_500, duration_secs=15)).score().outcomes

    assert {got for (verdict, got) in outcomes if verdict.startswith("blocked")} == {"blocked"}
    assert {got for (verdict, got) in outcomes if verdict == "denied"} == {"failed"}
    assert {got for (verdict, got) in outcomes if verdict == "aborted"} == {"unknown"}
    assert outcomes[("allowed", "audited")] > 0
