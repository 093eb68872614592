"""Requests derived from segments: every form, any order and cut, bounds, and nothing wrong from the middle."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.sensor.http import level as http_level
from producers.sensor.http.client_hello import Hello
from producers.sensor.http.heads import Request, Urls
from producers.sensor.http.level import HttpLevel
from producers.sensor.http.packets import ACK, FIN, RST, Packet
from producers.sensor.http.reader import Reader
from producers.sensor.http.request_lines import HttpEvent, Kind
from producers.sensor.http.socks import Socks
from tests.producers.sensor.http.wire import (
    CLIENT,
    PORT,
    PROXY,
    PROXY_PORT,
    SECOND,
    T0,
    answer,
    end,
    hello,
    segment,
    syn,
)

CONNECT = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\nUser-Agent: curl/8\r\n\r\n"
GET = b"GET http://intranet.example/a?q=1 HTTP/1.1\r\nHost: intranet.example\r\n\r\n"
OK, REFUSED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 407 Proxy Authentication Required\r\n"


def level(urls: Urls = Urls.PATH) -> HttpLevel:
    """One that follows the proxy's port."""
    return HttpLevel([PROXY_PORT], urls=urls)


def observed(packets: Iterable[Packet], on: HttpLevel | None = None, step: int = 1_000) -> list[HttpEvent]:
    """Return all events of these packets, so many microseconds apart, and by the end."""
    by = level() if on is None else on
    events = [one for number, packet in enumerate(packets) for one in by.packet(T0 + number * step, packet)]
    return events + by.finish(T0 + SECOND)


def facts(events: Iterable[HttpEvent]) -> list[tuple[object, ...]]:
    """What becomes lines: without the times, without what is reported twice."""
    return [
        (one.kind.value, one.tx, one.method, one.target, one.host, one.port, one.status, one.tunnelled)
        for one in events
        if one.kind is not Kind.REQUEST
    ]


def talk(*parts: bytes) -> list[Packet]:
    """A connection on which the client sends these parts, each a segment."""
    packets, at = [syn()], 0
    for part in parts:
        packets.append(segment(part, at))
        at += len(part)
    return packets


def test_a_request_that_began_in_an_earlier_packet() -> None:
    """The proxy may have answered its first bytes, so the enforcer must know; the next request is whole again."""
    events = observed(talk(GET, CONNECT[:1], CONNECT[1:]))

    assert [(one.method, one.in_pieces) for one in events if one.kind is Kind.REQUEST] == [
        ("GET", False),
        ("CONNECT", True),
    ]
    assert [one.in_pieces for one in observed(talk(GET[:9], GET[9:], GET)) if one.kind is Kind.REQUEST] == [True, False]


@pytest.mark.parametrize(
    "begun", [b"C", b"CONNECT www.example.com:4", b"GET http://intranet.example/ HTTP/1.1\r\nHost: i"]
)
def test_a_proxy_that_answers_a_part_of_the_first_request_is_one(begun: bytes) -> None:
    """Nginx answers 400 as soon as it has read `CONNECT`; without a line the connection would be taken for a direct one."""
    events = observed([*talk(begun), answer(b"HTTP/1.1 400 Bad Request\r\n", 0), end(len(begun))])

    assert [(one.kind, one.target, one.host) for one in events] == [(Kind.EXCHANGE, "?", "")]


def test_a_tunnel_and_the_name_within() -> None:
    """CONNECT is reported as it is sent and again with its status; the client hello in the tunnel with whose port it is."""
    packets = [syn(), segment(CONNECT), answer(OK), segment(hello("www.example.com"), len(CONNECT))]
    request, exchange, name = observed(packets)

    assert (request.kind, request.at, exchange.kind, exchange.at) == ("request", T0 + 1_000, "exchange", T0 + 2_000)
    assert request.flow == (CLIENT, PORT, PROXY, PROXY_PORT)
    assert (request.method, request.target, request.host, request.port) == (
        "CONNECT",
        "www.example.com:443",
        "www.example.com",
        443,
    )
    assert (exchange.status, exchange.named, exchange.user_agent) == (200, "www.example.com", "curl/8")
    assert (name.kind, name.host, name.port, name.tunnelled, name.encrypted_hello) == (
        "tls",
        "www.example.com",
        443,
        True,
        False,
    )
    assert len({one.flow_id for one in (request, exchange, name)}) == 1


