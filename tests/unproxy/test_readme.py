"""The first walk in README.md: its commands work as they are pasted, and what it promises comes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from unproxy.cli import run

README = Path("README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in README.split("```")[1::2]
    for line in block.splitlines()
    if ".venv/bin/un" in line
]
LISTED = "cdn.test"


def commands(verb: str) -> list[list[str]]:
    """Those of a verb."""
    return [command for command in COMMANDS if verb in command[:3]]


def test_fleet_asks_for_what_is_listed(tmp_path: Path) -> None:
    """The made-up fleet makes requests for the listed domain, whatever the seed: so an alert comes while a user follows."""
    (added,), (simulated,) = commands("indicators"), commands("simulate")
    options = simulated[simulated.index("simulate") + 1 :]
    assert added[:3] == ["indicators", "add", LISTED]
    for seed in "123":
        world = tmp_path / seed
        assert run(["simulate", *options, "--seed", seed, "--out", str(world)]) == 0
        asked = [json.loads(line) for line in (world / "truth.jsonl").read_text().splitlines()]
        assert [one for one in asked if one["host"].endswith(LISTED) and one["verdict"] == "allowed"]


def test_list_on_the_sample_raises_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What needs no Kafka is run from the project's folder."""
    (tmp_path / "unproxy").symlink_to(Path("unproxy").absolute())
    monkeypatch.chdir(tmp_path)
    assert f"echo {LISTED} > my-list.txt" in README
    (tmp_path / "my-list.txt").write_text(f"{LISTED}\n")
    for command in commands("replay"):
        assert run(command) == 0

    assert f"indicator: block {LISTED}" in capsys.readouterr().out
    assert (tmp_path / "rows.jsonl").stat().st_size
