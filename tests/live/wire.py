"""A client's TCP connection, with what the client writes down of it."""

from __future__ import annotations

import http.client
import itertools
import os
import socket
import ssl
import struct
import time
from contextlib import suppress

from tests.live.diary import Diary, Result
from tests.live.errands import SECRET
from tests.live.stage import PROXY, PROXY_PORT

TIMEOUT_SECS = 6.0
SQUIDS_OWN = "X-Squid-Error"
"""In an answer that squid made itself."""
SENT_WITH_IT = {
    "User-Agent": "live-client/1",
    "Proxy-Authorization": f"Basic {SECRET}",
    "Authorization": f"Bearer {SECRET}",
    "Cookie": f"session={SECRET}",
}
_HEADERS = "".join(f"{name}: {value}\r\n" for name, value in SENT_WITH_IT.items())
_NO_LINGER = struct.pack("ii", 1, 0)
_numbers = itertools.count(1)


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_TLS = _trusting()


class Wire:
    """One connection, to the proxy by default."""

    def __init__(self, diary: Diary, remote: tuple[str, int] = (PROXY, PROXY_PORT), *, proxied: bool = True) -> None:
        self._diary = diary
        opened = time.time()
        self.socket = socket.create_connection(remote, timeout=TIMEOUT_SECS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local = self.socket.getsockname()
        self._facts = {
            "connection": f"{os.getpid()}-{next(_numbers)}",
            "opened": opened,
            "connected": time.time(),
            "local_ip": local[0],
            "local_port": local[1],
            "remote_ip": remote[0],
            "remote_port": remote[1],
            "proxied": proxied,
        }
        self._plain = _over(self.socket, remote[0])

    def request(
        self, host: str, path: str = "/", *, port: int = 80, method: str = "GET", body: bytes | None = None
    ) -> Result:
        """A plain request to the proxy, or to the server itself; its answer is read to the end."""
        name = host if port == 80 else f"{host}:{port}"
        url = f"http://{name}{path}"
        asked = {"method": method, "host": host.lower(), "port": port, "url": url, "at": time.time()}
        target = f"{url}?token={SECRET}" if self._facts["proxied"] else path
        headers = SENT_WITH_IT if self._facts["proxied"] else {"Host": name}
        return self._noted(asked, *_exchange(self._plain, method, target, body, headers))

    def tunnel(
        self, host: str, *, port: int = 443, inside: str = "", requests: int = 1, pieces: bool = False
    ) -> Result:
        """A tunnel, TLS in it, and requests in that. `pieces` sends CONNECT byte by byte."""
        name = inside or host.lower()
        asked = {"method": "CONNECT", "host": host.lower(), "port": port, "inside": name, "at": time.time()}
        try:
            self._connect(host, port, pieces)
            status = _status(self.socket)
        except OSError:
            return self._noted(asked, Result.CUT, 0)
        if status != 200:
            return self._noted(asked, Result.REFUSED if status else Result.CUT, status)
        try:
            within = _over(_TLS.wrap_socket(self.socket, server_hostname=name), name)
        except OSError:
            return self._noted(asked, Result.CUT, status)
        results = [_exchange(within, "GET", "/", None, {"Host": name})[0] for _ in range(requests)]
        within.close()
        return self._noted(asked, max(results, key=lambda result: result is not Result.DONE), status)

    def leave_after_connect(self, host: str) -> None:
        """Ask for a tunnel and go without waiting."""
        asked = {"method": "CONNECT", "host": host, "port": 443, "at": time.time()}
        self._connect(host, 443)
        self.close()
        self._noted(asked, Result.ABORTED, 0)

    def leave_in_the_middle(self, host: str, after_secs: float) -> None:
        """Ask for something slow and reset the connection before it comes."""
        url = f"http://{host}/slow"
        asked = {"method": "GET", "host": host, "port": 80, "url": url, "at": time.time()}
        self._plain.request("GET", url, headers=SENT_WITH_IT)
        time.sleep(after_secs)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.close()
        self._noted(asked, Result.ABORTED, 0)

    def send_bytes(self, words: bytes) -> None:
        """Send something that is no request, and go."""
        with suppress(OSError):
            self.socket.sendall(words)
        self.close()
        self._noted({"at": time.time()}, Result.NOTHING_ASKED, 0)

    def close(self) -> None:
        """Close it."""
        with suppress(OSError):
            self.socket.close()
        self._plain.close()

    def _connect(self, host: str, port: int, pieces: bool = False) -> None:
        words = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{_HEADERS}\r\n".encode()
        for piece in [words[at : at + 1] for at in range(len(words))] if pieces else [words]:
            self.socket.sendall(piece)

    def _noted(self, asked: dict[str, object], result: Result, status: int) -> Result:
        self._diary.write(**self._facts, **asked, result=result, status=status)
        return result


def _over(connected: socket.socket, host: str) -> http.client.HTTPConnection:
    made = http.client.HTTPConnection(host)
    made.sock, made.auto_open = connected, 0
    return made


def _exchange(
    over: http.client.HTTPConnection, method: str, target: str, body: bytes | None, headers: dict[str, str]
) -> tuple[Result, int]:
    try:
        over.request(method, target, body, headers)
        with over.getresponse() as answer:
            answer.read()
            own = answer.headers.get(SQUIDS_OWN)
            return Result.REFUSED if own else Result.DONE, answer.status
    except (OSError, http.client.HTTPException):
        return Result.CUT, 0


def _status(answering: socket.socket) -> int:
    """Of the answer to CONNECT; 0 when there is none."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = answering.recv(1)
        if not piece:
            break
        answer += piece
    words = answer.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
