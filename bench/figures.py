"""Figures of one run: named numbers per case, as a table for people and as JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Case:
    """What was measured once: `part` is one of the bench's parts."""

    part: str
    name: str
    figures: dict[str, float]


def per_event(seconds: float, events: int) -> dict[str, float]:
    """The same cost in the two ways people ask for it."""
    return {"events/s": events / seconds, "µs/event": seconds / events * 1e6}


def table(cases: Sequence[Case]) -> str:
    """The cases of each part side by side, a line a figure."""
    blocks = []
    for part in dict.fromkeys(case.part for case in cases):
        mine = [case for case in cases if case.part == part]
        names = list(dict.fromkeys(name for case in mine for name in case.figures))
        rows = [[part, *(case.name for case in mine)]]
        rows += [[name, *(_number(case.figures.get(name)) for case in mine)] for name in names]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        blocks.append("\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]))
    return "\n\n".join(blocks)


def as_json(cases: Sequence[Case]) -> bytes:
    """The cases as one JSON array."""
    return msgspec.json.format(msgspec.json.encode(cases), indent=2) + b"\n"


def report_progress(what: str) -> None:
    """A line of progress."""
    print(what, file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}"
