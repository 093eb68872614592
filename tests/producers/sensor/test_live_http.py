"""The HTTP level on this very kernel: as root, the sensor with clients and a proxy in a network namespace of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.dialects import dialects
from schemas.events import ConnectionOpened, HttpExchange, ModeChanged, TlsName
from schemas.recognition import NOBODYS, dialect_of_each
from tests.factories import World

ROOT = Path(__file__).parents[3]
CLIENT = Path(__file__).parent / "http_client.py"
APART: list[str | Path] = [
    "unshare", "--mount", "--net", "sh", "-c", 'ip link set lo up && mount -t tracefs tracefs "$0" && exec "$@"',
]  # fmt: skip
CONNECTIONS, AT_ONCE = 240, 24
LATE_SECS = 4.5
"""An answer that comes as late as that may be too late to be told."""


def sensed(folder: Path, *arguments: str, clients: bool = True) -> tuple[list[dict[str, Any]], list[bytes], str]:
    """What the clients say they did, the sensor's lines, and its last words."""
    place, out = folder / "tracefs", folder / "lines.jsonl"
    place.mkdir()
    command: list[str | Path] = [
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
        *arguments,
    ]
    sensor = subprocess.Popen([*APART, place, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    truth = ""
    try:
        assert sensor.stderr is not None
        said = sensor.stderr.readline()
        assert "sensor started" in said, said
        if clients:
            inside: list[str | Path] = [
                "nsenter",
                f"--net=/proc/{sensor.pid}/ns/net",
                sys.executable,
                CLIENT,
                str(CONNECTIONS),
                str(AT_ONCE),
            ]
            truth = subprocess.run(inside, check=True, capture_output=True, text=True, timeout=120).stdout
        sensor.send_signal(signal.SIGTERM)
        assert sensor.wait(20) == 0
        said += sensor.stderr.read()
    finally:
        sensor.kill()
        sensor.wait()
        assert sensor.stderr is not None
        sensor.stderr.close()
    return [json.loads(line) for line in truth.splitlines()], out.read_bytes().splitlines(), said


def test_each_request_is_told_with_its_connection(tmp_path: Path) -> None:
    """Tunnels, absolute targets, several on one connection, both versions of IP, many at once: what the clients say they did.

    And through the correlator each request is on a row with the process that asked.
    """
    truth, lines, said = sensed(tmp_path, "--proxy", "127.0.0.1:3128", "--proxy", "[::1]:3128")
    assert "mode=audit" in said
    assert "lost_packets=0" in said
    assert b"secret" not in b"".join(line for line in lines if b'"kind"' in line)
    assert b"c2Vj" not in b"".join(lines)

    recognise = dialect_of_each(NOBODYS)
    events = [(name, dialects()[name].parse(line)) for line in lines for name in [recognise(line).name]]
    told = [
        (event.flow.local_ip, event.flow.local_port, event.method, event.target, event.status)
        for _, event in events
        if isinstance(event, HttpExchange)
    ]
    told += [
        (event.flow.local_ip, event.flow.local_port, "", event.sni, None)
        for _, event in events
        if isinstance(event, TlsName) and event.tunnelled
    ]
    assert Counter(one[:4] for one in told) == Counter(
        (did["ip"], did["port"], did["method"], did["target"]) for did in truth
    )
    status = {one[:4]: one[4] for one in told}
    for did in truth:
        answered = status[did["ip"], did["port"], did["method"], did["target"]]
        assert answered == did["status"] or (answered is None and did["secs"] > LATE_SECS)
    assert len(told) > 2 * CONNECTIONS
    assert {name for name, _ in events} == {"sockets", "sensor"}

    # The kernel tells of the whole machine, where others have the same addresses in networks of their own.
    pid = truth[0]["pid"]
    world = World()
    for _, event in events:
        assert isinstance(event, ConnectionOpened | HttpExchange | TlsName | ModeChanged)
        if not isinstance(event, ConnectionOpened) or event.process.pid == pid:
            world.see(event)
    world.finish()
    rows = {(row["LocalIP"], row["LocalPort"], row["DestinationHost"]): row for row in world.destinations}
    wanted = {
        (did["ip"], did["port"], did["target"].removeprefix("http://").split("/")[0].split(":")[0]) for did in truth
    }
    assert rows.keys() == wanted
    assert {row["InitiatingProcessId"] for row in rows.values()} == {pid}
    assert len(world.connections) == CONNECTIONS


def test_off_reads_no_packets(tmp_path: Path) -> None:
    """Connections are told, nothing that is asked for; the mode is."""
    _, lines, said = sensed(tmp_path, "--mode", "off", "--proxy", "127.0.0.1:3128")

    assert "mode=off" in said
    kinds = Counter(json.loads(line).get("kind") for line in lines)
    assert kinds["mode"] == 1
    assert kinds.keys() == {"mode", None}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--mode", "audit"], "mode audit: no proxies are known; name them with --proxy IP:PORT, or in sensor.proxies"),
        (["--proxy", "proxy:3128"], '--proxy: "proxy:3128" needs an IP address'),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: list[str], why: str) -> None:
    """One sentence, exit code 2."""
    command = [sys.executable, "-m", "unproxy", "sensor", "--out", "-", "--tracefs", str(tmp_path), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"unproxy: {why}")
