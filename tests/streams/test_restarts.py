"""A worker that dies at any point and reads unacknowledged messages again has the state of one that never died."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import pytest

from producers.simulation import World, WorldSettings, confirmed_proxies
from schemas.settings import Settings
from streams.alerts.policy import Policy
from streams.pipeline import Message, Pipeline
from tests.factories import indicator
from tests.faults.wishes import BEFORE, PROTECTION
from tests.streams.model.test_snapshot import state_of

SECS = 30
LINES_PER_SEC = 120
AWAY = (10.0, 22.0)
"""Seconds in which Kafka accepts nothing; afterwards everything arrives at once."""
CALM_SECS = 12
"""Seconds until everything is decided: patience, lateness, and the gap between two versions of an alert."""
SETTINGS = Settings.model_validate(
    {
        "correlation": {"lateness_secs": 2, "patience_secs": 4, "proxies": confirmed_proxies()},
        "protection": PROTECTION,
    }
)

Table = dict[bytes, bytes]


def log_of(seed: int) -> list[Message]:
    """Return a fleet's messages and a tick per second, in the order of one partition."""
    world = WorldSettings(
        seed=seed,
        devices=10,
        lines_per_sec=LINES_PER_SEC,
        duration_secs=SECS,
        start=datetime(2026, 11, 27, 10, tzinfo=UTC),
        gaps=True,
        disorder_secs_max=1.0,
        flow_timeout_secs=5.0,
    )
    waiting: dict[tuple[int, str, str], list[bytes]] = {}
    for line in World(world).lines():
        slot = int((line.at - world.begin) / 250_000)
        waiting.setdefault((slot, line.device, line.dialect), []).append(line.value)
    seq: dict[tuple[str, str], int] = {}
    sent: list[tuple[float, Message]] = []
    for (slot, device, dialect), values in waiting.items():
        first = seq.get((device, dialect), 1)
        seq[device, dialect] = first + len(values)
        message = Message(0, 0, device.encode(), b"\n".join(values), dialect, "s", first, len(values))
        sent.append((_logged(slot / 4 + 0.3), message))
    last = int(max(at for at, _ in sent)) + CALM_SECS
    sent += [(float(second), Message(0, 0, b"", b"", "tick")) for second in range(last) if _logged(second) == second]
    sent.sort(key=lambda one: one[0])
    begin_ms = world.begin // 1000
    return [
        message._replace(offset=offset, logged_ms=begin_ms + int(at * 1000))
        for offset, (at, message) in enumerate(sent)
    ]


def _logged(at: float) -> float:
    return AWAY[1] if AWAY[0] <= at < AWAY[1] else at


def pipeline(table: Table | None = None) -> Pipeline:
    """Return a new pipeline, restored from the table if one is given."""
    policy = Policy(SETTINGS.protection)
    for one in BEFORE:
        policy.indicators.put(indicator(one), 0)
    made = Pipeline(SETTINGS.correlation, policy)
    made.restore((table or {}).items())
    return made


def mortal(table: Table, batch: list[Message], chance: random.Random, alive: Pipeline) -> Pipeline:
    """Take a batch in as a worker does, which may die before, while or after its state is written."""
    waiting = batch
    while waiting:
        part = waiting[: chance.choice((1, 2, 5, 20))]
        for message in part:
            alive.take(message)
        alive.drain()
        fate = chance.random()
        entries = alive.checkpoint()
        if fate < 0.3:
            alive = pipeline(table)
            continue
        if fate < 0.4:
            table.update(entries[: len(entries) // 2])
            alive = pipeline(table)
            continue
        table.update(entries)
        waiting = waiting[len(part) :]
        if fate < 0.6:
            alive = pipeline(table)
    return alive


def batches(log: list[Message], chance: random.Random) -> Iterator[list[Message]]:
    """Yield the log in batches of any size."""
    rest = iter(log)
    while batch := list(islice(rest, chance.choice((1, 3, 10, 30)))):
        yield batch


@pytest.mark.parametrize("seed", [1, 2])
def test_a_death_anywhere_changes_nothing_that_is_known(seed: int) -> None:
    """The state is always the same, down to each device's latest offset."""
    chance = random.Random(seed)
    table: Table = {}
    peaceful, disturbed = pipeline(), pipeline()
    for batch in batches(log_of(seed), chance):
        for message in batch:
            peaceful.take(message)
        peaceful.drain()
        peaceful.checkpoint()
        disturbed = mortal(table, batch, chance, disturbed)

        assert state_of(pipeline(table)) == state_of(peaceful)
    assert peaceful.book()["connections"] > 100
