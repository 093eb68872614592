"""What becomes of a listed request in each mode, and which packets may go on."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from typing import Any

import pytest

from producers.sensor.diag import FiveTuple
from producers.sensor.enforce import DESTROYED_MICROS, Enforcer, passes
from producers.sensor.listed import Listed
from schemas.events import ProtectionMode
from tests.producers.sensor.spoken import SYN, Level, Said, Segment, said

FLOW = ("198.51.100.11", 40_000, "198.51.100.80", 3128)
AT = 1_780_000_000_000_000


class World:
    """An enforcer, its lines, and a kernel that does as it is told."""

    def __init__(self, *outcomes: bool | int, block_unreadable: bool = False) -> None:
        self.lines: list[bytes] = []
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

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def verdicts(self) -> list[tuple[str, str]]:
        return [(line["action"], line.get("how", "")) for line in self.told() if line["kind"] == "verdict"]


def world(mode: ProtectionMode, *outcomes: bool | int, block_unreadable: bool = False) -> World:
    made = World(*outcomes, block_unreadable=block_unreadable)
    made.enforcer.enters(mode, AT)
    return made


def segment(payload: bytes = b"", *, flags: int = 0, port: int = FLOW[1]) -> Segment:
    return Segment(FLOW[0], port, FLOW[2], FLOW[3], flags, payload)


CONNECT = b"CONNECT listed.example:443 HTTP/1.1\r\n\r\n"


def judged(made: World, packets: Iterable[Segment], at: int = AT) -> list[bool]:
    queue = list(packets)
    may_pass = passes(made.enforcer, lambda raw: queue[raw[0]], Level(), lambda: at)
    return [may_pass(bytes([number])) for number in range(len(queue))]


def test_a_verdict_has_all_that_a_request_has() -> None:
    """As a blocked one has no other record."""
    made = world(ProtectionMode.BLOCK)
    made.enforcer.saw(AT, said("listed.example"))

    assert made.told() == [
        {"kind": "mode", "device": "dev-a", "ts": "2026-05-28T20:26:40.000000Z", "mode": "block"},
        {
            "kind": "verdict",
            "device": "dev-a",
            "ts": "2026-05-28T20:26:40.000000Z",
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
    made.enforcer.saw(AT, said("listed.example"))

    assert made.verdicts() == [("audited", "")]
    assert judged(made, [segment(CONNECT)]) == [True]
    assert (made.destroyed, made.enforcer.audited) == ([], 1)


def test_a_tunnel_is_marked_once() -> None:
    """Its name in the hello says again what CONNECT said; another name, or another tunnel's, is told."""
    made = world(ProtectionMode.AUDIT)
    for one in (said("listed.example"), said("listed.example", kind="tls"), said("x.listed.example", kind="tls")):
        made.enforcer.saw(AT, one)
    made.enforcer.saw(AT, said("listed.example", kind="tls")._replace(flow_id="u-2"))

    assert [line["host"] for line in made.told()[1:]] == ["listed.example", "x.listed.example", "listed.example"]


def test_off_looks_at_nothing() -> None:
    """Nor does a sensor that has no mode yet."""
    made = world(ProtectionMode.OFF)
    made.enforcer.saw(AT, said("listed.example"))
    bare = World()
    bare.enforcer.saw(AT, said("listed.example"))

    assert (made.verdicts(), made.destroyed, bare.lines) == ([], [], [])


@pytest.mark.parametrize("mode", [ProtectionMode.AUDIT, ProtectionMode.BLOCK])
def test_others_are_left_alone(mode: ProtectionMode) -> None:
    """What is not listed, and answers, which come too late."""
    made = world(mode)
    for one in (said("fine.example"), said("listed.example", kind="exchange"), said("")):
        made.enforcer.saw(AT, one)

    assert (made.verdicts(), made.destroyed) == ([], [])


def test_what_could_not_be_destroyed_was_not_blocked() -> None:
    """Gone already, or the kernel refuses: the line claims nothing."""
    made = world(ProtectionMode.BLOCK, False, errno.EPERM)
    made.enforcer.saw(AT, said("listed.example"))
    made.enforcer.saw(AT, said("listed.example"))

    assert made.verdicts() == [("audited", "")] * 2
    assert made.enforcer.passed == 2


def test_a_second_request_of_a_destroyed_connection_is_blocked() -> None:
    """Within the moment in which its packets may come; later ones with these ports are of another."""
    made = world(ProtectionMode.BLOCK, True, False, False)
    for at in (AT, AT + 1, AT + DESTROYED_MICROS + 1):
        made.enforcer.saw(at, said("listed.example"))

    assert made.verdicts() == [("blocked", "socket_destroyed")] * 2 + [("audited", "")]


def test_a_request_that_its_verdict_tells_needs_no_other_line() -> None:
    """Its exchange comes when its connection is gone; another request's, and a marked one's, are told."""
    made = world(ProtectionMode.BLOCK, True, False)
    for request in (said("listed.example"), said("listed.example")._replace(flow_id="u-2")):
        made.enforcer.saw(AT, request._replace(flow=(*request.flow[:3], len(made.lines))))
    answer = said("listed.example", kind="exchange")

    assert made.verdicts() == [("blocked", "socket_destroyed"), ("audited", "")]
    assert made.enforcer.is_told(answer)
    assert not any(
        made.enforcer.is_told(other)
        for other in (answer._replace(tx=1), answer._replace(flow_id="u-2"), said("listed.example", kind="tls"))
    )


