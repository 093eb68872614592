"""Tinyproxy's log: which lines are about one request. Lines are constructed, but for those of the recorded file."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.lines import CHUNK_BYTES, Lines
from producers.source import SourceFile
from schemas.clock import iso_micros, parse_micros
from schemas.dialects import dialects
from schemas.dialects.tinyproxy import claims, device_of, parse, written_at
from schemas.events import Ignored, Parsed, ProxyDecision, ProxyLogged, Reason, Reject
from schemas.tinyproxy.lines import said
from schemas.tinyproxy.requests import (
    DESCRIPTORS_MAX,
    JOINED,
    KEPT_BYTES_MAX,
    LINE_BYTES_MAX,
    PROCESSES_MAX,
    WAITING_MAX,
    Requests,
)

DATA = Path(__file__).parents[1] / "data"
REAL = gzip.decompress((DATA / "proxylogs/tinyproxy-sample.log.gz").read_bytes()).splitlines()
DAY = "2026-11-24T"
CHANGED = parse_micros(f"{DAY}23:59:59Z")


def dates(stamp: str) -> int:
    """All lines are of one day, in UTC; one of another day has no certain time."""
    return parse_micros(f"{DAY}{stamp[7:]}Z") if stamp.startswith("Nov 24 ") else 0


def read(lines: Iterable[bytes], framing: Requests | None = None) -> list[Parsed]:
    """What becomes of a file's lines."""
    framing = framing or Requests(dates)
    return [parse(made) for line in lines for made in framing.take(line, 0)]


def requests(lines: Iterable[bytes], framing: Requests | None = None) -> list[ProxyLogged]:
    """The requests among it."""
    return [one for one in read(lines, framing) if isinstance(one, ProxyLogged)]


Told = tuple[str, str, int, str]


def told(lines: Iterable[bytes], framing: Requests | None = None) -> list[Told]:
    """Who asked for what, when, and what became of it."""
    return [(one.client_ip, one.target, one.started, str(one.decision)) for one in requests(lines, framing)]


