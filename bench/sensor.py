"""What `unproxy sensor` costs and loses: so many connections a second for so long, against the client's own counts.

    python -m bench.sensor [CONNECTIONS_A_SECOND] [SECONDS] [http] [learn]

As root, on Linux. The client connects to its own loopback device, in a network namespace that it shares with the sensor; tracefs
is mounted in a mount namespace of its own. With `http` each connection asks for a tunnel and sends a name in it, and the sensor
listens. With `learn` no proxy is named, and it learns who is one. One JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

PORTS = range(3_128, 3_144)
STEP_SECS = 0.01
SENSOR = (sys.executable, "-m", "unproxy", "sensor")
APART = 'ip link set lo up && mount -t tracefs tracefs "$0" && exec "$@"'
ANSWER = b"HTTP/1.1 200 OK\r\n\r\n"


def client(rate: int, secs: int, *, http: bool) -> None:
    """Connect and close at that rate, as far as the machine allows; print how many were made, in how long."""
    servers = [socket.create_server(("127.0.0.1", port), backlog=4_096) for port in PORTS]
    for server in servers:
        threading.Thread(target=accept, args=(server, http), daemon=True).start()
    greeting = hello("www.example.com")
    made, began = 0, time.monotonic()
    while (now := time.monotonic() - began) < secs:
        while made < rate * now:
            with socket.create_connection(("127.0.0.1", PORTS[made % len(PORTS)])) as connection:
                made += 1
                if http:
                    connection.sendall(
                        b"CONNECT host-%d.example:443 HTTP/1.1\r\nHost: host-%d.example\r\n\r\n" % (made, made)
                    )
                    connection.recv(len(ANSWER))
                    connection.sendall(greeting)
        time.sleep(STEP_SECS)
    print(json.dumps({"pid": os.getpid(), "made": made, "secs": round(time.monotonic() - began, 3)}))


def hello(name: str) -> bytes:
    """Return a TLS client hello."""
    outgoing = ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def accept(server: socket.socket, http: bool) -> None:
    """Take what comes, answer it, and let it go."""
    while True:
        with server.accept()[0] as connection:
            if http and connection.recv(4_096):
                connection.sendall(ANSWER)
                connection.recv(4_096)


def main(rate: int, secs: int, *, http: bool, learn: bool) -> None:
    """One run."""
    named = [word for port in PORTS for word in ("--proxy", f"127.0.0.1:{port}")] if http else []
    listen = ["--mode", "audit"] if learn else named
    with tempfile.TemporaryDirectory() as folder:
        place, out = Path(folder) / "tracefs", Path(folder) / "lines.jsonl"
        place.mkdir()
        sensor = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "sh",
                "-c",
                APART,
                place,
                *SENSOR,
                *listen,
                "--tracefs",
                place,
                "--out",
                out,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert sensor.stderr is not None
        sensor.stderr.readline()
        before = cpu_secs(sensor.pid)
        load = subprocess.run(
            [
                "nsenter",
                f"--net=/proc/{sensor.pid}/ns/net",
                sys.executable,
                "-m",
                "bench.sensor",
                "client",
                *[str(rate), str(secs), *(["http"] if http else [])],
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        spent, rss_kb = cpu_secs(sensor.pid) - before, rss(sensor.pid)
        sensor.send_signal(signal.SIGTERM)
        last_report = sensor.communicate(timeout=60)[1]
        did = json.loads(load.stdout)
        written = [json.loads(line) for line in out.read_text().splitlines()]
        lines = [line for line in written if line.get("pid") == did["pid"]]
        http_lines = [line for line in written if "kind" in line]
        reported = {(line["local_port"], line["remote_port"], line["ts_attempt"]) for line in lines}
        ended = [line for line in lines if "ts_closed" in line]
        facts = dict(word.split("=", 1) for word in last_report.split() if "=" in word)
        print(
            json.dumps(
                {
                    **did,
                    "reported": len(reported),
                    "missing": did["made"] - len(reported),
                    "without_end": len(reported) - len(ended),
                    "without_process": sum(not line.get("path") for line in lines),
                    "lost_in_kernel": int(facts["lost_in_kernel"]),
                    "lost_in_queue": int(facts["lost_in_queue"]),
                    "requests_reported": sum(line["kind"] == "http" for line in http_lines),
                    "with_status": sum("status" in line for line in http_lines),
                    "names_reported": sum(line["kind"] == "tls" for line in http_lines),
                    "packets_lost": int(facts.get("lost_packets", 0)),
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
    rate, secs = [int(word) for word in sys.argv[1:] if word.isdigit()] or (2_000, 30)
    if "client" in sys.argv:
        client(rate, secs, http="http" in sys.argv)
    else:
        main(rate, secs, http="http" in sys.argv, learn="learn" in sys.argv)