def test_data_sent_before_the_tunnel_is_there() -> None:
    """A client may send its hello with the CONNECT, without waiting for the answer."""
    packets = [*talk(CONNECT + hello("www.example.com", ech=True)), answer(OK)]
    events = observed(packets)

    assert facts(events)[0][:1] == ("tls",)
    assert facts(events)[1][-2] == 200
    assert events[1].encrypted_hello


def test_tls_to_the_proxy_itself() -> None:
    """Nothing is known but the proxy's own name."""
    (name,) = observed(talk(hello("proxy.corp.example"), b"\x17\x03\x03\0\x05secret"))

    assert (name.kind, name.host, name.port, name.tunnelled) == ("tls", "proxy.corp.example", PROXY_PORT, False)


def test_several_requests_on_one_connection() -> None:
    """Absolute targets one after the other, each with its own status; queries are not reported."""
    at = len(GET)
    packets = [
        syn(), segment(GET), answer(OK), segment(GET.replace(b"/a", b"/b"), at), answer(b"HTTP/1.0 404 Not Found\r\n", 900),
    ]  # fmt: skip
    events = facts(observed(packets))

    assert events == [
        ("exchange", 0, "GET", "http://intranet.example/a", "intranet.example", 80, 200, False),
        ("exchange", 1, "GET", "http://intranet.example/b", "intranet.example", 80, 404, False),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 70\r\n\r\n" + GET,
        b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(GET), GET),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 1_000])
def test_bodies_are_passed_over(body: bytes, cut: int) -> None:
    """What stands in a body is no request, however it is cut."""
    assert len(GET) == 70
    stream = b"POST http://a.example/ HTTP/1.1\r\n" + body + b"GET http://b.example/ HTTP/1.1\r\n\r\n"
    events = observed(talk(*(stream[at : at + cut] for at in range(0, len(stream), cut))))

    assert [one.host for one in events if one.kind is Kind.REQUEST] == ["a.example", "b.example"]


def test_a_body_need_not_be_seen() -> None:
    """Its length gives where the next request begins, also beyond what sequence numbers can count."""
    length = 5 * 2**30
    head = b"PUT http://a.example/big HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length
    step = 50 * 2**20
    within = [segment(b"x", at) for at in range(len(head), len(head) + length, step)]
    events = observed([syn(), segment(head), *within, answer(OK), segment(GET, len(head) + length)])

    assert [one.host for one in events if one.kind is Kind.REQUEST] == ["a.example", "intranet.example"]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: x\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
    ],
)
def test_a_body_of_unknown_length(framing: bytes) -> None:
    """The request is reported; what comes in the same segment is not, as it may be its body."""
    events = observed(talk(b"POST http://a.example/ HTTP/1.1\r\n" + framing + b"\r\n" + GET))

    assert [one.host for one in events if one.kind is Kind.REQUEST] == ["a.example"]


def test_http_within_a_tunnel() -> None:
    """Who sends HTTP through a tunnel names the host in its field."""
    inner = b"GET /x?secret=1 HTTP/1.1\r\nHost: inner.example:8080\r\n\r\n"
    packets = [syn(), segment(CONNECT), answer(OK), segment(inner, len(CONNECT)), answer(b"HTTP/1.1 204 No\r\n", 90)]

    assert facts(observed(packets))[1] == ("exchange", 1, "GET", "/x", "inner.example", 8080, 204, False)


def test_a_refused_tunnel_is_asked_for_again() -> None:
    """After 407 the same connection goes on with HTTP; the hello then is the second CONNECT's."""
    at = len(CONNECT)
    packets = [
        syn(), segment(CONNECT), answer(REFUSED), segment(CONNECT, at), answer(OK, 900), segment(hello("a.example"), 2 * at),
    ]  # fmt: skip

    assert [(one[0], one[-2], one[-1]) for one in facts(observed(packets))] == [
        ("exchange", 407, False),
        ("exchange", 200, False),
        ("tls", None, True),
    ]


def test_what_follows_a_refused_tunnel() -> None:
    """It is HTTP, in whatever segments, and no tunnel: a hello belongs to none."""
    at = len(CONNECT)
    refused = [syn(), segment(CONNECT), answer(REFUSED)]

    assert [one[0] for one in facts(observed([*refused, segment(hello("a.example"), at)]))] == ["exchange"]
    again = facts(observed([*refused, segment(GET[:9], at), segment(GET[9:], at + 9)]))
    assert [one[4] for one in again] == ["www.example.com", "intranet.example"]