def served(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    """Clients and hosts."""
    return [(one.client_ip, one.host) for one in requests(lines)]


@dataclass
class Log:
    """Writes as tinyproxy does, a second a line."""

    pid: int = 7
    level: str = "CONNECT"
    second: int = 0

    def __call__(self, message: str) -> bytes:
        self.second += 1
        stamp = f"Nov 24 {10 + self.second // 3600}:{self.second // 60 % 60:02d}:{self.second % 60:02d}"
        return f"{self.level:9} {stamp} [{self.pid}]: {message}".encode()

    def connect(self, descriptor: int, client: str) -> bytes:
        return self(f"Connect (file descriptor {descriptor}): {client}")

    def request(self, descriptor: int, target: str, method: str = "CONNECT") -> bytes:
        return self(f"Request (file descriptor {descriptor}): {method} {target} HTTP/1.1")

    def left(self, descriptor: int) -> bytes:
        return self(f"read_request_line: Client (file descriptor: {descriptor}) closed socket before read.")

    def established(self, descriptor: int, host: str) -> bytes:
        return self(f'Established connection to host "{host}" using file descriptor {descriptor}.')

    def closed(self, client: int, server: int) -> bytes:
        return self(f"Closed connection between local client (fd:{client}) and remote client (fd:{server})")

    def detail(self, host: str) -> bytes:
        return self(f"No upstream proxy for {host}")

    def whole(self, client: str, host: str, descriptor: int = 6) -> list[bytes]:
        """All that level `Info` tells of a request."""
        return [
            self.connect(descriptor, client),
            self.request(descriptor, f"{host}:443"),
            self.detail(host),
            self.established(descriptor + 1, host),
            self.closed(descriptor, descriptor + 1),
        ]


A, B = "192.0.2.1", "192.0.2.2"


def test_a_request_is_one_event() -> None:
    """Client, target and host, when it came and when it was over; the other lines go on as they are."""
    log = Log()
    lines = log.whole(A, "a.example")
    (event,) = requests(lines)
    framing = Requests(dates)
    given_on = [made for line in lines for made in framing.take(line, 0)]

    assert given_on[:-1] == lines[:-1]
    assert given_on[-1].split(JOINED)[1:] == [lines[0], lines[1], lines[-1]]
    assert (event.device, event.client_ip, event.client_port, event.proxy_ip) == (A, A, 0, "")
    assert (event.method, event.target, event.host, event.port) == ("CONNECT", "a.example:443", "a.example", 443)
    assert (iso_micros(event.started), iso_micros(event.at)) == (f"{DAY}10:00:02.000000Z", f"{DAY}10:00:05.000000Z")
    assert (event.decision, event.status, event.upstream_ip, event.bytes_sent) == (ProxyDecision.SERVED, None, "", None)
    assert (device_of(given_on[-1]), written_at(given_on[-1])) == (A, event.at)
    assert (device_of(lines[0]), written_at(lines[0])) == ("", 0)
    assert [claims(line) for line in given_on] == [True] * 5
    assert served(line + b"\r" for line in lines) == [(A, "a.example")]


def test_the_recorded_file() -> None:
    """Every request that was served and told of whole; each client is the one that the truth has."""
    found = read(REAL)
    known = [json.loads(line) for line in (DATA / "suricata/truth.jsonl").read_text().splitlines()]
    truth = Counter(
        (one["client_ip"], one["host"], one["port"], parse_micros(one["ts"]))
        for one in known
        if one["proxy"] == "tinyproxy" and one["verdict"] == "allowed"
    )
    asked = Counter((one.client_ip, one.host, one.port, one.started) for one in found if isinstance(one, ProxyLogged))

    assert Counter(type(one).__name__ for one in found) == {"Ignored": 881, "ProxyLogged": 130}
    # A request before the truth begins; one whose client left in the middle of its answer.
    assert list(asked - truth) == [("198.51.100.11", "good6.example", 443, parse_micros(f"{DAY}19:07:24.848Z"))]
    assert [key[1] for key in (truth - asked).elements()] == ["cdn.bad4.example"]


def test_at_level_connect_the_connection_to_the_host_tells() -> None:
    """No `Closed` is to come. Where two ask for one host at a time it is not certain whose connection it is."""
    log = Log()
    one = [log.connect(6, A), log.request(6, "a.example:443"), log.established(7, "a.example")]
    two = [
        log.connect(6, A), log.connect(8, B), log.request(6, "a.example:443"), log.request(8, "a.example:443"),
        log.established(7, "a.example"), log.established(9, "a.example"),
    ]  # fmt: skip

    assert served(one) == [(A, "a.example")]
    assert served(two) == []
    found = told(line for line in REAL if not line.startswith(b"INFO"))
    assert len(found) == 111
    (more,) = {one[:3] for one in found} - {one[:3] for one in told(REAL)}
    assert more[:2] == ("198.51.100.12", "http://cdn.bad4.example/index.html?r=b00122")  # its client left later


def test_interleaved_clients() -> None:
    """Threads of one process: the descriptor tells whose request it is."""
    log = Log()
    lines = [
        log.connect(6, A), log.connect(8, B), log.request(8, "b.example:443"), log.request(6, "a.example:443"),
        log.detail("b.example"), log.established(9, "b.example"), log.established(7, "a.example"),
        log.closed(6, 7), log.closed(8, 9),
    ]  # fmt: skip

    assert served(lines) == [(A, "a.example"), (B, "b.example")]


def test_processes_of_their_own() -> None:
    """Up to 1.10 all connections have the same descriptor, each in a process of its own; names stand before addresses."""
    first, second = Log(7), Log(8)
    lines = [
        first.connect(6, f"one.example [{A}]"), second.connect(6, f" [{B}]"),
        second.request(6, "b.example:443"), first.request(6, "a.example:443"),
        first.established(7, "a.example"), second.established(7, "b.example"),
    ]  # fmt: skip

    assert served(lines) == [(A, "a.example"), (B, "b.example")]


def test_a_descriptor_that_is_used_again() -> None:
    """Its next request is the next client's, also where the end of the one before was not told (a login that is missing)."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, "a.example:443"), *log.whole(B, "b.example")]

    assert served(lines) == [(B, "b.example")]


def test_a_request_without_its_connect_line_has_no_client() -> None:
    """The file begins in the middle of it, or it was lost; what comes after is whole again."""
    log = Log()
    lines = [
        log.request(6, "a.example:443"),
        log.detail("a.example"),
        log.established(7, "a.example"),
        log.closed(6, 7),
    ]

    assert read(lines)[-1] == Ignored("", 0, "closed")
    assert served([*lines, *log.whole(B, "b.example")]) == [(B, "b.example")]


def test_two_that_wait_on_one_descriptor() -> None:
    """It was used again without being closed, or two machines write: neither is certain, nor is who is left."""
    log = Log()
    lines = [
        log.connect(6, A), log.connect(6, B),
        log.request(6, "b.example:443"), log.established(7, "b.example"),
        log.request(6, "a.example:443"), log.established(8, "a.example"),
    ]  # fmt: skip
    left = [log.connect(6, A), log.connect(6, B), log.left(6), log.request(6, "a.example:443")]

    assert served(lines) == []
    assert served([*left, log.established(7, "a.example")]) == []
    assert served([*lines, *log.whole(B, "c.example")]) == [(B, "c.example")]


def test_who_left_without_asking_is_not_taken_for_the_next() -> None:
    """The end of such a connection is told, so the next one on its descriptor is the only one."""
    log = Log()
    asked = [log.request(6, "b.example:443"), log.established(7, "b.example")]
    refused = f'Unauthorized connection from "x.example" [{A}].'
    ends = [log.left(6), log(refused), log(f"Unauthorized connection from {A}")]
    for ended in (*ends, log(f"Prevented endless loop (file descriptor 6): {A}")):
        assert served([log.connect(6, A), ended, *asked]) == []
        assert served([log.connect(6, A), ended, log.connect(6, B), *asked]) == [(B, "b.example")]


def test_of_two_connections_of_one_client_it_is_not_told_which_was_refused() -> None:
    """Both stay in doubt."""
    log = Log()
    lines = [log.connect(6, A), log.connect(8, A), log(f'Unauthorized connection from "{A}" [{A}].'), log.connect(6, B)]

    assert served([*lines, log.request(6, "b.example:443"), log.established(7, "b.example")]) == []


def test_a_descriptor_that_is_a_hosts_is_no_clients() -> None:
    """Nor is one whose connection is closed before it asked: lines are missing, and who asks next is not who waited."""
    log = Log()
    asked = [log.request(6, "a.example:443"), log.established(9, "a.example"), log.closed(6, 9)]

    for between in (log.established(6, "x.example"), log.closed(6, 8), log.closed(8, 6)):
        assert served([log.detail("x"), log.connect(6, A), between, *asked]) == []
    assert served([log.detail("x"), log.connect(6, A), log.established(7, "x.example"), *asked]) == [(A, "a.example")]
    assert served([log.connect(6, A), asked[0], log.established(6, "b.example"), asked[1]]) == []


def test_who_waited_longer_than_tinyproxy_does_is_gone() -> None:
    """Its end was lost: so it no longer makes the next one doubtful."""
    log = Log()
    lines = [log.connect(6, A)]
    log.second += 599
    late = log.request(6, "a.example:443")

    assert served([*lines, late, log.established(7, "a.example")]) == []
    assert served([*lines, *log.whole(B, "b.example")]) == [(B, "b.example")]


def test_a_process_that_begins_again_under_its_number() -> None:
    """A container's is always 1. What was asked before is over; who waited before makes the first doubtful."""
    log = Log(1)
    before = [log.connect(6, A), log.request(6, "a.example:443"), log.connect(8, A)]
    start = log("Initializing tinyproxy ...")
    after = [log.established(7, "a.example"), *log.whole(B, "b.example"), *log.whole(B, "c.example", 8)]

    connected = log.established(9, "d.example")
    again = [log.connect(10, B), log.request(10, "d.example:443"), log.detail("d.example"), log.closed(10, 9)]

    assert served([*before, start, *after]) == [(B, "b.example")]
    assert served([connected, start, *again]) == []
    assert served([connected, *again]) == [(B, "d.example")]


def test_the_level_may_be_another_one_from_then_on() -> None:
    """After reading its settings anew nothing may tell of the end any more."""
    log = Log()
    lines = [
        log.detail("x"), log("Reloading config file finished"),
        log.connect(6, A), log.request(6, "a.example:443"), log.established(7, "a.example"),
    ]  # fmt: skip

    assert served(lines) == [(A, "a.example")]
    assert served([line for line in lines if b"Reloading" not in line]) == []


@pytest.mark.parametrize(
    ("message", "decision"),
    [
        ('Proxying refused on filtered domain "a.example"', "denied"),
        ('Proxying refused on filtered url "a.example:443"', "denied"),
        ("Refused CONNECT method on port 443", "denied"),
        ("Failed auth attempt (file descriptor: 6), ip 192.0.2.1", "denied"),
        ("opensock: Could not retrieve info for a.example", "failed"),
        ("opensock: Could not retrieve address info for a.example:443: Name or service not known", "failed"),
        ("opensock: Could not establish a connection to a.example:443", "failed"),
        ('Established connection to http proxy "parent.example" using file descriptor 7.', "served"),
        ('Established connection to upstream proxy "parent.example" using file descriptor 7.', "served"),
        ("opensock: Could not establish a connection to b.example:443", None),
        ("opensock: Could not establish a connection to a.example:80", None),
        ('Proxying refused on filtered domain "b.example"', None),
        ("Refused CONNECT method on port 25", None),
        ("Failed auth attempt (file descriptor: 8), ip 192.0.2.1", None),
        ('Established connection to host "b.example" using file descriptor 7.', None),
        ("Request for the stathost.", None),
        ("Could not connect to upstream proxy.", None),
    ],
)
def test_what_became_of_it(message: str, decision: str | None) -> None:
    """Most lines name no descriptor of the client's, so they tell something where exactly one request can be meant."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, "a.example:443"), log(message)]
    another = [log.connect(6, A), log.request(6, "a.example:443"), log.connect(8, B), log.request(8, "a.example:443")]
    by_descriptor = "auth" in message

    assert [one[3] for one in told(lines)] == ([decision] if decision else [])
    assert len(told([*another, log(message)])) == (1 if by_descriptor and (decision or "8" in message) else 0)


def test_what_was_connected_did_not_fail() -> None:
    """A failure is of the other request to that host, whose connection was not made yet."""
    log = Log()
    lines = [
        log.connect(6, A), log.request(6, "a.example:443"), log.detail("a.example"), log.established(7, "a.example"),
        log.connect(8, B), log.request(8, "a.example:443"),
        log("opensock: Could not establish a connection to a.example:443"), log.closed(6, 7),
    ]  # fmt: skip

    assert [(one[0], one[3]) for one in told(lines)] == [(B, "failed"), (A, "served")]


def test_a_request_of_nobody_counts_where_it_must_be_one_only() -> None:
    """Whose client is not known may be the one that failed, also on a descriptor that was connected before."""
    log = Log()
    lines = [
        log.detail("x.example"), log.connect(6, A), log.request(6, "x.example:443"), log.established(7, "x.example"),
        log.request(6, "a.example:443"), log.connect(8, B), log.request(8, "a.example:443"),
    ]  # fmt: skip

    assert told([*lines, log("opensock: Could not establish a connection to a.example:443")]) == []


@pytest.mark.parametrize(
    "end",
    [
        [(7, "b.example"), (6, 7)],
        [(7, "a.example"), (6, 9)],
        [(7, "a.example"), (9, "a.example"), (6, 9)],
        [(6, 7)],
    ],
)
def test_an_end_that_does_not_fit_is_none(end: list[tuple[int, object]]) -> None:
    """The connection that is closed must be the one that was made to the host."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, "a.example:443"), log.detail("a.example")]
    for number, other in end:
        lines.append(log.closed(number, other) if isinstance(other, int) else log.established(number, str(other)))

    assert served(lines) == []


def test_another_proxys_connection_is_to_everywhere() -> None:
    """What goes through a parent proxy is served once it is over."""
    log = Log()
    lines = [
        log.connect(6, A), log.request(6, "a.example:443"),
        log("Found upstream proxy socks5 192.0.2.9:1080 for a.example"),
        log('Established connection to socks5 proxy "192.0.2.9" using file descriptor 7.'), log.closed(6, 7),
    ]  # fmt: skip

    assert served(lines) == [(A, "a.example")]


def test_the_proxys_own_address() -> None:
    """With `BindSame` it stands behind the client's."""
    log = Log()
    lines = log.whole(f"x.example [::ffff:{A}] at [192.0.2.80]", "a.example")

    assert [(one.client_ip, one.proxy_ip) for one in requests(lines)] == [(A, "192.0.2.80")]


@pytest.mark.parametrize("client", ["", "x.example", "x y [192.0.2.1]", "[192.0.2.1", "192.0.2.1 x", "192.0.2.1] [x]"])
def test_a_connection_without_an_address_has_no_client(client: str) -> None:
    """It waits all the same, so that its request is not another one's."""
    log = Log()

    assert served(log.whole(client, "a.example")) == []
    assert served([log.connect(6, client), *log.whole(A, "a.example")]) == []


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("GET http://a.example/x HTTP/1.1", "http://a.example/x"),
        (f"GET http://a.example/{'x' * 700}", f"http://a.example/{'x' * 700}"),
        (f"GET http://a.example/{'x' * 700} HTTP/1", f"http://a.example/{'x' * 700}"),
        (f"GET http://a.example.{'x' * 700}", ""),
        ("GET http://a.example/x", ""),
        ("CONNECT a.examp", ""),
        ("GET http://a.example/ HTTP/1.1CONNECT   Nov 24 10:00:09 [8]: x", ""),
        ("GET http://b.example\\@a.example/ HTTP/1.1", ""),
        ("GET http://a.example/\x1e HTTP/1.1", ""),
        ("GET / HTTP/1.1", ""),
        ("", ""),
        (f"GET http://a.example/{'x' * LINE_BYTES_MAX} HTTP/1.1", ""),
    ],
)
def test_requests_that_may_be_cut_off(asked: str, target: str) -> None:
    """Tinyproxy cuts at 800 characters: behind its host a target may be cut, before it is not known. It is asked all the same."""
    log = Log()
    lines = [
        log.connect(6, A), log(f"Request (file descriptor 6): {asked}"), log.established(7, "a.example"),
        log.request(6, "c.example:443"), log.established(9, "c.example"),
    ]  # fmt: skip

    assert [one.target for one in requests(lines)] == ([target] if target else [])


