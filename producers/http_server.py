"""Reads POSTed bodies, within bounds, and says what became of them; `producers.http_input` has the statuses."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, SHUT_WR, socket
from socketserver import TCPServer
from typing import Any

from producers.http_desk import Body, Desk, Refused
from producers.inputs import Outcome
from schemas.address import canonical_ip

log = logging.getLogger(__name__)

RETRY_SECS = 2
"""After so long a client may try again."""
SILENT_SECS_MAX = 30.0
"""A connection that says nothing for so long is closed."""
PASSED_BYTES_MAX, PASSED_SECS_MAX = 1024 * 1024, 0.2
"""So much of a refused body is read and thrown away, and so long it is waited for."""
LINGER_SECS, LINGERING_MAX = 5.0, 64
"""So long a connection that was turned away is kept for its client to read the answer, and so many of them."""
_PART_BYTES = 65_536
_BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpServer(ThreadingHTTPServer):
    """A thread a connection, and a bound on them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, place: tuple[str, int], desk: Desk, path: str) -> None:
        if ":" in place[0]:
            self.address_family = AF_INET6
        self.desk, self.path = desk, f"/{path}"
        self._connections_max = desk.settings.http_connections_max
        self._slots = threading.BoundedSemaphore(self._connections_max)
        self._busy = threading.Condition()
        self._requests = 0
        self._turned_away: deque[tuple[float, socket]] = deque()
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """Without asking DNS for our own name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # AF_INET and AF_INET6 give text and a number

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a connection, or turn it away."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        self.desk.count(Outcome.HTTP_FULL)
        try:
            request.settimeout(0.1)
            request.sendall(_BROKEN % RETRY_SECS)
            request.shutdown(SHUT_WR)
            request.setblocking(False)
        except OSError:
            self.shutdown_request(request)  # it went away
        else:
            self._turned_away.append((time.monotonic() + LINGER_SECS, request))

    def service_actions(self) -> None:
        """Let go of who was turned away: a connection closed while its client sends would be reset, and the answer lost with it.

        RFC 9112 section 9.6.
        """
        kept, now = self._turned_away, time.monotonic()
        for _ in range(len(kept)):
            until, request = kept.popleft()
            if now < until and len(kept) < LINGERING_MAX and _still_sends(request):
                kept.append((until, request))
            else:
                self.shutdown_request(request)

    def server_close(self) -> None:
        """Nobody is served any more."""
        super().server_close()
        for _, request in self._turned_away:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """A connection from its beginning to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or what we did not think of."""
        del request
        log.warning("connection broke", extra={"client": client_address[0]}, exc_info=log.isEnabledFor(logging.DEBUG))

    def begin(self) -> None:
        """A request is under way."""
        with self._busy:
            self._requests += 1

    def end(self) -> None:
        """It is answered."""
        with self._busy:
            self._requests -= 1
            self._busy.notify_all()

    def wait_for_answers(self, secs_max: float) -> None:
        """Until no request is under way."""
        with self._busy:
            self._busy.wait_for(lambda: not self._requests, secs_max)


def _still_sends(request: socket) -> bool:
    """Throw away what came; whether more may come."""
    try:
        for _ in range(PASSED_BYTES_MAX // _PART_BYTES):
            if not request.recv(_PART_BYTES):
                return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"
    server_version = "unproxy"
    sys_version = ""
    timeout = SILENT_SECS_MAX
    _unread = False

    def do_POST(self) -> None:
        """Take lines."""
        self.server.begin()
        try:
            self._take()
        except Refused as refused:
            self.server.desk.count(refused.outcome)
            self._pass_over()
            self._answer(refused.status, str(refused))
        else:
            self.server.desk.count(Outcome.HTTP_ACKNOWLEDGED)
            self._answer(HTTPStatus.NO_CONTENT, "")
        finally:
            self.server.end()

    def do_GET(self) -> None:
        """Nothing is to be had here."""
        self.close_connection = True
        self.server.desk.count(Outcome.HTTP_WRONG)
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "send lines with POST")

    do_PUT = do_DELETE = do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not logged."""

    def _take(self) -> None:
        desk = self.server.desk
        # Until the body is read, what follows on the connection is no request.
        self.close_connection = self._unread = True
        if not desk.knows(self.headers.get("Authorization", "")):
            raise Refused(
                HTTPStatus.UNAUTHORIZED, Outcome.HTTP_UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN"
            )
        if self.path.partition("?")[0] != self.server.path:
            raise Refused(HTTPStatus.NOT_FOUND, Outcome.HTTP_WRONG, f"lines are taken at {self.server.path}")
        size = self._announced()
        desk.reserve(size)
        reserved = size
        try:
            packed = self.rfile.read(size)
            if len(packed) < size:
                raise Refused(HTTPStatus.BAD_REQUEST, Outcome.HTTP_WRONG, "the body ended early")
            self._unread = False
            self.close_connection = self.headers.get("Connection", "").lower() == "close"
            with desk.unpacking:
                value = self._unpacked(packed)
                if len(value) > reserved:
                    desk.reserve(len(value) - reserved)
                    reserved = len(value)
            if value.lstrip()[:1] == b"[" and value.rstrip()[-1:] == b"]" and value.lstrip()[1:].lstrip()[:1] == b"{":
                raise Refused(
                    HTTPStatus.BAD_REQUEST,
                    Outcome.HTTP_WRONG,
                    "the body is one JSON array; send one object a line (NDJSON)",
                )
            if value.strip():
                desk.publish(Body(canonical_ip(self.client_address[0]), value))
        finally:
            desk.free(reserved)

    def _pass_over(self) -> None:
        """Read what of the body is under way, within bounds: a client that is cut off while it sends may miss the answer."""
        if self._unread:
            self.connection.settimeout(PASSED_SECS_MAX)
            try:
                left = PASSED_BYTES_MAX
                while left > 0 and (part := self.rfile.read1(left)):
                    left -= len(part)
            except OSError:
                pass  # it went away, or waits for our answer

    def _announced(self) -> int:
        if self.headers.get("Transfer-Encoding"):
            raise Refused(
                HTTPStatus.LENGTH_REQUIRED, Outcome.HTTP_WRONG, "send a Content-Length, not Transfer-Encoding"
            )
        told = self.headers.get_all("Content-Length", [])
        if not told:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, Outcome.HTTP_WRONG, "send a Content-Length")
        if len(told) > 1 or not (told[0].isascii() and told[0].isdigit() and len(told[0]) < 16):
            raise Refused(HTTPStatus.BAD_REQUEST, Outcome.HTTP_WRONG, "Content-Length must be one number")
        size = int(told[0])
        if size > self.server.desk.settings.http_body_bytes_max:
            raise self._too_large()
        return size

    def _unpacked(self, packed: bytes) -> bytes:
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding == "identity":
            return packed
        if encoding not in ("gzip", "x-gzip"):
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Outcome.HTTP_WRONG, "send it plain or with Content-Encoding: gzip"
            )
        limit = self.server.desk.settings.http_body_bytes_max
        unpacked = bytearray()
        while packed:  # a gzip body may have several members (RFC 1952 section 2.2)
            unpacking = zlib.decompressobj(wbits=31)
            try:
                unpacked += unpacking.decompress(packed, limit + 1 - len(unpacked))
            except zlib.error:
                raise Refused(HTTPStatus.BAD_REQUEST, Outcome.HTTP_WRONG, "the body is not gzip") from None
            if len(unpacked) > limit:
                raise self._too_large()
            if not unpacking.eof:
                raise Refused(HTTPStatus.BAD_REQUEST, Outcome.HTTP_WRONG, "the gzip body ended early")
            packed = unpacking.unused_data
        return bytes(unpacked)

    def _too_large(self) -> Refused:
        limit = self.server.desk.settings.http_body_bytes_max
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            Outcome.HTTP_TOO_LARGE,
            f"a body has at most {limit} bytes, unpacked; send smaller ones, or raise inputs.http_body_bytes_max",
        )

    def _answer(self, status: HTTPStatus, words: str) -> None:
        said = f"{words}\n".encode() if words else b""
        self.send_response(status)
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self.send_header("Retry-After", str(RETRY_SECS))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Bearer realm="unproxy"')
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "POST")
        if said:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(said)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)
