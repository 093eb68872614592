"""ClickHouse's HTTP interface on loopback, in front of the engine library.

It answers as a server does: `/ping`, statements in `?query=` or in the body, settings and parameters in the URL,
compressed and chunked bodies, errors with ClickHouse's code. It has no TLS and no sessions over several requests
(`session_id` is ignored), and it does not compress its answers.

Every process and every web page on this machine can reach a port on loopback. Each request except `/ping` must therefore
log in as user `default` with the secret of the data folder. Requests that a browser sends for a web page are refused; they
are recognised by `Host` (DNS rebinding), `Origin` and `Sec-Fetch-Site`.
"""

from __future__ import annotations

import base64
import binascii
import email.parser
import email.policy
import hmac
import json
import logging
import os
import signal
import sys
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from unproxy.local.servers.bodies import BodyError, body_of, decompressed
from unproxy.local.servers.service import HOST, EmbeddedError
from unproxy.local.servers.sessions import DEFAULT_FORMAT, Answer, Request, RequestError, Sessions

log = logging.getLogger(__name__)

STOP_SECS_MAX = 1.0
"""Seconds that requests under way may take after a stop; longer ones are cut, and their clients must try again."""
CLOSE_SECS_MAX = 0.7
"""Seconds that the engine may take to close; acknowledged rows are on disk already."""
ACCEPT_POLL_SECS = 0.05

USER = "default"
LOOPBACK = (HOST, "localhost", "::1")
"""Host names by which clients may address this server. The port is not compared: it differs behind a tunnel."""

_OF_THE_INTERFACE = frozenset(
    (
        *("query", "database", "default_format", "role", "user", "password", "quota_key", "query_id", "stacktrace"),
        *("session_id", "session_timeout", "session_check", "close_session", "client_protocol_version"),
        *("compress", "decompress", "enable_http_compression", "wait_end_of_query", "buffer_size"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms"),
    )
)
"""Parameters of the URL that are not settings of ClickHouse."""

_STATUS_OF_CODE = {
    **dict.fromkeys((6, 25, 26, 27, 32, 33, 36, 38, 41, 42, 43, 53, 62, 69, 72, 117, 376, 441, 456), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 99, 115, 336), 404),
    **dict.fromkeys((497, 516), 403),
    48: 501,
    159: 408,
    307: 413,
}
_OTHER_ERROR = 500
_BAD_ARGUMENTS = 36
_ACCESS_DENIED = 497
_AUTHENTICATION_FAILED = 516
_NOT_IMPLEMENTED = 48

_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
}


def serve(data: Path, port: int, secret: SecretStr) -> int:
    """Serve until SIGTERM or SIGINT, then end the process. Return the exit code if the server cannot start."""
    try:
        sessions = Sessions(data)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        server = Front(port, sessions, secret)
    except OSError as error:
        print(f"port {port}: cannot be listened on: {error.strerror}; name another", file=sys.stderr)
        sessions.close()
        return 2
    end = _end_signal()
    threading.Thread(target=server.serve_forever, args=(ACCEPT_POLL_SECS,), name="front", daemon=True).start()
    os.read(end, 1)
    server.shutdown()
    if server.drain(STOP_SECS_MAX):
        # The library waits for its work under way, and may meanwhile keep Python code from running. SIGALRM then ends
        # the process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, CLOSE_SECS_MAX)
        sessions.close()
    # Do not return: Python would wait for the library's threads and for a query that was cut.
    os._exit(0)


def _end_signal() -> int:
    """Return a pipe that becomes readable when the process gets SIGTERM or SIGINT.

    A threading.Event is not enough: if a thread of the library gets the signal, the main thread continues to wait.
    """
    end, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return end


