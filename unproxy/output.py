r"""What leaves this program: text that cannot steer a terminal, CSV that a spreadsheet does not run.

Device names, URLs, process names, feeds and server answers hold whatever their author wants. `guard` replaces sys.stdout
and sys.stderr once, when the command line starts, so that no command can forget to escape:

text, on stdout and stderr      is for people: always escaped, on a terminal or not
sys.stdout.buffer               is data for programs: exact, except on a terminal, where it is escaped too

A control character becomes its JSON escape (`\u001b`), so a JSON line keeps its meaning. This program's own colours and
cursor movements go to the stream `below`, whose data must pass `printable` first.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FORMULA_STARTS = "=+-@\t\r"
"""First characters that make a spreadsheet run a cell (OWASP, CSV injection)."""

NOTIFY_SECS = 2.0
"""Shortest interval between two reports of a command's progress."""

_LINE = re.compile(r"[^\n]+")


def printable(text: str) -> str:
    """Escape every character that is not printable: control, format (bidi, zero width), separator, surrogate."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Escape likewise, but keep line feeds."""
    return _LINE.sub(lambda line: printable(line.group()), text)


def printable_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Escape likewise UTF-8 that comes in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in chunks:
        yield printable_lines(decoder.decode(chunk)).encode()
    yield printable_lines(decoder.decode(b"", final=True)).encode()


def printable_json(line: bytes) -> bytes:
    """Escape likewise one line of JSON, which stays exact: outside of strings it is ASCII."""
    return line if line.isascii() and b"\x7f" not in line else printable(line.decode()).encode()


def notify(message: str) -> None:
    """Write one line about the work to stderr."""
    typer.echo(f"unproxy: {printable(message)}", err=True)


def colored(text: str, color: str, *, err: bool = False) -> None:
    """Write a line in a color; plain where stdout (stderr with `err`) is not a terminal."""
    stream = sys.stderr if err else sys.stdout
    line = printable_lines(text)
    file = below(stream)
    file.write(f"{typer.style(line, fg=color) if stream.isatty() else line}\n")
    file.flush()


def below(stream: TextIO) -> TextIO:
    """Return the stream that does not escape, for this program's own sequences."""
    stream.flush()
    return stream.unguarded if isinstance(stream, _Guarded) else stream


def guard() -> None:
    """Escape whatever this process writes to stdout and stderr from now on."""
    # A stream that was closed before the start is None.
    if sys.stdout is not None:
        sys.stdout = _Guarded(sys.stdout)
    if sys.stderr is not None:
        sys.stderr = _Guarded(sys.stderr)


class _Guarded(io.TextIOWrapper):
    """Text is escaped; on a terminal what is written to `buffer` is, too."""

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
    """A terminal as a binary stream: UTF-8 in, escaped text out, in the terminal's own encoding."""

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
    """Make a text cell that a spreadsheet would run a text, with an apostrophe in front."""
    return f"'{cell}" if cell.startswith(tuple(FORMULA_STARTS)) else cell


def with_formula(cell: str) -> str:
    """Undo `without_formula`."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(tuple(FORMULA_STARTS)) else cell


def without_formulas(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Do so with every text cell of ClickHouse's CSV, in pieces as it comes.

    ClickHouse quotes text and times, whatever the delimiter, and leaves numbers bare: a negative number stays a number.
    """
    starts = FORMULA_STARTS.encode()
    in_quotes = False
    at_cell = True  # the next quote opens a cell; after a closing quote it would be a doubled one
    opened = False  # nothing came yet since the quote that opened this cell
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
