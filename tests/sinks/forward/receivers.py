"""Receivers of alerts that tests can turn off, slow down and make refuse: a webhook, a syslog server; real sockets both."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from unproxy.local.servers.service import free_port

TLS = Path(__file__).parents[2] / "data" / "tls"
AUTHORITY = str(TLS / "localhost.crt")
"""Who signed the certificate of localhost: itself. Its key is no secret."""


def server_context() -> ssl.SSLContext:
    """TLS of a receiver on localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem")
    return context


class Posted(NamedTuple):
    """One request."""

    path: str
    headers: Message
    body: bytes

    @property
    def version(self) -> tuple[str, int]:
        """AlertId and version, from the headers."""
        return self.headers["X-Unproxy-Alert-Id"], int(self.headers["X-Unproxy-Alert-Version"])


Answering = Callable[[Posted], int | tuple[int, dict[str, str]]]


class WebhookServer:
    """Keeps what it accepted. `answering` gives status and headers, and may wait."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self._context = context
        self.url = f"http://127.0.0.1:{self.port}/alerts?key=k1"
        self.answering: Answering = lambda _: 204
        self.requests: list[Posted] = []
        self.accepted: list[Posted] = []
        self.hanging = threading.Event()
        """Set to let those go that hang."""
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> WebhookServer:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posted = Posted(self.path, self.headers, body)
                receiver.requests.append(posted)
                answer = receiver.answering(posted)
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                if status < 300:
                    receiver.accepted.append(posted)
                with suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Length": "0", **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Who posts is no news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A sender that was killed is none of ours."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self._context is not None:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def hang(self, _: Posted) -> int:
        """An answering that does not come."""
        self.hanging.wait()
        return 500

    def stop(self) -> None:
        """Listen no more."""
        self.hanging.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def versions(self) -> list[tuple[str, int]]:
        """What was accepted, in order."""
        return [posted.version for posted in self.accepted]


class SyslogServer:
    """Reads frames with octet counting, in plain TCP or TLS."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.messages: list[bytes] = []
        self.reads = True
        """Else connections are taken and nothing is read."""
        self._context = context
        self._listening: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def start(self) -> SyslogServer:
        """Listen."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()
        return self

    def stop(self) -> None:
        """As a process that dies: what was not read breaks the connection."""
        if self._listening is not None:
            # Closing alone leaves a thread that accepts in the kernel.
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        for connection in self._connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
            connection.close()
        self._connections.clear()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._connections.append(connection)
                if self.reads:
                    threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        # A connection that another thread closes raises one of the two.
        with suppress(OSError, ValueError), connection.makefile("rb") as stream:
            for message in frames(stream.read):
                self.messages.append(message)


def frames(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Messages of a stream, by RFC 6587 section 3.4.1."""
    length = b""
    while byte := read(1):
        if byte != b" ":
            length += byte
            continue
        yield read(int(length))
        length = b""
