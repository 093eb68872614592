"""Lines of our own sensor, as its threads write them, through the pipeline: one row, with process and destination."""

from __future__ import annotations

from itertools import permutations

import pytest

from producers.sensor.http.level import HttpLevel
from producers.sensor.http.packets import Packet
from producers.sensor.http.request_lines import Kind, line_of
from schemas.events import ConnectionOpened, HttpExchange, SocksRequest, TlsName, Verdict
from schemas.parsers import dialects
from streams.correlate import connections
from tests.factories import Row, World
from tests.producers.sensor.http.wire import PORT, PROXY, PROXY_PORT, T0, answer, end, hello, segment, syn

CONNECT = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n"
GET = b"GET http://intranet.example/a?q HTTP/1.1\r\nHost: intranet.example\r\n\r\n"
STEP = 1_000


def observed(*packets: Packet, began: int = T0) -> list[bytes]:
    """Return the lines that these packets make, a millisecond apart."""
    level = HttpLevel([PROXY_PORT])
    events = [one for number, packet in enumerate(packets) for one in level.packet(began + number * STEP, packet)]
    events += level.finish(began + len(packets) * STEP)
    return [line_of(one, "dev-a") for one in events if one.kind is not Kind.REQUEST]


def connected(*, pid: int, second: int = 0, ended: int = 1) -> bytes:
    """Return the kernel's line of the connection."""
    at = f"2026-11-27T18:00:{second:02d}"
    assert dialects()["sockets"].written_at(b'{"ts_attempt":"2026-11-27T18:00:00.000000Z"}') == T0
    return (
        b'{"device":"dev-a","pid":%d,"process":"curl","local_ip":"198.51.100.11","local_port":%d,"remote_ip":"198.51.100.80",'
        b'"remote_port":%d,"result":"success","ts_attempt":"%s.000000Z","ts_established":"%s.000100Z","ts_closed":"%s.500000Z"}'
    ) % (pid, PORT, PROXY_PORT, at.encode(), at.encode(), f"2026-11-27T18:00:{second + ended - 1:02d}".encode())


def rows(*lines: bytes) -> tuple[list[Row], list[Row]]:
    """Return connection rows and destination rows."""
    world = World()
    for line in lines:
        event = dialects()["sensor" if b'"kind"' in line else "sockets"].parse(line)
        assert isinstance(event, ConnectionOpened | HttpExchange | SocksRequest | TlsName | Verdict), event
        world.see(event)
    world.finish()
    return world.connections, world.destinations


def test_a_tunnel_is_one_row_in_any_order() -> None:
    """The endpoint record, the request and the name give one row in any order."""
    events = observed(
        syn(), segment(CONNECT), answer(b"HTTP/1.1 200 OK\r\n"), segment(hello("www.example.com"), len(CONNECT))
    )
    assert len(events) == 2
    for order in permutations([connected(pid=7), *events]):
        (connection,), (destination,) = rows(*order)

        assert connection["InitiatingProcessId"] == 7
        assert (destination["DestinationHost"], destination["DestinationPort"]) == ("www.example.com", 443)
        assert (destination["InitiatingProcessId"], destination["ConnectionId"]) == (7, connection["ConnectionId"])


def test_an_unanswered_request_belongs_to_its_connection() -> None:
    """It is reported when the connection ends, which is within its lifetime."""
    (connection,), (destination,) = rows(connected(pid=7), *observed(syn(), segment(GET), end()))

    assert (destination["DestinationHost"], destination["InitiatingProcessId"]) == ("intranet.example", 7)
    assert connection["InitiatingProcessId"] == 7


def test_the_same_ends_again_are_two_connections() -> None:
    """A port reused a second later: each request has its own process."""
    first = observed(syn(), segment(CONNECT), answer(b"HTTP/1.1 200 OK\r\n"), end())
    again = [packet._replace(seq=packet.seq + 77) for packet in (syn(), segment(GET))]
    second = observed(*again, answer(b"HTTP/1.1 200 OK\r\n"), began=T0 + 2_000_000)
    connections, destinations = rows(connected(pid=7), *first, connected(pid=8, second=2), *second)

    assert len(connections) == 2
    assert {(row["DestinationHost"], row["InitiatingProcessId"]) for row in destinations} == {
        ("www.example.com", 7),
        ("intranet.example", 8),
    }


