"""Workers that are broken on purpose, each disturbed where it must show: who cannot fail proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.faults.run import Result, run
from tests.faults.schedule import Fault, Kind, Schedule
from tests.faults.worker import GUARDED

TRIES_MAX = 3
HOLE_CODE = 78

DIES_OFTEN = Schedule(tuple(Fault(Kind.WORKER_CRASH, 3.0 + 3.5 * n, 0.0, n) for n in range(7)), 31.0)
MOVES_OFTEN = Schedule(
    (
        Fault(Kind.WORKER_DISK_LOST, 3.0, 0.0, 0),
        Fault(Kind.WORKER_JOINS, 5.0, 6.0, 0),
        Fault(Kind.WORKER_DISK_LOST, 12.0, 0.0, 1),
        Fault(Kind.WORKER_LEAVES, 15.0, 8.0, 0),
        Fault(Kind.WORKER_JOINS, 17.0, 8.0, 0),
        Fault(Kind.WORKER_DISK_LOST, 26.0, 0.0, 0),
    ),
    34.0,
)
DIES_AND_FORGETS = Schedule(
    tuple(
        fault
        for n in range(4)
        for fault in (
            Fault(Kind.WORKER_CRASH, 4.0 + 9.0 * n, 0.0, 0),
            Fault(Kind.WORKER_CRASH, 4.1 + 9.0 * n, 0.0, 1),
            Fault(Kind.WORKER_DISK_LOST, 9.5 + 9.0 * n, 0.0, 0),
            Fault(Kind.WORKER_DISK_LOST, 9.6 + 9.0 * n, 0.0, 1),
        )
    ),
    44.0,
)
SLEEPS_AND_FORGETS = Schedule(
    tuple(
        fault
        for n in range(2)
        for fault in (
            Fault(Kind.WORKER_ZOMBIE, 4.0 + 24.0 * n, 16.0, n),
            Fault(Kind.WORKER_DISK_LOST, 21.5 + 24.0 * n, 0.0, 0),
            Fault(Kind.WORKER_DISK_LOST, 21.6 + 24.0 * n, 0.0, 1),
        )
    ),
    56.0,
)
PLANS = {
    "ack-before-delivery": DIES_OFTEN,
    "state-before-outputs": DIES_OFTEN,
    "no-recovery-hook": MOVES_OFTEN,
    "local-state-first": DIES_AND_FORGETS,
    "no-lease": SLEEPS_AND_FORGETS,
    "hole-in-the-offsets": Schedule((), 10.0),
}
DEVICES, LINES_PER_SEC = 300, 900
QUIET_DEVICES = 1_500
"""Many devices with few lines each: a lost entry of one's state is not made good a moment later by its next snapshot."""


class Caught(NamedTuple):
    """By what a broken worker was found out; by nothing is empty."""

    by: str
    result: Result


def run_broken(name: str, folder: Path) -> Caught:
    """Run a broken worker, a few times if need be: not each crash falls on the moment that matters."""
    for seed in range(1, TRIES_MAX + 1):
        result = run(
            seed,
            folder / f"try-{seed}",
            planned=PLANS[name],
            broken=name,
            devices=DEVICES if name in GUARDED else QUIET_DEVICES,
            lines_per_sec=LINES_PER_SEC,
        )
        if by := caught_by(name, result):
            return Caught(by, result)
    return Caught("", result)


def caught_by(name: str, result: Result) -> str:
    """What the oracle counts, or the guard that this break is for; "" when neither saw anything."""
    if name in GUARDED and any(HOLE_CODE in codes for codes in result.exits.values()):
        return f"the continuity check: exit code {HOLE_CODE}"
    counted = {
        "lost": result.verdict.lost,
        "extra": result.verdict.extra,
        "doubled": result.verdict.doubled_for_hunters,
        "differing": result.verdict.differing_for_hunters,
        "wrong": result.verdict.wrong,
        "devices with a wrong state": result.verdict.wrong_state,
    }
    counts = ", ".join(f"{count} {what}" for what, count in counted.items() if count)
    return f"the oracle: {counts}" if counts else ""
