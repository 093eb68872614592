"""Takes POSTed lines, and answers only once Kafka has all of them.

    204    Kafka has every line of the body
    400 401 404 405 411 413 415    the request is wrong: the answer says how; sending it again as it is changes nothing
    429 503    there is no room, no answer of Kafka, or we stop: Retry-After says when to send the whole body again

A client that got no answer sends its body again; what Kafka had by then is there twice, and is one row, as identity comes from
content. Each client's address is a sensor of its own, in the order its bodies came.
"""

from __future__ import annotations

import hmac
import logging
import threading
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from socketserver import TCPServer
from typing import Any, NamedTuple

from producers.endpoint import Endpoint
from producers.inputs import Outcome, published_before
from producers.lines import CHUNK_BYTES, Lines
from producers.listening import bound, here
from producers.source import Line, Source, SourceError, SourceFile
from schemas.address import canonical_ip
from schemas.settings import InputSettings

log = logging.getLogger(__name__)

CLIENTS_MAX = 1_000
"""Addresses whose lines are remembered as one file; beyond it those that wait for nothing are forgotten."""
HELD_SECS_MAX = 1.0
"""Of a client that sent nothing for this long no line is held back for others that may belong to it."""
RETRY_SECS = 2
"""After so long a client may try again."""
SILENT_SECS_MAX = 30.0
"""A connection that says nothing for so long is closed."""
PASSED_BYTES_MAX, PASSED_SECS_MAX = 1024 * 1024, 0.2
"""So much of a refused body is read and thrown away, and so long it is waited for."""
STOP_SECS_MAX = 0.5
"""For the answers under way when we stop."""
_BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpInput:
    """One address that takes lines. Raises SourceError when it cannot be listened on, or no token is set."""

    def __init__(
        self,
        source: Source,
        endpoint: Endpoint,
        settings: InputSettings,
        counts: Counter[str],
        *,
        line_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        if not settings.http_token.get_secret_value():
            raise SourceError(
                f"{endpoint}: whoever reaches it could send lines; set inputs.http_token"
                " (better UNPROXY_INPUTS__HTTP_TOKEN in the environment), and send it as Authorization: Bearer TOKEN"
            )
        self._dialect, self._endpoint, self._line_bytes_max = source.dialect, endpoint, line_bytes_max
        self._counts, self._clock = counts, clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._stopped = False
        self._desk = Desk(settings)
        self._server = bound(endpoint, lambda place: _Server(place, self._desk, endpoint.name))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http-input", daemon=True)
        self._thread.start()
        log.info("listening", extra={"source": str(endpoint)})

    def lines(self) -> Iterator[Line | None]:
        """Lines of the bodies, each client's in the order they came."""
        while True:
            body = self._desk.next_body() if not self._stopped else None
            if body is not None:
                yield from self._client(body.client).take(body, self._clock())
                continue
            now = self._clock()
            for client in self._clients.values():
                if now - client.quiet_since >= HELD_SECS_MAX:
                    yield from client.lines.let_go()
            yield None

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Answer the requests whose lines are published as a whole."""
        for client in self._clients.values():
            for body in client.done(published_before(client.lines.file, before)):
                self._desk.settle(body)
        self._counts.update(self._desk.take_counts())

    def stop(self) -> None:
        """Begin no other body; the one that was begun is given."""
        self._stopped = True

    def close(self) -> None:
        """Take no more, and have those who still wait send again."""
        self._desk.close()
        self._server.shutdown()
        self._thread.join()
        self._server.wait_for_answers(STOP_SECS_MAX)
        self._server.server_close()
        self._counts.update(self._desk.take_counts())

    def _client(self, address: str) -> _Client:
        client = self._clients.get(address)
        if client is None:
            file = SourceFile(self._dialect.name, str(self._endpoint), f"{here(self._endpoint)}/{address}")
            client = self._clients[address] = _Client(Lines(file, self._dialect, self._line_bytes_max))
        self._clients.move_to_end(address)
        if len(self._clients) > CLIENTS_MAX:
            idle = next((name for name, one in self._clients.items() if one is not client and not one.waiting), None)
            if idle is not None:
                del self._clients[idle]
        return client


class Body:
    """The lines of one request, and its answer once there is one."""

    def __init__(self, client: str, value: bytes) -> None:
        self.client, self.value = client, value
        self.published: bool | None = None
        self.answered = threading.Event()


class Refused(Exception):
    """A request that is not taken: the status and what to do, in words."""

    def __init__(self, status: HTTPStatus, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.status, self.outcome = status, outcome


class Desk:
    """Between the threads of the requests and the producer's loop: what waits for it, and how much that may be."""

    def __init__(self, settings: InputSettings) -> None:
        self.settings = settings
        self.unpacking = threading.Lock()
        """One body at a time has a size that nobody made room for."""
        self._token = f"Bearer {settings.http_token.get_secret_value()}".encode()
        self._lock = threading.Lock()
        self._queue: deque[Body] = deque()
        self._bytes = 0
        self._unanswered: set[Body] = set()
        self._counts: Counter[str] = Counter()
        self._closed = False

    def knows(self, authorization: str) -> bool:
        """Whether the header holds the token."""
        return hmac.compare_digest(authorization.encode("utf-8", "replace"), self._token)

    def count(self, outcome: Outcome) -> None:
        """From any thread."""
        with self._lock:
            self._counts[outcome] += 1

    def take_counts(self) -> Counter[str]:
        """What was counted since the last time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def reserve(self, size: int) -> None:
        """Have room for a body before it is read. Raises Refused when there is none."""
        with self._lock:
            if self._closed:
                raise stopping()
            if self._bytes and self._bytes + size > self.settings.http_waiting_bytes_max:
                raise Refused(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    Outcome.HTTP_FULL,
                    "Kafka takes less than is sent; send it again later",
                )
            self._bytes += size

    def free(self, size: int) -> None:
        """Give room back."""
        with self._lock:
            self._bytes -= size

    def publish(self, body: Body) -> None:
        """Hand a body to the loop and wait until Kafka has it. Raises Refused when it does not get it in time."""
        with self._lock:
            if self._closed:
                raise stopping()
            self._queue.append(body)
            self._unanswered.add(body)
        body.answered.wait(self.settings.http_answer_secs_max)
        with self._lock:
            self._unanswered.discard(body)
            if body.published is None and body in self._queue:
                self._queue.remove(body)
        if body.published is None:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                Outcome.HTTP_UNANSWERED,
                "Kafka did not acknowledge these lines in time; send them again, those it has will not count twice",
            )
        if not body.published:
            raise stopping()

    def next_body(self) -> Body | None:
        """For the loop: the body that waits for longest."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    def settle(self, body: Body) -> None:
        """Kafka has it."""
        body.published = True
        body.answered.set()

    def close(self) -> None:
        """Everybody who waits is told to come again."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            for body in self._unanswered:
                if body.published is None:
                    body.published = False
                    body.answered.set()


def stopping() -> Refused:
    """What is answered while we stop."""
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Outcome.HTTP_STOPPING,
        "this producer stops; send these lines again, those Kafka has will not count twice",
    )


class _Mark(NamedTuple):
    end: int
    body: Body


class _Client:
    """The bodies of one client, one after the other, as if they were a file."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.quiet_since = 0.0
        self.waiting: deque[_Mark] = deque()

    def take(self, body: Body, now: float) -> Iterator[Line]:
        """Its lines. A body ends its last line, with or without newline."""
        self.quiet_since = now
        value = body.value if body.value.endswith(b"\n") else body.value + b"\n"
        self.waiting.append(_Mark(self.lines.fed_to + len(value), body))
        for start in range(0, len(value), CHUNK_BYTES):
            yield from self.lines.feed(value[start : start + CHUNK_BYTES])
        self.lines.file.taken = self.lines.given_to

    def done(self, before: int) -> Iterator[Body]:
        """The bodies that are published as a whole."""
        while self.waiting and self.waiting[0].end <= before:
            yield self.waiting.popleft().body


class _Server(ThreadingHTTPServer):
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
        except OSError:
            pass  # it went away
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


class _Handler(BaseHTTPRequestHandler):
    server: _Server
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