@pytest.mark.parametrize("name", ["", "proxy.example"])
def test_a_client_hello_to_the_proxy_hides_the_destination(name: str) -> None:
    """The proxy need not be in the settings, and the client hello need not have a name."""
    for order in permutations([connected(pid=7), *observed(syn(), segment(hello(name)))]):
        (connection,), destinations = rows(*order)

        assert destinations == []
        assert (connection["UnresolvedReason"], connection["ResolvedBy"], connection["Confidence"]) == (
            "encrypted_to_proxy", "", "",
        )  # fmt: skip
        assert (connection["ProxyIP"], connection["Outcome"], connection["RemoteUrl"]) == (PROXY, "unknown", name)


GREETING, TO_NAME = b"\x05\x01\x00", b"\x05\x01\x00\x03\x0bbad.example\x01\xbb"
GRANTED, REFUSED = b"\x05\x00\x00\x01" + bytes(6), b"\x05\x02\x00\x01" + bytes(6)


@pytest.mark.parametrize(
    ("asked", "reply", "host", "outcome"),
    [
        (GREETING + TO_NAME, GRANTED, "bad.example", "allowed"),
        (GREETING + TO_NAME, REFUSED, "bad.example", "failed"),
        (GREETING + TO_NAME, b"", "bad.example", "unknown"),
        (GREETING + b"\x05\x01\x00\x01\xcb\x00\x71\x09\x01\xbb", GRANTED, "203.0.113.9", "allowed"),
        (b"\x04\x01\x01\xbb\xcb\x00\x71\x09\x00", b"\x00\x5a" + bytes(6), "203.0.113.9", "allowed"),
        (b"\x04\x01\x01\xbb\x00\x00\x00\x01\x00bad.example\x00", b"\x00\x5b" + bytes(6), "bad.example", "failed"),
    ],
)
def test_a_socks_request_names_the_destination(asked: bytes, reply: bytes, host: str, outcome: str) -> None:
    """The SOCKS server is the proxy; neither row calls the connection direct, in any order."""
    events = observed(syn(), segment(asked), answer(reply), segment(hello("bad.example"), len(asked)))
    for order in permutations([connected(pid=7), *events]):
        (connection,), (destination,) = rows(*order)

        assert (destination["DestinationHost"], destination["DestinationPort"]) == (host, 443)
        assert (destination["ResolvedBy"], destination["Confidence"], destination["Outcome"]) == (
            "socks",
            "exact",
            outcome,
        )
        assert (destination["ProxyIP"], destination["InitiatingProcessId"]) == (PROXY, 7)
        assert (connection["ResolvedBy"], connection["ProxyPort"]) == ("socks", PROXY_PORT)


@pytest.mark.parametrize("asked", [GREETING, GREETING + b"\x05\x03\x00\x01" + bytes(6)])
def test_socks_without_a_target_is_unresolved(asked: bytes) -> None:
    """A greeting alone, or a command other than CONNECT, is a proxied connection without a usable request."""
    (connection,), destinations = rows(connected(pid=7), *observed(syn(), segment(asked), end()))

    assert destinations == []
    assert (connection["UnresolvedReason"], connection["ProxyIP"]) == ("no_usable_request", PROXY)


def test_another_name_in_a_socks_tunnel_is_a_mismatch() -> None:
    """`HostMismatch` is set as in a tunnel opened by CONNECT."""
    asked = GREETING + TO_NAME
    _, (destination,) = rows(*observed(syn(), segment(asked), segment(hello("other.example"), len(asked))))

    assert destination["HostMismatch"] == "other.example"


def test_a_proxy_that_is_not_learnt_is_one_for_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound of learnt proxies a connection's own request still makes its remote end a proxy."""
    monkeypatch.setattr(connections, "PROXIES_MAX", 0)
    unnamed = b"GET http://a.example?@b.example/ HTTP/1.1\r\n\r\n"
    for first, why in (
        (hello(""), "encrypted_to_proxy"),
        (GREETING, "no_usable_request"),
        (unnamed, "no_usable_request"),
    ):
        (connection,), _ = rows(connected(pid=7), *observed(syn(), segment(first), end()))

        assert connection["UnresolvedReason"] == why


def test_a_verdict_without_a_destination_is_on_a_proxied_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound of learnt proxies and below it the connection is proxied."""
    monkeypatch.setattr(connections, "PROXIES_MAX", 0)
    line = (
        b'{"kind":"verdict","device":"dev-a","ts":"2026-11-27T18:00:00.100000Z","local_ip":"198.51.100.11","local_port":%d,'
        b'"remote_ip":"198.51.100.80","remote_port":%d,"flow":"u-1","host":"","action":"blocked","method":"GET","target":"?"}'
    ) % (PORT, PROXY_PORT)
    (connection,), _ = rows(connected(pid=7), line)

    assert connection["ResolvedBy"] != "direct"
