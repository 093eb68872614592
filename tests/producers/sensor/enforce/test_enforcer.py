"""What becomes of a listed request in each mode, and which packets may go on."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from typing import Any

import pytest

import producers.sensor.enforce.enforcer as module
from producers.sensor.enforce.deny_list import Listed
from producers.sensor.enforce.enforcer import AWAITED_MAX, DESTROYED_MICROS, PROOF_MICROS, Enforcer, passes
from producers.sensor.http.packets import ACK, RST, SYN, Packet
from producers.sensor.http.request_lines import FlowKey, HttpEvent
from producers.sensor.kernel.sock_diag import FiveTuple
from schemas.events import ProtectionMode
from tests.producers.sensor.http.fake_level import FLOW, Level, events
from tests.producers.sensor.http.fake_level import segment as segment_of
from tests.producers.sensor.http.wire import tcp, v4

AT = 1_780_000_000_000_000


class World:
    """An enforcer, its lines, and a kernel that does as requested: its resets acknowledge `received`."""

    def __init__(self, *outcomes: bool | int, received: int | None = 0, block_unreadable: bool = False) -> None:
        self.lines: list[bytes] = []
        self.received = received
        self.destroyed: list[FiveTuple] = []
        self.outcomes = list(outcomes)
        listed = Listed("block.txt", ["listed.example"])
        self.enforcer = Enforcer(
            "dev-a", lambda: listed, self._destroy, self.lines.append,
            block_unreadable=block_unreadable, named={FLOW[2:]},
        )  # fmt: skip

    def _destroy(self, flow: FiveTuple) -> bool:
        self.destroyed.append(flow)
        outcome = self.outcomes.pop(0) if self.outcomes else True
        if outcome is True or outcome is False:
            return outcome
        raise OSError(outcome, "refused")

    def saw(self, request: HttpEvent, at: int = AT) -> None:
        """On its way, and then the reset that its end brings about."""
        self.enforcer.saw(at, request._replace(at=at))
        if self.received is not None:
            self.enforcer.reset(segment_of(request.flow, RST | ACK, ack=self.received))

    def reported(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def verdicts(self) -> list[tuple[str, str]]:
        """What was done, and how, or why not."""
        return [
            (line["action"], line.get("how", "") or line.get("why", ""))
            for line in self.reported()
            if line["kind"] == "verdict"
        ]


def world(
    mode: ProtectionMode, *outcomes: bool | int, received: int | None = 0, block_unreadable: bool = False
) -> World:
    made = World(*outcomes, received=received, block_unreadable=block_unreadable)
    made.enforcer.enters(mode, AT)
    return made


def segment(payload: bytes = b"", *, flags: int = 0, port: int = FLOW[1]) -> Packet:
    return segment_of((FLOW[0], port, *FLOW[2:]), flags, payload)


CONNECT = b"CONNECT listed.example:443 HTTP/1.1\r\n\r\n"


def passing(made: World, packets: Iterable[Packet], at: int = AT, level: Level | None = None) -> list[bool]:
    """Which of these packets may go on; then comes the reset."""
    may_pass = passes(made.enforcer, (level or Level()).packet, lambda: at)
    may = [may_pass(raw(packet)) for packet in packets]
    if made.received is not None:
        may_pass(raw(segment(flags=RST | ACK)._replace(ack=made.received)))
    return may


def raw(packet: Packet) -> bytes:
    ports = packet.src_port, packet.dst_port
    return v4(tcp(packet.payload, flags=packet.flags, ports=ports, ack=packet.ack))


def test_a_verdict_has_all_that_a_request_has() -> None:
    """As a blocked one has no other record."""
    made = world(ProtectionMode.BLOCK)
    made.saw(events("listed.example")._replace(started=AT - 1))

    assert made.reported() == [
        {"kind": "mode", "device": "dev-a", "ts": "2026-05-28T20:26:40.000000Z", "mode": "block"},
        {
            "kind": "verdict",
            "device": "dev-a",
            "ts": "2026-05-28T20:26:40.000000Z",
            "ts_attempt": "2026-05-28T20:26:39.999999Z",
            "local_ip": "198.51.100.11",
            "local_port": 40_000,
            "remote_ip": "198.51.100.80",
            "remote_port": 3128,
            "flow": "u-1",
            "method": "CONNECT",
            "target": "listed.example:443",
            "host": "listed.example",
            "port": 443,
            "action": "blocked",
            "title": "listed by block.txt's entry listed.example",
            "how": "socket_destroyed",
        },
    ]


def test_audit_marks_and_touches_nothing() -> None:
    """The request goes on, held or not."""
    made = world(ProtectionMode.AUDIT)
    made.saw(events("listed.example"))

    assert made.verdicts() == [("audited", "")]
    assert passing(made, [segment(CONNECT)]) == [True]
    assert (made.destroyed, made.enforcer.audited) == ([], 1)


def test_a_tunnel_is_marked_once() -> None:
    """The name in the hello repeats that of CONNECT; another name, or another tunnel's, is reported."""
    made = world(ProtectionMode.AUDIT)
    for one in (events("listed.example"), events("listed.example", kind="tls"), events("x.listed.example", kind="tls")):
        made.saw(one)
    made.saw(events("listed.example", kind="tls")._replace(flow_id="u-2"))

    assert [line["host"] for line in made.reported()[1:]] == ["listed.example", "x.listed.example", "listed.example"]


