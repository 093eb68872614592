"""Text that cannot steer a terminal, and CSV that a spreadsheet does not run."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unproxy.terminal import HOSTILE, Terminal, strange
from unproxy.output import (
    FORMULA_STARTS,
    colored,
    printable,
    printable_chunks,
    printable_json,
    printable_lines,
    with_formula,
    without_formula,
    without_formulas,
)

WRITES = {
    "stdout": "print(text)",
    "stderr": "print(text, file=sys.stderr)",
    "typer": "typer.echo(text)",
    "colored": "colored(text, 'red')",
    "bytes": "sys.stdout.buffer.write(text.encode() + b'\\xff\\x9b\\n')",
    "log": "telemetry.set_up(service=True); logging.warning(text, extra={'fact': text})",
    "stack": "telemetry.set_up(service=True); logging.exception('x', exc_info=ValueError(text))",
    "error": "raise ValueError(text)",
    "replay": "progress = replaying.Progress.for_terminal(); progress._throttle = Throttle(0.0); progress(1, 2); print(text)",
    "progress": "Progress('', []).print_line(text, 'yellow')",
}
PROGRAM = """
import logging, sys, typer
from unproxy import telemetry
from common.throttle import Throttle
from unproxy.offline import replay as replaying
from unproxy.output import colored, guard
from unproxy.local.progress import Progress
text = sys.argv[1]
guard()
"""

texts = st.text(st.characters() | st.sampled_from("\x1b\x9b\x7f\u202e\ud800\n\r\t\"'=+-@,;"))


class OnTerminal(io.StringIO):
    """A stream that reports to be a terminal."""

    def isatty(self) -> bool:
        """True."""
        return True


def test_no_color_holds_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A colored message has a control sequence on a terminal, none with NO_COLOR and none in a file."""
    shown = {}
    for name, stream, wish in (("color", OnTerminal(), ""), ("none", OnTerminal(), "1"), ("file", io.StringIO(), "")):
        monkeypatch.setenv("NO_COLOR", wish)
        monkeypatch.setattr(sys, "stdout", stream)
        colored("text", "red")
        shown[name] = stream.getvalue()

    assert shown == {"color": "\x1b[31mtext\x1b[0m\n", "none": "text\n", "file": "text\n"}


@given(texts)
def test_nothing_unprintable_is_left(text: str) -> None:
    """Whatever the text, each character that comes out is printable; printable text comes out as it is."""
    shown = printable(text)

    assert shown.isprintable()
    assert printable(shown) == shown


@given(texts)
def test_lines_stay_lines(text: str) -> None:
    """Only line feeds are kept."""
    shown = printable_lines(text)

    assert shown.count("\n") == text.count("\n")
    assert all(line.isprintable() for line in shown.split("\n"))


@given(st.dictionaries(texts, texts))
def test_json_keeps_its_meaning(value: dict[str, str]) -> None:
    """A line of JSON means the same after it."""
    line = json.dumps(value, ensure_ascii=False)

    assert json.loads(printable(line)) == value


def test_json_bytes_keep_their_meaning() -> None:
    """So does a line in UTF-8; ASCII is not touched."""
    line = json.dumps({"a": HOSTILE, "b": "Bücher"}, ensure_ascii=False).encode()

    assert json.loads(printable_json(line)) == json.loads(line)
    assert printable_json(line).decode().isprintable()
    assert "Bücher" in printable_json(line).decode()
    assert printable_json(b'{"a":"\x7f"}') == b'{"a":"\\u007f"}'


@given(texts, st.integers(1, 4))
def test_pieces_are_as_the_whole(text: str, size: int) -> None:
    """UTF-8 may be cut anywhere; bytes that are not UTF-8 are escaped, too."""
    whole = text.encode("utf-8", "surrogatepass")
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    shown = b"".join(printable_chunks(pieces)).decode()

    assert shown == printable_lines(whole.decode("utf-8", "surrogateescape"))


def clickhouse_csv(rows: list[list[str | int]]) -> bytes:
    """As ClickHouse writes it: text quoted, numbers bare."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


@given(st.lists(st.lists(texts | st.integers(), min_size=1), min_size=1), st.integers(1, 5))
def test_formulas_become_text(rows: list[list[str | int]], size: int) -> None:
    """Each text cell that starts like a formula gets an apostrophe, wherever the stream is cut; nothing else changes."""
    whole = clickhouse_csv(rows)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    wanted = [[without_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]

    assert b"".join(without_formulas(pieces)) == clickhouse_csv(wanted)


@given(texts.filter(lambda text: not text.startswith("'")))
def test_formula_comes_back(text: str) -> None:
    """What an export put in front an import takes away."""
    safe = without_formula(text)

    assert not safe.startswith(tuple(FORMULA_STARTS))
    assert with_formula(safe) == text


def on_terminal(code: str, text: str) -> str:
    """What a program that writes `text` sends to its terminal."""
    return Terminal(sys.executable, "-c", PROGRAM + code, text).until_end()


@pytest.mark.parametrize("way", WRITES)
def test_terminal_gets_no_control_character(way: str) -> None:
    """Whatever way text takes to the terminal, only this program's own sequences are in it."""
    sent = on_terminal(WRITES[way], HOSTILE)

    assert strange(sent) == []
    assert r"\u001b]52;c;aGk=" in sent
    assert "[red]markup[/red]" in sent


def test_record_cannot_be_forged() -> None:
    """A line feed in a message, or in an error's text, starts no line that looks like a record."""
    forged = "x\n2026-11-24T19:07:30.000Z error sinks: forged"
    for way in ("log", "stack"):
        sent = on_terminal(WRITES[way], forged)

        assert "forged" in sent
        assert not any(line.startswith("2026-11-24") for line in sent.split("\n"))


def test_pipe_gets_data_exactly_and_text_escaped() -> None:
    """Where no terminal is, bytes of data pass as they are; text for people does not."""
    code = "sys.stdout.buffer.write(text.encode()); sys.stdout.flush(); print(text, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", PROGRAM + code, HOSTILE], capture_output=True, check=True)

    assert done.stdout.decode() == HOSTILE
    assert done.stderr.decode() == f"{printable_lines(HOSTILE)}\n"


def test_closed_streams_are_no_failure() -> None:
    """Without stdout and stderr the program runs all the same."""
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -m unproxy topics >&- 2>&-'], check=False)

    assert done.returncode == 0


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    """Whatever file or folder a command creates has no rights for others, whatever the shell's umask is."""
    out, world = tmp_path / "rows.jsonl", tmp_path / "world"
    for command in (
        f"replay sockets:unproxy/samples/sockets.jsonl.gz --out {out} --summary {out}.sum --rejects {out}.rej",
        f"simulate --devices 1 --duration 1 --rate 10 --out {world}",
    ):
        subprocess.run(
            ["bash", "-c", f'umask 0; "{sys.executable}" -m unproxy {command}'], check=True, capture_output=True
        )

    made = list(tmp_path.rglob("*"))
    assert {out, world} <= set(made)
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in made} == {path.name: "0o0" for path in made}