def test_a_line_with_what_stands_between_lines_goes_on_as_it_is() -> None:
    """A client may write that into its request, a resolver into its answer."""
    log = Log()
    hostile = [log.connect(6, A), log.request(6, "http://a.example/\x1e", "GET"), log.established(7, "a.example")]
    failed = "opensock: Could not retrieve address info for a.example:443: \x1e"

    for lines in (hostile, [log.connect(6, A), log.request(6, "a.example:443"), log(failed)]):
        framing = Requests(dates)
        assert [made for line in lines for made in framing.take(line, 0)] == lines


def test_lines_that_are_mixed_up() -> None:
    """Up to 1.10 a line is written in pieces: behind two beginnings messages are another process's, for a moment."""
    first, second = Log(7), Log(8)
    lines = [
        first.connect(6, A),
        second("") + Log(9)("Connect (file descriptor 6): x"),
        first.request(6, "b.example:443"),
        first.established(7, "b.example"),
    ]
    soon = [second.connect(8, A), second.request(8, "c.example:443"), second.established(9, "c.example")]
    first.second = 60

    assert served(lines) == []
    assert served([lines[1], *soon]) == []
    assert served([*lines, *first.whole(B, "b.example")]) == [(B, "b.example")]
    assert served([line for line in lines if line != lines[1]]) == [(A, "b.example")]


