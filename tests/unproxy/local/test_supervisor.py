"""Parts and servers that die are started again; everything is ended in order and in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unproxy.local.up_story import wait_for
from unproxy.local import supervisor
from unproxy.local.interrupts import SIGNALS, Interrupts
from unproxy.local.servers.child import python_path
from unproxy.local.servers.service import EmbeddedError
from unproxy.local.supervisor import Part, Supervisor


@dataclass
class FakeServer:
    """A server that can be made to be dead, and to fail at its next starts."""

    log_file: Path = Path("server.log")
    running: bool = False
    failures: int = 0
    starts: int = 0
    stopped_within: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start, or fail for the set number of starts."""
        self.starts += 1
        if self.failures:
            self.failures -= 1
            raise EmbeddedError("no room")
        self.running = True

    def stop(self, timeout_secs: float = 10) -> None:
        """Note how long it may take."""
        self.stopped_within.append(timeout_secs)
        self.running = False


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The supervisor's reports; it does not wait here before it starts something again."""
    monkeypatch.setattr(supervisor, "RESTART_SECS", 0.0)
    return []


def watching(reports: list[str]) -> Supervisor:
    """A supervisor that reports to this list."""
    return Supervisor(warn=reports.append, changed=lambda: reports.append("changed"))


def test_modules_of_the_current_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: list[str]
) -> None:
    """A psutil.py where `up` is started belongs to any user that can write there."""
    (tmp_path / "psutil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": python_path({"PYTHONPATH": f"{os.pathsep}."})}
    made = Part("part", ["up", "--data", "/dev/null/x"], environment, tmp_path / "log" / "part.log")
    made.start()
    assert made.process is not None
    made.process.wait(60)

    assert "cannot be made" in made.last_words()
    assert not (tmp_path / "run").exists()
    assert reports == []


def part(tmp_path: Path, *arguments: str) -> Part:
    """One of our commands as a part."""
    return Part("part", arguments, {**os.environ, "PYTHONPATH": os.getcwd()}, tmp_path / "log" / "part.log")


def test_part_that_dies_is_started_again_and_its_last_output_is_shown(tmp_path: Path, reports: list[str]) -> None:
    """However often it dies, it is started again, and a warning states the cause and where its log is."""
    watcher, dying = watching(reports), part(tmp_path, "nonsense")
    watcher.start(dying)

    def twice() -> bool:
        watcher.look()
        return dying.restarts == 2

    wait_for(twice, "two restarts")
    watcher.stop()
    warnings = [line for line in reports if line != "changed"]
    assert warnings[0].startswith(
        f"part ended (exit code 2) and is started again; its log is {dying.log_file}: unproxy"
    )
    assert "No such command" in warnings[0]
    assert reports.count("changed") == 3
    assert watcher.restarts == 2


def test_part_that_finishes_is_left_alone(tmp_path: Path, reports: list[str]) -> None:
    """A part whose work is done is not started again."""
    watcher, brief = watching(reports), part(tmp_path, "--version")
    brief.finished = lambda code: code == 0
    watcher.start(brief)

    def done() -> bool:
        watcher.look()
        return brief.done

    wait_for(done, "its end")
    watcher.look()
    assert brief.restarts == 0
    assert reports == ["changed"]


def test_part_that_does_not_stop_is_killed(tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that does not end in time is killed, so that Ctrl-C ends everything in ten seconds."""
    monkeypatch.setattr(supervisor, "PARTS_STOP_SECS", 0.5)
    watcher, deaf, server = watching(reports), part(tmp_path), FakeServer()
    watcher.start_server("kafka", server)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        deaf.process = process
        watcher.parts.append(deaf)
        begun = time.monotonic()
        watcher.stop()

    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - begun < 5
    assert server.stopped_within == [supervisor.SERVERS_STOP_SECS]


def test_a_producer_has_the_others_time_as_well(
    tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it read and cannot read again may wait for Kafka: this one ends when another part does, which is stopped later."""
    monkeypatch.setattr(supervisor, "PRODUCER_STOP_SECS", 0.1)
    watcher, slow, other = watching(reports), part(tmp_path), part(tmp_path)
    slow.finished = lambda code: code == 0
    code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as slow.process,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=slow.process.stdin) as other.process,
    ):
        assert slow.process.stdin is not None
        assert slow.process.stdout is not None
        slow.process.stdin.close()
        slow.process.stdout.readline()
        watcher.parts += [slow, other]
        watcher.stop()

    assert (slow.process.returncode, other.process.returncode) == (0, -signal.SIGTERM)


def test_all_stops_together_are_below_ten_seconds() -> None:
    """The worst case of each step, one after the other."""
    assert supervisor.PRODUCER_STOP_SECS + supervisor.PARTS_STOP_SECS + supervisor.SERVERS_STOP_SECS < 9


def test_server_that_dies_is_started_again(reports: list[str]) -> None:
    """Also when the first try to start it again fails."""
    watcher, server = watching(reports), FakeServer()
    watcher.start_server("kafka", server)
    server.running, server.failures = False, 1
    for _ in range(3):
        watcher.look()

    assert server.running
    assert server.starts == 3
    assert [line for line in reports if line != "changed"] == [
        "kafka ended and is started again; its log is server.log",
        "kafka does not start: no room",
    ]


def test_signal_is_handled_when_the_start_is_over() -> None:
    """A signal in the middle of a start waits for its end, so that no unknown process is left."""
    interrupts = Interrupts()
    before = {wanted: signal.getsignal(wanted) for wanted in SIGNALS}
    steps = []

    def start(interrupts: Interrupts) -> None:
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("to the end")

    try:
        interrupts.listen()
        with pytest.raises(KeyboardInterrupt):
            start(interrupts)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        interrupts.ignore()
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        for wanted, handler in before.items():
            signal.signal(wanted, handler)

    assert steps == ["to the end"]