def test_held_requests_are_dropped_and_told() -> None:
    """With the rest of that connection's bytes; what closes it goes on, and so do other connections."""
    made = world(ProtectionMode.BLOCK)

    assert judged(
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

    assert judged(made, [segment(CONNECT)]) == [False]
    assert judged(made, [segment(CONNECT)], AT + 900_000_000) == [False]
    assert made.verdicts() == [("blocked", "inline")]


def test_ports_used_again_are_another_connection() -> None:
    """It begins with SYN; where that was not seen, the time tells."""
    made = world(ProtectionMode.BLOCK, False)
    fine = segment(b"GET http://fine.example/ HTTP/1.1")

    assert judged(made, [segment(CONNECT), fine, segment(flags=SYN), fine]) == [False, False, True, True]
    destroyed = world(ProtectionMode.BLOCK)
    assert judged(destroyed, [segment(CONNECT), fine]) == [False, False]
    assert judged(destroyed, [fine], AT + DESTROYED_MICROS) == [True]


def test_another_mode_lets_go() -> None:
    """What was ended is forgotten; a mode is told when it changes, not when it is said again."""
    made = world(ProtectionMode.BLOCK, False)
    assert judged(made, [segment(CONNECT)]) == [False]
    made.enforcer.enters(ProtectionMode.AUDIT, AT)
    made.enforcer.enters(ProtectionMode.AUDIT, AT)

    assert judged(made, [segment(CONNECT)]) == [True]
    modes = [(line["mode"], line.get("before")) for line in made.told() if line["kind"] == "mode"]
    assert modes == [("block", None), ("audit", "block")]


def test_what_a_packet_tells_of_another_connection_is_not_held() -> None:
    """It went on before it was whole: its socket is destroyed, this packet goes."""
    other = ("198.51.100.11", 50_000, "198.51.100.80", 3128)

    class Late(Level):
        def packet(self, _at: int, _packet: Segment, /) -> list[Said]:
            return [said("listed.example", flow=other)]

    made = world(ProtectionMode.BLOCK)
    may_pass = passes(made.enforcer, lambda _: segment(b"x"), Late(), lambda: AT)

    assert may_pass(b"") is True
    assert (made.verdicts(), made.destroyed) == ([("blocked", "socket_destroyed")], [other])


def test_what_is_no_segment_goes_on() -> None:
    """Such as fragments."""
    made = world(ProtectionMode.BLOCK)

    assert passes(made.enforcer, lambda _: None, Level(), lambda: AT)(b"") is True


TWO_HOSTS = said("")._replace(
    target="?", port=0, others=(("fine.example", 443), ("x.listed.example", 8443)), is_readable=False
)
UNREADABLE_REQUEST = TWO_HOSTS._replace(others=(("fine.example", 443),))
NO_REQUEST = UNREADABLE_REQUEST._replace(method="?", others=())


@pytest.mark.parametrize("mode", [ProtectionMode.AUDIT, ProtectionMode.BLOCK])
def test_a_listed_host_among_those_that_may_be_meant(mode: ProtectionMode) -> None:
    """It is marked or stopped, as if it were meant; the verdict names the listed one and no target."""
    made = world(mode)
    made.enforcer.saw(AT, TWO_HOSTS)

    (verdict,) = (line for line in made.told() if line["kind"] == "verdict")
    assert (verdict["host"], verdict["port"], verdict["target"]) == ("x.listed.example", 8443, "?")
    assert verdict["action"] == ("blocked" if mode is ProtectionMode.BLOCK else "audited")


@pytest.mark.parametrize("request_", [UNREADABLE_REQUEST, NO_REQUEST])
def test_what_cannot_be_read_is_stopped(request_: Said) -> None:
    """With `block_unreadable` in mode block, and only then; the verdict names no host and says why."""
    made = world(ProtectionMode.BLOCK, block_unreadable=True)
    assert made.enforcer.stops(AT, request_)
    others = (world(ProtectionMode.BLOCK), world(ProtectionMode.AUDIT, block_unreadable=True))

    assert not any(one.enforcer.stops(AT, request_) or one.enforcer.saw(AT, request_) for one in others)
    (verdict,) = (line for line in made.told() if line["kind"] == "verdict")
    assert (verdict["host"], verdict["action"], verdict["how"]) == ("", "blocked", "inline")
    assert "block_unreadable" in verdict["title"]


def test_what_is_no_request_is_stopped_at_named_proxies_only() -> None:
    """Else a process could have others' connections to any address stopped, by having it learnt as a proxy."""
    made = world(ProtectionMode.BLOCK, block_unreadable=True)
    learnt = ("198.51.100.11", 40_000, "203.0.113.9", 5432)

    assert not made.enforcer.stops(AT, NO_REQUEST._replace(flow=learnt))
    assert made.enforcer.stops(AT, UNREADABLE_REQUEST._replace(flow=learnt))


def test_other_requests_in_a_dropped_packet_are_reported() -> None:
    """A CONNECT, and behind it the client hello for which the packet is dropped: only the gate has seen both."""

    class Both(Level):
        def packet(self, _at: int, _packet: Segment, /) -> list[Said]:
            return [said("fine.example"), said("listed.example", kind="tls")]

    made = world(ProtectionMode.BLOCK)
    may_pass = passes(made.enforcer, lambda _: segment(b"x"), Both(), lambda: AT)

    assert may_pass(b"") is False
    _, verdict, http = made.told()
    assert (verdict["kind"], verdict["host"]) == ("verdict", "listed.example")
    assert (http["kind"], http["method"], http["target"], "status" in http) == (
        "http", "CONNECT", "fine.example:443", False,
    )  # fmt: skip