def test_a_shipper_tells_no_process_but_tinyproxys_own() -> None:
    """Inside its JSON it is not looked for: a request might be taken for a header."""
    for pad in range(80):
        message = (
            f"Nov 24 10:00:00 gw-1 tinyproxy[7]: Request (file descriptor 6): GET {'x' * pad}[9]: http://b.example/"
        )
        raw = json.dumps({"message": message, "host": {"name": "gw-1"}, "more": "x" * 40}).encode()

        assert said(raw).pid == ""


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_line_without_a_certain_time_is_not_used(place: int) -> None:
    """And counts all the same."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, "a.example:443"), log.connect(8, A), log.established(7, "a.example")]
    lines[place] = lines[place].replace(b"Nov 24", b"Nov 25")
    again = [log.request(6, "c.example:443"), log.established(7, "c.example")]

    assert served(lines) == []
    assert served([*lines, *again]) == []


def carried_by(header: str, lines: Iterable[bytes], own: bool = False) -> list[bytes]:
    """The lines without tinyproxy's own beginning, behind that of a carrier."""
    return [header.encode() + (line if own else line.partition(b": ")[2]) for line in lines]


@pytest.mark.parametrize(
    ("header", "own", "proxy"),
    [
        ("<134>1 2026-11-24T11:00:00+01:00 gw-1 tinyproxy 7 - - ", False, "gw-1"),
        ("2026-11-24T10:00:00.000Z gw-1 tinyproxy[7]: ", False, "gw-1"),
        ("<134>Nov 24 10:00:00 gw-1 tinyproxy[7]: ", False, "gw-1"),
        ("2026-11-24T10:00:00.000000000Z stdout F ", True, ""),
        ("<134>1 2026-11-24T10:00:00Z gw-1 tinyproxy - - - ", False, None),
        ("2026-11-24T10:00:00.000Z gw-1 tinyproxy: ", False, None),
        ("", False, None),
    ],
)
def test_what_carries_the_lines(header: str, own: bool, proxy: str | None) -> None:
    """Syslog tells time and process in its own way; where it tells no process nothing is joined."""
    events = requests(carried_by(header, Log().whole(A, "a.example"), own))

    assert [(one.proxy, iso_micros(one.at)) for one in events] == (
        [] if proxy is None else [(proxy, f"{DAY}10:00:00.000000Z")]
    )


