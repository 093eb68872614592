"""Results in words: one line a run, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

Plain = dict[str, Any]


def judged(result: Plain) -> str:
    """One run in a line, and what is wrong below it."""
    verdict = result["verdict"]
    faults = ", ".join(kind for kind, _, _ in result["faults"])
    line = (
        f"seed {result['seed']}: {'good' if result['good'] else 'FAILED'}; {verdict['lines']} lines, {verdict['rows']} rows, "
        f"{verdict['right']} of {verdict['requests']} requests right; lost {verdict['lost']}, extra {verdict['extra']}, "
        f"doubled {verdict['doubled_for_hunters']}, differing {verdict['differing_for_hunters']}, wrong {verdict['wrong']}; "
        f"twice on topics {verdict['published_twice']}, in tables {verdict['stored_twice']}; "
        f"exits {result['exits']}; longest stop {result['stop_secs']} s; {result['secs']} s ({faults})"
    )
    return "\n".join([line, *verdict["details"], *filter(None, [result["trouble"]])])


def table(results: Sequence[Plain]) -> str:
    """Faults, how often, and how long until everything went on, as a table in Markdown."""
    by_kind: dict[str, list[float | None]] = {}
    runs: dict[str, set[int]] = {}
    for result in results:
        for kind, _, secs in result["faults"]:
            by_kind.setdefault(kind, []).append(secs)
            runs.setdefault(kind, set()).add(result["seed"])
    lines = [
        "| fault | times | runs | went on after (median, s) | longest (s) |",
        "|---|---|---|---|---|",
    ]
    for kind, all_secs in sorted(by_kind.items()):
        seen = sorted(secs for secs in all_secs if secs is not None)
        middle, longest = (f"{median(seen):.1f}", f"{seen[-1]:.1f}") if seen else ("", "")
        lines.append(f"| {kind} | {len(all_secs)} | {len(runs[kind])} | {middle} | {longest} |")
    sums = {
        name: sum(result["verdict"][name] for result in results)
        for name in ("lines", "rows", "lost", "extra", "doubled_for_hunters", "differing_for_hunters", "wrong")
    }
    good = sum(result["good"] for result in results)
    lines += [
        "",
        f"{good} of {len(results)} runs good; " + ", ".join(f"{name} {count}" for name, count in sums.items()),
    ]
    return "\n".join(lines)
