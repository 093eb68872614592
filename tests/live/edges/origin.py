"""The servers behind the proxies of the edge lab: every host on every port, the name server, and proxies that answer at once.

    python -m tests.live.edges.origin LOG

Each connection that arrives is a line of the log: the host whose address was reached, or that was asked of the proxy.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import IO

from tests.live.edges.scenarios import address_of, host_of
from tests.live.stage import LOAD_PROXIES

PORTS = (80, 443)
INSTANT_PORTS = range(3200, 3203)
"""24 proxies with `LOAD_PROXIES`: a sensor learns at most 32, and of further ones nothing."""
READY = "edge origin: ready"
TIMEOUT_SECS = 5.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
_A, _NO_NAME = 1, 3
_HOST = re.compile(rb"^\w+ (?:http://)?([^/: ]+)")


class Log:
    """One line for each connection, whole and at once."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._lock = file, threading.Lock()

    def write(self, host: str) -> None:
        """Note that this host was reached."""
        with self._lock:
            self._file.write(json.dumps({"host": host}) + "\n")
            self._file.flush()


def answer_name(query: bytes) -> bytes:
    """The name server's answer (RFC 1035): the address of a host of the lab, no address of other kinds, or no such name."""
    labels, place = [], 12
    while length := query[place]:
        labels.append(query[place + 1 : place + 1 + length].decode("latin-1"))
        place += 1 + length
    kind = struct.unpack(">H", query[place + 1 : place + 3])[0]
    address = address_of(".".join(labels))
    found = address is not None and kind == _A
    head = query[:2] + struct.pack(">5H", 0x8580 | (0 if address else _NO_NAME), 1, int(found), 0, 0)
    question = query[12 : place + 5]
    if not found or address is None:
        return head + question
    return head + question + b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 60, 4) + address.packed


def _serve_names(server: socket.socket) -> None:
    while True:
        query, client = server.recvfrom(4096)
        with suppress(IndexError, struct.error):  # no question
            server.sendto(answer_name(query), client)


def _serve_host(connection: socket.socket, log: Log) -> None:
    """Note which host's address was reached; answer what looks like HTTP."""
    log.write(host_of(IPv4Address(connection.getsockname()[0])))
    if connection.recv(65536)[:1].isalpha():
        connection.sendall(ANSWER)


def _serve_at_once(connection: socket.socket, log: Log) -> None:
    """A proxy that does what it is asked without asking anybody."""
    words = connection.recv(65536)
    if words:
        connection.sendall(ANSWER if words[:1] == b"G" else b"HTTP/1.1 200 Connection established\r\n\r\n")
        asked = _HOST.match(words)
        log.write(asked[1].decode("latin-1") if asked else "")


def _listen(address: str, port: int, serve: Callable[[socket.socket, Log], None], log: Log) -> None:
    server = socket.create_server((address, port), backlog=512)

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(TIMEOUT_SECS)
            serve(connection, log)

    def accept() -> None:
        while True:
            threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main(path: Path) -> None:
    """Serve until killed."""
    log = Log(path.open("a"))
    for port in PORTS:
        _listen("", port, _serve_host, log)
    for address in LOAD_PROXIES:
        for port in INSTANT_PORTS:
            _listen(address, port, _serve_at_once, log)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=_serve_names, args=(names,), daemon=True).start()
    print(READY, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
