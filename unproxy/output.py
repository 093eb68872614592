r"""Safe output: text that cannot control a terminal, and CSV without formulas that a spreadsheet would evaluate.

The authors of device names, URLs, process names, feeds and server answers may be attackers. `guard` replaces sys.stdout
and sys.stderr once, when the command line starts, so that no command can forget to escape:

text, on stdout and stderr      is for people: always escaped, on a terminal or not
sys.stdout.buffer               is data for programs: unchanged, except on a terminal, where it is escaped, too

A control character becomes its JSON escape (`\u001b`), so a JSON line keeps its meaning. This program's own colours and
cursor movements are written to the stream that `below` returns. Other text must pass `printable` before.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FORMULA_STARTS = "=+-@\t\r"
"""First characters by which a spreadsheet takes a cell for a formula (OWASP, CSV injection)."""

NOTIFY_SECS = 2.0
"""Shortest interval, in seconds, between two reports of a command's progress."""

_LINE = re.compile(r"[^\n]+")


def printable(text: str) -> str:
    """Return a text in which each character that is not printable is escaped.

    These are control, format (bidi, zero width), separator and surrogate characters.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Return a text escaped as by `printable`, except for its line feeds."""
    return _LINE.sub(lambda line: printable(line.group()), text)


def printable_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks of UTF-8 text, escaped as by `printable_lines`; a chunk may end within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in chunks:
        yield printable_lines(decoder.decode(chunk)).encode()
    yield printable_lines(decoder.decode(b"", final=True)).encode()


def printable_json(line: bytes) -> bytes:
    """Return a line of JSON escaped as by `printable`. Its meaning is the same: only strings have such characters."""
    return line if line.isascii() and b"\x7f" not in line else printable(line.decode()).encode()


def json_array(lines: Iterable[str]) -> Iterator[str]:
    """Yield JSON lines as the lines of one JSON array."""
    before = "[\n"
    for line in lines:
        yield before + line
        before = ","
    yield "[]" if before == "[\n" else "]"


def notify(message: str) -> None:
    """Write one line about the work to stderr."""
    typer.echo(f"unproxy: {printable(message)}", err=True)


def colored(text: str, color: str, *, err: bool = False) -> None:
    """Write a line to stdout, or to stderr with `err`, in a color if that stream takes colors."""
    stream = sys.stderr if err else sys.stdout
    line = printable_lines(text)
    file = below(stream)
    file.write(f"{typer.style(line, fg=color) if in_color(stream) else line}\n")
    file.flush()


def in_color(stream: TextIO) -> bool:
    """Return whether a stream takes colors: a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def below(stream: TextIO) -> TextIO:
    """Return the stream under `stream` that does not escape, for this program's own control sequences."""
    stream.flush()
    return stream.unguarded if isinstance(stream, _Guarded) else stream


def guard() -> None:
    """Escape everything that this process writes to stdout and stderr from now on."""
    # A stream is None if it was closed before the start.
    if sys.stdout is not None:
        sys.stdout = _Guarded(sys.stdout)
    if sys.stderr is not None:
        sys.stderr = _Guarded(sys.stderr)


class _Guarded(io.TextIOWrapper):
    """A stream that escapes text; on a terminal it also escapes the bytes that are written to `buffer`."""

    def __init__(self, stream: TextIO) -> None:
        on_terminal = stream.isatty()
        if on_terminal and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        super().__init__(
            io.BufferedWriter(_Terminal(stream)) if on_terminal else stream.buffer,
            encoding="utf-8" if on_terminal else stream.encoding,
            errors="backslashreplace",
            line_buffering=on_terminal or stream is sys.stderr,
            write_through=getattr(stream, "write_through", False),
        )
        self.unguarded = stream

    def write(self, text: str) -> int:
        super().write(printable_lines(text))
        return len(text)


class _Terminal(io.RawIOBase):
    """A terminal as a binary stream: it takes UTF-8 and writes it escaped, in the terminal's encoding."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()

    def write(self, data: ReadableBuffer, /) -> int:
        content = bytes(data)
        self._terminal.write(printable_lines(self._decoder.decode(content)))
        self._terminal.flush()
        return len(content)


def without_formula(cell: str) -> str:
    """Return a cell with an apostrophe in front if a spreadsheet would take it for a formula, otherwise unchanged."""
    return f"'{cell}" if cell.startswith(tuple(FORMULA_STARTS)) else cell


def with_formula(cell: str) -> str:
    """Return the cell that `without_formula` got: without the apostrophe that it added."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(tuple(FORMULA_STARTS)) else cell


def without_formulas(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Apply `without_formula` to each text cell of ClickHouse's CSV, and yield the changed chunks.

    ClickHouse quotes text and times, with any delimiter, but not numbers: negative numbers are not changed.
    """
    starts = FORMULA_STARTS.encode()
    in_quotes = False
    at_cell = True  # whether a quote would open a cell; directly after a closing quote it is part of a doubled quote
    opened = False  # whether the quote that opened the current cell was the last byte
    for chunk in chunks:
        pieces: list[bytes] = []
        for number, piece in enumerate(chunk.split(b'"')):
            if number:
                pieces.append(b'"')
                opened = at_cell and not in_quotes
                in_quotes = not in_quotes
                at_cell = False
            if piece:
                if opened and piece[0] in starts:
                    pieces.append(b"'")
                opened = False
                at_cell = not in_quotes
            pieces.append(piece)
        yield b"".join(pieces)
