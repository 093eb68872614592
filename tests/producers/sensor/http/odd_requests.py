"""Sends requests as some proxies accept them to a stand-in for a proxy on the loopback device, and prints what reached it.

python -m tests.producers.sensor.http.odd_requests: a JSON object, by request what came of it to the other side, in latin-1.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress

PORT = 3128
WAIT_SECS = 5.0
URGENT = b"\xff"
"""Stands before and behind a byte that is sent as urgent."""
LISTED = {
    "two hosts": b"CONNECT x.listed.example:443@fine.example:443 HTTP/1.1\r\n\r\n",
    "white space": b"GET\t http://x.listed.example/  HTTP/1.3\r\n\r\n",
    "HTTP/0.9": b"GET http://x.listed.example/\r\n",
    "lower case": b"connect x.listed.example HTTP/1.1\n\r\n",
    "fields": b"GET http://x.listed.example/ HTTP/1.1\r\nH\xc3\xb6: 1\r\n 2\r\nX\r\n\r\n",
    "address": b"CONNECT 0xcb.0.28938:443 HTTP/1.1\r\n\r\n",
    "percent": b"GET http://%6cisted.example/ HTTP/1.1\r\n\r\n",
    "urgent": b"CONNECT x.lis\xffX\xffted.example:443 HTTP/1.1\r\n\r\n",
}
UNREADABLE = {
    "two unlisted hosts": b"CONNECT fine.example:443@good.example:443 HTTP/1.1\r\n\r\n",
    "no request": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
FINE = {
    "fine": b"get  http://fine.example/ HTTP/1.1\n\n",
    "TLS": b"\x16\x03\x01\x00\x05hello",
    "SOCKS": b"\x05\x01\x00",
}


def reached(server: socket.socket, request: bytes) -> bytes:
    """Send a request; what the other side reads of it until the connection is over."""
    client = socket.create_connection(server.getsockname(), WAIT_SECS)
    other, _ = server.accept()
    other.settimeout(WAIT_SECS)
    with client, other:
        with suppress(OSError):  # the sensor may destroy the socket at any of these
            for number, part in enumerate(request.split(URGENT)):
                client.send(part, socket.MSG_OOB if number % 2 else 0)
            client.shutdown(socket.SHUT_WR)
        content = b""
        with suppress(ConnectionError):
            while more := other.recv(65_536):
                content += more
    return content


def main() -> None:
    """Send each of them."""
    with socket.create_server(("127.0.0.1", PORT)) as server:
        outcome = {
            name: reached(server, request).decode("latin-1") for name, request in (LISTED | UNREADABLE | FINE).items()
        }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