class Front(ThreadingHTTPServer):
    """The HTTP server; its requests are run in `sessions`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, sessions: Sessions, secret: SecretStr) -> None:
        self.sessions = sessions
        self._secret = secret.get_secret_value().encode()
        self._busy = 0
        self._changed = threading.Condition()
        super().__init__((HOST, port), _Handler)

    def knows(self, user: str, password: str) -> bool:
        """Return whether user and password are right; a wrong password always takes the same time."""
        given = password.encode("utf-8", errors="surrogateescape")
        return hmac.compare_digest(given, self._secret) and user == USER

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request as under way within the context."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def drain(self, timeout_secs: float) -> bool:
        """Wait until no request is under way; return False if some are left after `timeout_secs` seconds."""
        with self._changed:
            if done := self._changed.wait_for(lambda: self._busy == 0, timeout_secs):
                return done
            log.warning("ending with requests under way: %d", self._busy)
            return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error unless the client closed the connection."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Front

    def do_GET(self) -> None:
        """Run a statement that may only read, as a ClickHouse server does for GET."""
        self._answer_request(read_only=True)

    def do_POST(self) -> None:
        """Run any statement."""
        self._answer_request(read_only=False)

    do_HEAD = do_GET  # noqa: N815  # named by http.server

    def log_message(self, format: str, *args: Any) -> None:
        """Suppress the log entry per request."""

    def _answer_request(self, *, read_only: bool) -> None:
        with self.server.under_way():
            address = urlsplit(self.path)
            given = dict(parse_qsl(address.query, keep_blank_values=True))
            asks_nothing = address.path == "/" and self.command != "POST" and "query" not in given
            if refusal := self._refusal():
                self._refuse(_ACCESS_DENIED, refusal)
            elif address.path in ("/ping", "/replicas_status") or asks_nothing:
                self._send(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
            elif not self.server.knows(*self._login(given)):
                # There is no WWW-Authenticate header: a browser would ask for the login, then send it for any web page.
                self._refuse(
                    _AUTHENTICATION_FAILED,
                    f"{USER}: Authentication failed: password is incorrect, or there is no user with such name; the user is "
                    f"{USER}, the password is in the file `secret` beside the engine's data.",
                )
            elif address.path != "/":
                self.close_connection = True
                self._fail(RequestError(_BAD_ARGUMENTS, f"There is no handle {address.path}"), status=404)
            else:
                self._run(given, read_only=read_only)

    def _refusal(self) -> str:
        """Return why a request that a web page may have sent is refused; "" if no web page can have sent it."""
        hosts = self.headers.get_all("Host", [])
        host = hosts[0].strip() if len(hosts) == 1 else ""
        if _hostname(host) not in LOOPBACK:
            return f"Host must be one of {', '.join(LOOPBACK)}."
        if any(origin != f"http://{host}" for origin in self.headers.get_all("Origin", [])):
            return "Web pages may not ask this engine."
        # Browsers send same-site for a page from another port of this machine, cross-site for all others.
        if any(site not in ("none", "same-origin") for site in self.headers.get_all("Sec-Fetch-Site", [])):
            return "Web pages may not ask this engine."
        return ""

    def _login(self, given: dict[str, str]) -> tuple[str, str]:
        """Return user and password, from the same places as a ClickHouse server: its own headers, Basic auth, the URL."""
        named = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        if any(value is not None for value in named):
            return named[0] or USER, named[1] or ""
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                user, _, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return "", ""
            return user, password
        return given.get("user", USER), given.get("password", "")

    def _refuse(self, code: int, text: str) -> None:
        """Refuse the request without reading its body, and close the connection, which cannot be used again."""
        self.close_connection = True
        self._fail(RequestError(code, text))

    def _run(self, given: dict[str, str], *, read_only: bool) -> None:
        sent = body_of(self.headers, self.rfile)  # type: ignore[arg-type]  # a Message is a mapping, only not declared so
        try:
            answer = self.server.sessions.run(self._request(given, sent, read_only=read_only))
        except RequestError as error:
            self._read_on(sent)
            self._fail(error)
        except BodyError as error:
            self.close_connection = True
            self._read_on(sent)
            self._fail(RequestError(_BAD_ARGUMENTS, f"{error}."))
        else:
            self._succeed(answer)

    def _read_on(self, sent: Iterator[bytes]) -> None:
        """Read and discard the rest of the body, which would otherwise be taken for the next request."""
        try:
            deque(sent, maxlen=0)
        except BodyError:
            self.close_connection = True

    def _request(self, given: dict[str, str], sent: Iterator[bytes], *, read_only: bool) -> Request:
        if given.get("compress") == "1" or given.get("decompress") == "1":
            raise RequestError(
                _NOT_IMPLEMENTED, "ClickHouse's own block compression is not offered; use Content-Encoding."
            )
        pieces = decompressed(self.headers.get("Content-Encoding", ""), sent)
        if self.headers.get_content_type() == "multipart/form-data":
            given = {**given, **_form(self.headers["Content-Type"], b"".join(pieces))}
            pieces = iter(())
        query = given.get("query", "").encode("utf-8", errors="surrogateescape")
        return Request(
            text=chain([query + b"\n"], pieces) if query else pieces,
            database=given.get("database") or self.headers.get("X-ClickHouse-Database") or "",
            settings={k: v for k, v in given.items() if k not in _OF_THE_INTERFACE and not k.startswith("param_")},
            parameters={k.removeprefix("param_"): v for k, v in given.items() if k.startswith("param_")},
            default_format=given.get("default_format") or self.headers.get("X-ClickHouse-Format") or DEFAULT_FORMAT,
            read_only=read_only,
        )

    def _succeed(self, answer: Answer) -> None:
        headers = {
            "Content-Type": _CONTENT_TYPES.get(answer.format, "application/octet-stream"),
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Timezone": self.server.sessions.timezone,
            "X-ClickHouse-Summary": json.dumps({name: str(count) for name, count in answer.summary.items()}),
        }
        self._send(200, answer.body, headers)

    def _fail(self, error: RequestError, *, status: int = 0) -> None:
        text = str(error)
        text = text if text.startswith("Code: ") else f"Code: {error.code}. DB::Exception: {text}"
        if "(version " not in text:
            text = f"{text} (version {self.server.sessions.version})"
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Exception-Code": str(error.code),
        }
        self._send(status or _STATUS_OF_CODE.get(error.code, _OTHER_ERROR), f"{text}\n".encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-ClickHouse-Query-Id", str(uuid.uuid4()))
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _hostname(host: str) -> str:
    """Return the name in a Host header, in lower case; "" if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        return "" if parts.path or parts.query or parts.fragment or parts.username else (parts.hostname or "")
    except ValueError:
        return ""


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form, in which clients send long parameters. Raises RequestError if it contains a file."""
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.iter_parts():
        if part.get_filename():
            raise RequestError(_NOT_IMPLEMENTED, "Tables sent along with a query are not offered.")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields[str(part.get_param("name", header="Content-Disposition"))] = content.decode("utf-8")
    return fields
