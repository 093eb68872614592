"""A local port is reused: each request stays with the process that sent it, also after a connection without a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from producers.sensor.http.level import HttpLevel
from producers.sensor.http.packets import ACK, FIN, SYN, Packet
from producers.sensor.http.request_lines import Kind, line_of
from schemas.clock import iso_micros
from schemas.events import Ignored, Reject
from schemas.parsers import dialects
from tests.factories import World
from tests.producers.sensor.http.wire import CLIENT, PROXY, PROXY_PORT, SECOND, T0, hello

SAMPLE = Path(__file__).parents[2] / "data" / "sensor" / "port-reuse.jsonl"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
MILLI = 1_000
KERNEL, KERNEL_CLOSED, HTTP_SILENT, KERNEL_AGAIN, HTTP = 0, 1, 2, 3, 4


def seen(lines: Iterable[bytes]) -> World:
    """Return the world after these lines, in this order."""
    world = World()
    for line in lines:
        event = dialects()["sensor" if b'"kind"' in line else "sockets"].parse(line)
        assert not isinstance(event, Reject | Ignored), event
        world.see(event)
    return world.finish()


class Story(NamedTuple):
    """Lines in the order of their arrival, and the truth about them."""

    lines: list[bytes]
    asked: dict[str, int]
    """The process that asked for each host; each host is requested once."""
    made: list[tuple[int, str]]
    """Process and start of each connection."""


class _Life(NamedTuple):
    number: int
    port: int
    began: int
    ended: int
    hosts: tuple[str, ...]
    tunnel: bool

    @property
    def pid(self) -> int:
        return 1_000 + self.number

    def packets(self) -> Iterator[tuple[int, Packet]]:
        """Yield the packets on the wire; the SYN leaves shortly after the attempt."""
        first, at, there = self.number * 7_919 + 1, self.began + 150, 0
        yield at, self._packet(first - 1, b"", SYN)
        for host in self.hosts:
            target = f"{host}:443" if self.tunnel else f"http://{host}/"
            head = f"{'CONNECT' if self.tunnel else 'GET'} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            for content in (head, hello(host)) if self.tunnel else (head,):
                at += MILLI
                yield at, self._packet(first + there, content)
                there += len(content)
                if content is head:
                    yield at + MILLI // 2, Packet(PROXY, PROXY_PORT, CLIENT, self.port, 9_000 + at % 1_000, ACK, OK)
        yield self.ended, Packet(PROXY, PROXY_PORT, CLIENT, self.port, 1, ACK | FIN, b"")

    def _packet(self, seq: int, payload: bytes, flags: int = ACK) -> Packet:
        return Packet(CLIENT, self.port, PROXY, PROXY_PORT, seq, flags, payload)

    def kernel_line(self, *, closed: bool) -> bytes:
        """Return the endpoint's record, at the answer or at the end."""
        line = {
            "device": "dev-a", "pid": self.pid, "process": "curl", "local_ip": CLIENT, "local_port": self.port,
            "remote_ip": PROXY, "remote_port": PROXY_PORT, "result": "success", "ts_attempt": iso_micros(self.began),
            "ts_established": iso_micros(self.began + 300),
        }  # fmt: skip
        return msgspec.json.encode(line | ({"ts_closed": iso_micros(self.ended)} if closed else {}))


def story(seed: int, connections: int, ports: int, *, delay: int, gap: int) -> Story:
    """Make connections of many processes from few ports; every third one has no request.

    A port is used again at least `gap` µs after its last end. Lines arrive up to `delay` µs late, in order within their dialect.
    """
    random = Random(seed)
    free = dict.fromkeys(range(40_000, 40_000 + ports), T0)
    lives: list[_Life] = []
    for number in range(connections):
        port = min(free, key=lambda port: (free[port], port))
        began = free[port] + random.randrange(gap, 20 * gap)
        many = 0 if number % 3 == 0 else 1 if number % 3 == 1 else random.randrange(1, 4)
        hosts = tuple(f"h{number}-{place}.example" for place in range(many))
        ended = began + (1 + len(hosts)) * random.randrange(3 * MILLI, 60 * MILLI)
        free[port] = ended
        lives.append(_Life(number, port, began, ended, hosts, number % 3 == 1))
    level = HttpLevel([PROXY_PORT])
    http: list[tuple[int, bytes]] = []
    for at, packet in sorted((one for life in lives for one in life.packets()), key=lambda one: one[0]):
        http += [
            (at, line_of(events, "dev-a")) for events in level.packet(at, packet) if events.kind is not Kind.REQUEST
        ]
    kernel = [(life.began + 300, life.kernel_line(closed=False)) for life in lives]
    # An end waits for its bytes.
    kernel += [(life.ended + 50 * MILLI, life.kernel_line(closed=True)) for life in lives]
    arrived: list[tuple[int, bytes]] = []
    for stream in (http, sorted(kernel)):
        late = 0
        for at, line in stream:
            late = max(late, at + random.randrange(delay))
            arrived.append((late, line))
    return Story(
        [line for _, line in sorted(arrived, key=lambda one: one[0])],
        {host: life.pid for life in lives for host in life.hosts},
        sorted((life.pid, iso_micros(life.began + 300)) for life in lives),
    )


