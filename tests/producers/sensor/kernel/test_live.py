"""`unproxy sensor` on this very kernel: as root, with tracefs in a mount namespace of its own, clients in a network namespace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[4]
CLIENT = Path(__file__).parent / "client.py"
EXEC_CLIENT = Path(__file__).parent / "exec_client.py"
MOUNT: list[str | Path] = ["unshare", "--mount", "sh", "-c", 'mount -t tracefs tracefs "$0" && exec "$@"']


def await_that(fact: Callable[[], bool], what: str, secs: float = 30.0) -> None:
    deadline = time.monotonic() + secs
    while not fact():
        assert time.monotonic() < deadline, f"{what}: not within {secs} s"
        threading.Event().wait(0.05)


def instances(place: Path) -> list[str]:
    """The instances of our own in the kernel."""
    seen = subprocess.run([*MOUNT, place, "ls", place / "instances"], check=True, capture_output=True, text=True)
    return [name for name in seen.stdout.split() if name.startswith("unproxy-")]


def owned(place: Path, pid: int) -> list[str]:
    return [name for name in instances(place) if name.startswith(f"unproxy-{pid}-")]


@contextmanager
def sensing(place: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A sensor that has begun; killed in the end if it did not stop before."""
    arguments: list[str | Path] = [
        sys.executable,
        "-m",
        "unproxy",
        "sensor",
        "--tracefs",
        place,
        "--device",
        "dev-a",
        "--out",
        out,
    ]
    sensor = subprocess.Popen([*MOUNT, place, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert sensor.stderr is not None
        events = sensor.stderr.readline()
        assert "sensor started" in events, events
        yield sensor
    finally:
        sensor.kill()
        sensor.wait()
        assert sensor.stderr is not None
        sensor.stderr.close()


def test_each_connection_is_reported_with_its_process(tmp_path: Path) -> None:
    """The client's own account equals the sensor's lines; a stop leaves nothing in the kernel."""
    place, out = tmp_path / "tracefs", tmp_path / "lines.jsonl"
    place.mkdir()
    with sensing(place, out) as sensor:
        own = subprocess.run(
            ["unshare", "--net", sys.executable, CLIENT], check=True, capture_output=True, text=True, timeout=60
        )
        truth = [json.loads(line) for line in own.stdout.splitlines()]
        pid = truth[0]["pid"]
        assert len(owned(place, sensor.pid)) == 1
        sensor.send_signal(signal.SIGTERM)
        assert sensor.wait(20) == 0

    assert owned(place, sensor.pid) == []
    assert out.stat().st_mode & 0o777 == 0o600
    lines = [line for line in map(json.loads, out.read_text().splitlines()) if line["pid"] == pid]
    last = {(line["local_ip"], line["local_port"]): line for line in lines}
    assert len(truth) == len(last) == 6
    for did in truth:
        line = last[did["local_ip"], did["local_port"]]
        assert (line["result"], line["device"], line["user"]) == (did["result"], "dev-a", "root")
        assert line["remote_port"] == (3128 if did["result"] == "success" else 8888)
        assert line["path"] == os.path.realpath(sys.executable)
        assert line["command_line"] == f"{sys.executable} {CLIENT}"
        assert line["parent_pid"] == os.getpid()
        began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(did["began"]))
        assert began <= line["ts_attempt"] < line["ts_closed"]
        assert line.get("ts_established", line["ts_closed"]) <= line["ts_closed"]


def test_a_program_that_follows_is_never_taken_for_the_one_that_connected(tmp_path: Path) -> None:
    """Name, path and command line are those of the program that connected, or empty; the later one is `exec_after`."""
    place, out = tmp_path / "tracefs", tmp_path / "lines.jsonl"
    place.mkdir()
    with sensing(place, out) as sensor:
        done = subprocess.run(
            ["unshare", "--net", sys.executable, EXEC_CLIENT], check=True, capture_output=True, text=True, timeout=120
        )
        sensor.send_signal(signal.SIGTERM)
        assert sensor.wait(20) == 0

    truth = {line["pid"]: line for line in map(json.loads, done.stdout.splitlines())}
    lines = [line for line in map(json.loads, out.read_text().splitlines()) if line["pid"] in truth]
    last = {line["pid"]: line for line in lines}
    assert len(last) == len(truth) == 80
    for line in lines:
        program = truth[line["pid"]]
        assert line["process"] == program["process"]
        assert (line.get("path", ""), line.get("command_line", "")) in {
            (program["path"], program["command_line"]),
            ("", ""),
        }
    assert {line.get("exec_after") for line in last.values()} == {"/bin/sleep"}


def test_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    """After SIGKILL its instance is still there; the next sensor removes it."""
    place, out = tmp_path / "tracefs", tmp_path / "lines.jsonl"
    place.mkdir()
    with sensing(place, out) as killed:
        killed.kill()
        killed.wait()
    assert len(owned(place, killed.pid)) == 1
    with sensing(place, out) as sensor:
        assert owned(place, killed.pid) == []
        sensor.send_signal(signal.SIGINT)
        assert sensor.wait(20) == 0

    assert owned(place, sensor.pid) == []


def test_without_tracefs_it_names_the_remedy(tmp_path: Path) -> None:
    """One sentence on stderr, nothing on stdout, exit code 2."""
    arguments = [sys.executable, "-m", "unproxy", "sensor", "--out", "-", "--tracefs"]
    bare = subprocess.run([*arguments, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (bare.returncode, bare.stdout) == (2, "")
    assert bare.stderr == f"unproxy: {tmp_path}: no tracefs; mount it with: mount -t tracefs tracefs {tmp_path}\n"


def test_a_device_name_that_no_line_can_hold(tmp_path: Path) -> None:
    """A host's name that is no text would spoil every line: it is refused at the start, before anything is opened."""
    arguments = [sys.executable, "-m", "unproxy", "sensor", "--out", "-", "--tracefs", str(tmp_path)]
    arguments += ["--device", os.fsdecode(b"host\xff")]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert "U+DCFF as character 5" in done.stderr
    assert "--device" in done.stderr
