"""nf_tables rules that send packets to the proxies, and no others, to the sensor's queue.

The sensor has its own table (for IPv4, and for IPv6 if the machine has it), written over netlink without an external program.
The kernel removes the table when the sensor ends in any way, and lets no other process change it (`NFT_TABLE_F_OWNER`, Linux
5.12). On older kernels the table's name identifies its owner: the sensor removes its table at its end, and those of killed
sensors at its start. The rules of other programs are never changed.

The rules precede address translation (priority of `mangle`), so that a packet has its socket's addresses. With `bypass` the
kernel lets all packets pass while no process listens to the queue: a dead sensor blocks nothing. A kernel without the
expression `queue` may have iptables' NFQUEUE, which is used instead.

Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables,nf_tables_compat,xt_NFQUEUE}.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from producers.sensor.kernel.netlink import (
    ACK,
    ANSWER_SECS,
    DONE,
    DUMP,
    ERROR,
    NETFILTER,
    REQUEST,
    attribute,
    attributes,
    await_ack,
    message,
    messages,
    opened,
    received,
)
from producers.sensor.kernel.owner import is_left, own_name

ProxyAddress = tuple[str, int]
"""A canonical address ("" for any) and a port (0 for any)."""
ANY: ProxyAddress = ("", 0)

_GENERAL = struct.Struct("!BBH")
_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, _DELETE_RULE = (
    _NFTABLES << 8 | n for n in (0, 1, 2, 3, 6, 8)
)
_CREATE, _APPEND = 0x400, 0x800
_TABLE_OWNER = 2
_LOCAL_OUT, _PRIORITY = 3, -150
_CHAIN = "output"
_REGISTER = 1
_META_PROTOCOL = 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_DESTINATION_AT: dict[int, int] = {socket.AF_INET: 16, socket.AF_INET6: 24}
_BYPASS = 1
_NESTED = 0x8000
_NO_SUCH_EXPRESSION = (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL)


class NoRules(Exception):
    """The rules cannot be set; the message gives the reason."""


class Rules:
    """The sensor's table, until closed. Not thread-safe.

    If `owned`, the kernel ties the table to this process, unless the kernel is too old for that. The
    constructor raises NoRules if nf_tables is unavailable.
    """

    def __init__(self, *, owned: bool = True) -> None:
        try:
            self._link = opened(NETFILTER)
        except OSError as error:
            raise NoRules(f"no nf_tables: {error.strerror}") from None
        self._link.settimeout(ANSWER_SECS)
        self._number = 0
        self.name = own_name()
        self._owned = owned
        self._families = [socket.AF_INET] + ([socket.AF_INET6] if Path("/proc/self/net/if_inet6").exists() else [])
        self._there = False

    def put(self, proxies: Iterable[ProxyAddress], queue: int) -> None:
        """Replace the sensor's rules atomically: send packets to these proxies to the queue with this number.

        Raises NoRules if the kernel refuses; the previous rules then stay.
        """
        wanted = sorted(proxies)
        tries: list[tuple[bool, Callable[[int], bytes]]] = [
            (owned, way) for owned in ((True, False) if self._owned else (False,)) for way in (_queue, _target)
        ]
        refused = None
        for owned, way in tries:
            try:
                self._commit(self._batch(wanted, way(queue), owned))
            except OSError as error:
                refused = error
                if error.errno not in _NO_SUCH_EXPRESSION:
                    break
                continue
            self._there = True
            return
        raise NoRules(f"nf_tables: {refused.strerror or refused}" if refused else "nf_tables: no rules were installed")

    def remove(self) -> None:
        """Remove the table, if it exists."""
        if self._there:
            self._there = False
            for family in self._families:
                with suppress(OSError):
                    self._commit([(_DELETE_TABLE, 0, _general(family) + _text(1, self.name))])

    def remove_left(self) -> list[str]:
        """Remove the tables of killed sensors; return their names."""
        removed: dict[str, None] = {}
        with suppress(OSError):
            for family, name in self.tables():
                if is_left(name):
                    self._commit([(_DELETE_TABLE, 0, _general(family) + _text(1, name))])
                    removed[name] = None
        return list(removed)

    def tables(self) -> list[tuple[int, str]]:
        """Return family and name of every table, of any owner. Raises OSError."""
        self._number += 1
        self._link.send(message(_GET_TABLE, _general(socket.AF_UNSPEC), REQUEST | DUMP, self._number))
        found: list[tuple[int, str]] = []
        while True:
            for answer in messages(received(self._link)):
                if answer.number != self._number:
                    continue
                if answer.kind in (DONE, ERROR):
                    return found
                name = attributes(answer.body[_GENERAL.size :]).get(1, b"").rstrip(b"\0")
                found.append((answer.body[0] if answer.body else 0, name.decode(errors="replace")))

    def close(self) -> None:
        """Remove the table and close the socket."""
        self.remove()
        self._link.close()

    def _batch(self, proxies: list[ProxyAddress], way: bytes, owned: bool) -> list[tuple[int, int, bytes]]:
        batch: list[tuple[int, int, bytes]] = []
        for family in self._families:
            table = _general(family) + _text(1, self.name)
            if self._there:
                batch.append((_DELETE_RULE, 0, table + _text(2, _CHAIN)))
            else:
                flags = attribute(2, struct.pack("!I", _TABLE_OWNER)) if owned else b""
                hook = attribute(1, struct.pack("!I", _LOCAL_OUT)) + attribute(2, struct.pack("!i", _PRIORITY))
                batch.append((_NEW_TABLE, _CREATE, table + flags))
                chain = _text(3, _CHAIN) + _nested(4, hook) + attribute(5, struct.pack("!I", 1)) + _text(7, "filter")
                batch.append((_NEW_CHAIN, _CREATE, table + chain))
            for address, port in proxies:
                if not address or (":" in address) == (family == socket.AF_INET6):
                    rule = table + _text(2, _CHAIN) + _nested(4, _goes_to(family, address, port) + way)
                    batch.append((_NEW_RULE, _CREATE | _APPEND, rule))
        return batch

    def _commit(self, batch: list[tuple[int, int, bytes]]) -> None:
        """Apply a batch atomically. Raises OSError with the kernel's reason."""
        edge = _GENERAL.pack(socket.AF_UNSPEC, 0, _NFTABLES)
        first = self._number + 1
        raw = message(_BATCH_BEGIN, edge, REQUEST, first)
        for number, (kind, flags, body) in enumerate(batch, first + 1):
            raw += message(kind, body, REQUEST | ACK | flags, number)
        last = self._number = first + len(batch)
        self._link.send(raw + message(_BATCH_END, edge, REQUEST, last))
        await_ack(self._link, first, last)