def test_off_looks_at_nothing() -> None:
    """Nor does a sensor that has no mode yet."""
    made = world(ProtectionMode.OFF)
    made.saw(events("listed.example"))
    bare = World()
    bare.saw(events("listed.example"))

    assert (made.verdicts(), made.destroyed, bare.lines) == ([], [], [])


@pytest.mark.parametrize("mode", [ProtectionMode.AUDIT, ProtectionMode.BLOCK])
def test_others_are_left_alone(mode: ProtectionMode) -> None:
    """What is not listed, and answers, which come too late."""
    made = world(mode)
    for one in (events("fine.example"), events("listed.example", kind="exchange"), events("")):
        made.saw(one)

    assert (made.verdicts(), made.destroyed) == ([], [])


def test_what_could_not_be_destroyed_was_not_blocked() -> None:
    """Gone already, or the kernel refuses: the line claims nothing."""
    made = world(ProtectionMode.BLOCK, False, errno.EPERM)
    made.saw(events("listed.example"))
    made.saw(events("listed.example"))

    assert made.verdicts() == [("audited", "socket_gone"), ("audited", "not_destroyed")]
    assert made.enforcer.passed == 2


@pytest.mark.parametrize(("received", "why"), [(8, "answer_received"), (1, "answer_received"), (None, "unproven")])
def test_blocked_takes_proof(received: int | None, why: str) -> None:
    """The reset acknowledges no more than the request's own packet did: else an answer may have been read, or its end came."""
    made = world(ProtectionMode.BLOCK, received=received)
    made.saw(events("listed.example"))
    made.enforcer.finish()

    assert made.verdicts() == [("audited", why)]
    assert (made.enforcer.destroyed, made.enforcer.passed, made.destroyed) == (0, 1, [FLOW])


def test_what_was_received_before_is_no_answer() -> None:
    """A later request of a connection, or a name in a tunnel: what counts is what came since it was begun."""
    for received, verdict in ((700, ("blocked", "socket_destroyed")), (701, ("audited", "answer_received"))):
        made = world(ProtectionMode.BLOCK, received=received)
        made.saw(events("listed.example", kind="tls")._replace(acked=700))

        assert made.verdicts() == [verdict]


def test_only_the_reset_of_the_socket_proves() -> None:
    """Not a reset by which the kernel answers for a socket that is gone, which acknowledges nothing; nor another's."""
    made = world(ProtectionMode.BLOCK, received=None)
    made.saw(events("listed.example"))
    for packet in (segment(flags=RST), segment(flags=ACK), segment(flags=RST | ACK, port=40_001)):
        made.enforcer.reset(packet)
    assert made.verdicts() == []
    made.enforcer.reset(segment(flags=RST | ACK))

    assert made.verdicts() == [("blocked", "socket_destroyed")]