def test_machines_and_programs_are_kept_apart() -> None:
    """Two that have the same process number and descriptor, as containers do."""
    log = Log(1)
    one = carried_by("<134>1 2026-11-24T10:00:00Z gw-1 tinyproxy 1 - - ", log.whole(A, "a.example"))
    for other in ("gw-2 tinyproxy", "gw-1 tinyproxy2"):
        two = carried_by(f"<134>1 2026-11-24T10:00:00Z {other} 1 - - ", log.whole(B, "b.example"))
        mixed = [line for pair in zip(one, two, strict=True) for line in pair]

        assert served(mixed) == [(A, "a.example"), (B, "b.example")]


def test_a_shippers_time_is_not_the_lines() -> None:
    """It is when the shipper read it; tinyproxy's own counts."""
    lines = [
        json.dumps({"@timestamp": "2026-11-24T20:00:00Z", "message": line.decode(), "host": {"name": "gw-1"}}).encode()
        for line in Log().whole(A, "a.example")
    ]

    assert [iso_micros(one.at) for one in requests(lines)] == [f"{DAY}10:00:05.000000Z"]


def test_a_client_cannot_write_another_process_into_its_request() -> None:
    """What looks like a header inside the message, also behind bytes that are no UTF-8, is not one."""
    log = Log()
    victim = carried_by("<134>Nov 24 10:00:00 gw-1 tinyproxy[9]: ", [log.connect(6, A)])
    asked = log.request(6, "b.example:443")
    for hostile in (asked + b" \xff tinyproxy[9]: ", asked + b" \xff[9]: x", b"\xff" + asked):
        forged = carried_by("<134>Nov 24 10:00:00 gw-1 tinyproxy[7]: ", [hostile])
        end = carried_by("<134>Nov 24 10:00:00 gw-1 tinyproxy[9]: ", [log.established(7, "b.example")])

        assert served([*victim, *forged, *end]) == []