def _goes_to(family: int, address: str, port: int) -> bytes:
    """Encode the expressions that match TCP, the port and the address; port 0 and address "" match any."""
    matches = _is_equal(
        "meta", attribute(1, struct.pack("!I", _REGISTER)) + attribute(2, struct.pack("!I", _META_PROTOCOL)),
        bytes([socket.IPPROTO_TCP]),
    )  # fmt: skip
    if port:
        matches += _is_equal("payload", _loaded(_TRANSPORT_HEADER, 2, 2), struct.pack("!H", port))
    if address:
        packed = ip_address(address).packed
        matches += _is_equal("payload", _loaded(_NETWORK_HEADER, _DESTINATION_AT[family], len(packed)), packed)
    return matches


def _loaded(base: int, offset: int, length: int) -> bytes:
    words = enumerate((_REGISTER, base, offset, length), 1)
    return b"".join(attribute(kind, struct.pack("!I", word)) for kind, word in words)


def _is_equal(name: str, what: bytes, value: bytes) -> bytes:
    compared = attribute(1, struct.pack("!I", _REGISTER)) + attribute(2, struct.pack("!I", 0))
    return _expression(name, what) + _expression("cmp", compared + _nested(3, attribute(1, value)))


def _queue(number: int) -> bytes:
    return _expression(
        "queue",
        b"".join(attribute(kind, struct.pack("!H", word)) for kind, word in ((1, number), (2, 1), (3, _BYPASS))),
    )


def _target(number: int) -> bytes:
    """Encode the queue expression as iptables' NFQUEUE, revision 3."""
    options = struct.pack("=HHH", number, 1, _BYPASS)
    return _expression("target", _text(1, "NFQUEUE") + attribute(2, struct.pack("!I", 3)) + attribute(3, options))


def _expression(name: str, what: bytes) -> bytes:
    return _nested(1, _text(1, name) + _nested(2, what))


def _nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, value)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _general(family: int) -> bytes:
    return _GENERAL.pack(family, 0, 0)