def test_chunks_of_wrong_length() -> None:
    """What follows in the segment is not read; that something follows is reported."""
    events = observed(
        talk(b"POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n" + GET)
    )

    assert [(one.host, one.is_readable) for one in events if one.kind is Kind.REQUEST] == [
        ("a.example", True),
        ("", False),
    ]


def test_a_request_without_an_answer_is_reported_in_time() -> None:
    """Before the correlator gives up, and once: a later answer belongs to none."""
    by = level()
    events = [one for packet in talk(GET) for one in by.packet(T0, packet)]
    assert by.advance(T0 + http_level.ANSWER_MICROS - 1) == []
    events += by.advance(T0 + http_level.ANSWER_MICROS)
    events += by.packet(T0 + 7 * SECOND, answer(OK))

    assert [(one.kind, one.status) for one in events] == [("request", None), ("exchange", None)]
    assert events[1].at == T0 + http_level.ANSWER_MICROS


@pytest.mark.parametrize("last", [end(), answer(b"", flags=RST), segment(b"", len(GET), flags=RST | ACK)])
def test_a_request_without_an_answer_is_reported_at_the_end(last: Packet) -> None:
    """The connection is over before it was answered."""
    by = level()
    events = [one for packet in [*talk(GET), last] for one in by.packet(T0, packet)]

    assert [(one.kind, one.status) for one in events] == [("request", None), ("exchange", None)]


def test_an_answer_with_the_end_of_the_connection() -> None:
    """Its segment is the last one."""
    by = level()
    events = [one for packet in [*talk(GET), answer(OK, flags=ACK | FIN)] for one in by.packet(T0, packet)]

    assert events[-1].status == 200


def test_ambiguous_responses_are_not_assigned() -> None:
    """Requests that do not wait for answers: which answer belongs to which is unknown, so no status is reported."""
    packets = [
        *talk(GET, GET),
        answer(OK),
        answer(b"HTTP/1.1 500 No\r\n", 400),
        segment(GET, 2 * len(GET)),
        answer(OK, 800),
    ]

    assert [one[-2] for one in facts(observed(packets))] == [None, None, None]


def test_a_late_answer_is_not_the_next_requests() -> None:
    """A request was reported without an answer, the next is sent before it came: whose it is cannot be known."""
    by = level()
    events = [one for packet in talk(GET) for one in by.packet(T0, packet)]
    events += by.packet(T0 + 6 * SECOND, segment(GET, len(GET)))
    events += by.packet(T0 + 7 * SECOND, answer(OK))

    assert [one.status for one in events] == [None] * 4


def test_an_answer_that_comes_again_answers_once() -> None:
    """The proxy's segment is seen on two devices; the next request waits for its own."""
    packets = [*talk(GET), answer(OK), segment(GET, len(GET)), answer(OK), answer(b"HTTP/1.1 404 No\r\n", 300)]

    assert [one[-2] for one in facts(observed(packets))] == [200, 404]


def test_an_interim_answer_is_none() -> None:
    """100 and 103 come before the answer."""
    packets = [*talk(GET), answer(b"HTTP/1.1 100 Continue\r\n\r\n"), answer(OK, 25)]

    assert [one[-2] for one in facts(observed(packets))] == [200]


def test_another_protocol_after_101() -> None:
    """A client that switched does not send HTTP any more, whatever it looks like."""
    at = len(GET)
    packets = [*talk(GET), answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), segment(GET, at), segment(GET, 2 * at)]

    assert len(facts(observed(packets))) == 1


