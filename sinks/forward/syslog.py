"""A syslog receiver: RFC 5424 messages that contain CEF, over TCP with octet counting (RFC 6587), TLS (RFC 5425) or UDP.

Syslog has no replies. Over TCP and TLS, an alert counts as delivered once the receiver's machine has acknowledged its
bytes; on systems that do not report this (Linux does), once it is sent. Bytes that the machine still buffers are lost
if the receiver crashes. Therefore, if a connection breaks, its latest messages are sent again on the next connection;
if the receiver closes it properly, they are not. UDP guarantees nothing.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import sys
import termios
import time
from collections import deque
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from common import tls
from schemas.address import split_authority
from schemas.clock import parse_micros
from schemas.indicators import Severity
from schemas.settings import ForwardSettings
from sinks.forward.alert import ForwardedAlert
from sinks.forward.cef import cef
from sinks.forward.target import Answer, Reply

SYSLOG_SEVERITY: dict[str, int] = {
    Severity.INFORMATIONAL: 6,
    Severity.LOW: 5,
    Severity.MEDIUM: 4,
    Severity.HIGH: 3,
}
"""RFC 5424 section 6.2.1: informational, notice, warning, error."""
SEVERITY_UNKNOWN = 4

AGAIN_MAX = 100
"""Largest number of messages that are sent again after their connection broke."""

HOST_CHARS_MAX = 64
KIND_CHARS_MAX = 32
POLL_SECS = 0.002


class Syslog:
    """A syslog receiver on a persistent connection; one message is sent at a time."""

    parallel = 1

    def __init__(self, settings: ForwardSettings) -> None:
        self._place = split_authority(settings.syslog_address, 0)
        self._transport = settings.syslog_transport
        self.name = f"syslog {self._transport} {settings.syslog_address}"
        self._facility = settings.syslog_facility
        udp = self._transport == "udp"
        self._bytes_max = settings.syslog_datagram_bytes_max if udp else settings.syslog_bytes_max
        self._timeout_secs = settings.timeout_secs
        self._context = (
            tls.context("forward.", settings.ca_file, settings.client_cert_file) if self._transport == "tls" else None
        )
        self._host = socket.gethostname()
        self._connection: socket.socket | None = None
        self._sent: deque[bytes] = deque(maxlen=AGAIN_MAX)
        """The latest frames sent on the connection; if it breaks, they are kept until they are sent again."""

    def send(self, raw: bytes, alert: ForwardedAlert) -> Reply:
        """Try once to send the alert, and return the result."""
        del raw
        message = syslog_message(alert, self._facility, self._host, self._bytes_max)
        try:
            if self._transport == "udp":
                self._connected().send(message)
                return Reply(Answer.DELIVERED, "sent; UDP has no acknowledgement")
            self._write(b"%d %b" % (len(message), message))
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not trusted ({error.verify_message}); check forward.ca_file and the name"
            return self._failed(Answer.MISCONFIGURED, why)
        except TimeoutError:
            return self._failed(Answer.TIMEOUT, "did not take it in time")
        except OSError as error:
            return self._failed(Answer.UNREACHABLE, f"no connection: {error.strerror or error}")
        return Reply(Answer.DELIVERED, "acknowledged by its machine" if _tells() else "sent")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _failed(self, answer: Answer, text: str) -> Reply:
        self.close()
        return Reply(answer, text)

    def _write(self, frame: bytes) -> None:
        if self._connection is not None and _closed(self._connection):
            # The receiver closed the connection properly, so it has read all bytes: a peer that closes with unread
            # bytes resets the connection instead.
            self.close()
            self._sent.clear()
        again = [] if self._connection is not None else list(self._sent)
        connection = self._connected()
        for piece in (*again, frame):
            connection.sendall(piece)
        _await_acknowledgement(connection, time.monotonic() + self._timeout_secs)
        if _closed(connection):
            raise ConnectionResetError("closed while it was sent")
        self._sent.append(frame)

    def _connected(self) -> socket.socket:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> socket.socket:
        if self._transport == "udp":
            family, kind, protocol, _, place = socket.getaddrinfo(*self._place, type=socket.SOCK_DGRAM)[0]
            datagrams = socket.socket(family, kind, protocol)
            datagrams.connect(place)
            return datagrams
        plain = socket.create_connection(self._place, self._timeout_secs)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=self._place[0])
        except BaseException:  # no other code closes the socket
            plain.close()
            raise


def syslog_message(alert: ForwardedAlert, facility: int, host: str, bytes_max: int) -> bytes:
    """Return a syslog message of at most `bytes_max` bytes.

    Its timestamp is the time of the alert's latest request. It has no byte order mark, because CEF parsers fail on one.
    """
    priority = 8 * facility + SYSLOG_SEVERITY.get(alert.Severity, SEVERITY_UNKNOWN)
    kind = _printable(alert.Kind, KIND_CHARS_MAX)
    head = f"<{priority}>1 {_time(alert.LastTime)} {_printable(host, HOST_CHARS_MAX)} unproxy - {kind} - ".encode()
    return head + cef(alert, installed_version(), bytes_max - len(head))


@cache
def installed_version() -> str:
    """Return the version of this program; "0" if it is not installed."""
    try:
        return version("unproxy")
    except PackageNotFoundError:
        return "0"


def _time(text: str) -> str:
    try:
        parse_micros(text)
    except ValueError:
        return "-"
    return text if text.endswith("Z") and text.isascii() else "-"


def _printable(text: str, chars_max: int) -> str:
    return "".join(char for char in text if "!" <= char <= "~")[:chars_max] or "-"


def _closed(connection: socket.socket) -> bool:
    """Return whether the other side has closed the connection. Raises OSError if it is broken."""
    before = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(4_096) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        connection.settimeout(before)


def _tells() -> bool:
    """Return whether the system reports how many bytes the other side has acknowledged (Linux: SIOCOUTQ, see tcp(7))."""
    return sys.platform == "linux"


def _await_acknowledgement(connection: socket.socket, deadline: float) -> None:
    if not _tells():
        return
    while _unacknowledged_bytes(connection):
        if time.monotonic() >= deadline:
            raise TimeoutError
        time.sleep(POLL_SECS)


def _unacknowledged_bytes(connection: socket.socket) -> int:
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(answer, sys.byteorder)
