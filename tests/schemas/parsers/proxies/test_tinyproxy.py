"""Tinyproxy's log: lines are joined by process and descriptor into one request."""

from __future__ import annotations

import json
from collections import Counter

from schemas.clock import iso_micros, parse_micros
from schemas.events import Ignored, ProxyDecision, ProxyLogged
from schemas.parsers.proxies.tinyproxy import DIALECT, claims, device_of, parse
from schemas.parsers.proxies.tinyproxy_requests import JOINED, Requests
from tests.schemas.parsers.proxies.tinyproxy_log import (
    DATA,
    DAY,
    REAL,
    A,
    B,
    Log,
    dates,
    joined,
    read,
    reported,
    requests,
    served,
)


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
    assert (device_of(given_on[-1]), DIALECT.written_at(given_on[-1])) == (A, event.at)
    assert (device_of(lines[0]), DIALECT.written_at(lines[0])) == ("", 0)
    assert [claims(line) for line in given_on] == [True] * 5
    assert served(line + b"\r" for line in lines) == [(A, "a.example")]


def test_the_recorded_file() -> None:
    """Every request that was served and reported of whole; each client is the one that the truth has."""
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


def test_at_level_connect_the_connection_to_the_host_reports() -> None:
    """No `Closed` is to come. Where two ask for one host at a time it is not certain whose connection it is."""
    log = Log()
    one = [log.connect(6, A), log.request(6, "a.example:443"), log.established(7, "a.example")]
    two = [
        log.connect(6, A), log.connect(8, B), log.request(6, "a.example:443"), log.request(8, "a.example:443"),
        log.established(7, "a.example"), log.established(9, "a.example"),
    ]  # fmt: skip

    assert served(one) == [(A, "a.example")]
    assert served(two) == []
    found = reported(line for line in REAL if not line.startswith(b"INFO"))
    assert len(found) == 111
    (more,) = {one[:3] for one in found} - {one[:3] for one in reported(REAL)}
    assert more[:2] == ("198.51.100.12", "http://cdn.bad4.example/index.html?r=b00122")  # its client left later


def test_interleaved_clients() -> None:
    """Threads of one process: the descriptor reports whose request it is."""
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
    """Its next request is the next client's, also where the end of the one before was not reported (a login that is missing)."""
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
    """After reading its settings again nothing may report of the end any more."""
    log = Log()
    lines = [
        log.detail("x"), log("Reloading config file finished"),
        log.connect(6, A), log.request(6, "a.example:443"), log.established(7, "a.example"),
    ]  # fmt: skip

    assert served(lines) == [(A, "a.example")]
    assert served([line for line in lines if b"Reloading" not in line]) == []


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


def test_a_request_to_the_proxy_itself_is_none() -> None:
    """With a path for a target (reverse or transparent proxying) nothing reports where it went."""
    line = joined(Log().whole(A, "a.example")).replace(b"CONNECT a.example:443", b"GET /")

    assert parse(line) == Ignored(A, parse_micros(f"{DAY}10:00:05Z"), "not_proxied")
