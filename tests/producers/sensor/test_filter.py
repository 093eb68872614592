"""The filter, run by the kernel itself on packets that go through a pair of sockets."""

from __future__ import annotations

import ctypes
import socket
import struct

import pytest

from producers.sensor.capture import SO_ATTACH_FILTER
from producers.sensor.filter import CLIENT_BYTES, PORTS_MAX, PROXY_BYTES, program_of
from producers.sensor.packets import ACK, FIN, RST, SYN
from tests.producers.sensor.wire import PORT, PROXY_PORT, tcp, v4, v6

BACK = (PROXY_PORT, PORT)


def let_through(packet: bytes, ports: list[int]) -> int:
    """So many of its bytes."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        program = program_of(ports)
        kept = ctypes.create_string_buffer(program, len(program))
        given = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))
        there.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)
        there.setblocking(False)
        here.send(packet)
        try:
            return len(there.recv(100_000))
        except BlockingIOError:
            return 0


@pytest.mark.parametrize("ip", [v4, v6])
@pytest.mark.parametrize("ports", [[PROXY_PORT], [*range(1, PORTS_MAX), PROXY_PORT]])
@pytest.mark.parametrize(
    ("segment", "through"),
    [
        (tcp(b"GET"), True),
        (tcp(b"GET", options=bytes(12)), True),
        (tcp(b""), False),
        (tcp(b"", options=bytes(12)), False),
        (tcp(b"", flags=SYN), True),
        (tcp(b"", flags=ACK | FIN), True),
        (tcp(b"", flags=RST), True),
        (tcp(b"HTTP/1.1 200", ports=BACK), True),
        (tcp(b"HTTP", ports=BACK, options=bytes(12)), True),
        (tcp(b"<html>", ports=BACK), False),
        (tcp(b"HT", ports=BACK), False),
        (tcp(b"", ports=BACK), False),
        (tcp(b"", ports=BACK, flags=SYN | ACK), False),
        (tcp(b"", ports=BACK, flags=ACK | FIN), True),
        (tcp(b"", ports=BACK, flags=RST), True),
        (tcp(b"GET", ports=(PORT, 812)), False),
    ],
)  # fmt: skip
def test_what_is_let_through(ip: type, ports: list[int], segment: bytes, through: bool) -> None:
    """A client's bytes, beginnings and ends; a proxy's ends and what begins like an answer."""
    packet = ip(segment)

    assert let_through(packet, ports) == (len(packet) if through else 0)


def test_other_packets_are_not() -> None:
    """Fragments, other protocols, and what is no IP; what may be TCP behind other headers of IPv6 is."""
    assert let_through(v4(tcp(b"GET"), fragment=0x2000), [PROXY_PORT]) == 0
    assert let_through(v4(tcp(b"GET"), protocol=17), [PROXY_PORT]) == 0
    assert let_through(v6(tcp(b"GET"), following=17), [PROXY_PORT]) == 0
    assert let_through(b"\x10" + bytes(60), [PROXY_PORT]) == 0
    assert let_through(b"\x45", [PROXY_PORT]) == 0
    assert let_through(v6(bytes(8) + tcp(b"GET"), following=0), [PROXY_PORT]) > 0


def test_options_of_ipv4_are_passed_over() -> None:
    """The ports stand behind them."""
    assert let_through(v4(tcp(b"GET"), options=bytes(8)), [PROXY_PORT]) > 0


def test_of_long_packets_only_the_beginning() -> None:
    """More of a client's than of a proxy's."""
    assert let_through(v4(tcp(b"x" * 40_000)), [PROXY_PORT]) == CLIENT_BYTES
    assert let_through(v4(tcp(b"HTTP" + b"x" * 40_000, ports=BACK)), [PROXY_PORT]) == PROXY_BYTES
