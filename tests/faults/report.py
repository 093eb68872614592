"""Results in words: one line a run, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

Plain = dict[str, Any]
WRONGS = ("lost", "extra", "doubled_for_hunters", "differing_for_hunters", "wrong", "wrong_state")


def verdict_line(result: Plain) -> str:
    """One run in a line, and what is wrong below it."""
    verdict = result["verdict"]
    counted = ", ".join(f"{name} {verdict[name]}" for name in WRONGS)
    exits = ", ".join(f"{name} {codes}" for name, codes in result["exits"].items() if codes)
    return "\n".join(
        [
            f"seed {result['seed']}: {'good' if result['good'] else 'FAILED'} in {result['secs']} s; {verdict['lines']} lines, "
            f"{verdict['rows']} rows, {verdict['right']} of {verdict['requests']} requests right; {counted}",
            f"  {', '.join(kind for kind, _, _ in result['faults'])}",
            f"  ended: {exits or 'none'}; longest stop {result['stop_secs']} s; caught up after {result['caught_up_secs']} s; "
            f"twice on topics {verdict['published_twice']}, in tables of versions {verdict['stored_twice']}",
            f"  peak MB: {result['peak_mb']}",
            *(f"  damaged by a full disk, cured by `unproxy detach-damaged`: {part}" for part in result["cured"]),
            *verdict["details"],
            *filter(None, [result["trouble"]]),
        ]
    )


def table(results: Sequence[Plain]) -> str:
    """Faults, how often, and how long until everything went on, as a table in Markdown."""
    by_kind: dict[str, list[float | None]] = {}
    runs: dict[str, set[int]] = {}
    for result in results:
        for kind, _, secs in result["faults"]:
            by_kind.setdefault(kind, []).append(secs)
            runs.setdefault(kind, set()).add(result["seed"])
    lines = [
        "| fault | times | runs | continued after (median, s) | longest (s) |",
        "|---|---|---|---|---|",
    ]
    for kind, all_secs in sorted(by_kind.items()):
        seen = sorted(secs for secs in all_secs if secs is not None)
        middle, longest = (f"{median(seen):.1f}", f"{seen[-1]:.1f}") if seen else ("", "")
        lines.append(f"| {kind} | {len(all_secs)} | {len(runs[kind])} | {middle} | {longest} |")
    sums = {name: sum(result["verdict"][name] for result in results) for name in ("lines", "rows", *WRONGS)}
    good = sum(result["good"] for result in results)
    lines += [
        "",
        f"{good} of {len(results)} runs good; " + ", ".join(f"{name} {count}" for name, count in sums.items()),
    ]
    if cured := [result["cured"] for result in results if result["cured"]]:
        lines += ["", f"damaged parts cured by `unproxy detach-damaged`: {sum(map(len, cured))} in {len(cured)} runs"]
    return "\n".join(lines)