def test_the_reset_is_waited_for_a_moment() -> None:
    """From the next look on, as packets may be read late; then the request is unproven, and a reset changes nothing."""
    made = world(ProtectionMode.BLOCK, received=None)
    made.saw(events("listed.example"))
    made.enforcer.advance(AT + 60 * PROOF_MICROS)
    made.enforcer.advance(AT + 61 * PROOF_MICROS - 1)
    assert made.verdicts() == []
    made.enforcer.advance(AT + 61 * PROOF_MICROS)
    made.enforcer.reset(segment(flags=RST | ACK))

    assert made.verdicts() == [("audited", "unproven")]


def test_what_waits_for_a_reset_is_bounded() -> None:
    """Of the requests of one connection the first ones wait, further ones are unproven; each has one verdict."""
    made = world(ProtectionMode.BLOCK, received=None)
    for tx in range(AWAITED_MAX + 1):
        made.saw(events("listed.example")._replace(tx=tx))
    assert made.verdicts() == [("audited", "unproven")]
    made.enforcer.reset(segment(flags=RST | ACK))

    assert made.verdicts()[1:] == [("blocked", "socket_destroyed")] * AWAITED_MAX


def test_connections_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a request is unproven at once."""
    monkeypatch.setattr(module, "ENDED_MAX", 2)
    made = world(ProtectionMode.BLOCK, received=None)
    for port in range(40_000, 40_003):
        made.saw(events("listed.example", flow=(FLOW[0], port, *FLOW[2:])))

    assert made.verdicts() == [("audited", "unproven")]


def test_a_requests_own_line_waits_for_the_verdict() -> None:
    """It follows where the request was not blocked, and is left out where it was; what comes later likewise."""
    request, answer = events("listed.example"), events("listed.example", kind="exchange")
    for received, kept in ((9, False), (0, True)):
        made = world(ProtectionMode.BLOCK, received=None)
        made.saw(request)
        assert made.enforcer.keeps(answer, b'{"kind":"http"}')
        made.enforcer.reset(segment(flags=RST | ACK)._replace(ack=received))

        assert [line["kind"] for line in made.reported()] == ["mode", "verdict", *([] if kept else ["http"])]
        assert made.enforcer.keeps(answer, b"") is kept


def test_a_second_request_of_a_destroyed_connection_is_blocked() -> None:
    """Within the moment in which its packets may come; later ones with these ports are of another."""
    made = world(ProtectionMode.BLOCK, True, False, False)
    for at in (AT, AT + 1, AT + DESTROYED_MICROS + 1):
        made.saw(events("listed.example"), at)

    assert made.verdicts() == [("blocked", "socket_destroyed")] * 2 + [("audited", "socket_gone")]


def test_a_request_in_its_verdict_needs_no_other_line() -> None:
    """Its exchange comes when its connection is gone; another request's, and a marked one's, are reported."""
    made = world(ProtectionMode.BLOCK, True, False)
    for request in (events("listed.example"), events("listed.example")._replace(flow_id="u-2")):
        made.saw(request._replace(flow=request.flow._replace(proxy_port=len(made.lines))))
    answer = events("listed.example", kind="exchange")

    assert made.verdicts() == [("blocked", "socket_destroyed"), ("audited", "socket_gone")]
    assert made.enforcer.keeps(answer, b"")
    assert not any(
        made.enforcer.keeps(other, b"")
        for other in (answer._replace(tx=1), answer._replace(flow_id="u-2"), events("listed.example", kind="tls"))
    )


def test_held_requests_are_dropped_and_reported() -> None:
    """With the rest of that connection's bytes; what closes it goes on, and so do other connections."""
    made = world(ProtectionMode.BLOCK)

    assert passing(
        made,
        [
            segment(flags=SYN),
            segment(CONNECT),
            segment(b"more"),
            segment(),
            segment(b"GET http://fine.example/ HTTP/1.1", port=40_001),
        ],
    ) == [True, False, False, True, True]
    assert made.verdicts() == [("blocked", "inline")]
    assert made.destroyed == [FLOW]


