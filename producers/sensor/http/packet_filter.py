"""The packet filter of the HTTP level in classic BPF: most packets to and from a proxy never leave the kernel.

Of the client's packets to one of the ports, it accepts those with payload, SYN, FIN or RST. Of the proxy's packets, it accepts
those with FIN or RST, the first bytes of those whose payload begins with `HTTP`, and short ones that begin as a SOCKS reply.
Bodies stay in the kernel. The loopback device delivers each packet as outgoing and as incoming; only the latter is accepted.

Learnt proxies are matched by address and port, combined to one number. A proxy learnt by mistake therefore adds only the traffic
to its address, not all traffic of a busy port. If proxies are to be learnt, the filter also accepts two kinds of packets that
leave this machine: connection starts, and packets whose payload begins like a request that only proxies receive. All other
packets cost some comparisons in the kernel.

Sources: Documentation/networking/filter.rst of the kernel and include/uapi/linux/filter.h (offsets beyond `SKF_AD_OFF` refer to
metadata such as the device, not to the packet).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from producers.sensor.http.packets import ACK, EXTENSIONS, FIN, RST, SYN, TCP
from producers.sensor.http.socks import REPLY_BYTES_MAX, REQUEST_BYTES_MAX, VERSIONS

PORTS_MAX = 64
"""Maximum number of ports, as a jump spans at most 255 instructions."""
LEARNT_MAX = 32
"""Maximum number of learnt proxies, for the same reason, and because each of the machine's packets is compared with all."""
CLIENT_BYTES = 32_768
"""Captured bytes of a client's packet. A head fits in; segments that the network card splits later may be longer."""
PROXY_BYTES = 256
_LD_W, _LD_H, _LD_B = 0x20, 0x28, 0x30
_LD_LEN = 0x80
_LD_X_W, _LD_X_H, _LD_X_B = 0x40, 0x48, 0x50
"""Loads relative to X."""
_LDX_IMM, _LDX_V4_HEAD = 0x01, 0xB1
_ST, _STX, _LDX_KEPT = 0x02, 0x03, 0x61
"""Stores to and loads from the filter's scratch memory."""
_AND, _RSH, _ADD_X, _SUB_X, _TAX, _MUL, _XOR_X = 0x54, 0x74, 0x0C, 0x1C, 0x07, 0x24, 0xAC
_JEQ, _JSET, _JGT, _JGT_X = 0x15, 0x45, 0x25, 0x2D
_RET = 0x06
_AD_PKTTYPE, _AD_HATYPE = 0xFFFFF000 + 4, 0xFFFFF000 + 28
_OUTGOING, _LOOPBACK = 4, 772
_TCP_AT, _SRC, _DST = 0, 1, 2
"""Places in the scratch memory: the offset of TCP, and each address folded to a word."""
_V4_AT, _V6_AT = ((_SRC, 12), (_DST, 16)), ((_SRC, 8), (_DST, 24))
_WORD_BYTES, _V6_BYTES = 4, 16
_SPREAD = 0x9E3779B1
"""An odd and large factor. It makes ports differ in the upper bits, in which the addresses of one network are equal."""
_BEHIND = ""
"""Jump target: the next instruction."""


class _Step(NamedTuple):
    code: int
    k: int = 0
    yes: str = _BEHIND
    no: str = _BEHIND
    label: str = ""


def program_of(ports: Iterable[int], learnt: Iterable[tuple[str, int]] = (), *, learns: bool = False) -> bytes:
    """Return the filter's instructions for a packet that begins with its IP header.

    The filter accepts packets of the ports and the learnt addresses, and with `learns` those from which proxies are learnt.
    """
    wanted, known = sorted(set(ports)), sorted({_key(ip, port) for ip, port in learnt})
    assert len(wanted) <= PORTS_MAX, "the caller knows how many ports there may be"
    assert len(known) <= LEARNT_MAX, "the learner bounds the number of proxies"
    assert wanted or learns, "the caller knows that there is something to be seen"
    return _assembled(list(_steps(wanted, known, learns=learns)))


