"""What a running sensor may still do, on this very kernel: as root, in network and mount namespaces of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from producers.sensor.privileges import NICENESS, Capability
from tests.producers.sensor.http.http_client import PORT
from tests.producers.sensor.http.test_live_http import APART, ROOT, Sensor, sensing

OTHER_USER = 65_534
ASKS = (
    f'exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf "CONNECT fine.example:443 HTTP/1.1\\r\\n\\r\\n" >&3; '
    "read -r answer <&3; echo answered; read -r end"
)


def statuses(pid: int) -> list[dict[str, str]]:
    """What the kernel reports of each thread of a process."""
    return [
        dict(re.findall(r"^(\w+):\s*(.*)$", path.read_text(), re.MULTILINE))
        for path in Path(f"/proc/{pid}/task").glob("*/status")
    ]


@contextmanager
def asking_as_another(sensor: Sensor) -> Iterator[None]:
    """A process of another user that asked the proxy for a host, and lives on, however late the sensor reads /proc."""
    command = ["nsenter", f"--net=/proc/{sensor.process.pid}/ns/net", "setpriv", "--reuid", str(OTHER_USER)]
    command += ["--regid", str(OTHER_USER), "--clear-groups", "bash", "-c", ASKS]
    with subprocess.Popen(command, cwd="/", stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        yield
        process.communicate("\n", timeout=30)


def bits(capabilities: list[Capability]) -> str:
    return f"{sum(1 << capability for capability in capabilities):016x}"


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("block", [Capability.SYS_PTRACE, Capability.NET_ADMIN]), ("", [Capability.SYS_PTRACE])],
    ids=["block", "connections"],
)
def test_a_running_sensor_keeps_only_what_it_needs(tmp_path: Path, mode: str, kept: list[Capability]) -> None:
    """In each of its threads; it still reports another user's process whole, and in block mode still cuts."""
    listed = tmp_path / "listed.txt"
    listed.write_text("listed.example\n")
    arguments = ["--mode", mode, "--list", str(listed), "--proxy", f"127.0.0.1:{PORT}"] if mode else []
    with ExitStack() as afterwards, sensing(tmp_path, *arguments) as sensor:
        threads = statuses(sensor.process.pid)
        priorities = [os.getpriority(os.PRIO_PROCESS, int(thread["Pid"])) for thread in threads]
        inside = sensor.beside("-m", "tests.producers.sensor.http.asking")
        with subprocess.Popen(inside, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write("listed.example\n")
            client.stdin.flush()
            outcome = json.loads(client.stdout.readline())
            afterwards.enter_context(asking_as_another(sensor))
            client.stdin.close()
    lines = [json.loads(line) for line in sensor.lines]
    (other, *_) = [line for line in lines if line.get("uid") == OTHER_USER]

    assert len(threads) > 1
    for thread in threads:
        assert [thread[name] for name in ("CapEff", "CapPrm", "CapBnd")] == [bits(kept)] * 3
        assert [thread[name] for name in ("CapInh", "CapAmb")] == [bits([])] * 2
        assert thread["NoNewPrivs"] == "1"
    assert sorted(priorities) == [NICENESS] * (len(threads) - 1) + [0]
    assert (other["process"], Path(other["path"]).name) == ("bash", "bash")
    assert other["command_line"] == f"bash -c {ASKS}"
    assert (outcome["outcome"], outcome["reached"]) == (("ConnectionAbortedError", False) if mode else ("open", True))


def test_capabilities_are_not_given_up_beside_other_threads() -> None:
    """They would keep theirs; the sensor does not start."""
    code = (
        "import threading; from producers.sensor.privileges import keep_only; "
        "threading.Thread(target=threading.Event().wait, daemon=True).start(); keep_only([])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "other threads have started before" in done.stderr


def test_fewer_capabilities_are_enough_to_give_up_the_rest() -> None:
    """Without CAP_SETPCAP the bounding set stays, and what it holds cannot be gained any more."""
    code = (
        "import os; from producers.sensor.privileges import Capability, keep_only; "
        "keep_only([Capability.SYS_PTRACE]); print(open('/proc/self/status').read())"
    )
    command = ["setpriv", "--bounding-set", "-all,+net_raw,+sys_ptrace", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    status = dict(re.findall(r"^(\w+):\s*(.*)$", done.stdout, re.MULTILINE))

    assert (status["CapPrm"], status["CapEff"]) == (bits([Capability.SYS_PTRACE]),) * 2
    assert (int(status["CapBnd"], 16), status["NoNewPrivs"]) == (1 << 13 | 1 << Capability.SYS_PTRACE, "1")


def test_a_state_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Permissions hold for the sensor, though it is root: it names which folder, and what to do."""
    place, state = tmp_path / "tracefs", tmp_path / "state"
    place.mkdir()
    state.mkdir(0o755)
    os.chown(state, OTHER_USER, OTHER_USER)
    command = [*APART, place, sys.executable, "-m", "unproxy", "sensor", "--tracefs", place]
    own = os.environ | {"UNPROXY_PUBLISHER__STATE_DIR": str(state / "producer")}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert f"unproxy: {state}/producer: Permission denied; the sensor has given up" in done.stderr