def test_dropped_is_blocked_though_the_socket_stays() -> None:
    """Where it cannot be destroyed, what TCP sends again is dropped for as long as it tries."""
    made = world(ProtectionMode.BLOCK, errno.EOPNOTSUPP)

    assert passing(made, [segment(CONNECT)]) == [False]
    assert passing(made, [segment(CONNECT)], AT + 900_000_000) == [False]
    assert made.verdicts() == [("blocked", "inline")]


def test_of_a_connection_that_is_older_a_held_request_may_be_a_copy() -> None:
    """So it is not reported as held inline, nor as blocked where the socket stays. It is dropped all the same."""

    class Older(Level):
        def packet(self, at: int, packet: Packet, /) -> list[HttpEvent]:
            return [one._replace(from_begin=False) for one in super().packet(at, packet)]

    for outcome, verdict in ((True, ("blocked", "socket_destroyed")), (errno.EPERM, ("audited", "not_destroyed"))):
        made = world(ProtectionMode.BLOCK, outcome)

        assert passing(made, [segment(CONNECT), segment(CONNECT)], level=Older()) == [False, False]
        assert made.verdicts() == [verdict]


def test_of_a_request_in_pieces_the_first_may_have_been_answered() -> None:
    """Where the socket is gone or stays, no reset proves that nothing came back. The last piece is dropped all the same."""

    class InPieces(Level):
        def packet(self, at: int, packet: Packet, /) -> list[HttpEvent]:
            return [one._replace(in_pieces=True) for one in super().packet(at, packet)]

    for outcome, verdict in (
        (True, ("blocked", "inline")),
        (False, ("audited", "socket_gone")),
        (errno.EPERM, ("audited", "not_destroyed")),
    ):
        made = world(ProtectionMode.BLOCK, outcome)

        assert passing(made, [segment(CONNECT)], level=InPieces()) == [False]
        assert made.verdicts() == [verdict]


def test_a_second_held_request_of_a_socket_that_stays_is_blocked() -> None:
    """Both in the packet that never left."""

    class Twice(Level):
        def packet(self, at: int, packet: Packet, /) -> list[HttpEvent]:
            return super().packet(at, packet) * 2

    made = world(ProtectionMode.BLOCK, errno.EOPNOTSUPP, errno.EOPNOTSUPP)

    assert passing(made, [segment(CONNECT)], level=Twice()) == [False]
    assert made.verdicts() == [("blocked", "inline")] * 2


def test_an_answer_to_a_held_request_is_no_block() -> None:
    """An earlier copy went by unseen, and was answered before the socket was destroyed."""
    made = world(ProtectionMode.BLOCK, received=5)

    assert passing(made, [segment(CONNECT)]) == [False]
    assert made.verdicts() == [("audited", "answer_received")]


def test_ports_used_again_are_another_connection() -> None:
    """It begins with SYN; where that was not seen, the time decides."""
    made = world(ProtectionMode.BLOCK, False)
    fine = segment(b"GET http://fine.example/ HTTP/1.1")

    assert passing(made, [segment(CONNECT), fine, segment(flags=SYN), fine]) == [False, False, True, True]
    destroyed = world(ProtectionMode.BLOCK)
    assert passing(destroyed, [segment(CONNECT), fine]) == [False, False]
    assert passing(destroyed, [fine], AT + DESTROYED_MICROS) == [True]


def test_another_mode_stops_enforcing() -> None:
    """What was ended is forgotten; a mode is reported when it changes, not when it is set again."""
    made = world(ProtectionMode.BLOCK, False)
    assert passing(made, [segment(CONNECT)]) == [False]
    made.enforcer.enters(ProtectionMode.AUDIT, AT)
    made.enforcer.enters(ProtectionMode.AUDIT, AT)

    assert passing(made, [segment(CONNECT)]) == [True]
    modes = [(line["mode"], line.get("before")) for line in made.reported() if line["kind"] == "mode"]
    assert modes == [("block", None), ("audit", "block")]


