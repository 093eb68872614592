"""Tinyproxy's log: whose request it is, and what became of it, is reported only where it is certain."""

from __future__ import annotations

import pytest

from tests.schemas.parsers.proxies.tinyproxy_log import A, B, Log, reported, served


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
    """The end of such a connection is reported, so the next one on its descriptor is the only one."""
    log = Log()
    asked = [log.request(6, "b.example:443"), log.established(7, "b.example")]
    refused = f'Unauthorized connection from "x.example" [{A}].'
    ends = [log.left(6), log(refused), log(f"Unauthorized connection from {A}")]
    for ended in (*ends, log(f"Prevented endless loop (file descriptor 6): {A}")):
        assert served([log.connect(6, A), ended, *asked]) == []
        assert served([log.connect(6, A), ended, log.connect(6, B), *asked]) == [(B, "b.example")]


def test_of_two_connections_of_one_client_it_is_not_reported_which_was_refused() -> None:
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
    """Most lines name no descriptor of the client's, so they report something where exactly one request can be meant."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, "a.example:443"), log(message)]
    another = [log.connect(6, A), log.request(6, "a.example:443"), log.connect(8, B), log.request(8, "a.example:443")]
    by_descriptor = "auth" in message

    assert [one[3] for one in reported(lines)] == ([decision] if decision else [])
    assert len(reported([*another, log(message)])) == (1 if by_descriptor and (decision or "8" in message) else 0)


def test_what_was_connected_did_not_fail() -> None:
    """A failure is of the other request to that host, whose connection was not made yet."""
    log = Log()
    lines = [
        log.connect(6, A), log.request(6, "a.example:443"), log.detail("a.example"), log.established(7, "a.example"),
        log.connect(8, B), log.request(8, "a.example:443"),
        log("opensock: Could not establish a connection to a.example:443"), log.closed(6, 7),
    ]  # fmt: skip

    assert [(one[0], one[3]) for one in reported(lines)] == [(B, "failed"), (A, "served")]


def test_a_request_of_unknown_counts_where_it_must_be_one_only() -> None:
    """Whose client is not known may be the one that failed, also on a descriptor that was connected before."""
    log = Log()
    lines = [
        log.detail("x.example"), log.connect(6, A), log.request(6, "x.example:443"), log.established(7, "x.example"),
        log.request(6, "a.example:443"), log.connect(8, B), log.request(8, "a.example:443"),
    ]  # fmt: skip

    assert reported([*lines, log("opensock: Could not establish a connection to a.example:443")]) == []


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


@pytest.mark.parametrize("client", ["", "x.example", "x y [192.0.2.1]", "[192.0.2.1", "192.0.2.1 x", "192.0.2.1] [x]"])
def test_a_connection_without_an_address_has_no_client(client: str) -> None:
    """It waits all the same, so that its request is not another one's."""
    log = Log()

    assert served(log.whole(client, "a.example")) == []
    assert served([log.connect(6, client), *log.whole(A, "a.example")]) == []


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_line_without_a_certain_time_is_not_used(place: int) -> None:
    """And counts all the same."""
    log = Log()
    lines = [log.connect(6, A), log.request(6, "a.example:443"), log.connect(8, A), log.established(7, "a.example")]
    lines[place] = lines[place].replace(b"Nov 24", b"Nov 25")
    again = [log.request(6, "c.example:443"), log.established(7, "c.example")]

    assert served(lines) == []
    assert served([*lines, *again]) == []