@pytest.mark.parametrize(
    ("first", "reported", "unreadable"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n" + GET, ["?"], 1),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", ["?"], 1),
        (b"HELO a.example\r\n", ["?"], 1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GET, ["PRI"], 1),
        (b"\x05\x01\x00" + GET, ["?"], 1),
        (b"\x16\x03\x01\0\0" + GET, [], 1),
    ],
)
def test_what_is_not_http_is_not_read(first: bytes, reported: list[str], unreadable: int) -> None:
    """A connection that begins otherwise is reported without a target, once; in a tunnel it is nothing to report."""
    by = level()
    events = [one for one in observed(talk(first, GET), by) if one.kind is Kind.EXCHANGE]

    assert [one.method for one in events] == reported
    assert not any(one.host or one.is_readable for one in events)
    assert by.faults.unreadable == unreadable
    assert [one[2] for one in facts(observed(talk(CONNECT, first, GET)))] == ["CONNECT"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://a.example/ HTTP/1.1\nX: y\n\n",
        b"GET http://a.example/ HTTP/1.1\nX: y\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nX: y\r\n\n",
        b"\r\n\n GET\thttp://a.example/  HTTP/1.3 \r\nX: y\r\n z\r\n\r\n",
        b"get http://a.example/ HTTP/1.1\r\n\r\n",
        b"GET http://a.example/\r\n",
    ],
)
@pytest.mark.parametrize("cut", [1, 5, 1_000])
def test_heads_as_proxies_read_them(head: bytes, cut: int) -> None:
    """However lines end and white space stands, in whatever segments: what follows the head is the next request."""
    by = level()
    stream = head + GET
    events = observed(talk(*(stream[at : at + cut] for at in range(0, len(stream), cut))), by)

    assert [one.host for one in events if one.kind is Kind.REQUEST] == ["a.example", "intranet.example"]
    assert by.faults.unreadable == 0


def test_proxies_act_on_http_0_9_at_once() -> None:
    """Its line is all that there is: the request is known with the line's end."""
    by = level()
    first, second = talk(b"GET http://a.example/\r", b"\n")[1:]

    assert [by.packet(T0, packet) for packet in (syn(), first)] == [[], []]
    assert [one.host for one in by.packet(T0, second)] == ["a.example"]


def urgent(payload: bytes, at: int) -> Packet:
    """A segment whose last byte is urgent."""
    return segment(payload, at)._replace(urgent=len(payload))


def test_an_urgent_byte_is_not_in_the_stream() -> None:
    """What a proxy reads does not contain it: within the host, at the begin, between two heads, within a body, sent again."""
    inside = [syn(), urgent(b"CONNECT www.exX", 0), segment(b"ample.com:443 HTTP/1.1\r\n\r\n", 15)]
    alone = [syn(), urgent(b"X", 0), segment(CONNECT, 1)]
    early = [syn(), segment(b"ample.com:443 HTTP/1.1\r\n\r\n", 15), *[urgent(b"CONNECT www.exX", 0)] * 2]
    before = [syn(), segment(b"CONNECT www.", 0)._replace(urgent=15), *inside[1:]]
    post = b"POST http://www.example.com/ HTTP/1.1\r\nContent-Length: 3\r\n\r\n"
    body = [syn(), urgent(post + b"abX", 0), segment(b"c" + GET, len(post) + 3)]
    cut = [syn(), segment(post + b"ab", 0), urgent(b"X", len(post) + 2), segment(b"c" + GET, len(post) + 3)]

    for packets in (inside, alone, early, before):
        assert [one.host for one in observed(packets) if one.kind is Kind.REQUEST] == ["www.example.com"]
    for packets in (body, cut):
        events = [one.host for one in observed(packets) if one.kind is Kind.REQUEST]
        assert events == ["www.example.com", "intranet.example"]


def test_two_urgent_bytes_are_read_in_several_ways() -> None:
    """The first one stays in the stream where the receiver has not read it when the second one comes."""
    by = level()
    packets = [syn(), urgent(b"CONNECT www.X", 0), urgent(b"examplY", 13), segment(b"e.com:443 HTTP/1.1\r\n\r\n", 20)]
    request, _ = observed(packets, by)

    assert (request.target, request.host, request.is_readable) == ("?", "", False)
    assert request.others == (("www.example.com", 443),)
    assert by.faults.unreadable == 1


def test_urgent_bytes_are_bounded() -> None:
    """Of many that are known before they come some are left out, and nothing of the connection is certain."""
    far = [segment(b"x", at)._replace(urgent=at) for at in range(500, 520)]
    events = observed([syn(), *far, segment(GET)])

    assert {one.is_readable for one in events} == {False}


def test_a_line_of_cr_may_end_a_head() -> None:
    """With privoxy it does, with others not: the request is reported, what follows is not read."""
    by = level()
    events = observed(talk(b"GET http://a.example/ HTTP/1.1\r\nX: y\r\n\r\r\n" + GET), by)

    assert [(one.host, one.is_readable) for one in events if one.kind is Kind.REQUEST] == [("a.example", False)]
    assert by.faults.unreadable == 1


