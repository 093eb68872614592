"""The HTTP level on this very kernel: as root, the sensor with clients and a proxy in a network namespace of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from producers.sources.failures import DialectFailures
from schemas.events import ConnectionOpened, HttpExchange, ModeChanged, TlsName
from schemas.parsers import dialects
from schemas.parsers.recognition import NOBODYS, dialect_of_each
from tests.factories import World
from tests.producers.sensor.http.http_client import PLACES
from tests.producers.sensor.http.odd_requests import FINE, LISTED, UNREADABLE

ROOT = Path(__file__).parents[4]
CLIENT = Path(__file__).parent / "http_client.py"
APART: list[str | Path] = [
    "unshare", "--mount", "--net", "sh", "-c", 'ip link set lo up && mount -t tracefs tracefs "$0" && exec "$@"',
]  # fmt: skip
CONNECTIONS, AT_ONCE = 240, 24
LEARNT = "a proxy was learnt"
UNREADABLE_SENT = {name: sent.decode("latin-1") for name, sent in UNREADABLE.items()}
LATE_SECS = 4.5
"""An answer that comes as late as that may be too late to be reported."""


@dataclass
class Sensor:
    """One at work, and once it has ended all that it reported."""

    process: subprocess.Popen[str]
    events: str = ""
    lines: list[bytes] = field(default_factory=list)

    def await_word(self, word: str, times: int = 1) -> None:
        """Wait until its stderr has the text."""
        assert self.process.stderr is not None
        while self.events.count(word) < times:
            line = self.process.stderr.readline()
            assert line, self.events
            self.events += line

    def beside(self, *command: str | Path) -> list[str | Path]:
        """The command, in the sensor's network."""
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", sys.executable, *command]


@contextmanager
def sensing(folder: Path, *arguments: str) -> Iterator[Sensor]:
    """A sensor in a network of its own, until the block is left."""
    place, out = folder / "tracefs", folder / "lines.jsonl"
    place.mkdir()
    command: list[str | Path] = [sys.executable, "-m", "unproxy", "sensor", "--tracefs", place]
    command += ["--device", "dev-a", "--out", out, *arguments]
    with subprocess.Popen([*APART, place, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        sensor = Sensor(process)
        try:
            sensor.await_word("sensor started")
            yield sensor
            process.send_signal(signal.SIGTERM)
            sensor.events += process.communicate(timeout=20)[1]
            assert process.returncode == 0
        finally:
            process.kill()
    sensor.lines = out.read_bytes().splitlines()


def clients(sensor: Sensor, count: int, at_once: int) -> list[dict[str, Any]]:
    """So many connections of clients; what these report."""
    command = sensor.beside(CLIENT, str(count), str(at_once))
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "learns"),
    [(["--proxy", "127.0.0.1:3128", "--proxy", "[::1]:3128"], 0), (["--mode", "audit"], len(PLACES))],
    ids=["named", "learnt"],
)
def test_each_request_is_reported_with_its_connection(tmp_path: Path, arguments: list[str], learns: int) -> None:
    """Tunnels, absolute targets, several on one connection, both versions of IP, many at once: what the clients report.

    And through the correlator each request is on a row with the process that asked. Where the proxies are learnt, the first
    request's status and name may come before the kernel's filter is another.
    """
    with sensing(tmp_path, *arguments) as sensor:
        early = clients(sensor, learns, 1) if learns else []
        sensor.await_word(LEARNT, learns)
        truth = early + clients(sensor, CONNECTIONS, AT_ONCE)
    lines = sensor.lines
    assert "mode=audit" in sensor.events
    assert sensor.events.count(LEARNT) == learns
    assert "lost_packets=0" in sensor.events
    assert b"secret" not in b"".join(line for line in lines if b'"kind"' in line)
    assert b"c2Vj" not in b"".join(lines)

    recognise = dialect_of_each(NOBODYS, DialectFailures().add)
    events = [(name, dialects()[name].parse(line)) for line in lines for name in [recognise(line).name]]
    reported = [
        (event.flow.local_ip, event.flow.local_port, event.method, event.target, event.status)
        for _, event in events
        if isinstance(event, HttpExchange)
    ]
    reported += [
        (event.flow.local_ip, event.flow.local_port, "", event.sni, None)
        for _, event in events
        if isinstance(event, TlsName) and event.tunnelled
    ]
    names = {(did["ip"], did["port"], "", did["target"]) for did in early if not did["method"]}
    assert Counter(one[:4] for one in reported if one[:4] not in names) == Counter(
        place
        for did in truth
        for place in [(did["ip"], did["port"], did["method"], did["target"])]
        if place not in names
    )
    status = {one[:4]: one[4] for one in reported}
    for did in truth:
        answered = status.get((did["ip"], did["port"], did["method"], did["target"]))
        assert answered == did["status"] or (answered is None and (did in early or did["secs"] > LATE_SECS))
    assert len(reported) > 2 * CONNECTIONS
    assert {name for name, _ in events} == {"sockets", "sensor"}

    # The kernel reports of the whole machine, where others have the same addresses in networks of their own.
    pids = {did["pid"] for did in truth}
    world = World()
    for _, event in events:
        assert isinstance(event, ConnectionOpened | HttpExchange | TlsName | ModeChanged)
        if not isinstance(event, ConnectionOpened) or event.process.pid in pids:
            world.see(event)
    world.finish()
    rows = {(row["LocalIP"], row["LocalPort"], row["DestinationHost"]): row for row in world.destinations}
    wanted = {
        (did["ip"], did["port"], did["target"].removeprefix("http://").split("/")[0].split(":")[0]) for did in truth
    }
    assert rows.keys() == wanted
    assert {row["InitiatingProcessId"] for row in rows.values()} == pids
    assert len(world.connections) == CONNECTIONS + learns


