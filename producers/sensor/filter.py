"""The kernel's filter for what the HTTP level needs, in classic BPF: most packets to and from a proxy never reach us.

Of the client's packets to one of the ports: those with payload, and beginnings and ends. Of the proxy's: ends, and those whose
payload begins with `HTTP`, of which the first bytes do; its bodies stay in the kernel. On the loopback device, where each packet
is seen as it leaves and as it comes in, only as it comes in. Sources: Documentation/networking/filter.rst of the kernel and
include/uapi/linux/filter.h (places beyond `SKF_AD_OFF` are not of the packet but of its device).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from producers.sensor.packets import EXTENSIONS, FIN, RST, SYN, TCP

PORTS_MAX = 64
"""A jump goes no further than 255 instructions."""
CLIENT_BYTES = 32_768
"""So much of a client's packet is looked at: a head fits, and segments that the card cuts later are longer."""
PROXY_BYTES = 256
_LD_W, _LD_H, _LD_B = 0x20, 0x28, 0x30
_LD_LEN = 0x80
_LD_X_W, _LD_X_H, _LD_X_B = 0x40, 0x48, 0x50
"""From the place in X on."""
_LDX_IMM, _LDX_V4_HEAD = 0x01, 0xB1
_AND, _RSH, _ADD_X, _TAX = 0x54, 0x74, 0x0C, 0x07
_JEQ, _JSET, _JGT_X = 0x15, 0x45, 0x2D
_RET = 0x06
_AD_PKTTYPE, _AD_HATYPE = 0xFFFFF000 + 4, 0xFFFFF000 + 28
_OUTGOING, _LOOPBACK = 4, 772
_BEHIND = ""
"""The instruction behind the jump."""


class _Step(NamedTuple):
    code: int
    k: int = 0
    yes: str = _BEHIND
    no: str = _BEHIND
    label: str = ""


def program_of(ports: Iterable[int]) -> bytes:
    """The filter's instructions for these ports, for a packet that begins with its IP header; at least one port is needed."""
    wanted = sorted(set(ports))
    assert 0 < len(wanted) <= PORTS_MAX, "the caller knows how many ports there may be"
    return _assembled(list(_steps(wanted)))


def _steps(ports: list[int]) -> Iterable[_Step]:
    yield _Step(_LD_W, _AD_PKTTYPE)
    yield _Step(_JEQ, _OUTGOING, no="ip")
    yield _Step(_LD_W, _AD_HATYPE)
    yield _Step(_JEQ, _LOOPBACK, yes="drop")
    yield _Step(_LD_B, 0, label="ip")
    yield _Step(_RSH, 4)
    yield _Step(_JEQ, 4, yes="v4")
    yield _Step(_JEQ, 6, yes="v6", no="drop")

    yield _Step(_LD_B, 6, label="v6")
    yield _Step(_LDX_IMM, 40)
    yield _Step(_JEQ, TCP, yes="tcp")
    # What stands behind other headers is told by whoever reads the packet: hardly any come.
    for number, header in enumerate(EXTENSIONS, 1):
        yield _Step(_JEQ, header, yes="client", no="drop" if number == len(EXTENSIONS) else _BEHIND)

    yield _Step(_LD_B, 9, label="v4")
    yield _Step(_JEQ, TCP, no="drop")
    yield _Step(_LD_H, 6)
    yield _Step(_JSET, 0x3FFF, yes="drop")
    yield _Step(_LDX_V4_HEAD, 0)

    yield _Step(_LD_X_H, 2, label="tcp")
    for port in ports:
        yield _Step(_JEQ, port, yes="to proxy")
    yield _Step(_LD_X_H, 0)
    for port in ports:
        yield _Step(_JEQ, port, yes="from proxy")
    yield _Step(_RET, 0, label="drop")

    yield _Step(_LD_X_B, 13, label="to proxy")
    yield _Step(_JSET, FIN | SYN | RST, yes="client")
    yield from _to_payload()
    yield _Step(_LD_LEN)
    yield _Step(_JGT_X, yes="client")
    yield _Step(_RET, 0)
    yield _Step(_RET, CLIENT_BYTES, label="client")

    yield _Step(_LD_X_B, 13, label="from proxy")
    yield _Step(_JSET, FIN | RST, yes="proxy")
    yield from _to_payload()
    yield _Step(_LD_X_W, 0)
    yield _Step(_JEQ, int.from_bytes(b"HTTP", "big"), yes="proxy")
    yield _Step(_RET, 0)
    yield _Step(_RET, PROXY_BYTES, label="proxy")


def _to_payload() -> Iterable[_Step]:
    """X goes from TCP's header to what is behind it."""
    yield _Step(_LD_X_B, 12)
    yield _Step(_AND, 0xF0)
    yield _Step(_RSH, 2)
    yield _Step(_ADD_X)
    yield _Step(_TAX)


def _assembled(steps: list[_Step]) -> bytes:
    places = {step.label: place for place, step in enumerate(steps) if step.label}

    def far(place: int, label: str) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", step.code, far(place, step.yes), far(place, step.no), step.k)
        for place, step in enumerate(steps)
    )
