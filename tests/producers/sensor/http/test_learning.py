"""Proxies that are learnt: by what, by what not, how many at once, and for how long."""

from __future__ import annotations

import pytest

from producers.sensor.http import learning as module
from producers.sensor.http.learning import IN_USE_MICROS, KEPT_MICROS, Asked, Learner, asks_proxy, is_own
from producers.sensor.http.packet_filter import LEARNT_MAX
from producers.sensor.http.packets import ACK, RST, SYN, Packet
from producers.sensor.http.request_lines import FlowKey, HttpEvent, Kind
from tests.producers.sensor.http.wire import CLIENT, PORT, PROXY, PROXY_PORT, T0, hello, segment, syn

CONNECT = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n"
PLACE = PROXY, PROXY_PORT


def learner(
    *, named: tuple[str, int] | None = None, denied: tuple[str, int] | None = None, own: bool = True
) -> Learner:
    return Learner([named] if named else [], [denied] if denied else [], lambda _: own)


def observes(by: Learner, *packets: Packet, at: int = T0) -> list[bool]:
    return [by.observes(at, packet) is Asked.LEARNT for packet in packets]


def learn(by: Learner, number: int, at: int) -> bool:
    """A client asks a proxy that has this number."""
    place = f"203.0.113.{number}", 8080
    begin = Packet(CLIENT, PORT, *place, 7, SYN, b"")
    return observes(by, begin, Packet(CLIENT, PORT, *place, 8, ACK, CONNECT), at=at)[1]


@pytest.mark.parametrize(
    ("payload", "asks"),
    [
        (CONNECT, True),
        (b"CONNECT [2001:db8::1]:8443 HTTP/1.0\n\n", True),
        (b"CONNECT www.example.com:443 HTTP/1.1\r\nProxy-Authorization: Neg", True),
        (b"GET http://www.example.com/ HTTP/1.1\r\n\r\n", True),
        (b"POST http://www.example.com:8000/a HTTP/1.1\r\n\r\n", True),
        (b"CONNECT www.example.com HTTP/1.1\r\n\r\n", True),
        (b"CONNECT a.example:443@b.example:443 HTTP/1.1\r\n\r\n", True),
        (b"GET http://a.example?@b.example/ HTTP/1.1\r\n\r\n", True),
        (b"GET //a.example/ HTTP/1.1\r\n\r\n", False),
        (b"GET a.example HTTP/1.1\r\n\r\n", False),
        (b"CONNECT www.example.com:443 HTTP/1.1", False),
        (b"CONNECT www.example.com:443\r\n", False),
        (b"CONNECT /socket HTTP/1.1\r\n\r\n", False),
        (b"CONNECTED www.example.com:443 HTTP/1.1 it is\r\n", False),
        (b"GET /?u=http://www.example.com/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n", False),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", False),
        (b"CONNECT " + b"a" * 20_000 + b":443 HTTP/1.1\r\n", False),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False),
        (hello("www.example.com"), False),
        (b"\x05\x01\x00", True),
        (b"\x04\x01\x01\xbb\xc6\x33\x64\x09\x00", True),
        (b"\x05\x01\x00\x00", False),
        (b"", False),
    ],
)
def test_what_only_a_proxy_is_asked(payload: bytes, asks: bool) -> None:
    """A whole request line whose target names host and port."""
    assert asks_proxy(payload) is asks


def asked(
    target: str, *, kind: Kind = Kind.REQUEST, from_begin: bool = True, tunnelled: bool = False, ip: str = PROXY
) -> HttpEvent:
    flow = FlowKey(CLIENT, PORT, ip, PROXY_PORT)
    return HttpEvent(
        kind, T0, flow, "u-1", 0, "GET", target, "a.example", 80, tunnelled=tunnelled, from_begin=from_begin
    )


def test_what_is_asked_of_a_proxy_that_is_not_known() -> None:
    """A target that names host and port, and the name in a tunnel; of a connection that was seen from its begin on."""
    by = learner()

    assert [by.is_asked(one) for one in (
        asked("http://a.example/"), asked("a.example:443"), asked("", kind=Kind.TLS, tunnelled=True),
    )] == [True] * 3  # fmt: skip
    assert not any(by.is_asked(one) for one in (
        asked("/"), asked("*"), asked("", kind=Kind.TLS), asked("http://a.example/", from_begin=False),
    ))  # fmt: skip


def test_what_is_asked_of_a_known_or_a_denied_proxy() -> None:
    """All of it, or nothing."""
    known, denied = learner(named=PLACE), learner(denied=PLACE)

    assert known.is_asked(asked("/", from_begin=False))
    assert not known.is_asked(asked("/", ip="203.0.113.1"))
    assert not denied.is_asked(asked("http://a.example/"))


