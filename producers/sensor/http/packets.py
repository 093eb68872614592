"""TCP segments parsed from IP packets: pure, and safe against any bytes.

Sources: RFC 791 (IPv4), RFC 8200 section 4 (IPv6 and its extension headers), RFC 4302 section 2.2 (authentication header),
RFC 9293 section 3.1 (TCP). Checksums are not verified, because the network card often computes those of sent packets.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from producers.sensor.kernel.trace_ring import spelled

FIN, SYN, RST, ACK, URG = 0x01, 0x02, 0x04, 0x10, 0x20
TCP = 6
_V4, _V6 = 4, 6
_V4_HEAD = struct.Struct("!BxHxxHxBxx4s4s")
_V6_HEAD = struct.Struct("!IHBx16s16s")
_TCP_HEAD = struct.Struct("!HHIIBB")
_URGENT_POINTER_AT = 18
_V4_BYTES_MIN, _V6_BYTES, _TCP_BYTES_MIN = 20, 40, 20
_FRAGMENTED = 0x3FFF
"""Mask of "more fragments" and fragment offset, without the bit "don't fragment"."""
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS = 0, 43, 44, 51, 60
EXTENSIONS = (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS)
"""IPv6 extension headers that may precede TCP."""
EXTENSIONS_MAX = 8
_V6_FRAGMENTED = 0xFFF9


class Packet(NamedTuple):
    """A TCP segment."""

    src_ip: str
    src_port: int
    dst_ip: str
    dst_port: int
    seq: int
    flags: int
    payload: bytes
    cut: int = 0
    """Number of bytes at the payload's end that were not captured."""
    ack: int = 0
    """Acknowledgement number: the next sequence number that the sender expects. Valid only with the flag ACK."""
    urgent: int = 0
    """Position of the urgent byte in the payload, from 1; 0 if there is none. Receivers remove it from the stream."""


def parse_packet(ip: bytes, wire_bytes: int = 0) -> Packet | None:
    """Parse a packet that begins with its IP header; None if it is no complete TCP segment, for example a fragment.

    `wire_bytes` is the packet's length on the wire if it was captured in part.
    """
    if len(ip) < _V4_BYTES_MIN:
        return None
    version = ip[0] >> 4
    if version == _V4:
        first, total, fragment, protocol, src, dst = _V4_HEAD.unpack_from(ip)
        at = (first & 15) * 4
        if protocol != TCP or fragment & _FRAGMENTED or at < _V4_BYTES_MIN:
            return None
        # 0: the length exceeds the field, as the kernel segments the packet later (BIG TCP).
        end = total or max(len(ip), wire_bytes)
    elif version == _V6 and len(ip) >= _V6_BYTES:
        _, length, following, src, dst = _V6_HEAD.unpack_from(ip)
        end = _V6_BYTES + length if length else max(len(ip), wire_bytes)
        at = _V6_BYTES if following == TCP else _behind_extensions(ip, following)
        if not at:
            return None
    else:
        return None
    return _segment(ip, at, end, src, dst)


def _segment(ip: bytes, at: int, end: int, src: bytes, dst: bytes) -> Packet | None:
    if len(ip) < at + _TCP_BYTES_MIN:
        return None
    src_port, dst_port, seq, ack, offset, flags = _TCP_HEAD.unpack_from(ip, at)
    begin = at + (offset >> 4) * 4
    if begin < at + _TCP_BYTES_MIN or begin > end or not (src_port and dst_port):
        return None
    payload = ip[begin:end]
    packet = Packet(
        _spelled(src), src_port, _spelled(dst), dst_port, seq, flags, payload, end - begin - len(payload), ack
    )
    if flags & URG:
        # The pointer refers to the byte behind the urgent one; Linux treats 0 as 1.
        pointer = int.from_bytes(ip[at + _URGENT_POINTER_AT : at + _URGENT_POINTER_AT + 2], "big")
        return packet._replace(urgent=max(pointer, 1))
    return packet


def _behind_extensions(ip: bytes, following: int) -> int:
    """Return the offset of TCP behind IPv6 extension headers; 0 if there is no TCP."""
    at = _V6_BYTES
    for _ in range(EXTENSIONS_MAX):
        if following == TCP:
            return at
        if following not in EXTENSIONS or len(ip) < at + 8:
            return 0
        if following == _FRAGMENT:
            if int.from_bytes(ip[at + 2 : at + 4], "big") & _V6_FRAGMENTED:
                return 0
            length = 8
        else:
            length = (ip[at + 1] + 2) * 4 if following == _AUTHENTICATION else (ip[at + 1] + 1) * 8
        following = ip[at]
        at += length
    return 0


_spelled = lru_cache(maxsize=16_384)(spelled)
