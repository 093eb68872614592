"""A short fuzz in each test run (`make fuzz` is the long one), and that it would see what it looks for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.dialect import Dialect
from schemas.events import Parsed, Reject
from schemas.parsers import dialects
from schemas.topics import TICK_DIALECT
from streams.model.device import Device
from streams.pipeline import Message, Output, Pipeline
from tests.fuzz import __main__ as program
from tests.fuzz.corpus import corpus
from tests.fuzz.world import MESSAGE_MS_MAX, Verdict, World, run_world

LINES = 20_000
FEW = 1_000


def test_a_world_of_damaged_lines() -> None:
    """Nothing raises, each line is accounted for, rejects keep their bytes, rows can be stored, no line takes long."""
    verdict = run_world(4, 0, LINES)

    assert verdict.found is None, verdict.found
    assert verdict.lines >= LINES
    assert min(verdict.counts[what] for what in ("parsed", "ignored", "rejected", "rows", "alerts", "restarts")) > 0


def test_every_dialect_is_fuzzed() -> None:
    """Real lines of each dialect are played, and taken apart where they are JSON."""
    assert {real.dialect for real in corpus().lines} == set(dialects())
    assert all(real.members for real in corpus().lines if real.value.startswith(b"{"))


def test_a_seed_is_a_world() -> None:
    """The same seed and number give the very same messages."""

    def messages(world: World) -> list[Message]:
        return [world._next() for _ in range(FEW)]

    assert messages(World(1, 2)) == messages(World(1, 2)) != messages(World(1, 3))


def test_a_world_of_one_dialect() -> None:
    """Only its lines are played and read, under its name; another dialect's world is another one."""
    messages = [World(1, 0, FEW, "squid")._next() for _ in range(FEW)]

    assert {message.dialect for message in messages} <= {"squid", TICK_DIALECT}
    assert {real.dialect for real in corpus("squid").lines} == {"squid"}
    verdict = run_world(1, 0, FEW, "squid")
    assert verdict.found is None, verdict.found
    assert verdict.lines >= FEW
    assert verdict.counts != run_world(1, 0, FEW, "winlog").counts


def test_an_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline raises is reported, with the message."""
    take = Pipeline.take

    def fail(pipeline: Pipeline, message: Message) -> None:
        if message.offset > 100:
            raise ZeroDivisionError("fails on purpose")
        take(pipeline, message)

    monkeypatch.setattr(Pipeline, "take", fail)
    found = run_world(1, 0, FEW).found

    assert found is not None
    assert found.problem == "ZeroDivisionError: fails on purpose"
    assert found.message.offset > 100


def test_a_dialect_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the pipeline goes on."""

    def fail(_line: bytes) -> Parsed:
        raise ZeroDivisionError("fails on purpose")

    failing = {**dialects(), "squid": replace(dialects()["squid"], parse=fail)}
    monkeypatch.setattr("streams.pipeline.dialects", lambda: failing)
    found = run_world(1, 0, FEW, "squid").found

    assert found is not None
    assert found.problem.startswith("squid: ZeroDivisionError('fails on purpose'): b'")


def test_a_line_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is counted nowhere spoils the balance."""
    line = Pipeline._line

    def lose(pipeline: Pipeline, home: Device, dialect: Dialect | None, message: Message, value: bytes) -> None:
        if not 100 < message.offset < 110:
            line(pipeline, home, dialect, message, value)

    monkeypatch.setattr(Pipeline, "_line", lose)
    found = run_world(1, 0, FEW).found

    assert found is not None
    assert "lines fed" in found.problem


def test_a_changed_reject_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reject whose bytes are not those of its line is reported."""
    drain = Pipeline.drain

    def change(pipeline: Pipeline) -> Output:
        output = drain(pipeline)
        output.rejects = [Reject(reject.reason, "", reject.raw + b" ") for reject in output.rejects]
        return output

    monkeypatch.setattr(Pipeline, "drain", change)
    found = run_world(1, 0, FEW).found

    assert found is not None
    assert "a reject is none of the lines" in found.problem


def test_a_slow_line_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that takes long each time is reported; one that took long once is not."""
    take = Pipeline.take
    slow = {"times": 1}

    def dawdle(pipeline: Pipeline, message: Message) -> None:
        take(pipeline, message)
        if message.offset > 100 and slow["times"]:
            slow["times"] -= 1
            until = time.thread_time() + 2 * MESSAGE_MS_MAX / 1_000
            while time.thread_time() < until:
                pass

    monkeypatch.setattr(Pipeline, "take", dawdle)
    assert run_world(1, 0, FEW).found is None

    slow["times"] = 10
    found = run_world(1, 0, FEW).found
    assert found is not None
    assert "ms of CPU time for one message" in found.problem


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the verdict; what it found lies in a file that can be tried again."""
    monkeypatch.setattr(program, "WORLD_LINES", FEW)
    monkeypatch.setattr(program, "verdicts", lambda *_: iter([run_world(1, number, FEW) for number in range(3)]))

    assert program.main(["--lines", "3000", "--out", str(tmp_path)]) == 0
    assert "nothing found" in capsys.readouterr().out
    saved = json.loads((tmp_path / "slowest.json").read_text())
    assert saved["problem"] == "the slowest"
    assert program.main(["--replay", str(tmp_path / "slowest.json")]) == 0

    monkeypatch.setattr(Pipeline, "drain", lambda _: None)
    assert program.main(["--lines", "3000", "--out", str(tmp_path)]) == 1
    assert "python -m tests.fuzz --replay" in capsys.readouterr().err
    assert (tmp_path / "1-0.json").exists()


def test_program_takes_one_dialect_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `all` each has so many lines and a table of its own; what is found names the dialect of its world."""
    monkeypatch.setattr(program, "WORLD_LINES", FEW)
    asked = []

    def verdicts(lines: int, seed: int, jobs: int, dialect: str) -> Iterator[Verdict]:
        asked.append((dialect, lines, seed, jobs))
        yield run_world(seed, 0, FEW, dialect)

    monkeypatch.setattr(program, "verdicts", verdicts)
    monkeypatch.setattr(program, "dialects", lambda: ["squid", "zeek"])
    called = ["--lines", "1000", "--out", str(tmp_path), "--dialect"]

    assert program.main([*called, "all"]) == 0
    assert asked == [("squid", 1000, 1, 2), ("zeek", 1000, 1, 2)]
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("dialects")] == [
        "squid",
        "zeek",
    ]
    assert program.main(["--replay", str(tmp_path / "zeek-slowest.json")]) == 0
    monkeypatch.setattr(Pipeline, "drain", lambda _: None)
    assert program.main([*called, "zeek"]) == 1
    assert json.loads((tmp_path / "zeek-1-0.json").read_text())["of"] == "zeek"


def test_processes_share_the_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each world is run once, whichever process has it."""
    monkeypatch.setattr(program, "WORLD_LINES", FEW)

    assert sorted(verdict.world for verdict in program.verdicts(10 * FEW, 1, 2)) == list(range(10))
