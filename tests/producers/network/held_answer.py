"""A relay in front of a broker that holds back the answer to the first produce request until the next one is answered, too."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from socketserver import BaseRequestHandler, ThreadingTCPServer

PRODUCE = 0
"""Kafka's protocol: the API key of a produce request."""
NEXT_SECS_MAX = 1.0
"""So long the next request is waited for."""


class HeldAnswer(ThreadingTCPServer):
    """Takes connections on `port` for the broker on `inner_port`; calls `between` once the first produce request is answered."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, inner_port: int, between: Callable[[], None]) -> None:
        self.inner = ("127.0.0.1", inner_port)
        self._between = between
        self._first = threading.Lock()
        self.held = self.followed = False
        super().__init__(("127.0.0.1", port), _Connection)
        threading.Thread(target=self.serve_forever, name="held-answer", daemon=True).start()

    def is_first(self) -> bool:
        """True once."""
        return self._first.acquire(blocking=False)

    def between(self) -> None:
        """What is done while the answer is held back."""
        self.held = True
        self._between()


class _Connection(BaseRequestHandler):
    server: HeldAnswer

    def handle(self) -> None:
        client: socket.socket = self.request
        with socket.create_connection(self.server.inner) as broker:
            while request := _frame(client):
                answer = _asked(broker, request)
                if int.from_bytes(request[4:6]) == PRODUCE and self.server.is_first():
                    self.server.between()
                    client.settimeout(NEXT_SECS_MAX)
                    try:
                        following = _frame(client)
                    except TimeoutError:
                        following = b""
                    client.settimeout(None)
                    if following:
                        self.server.followed = True
                        answer += _asked(broker, following)
                client.sendall(answer)


def _asked(broker: socket.socket, request: bytes) -> bytes:
    broker.sendall(request)
    return _frame(broker)


def _frame(connection: socket.socket) -> bytes:
    """A request or an answer with its length before it; "" at the end."""
    head = _read(connection, 4)
    return head + _read(connection, int.from_bytes(head)) if head else b""


def _read(connection: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        part = connection.recv(size - len(read))
        if not part:
            return b""
        read += part
    return read
