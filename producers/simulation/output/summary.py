"""A summary of a world, which shows which cases occurred in it and how often."""

from __future__ import annotations

from collections import Counter

_WIDTH = 13


def in_words(tally: Counter[str]) -> list[str]:
    """Return the lines of the summary: for each subject, the total and the number of each kind."""
    lines, connections, outages = (_family(tally, name) for name in ("lines", "connections", "outages"))
    with_verdict = {name.removeprefix("requests "): tally[name] for name in tally if name.startswith("requests ")}
    odd = {name: tally[name] for name in ("late lines", "doubled lines", "retries") if tally[name]}
    devices = {name: tally[name] for name in ("clocks hours wrong", "mode changes") if tally[name]}
    return [
        _line("devices", tally["devices"], devices),
        _line("connections", sum(connections.values()), connections),
        _line("requests", tally["requests"], with_verdict),
        *([_line("outages", sum(outages.values()), outages)] if outages else []),
        _line("lines", sum(lines.values()), {**lines, **odd}),
    ]


def _family(tally: Counter[str], name: str) -> dict[str, int]:
    return {key.partition(": ")[2]: count for key, count in tally.items() if key.startswith(f"{name}: ") and count}


def _line(name: str, total: int, kinds: dict[str, int]) -> str:
    shown = sorted((item for item in kinds.items() if item[1]), key=lambda item: (-item[1], item[0]))
    return f"{name:{_WIDTH}}{total:>10,}  " + ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in shown)