def test_a_request_in_a_tunnel_that_may_be_of_another_protocol() -> None:
    """CONNECT may have been refused, unseen: what the line may name is known, and the line is not called unreadable."""
    odd = b"CONNECT a.example:443@b.example:443 HTTP/1.1\r\n\r\n"
    _, request = (one for one in observed(talk(CONNECT, odd)) if one.kind is Kind.REQUEST)

    assert (request.host, request.is_readable) == ("", True)
    assert [host for host, _ in request.others] == ["a.example", "b.example"]


def test_from_the_middle_only_whole_request_lines() -> None:
    """A connection older than the sensor: what begins within a segment is no request, what begins with one is."""
    assert observed([segment(b"x" * 10 + GET, 500)]) == []
    assert observed([segment(hello("www.example.com"), 500)]) == []
    assert observed([segment(GET[:20], 500), segment(GET[20:], 520)]) == []
    assert observed([segment(b"x" * 10, 500), segment(b"x" * 5 + GET, 505)]) == []  # only its new bytes look like one
    assert observed([segment(b"PATCH http://a.example/ HTTP/1.1\r\n\r\n", 500)]) == []  # it may be PROPPATCH's end
    assert [one.host for one in observed([segment(b"tail\r\n\r\n", 500), segment(GET, 508)])][:1] == [
        "intranet.example"
    ]


def test_a_gap_is_waited_for_and_then_left() -> None:
    """A segment that never comes: reading resumes with a request line, and within a tunnel with a hello."""
    by = level()
    packets = [syn(), segment(GET), segment(b"half of a body" + GET, 200), segment(GET, 284)]
    events = [one for packet in packets for one in by.packet(T0, packet)]
    assert (len(events), by.gaps) == (1, 0)
    events += by.advance(T0 + http_level.GAP_MICROS)
    assert [(one.kind, one.tx) for one in events] == [("request", 0), ("exchange", 0), ("request", 1), ("exchange", 1)]
    assert by.gaps == 1

    tunnel = level()
    for packet in [*talk(CONNECT), segment(hello("a.example"), len(CONNECT) + 9)]:
        tunnel.packet(T0, packet)
    assert [one.host for one in tunnel.advance(T0 + SECOND) if one.kind is Kind.TLS] == ["a.example"]


def test_a_segment_that_was_not_captured_whole() -> None:
    """Missing bytes of a body are none; missing bytes of a head are a gap."""
    body = b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
    by = level()
    events = observed([syn(), segment(body + b"x" * 100)._replace(cut=900), segment(GET, len(body) + 1_000)], by)
    assert [one.host for one in events if one.kind is Kind.REQUEST] == ["a.example", "intranet.example"]
    assert by.gaps == 0

    by = level()
    for packet in (syn(), segment(GET[:30])._replace(cut=40)):
        assert by.packet(T0, packet) == []
    assert by.gaps == 1
    assert [one.tx for one in by.packet(T0, segment(GET, len(GET)))] == [0]


def test_each_line_has_the_start_of_its_connection() -> None:
    """The time of the first SYN, not of one that is sent again; none for a connection that is older than the sensor."""
    tunnel = [segment(CONNECT), answer(OK), segment(hello("www.example.com"), len(CONNECT))]
    seen = observed([syn(), syn(), *tunnel])

    assert [(one.kind.value, one.started) for one in seen] == [("request", T0), ("exchange", T0), ("tls", T0)]
    assert {one.started for one in observed(tunnel)} == {0}


def test_the_same_ends_again_are_another_connection() -> None:
    """A new beginning has a name of its own; a beginning that comes again has not, nor bytes after the end."""
    second = [packet._replace(seq=(packet.seq + 5_000) % 2**32) for packet in talk(GET)]
    events = observed([*talk(GET), syn(), segment(GET), end(), segment(GET), *second, *second])

    assert [one.tx for one in events if one.kind is Kind.REQUEST] == [0, 0]
    assert len({one.flow_id for one in events}) == 2


def test_a_connection_whose_beginning_was_missed_is_another() -> None:
    """Sequence numbers far from all that was seen: nothing of it is reported under the name of the one before."""
    far = segment(GET, 2**30)
    events = [one for one in observed([*talk(GET), far]) if one.kind is Kind.REQUEST]

    assert len({one.flow_id for one in events}) == 2


def test_names_of_connections() -> None:
    """The same with and without the beginning of the connection, as long as its first bytes are seen."""
    named = observed(talk(GET))[0].flow_id

    assert observed([segment(GET)])[0].flow_id == named
    assert observed([syn(port=1), segment(GET, port=1)])[0].flow_id != named