def test_the_first_of_a_connection_teaches() -> None:
    """Once; from then on it is among the proxies, beside those that are named."""
    by = learner(named=("203.0.113.1", 8080))

    assert observes(by, syn(), segment(CONNECT), segment(CONNECT, len(CONNECT))) == [False, True, False]
    assert by.proxies == {("203.0.113.1", 8080), PLACE}
    assert list(by.last) == [PLACE]
    assert by.counted() == {"learnt": 1, "forgotten": 0, "no_room": 0, "not_begun": 0}


def test_what_comes_with_the_beginning_teaches() -> None:
    """TCP Fast Open (RFC 7413)."""
    assert observes(learner(), syn()._replace(payload=CONNECT)) == [True]


@pytest.mark.parametrize(
    "packets",
    [
        [segment(CONNECT)],
        [syn(), segment(CONNECT, 1)],
        [syn(), segment(b"POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n"), segment(CONNECT, 42)],
        [syn(port=PORT + 1), segment(CONNECT)],
        [syn()._replace(flags=SYN | ACK), segment(CONNECT)],
        [syn()._replace(flags=RST), segment(CONNECT)],
    ],
)
def test_the_middle_of_a_connection_does_not(packets: list[Packet]) -> None:
    """It may be of a file that is uploaded; counted."""
    by = learner()

    assert not any(observes(by, *packets))
    assert (by.proxies, by.not_begun) == (set(), 1)


def test_a_name_in_plain_does_not() -> None:
    """An ordinary server's request, whatever it names, and TLS."""
    by = learner()

    assert not any(observes(by, syn(), segment(b"GET / HTTP/1.1\r\nHost: www.example.com:80\r\n\r\n")))
    assert not any(observes(by, syn(), segment(hello("www.example.com"))))
    assert (by.proxies, by.not_begun) == (set(), 0)


def test_others_connections_do_not() -> None:
    """A machine that passes on packets is not who asks."""
    by = learner(own=False)

    assert not any(observes(by, syn(), segment(CONNECT)))
    assert by.proxies == set()


def test_denied_ones_are_never_learnt() -> None:
    """The same address on another port is."""
    by = learner(denied=PLACE)

    assert not any(observes(by, syn(), segment(CONNECT)))
    assert by.proxies == set()
    by = learner(denied=(PROXY, PROXY_PORT + 1))
    assert any(observes(by, syn(), segment(CONNECT)))


def test_named_ones_need_not_be_learnt() -> None:
    """And take no room."""
    by = learner(named=PLACE)

    assert not any(observes(by, syn(), segment(CONNECT)))
    assert (by.proxies, by.last) == ({PLACE}, {})
    assert by.forget(T0 + 2 * KEPT_MICROS) == []


def test_one_in_use_makes_no_room() -> None:
    """As many as may be: another is learnt once the quietest was quiet for a minute. What was not learnt is counted."""
    by = learner(named=PLACE)
    assert all(learn(by, number, T0 + number) for number in range(LEARNT_MAX))

    assert not learn(by, 99, T0 + IN_USE_MICROS - 1)
    assert by.no_room == 1
    # Whatever is sent there is use.
    assert observes(by, Packet(CLIENT, PORT, "203.0.113.0", 8080, 99, ACK, b"x"), at=T0 + IN_USE_MICROS - 1) == [False]
    assert not learn(by, 99, T0 + IN_USE_MICROS)
    assert learn(by, 99, T0 + IN_USE_MICROS + 1)
    assert ("203.0.113.1", 8080) not in by.proxies
    assert len(by.last) == LEARNT_MAX
    assert by.proxies == {PLACE, *by.last}
    assert by.counted() == {"learnt": LEARNT_MAX + 1, "forgotten": 1, "no_room": 2, "not_begun": 0}


def test_unused_ones_are_forgotten() -> None:
    """A day later; and learnt again when they are asked again."""
    by = learner()
    learn(by, 1, T0)
    learn(by, 2, T0 + 1)

    assert by.forget(T0 + KEPT_MICROS - 1) == []
    assert by.forget(T0 + KEPT_MICROS) == [("203.0.113.1", 8080)]
    assert by.proxies == {("203.0.113.2", 8080)}
    assert learn(by, 1, T0 + KEPT_MICROS)


def test_beginnings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more the oldest is forgotten."""
    monkeypatch.setattr(module, "BEGUN_MAX", 2)
    by = learner()
    observes(by, syn(port=1), syn(port=2), syn(port=1), syn(port=3))

    assert observes(by, segment(CONNECT, port=2)) == [False]
    assert observes(by, segment(CONNECT, port=1)) == [True]
    assert by.not_begun == 1


def test_this_machine_s_addresses() -> None:
    """Of both versions, all of the loopback network; no other's, and what is none."""
    assert [is_own(ip) for ip in ("127.0.0.1", "127.9.9.9", "::1")] == [True] * 3
    assert [is_own(ip) for ip in ("198.51.100.80", "2001:db8::80", "fe80::1")] == [False] * 3