def test_off_reads_no_packets(tmp_path: Path) -> None:
    """Connections are reported, nothing that is asked for; the mode is."""
    with sensing(tmp_path, "--mode", "off", "--learn", "--proxy", "127.0.0.1:3128") as sensor:
        clients(sensor, 4, 1)

    assert "mode=off" in sensor.events
    kinds = Counter(json.loads(line).get("kind") for line in sensor.lines)
    assert kinds["mode"] == 1
    assert kinds.keys() == {"mode", None}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["--mode", "audit", "--no-learn"],
            "mode audit: no proxies are known; name them with --proxy IP:PORT, or in sensor.proxies, or let it --learn them",
        ),
        (["--proxy", "proxy:3128"], '--proxy: "proxy:3128" needs an IP address'),
    ],
)
def test_what_cannot_be_is_reported(tmp_path: Path, arguments: list[str], why: str) -> None:
    """One sentence, exit code 2."""
    command = [sys.executable, "-m", "unproxy", "sensor", "--out", "-", "--tracefs", str(tmp_path), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"unproxy: {why}")


def test_a_learnt_proxy_is_blocked_at_as_well(tmp_path: Path) -> None:
    """The listed request that it is learnt from loses its socket, and is blocked unless its answer had come by then.

    The next ones are stopped before they leave.
    """
    listed = tmp_path / "listed.txt"
    listed.write_text("listed.example\n")
    with sensing(tmp_path, "--mode", "block", "--list", str(listed)) as sensor:
        inside = sensor.beside("-m", "tests.producers.sensor.http.asking")
        with subprocess.Popen(inside, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            outcomes = []
            for host in ("listed.example", "a.listed.example", "fine.example"):
                client.stdin.write(f"{host}\n")
                client.stdin.flush()
                outcomes.append(json.loads(client.stdout.readline()))
                sensor.await_word("listed requests are stopped inline")
            client.stdin.close()
    lines = [json.loads(line) for line in sensor.lines]
    verdicts = [(line["host"], line.get("how"), line.get("why")) for line in lines if line.get("kind") == "verdict"]

    assert outcomes[0]["outcome"] == "ConnectionAbortedError"
    assert outcomes[1:] == [
        {"outcome": "ConnectionAbortedError", "answered": False, "reached": False},
        {"outcome": "open", "answered": True, "reached": True},
    ]
    first = (None, "answer_received") if outcomes[0]["answered"] else ("socket_destroyed", None)
    assert verdicts == [("listed.example", *first), ("a.listed.example", "inline", None)]


@pytest.mark.parametrize("block_unreadable", [True, False])
def test_what_proxies_accept_does_not_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, block_unreadable: bool
) -> None:
    """A listed host in any spelling is stopped; what cannot be read is, where the setting requires it; all else goes on."""
    monkeypatch.setenv("UNPROXY_SENSOR__BLOCK_UNREADABLE", str(block_unreadable))
    listed = tmp_path / "listed.txt"
    listed.write_text("listed.example\n203.0.113.10\n")
    arguments = ["--mode", "block", "--list", str(listed), "--proxy", "127.0.0.1:3128"]
    with sensing(tmp_path, *arguments) as sensor:
        command = sensor.beside("-m", "tests.producers.sensor.http.odd_requests")
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    reached = json.loads(done.stdout)
    lines = [json.loads(line) for line in sensor.lines]
    verdicts = [(line["host"], line["target"], line["action"]) for line in lines if line.get("kind") == "verdict"]

    # What was sent before the urgent byte is no request yet.
    assert {name: reached[name] for name in LISTED} == dict.fromkeys(LISTED, "") | {"urgent": "CONNECT x.lis"}
    assert [host for host, _, _ in verdicts[: len(LISTED)]] == [
        *["x.listed.example"] * 5, "203.0.113.10", "listed.example", "x.listed.example",
    ]  # fmt: skip
    assert {action for _, _, action in verdicts} == {"blocked"}
    assert verdicts[0][1] == "?"
    stopped = dict.fromkeys(UNREADABLE, "") if block_unreadable else UNREADABLE_SENT
    assert {name: reached[name] for name in UNREADABLE} == stopped
    assert verdicts[len(LISTED) :] == [("", "?", "blocked")] * (len(UNREADABLE) * block_unreadable)
    assert {name: reached[name] for name in FINE} == {name: sent.decode("latin-1") for name, sent in FINE.items()}