def test_the_second_process_has_its_request() -> None:
    """The lines lack the flow's start and come in any order in which the sensor may deliver them."""
    lines = SAMPLE.read_bytes().splitlines()
    for order in permutations(lines):
        world = seen(order)
        rows = {str(row["ConnectionTime"])[:19]: row for row in world.connections}
        (destination,) = world.destinations

        assert (destination["DestinationHost"], destination["InitiatingProcessId"]) == ("a.example", 2)
        assert {at: (row["InitiatingProcessId"], row["DestinationHost"]) for at, row in rows.items()} == {
            "2026-12-01T10:00:00": (1, ""),
            "2026-12-01T10:00:20": (2, "a.example"),
        }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("delay", "gap"), [(1, 5 * MILLI), (300 * MILLI, 2 * MILLI), (3 * SECOND, 200 * MILLI)])
def test_hundreds_of_reuses_and_none_is_wrong(seed: int, delay: int, gap: int) -> None:
    """Every request is on a row of its own process, and every connection has one row."""
    reported = story(seed, 300, 12, delay=delay, gap=gap)
    world = seen(reported.lines)

    assert {row["DestinationHost"]: row["InitiatingProcessId"] for row in world.destinations} == reported.asked
    assert sorted((row["InitiatingProcessId"], row["ConnectionTime"]) for row in world.connections) == reported.made
    assert len(world.destinations) == len(reported.asked)
    assert world.counts["resolved:connect"] + world.counts["resolved:absolute_uri"] == 200
    assert world.counts["unresolved:no_http_event"] == 100


def kernel(pid: int, began: int, ended: int = 0) -> bytes:
    """The endpoint's record of a connection from the same port; times in ms after `T0`."""
    life = _Life(pid - 1_000, 40_000, T0 + began * MILLI, T0 + ended * MILLI, (), tunnel=False)
    return life.kernel_line(closed=ended > 0)


def asked(at: int, *, began: int | None = None, tx: int = 0) -> bytes:
    """A request of `unproxy sensor` for `a.example`; without `began` as an older version writes it."""
    line = {
        "kind": "http", "device": "dev-a", "ts": iso_micros(T0 + at * MILLI), "local_ip": CLIENT, "local_port": 40_000,
        "remote_ip": PROXY, "remote_port": PROXY_PORT, "flow": "u-1", "tx": tx, "method": "GET",
        "target": "http://a.example/", "host": "a.example", "status": 200,
    }  # fmt: skip
    return msgspec.json.encode(line | ({} if began is None else {"ts_attempt": iso_micros(T0 + began * MILLI)}))


def process_of(*lines: bytes) -> object:
    """Return the process on the row of `a.example`."""
    (destination,) = seen(lines).destinations
    return destination["InitiatingProcessId"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([kernel(1_001, 0, 10), asked(402, began=400)], id="closed before"),
        pytest.param([kernel(1_001, 0, 10), asked(12_000)], id="closed before, start unknown"),
        pytest.param([kernel(1_001, 0), asked(402, began=400), kernel(1_001, 0, 10)], id="close reported later"),
        pytest.param([kernel(1_001, 0), asked(42, began=40), kernel(1_001, 0, 10)], id="a few ms after"),
        pytest.param([kernel(1_001, 0), asked(12_000), kernel(1_001, 0, 10)], id="later, start unknown"),
        pytest.param(
            [kernel(1_001, 0), asked(12_000), kernel(1_002, 19_000), kernel(1_001, 0, 10)], id="later than the patience"
        ),
        pytest.param([kernel(1_001, 0), asked(2_002, began=2_000)], id="open for another flow"),
    ],
)
def test_a_connection_captures_no_request_that_began_after_its_close(lines: list[bytes]) -> None:
    """Where the record of the right connection never arrives, the row has no process instead of a wrong one."""
    assert process_of(*lines) is None


@pytest.mark.parametrize("began", [40, None])
def test_a_request_near_the_close_stays_with_its_connection(began: int | None) -> None:
    """A request without an answer is reported 5 s later, when its connection may have closed."""
    assert process_of(kernel(1_001, 40, 60), asked(5_200, began=began)) == 1_001


def test_a_start_that_becomes_known_later_decides() -> None:
    """A flow's first line may lack its start; the next line with it gives the flow to the right process."""
    first, second = kernel(1_001, 0), kernel(1_002, 300)

    assert process_of(first, asked(302), second, asked(304, began=300, tx=1)) == 1_002
    assert process_of(first, second, asked(302), asked(304, began=300, tx=1)) == 1_002


def test_records_of_the_kernel_that_come_late_leave_no_two_requests_exchanged() -> None:
    """For connections of a few ms in sequence, a flow has the next one's record until its own arrives."""
    opened = [kernel(1_001 + place, 7 * place, 7 * place + 2) for place in range(3)]
    requests = [
        asked(7 * place + 1, began=7 * place)
        .replace(b'"u-1"', b'"u-%d"' % place)
        .replace(b"a.example", b"%d.example" % place)
        for place in range(3)
    ]
    for order in permutations(opened + requests):
        found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in seen(order).destinations}

        assert found == {"0.example": 1_001, "1.example": 1_002, "2.example": 1_003}, order


def test_an_attempt_after_a_flow_began_is_of_a_later_connection() -> None:
    """The first packet left 13 ms after its attempt, the next attempt came 12 ms after it: the nearer one is wrong."""
    opened = [kernel(1_001, 0, 14), kernel(1_002, 25, 27)]
    requests = [
        asked(14, began=13).replace(b"a.example", b"0.example"),
        asked(26, began=25).replace(b'"u-1"', b'"u-2"').replace(b"a.example", b"1.example"),
    ]
    for order in permutations(opened + requests):
        found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in seen(order).destinations}

        assert found == {"0.example": 1_001, "1.example": 1_002}, order
