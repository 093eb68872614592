"""Packets held by the kernel until the sensor's verdict: nfnetlink_queue, bounded and fail-open.

Source: include/uapi/linux/netfilter/nfnetlink_queue.h. When the queue is full, packets pass unseen (`NFQA_CFG_F_FAIL_OPEN`). Gaps
in the packet numbers give their count. When the socket closes, the kernel drops the held packets and TCP retransmits them; the
`bypass` flag of the rules then lets all packets pass.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from producers.sensor.kernel.netlink import (
    ACK,
    NETFILTER,
    REQUEST,
    attribute,
    attributes,
    await_ack,
    is_loss,
    message,
    messages,
    opened,
    received,
)

log = logging.getLogger(__name__)

QUEUE_FIRST, QUEUES = 21_840, 64
"""The range of queue numbers; the first free one is used. Inline modes of other products mostly begin with 0."""
HELD_MAX = 65_536
"""Maximum number of held packets. The socket's buffer is full before that, and its overflow can be counted."""
HELD_BYTES = 8 * 1024 * 1024
BATCH_MAX = 64
"""Maximum number of packets to decide on before verdicts are sent."""
_QUEUE = 3 << 8
_PACKET, _VERDICT, _CONFIG, _VERDICT_BATCH = _QUEUE, _QUEUE | 1, _QUEUE | 2, _QUEUE | 3
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_BIND = 1
_COPY_PACKET = 2
_COPY_BYTES = 0xFFFF
_FAIL_OPEN, _WHOLE_SEGMENTS = 1, 4
_PACKET_HDR, _VERDICT_HDR, _PAYLOAD = 1, 2, 10
_DROP, _ACCEPT = 0, 1
_GENERAL = struct.Struct("!BBH")
_NUMBER_BITS = 32


class Held(NamedTuple):
    """A packet that waits for its verdict."""

    number: int
    ip_bytes: bytes
    """The packet from its IP header on."""


class Queue:
    """A kernel packet queue with its own number. The constructor raises OSError if the queue is unavailable."""

    def __init__(self, receive_bytes: int = HELD_BYTES) -> None:
        self._link = opened(NETFILTER, receive_bytes=receive_bytes)
        try:
            self.number = self._bind()
            self._configure(attribute(_CFG_PARAMS, struct.pack("!IB", _COPY_BYTES, _COPY_PACKET)))
            flags = struct.pack("!I", _FAIL_OPEN | _WHOLE_SEGMENTS)
            self._configure(
                attribute(_CFG_MAXLEN, struct.pack("!I", HELD_MAX))
                + attribute(_CFG_FLAGS, flags)
                + attribute(_CFG_MASK, flags)
            )
            self._link.setblocking(False)
        except BaseException:  # close the socket on any exception
            self._link.close()
            raise
        self.passed_unseen = 0
        """Packets that passed because the queue was full."""
        self._last = 0

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._link.fileno()

    def take(self) -> list[Held]:
        """Read the available packets, at most `BATCH_MAX`."""
        held: list[Held] = []
        with suppress(BlockingIOError):
            while len(held) < BATCH_MAX:
                try:
                    raw = received(self._link)
                except OSError as error:
                    if not is_loss(error):
                        raise
                    continue
                held += self.held(raw)
        return held

    def held(self, raw: bytes) -> list[Held]:
        """Parse the packets of one datagram."""
        found = []
        for one in messages(raw):
            fields = attributes(one.body[_GENERAL.size :]) if one.kind == _PACKET else {}
            header = fields.get(_PACKET_HDR, b"")
            if len(header) < 4:
                continue
            number = int.from_bytes(header[:4], "big")
            self.passed_unseen += (number - self._last - 1) % (1 << _NUMBER_BITS) if number != self._last else 0
            self._last = number
            found.append(Held(number, fields.get(_PAYLOAD, b"")))
        return found

    def judge(self, held: Sequence[Held], dropped: frozenset[int] | set[int]) -> None:
        """Drop the packets whose number is in `dropped` and accept the others."""
        for one in held:
            if one.number in dropped:
                self._send_verdict(_VERDICT, _DROP, one.number)
        if any(one.number not in dropped for one in held):
            self._send_verdict(_VERDICT_BATCH, _ACCEPT, held[-1].number)

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def _send_verdict(self, kind: int, verdict: int, number: int) -> None:
        body = _GENERAL.pack(socket.AF_UNSPEC, 0, self.number)
        # No ACK: the packet may be gone, for example with its interface, and that is no error.
        self._link.send(message(kind, body + attribute(_VERDICT_HDR, struct.pack("!II", verdict, number))))

    def _bind(self) -> int:
        refused = OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for number in range(QUEUE_FIRST, QUEUE_FIRST + QUEUES):
            self.number = number
            try:
                self._configure(attribute(_CFG_CMD, struct.pack("!BBH", _BIND, 0, socket.AF_UNSPEC)))
            except OSError as error:
                # The kernel returns EPERM both for a queue in use and for a missing capability.
                if error.errno not in (errno.EBUSY, errno.EPERM):
                    raise
                refused = error
                continue
            return number
        raise refused

    def _configure(self, what: bytes) -> None:
        body = _GENERAL.pack(socket.AF_UNSPEC, 0, self.number) + what
        self._link.send(message(_CONFIG, body, REQUEST | ACK))
        await_ack(self._link)


class Gate:
    """A thread that decides on each packet of a queue and sends the verdicts. On an error the packet passes."""

    def __init__(self, queue: Queue, may_pass: Callable[[bytes], bool]) -> None:
        self.queue, self._may_pass = queue, may_pass
        self.packets = 0
        self.dropped = 0
        self.failed = 0
        """Packets that passed because the decision failed, a defect of the sensor."""
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="sensor-gate", daemon=True)

    @property
    def running(self) -> bool:
        """Return whether the thread is alive and sends verdicts."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Decide on the available packets, end the thread and close the queue.

        Remove the rules first: packets that still arrive would be dropped, and TCP would have to retransmit them.
        """
        with suppress(BlockingIOError):  # the pipe is full, so a stop was requested already
            os.write(self._wake_write, b".")
        self._thread.join()
        self.queue.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        try:
            with select.epoll() as poll:
                for handle in (self.queue.fileno(), self._wake_read):
                    poll.register(handle, select.EPOLLIN)
                asked = False
                while not asked:
                    asked = any(handle == self._wake_read for handle, _ in poll.poll())
                    while self.step():
                        pass
        except Exception as error:  # catch all: held packets must not wait for a dead thread
            log.exception("inline blocking ended, sockets are destroyed instead", extra={"error": str(error)})
            # From here on the rules' bypass lets all packets pass.
            self.queue.close()

    def step(self) -> int:
        """Decide on the available packets; return their number."""
        held = self.queue.take()
        if held:
            self.packets += len(held)
            refused = {one.number for one in held if not self._passes(one)}
            self.dropped += len(refused)
            self.queue.judge(held, refused)
        return len(held)

    def _passes(self, held: Held) -> bool:
        try:
            return self._may_pass(held.ip_bytes)
        except Exception:  # catch all: a defect of the sensor must not stop the machine's traffic
            self.failed += 1
            if self.failed & (self.failed - 1) == 0:
                log.exception("no decision on a packet, it passes", extra={"failed": self.failed})
            return True
