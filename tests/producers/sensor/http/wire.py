"""Makers for the HTTP level's tests: IP packets, segments of a connection, client hellos."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from producers.sensor.http.packets import ACK, FIN, SYN, Packet

CLIENT, PROXY, PORT, PROXY_PORT = "198.51.100.11", "198.51.100.80", 40_000, 3128
FIRST_SEQ, PROXY_SEQ = 4_294_967_000, 7_000
"""The client's sequence numbers begin again within its first bytes."""
SECOND = 1_000_000
T0 = 1_795_802_400 * SECOND


def segment(payload: bytes, at: int = 0, *, flags: int = ACK, port: int = PORT, ip: str = CLIENT) -> Packet:
    """The client's bytes from this place of its stream on."""
    seq = (FIRST_SEQ + 1 + at) % 2**32
    return Packet(ip, port, PROXY, PROXY_PORT, seq, flags, payload)


def syn(*, port: int = PORT) -> Packet:
    """A connection begins."""
    return Packet(CLIENT, port, PROXY, PROXY_PORT, FIRST_SEQ, SYN, b"")


def answer(payload: bytes, at: int = 0, *, flags: int = ACK, port: int = PORT) -> Packet:
    """The proxy's bytes from this place of its stream on."""
    return Packet(PROXY, PROXY_PORT, CLIENT, port, PROXY_SEQ + at, flags, payload)


def end(at: int = 0, *, port: int = PORT) -> Packet:
    """The proxy sends no more."""
    return answer(b"", at, flags=ACK | FIN, port=port)


def tcp(
    payload: bytes, *, options: bytes = b"", flags: int = ACK, ports: tuple[int, int] = (PORT, PROXY_PORT), ack: int = 9
) -> bytes:
    """A TCP segment with its header."""
    length = 20 + len(options)
    return struct.pack("!HHIIBBHHH", *ports, FIRST_SEQ, ack, length // 4 << 4, flags, 512, 0, 0) + options + payload


def v4(
    content: bytes,
    *,
    options: bytes = b"",
    fragment: int = 0x4000,
    protocol: int = 6,
    total: int | None = None,
    back: bool = False,
) -> bytes:
    """An IPv4 packet, of the client's or `back` of the proxy's."""
    length = 20 + len(options)
    whole = length + len(content) if total is None else total
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | length // 4,
        0,
        whole,
        1,
        fragment,
        64,
        protocol,
        0,
        ip_address(PROXY if back else CLIENT).packed,
        ip_address(CLIENT if back else PROXY).packed,
    )
    return head + options + content


def v6(content: bytes, *, following: int = 6, length: int | None = None, back: bool = False) -> bytes:
    """An IPv6 packet, of the client's or `back` of the proxy's."""
    whole = len(content) if length is None else length
    client, proxy = ip_address("2001:db8:51::11").packed, ip_address("2001:db8:51::80").packed
    ends = proxy + client if back else client + proxy
    return struct.pack("!IHBB", 0x6000_0000, whole, following, 64) + ends + content


def hello(name: str, *, ech: bool = False, record_bytes: int = 16_384, more: int = 0) -> bytes:
    """A client hello, in records of at most so many bytes, with so many bytes of other extensions before the name."""
    extensions = _extension(0x0015, bytes(more)) if more else b""
    if name:
        entry = b"\0" + struct.pack("!H", len(name)) + name.encode()
        extensions += _extension(0x0000, struct.pack("!H", len(entry)) + entry)
    if ech:
        extensions += _extension(0xFE0D, bytes(40))
    body = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + struct.pack("!H", 4) + b"\x13\x01\x13\x02" + b"\x01\0"
    body += struct.pack("!H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    parts = [message[at : at + record_bytes] for at in range(0, len(message), record_bytes)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(part)) + part for part in parts)


def _extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!HH", kind, len(content)) + content