def test_whatever_one_line_is_missing_no_client_is_wrong() -> None:
    """Then a request is missing, and never another one's."""
    lines = REAL[:160]
    whole = set(told(lines))
    for place in range(len(lines)):
        assert set(told(lines[:place] + lines[place + 1 :])) <= whole


def test_wherever_it_begins_no_client_is_wrong() -> None:
    """Rotated, or the reader came late."""
    whole = set(told(REAL))
    for place in range(1, len(REAL), 31):
        assert set(told(REAL[place:])) <= whole


OTHER = [
    line.replace(b"198.51.100.", b"203.0.113.").replace(b"2001:db8:51:", b"2001:db8:52:").replace(b"?r=", b"?other=")
    for line in REAL
]
"""The same log of another machine, with the same process number and descriptors."""


@settings(max_examples=12)
@given(data=st.data())
def test_another_machines_lines_in_between_make_no_client_wrong(data: st.DataObject) -> None:
    """Nothing tells which machine a line is of: what could be of either is of none."""
    shift = data.draw(st.integers(-40, 40))
    runs = data.draw(st.lists(st.integers(1, 6), min_size=8, max_size=8))
    sources = [iter(REAL), iter(OTHER)]
    mixed = list(_take(sources[shift > 0], abs(shift)))
    for turn in range(len(REAL)):
        mixed += _take(sources[turn % 2], runs[turn % len(runs)])
    pairs = {(client, target) for client, target, _, _ in (*told(REAL), *told(OTHER))}
    asked = Counter((client, target) for client, target, _, _ in told(mixed))

    assert set(asked) <= pairs


