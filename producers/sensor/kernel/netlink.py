"""Netlink messages for sock_diag, nfnetlink_queue and nf_tables: encoding, parsing, and requests with their responses.

Source: RFC 3549; netlink(7); include/uapi/linux/netlink.h. An incomplete message ends the parsing; no message raises an
exception. Datagrams from other senders than the kernel are ignored: processes with CAP_NET_ADMIN in the same network namespace
may send such datagrams.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

log = logging.getLogger(__name__)

SOCK_DIAG, NETFILTER = 4, 12
"""Protocols of the netlink address family."""
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
NOOP, ERROR, DONE = 1, 2, 3
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 1 << 18
"""More than the largest message, a packet of 64 KiB with its attributes."""
KERNEL = 0
"""The kernel's netlink address."""
ANSWER_SECS = 2.0
"""Response timeout. The kernel responds at once or never."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_KIND_BITS = 0x3FFF
"""Mask of the attribute type; the upper two bits are the flags for nesting and byte order."""


class Message(NamedTuple):
    """A message without its header."""

    kind: int
    number: int
    body: bytes


def message(kind: int, body: bytes, flags: int = REQUEST, number: int = 0) -> bytes:
    """Encode a message."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Encode an attribute, padded to a multiple of 4 bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def messages(raw: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram."""
    at = 0
    while len(raw) - at >= _HEADER.size:
        length, kind, _, number, _ = _HEADER.unpack_from(raw, at)
        if not _HEADER.size <= length <= len(raw) - at:
            return
        yield Message(kind, number, raw[at + _HEADER.size : at + length])
        at += length + -length % 4


def attributes(raw: bytes) -> dict[int, bytes]:
    """Parse attributes by kind. If a kind occurs several times, its last value is returned."""
    found: dict[int, bytes] = {}
    at = 0
    while len(raw) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        if not _ATTRIBUTE.size <= length <= len(raw) - at:
            break
        found[kind & _KIND_BITS] = raw[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
    return found


def error_of(body: bytes) -> int:
    """Return the error number of a message of the kind ERROR; 0 is an acknowledgement."""
    return -int.from_bytes(body[:4], "little" if struct.pack("=H", 1)[0] else "big", signed=True)


def opened(protocol: int, groups: tuple[int, ...] = (), receive_bytes: int = 0) -> socket.socket:
    """Open a socket of a protocol and join multicast groups. Raises OSError."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        if receive_bytes:
            _enlarge(link, receive_bytes)
        link.bind((0, 0))
        for group in groups:
            link.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
    except BaseException:  # close the socket on any exception
        link.close()
        raise
    return link


def _enlarge(link: socket.socket, receive_bytes: int) -> None:
    """Set the receive buffer; without CAP_NET_ADMIN in the initial user namespace, at most `net.core.rmem_max` (socket(7))."""
    try:
        link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_bytes)
    except PermissionError:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        # The kernel doubles the size for its own bookkeeping and returns the doubled one.
        given = link.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if given < receive_bytes:
            log.warning(
                "receive buffer is limited by net.core.rmem_max, so a burst overflows it earlier; raise that limit",
                extra={"wanted_bytes": receive_bytes, "given_bytes": given},
            )


def received(link: socket.socket) -> bytes:
    """Receive a datagram; return b"" if the kernel did not send it. Raises OSError as `recv` does."""
    raw, (sender, _) = link.recvfrom(RECEIVE_BYTES)
    return raw if sender == KERNEL else b""


def await_ack(link: socket.socket, first: int = 0, last: int = 0) -> None:
    """Wait for the acknowledgement of message `last`.

    Raises OSError with the kernel's reason if message `first` or a later one failed.
    """
    while True:
        for answer in messages(received(link)):
            if answer.kind == ERROR and answer.number >= first:
                if reason := error_of(answer.body):
                    raise OSError(reason, os.strerror(reason))
                if answer.number == last:
                    return


class Asker:
    """A client that sends one request at a time and waits for its response. Not thread-safe."""

    def __init__(self, protocol: int) -> None:
        self._link = opened(protocol)
        self._link.settimeout(ANSWER_SECS)
        self._number = 0

    def ask(self, kind: int, body: bytes, flags: int = REQUEST) -> Message:
        """Return the first message of the response. Raises OSError with the kernel's reason, TimeoutError without a response."""
        self._number = self._number % 0x7FFFFFFF + 1
        self._link.send(message(kind, body, flags, self._number))
        while True:
            for answer in messages(received(self._link)):
                if answer.number != self._number or answer.kind == NOOP:
                    continue
                if answer.kind == ERROR and (reason := error_of(answer.body)):
                    raise OSError(reason, os.strerror(reason))
                return answer

    def close(self) -> None:
        """Close the socket."""
        self._link.close()


def is_loss(error: OSError) -> bool:
    """Return whether the error means that the kernel dropped messages because the receive buffer was full."""
    return error.errno == errno.ENOBUFS
