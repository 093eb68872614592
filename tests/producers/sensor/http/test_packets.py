"""TCP segments out of IP packets of either version, and nothing out of what is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sensor.http.packets import ACK, URG, Packet, parse_packet
from tests.producers.sensor.http.wire import CLIENT, FIRST_SEQ, PORT, PROXY, PROXY_PORT, tcp, v4, v6

PLAIN = Packet(CLIENT, PORT, PROXY, PROXY_PORT, FIRST_SEQ, ACK, b"hello", ack=9)
HOP_BY_HOP = struct.pack("!BB6x", 6, 0)


def test_ipv4() -> None:
    """Options of both headers are passed over; what the link put behind is not of the packet."""
    assert parse_packet(v4(tcp(b"hello"))) == PLAIN
    assert parse_packet(v4(tcp(b"hello", options=bytes(12)), options=bytes(8))) == PLAIN
    assert parse_packet(v4(tcp(b"hello")) + bytes(6)) == PLAIN


def test_ipv6() -> None:
    """Extension headers are passed over, also several, and one that states that it is no fragment."""
    whole = PLAIN._replace(src_ip="2001:db8:51::11", dst_ip="2001:db8:51::80")

    assert parse_packet(v6(tcp(b"hello"))) == whole
    assert parse_packet(v6(HOP_BY_HOP + tcp(b"hello"), following=0)) == whole
    assert parse_packet(v6(struct.pack("!BB14x", 0, 1) + HOP_BY_HOP + tcp(b"hello"), following=43)) == whole
    assert parse_packet(v6(struct.pack("!BB10x", 6, 1) + tcp(b"hello"), following=51)) == whole
    assert parse_packet(v6(struct.pack("!BxHI", 6, 0, 1) + tcp(b"hello"), following=44)) == whole


@pytest.mark.parametrize(("flags", "pointer", "urgent"), [(ACK, 3, 0), (ACK | URG, 3, 3), (ACK | URG, 0, 1)])
def test_the_urgent_byte(flags: int, pointer: int, urgent: int) -> None:
    """The pointer counts with its flag only."""
    segment = bytearray(tcp(b"hello", flags=flags))
    segment[18:20] = pointer.to_bytes(2, "big")

    assert parse_packet(v4(bytes(segment))) == PLAIN._replace(flags=flags, urgent=urgent)


def test_longer_than_was_captured() -> None:
    """What is missing at the end is counted; where the header cannot hold the length (BIG TCP) the device gives it."""
    packet = v4(tcp(b"hello" * 20))

    assert parse_packet(packet[:45], len(packet)) == PLAIN._replace(cut=95)
    big = v4(tcp(b"hello"), total=0)
    assert parse_packet(big, len(big) + 70_000) == PLAIN._replace(cut=70_000)
    assert parse_packet(v6(tcp(b"hello"), length=0)) is not None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(40),
        v4(tcp(b"hello"), fragment=0x2000),
        v4(tcp(b"hello"), fragment=0x0010),
        v4(tcp(b"hello"), protocol=17),
        v4(tcp(b"hello"))[:39],
        v4(tcp(b""), total=30),
        b"\x44" + v4(tcp(b"hello"))[1:],
        v4(tcp(b"hello", ports=(0, PROXY_PORT))),
        v4(tcp(b"hello")[:12] + b"\x40" + tcp(b"hello")[13:]),
        v4(tcp(b"hello")[:12] + b"\xf0" + tcp(b"hello")[13:]),
        v6(tcp(b"hello"), following=17),
        v6(tcp(b"hello"))[:39],
        v6(struct.pack("!BxHI", 6, 8, 1) + tcp(b"hello"), following=44),
        v6(struct.pack("!BxHI", 6, 1, 1) + tcp(b"hello"), following=44),
        v6(struct.pack("!BB6x", 0, 0) * 20, following=0),
        v6(struct.pack("!BB6x", 6, 200), following=0),
    ],
)
def test_what_is_no_whole_segment(packet: bytes) -> None:
    """Fragments, other protocols, what is cut short, lengths that cannot be."""
    assert parse_packet(packet) is None


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x45", b"\x60", v4(tcp(b"hello")), v6(HOP_BY_HOP, following=0)])
)
def test_any_bytes_are_a_value(more: bytes, first: bytes) -> None:
    """Nothing is raised, whatever comes."""
    packet = parse_packet(first + more)

    assert packet is None or packet.cut >= 0