def test_only_known_proxies() -> None:
    """Where addresses are given, other listeners on such a port are ignored."""
    elsewhere = HttpLevel([PROXY_PORT], [("203.0.113.1", PROXY_PORT)])

    assert observed(talk(GET), elsewhere) == []
    assert len(observed(talk(GET), HttpLevel([PROXY_PORT], [(PROXY, PROXY_PORT)]))) == 2
    assert observed([packet._replace(dst_port=80) for packet in talk(GET)]) == []


def stream_of(parts: list[bytes], data: st.DataObject) -> list[Packet]:
    """The parts as a stream cut anywhere, segments moved about and some sent again, in another cut."""
    stream = b"".join(parts)
    places = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=20)))
    cuts = list(zip([0, *places], [*places, len(stream)], strict=True))
    again = data.draw(st.lists(st.tuples(st.integers(0, len(stream) - 1), st.integers(1, 200)), max_size=5))
    segments = [segment(stream[begin:to], begin) for begin, to in cuts]
    segments += [segment(stream[begin : begin + length], begin) for begin, length in again]
    return [syn(), *data.draw(st.permutations(segments))]


@settings(max_examples=150)
@given(st.data())
def test_cut_and_order_do_not_matter(data: st.DataObject) -> None:
    """The same bytes, in whatever segments, order and number of copies, give the same events."""
    body = b"POST http://b.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"
    sized = b"PUT http://c.example/ HTTP/1.1\r\nContent-Length: 12\r\n\r\nGET / HTTP/1"
    parts = [*data.draw(st.permutations([GET, body, sized])), CONNECT, hello("a.example", record_bytes=60, more=300)]
    whole = facts(observed(talk(b"".join(parts))))

    assert sorted(facts(observed(stream_of(parts, data))), key=str) == sorted(whole, key=str)
    assert len(whole) == 5


@settings(max_examples=150)
@given(st.data())
def test_gaps_cause_no_other_events(data: st.DataObject) -> None:
    """Whatever segments are missing: each request that is reported was sent."""
    parts = [
        GET,
        b"POST http://b.example/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nsome body",
        GET.replace(b"/a", b"/z"),
        CONNECT,
    ]
    parts.append(hello("a.example"))
    sent = {one[2:6] for one in facts(observed(talk(b"".join(parts))))}
    packets = stream_of(parts, data)
    left = [packet for packet in packets if data.draw(st.integers(0, 4))]
    by = level()
    events = [one for packet in left for one in by.packet(T0, packet)] + by.advance(T0 + 9 * SECOND) + by.finish(T0)

    assert {one[2:6] for one in facts(events)} <= sent


@pytest.mark.parametrize("seed", range(40))
def test_hostile_bytes_do_no_harm(seed: int) -> None:
    """Streams with any bytes changed, any flags and numbers: nothing is raised, nothing that was counted stays behind."""
    dice = random.Random(seed)
    by = level()
    pieces = [
        CONNECT,
        GET,
        hello("a.example", ech=True),
        OK,
        REFUSED,
        bytes(dice.randbytes(80)),
        b"5\r\nhello\r\n0\r\n\r\n",
    ]
    for step in range(400):
        content = bytearray(b"".join(dice.choices(pieces, k=dice.randint(0, 3))))
        for _ in range(dice.randint(0, 6)):
            if content:
                content[dice.randrange(len(content))] = dice.randrange(256)
        made = segment(bytes(content), dice.randrange(2_000), flags=dice.choice([ACK, ACK, ACK, dice.randrange(256)]))
        if dice.random() < 0.3:
            made = answer(bytes(content), dice.randrange(2_000), flags=made.flags)
        if dice.random() < 0.05:
            made = made._replace(seq=dice.randrange(2**32))
        by.packet(T0 + step * dice.choice([0, 1_000, 300_000]), made._replace(cut=dice.choice([0, 0, 0, 50])))
    by.packet(T0 + 10**12, syn())
    by.packet(T0 + 2 * 10**12, syn(port=9))

    assert by.kept_bytes == sum(flow.kept for flow in by._flows.values())


