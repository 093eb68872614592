"""What goes wrong, and when: a seed gives one schedule, always the same."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What can be done to a running pipeline."""

    WORKER_KILL = "worker: kill -9"
    WORKER_CRASH = "worker: dies between two steps of a batch"
    WORKER_TERM = "worker: SIGTERM, started again"
    WORKER_ZOMBIE = "worker: stopped longer than its session, then goes on"
    WORKER_JOINS = "worker: one more joins"
    WORKER_LEAVES = "worker: one leaves, later comes back"
    WORKER_DISK_LOST = "worker: kill -9 and its disk is lost"
    WORKER_DISK_FULL = "worker: disk full"
    WORKER_HANGS = "worker: a line on which its parser hangs"
    SINK_KILL = "sink: kill -9"
    SINK_TERM = "sink: SIGTERM, started again"
    SINK_ZOMBIE = "sink: stopped longer than its session, then goes on"
    SINK_LEAVES = "sink: one leaves, later comes back"
    PRODUCER_KILL = "producer: kill -9"
    BROKER_KILL = "broker: kill -9, started again"
    BROKER_AWAY = "broker: away for 30 s"
    BROKER_HANGS = "broker: hangs"
    NETWORK_CUT = "network to Kafka: every connection cut"
    NETWORK_STALLS = "network to Kafka: stalls"
    CLICKHOUSE_REFUSES = "ClickHouse: refuses connections"
    CLICKHOUSE_HANGS = "ClickHouse: hangs"
    CLICKHOUSE_DIES = "ClickHouse: kill -9 in the middle of an insert"
    CLICKHOUSE_DISK_FULL = "ClickHouse: disk full"


SECS: dict[Kind, tuple[float, float]] = {
    Kind.WORKER_ZOMBIE: (8.0, 10.0),
    Kind.WORKER_JOINS: (4.0, 8.0),
    Kind.WORKER_LEAVES: (3.0, 9.0),
    Kind.WORKER_DISK_FULL: (3.0, 6.0),
    Kind.WORKER_HANGS: (40.0, 40.0),  # two deaths: the load goes on until the partition does
    Kind.SINK_ZOMBIE: (8.0, 10.0),
    Kind.SINK_LEAVES: (3.0, 9.0),
    Kind.BROKER_KILL: (0.0, 2.0),
    Kind.BROKER_AWAY: (30.0, 30.0),
    Kind.BROKER_HANGS: (4.0, 9.0),
    Kind.NETWORK_STALLS: (3.0, 9.0),
    Kind.CLICKHOUSE_REFUSES: (2.0, 8.0),
    Kind.CLICKHOUSE_HANGS: (4.0, 9.0),
    Kind.CLICKHOUSE_DISK_FULL: (3.0, 6.0),
}
"""How long each lasts, from and to; the others are over as soon as they are done."""

RARE = {Kind.BROKER_AWAY: 0.4, Kind.WORKER_HANGS: 0.4}
"""Drawn less often, as they make a run much longer."""
FIRST_SECS = 2.0
CALM_SECS = 5.0
"""Load that goes on after the last fault: the system must work on."""
LOAD_SECS_MIN = 20.0
FAULTS = (3, 5)


class Fault(NamedTuple):
    """One thing that goes wrong."""

    kind: Kind
    at_secs: float
    """After the load began."""
    secs: float
    target: int
    """Which of the parts of that kind; more than there are wraps around."""


class Schedule(NamedTuple):
    """All that goes wrong in a run, in order."""

    faults: tuple[Fault, ...]
    load_secs: float


def schedule(seed: int, kinds: tuple[Kind, ...] = tuple(Kind)) -> Schedule:
    """The schedule of a seed. Seeds that follow each other go round all kinds; the rest is drawn."""
    chance = random.Random(f"faults {seed}")
    sure = kinds[seed % len(kinds)]
    weights = [RARE.get(kind, 1.0) for kind in kinds]
    drawn = [sure, *chance.choices(kinds, weights, k=chance.randint(*FAULTS) - 1)]
    # One long absence is enough for a run.
    long = drawn.count(Kind.BROKER_AWAY)
    for _ in range(long - 1):
        drawn.remove(Kind.BROKER_AWAY)
    while len(drawn) < FAULTS[0]:
        drawn.append(chance.choice([kind for kind in kinds if kind is not Kind.BROKER_AWAY] or list(kinds)))
    chance.shuffle(drawn)
    faults: list[Fault] = []
    at = FIRST_SECS + chance.uniform(0, 2)
    for kind in drawn:
        secs = chance.uniform(*SECS.get(kind, (0.0, 0.0)))
        faults.append(Fault(kind, round(at, 3), round(secs, 3), chance.randrange(8)))
        # Some begin while the one before is still going on.
        at += chance.uniform(1.0, 6.0) if chance.random() < 0.5 else secs + chance.uniform(0.5, 4.0)
    over = max(fault.at_secs + fault.secs for fault in faults)
    return Schedule(tuple(faults), max(LOAD_SECS_MIN, over + CALM_SECS))