def _key(ip: str, port: int) -> int:
    """Hash an address and port to one number. The reader of the packets handles collisions."""
    packed = ip_address(ip).packed
    key = port * _SPREAD & 0xFFFFFFFF
    for at in range(0, len(packed), _WORD_BYTES):
        key ^= int.from_bytes(packed[at : at + _WORD_BYTES], "big")
    return key


def _steps(ports: list[int], learnt: list[int], *, learns: bool) -> Iterable[_Step]:
    yield from _to_tcp(addresses=bool(learnt))
    if ports:
        yield from _of_ports(ports)
    yield _Step(_LDX_KEPT, _TCP_AT, label="no port")
    if learnt:
        yield from _of_learnt(learnt)
    yield _Step(_LDX_KEPT, _TCP_AT, label="not known")
    if learns:
        yield from _of_others()
    yield _Step(_RET, 0)


def _to_tcp(*, addresses: bool) -> Iterable[_Step]:
    """Set X to the TCP header and store it; with `addresses` store the addresses too."""
    yield _Step(_LD_W, _AD_PKTTYPE)
    yield _Step(_JEQ, _OUTGOING, no="ip")
    yield _Step(_LD_W, _AD_HATYPE)
    yield _Step(_JEQ, _LOOPBACK, yes="drop")
    yield _Step(_LD_B, 0, label="ip")
    yield _Step(_RSH, 4)
    yield _Step(_JEQ, 4, yes="v4")
    yield _Step(_JEQ, 6, yes="v6", no="drop")

    yield _Step(_LD_B, 9, label="v4")
    yield _Step(_JEQ, TCP, no="drop")
    for kept, at in _V4_AT if addresses else ():
        yield _Step(_LD_W, at)
        yield _Step(_ST, kept)
    yield _Step(_LDX_V4_HEAD, 0)
    yield _Step(_LD_H, 6)
    yield _Step(_JSET, 0x3FFF, yes="drop", no="tcp")

    yield _Step(_LD_B, 6, label="v6")
    yield _Step(_JEQ, TCP, yes="tcp of v6")
    # The reader parses the rare packets with extension headers.
    for number, header in enumerate(EXTENSIONS, 1):
        yield _Step(_JEQ, header, yes="unread", no="drop" if number == len(EXTENSIONS) else _BEHIND)
    yield _Step(_RET, 0, label="drop")
    yield _Step(_RET, CLIENT_BYTES, label="unread")
    yield _Step(_LDX_IMM, 40, label="tcp of v6")
    if addresses:
        for kept, at in _V6_AT:
            yield from _folded(at)
            yield _Step(_ST, kept)
        yield _Step(_LDX_IMM, 40)
    yield _Step(_STX, _TCP_AT, label="tcp")


def _folded(at: int) -> Iterable[_Step]:
    """Fold an IPv6 address to one word."""
    yield _Step(_LD_W, at)
    for word in range(_WORD_BYTES, _V6_BYTES, _WORD_BYTES):
        yield _Step(_TAX)
        yield _Step(_LD_W, at + word)
        yield _Step(_XOR_X)


def _of_ports(ports: list[int]) -> Iterable[_Step]:
    yield _Step(_LD_X_H, 2)
    for port in ports:
        yield _Step(_JEQ, port, yes="to port")
    yield _Step(_LD_X_H, 0)
    yield from _any_of(ports, yes="from port", no="no port")
    yield from _both_sides("port")


def _of_learnt(keys: list[int]) -> Iterable[_Step]:
    yield from _keyed(2, _DST)
    for key in keys:
        yield _Step(_JEQ, key, yes="to learnt")
    yield _Step(_LDX_KEPT, _TCP_AT)
    yield from _keyed(0, _SRC)
    yield from _any_of(keys, yes="from learnt", no="not known")
    yield from _both_sides("learnt")


def _keyed(port_at: int, address: int) -> Iterable[_Step]:
    """Set A to the hash of port and address, as `_key` computes it."""
    yield _Step(_LD_X_H, port_at)
    yield _Step(_MUL, _SPREAD)
    yield _Step(_LDX_KEPT, address)
    yield _Step(_XOR_X)