def test_heads_are_bounded() -> None:
    """One that does not end is dropped and counted; so is a line that does not end. What it may name is known."""
    by = level()
    line = b"GET http://a.example/ HTTP/1.1\r\n" + b"X: y\r\n" * 1_000
    events = observed(talk(line, *[b"X: y\r\n" * 1_000] * 10, b"\r\n"), by)
    assert [(one.target, one.others, one.is_readable) for one in events[:1]] == [("?", (("a.example", 80),), False)]
    assert (by.faults.too_long, by.requests) == (1, 1)

    by = level()
    observed(talk(b"GET http://a.example/" + b"a" * 20_000, b"a HTTP/1.1\r\n\r\n"), by)
    assert (by.faults.too_long, by.requests, by.kept_bytes) == (1, 1, 0)


def test_a_head_of_which_bytes_are_missing() -> None:
    """Its line came: the request is reported, for whom is not certain, as the Host field may be missing."""
    by = level()
    cut = segment(b"GET http://a.example/ HTTP/1.1\r\nX: y\r\n", 0)._replace(cut=40_000)
    request, exchange = observed([syn(), cut], by)

    assert (request.method, request.target, request.others, request.is_readable) == (
        "GET", "?", (("a.example", 80),), False,
    )  # fmt: skip
    assert (exchange.kind, by.gaps) == (Kind.EXCHANGE, 1)


@pytest.mark.parametrize("more", [b"a" * 20_000, b" HTTP/1.1\r\n" + b"X: y\r\n" * 12_000])
def test_what_is_too_long_in_a_tunnel(more: bytes) -> None:
    """CONNECT may have been refused, unseen: what the line may name is known. Another protocol's long line is nothing."""
    requests = [one for one in observed(talk(CONNECT, b"CONNECT a.example:443", more)) if one.kind is Kind.REQUEST]

    assert [one.others for one in requests] == [(), (("a.example", 443),)]
    assert requests[1].is_readable
    assert len(facts(observed(talk(CONNECT, b"x" * 20_000)))) == 1


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the quietest is forgotten, its request reported; it is counted."""
    monkeypatch.setattr(http_level, "FLOWS_MAX", 2)
    by = level()
    for port in (1, 2):
        observed([syn(port=port), segment(GET, port=port)], by)
    by.packet(T0, segment(b"", len(GET), port=1))
    by.packet(T0, syn(port=3))
    assert (by.flows, by.forgotten) == (2, 1)
    ids = [observed([segment(GET, 9 * len(GET), port=port)], by)[0].flow_id for port in (1, 2)]

    assert ids[0] == observed([syn(port=1), segment(GET, port=1)])[0].flow_id
    assert ids[1] != observed([syn(port=2), segment(GET, port=2)])[0].flow_id


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a connection's bytes are dropped; it is counted."""
    monkeypatch.setattr(http_level, "BYTES_MAX", 1_000)
    by = level()
    for port in range(1, 40):
        by.packet(T0, syn(port=port))
        by.packet(T0, segment(GET[:60], port=port))

    assert by.kept_bytes <= 1_000
    assert by.no_room > 0


def test_heads_held_open_take_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that holds many heads open, and sends no more, loses its own; another's head in two segments is read."""
    monkeypatch.setattr(http_level, "BYTES_MAX", 1_000)
    by = level()
    for port in range(1, 40):
        by.packet(T0, syn(port=port))
        by.packet(T0, segment(GET[:60], port=port))
    by.packet(T0, syn(port=50))
    lost = by.no_room
    events = observed([segment(GET[:60], port=50), segment(GET[60:], 60, port=50)], by)

    assert [one.kind for one in events] == ["request", "exchange"]
    assert by.no_room == lost + 1
    assert len(by._keeping) == sum(flow.kept > 0 for flow in by._flows.values())


def test_an_error_ends_its_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be read because of a defect is dropped and counted; those beside it are read."""
    read = Reader.read

    def broken(reader: Reader, content: bytes, *, is_begin: bool) -> list[Request | Hello | Socks]:
        if content == b"x":
            raise RuntimeError("a defect")
        return read(reader, content, is_begin=is_begin)

    monkeypatch.setattr(Reader, "read", broken)
    by = level()
    for port in (1, 2):
        by.packet(T0, syn(port=port))
    by.packet(T0, segment(b"x", port=1))
    by.packet(T0, segment(GET, 1, port=1))
    events = observed([segment(GET, port=2)], by)

    assert [(one.kind, one.flow.client_port) for one in events] == [("request", 2), ("exchange", 2)]
    assert (by.errors.count, by.requests) == (1, 1)


def test_connections_that_are_over_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast they end, the oldest is forgotten at the next look."""
    monkeypatch.setattr(http_level, "OVER_MAX", 3)
    by = level()
    for port in range(1, 20):
        by.packet(T0, syn(port=port))
        by.packet(T0, segment(b"", port=port)._replace(flags=RST))
    by.advance(T0)

    assert (len(by._over), by.flows) == (3, 3)


