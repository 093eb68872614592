"""A short set of disturbed runs; `make soak` has the long one."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.faults.parts import ROOT
from tests.faults.schedule import FAULTS, LOAD_SECS_MIN, Kind, schedule
from tests.faults.watch import Look, went_on_after

SECS_MAX = 1_200
"""Of a run that hangs; none takes so long, on whatever machine."""


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the harness; it has a mount namespace and processes of its own."""
    command = [sys.executable, "-m", "tests.faults", "--out", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECS_MAX, check=False)


def test_disturbed_runs_lose_double_and_falsify_nothing(tmp_path: Path) -> None:
    """Two seeds: what is on the topics and what hunters see is what the same log gives in peace."""
    done = harness(tmp_path, "--seeds", "2", "--first", "2", "--jobs", "2")

    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert "2 of 2 runs good" in done.stdout


def test_a_part_damaged_by_a_full_disk_is_cured(tmp_path: Path) -> None:
    """Sinks wait for rows in an unreadable part and reject none; it is detached, and its rows are written again."""
    done = harness(tmp_path, "--damage")

    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert "cured by `unproxy detach-damaged`: DeviceNetworkEvents_versions " in done.stdout


def test_a_worker_that_acknowledges_too_early_is_caught(tmp_path: Path) -> None:
    """The oracle is not blind: a worker that acknowledges before it delivers loses rows, and the oracle finds it."""
    done = harness(tmp_path, "--broken", "ack-before-delivery")

    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert "the oracle" in done.stdout


def test_schedules_follow_from_their_seed() -> None:
    """The same seed gives the same faults; a hundred of them have every kind many times."""
    drawn = [schedule(seed) for seed in range(1, 101)]
    kinds = Counter(fault.kind for one in drawn for fault in one.faults)

    assert drawn == [schedule(seed) for seed in range(1, 101)]
    assert all(len(one.faults) >= FAULTS[0] and one.load_secs >= LOAD_SECS_MIN for one in drawn)
    assert min(kinds[kind] for kind in Kind) >= 5


def test_recovery_is_read_off_the_commits() -> None:
    """Everything went on when every partition has moved, not before."""
    looks = [Look(1.0, (5, 5)), Look(3.0, (6, 5)), Look(4.5, (7, 6))]

    assert went_on_after(looks, 2.0) == 2.5
    assert went_on_after(looks, 4.6) is None
