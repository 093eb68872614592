"""Lines on a terminal of any width: columns that fit, what does not fit below its line, nothing that steers the terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from unproxy.output import below, json_array, printable
from unproxy.query.formats import PIPE_CHARS
from unproxy.query.timeline import Row, address, marks, short_ids, target
from unproxy.query.times import readable

DATED_CHARS_MIN = 110
"""From this width on a line has its date, milliseconds, process ID and port."""
PROXY_CHARS_MIN = 180
"""From this width on the proxy has a column; below it stands in brackets where a destination's own address is unknown."""
COLORS = {
    "blocked": "red",
    "warned": "yellow",
    "bypassed": "red",
    "audited": "yellow",
    "failed": "yellow",
    "high": "red",
    "medium": "yellow",
}
"""Outcomes and severities that are not plain."""
_BELOW = "    "
_MORE = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of lines."""

    head: str
    text: Callable[[Row], str]
    floor: int = 0
    """Fewest characters that it may be cut to; 0 for a column that is never cut."""
    moves: bool = False
    """Whether it stands below the line where it does not fit."""


def width_of_output() -> int:
    """Return the width of stdout in characters; unlimited unless it is a terminal or COLUMNS is set."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return shutil.get_terminal_size().columns if known else PIPE_CHARS


def write(lines: Iterator[str], *, color: bool) -> None:
    """Write lines; with colors past the guard, so that all other text in them must be escaped already."""
    if not color:
        for line in lines:
            typer.echo(line)
        return
    stream = below(sys.stdout)
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()


def timeline_lines(rows: Sequence[Row], width: int, *, wide: bool = False, color: bool = False) -> Iterator[str]:
    """Yield the head and a line for each row, at most `width` characters each; below a narrow head the days."""
    columns = _timeline_columns(rows, width, wide=wide)
    dated = width >= DATED_CHARS_MIN
    day = ""
    lines = _lines(columns, rows, width, color=color)
    yield next(lines)[0]
    for row, made in zip(rows, lines, strict=True):
        if not dated and (today := readable(row["Timestamp"], 10)) != day:
            day = today
            yield f"{day} (UTC)"
        yield from made


def _timeline_columns(rows: Sequence[Row], width: int, *, wide: bool) -> list[Column]:
    dated, proxy_column = width >= DATED_CHARS_MIN, width >= PROXY_CHARS_MIN
    ids = short_ids([str(row["RecordId"]) for row in rows])

    def remote(row: Row) -> str:
        if row["RemoteIP"]:
            return address(row["RemoteIP"], row["RemotePort"]) if dated else str(row["RemoteIP"])
        return f"({row['ProxyIP']})" if row["ProxyIP"] and not proxy_column else ""

    def process(row: Row) -> str:
        name, pid = row["InitiatingProcessFileName"] or "unknown", row["InitiatingProcessId"]
        return f"{name} ({pid})" if dated and pid is not None else str(name)

    columns = [
        Column("Time (UTC)", lambda row: readable(row["Timestamp"]))
        if dated
        else Column("UTC", lambda row: readable(row["Timestamp"])[11:19]),
        Column("Process", process, floor=12 if dated else 8, moves=True),
        Column("Layer", lambda row: str(row["Layer"])),
        Column("RemoteIP" if proxy_column else "RemoteIP (proxy)" if dated else "RemoteIP", remote),
        Column("Target", target, floor=22 if dated else 14, moves=True),
    ]
    if proxy_column:
        columns.append(Column("Proxy", lambda row: address(row["ProxyIP"], row["ProxyPort"]) if row["ProxyIP"] else ""))
    columns += [
        Column("Outcome", lambda row: str(row["Outcome"])),
        Column("Id", lambda row: ids[row["RecordId"]]),
        Column("Note", lambda row: ", ".join(marks(row)), moves=True),
    ]
    return [*columns, *_WIDE] if wide else columns


def _user(row: Row) -> str:
    return "\\".join(filter(None, (row["InitiatingProcessAccountDomain"], row["InitiatingProcessAccountName"])))


