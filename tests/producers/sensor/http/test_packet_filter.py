"""The filter, run by the kernel itself on packets that go through a pair of sockets."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Sequence

import pytest

from producers.sensor.http.capture import ETH_P_ALL, SO_ATTACH_FILTER
from producers.sensor.http.packet_filter import CLIENT_BYTES, LEARNT_MAX, PORTS_MAX, PROXY_BYTES, program_of
from producers.sensor.http.packets import ACK, FIN, RST, SYN
from producers.sensor.http.socks import REPLY_BYTES_MAX, REQUEST_BYTES_MAX
from tests.producers.sensor.http.wire import PORT, PROXY_PORT, tcp, v4, v6

BACK = (PROXY_PORT, PORT)
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD


def attach(to: socket.socket, program: bytes) -> None:
    """From now on only what it lets through comes."""
    kept = ctypes.create_string_buffer(program, len(program))
    to.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(kept)))


def let_through(
    packet: bytes, ports: list[int], learnt: Sequence[tuple[str, int]] = (), *, learns: bool = False
) -> int:
    """So many of its bytes."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        attach(there, program_of(ports, learnt, learns=learns or bool(learnt)))
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
        (tcp(b"\x05\x00", ports=BACK), True),
        (tcp(b"\x05\x00\x00\x01" + bytes(6), ports=BACK, options=bytes(12)), True),
        (tcp(b"\x00\x5a" + bytes(6), ports=BACK), True),
        (tcp(b"\x05" + bytes(REPLY_BYTES_MAX), ports=BACK), False),
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


LEARNT = ("198.51.100.80", PROXY_PORT), ("2001:db8:51::80", PROXY_PORT)
"""As the makers' packets have them."""
OTHERS = [(f"203.0.113.{number}", 1_000 + number) for number in range(LEARNT_MAX - len(LEARNT))]


@pytest.mark.parametrize("ip", [v4, v6])
@pytest.mark.parametrize("ports", [[], [812], [*range(1, PORTS_MAX + 1)]])
@pytest.mark.parametrize("others", [[], OTHERS])
@pytest.mark.parametrize(
    ("segment", "through"),
    [
        (tcp(b"GET", options=bytes(12)), True),
        (tcp(b""), False),
        (tcp(b"", flags=SYN), True),
        (tcp(b"", flags=ACK | FIN), True),
        (tcp(b"HTTP/1.1 200", ports=BACK), True),
        (tcp(b"<html>", ports=BACK), False),
        (tcp(b"", ports=BACK, flags=RST), True),
        (tcp(b"GET", ports=(PORT, PROXY_PORT + 1)), False),
        (tcp(b"HTTP/1.1 200", ports=(PROXY_PORT + 1, PORT)), False),
    ],
)  # fmt: skip
def test_of_learnt_ones_the_same(
    ip: Callable[..., bytes], ports: list[int], others: list[tuple[str, int]], segment: bytes, through: bool
) -> None:
    """However many are known beside them."""
    packet = ip(segment, back=segment.startswith(PROXY_PORT.to_bytes(2)))

    assert let_through(packet, ports, [*others, *LEARNT]) == (len(packet) if through else 0)


@pytest.mark.parametrize("ip", [v4, v6])
def test_of_learnt_ones_the_port_is_not_enough(ip: Callable[..., bytes]) -> None:
    """Nothing of what goes to another address on it, or comes from one."""
    learnt = [("198.51.100.81", PROXY_PORT), ("2001:db8:51::81", PROXY_PORT)]

    assert let_through(ip(tcp(b"GET")), [], learnt) == 0
    assert let_through(ip(tcp(b"HTTP/1.1 200", ports=BACK), back=True), [], learnt) == 0


@pytest.mark.parametrize("learnt", [[], OTHERS])
@pytest.mark.parametrize("ip", [v4, v6])
@pytest.mark.parametrize(
    ("segment", "through"),
    [
        (tcp(b"", flags=SYN), True),
        (tcp(b"", flags=SYN | ACK), False),
        (tcp(b"", flags=ACK | FIN), False),
        (tcp(b"", flags=RST), False),
        (tcp(b""), False),
        (tcp(b"CONNECT www.example.com:443 HTTP/1.1\r\n"), True),
        (tcp(b"CONNECT www.example.com:443 HTTP/1.1\r\n", options=bytes(12)), True),
        (tcp(b"CON"), False),
        (tcp(b"GET http://www.example.com/ HTTP/1.1\r\n"), True),
        (tcp(b"PUT http://www.example.com/ HTTP/1.1\r\n"), True),
        (tcp(b"POST http://www.example.com/ HTTP/1.1\r\n"), True),
        (tcp(b"HEAD http://www.example.com/ HTTP/1.1\r\n"), True),
        (tcp(b"GET /http HTTP/1.1\r\n"), False),
        (tcp(b"POST /http HTTP/1.1\r\n"), False),
        (tcp(b"GET htt"), False),
        (tcp(b"HTTP/1.1 200 OK\r\n"), False),
        (tcp(b"\x16\x03\x01"), False),
        (tcp(b"\x05\x01\x00"), True),
        (tcp(b"\x05\x01\x00", options=bytes(12)), True),
        (tcp(b"\x04\x01\x00\x50" + bytes(5)), True),
        (tcp(b"\x05" + bytes(REQUEST_BYTES_MAX)), False),
    ],
)  # fmt: skip
def test_what_others_are_learnt_from(ip: type, learnt: list[tuple[str, int]], segment: bytes, through: bool) -> None:
    """On the loopback device: beginnings, and what begins as only a proxy is asked."""
    packet = ip(segment)

    assert (packet in on_loopback(packet, learnt)) is through


def test_what_comes_from_elsewhere_teaches_nothing() -> None:
    """A pair of sockets is no device: what does not leave the machine, and is not on its loopback device, is dropped."""
    for packet in (v4(tcp(b"CONNECT a.example:443 HTTP/1.1\r\n")), v6(tcp(b"", flags=SYN))):
        assert let_through(packet, [812], learns=True) == 0


def on_loopback(packet: bytes, learnt: list[tuple[str, int]]) -> list[bytes]:
    """What comes through of a packet that goes over the loopback device, and of what goes there beside it."""
    last = v4(tcp(b"GET http://last/"), options=b"\1" * 8)
    kind = ETH_P_IP if packet[0] >> 4 == 4 else ETH_P_IPV6
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as there:
        attach(there, program_of([], learnt, learns=True))
        there.bind(("lo", ETH_P_ALL))
        there.settimeout(5)
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as here:
            here.sendto(packet, ("lo", kind))
            here.sendto(last, ("lo", ETH_P_IP))
        found: list[bytes] = []
        while not found or found[-1] != last:
            found.append(there.recv(100_000))
        return found