def _take(lines: Iterator[bytes], count: int) -> list[bytes]:
    return [line for _, line in zip(range(count), lines, strict=False)]


def lines_of(whole: bytes, taken: int = 0) -> Lines:
    """A reader of the file, from an offset on."""
    file = SourceFile("tinyproxy", "p", "s", taken=taken, changed=CHANGED)
    subject = Lines(file, dialects()["tinyproxy"], CHUNK_BYTES)
    place = 0

    def before(wanted: int) -> bytes:
        nonlocal place
        place += wanted
        return whole[place - wanted : place]

    if taken:
        subject.recall(before)
    return subject


def test_a_restart_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the reader goes on, the rest is read as if it had not stopped."""
    monkeypatch.setattr("producers.lines.CHUNK_BYTES", 1_000)
    monkeypatch.setattr("producers.dates.dated", lambda stamp, _: dates(stamp))
    whole = b"\n".join(REAL[:400]) + b"\n"
    given_on = list(lines_of(whole).feed(whole))
    assert sum(JOINED in line.value for line in given_on) == 39
    for stop in given_on[::9]:
        again = lines_of(whole, stop.end)
        after = list(again.feed(whole[stop.end :]))

        assert [line.value for line in after] == [line.value for line in given_on[given_on.index(stop) + 1 :]]


def test_what_began_too_far_back_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a restart costs no more than reading so much."""
    monkeypatch.setattr("producers.lines.CHUNK_BYTES", 400)
    monkeypatch.setattr("producers.dates.dated", lambda stamp, _: dates(stamp))
    log = Log()
    lines = log.whole(A, "a.example")
    for between, expected in ((0, 1), (20, 0)):
        whole = b"\n".join([*lines[:-1], *[log.detail("x")] * between, b""])
        with monkeypatch.context() as patch:
            patch.setattr(Requests, "reach", 500)
            again = lines_of(whole, len(whole))
            after = list(again.feed(lines[-1] + b"\n"))

        assert sum(JOINED in line.value for line in after) == expected