def _number(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else str(row[name])


_WIDE = (
    Column("User", _user, moves=True),
    Column("Sent", _number("BytesSent"), moves=True),
    Column("Received", _number("BytesReceived"), moves=True),
    Column("Status", _number("HttpStatus"), moves=True),
    Column("URL", lambda row: str(row["RemoteUrl"]) if target(row) else "", moves=True),
)


def _lines(columns: Sequence[Column], rows: Sequence[Row], width: int, *, color: bool) -> Iterator[list[str]]:
    """Yield the head, then for each row its line and what stands below it."""
    cells: list[Mapping[str, str]] = [{one.head: printable(one.text(row)) for one in columns} for row in rows]
    sizes = {one.head: max(map(cell_width, [one.head, *(row[one.head] for row in cells)])) for one in columns}
    inside, under = _placed(
        [one for one in columns if not one.moves or any(row[one.head] for row in cells)], sizes, width
    )
    fitted = _fitted(inside, sizes, width)
    gap = _gap(width)
    yield [gap.join(_cut(head, size) for head, size in fitted.items()).rstrip()[:width]]
    for row in cells:
        line = gap.join(_painted(row[head], size, color=color) for head, size in fitted.items()).rstrip()
        more = _MORE.join(f"{one.head} {row[one.head]}" for one in under if row[one.head])
        yield [line, *_folded(more, width)]


def _gap(width: int) -> str:
    return "  " if width >= DATED_CHARS_MIN else " "


def _placed(columns: list[Column], sizes: Mapping[str, int], width: int) -> tuple[list[Column], list[Column]]:
    """Return the columns that fit into the width, and those that are shown on a line below the row.

    The last movable column is moved first, until the remaining ones can be cut to the width.
    """
    inside, under, gap = list(columns), list[Column](), len(_gap(width))
    while sum(min(sizes[one.head], one.floor or PIPE_CHARS) + gap for one in inside) - gap > width:
        movable = [one for one in inside if one.moves]
        if not movable:
            break
        inside.remove(movable[-1])
        under.insert(0, movable[-1])
    return inside, under


def _fitted(columns: Sequence[Column], sizes: Mapping[str, int], width: int) -> dict[str, int]:
    """Return the width of each column: the widest of those that may be cut is cut first."""
    fitted = {one.head: sizes[one.head] for one in columns}
    floors = {one.head: one.floor for one in columns if one.floor}
    over = sum(fitted.values()) + len(_gap(width)) * (len(fitted) - 1) - width
    while over > 0 and (elastic := [head for head, floor in floors.items() if fitted[head] > floor]):
        widest = max(elastic, key=lambda head: fitted[head])
        fitted[widest] -= 1
        over -= 1
    return fitted


def _painted(text: str, size: int, *, color: bool) -> str:
    shown = _cut(text, size)
    return shown.replace(text, typer.style(text, fg=COLORS[text]), 1) if color and text in COLORS else shown


def cell_width(text: str) -> int:
    """Return how many columns a terminal needs for printable text (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _cut(text: str, size: int) -> str:
    """Return text in exactly `size` columns; what is too long loses its middle, as the end of a name shows whose it is."""
    if (width := cell_width(text)) <= size:
        return text + " " * (size - width)
    head = _taken(text, (size - 1) // 2)
    tail = _taken(text[::-1], size - 1 - cell_width(head))[::-1]
    shown = f"{head}…{tail}"
    return shown + " " * (size - cell_width(shown))


def _taken(text: str, size: int) -> str:
    """Return as much of the beginning as fits."""
    used = 0
    for at, char in enumerate(text):
        used += cell_width(char)
        if used > size:
            return text[:at]
    return text


def _folded(text: str, width: int) -> Iterator[str]:
    """Yield text in indented lines of this width."""
    while text:
        piece = _taken(text, max(width - len(_BELOW), 1)) or text[0]
        yield f"{_BELOW}{piece}"
        text = text[len(piece) :]


def records(objects: Iterable[Mapping[str, Any]], *, array: bool) -> Iterator[str]:
    """Return objects as JSON, one a line; `array` makes one JSON array of the lines."""
    lines = (json.dumps(one, ensure_ascii=False) for one in objects)
    return json_array(lines) if array else lines
