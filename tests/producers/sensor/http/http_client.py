"""A proxy and its clients in one network namespace; prints the requests, one JSON object a line: the truth for the live test."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 3128
PLACES = ("127.0.0.1", "::1")


class Proxy(BaseHTTPRequestHandler):
    """Answers with success, except paths and hosts that name another status."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """An answer of some length, in which an answer stands."""
        body = b"HTTP/1.1 500 No\r\n\r\n" * 1_000
        self.send_response(403 if "refused" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Takes a body and answers."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_CONNECT(self) -> None:
        """A tunnel to nowhere, until the client has enough."""
        self.send_response(403 if "refused" in self.path else 200)
        self.end_headers()
        while self.connection.recv(65_536):
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # the library's name
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Takes many at once."""

    request_queue_size = 1_024
    daemon_threads = True


class Server6(Server):
    """The same for IPv6."""

    address_family = socket.AF_INET6


def hello(name: str) -> bytes:
    """What a TLS client sends first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("no answer")


def answer_of(connection: socket.socket) -> int:
    """Reads an answer with its body; gives the status."""
    with connection.makefile("rb") as stream:
        status, length = int(stream.readline().split()[1]), 0
        while (line := stream.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        stream.read(length)
    return status


def client(number: int) -> None:
    """One connection: a tunnel, or requests one after the other."""
    place = PLACES[number % 2]
    with socket.create_connection((place, PORT)) as connection:
        local = connection.getsockname()[:2]
        reported: list[tuple[str, str, int | None, float]] = []
        if number % 4 < 2:
            name = f"{'refused' if number % 12 == 0 else 'host'}-{number}.example"
            began = time.monotonic()
            connection.sendall(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            status = answer_of(connection)
            reported.append(("CONNECT", f"{name}:443", status, time.monotonic() - began))
            if status == 200:
                greeting = hello(name)
                for part in (greeting[:100], greeting[100:]):
                    connection.sendall(part)
                reported.append(("", name, None, 0.0))
        else:
            for turn in range(3):
                path = f"http://site-{number}.example/{'refused' if turn == 1 else 'page'}"
                head = f"Host: site-{number}.example\r\nProxy-Authorization: Basic c2VjcmV0\r\n"
                if turn == 2:
                    body = "GET http://wrong.example/ HTTP/1.1\r\n\r\n" * 100
                    text = f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"
                else:
                    text = f"GET {path}?q=secret HTTP/1.1\r\n{head}\r\n"
                began = time.monotonic()
                connection.sendall(text.encode())
                reported.append((text.partition(" ")[0], path, answer_of(connection), time.monotonic() - began))
        for method, target, answer, secs in reported:
            line = {
                "pid": os.getpid(),
                "ip": local[0],
                "port": local[1],
                "method": method,
                "target": target,
                "status": answer,
                "secs": secs,
            }
            print(json.dumps(line) + "\n", end="", flush=True)


def main(count: int, at_once: int) -> None:
    """So many connections, so many of them at once."""
    for server in (Server(("127.0.0.1", PORT), Proxy), Server6(("::1", PORT), Proxy)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    numbers = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            client(number)

    workers = [threading.Thread(target=work) for _ in range(at_once)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