def test_no_more_is_remembered_than_the_bounds_allow() -> None:
    """Descriptors, their bytes, processes, those who wait on one descriptor, connections to hosts: the oldest is forgotten."""
    log, framing = Log(), Requests(lambda _: CHANGED)
    first = [log.connect(6, A), log.request(6, "a.example:443"), log.established(7, "a.example")]
    framing.take(first[0], 0)
    for number in range(DESCRIPTORS_MAX):
        framing.take(log.connect(100 + number, B), 0)
    assert len(framing._open) == DESCRIPTORS_MAX
    assert requests(first[1:], framing) == []
    long = "x" * 3_000
    for number in range(DESCRIPTORS_MAX):
        framing.take(log.connect(100 + number, B), 0)
        framing.take(log.request(100 + number, f"http://a.example/{long}", "GET"), 0)
        assert framing.kept_bytes <= KEPT_BYTES_MAX
        framing.take(log.established(100_000 + number, "x.example"), 0)
    assert framing.kept_bytes > KEPT_BYTES_MAX // 2
    assert 0 < len(framing._open) < DESCRIPTORS_MAX
    assert framing.kept_bytes == sum(one.weigh() for one in framing._open.values())
    assert len(framing._servers) == DESCRIPTORS_MAX
    for number in range(PROCESSES_MAX + 5):
        framing.take(Log(number + 1).detail("x"), 0)
        framing.take(Log(number + 1).established(9, "y.example"), 0)
    assert len(framing._detailed) == PROCESSES_MAX
    for _ in range(WAITING_MAX + 5):
        framing.take(log.connect(6, A), 0)
    assert len(framing._open[" ", "7", "6"].waiting) == WAITING_MAX


def _last(lines: list[bytes]) -> bytes:
    framing = Requests(dates)
    return [made for line in lines for made in framing.take(line, 0)][-1]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"[7]: Request", b"[8]: Request", Reason.BAD_VALUE),
        (b"[7]: Closed", b"[8]: Closed", Reason.BAD_VALUE),
        (b"Request (file descriptor 6)", b"Request (file descriptor 8)", Reason.BAD_VALUE),
        (b"Request (", b"Asked (", Reason.MALFORMED),
        (b"Connect (", b"Came (", Reason.MALFORMED),
        (b"Closed connection", b"Opened connection", Reason.MALFORMED),
        (b": 192.0.2.1", b": x.example", Reason.INCOMPLETE),
        (b" HTTP/1.1", b"", Reason.INCOMPLETE),
        (b"2026-11-24T", b"2026-13-24T", Reason.BAD_VALUE),
        (b"2026-11-24T", b"9026-11-24T", Reason.BAD_VALUE),
        (b"\x1e", b"\x1f", Reason.MALFORMED),
    ],
)
def test_a_joined_line_that_does_not_fit_keeps_its_bytes(old: bytes, new: bytes, reason: Reason) -> None:
    """The lines stand in it as they were."""
    line = _last(Log().whole(A, "a.example")).replace(old, new)
    parsed = parse(line)

    assert isinstance(parsed, Reject)
    assert (parsed.reason, parsed.raw) == (reason, line)
    assert device_of(line) == ""
    assert not claims(line)


def test_a_request_to_the_proxy_itself_is_none() -> None:
    """With a path for a target (reverse or transparent proxying) nothing tells where it went."""
    line = _last(Log().whole(A, "a.example")).replace(b"CONNECT a.example:443", b"GET /")

    assert parse(line) == Ignored(A, parse_micros(f"{DAY}10:00:05Z"), "not_proxied")


@settings(max_examples=200)
@given(st.lists(st.sampled_from(REAL[:300]) | st.binary(max_size=60), max_size=40))
def test_any_lines_are_given_on(lines: list[bytes]) -> None:
    """Each in its place, as it is or as the last of its request."""
    framing = Requests(dates)
    given_on = [framing.take(line, 0) for line in lines]

    assert [len(made) for made in given_on] == [1] * len(lines)
    assert [made == line or made.endswith(JOINED + line) for line, (made,) in zip(lines, given_on, strict=True)] == [
        True
    ] * len(lines)
    assert framing.let_go() == []
    assert framing.held is None