def test_events_of_another_connection_are_not_held() -> None:
    """It went on before it was whole: its socket is destroyed, this packet goes."""
    other = ("198.51.100.11", 50_000, "198.51.100.80", 3128)

    class Late(Level):
        def packet(self, _at: int, _packet: Packet, /) -> list[HttpEvent]:
            return [events("listed.example", flow=other)]

    made = world(ProtectionMode.BLOCK)
    may_pass = passes(made.enforcer, Late().packet, lambda: AT)

    assert may_pass(raw(segment(b"x"))) is True
    made.enforcer.reset(segment(flags=RST | ACK, port=other[1]))
    assert (made.verdicts(), made.destroyed) == ([("blocked", "socket_destroyed")], [other])


def test_what_is_no_segment_goes_on() -> None:
    """Such as fragments."""
    made = world(ProtectionMode.BLOCK)

    assert passes(made.enforcer, Level().packet, lambda: AT)(b"") is True


TWO_HOSTS = events("")._replace(
    target="?", port=0, others=(("fine.example", 443), ("x.listed.example", 8443)), is_readable=False
)
UNREADABLE_REQUEST = TWO_HOSTS._replace(others=(("fine.example", 443),))
NO_REQUEST = UNREADABLE_REQUEST._replace(method="?", others=())


@pytest.mark.parametrize("mode", [ProtectionMode.AUDIT, ProtectionMode.BLOCK])
def test_a_listed_host_among_those_that_may_be_meant(mode: ProtectionMode) -> None:
    """It is marked or stopped, as if it were meant; the verdict names the listed one and no target."""
    made = world(mode)
    made.saw(TWO_HOSTS)

    (verdict,) = (line for line in made.reported() if line["kind"] == "verdict")
    assert (verdict["host"], verdict["port"], verdict["target"]) == ("x.listed.example", 8443, "?")
    assert verdict["action"] == ("blocked" if mode is ProtectionMode.BLOCK else "audited")


@pytest.mark.parametrize("request_", [UNREADABLE_REQUEST, NO_REQUEST])
def test_what_cannot_be_read_is_stopped(request_: HttpEvent) -> None:
    """With `block_unreadable` in mode block, and only then; the verdict names no host and gives the reason."""
    made = world(ProtectionMode.BLOCK, block_unreadable=True)
    assert made.enforcer.stops(AT, request_)
    made.enforcer.reset(segment(flags=RST | ACK))
    others = (world(ProtectionMode.BLOCK), world(ProtectionMode.AUDIT, block_unreadable=True))

    assert not any(one.enforcer.stops(AT, request_) or one.enforcer.saw(AT, request_) for one in others)
    (verdict,) = (line for line in made.reported() if line["kind"] == "verdict")
    assert (verdict["host"], verdict["action"], verdict["how"]) == ("", "blocked", "inline")
    assert "block_unreadable" in verdict["title"]


def test_what_is_no_request_is_stopped_at_named_proxies_only() -> None:
    """Else a process could have others' connections to any address stopped, by having it learnt as a proxy."""
    made = world(ProtectionMode.BLOCK, block_unreadable=True)
    learnt = ("198.51.100.11", 40_000, "203.0.113.9", 5432)

    assert not made.enforcer.stops(AT, NO_REQUEST._replace(flow=FlowKey(*learnt)))
    assert made.enforcer.stops(AT, UNREADABLE_REQUEST._replace(flow=FlowKey(*learnt)))


def test_other_requests_in_a_dropped_packet_are_reported() -> None:
    """A CONNECT, and behind it the client hello for which the packet is dropped: only the gate has seen both."""

    class Both(Level):
        def packet(self, _at: int, packet: Packet, /) -> list[HttpEvent]:
            return [events("fine.example"), events("listed.example", kind="tls")] if packet.payload else []

    made = world(ProtectionMode.BLOCK)

    assert passing(made, [segment(b"x")], level=Both()) == [False]
    _, http, verdict = made.reported()
    assert (verdict["kind"], verdict["host"]) == ("verdict", "listed.example")
    assert (http["kind"], http["method"], http["target"], "status" in http) == (
        "http", "CONNECT", "fine.example:443", False,
    )  # fmt: skip
