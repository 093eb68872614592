"""`unproxy simulate`: files that `replay` reads and the truth beside them; Kafka; and a graceful end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message

from schemas.settings import PREFIX, Settings
from schemas.topics import TELEMETRY
from tests.factories import latest
from tests.producers.conftest import messages_of as _messages_of
from tests.sample import score
from unproxy.cli import run
from unproxy.local.servers.service import free_port

SMALL = ["simulate", "--devices", "6", "--rate", "300", "--duration", "6", "--flow-timeout", "2"]
messages_of = _messages_of


def environment(settings: Settings) -> dict[str, str]:
    """Settings as a process finds them."""
    return {
        f"{PREFIX}KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        f"{PREFIX}KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
    }


def test_files_are_read_back_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was written reads back through `replay`, with nothing wrong; the summary has what was in it."""
    world, rows = tmp_path / "world", tmp_path / "rows.jsonl"
    assert run([*SMALL, "--out", str(world)]) == 0
    printed = capsys.readouterr()
    sources = [f"suricata:{world}/*.eve.json", f"sockets:{world}/*.sockets.jsonl"]
    assert run(["replay", *sources, "--out", str(rows)]) == 0

    assert printed.out == ""
    for word in ("devices", "connections", "requests", "tunnel", "late lines", "replay 'suricata:"):
        assert word in printed.err
    truth = [json.loads(line) for line in (world / "truth.jsonl").read_text().splitlines()]
    result = score(latest(json.loads(line) for line in rows.read_text().splitlines()), truth)
    assert result.right / result.requests >= 0.98
    assert (result.wrong, result.wrong_rows) == (0, 0)
    assert truth[-1]["ts"].startswith("2026-11-24T09:00:0"), "files are the same whenever they are made"


def test_start_and_seed_make_the_world(tmp_path: Path) -> None:
    """The same options give the same bytes, another start other times."""
    for name, more in (("a", []), ("b", []), ("c", ["--start", "2027-01-02T03:04:05+01:00"])):
        assert run([*SMALL, *more, "--out", str(tmp_path / name)]) == 0
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "abc")

    assert a == b
    assert a.keys() == c.keys()
    assert b"2027-01-02T02:04:0" in c["truth.jsonl"]


def test_kafka_gets_it_with_the_truth(
    kafka_settings_for: Callable[..., Settings],
    messages_of: Callable[[Settings, str], list[Message]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As fast as possible onto Kafka, with the truth in a file; the balance at the end is even."""
    settings, truth = kafka_settings_for(), tmp_path / "truth.jsonl"
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert run([*SMALL, "--gaps", "--speed", "0", "--processes", "1", "--truth", str(truth)]) == 0
    printed = capsys.readouterr().err
    lines = sum((message.value() or b"").count(b"\n") + 1 for message in messages_of(settings, TELEMETRY))

    assert f"published    {lines:>10,}  in " in printed
    assert f"lines        {lines:>10,}  " in printed
    assert "outages" in printed
    assert truth.read_text().count("\n") > 100


def test_sigterm_ends_it_gracefully(
    kafka_settings_for: Callable[..., Settings],
    messages_of: Callable[[Settings, str], list[Message]],
    tmp_path: Path,
) -> None:
    """After SIGTERM in the middle all processes stop, what was sent is acknowledged, and the exit code is that of `produce`.

    Modules that lie in the current folder are run by none of the processes.
    """
    settings = kafka_settings_for()
    for name in ("multiprocessing", "psutil", "typer"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()")
    arguments = ["simulate", "--devices", "10", "--rate", "500", "--duration", "9999", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unproxy", *arguments],
        env={**os.environ, **environment(settings)},
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "publishing" in line and "lines=0 " not in line)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=30)
    finally:
        process.kill()
    lines = sum((message.value() or b"").count(b"\n") + 1 for message in messages_of(settings, TELEMETRY))

    assert not (tmp_path / "run").exists()
    assert line
    assert process.returncode == 0, printed
    assert f"published    {lines:>10,}  in " in printed
    assert "stopped early" in printed


@pytest.mark.parametrize(
    "wrong",
    [
        ["--devices", "0", "--out", "world"],
        ["--devices", "1", "--rate", "5000", "--out", "world"],
        ["--start", "yesterday", "--out", "world"],
        ["--out", "world", "--truth", "truth.jsonl"],
        ["--out", "unproxy"],
        ["--out", "pyproject.toml"],
    ],
)
def test_an_impossible_world_is_reported_in_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A world that cannot be, or a folder in use, is reported in one line, and ends with 2."""
    assert run(["simulate", *wrong]) == 2
    printed = capsys.readouterr()

    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("unproxy: ")
    assert not Path("world").exists()


def test_no_kafka_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Kafka it prints where it looked and what to do, and ends with 1."""
    monkeypatch.setenv(f"{PREFIX}KAFKA__BOOTSTRAP", f"127.0.0.1:{free_port()}")

    assert run(["simulate"]) == 1
    assert "no Kafka answers there" in capsys.readouterr().err
