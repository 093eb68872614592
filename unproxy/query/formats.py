"""Rows on a terminal: plain columns that fit, the interesting ones first, nothing in them that could steer the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence

CELL_CHARS_MAX = 44
PIPE_CHARS = 100_000
"""Width where nobody looks: everything fits."""
SCREEN_CHARS_WITHOUT_TERMINAL = 140

PREFERRED = (
    "Timestamp", "DeviceName", "InitiatingProcessFileName", "ActionType", "RemoteIP", "RemotePort", "RemoteUrl",
    "Outcome", "ProxyIP", "ProxyPort", "Layer", "ResolvedBy", "UnresolvedReason", "InitiatingProcessId", "Kind",
    "DestinationDomain", "Count", "LastTime", "LocalIP", "LocalPort", "ProtectionMode", "Confidence",
    "DestinationHost", "DestinationPort", "ConnectionId", "RecordId",
)  # fmt: skip
"""The order in which columns of a wide row earn their place."""


def printable(text: str) -> str:
    """Text from a sensor without anything that steers a terminal or hides what it says."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def cell(value: object) -> str:
    """One value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return printable(", ".join(str(item) for item in value))
    return printable(str(value))


def screen_width() -> int:
    """How many characters fit on a line of stdout; no limit when it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_CHARS


def readable_width() -> int:
    """The same for output that is meant for people even where it goes to a file."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return shutil.get_terminal_size().columns if known else SCREEN_CHARS_WITHOUT_TERMINAL


def table(names: Sequence[str], rows: Iterable[Sequence[object]], width: int) -> tuple[list[str], list[str]]:
    """Lines of a table that fits the width, and the names of the columns that did not get a place."""
    cells = [[cell(value) for value in row] for row in rows]
    cut = CELL_CHARS_MAX if width < PIPE_CHARS else PIPE_CHARS
    widths = [
        min(max([len(name), *(len(row[at]) for row in cells)]), max(cut, len(name))) for at, name in enumerate(names)
    ]
    filled = [at for at in range(len(names)) if not cells or any(row[at] for row in cells)]
    shown = filled if sum(widths[at] + 2 for at in filled) - 2 <= width else _chosen(names, filled, widths, width)
    lines = [_line([names[at] for at in shown], [widths[at] for at in shown])]
    lines.append("  ".join("─" * widths[at] for at in shown))
    lines.extend(_line([row[at] for at in shown], [widths[at] for at in shown]) for row in cells)
    return lines, [names[at] for at in filled if at not in shown]


def _chosen(names: Sequence[str], filled: list[int], widths: list[int], width: int) -> list[int]:
    """The columns that get a place: preferred ones first, then in the table's order."""
    rank = {name: place for place, name in enumerate(PREFERRED)}
    chosen, left = [], width + 2
    for at in sorted(filled, key=lambda at: (rank.get(names[at], len(rank)), at)):
        if widths[at] + 2 <= left:
            chosen.append(at)
            left -= widths[at] + 2
    if not chosen and filled:
        chosen, widths[filled[0]] = [filled[0]], max(width, 4)
    return sorted(chosen, key=lambda at: (rank.get(names[at], len(rank)), at))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_fit(text, size) for text, size in zip(cells, widths, strict=True)).rstrip()


def _fit(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else text[: size - 1] + "…"
