"""sock_diag: destruction of TCP connections in the kernel, and byte counts of connections that end.

Source: sock_diag(7); include/uapi/linux/{sock_diag,inet_diag,tcp}.h. Destruction (`SOCK_DESTROY`, Linux 4.9) requires
CAP_NET_ADMIN and a kernel built with INET_DIAG_DESTROY. The process that owns the socket gets ECONNABORTED at once, the peer a
reset. The kernel sends the end of a socket to the multicast groups SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY with a
`struct tcp_info`, which has `tcpi_bytes_sent` since Linux 4.19. Both features cover only sockets of their network namespace.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from producers.sensor.kernel.netlink import (
    ACK,
    REQUEST,
    SOCK_DIAG,
    Asker,
    attributes,
    is_loss,
    messages,
    opened,
    received,
)
from producers.sensor.kernel.trace_ring import spelled

FiveTuple = tuple[str, int, str, int]
"""Local address and port, remote address and port; addresses are canonical (`schemas.address`)."""

ENDS_BYTES = 4 * 1024 * 1024
"""Kernel memory for unread notifications of socket ends, enough for some 3,000."""
TAKE_MAX = 1_024
_BY_FAMILY, _DESTROY = 20, 21
_TCP_GROUPS = (1, 3)
_ALL_STATES = 0xFFFFFFFF
_LISTEN = 10
_NO_COOKIE = b"\xff" * 8
_INFO = 2
_ID = struct.Struct("!HH16s16s4s8s")
_SENT_AT, _RECEIVED_AT, _RETRANSMITTED_AT = 200, 128, 208
_COUNT = struct.Struct("=Q")


class Ended(NamedTuple):
    """A connection whose socket the kernel has destroyed."""

    flow: FiveTuple
    sent: int
    """Payload bytes without retransmissions."""
    received: int
    """Payload bytes received in order, plus one if the peer's FIN arrived while the socket existed."""
    unread: int
    """The part of `received` that the process did not read. The FIN counts here too until the process reads to the end."""


class Destroyer:
    """A client that destroys connections. Not thread-safe. The constructor raises OSError if the kernel has no sock_diag."""

    def __init__(self) -> None:
        self._asker = Asker(SOCK_DIAG)

    def destroy(self, flow: FiveTuple) -> bool:
        """Destroy a connection; return False if it does not exist.

        Raises OSError, with EOPNOTSUPP or EPERM if destruction is unavailable.

        The kernel's lookup falls back to a listening socket of the port. Therefore look up the connection first and destroy it by
        its cookie.
        """
        try:
            found = _shown(self._asker.ask(_BY_FAMILY, _request(flow, _NO_COOKIE)).body)
            if found is None or found.state == _LISTEN or found.flow != flow:
                return False
            self._asker.ask(_DESTROY, _request(flow, found.cookie), REQUEST | ACK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return False
            raise
        return True

    def close(self) -> None:
        """Close the netlink socket."""
        self._asker.close()


def why_not_destroy() -> str:
    """Return the reason why this machine's kernel cannot destroy connections; "" if it can."""
    try:
        asker = Asker(SOCK_DIAG)
    except OSError as error:
        return f"no sock_diag: {error.strerror}"
    try:
        # No socket has port 0: if destruction is available, the result is "not found".
        asker.ask(_DESTROY, _request(("127.0.0.1", 0, "127.0.0.1", 0), _NO_COOKIE), REQUEST | ACK)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return ""
        if error.errno == errno.EOPNOTSUPP:
            return "the kernel is built without INET_DIAG_DESTROY"
        return f"sockets may not be destroyed: {error.strerror or error}"
    finally:
        asker.close()
    return ""


class Ends:
    """The kernel's notifications of socket ends, for polling. The constructor raises OSError if they are unavailable."""

    def __init__(self, receive_bytes: int = ENDS_BYTES) -> None:
        self._link = opened(SOCK_DIAG, _TCP_GROUPS, receive_bytes)
        self._link.setblocking(False)
        self.lost = 0
        """How often the receive buffer overflowed. The kernel does not report how many notifications were lost."""
        self.without_bytes = 0
        """Notifications without byte counts, from kernels before Linux 4.19."""

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._link.fileno()

    def take(self) -> Iterator[Ended]:
        """Yield the notifications of at most `TAKE_MAX` datagrams, because sockets may end as fast as notifications are read."""
        with suppress(BlockingIOError):
            for _ in range(TAKE_MAX):
                try:
                    raw = received(self._link)
                except OSError as error:
                    if not is_loss(error):
                        raise
                    self.lost += 1
                    continue
                yield from self.ends(raw)

    def ends(self, raw: bytes) -> Iterator[Ended]:
        """Yield the notifications of one datagram."""
        for message in messages(raw):
            shown = _shown(message.body) if message.kind == _BY_FAMILY else None
            if shown is None or not shown.flow[3]:
                continue
            counts = shown.counts
            if counts is None:
                self.without_bytes += 1
            else:
                yield Ended(shown.flow, *counts, shown.unread)

    def close(self) -> None:
        """Close the netlink socket."""
        self._link.close()


class _Shown(NamedTuple):
    state: int
    flow: FiveTuple
    cookie: bytes
    unread: int
    counts: tuple[int, int] | None


_HEAD_BYTES = 4
_BODY = struct.Struct("=IIIII")


def _shown(body: bytes) -> _Shown | None:
    """Parse a `struct inet_diag_msg` with its attributes."""
    if len(body) < _HEAD_BYTES + _ID.size + _BODY.size:
        return None
    family, state = body[0], body[1]
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    local_port, remote_port, local, remote, _, cookie = _ID.unpack_from(body, _HEAD_BYTES)
    size = 4 if family == socket.AF_INET else 16
    _, unread, _, _, _ = _BODY.unpack_from(body, _HEAD_BYTES + _ID.size)
    info = attributes(body[_HEAD_BYTES + _ID.size + _BODY.size :]).get(_INFO, b"")
    counts = None
    if len(info) >= _RETRANSMITTED_AT + _COUNT.size:
        sent, again, received = (_COUNT.unpack_from(info, at)[0] for at in (_SENT_AT, _RETRANSMITTED_AT, _RECEIVED_AT))
        counts = max(0, sent - again), received
    flow = (spelled(local[:size]), local_port, spelled(remote[:size]), remote_port)
    return _Shown(state, flow, cookie, unread, counts)


def _request(flow: FiveTuple, cookie: bytes) -> bytes:
    """Encode a `struct inet_diag_req_v2`. The kernel finds an IPv6 socket with IPv4 traffic by its IPv4 addresses."""
    local, remote = ip_address(flow[0]), ip_address(flow[2])
    family = socket.AF_INET6 if isinstance(local, IPv6Address) else socket.AF_INET
    head = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ALL_STATES)
    return head + _ID.pack(flow[1], flow[3], local.packed, remote.packed, bytes(4), cookie)
