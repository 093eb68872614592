"""Steps of the hot path: Python bytecodes and calls per event over a fixed input, by layer, compared with a budget.

    python -m bench.steps            # compare; exit code 1 where a layer is more than 2 % above its budget
    python -m bench.steps --write    # write bench/steps.toml from this run

Unlike times, steps are the same on every machine and in every run. They depend on the version of Python, so the budget
holds for one; with another version the figures are shown and not compared.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tomllib
from collections import Counter
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from bench.correlator import REST_MS, WARM_ROUNDS, Run
from bench.fleet import Fleet
from schemas.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
BUDGET = ROOT / "bench" / "steps.toml"
TOLERANCE = 0.02
"""A layer may be above its budget by this share."""
DEVICES, OPEN, WARM_MESSAGES, MESSAGES = 200, 1_000, 400, 40
"""The input: open tunnels of so many devices, messages that are not counted, messages that are."""
LAYERS = (
    "schemas",
    "streams.correlate",
    "streams.assess",
    "streams.alerts",
    "streams.model",
    "streams.rows",
    "streams",
)
"""A module counts for the first of these that it belongs to; the last one is the pipeline and all other layers."""


def measure() -> dict[str, float]:
    """Return bytecodes per event of each layer, and `calls`, Python function calls per event."""
    run, fleet = Run(Settings()), Fleet(DEVICES)
    run.preload(fleet, OPEN)
    run.pass_time(REST_MS)
    run.feed(fleet.rounds(WARM_ROUNDS))
    messages = fleet.rounds(WARM_ROUNDS)
    run.feed(islice(messages, WARM_MESSAGES))
    counted = list(islice(messages, MESSAGES))
    run.reset()
    steps, calls = Counter[CodeType](), Counter[CodeType]()

    def called(frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        calls[code] += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def stepped(_frame: FrameType, event: str, _argument: Any) -> Any:
            if event == "opcode":
                steps[code] += 1
            return stepped

        return stepped

    sys.settrace(called)
    run.feed(counted)
    sys.settrace(None)
    found = dict.fromkeys(LAYERS, 0)
    for code, count in steps.items():
        if layer := _layer_of(code):
            found[layer] += count
    per_event = {layer: round(count / run.events, 1) for layer, count in found.items()}
    return per_event | {"calls": round(sum(count for code, count in calls.items() if _layer_of(code)) / run.events, 2)}


def above(found: dict[str, float], budget: dict[str, float]) -> list[str]:
    """Return a line for each figure that is more than `TOLERANCE` above its budget."""
    return [
        f"{name}: {found[name]:g} an event, {found[name] / limit - 1:+.1%} against the budget of {limit:g}"
        for name, limit in budget.items()
        if found[name] > limit * (1 + TOLERANCE)
    ]


def _layer_of(code: CodeType) -> str:
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return ""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return next((layer for layer in LAYERS if module.startswith(f"{layer}.")), "")


def _as_toml(found: dict[str, float]) -> str:
    lines = [
        "# Bytecodes and calls per event, by layer; written by `python -m bench.steps --write`.",
        f'python = "{_version()}"',
        "",
        "[budget]",
        *(f'"{name}" = {value:g}' for name, value in found.items()),
    ]
    return "\n".join(lines) + "\n"


def _version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def main() -> int:
    """Measure, show, and compare or write."""
    parser = argparse.ArgumentParser(
        description="Count steps of the hot path.", epilog="example: python -m bench.steps"
    )
    parser.add_argument("--write", action="store_true", help="write bench/steps.toml from this run")
    write = parser.parse_args().write
    found = measure()
    for name, value in found.items():
        print(f"{name:20} {value:8g}")
    if write:
        BUDGET.write_text(_as_toml(found), encoding="utf-8")
        return 0
    known = tomllib.loads(BUDGET.read_text(encoding="utf-8"))
    if known["python"] != _version():
        print(f"not compared: the budget is for Python {known['python']}, this is {_version()}", file=sys.stderr)
        return 0
    wrong = above(found, known["budget"])
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(
            "save the steps elsewhere, or raise the budget with --write and give the reason in the commit",
            file=sys.stderr,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