def _both_sides(whose: str) -> Iterable[_Step]:
    """Accept packets of a client and of a proxy."""
    yield _Step(_LDX_KEPT, _TCP_AT, label=f"to {whose}")
    yield _Step(_LD_X_B, 13)
    yield _Step(_JSET, FIN | SYN | RST, yes=f"client of {whose}")
    yield from _to_payload()
    yield _Step(_LD_LEN)
    yield _Step(_JGT_X, yes=f"client of {whose}")
    yield _Step(_RET, 0)
    yield _Step(_RET, CLIENT_BYTES, label=f"client of {whose}")

    yield _Step(_LDX_KEPT, _TCP_AT, label=f"from {whose}")
    yield _Step(_LD_X_B, 13)
    yield _Step(_JSET, FIN | RST, yes=whose)
    yield from _to_payload()
    yield from _short(REPLY_BYTES_MAX, (0, 5), yes=whose, no=f"long from {whose}")
    yield _Step(_LD_X_W, 0, label=f"long from {whose}")
    yield _Step(_JEQ, _word(b"HTTP"), yes=whose)
    yield _Step(_RET, 0)
    yield _Step(_RET, PROXY_BYTES, label=whose)


def _of_others() -> Iterable[_Step]:
    """Accept packets that leave this machine: connection starts, and payload that begins like a request to a proxy."""
    yield _Step(_LD_W, _AD_PKTTYPE)
    yield _Step(_JEQ, _OUTGOING, yes="leaves")
    yield _Step(_LD_W, _AD_HATYPE)
    yield _Step(_JEQ, _LOOPBACK, no="nothing")
    yield _Step(_LD_X_B, 13, label="leaves")
    yield _Step(_AND, SYN | ACK)
    yield _Step(_JEQ, SYN, yes="asks")
    yield from _to_payload()
    yield from _short(REQUEST_BYTES_MAX, sorted(VERSIONS), yes="asks", no="no socks")
    yield _Step(_LD_X_W, 0, label="no socks")
    yield _Step(_JEQ, _word(b"CONN"), yes="asks")
    yield from _any_of([_word(b"GET "), _word(b"PUT ")], yes="http")
    yield from _any_of([_word(b"POST"), _word(b"HEAD")], yes=" htt", no="nothing")
    for scheme in ("http", " htt"):
        yield _Step(_LD_X_W, 4, label=scheme)
        yield _Step(_JEQ, _word(scheme.encode()), yes="asks", no="nothing")
    yield _Step(_RET, 0, label="nothing")
    yield _Step(_RET, CLIENT_BYTES, label="asks")


def _short(bytes_max: int, first: Iterable[int], *, yes: str, no: str) -> Iterable[_Step]:
    """Jump to `yes` if the payload at X has at most `bytes_max` bytes and begins with a byte of `first`.

    Jump to `no` if the payload is longer; otherwise continue with the next instruction.
    """
    yield _Step(_LD_LEN)
    yield _Step(_SUB_X)
    yield _Step(_JGT, bytes_max, yes=no)
    yield _Step(_LD_X_B, 0)
    for byte in first:
        yield _Step(_JEQ, byte, yes=yes)


def _any_of(values: list[int], *, yes: str, no: str = _BEHIND) -> Iterable[_Step]:
    """Jump to `yes` if A is one of the values, else to `no`."""
    for value in values[:-1]:
        yield _Step(_JEQ, value, yes=yes)
    yield _Step(_JEQ, values[-1], yes=yes, no=no)


def _to_payload() -> Iterable[_Step]:
    """Move X from the TCP header to the payload."""
    yield _Step(_LD_X_B, 12)
    yield _Step(_AND, 0xF0)
    yield _Step(_RSH, 2)
    yield _Step(_ADD_X)
    yield _Step(_TAX)


def _word(text: bytes) -> int:
    return int.from_bytes(text, "big")


def _assembled(steps: list[_Step]) -> bytes:
    places = {step.label: place for place, step in enumerate(steps) if step.label}

    def far(place: int, label: str) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", step.code, far(place, step.yes), far(place, step.no), step.k)
        for place, step in enumerate(steps)
    )
