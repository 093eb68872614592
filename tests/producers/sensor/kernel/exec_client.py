"""Connects and runs another program at once, as a reverse shell does; prints what connected, one JSON object a line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SERVER = ("198.51.100.80", 3128)
TIMES = 40
AFTER = ("/bin/sleep", "0.05")
BASH = f"exec 3<>/dev/tcp/{SERVER[0]}/{SERVER[1]}; exec {' '.join(AFTER)}"


def report(pid: int, name: str, path: str, command_line: str) -> None:
    """The program that connected, as it is while it connects."""
    reported = {"pid": pid, "process": name, "path": path, "command_line": command_line}
    print(json.dumps(reported), flush=True)


def fork(number: int) -> None:
    """A process without a program of its own; it keeps its socket through exec, or not."""
    child = os.fork()
    if not child:
        with socket.socket() as client:
            client.set_inheritable(number % 2 == 0)
            client.connect(SERVER)
            os.execv(AFTER[0], AFTER)
    os.waitpid(child, 0)
    name = Path("/proc/self/comm").read_text(encoding="utf-8").rstrip("\n")
    words = Path("/proc/self/cmdline").read_text(encoding="utf-8").rstrip("\0").replace("\0", " ")
    report(child, name, os.path.realpath(sys.executable), words)


def spawn() -> None:
    """A shell that connects as soon as it began, and then is another program."""
    with subprocess.Popen(["/bin/bash", "-c", BASH]) as shell:
        shell.wait()
    report(shell.pid, "bash", os.path.realpath("/bin/bash"), f"/bin/bash -c {BASH}")


def main() -> None:
    """Forked processes and shells, one after the other."""
    subprocess.run(["ip", "address", "add", f"{SERVER[0]}/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with socket.create_server(SERVER, backlog=2 * TIMES):
        for number in range(TIMES):
            fork(number)
            spawn()


if __name__ == "__main__":
    main()
