"""A proxy on the loopback device, and a client that asks it for the hosts on stdin; prints the result of each as JSON."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from socket import create_connection

from tests.producers.sensor.http.http_client import PORT, Proxy

WAIT_SECS = 2.0


class Noting(Proxy):
    """Remembers what it was asked for."""

    def do_CONNECT(self) -> None:
        """A tunnel to nowhere."""
        asked.append(self.path)
        super().do_CONNECT()


asked: list[str] = []


def outcome_of(host: str) -> tuple[str, bool]:
    """How a tunnel ends: an error, or that it does not; and whether the proxy's answer came."""
    answered = False
    with create_connection(("127.0.0.1", PORT), timeout=WAIT_SECS) as connection:
        try:
            connection.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            while connection.recv(65_536):
                answered = True
        except TimeoutError:
            return "open", answered
        except OSError as error:
            return type(error).__name__, answered
    return "closed", answered


def main() -> None:
    """Until stdin ends."""
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", PORT), Noting).serve_forever, daemon=True).start()
    for line in sys.stdin:
        host = line.strip()
        outcome, answered = outcome_of(host)
        print(
            json.dumps({"outcome": outcome, "answered": answered, "reached": f"{host}:443" in asked}),
            flush=True,
        )


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
