"""Formats rows as a text table: the most informative columns that fit the width, escaped for the terminal."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from unproxy.output import printable, without_formula

if TYPE_CHECKING:
    from unproxy.query.hunt import Answer

CELL_CHARS_MAX = 44
CELL_CHARS_MIN = 19
PIPE_CHARS = 100_000
"""Width, in characters, if stdout is not a terminal: all columns fit."""
SCREEN_CHARS_WITHOUT_TERMINAL = 140
"""Width of output for people, in characters, if the terminal's width is unknown."""

PREFERRED = (
    "Timestamp", "DeviceName", "InitiatingProcessFileName", "RemoteUrl", "Outcome", "RemoteIP", "RemotePort",
    "Layer", "ProxyIP", "ProxyPort", "ActionType", "ResolvedBy", "UnresolvedReason", "InitiatingProcessId", "Kind",
    "Status", "FromTime", "ToTime", "LinesMissing",
    "DestinationDomain", "Count", "LastTime", "LocalIP", "LocalPort", "ProtectionMode", "Confidence",
    "DestinationHost", "DestinationPort", "ConnectionId", "RecordId",
)  # fmt: skip
"""The columns to prefer if not all fit, in this order."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+Z?")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+")


class Format(StrEnum):
    """Output format of a query."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class HuntFormat(StrEnum):
    """How the rows of a hunt are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


def written(answer: Answer, output: HuntFormat, *, raw_csv: bool = False) -> None:
    """Write rows to stdout as a table, JSON, lines of JSON or CSV."""
    if output is HuntFormat.TABLE:
        lines, hidden = table(answer.names, answer.rows, screen_width())
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        if hidden:
            sys.stderr.write(
                f"{len(hidden)} more columns do not fit; project the ones you want, or --format jsonl shows all\n"
            )
    elif output is HuntFormat.CSV:
        lines_out = csv.writer(sys.stdout, lineterminator="\n")
        lines_out.writerow(answer.names)
        for row in answer.rows:
            texts = [csv_cell(value) for value in row]
            lines_out.writerow(texts if raw_csv else [without_formula(text) for text in texts])
    else:
        records = (dict(zip(answer.names, row, strict=True)) for row in answer.rows)
        if output is HuntFormat.JSONL:
            for record in records:
                sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(json.dumps(list(records), ensure_ascii=False, indent=2) + "\n")


def csv_cell(value: object) -> str:
    """Return a value as the text of a CSV cell: lists and bags as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell(value: object) -> str:
    """Return the text of a value in a table, escaped for the terminal; "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return printable(", ".join(str(item) for item in value))
    if isinstance(value, list | dict):
        return printable(json.dumps(value, ensure_ascii=False))
    return printable(str(value))


def screen_width() -> int:
    """Return the width of stdout in characters; unlimited unless it is a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_CHARS


def readable_width() -> int:
    """Return the width for output that only people read: that of the terminal, else a fixed one, also for a file."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return shutil.get_terminal_size().columns if known else SCREEN_CHARS_WITHOUT_TERMINAL


def table(names: Sequence[str], rows: Iterable[Sequence[object]], width: int) -> tuple[list[str], list[str]]:
    """Return the lines of a table that fits the width, and the names of the columns that do not fit."""
    names = [printable(name) for name in names]
    cells = [[cell(value) for value in row] for row in rows]
    filled = [at for at in range(len(names)) if not cells or any(row[at] for row in cells)]
    whole = {at: max(len(names[at]), *(len(row[at]) for row in cells)) if cells else len(names[at]) for at in filled}
    if sum(whole.values()) + 2 * len(whole) - 2 <= width:
        heads = {at: [names[at]] for at in filled}
        return _lines(heads, whole, cells), []

    cut = min(CELL_CHARS_MAX, max(CELL_CHARS_MIN, width // 4))
    heads, sizes = {}, {}
    for at in filled:
        longest = max((len(row[at]) for row in cells), default=len(names[at]))
        heads[at] = _wrapped(names[at], min(longest, cut))
        sizes[at] = max(min(longest, cut), *(len(line) for line in heads[at]))
    shown = _chosen(names, sizes, width)
    return _lines({at: heads[at] for at in shown}, sizes, cells), [names[at] for at in filled if at not in shown]


def _wrapped(name: str, width: int) -> list[str]:
    """Return a column's name, broken between its words into lines."""
    lines = [""]
    for word in _WORDS.findall(name):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return lines


def _chosen(names: Sequence[str], sizes: dict[int, int], width: int) -> list[int]:
    """Return the columns that fit the width: first those of `PREFERRED`, then the others in the order of the table."""
    rank = {name: place for place, name in enumerate(PREFERRED)}
    chosen: list[int] = []
    left = width + 2
    for at in sorted(sizes, key=lambda at: (rank.get(names[at], len(rank)), at)):
        if sizes[at] + 2 <= left or not chosen:
            chosen.append(at)
            left -= sizes[at] + 2
    return chosen


def _lines(heads: dict[int, list[str]], sizes: dict[int, int], cells: list[list[str]]) -> list[str]:
    """Return the lines of a table with the columns in `heads`: the heads, a rule and the rows."""
    height = max((len(head) for head in heads.values()), default=0)
    tops = {at: [""] * (height - len(head)) + head for at, head in heads.items()}
    lines = ["  ".join(tops[at][level].ljust(sizes[at]) for at in heads).rstrip() for level in range(height)]
    lines.append("  ".join("─" * sizes[at] for at in heads))
    lines.extend("  ".join(_fit(row[at], sizes[at]) for at in heads).rstrip() for row in cells)
    return lines


def _fit(text: str, size: int) -> str:
    if len(text) <= size:
        return text.ljust(size)
    return text[:size] if _TIME.fullmatch(text) else text[: size - 1] + "…"
