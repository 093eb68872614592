"""A simulated world: the same settings are the same world, and everything promised is in it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from producers.simulation import SimulatedLine, World, WorldError, WorldSettings, confirmed_proxies, simulate, truth
from schemas.clock import MICROS
from schemas.events import ProtectionMode
from schemas.settings import CorrelationSettings

SMALL = WorldSettings(seed=7, devices=6, lines_per_sec=300, duration_secs=8, flow_timeout_secs=2)
MIXED = WorldSettings(
    seed=3, devices=60, lines_per_sec=4_000, duration_secs=20, flow_timeout_secs=4, gaps=True, astray_share=0.1
)


@pytest.fixture(scope="module")
def mixed() -> tuple[list[SimulatedLine], list[dict[str, Any]], Counter[str]]:
    """Lines, truth and tally of a middling world with everything in it."""
    truths: list[dict[str, Any]] = []
    world = World(MIXED, truth=truths.append)
    lines = list(world.lines())
    return lines, truths, world.tally


def test_same_settings_same_world() -> None:
    """Lines, their order and the truth are the same each time; whether the truth is asked for changes no line."""
    truths: list[dict[str, object]] = []

    assert list(simulate(SMALL)) == list(World(SMALL, truth=truths.append).lines())
    assert truths == list(truth(SMALL))
    assert truths


def test_same_world_on_every_machine() -> None:
    """A deliberate change of the world changes this digest; the machine and the version of Python do not."""
    content = hashlib.blake2b(digest_size=8)
    for line in simulate(replace(SMALL, gaps=True)):
        content.update(b"%d %b %b\n" % (line.at, line.sensor.encode(), line.value))
    for truths in truth(replace(SMALL, gaps=True)):
        content.update(json.dumps(truths).encode())

    assert content.hexdigest() == "a0359ea3220772a7"


def test_other_seed_other_world() -> None:
    """Another seed has nothing in common with it."""
    one, other = ({line.value for line in simulate(replace(SMALL, seed=seed))} for seed in (1, 2))

    assert not one & other


def test_shares_make_up_the_whole() -> None:
    """Devices do not change each other: shares of them, simulated apart, send the same as all together."""
    whole = Counter(simulate(SMALL))
    apart = Counter(line for shard in range(4) for line in World(SMALL, shard=shard, shards=4).lines())

    assert apart == whole


def test_lines_come_in_order(mixed: tuple[list[SimulatedLine], Any, Any]) -> None:
    """Each line lies in the feed where it arrives, none before the world begins; stragglers come soon after its end."""
    times = [line.at for line in mixed[0]]

    assert times == sorted(times)
    assert times[0] >= MIXED.begin
    assert times[-1] < MIXED.end + 4 * MICROS


def test_rate_is_about_what_was_asked_for(mixed: tuple[list[SimulatedLine], Any, Any]) -> None:
    """A fleet writes about as many lines as requested."""
    assert 0.6 < len(mixed[0]) / (MIXED.lines_per_sec * MIXED.duration_secs) < 1.4


def test_everything_promised_is_in_it(mixed: tuple[Any, list[dict[str, Any]], Counter[str]]) -> None:
    """Every kind of connection, oddity and outage occurs in one middling world."""
    _, truths, tally = mixed
    kinds = (
        "tunnel keep_alive direct listed_tunnel listed_plain refused retried log_in plain_in_tunnel address same_port fronted"
        " silent unreachable unanswered stranger tls_to_proxy older_than_sensor"
    )
    for kind in kinds.split():
        assert tally[f"connections: {kind}"], kind
    for kind in ("restart", "loss", "kernel", "off"):
        assert tally[f"outages: {kind}"], kind
    for oddity in ("late lines", "doubled lines", "retries", "mode changes", "clocks hours wrong"):
        assert tally[oddity], oddity

    verdicts = {truth["verdict"] for truth in truths}
    assert verdicts >= {
        "allowed",
        "denied",
        "failed",
        "auth_required",
        "aborted",
        "blocked_on_device",
        "blocked_in_tunnel",
    }
    assert {truth["proxy"] for truth in truths} == {"confirmed", "learnt", "unknown"}
    assert {truth["mode"] for truth in truths} == set(ProtectionMode)
    assert len({truth["user"] for truth in truths}) > 50
    hosts_of: dict[object, set[object]] = {}
    for one in truths:
        if one["scenario"] == "keep_alive":
            hosts_of.setdefault((one["device"], one["client_port"], one["conn_start"]), set()).add(one["host"])
    assert max(map(len, hosts_of.values())) >= 3, "several hosts on one connection"


def test_tunnels_last_from_seconds_to_hours() -> None:
    """In a world of a day some tunnels are over in a second, and some stay for hours."""
    settings = WorldSettings(seed=5, devices=1, lines_per_sec=0.2, duration_secs=86_400)
    lasted = []
    for line in simulate(settings):
        record = json.loads(line.value)
        if record.get("app_proto_orig") == "http" and record["event_type"] == "flow":
            lasted.append(record["flow"]["age"])

    assert min(lasted) < 2
    assert max(lasted) > 4 * 3_600


def test_memory_follows_what_is_open() -> None:
    """What waits in a long world is no more than in one of a tenth of the time: it is what is open or remembered."""

    def most_waiting(duration_secs: float) -> int:
        world = World(
            WorldSettings(seed=2, devices=2, lines_per_sec=40, duration_secs=duration_secs, flow_timeout_secs=1)
        )
        most = 0
        for _ in world.slices():
            most = max(most, world.waiting)
        return most

    assert most_waiting(2_000) < 3 * most_waiting(200)


def test_confirmed_proxies_are_settings() -> None:
    """What the company knows of its proxies can be put into the settings as it stands."""
    assert CorrelationSettings(proxies=confirmed_proxies()).proxies == confirmed_proxies()


@pytest.mark.parametrize(
    "wrong",
    [
        {"devices": 0},
        {"devices": 1, "lines_per_sec": 401},
        {"lines_per_sec": 0},
        {"duration_secs": -1},
        {"disorder_secs_max": -1},
        {"start": datetime(2026, 11, 24)},  # noqa: DTZ001  # that it has no zone is the point
    ],
)
def test_impossible_worlds_are_refused(wrong: dict[str, Any]) -> None:
    """An impossible world is refused with the reason."""
    with pytest.raises(WorldError):
        WorldSettings(**wrong)


def test_start_is_taken_to_the_microsecond() -> None:
    """A start with a fraction of a second is kept as it is."""
    start = datetime(2026, 11, 24, 9, 0, 0, 123_457, tzinfo=UTC)

    assert WorldSettings(start=start).begin == 1_795_510_800 * MICROS + 123_457
