"""A simulated world in files: the same lines and the same truth as anywhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from producers.simulation import World, WorldSettings, simulate, truth
from producers.simulation.output import folder as module
from producers.simulation.output.folder import write_folder

SMALL = WorldSettings(seed=8, devices=4, lines_per_sec=200, duration_secs=6, flow_timeout_secs=2)


@pytest.mark.parametrize("waiting_bytes_max", [1, 1 << 25])
def test_files_hold_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting_bytes_max: int) -> None:
    """Each sensor's file has its lines in their order, however often it was opened; the truth stands beside them."""
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", waiting_bytes_max)
    tally = write_folder(SMALL, tmp_path / "world", Event())
    expected: dict[str, list[bytes]] = {}
    for line in simulate(SMALL):
        ending = {"sockets": "sockets.jsonl", "suricata": "eve.json"}[line.dialect]
        expected.setdefault(f"{line.device}.{ending}", []).append(line.value)

    found = {path.name: path.read_bytes().splitlines() for path in (tmp_path / "world").glob("ws-*")}
    assert found == expected
    truths = (tmp_path / "world" / "truth.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in truths] == list(truth(SMALL))
    direct = (tmp_path / "world" / "direct.jsonl").read_text().splitlines()
    assert len(direct) == tally["connections: direct"] > 0
    assert {"server_ip", "host", "t0", "t1"} <= json.loads(direct[0]).keys()


def test_stop_ends_it_early(tmp_path: Path) -> None:
    """When stopped, it leaves what was written by then, in whole lines."""
    stop = Event()

    def progress(lines: int) -> None:
        if lines > 300:
            stop.set()

    write_folder(replace(SMALL, duration_secs=10_000), tmp_path, stop, progress)
    lines = [line for path in tmp_path.glob("ws-*") for line in path.read_bytes().splitlines()]

    assert 300 < len(lines) < 1_000
    assert all(json.loads(line) for line in lines)


def test_tally_counts_the_lines() -> None:
    """What the summary reports of lines is what was given out."""
    world = World(SMALL)
    lines = sum(1 for _ in world.lines())

    assert world.tally["lines: sockets"] + world.tally["lines: suricata"] == lines
