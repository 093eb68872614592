"""Lines of our own sensor, as its threads write them, through the correlator: one row, with process and destination."""

from __future__ import annotations

from itertools import permutations

from producers.sensor.http_level import HttpLevel
from producers.sensor.packets import Packet
from producers.sensor.said import Kind, line_of
from schemas.dialects import dialects
from schemas.events import ConnectionOpened, HttpExchange, TlsName
from tests.factories import Row, World
from tests.producers.sensor.wire import PORT, PROXY_PORT, T0, answer, end, hello, segment, syn

CONNECT = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n"
GET = b"GET http://intranet.example/a?q HTTP/1.1\r\nHost: intranet.example\r\n\r\n"
STEP = 1_000


def heard(*packets: Packet, began: int = T0) -> list[bytes]:
    """The lines that these packets make, a millisecond apart."""
    level = HttpLevel([PROXY_PORT])
    said = [one for number, packet in enumerate(packets) for one in level.packet(began + number * STEP, packet)]
    said += level.finish(began + len(packets) * STEP)
    return [line_of(one, "dev-a") for one in said if one.kind is not Kind.REQUEST]


def connected(*, pid: int, second: int = 0, ended: int = 1) -> bytes:
    """The kernel's line of the connection."""
    at = f"2026-11-27T18:00:{second:02d}"
    assert dialects()["sockets"].written_at(b'{"ts_attempt":"2026-11-27T18:00:00.000000Z"}') == T0
    return (
        b'{"device":"dev-a","pid":%d,"process":"curl","local_ip":"198.51.100.11","local_port":%d,"remote_ip":"198.51.100.80",'
        b'"remote_port":%d,"result":"success","ts_attempt":"%s.000000Z","ts_established":"%s.000100Z","ts_closed":"%s.500000Z"}'
    ) % (pid, PORT, PROXY_PORT, at.encode(), at.encode(), f"2026-11-27T18:00:{second + ended - 1:02d}".encode())


def rows(*lines: bytes) -> tuple[list[Row], list[Row]]:
    """Connection rows and destination rows."""
    world = World()
    for line in lines:
        event = dialects()["sensor" if b'"kind"' in line else "sockets"].parse(line)
        assert isinstance(event, ConnectionOpened | HttpExchange | TlsName), event
        world.see(event)
    world.finish()
    return world.connections, world.destinations


def test_a_tunnel_is_one_row_in_any_order() -> None:
    """The kernel's line, the request's and the name's, whichever comes first."""
    said = heard(
        syn(), segment(CONNECT), answer(b"HTTP/1.1 200 OK\r\n"), segment(hello("www.example.com"), len(CONNECT))
    )
    assert len(said) == 2
    for order in permutations([connected(pid=7), *said]):
        (connection,), (destination,) = rows(*order)

        assert connection["InitiatingProcessId"] == 7
        assert (destination["DestinationHost"], destination["DestinationPort"]) == ("www.example.com", 443)
        assert (destination["InitiatingProcessId"], destination["ConnectionId"]) == (7, connection["ConnectionId"])


def test_an_unanswered_request_belongs_to_its_connection() -> None:
    """It is told when the connection ends, which is still within its life."""
    (connection,), (destination,) = rows(connected(pid=7), *heard(syn(), segment(GET), end()))

    assert (destination["DestinationHost"], destination["InitiatingProcessId"]) == ("intranet.example", 7)
    assert connection["InitiatingProcessId"] == 7


def test_the_same_ends_again_are_two_connections() -> None:
    """A port that is used again a second later: each request with its own process."""
    first = heard(syn(), segment(CONNECT), answer(b"HTTP/1.1 200 OK\r\n"), end())
    again = [packet._replace(seq=packet.seq + 77) for packet in (syn(), segment(GET))]
    second = heard(*again, answer(b"HTTP/1.1 200 OK\r\n"), began=T0 + 2_000_000)
    connections, destinations = rows(connected(pid=7), *first, connected(pid=8, second=2), *second)

    assert len(connections) == 2
    assert {(row["DestinationHost"], row["InitiatingProcessId"]) for row in destinations} == {
        ("www.example.com", 7),
        ("intranet.example", 8),
    }