def test_early_segments_are_bounded() -> None:
    """Too many that wait for one before them: it will not come."""
    by = level()
    by.packet(T0, syn())
    for number in range(70):
        by.packet(T0, segment(b"x", 100 + 2 * number))

    assert by.gaps >= 1


@pytest.mark.parametrize(
    ("urls", "reported"),
    [
        (Urls.FULL, "http://intranet.example/a?q=1"),
        (Urls.PATH, "http://intranet.example/a"),
        (Urls.HOST, "http://intranet.example/"),
    ],
)
def test_how_much_of_a_url_is_reported(urls: Urls, reported: str) -> None:
    """The setting decides."""
    assert observed(talk(GET), level(urls))[0].target == reported


SOCKS = b"\x05\x01\x00", b"\x05\x01\x00\x03\x0fwww.example.com\x01\xbb"
GRANTED, CHOSEN = b"\x05\x00\x00\x01" + bytes(6), b"\x05\x00"


def socks_facts(events: Iterable[HttpEvent]) -> list[tuple[object, ...]]:
    """What becomes lines."""
    return [
        (one.kind.value, one.socks, one.host, one.port, one.granted, one.tunnelled)
        for one in events
        if one.kind is not Kind.REQUEST
    ]


@pytest.mark.parametrize("cut", range(1, len(b"".join(SOCKS))))
def test_a_socks_request_is_reported_with_its_answer_and_the_name_within(cut: int) -> None:
    """However it is cut; it is decided as it is sent, as a CONNECT to the same end is."""
    stream = b"".join(SOCKS)
    events = observed([*talk(stream[:cut], stream[cut:]), answer(CHOSEN), answer(GRANTED, 2),
                  segment(hello("www.example.com"), len(stream))])  # fmt: skip

    assert (events[0].kind, events[0].method, events[0].target) == (Kind.REQUEST, "CONNECT", "www.example.com:443")
    assert socks_facts(events) == [
        ("exchange", 5, "www.example.com", 443, True, False),
        ("tls", 0, "www.example.com", 443, None, True),
    ]


def test_a_request_behind_a_socks_request_in_one_segment_is_read() -> None:
    """A client that does not wait for the answer: the request is what the tunnel carries."""
    events = observed(talk(b"".join(SOCKS) + b"GET /a HTTP/1.1\r\nHost: www.example.com\r\n\r\n"))

    assert [(one.method, one.target, one.host) for one in events if one.kind is Kind.REQUEST] == [
        ("CONNECT", "www.example.com:443", "www.example.com"),
        ("GET", "/a", "www.example.com"),
    ]


def test_a_refused_socks_request_is_reported_so() -> None:
    """Nothing more of its connection is read."""
    events = observed([*talk(*SOCKS), answer(b"\x05\x02\x00\x01" + bytes(6)), segment(GET, len(b"".join(SOCKS)))])

    assert socks_facts(events) == [("exchange", 5, "www.example.com", 443, False, False)]


def test_a_greeting_alone_is_reported_when_its_connection_ends() -> None:
    """The remote end is a SOCKS server all the same; once, also where nothing ends it."""
    for packets in ([*talk(SOCKS[0]), answer(b"\x05\xff"), end(2)], talk(SOCKS[0])):
        assert socks_facts(observed(packets)) == [("exchange", 5, "", 0, None, False)]


def test_a_hello_without_a_name_is_reported() -> None:
    """TLS was sent to the proxy itself, or in a tunnel to an unknown destination."""
    assert facts(observed(talk(hello("")))) == [("tls", 0, "", "", "", PROXY_PORT, None, False)]
    assert facts(observed(talk(CONNECT, hello(""))))[0] == ("tls", 1, "", "", "", 443, None, True)


def test_the_first_bytes_of_a_connection_may_be_named_as_such() -> None:
    """Who learns a proxy from them has seen the SYN; without that nothing but a request line is believed."""
    first, rest = segment(SOCKS[0]), segment(SOCKS[1], len(SOCKS[0]))
    by = level()
    assert by.begin(T0, first) == []

    assert [one[2] for one in socks_facts(observed([first, rest], by))] == ["www.example.com"]
    assert observed([first, rest]) == []
