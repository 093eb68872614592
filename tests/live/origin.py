"""The servers behind the proxy: every name answers here, plain on 80 and 8080, with TLS on 443.

    python -m tests.live.origin FOLDER

`/slow` takes its time, `/big` is long, everything else is short.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PLAIN, TLS = (80, 8080), 443
SLOW_SECS = 2.0
BIG_BYTES = 300_000
READY = "origin: ready"


class Answers(BaseHTTPRequestHandler):
    """Keeps connections alive, and writes nothing to stderr."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer by the path."""
        if self.path.startswith("/slow"):
            time.sleep(SLOW_SECS)
        body = b"x" * BIG_BYTES if self.path.startswith("/big") else f"{self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """The same without a body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Take the body and answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Many at a time."""

    daemon_threads = True
    request_queue_size = 512
    address_family = socket.AF_INET

    def handle_error(self, *_: object) -> None:
        """Clients that leave in the middle are no news."""


class TlsServer(Server):
    """The same, with a handshake in the connection's own thread."""

    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands first."""
        assert isinstance(request, socket.socket)
        with self.context.wrap_socket(request, server_side=True) as inside:
            super().finish_request(inside, client_address)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key, file = folder / "origin.key", folder / "origin.crt"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=origin.example"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", file], check=True, stderr=subprocess.DEVNULL)
    return file, key


def main(folder: Path) -> None:
    """Serve until killed."""
    TlsServer.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TlsServer.context.load_cert_chain(*certificate(folder))
    servers = [Server(("", port), Answers) for port in PLAIN] + [TlsServer(("", TLS), Answers)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(READY, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
