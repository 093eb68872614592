"""The clients of the edge lab: sends each request of a plan and writes down what became of it.

    python -m tests.live.edges.client PLAN LOG

A line of the plan is a request: number, local port, proxy, address, port, how it is sent, and its bytes in hexadecimal. A line
of the log is what the client knows of it: its port, the process that connected, and the first bytes of the answer.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.live.edges.scenarios import BYTES, EXEC, FEW_PORTS, MARK, REUSE, SOCKET, TLS, URGENT
from tests.live.stage import NEAR

ANSWER_SECS = 1.5
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Of the network namespace of who reads it."""
FEW = "50000 50007"
_RESET = struct.pack("ii", 1, 0)
_lock = threading.Lock()

Entry = dict[str, Any]


def main(plan: Path, log: Path) -> None:
    """Send everything: what forks first, then the requests to each proxy one after the other, to all proxies at a time."""
    entries = [json.loads(line) for line in plan.read_text().splitlines()]
    forking = {REUSE: used_again, EXEC: then_exec, FEW_PORTS: from_few_ports}
    with log.open("a") as file:

        def note(entry: Entry, **known: object) -> None:
            with _lock:
                file.write(json.dumps({"number": entry["number"], **known}) + "\n")
                file.flush()

        for entry in entries:
            if entry["sent"] in forking:
                forking[entry["sent"]](entry, note)
        by_proxy: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry["sent"] not in forking:
                by_proxy[entry["proxy"]].append(entry)
        with ThreadPoolExecutor(max(len(by_proxy), 1)) as pool:
            for done in [pool.submit(_in_turn, some, note) for some in by_proxy.values()]:
                done.result()


def _in_turn(entries: list[Entry], note: Callable[..., None]) -> None:
    for entry in entries:
        ask(entry, note)


def ask(entry: Entry, note: Callable[..., None]) -> None:
    """One request on a connection of its own."""
    words = bytes.fromhex(entry["words"])
    with connected(entry) as connection:
        answer, local_port = b"", connection.getsockname()[1]
        with suppress(OSError):
            if entry["sent"] == TLS:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(connection) as inside:
                    inside.sendall(words)
                    answer = inside.recv(64)
            else:
                send(connection, words, entry["sent"])
                answer = connection.recv(64)
                while entry["sent"] == FEW_PORTS and connection.recv(4096):
                    pass  # the proxy closes first, so the port is free at once
        note(entry, answer=answer.hex(), local_port=local_port, **_myself())


def send(connection: socket.socket, words: bytes, how: str) -> None:
    """Send in the way that the scenario asks for."""
    if how == BYTES:
        for place in range(len(words)):
            connection.sendall(words[place : place + 1])
    elif how == URGENT:
        before, _, after = words.partition(MARK.encode("latin-1"))
        connection.sendall(before)
        connection.send(b"x", socket.MSG_OOB)
        connection.sendall(after)
    elif how == SOCKET and words[:1] == b"\x05":
        connection.sendall(b"\x05\x01\x00")
        connection.recv(2)
        connection.sendall(words)
    else:
        connection.sendall(words)


def used_again(entry: Entry, note: Callable[..., None]) -> None:
    """Another process connects from the same port just before, and asks for nothing."""
    child = os.fork()
    if not child:
        with connected(entry) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        os._exit(0)
    os.waitpid(child, 0)
    ask(entry, note)


def from_few_ports(entry: Entry, note: Callable[..., None]) -> None:
    """A process of its own connects from one of so few ports that each is soon used again."""
    before = PORT_RANGE.read_text()
    PORT_RANGE.write_text(FEW)
    child = os.fork()
    if not child:
        ask(entry, note)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    PORT_RANGE.write_text(before)
    assert not status, "the child has connected"


def then_exec(entry: Entry, note: Callable[..., None]) -> None:
    """A process connects and is at once another program, which asks: the shape of a reverse shell."""
    reading, writing = os.pipe()
    words = bytes.fromhex(entry["words"]).decode("latin-1").replace("\r\n", "\\r\\n")
    shell = ["sh", "-c", f"printf '{words}' >&3; head -c 64 <&3 >/dev/null"]
    child = os.fork()
    if not child:
        connection = socket.socket()
        connection.bind((NEAR, entry["local_port"]))
        os.write(writing, json.dumps(_myself()).encode())
        os.dup2(connection.fileno(), 3)
        connection.connect((entry["address"], entry["port"]))
        os.execv("/bin/sh", shell)
    known = json.loads(os.read(reading, 65536))
    os.close(reading)
    os.close(writing)
    os.waitpid(child, 0)
    note(entry, **known, answer="", local_port=entry["local_port"])


@contextmanager
def connected(entry: Entry) -> Iterator[socket.socket]:
    """A connection to the entry's proxy, from the entry's port, which no other request has, or from one that the kernel gives."""
    with socket.socket() as connection:
        connection.settimeout(ANSWER_SECS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if entry["sent"] != FEW_PORTS:
            connection.bind((NEAR, entry["local_port"]))
        connection.connect((entry["address"], entry["port"]))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _myself() -> Entry:
    """The process as it is at the connect."""
    words = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
    return {
        "pid": os.getpid(),
        "name": Path("/proc/self/comm").read_text().strip(),
        "path": str(Path("/proc/self/exe").readlink()),
        "command_line": words,
        "at": time.time(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
