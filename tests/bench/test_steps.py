"""Steps of the hot path stay within their budget, and a layer that grows is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.steps import above

ROOT = Path(__file__).parents[2]


def test_the_hot_path_is_within_its_budget() -> None:
    """In a process of its own, so that no other test has filled a cache."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.steps"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )

    assert (done.returncode, done.stderr) in ((0, ""), (0, done.stderr if "not compared" in done.stderr else ""))


def test_what_is_more_than_two_percent_above_fails() -> None:
    budget = {"schemas": 400.0, "calls": 80.0}

    assert above({"schemas": 408.0, "calls": 80.0}, budget) == []
    assert above({"schemas": 408.1, "calls": 79.0}, budget) == [
        "schemas: 408.1 an event, +2.0% against the budget of 400"
    ]
