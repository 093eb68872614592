"""What `unproxy sensor` costs and loses: so many connections a second for so long, against what the client says it did.

    python -m bench.sensor [CONNECTIONS_A_SECOND] [SECONDS]

As root, on Linux. The client connects within a network namespace of its own to its own loopback device; tracefs is mounted in a
mount namespace of its own. One JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PORTS = range(3_128, 3_144)
STEP_SECS = 0.01
SENSOR = (sys.executable, "-m", "unproxy", "sensor")
MOUNT = 'mount -t tracefs tracefs "$0" && exec "$@"'


def client(rate: int, secs: int) -> None:
    """Connect and close at that rate, as far as the machine allows; says how many it made, in how long."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    servers = [socket.create_server(("127.0.0.1", port), backlog=4_096) for port in PORTS]
    for server in servers:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
    made, began = 0, time.monotonic()
    while (now := time.monotonic() - began) < secs:
        while made < rate * now:
            with socket.create_connection(("127.0.0.1", PORTS[made % len(PORTS)])):
                made += 1
        time.sleep(STEP_SECS)
    print(json.dumps({"pid": os.getpid(), "made": made, "secs": round(time.monotonic() - began, 3)}))


def accept(server: socket.socket) -> None:
    """Take what comes and let it go."""
    while True:
        server.accept()[0].close()


def main(rate: int, secs: int) -> None:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        place, out = Path(folder) / "tracefs", Path(folder) / "lines.jsonl"
        place.mkdir()
        sensor = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", MOUNT, place, *SENSOR, "--tracefs", place, "--out", out],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert sensor.stderr is not None
        sensor.stderr.readline()
        before = cpu_secs(sensor.pid)
        load = subprocess.run(
            ["unshare", "--net", sys.executable, "-m", "bench.sensor", "client", str(rate), str(secs)],
            check=True,
            capture_output=True,
            text=True,
        )
        spent, rss_kb = cpu_secs(sensor.pid) - before, rss(sensor.pid)
        sensor.send_signal(signal.SIGTERM)
        said = sensor.communicate(timeout=60)[1]
        did = json.loads(load.stdout)
        lines = [line for line in map(json.loads, out.read_text().splitlines()) if line["pid"] == did["pid"]]
        told = {(line["local_port"], line["remote_port"], line["ts_attempt"]) for line in lines}
        ended = [line for line in lines if "ts_closed" in line]
        facts = dict(word.split("=", 1) for word in said.split() if "=" in word)
        print(
            json.dumps(
                {
                    **did,
                    "told": len(told),
                    "missing": did["made"] - len(told),
                    "without_end": len(told) - len(ended),
                    "without_process": sum(not line.get("path") for line in lines),
                    "lost_in_kernel": int(facts["lost_in_kernel"]),
                    "lost_in_queue": int(facts["lost_in_queue"]),
                    "attempts_on_the_machine": int(facts["attempts"]),
                    "cpu_us_a_connection": round(1e6 * spent / int(facts["attempts"]), 1),
                    "cpu_share": round(spent / did["secs"], 3),
                    "rss_mb": rss_kb // 1024,
                    "load": os.getloadavg()[0],
                }
            )
        )


def cpu_secs(pid: int) -> float:
    """User and system time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Its resident memory at most, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        client(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*(int(word) for word in (sys.argv[1:] or ["2000", "30"])))
