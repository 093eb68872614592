"""The outcome of a request, and the reason without a destination: each rule has a test that fails without it."""

from __future__ import annotations

from itertools import combinations

import pytest
from msgspec.structs import replace

from schemas.events import Action, ModeChanged, ProtectionMode, flow_of
from schemas.tables import Outcome
from streams.assess.assessment import outcome_of
from streams.model.connection import ASKED, AUDITED, BLOCKED, BYPASSED, FAILED, REACHED, WARNED
from tests.factories import (
    DEVICE,
    PROXY,
    connection,
    flow_end,
    micros,
    name,
    request,
    verdict,
    world_of,
)


@pytest.mark.parametrize(
    ("target", "status", "outcome"),
    [
        ("a.example:443", 200, "allowed"),
        ("a.example:443", 407, "failed"),
        ("a.example:443", 403, "failed"),
        ("a.example:443", 503, "failed"),
        ("a.example:443", None, "unknown"),
        ("http://a.example/", 200, "allowed"),
        ("http://a.example/", 404, "allowed"),
        ("http://a.example/", 405, "allowed"),
        ("http://a.example/", 403, "failed"),
        ("http://a.example/", 407, "failed"),
        ("http://a.example/", 502, "failed"),
        ("http://a.example/", 400, "unknown"),
        ("http://a.example/", None, "unknown"),
    ],
)
def test_outcome_follows_the_answer(target: str, status: int | None, outcome: str) -> None:
    """A refusal by the proxy and a missing answer are never `allowed`."""
    (row,) = world_of([connection(0), request(0.1, target, status=status)]).destinations

    assert row["Outcome"] == outcome
    assert (
        row["ActionType"]
        == {
            "allowed": "ConnectionSuccess",
            "failed": "ConnectionFailed",
            "unknown": "ConnectionAttempt",
        }[outcome]
    )


def test_asked_again_after_authentication_is_allowed() -> None:
    """407 and then 200 on one connection is one allowed destination."""
    (row,) = world_of(
        [connection(0), request(0.1, "a.example:443", status=407), request(0.2, "a.example:443", status=200, tx=1)]
    ).destinations

    assert (row["Outcome"], row["RequestCount"], row["HttpStatus"]) == ("allowed", 2, 200)


def test_a_blocked_request_has_only_its_verdict() -> None:
    """The verdict names the destination, and the outcome is `blocked`."""
    world = world_of([connection(0), verdict(0.1, "http://bad.example/x")])
    (row,) = world.destinations
    (hop,) = world.connections

    assert (row["DestinationHost"], row["Outcome"], row["ResolvedBy"]) == ("bad.example", "blocked", "verdict")
    assert row["ActionType"] == "ConnectionFailed"
    assert (hop["ActionType"], hop["Outcome"], hop["ProtectionMode"]) == ("ConnectionSuccess", "blocked", "block")


def test_a_block_inside_a_tunnel_blocks_its_end() -> None:
    """A block of the name inside overrides CONNECT's 200: the destination is blocked."""
    (row,) = world_of(
        [connection(0), request(0.1, "bad.example:443"), verdict(0.2, method="", host="bad.example")]
    ).destinations

    assert (row["DestinationHost"], row["Outcome"]) == ("bad.example", "blocked")


def test_an_audited_request_differs_from_an_allowed_one() -> None:
    """The outcome of a request that passed under audit is `audited`."""
    (row,) = world_of(
        [connection(0), request(0.1, "bad.example:443"), verdict(0.1, action=Action.AUDITED)]
    ).destinations

    assert (row["Outcome"], row["ProtectionMode"], row["ActionType"]) == ("audited", "audit", "ConnectionSuccess")


def test_mode_is_off_while_nothing_is_known() -> None:
    """A device is off before its first verdict; the verdict sets the mode from its own time on."""
    world = world_of(
        [
            connection(0, port=1),
            request(0.1, "a.example:443", port=1, flow="1"),
            connection(5, port=2),
            verdict(5.1, port=2, flow="2"),
            connection(6, port=3),
            request(6.1, "b.example:443", port=3, flow="3"),
        ]
    )

    modes = {row["DestinationHost"]: row["ProtectionMode"] for row in world.destinations}
    assert modes == {"a.example": "off", "bad.example": "block", "b.example": "block"}


def test_an_audit_rule_on_a_blocking_device_does_not_change_its_mode() -> None:
    """An inline sensor's alert-only rule gives an audit verdict; the device stays in block mode."""
    world = world_of(
        [verdict(0, flow="1", port=1), verdict(1, "soft.example:443", action=Action.AUDITED, flow="2", port=2)]
    )

    assert {row["ProtectionMode"] for row in world.destinations} == {"block"}


def test_a_sensor_may_report_the_mode_itself() -> None:
    """A mode change without a verdict applies from its time on."""
    world = world_of(
        [
            request(0, "a.example:443", port=1, flow="1"),
            ModeChanged(DEVICE, micros(5), ProtectionMode.AUDIT, "mode/1", "sensor"),
            request(6, "b.example:443", port=2, flow="2"),
            ModeChanged(DEVICE, micros(7), ProtectionMode.BLOCK, "mode/2", "sensor"),
            request(8, "c.example:443", port=3, flow="3"),
        ]
    )

    modes = {row["DestinationHost"]: row["ProtectionMode"] for row in world.destinations}
    assert modes == {"a.example": "off", "b.example": "audit", "c.example": "block"}


def test_without_http_level_events_protection_is_off() -> None:
    """A proxied connection on a device without any HTTP-level event has the reason `protection_off`."""
    (row,) = world_of([connection(0)], proxies=[f"{PROXY}:3128"]).connections

    assert (row["UnresolvedReason"], row["Outcome"], row["DestinationHost"]) == ("protection_off", "unknown", "")


def test_without_its_own_http_event_it_is_unresolved() -> None:
    """With HTTP-level events of other connections only, the reason is `no_http_event`."""
    world = world_of([request(0, "a.example:443", port=1, flow="1"), connection(10, port=2)])
    rows = {row["LocalPort"]: row for row in world.connections}

    assert rows[2]["UnresolvedReason"] == "no_http_event"


def test_tls_to_the_proxy_hides_the_destination() -> None:
    """TLS from the first byte to an address that acts as a proxy: the server name is the proxy's own."""
    world = world_of(
        [
            request(0, "a.example:443", port=1, flow="1"),
            connection(1, port=2, remote_port=3129),
            name(1.1, "proxy.corp.example", tunnelled=False, port=2, flow="2", remote_port=3129),
        ]
    )
    row = next(row for row in world.connections if row["LocalPort"] == 2)

    assert row["UnresolvedReason"] == "encrypted_to_proxy"
    assert [r["DestinationHost"] for r in world.destinations] == ["a.example"]


def test_a_tunnel_older_than_the_sensor_has_that_reason() -> None:
    """A connection that began before the sensor's first line has the reason `older_than_sensor`."""
    world = world_of([connection(0, port=1), request(5, "a.example:443", port=2, flow="2")])
    row = next(row for row in world.connections if row["LocalPort"] == 1)

    assert row["UnresolvedReason"] == "older_than_sensor"


def test_a_flow_picked_up_in_the_middle_is_turned_round() -> None:
    """A sensor that missed the beginning guesses the direction; the proxy is not the client."""
    turned = replace(
        flow_end(9, started=1, ended=8, midstream=True, sent=1, received=2),
        flow=flow_of(PROXY, 3128, "10.0.0.7", 55_555, "9"),
    )
    world = world_of([request(0, "a.example:443", port=1, flow="1"), turned])
    row = next(row for row in world.connections if row["LocalPort"] == 55_555)

    assert (row["RemoteIP"], row["RemotePort"], row["UnresolvedReason"]) == (PROXY, 3128, "older_than_sensor")
    assert (row["BytesSent"], row["BytesReceived"]) == (2, 1)


def test_an_unlisted_remote_end_may_be_a_proxy_on_a_blind_device() -> None:
    """Without any HTTP-level event a proxy cannot be distinguished from a server: unresolved, not direct."""
    world = world_of([connection(0, remote="203.0.113.5")])
    (row,) = world.connections

    assert (row["UnresolvedReason"], row["ResolvedBy"], row["ProxyIP"]) == ("protection_off", "", "")
    assert (row["ActionType"], row["Outcome"]) == ("ConnectionSuccess", "unknown")
    assert world.counts["unresolved:protection_off"] == 1


def test_an_address_is_not_a_proxy_for_what_any_server_answers() -> None:
    """An absolute-form request to an origin server does not make TLS on another port hidden."""
    world = world_of(
        [
            request(0, "http://a.example/", port=1, flow="1"),
            connection(1, port=2, remote_port=443),
            name(1.1, "site.example", tunnelled=False, port=2, flow="2", remote_port=443),
        ]
    )
    row = next(row for row in world.connections if row["LocalPort"] == 2)

    assert (row["ResolvedBy"], row["DestinationHost"], row["UnresolvedReason"]) == ("direct", "site.example", "")


def test_a_server_asked_for_itself_is_no_proxy() -> None:
    """An absolute URI that names the connection's own remote end passes through no proxy."""
    world = world_of([connection(0), request(0.1, f"http://{PROXY}:3128/")])

    assert world.destinations == []
    assert world.connections[0]["ProxyIP"] == ""


def test_the_strongest_of_several_outcomes_counts() -> None:
    """Of any two, the first in this order; a request without an answer is unknown."""
    order = {
        BLOCKED: Outcome.BLOCKED,
        BYPASSED: Outcome.BYPASSED,
        WARNED: Outcome.WARNED,
        AUDITED: Outcome.AUDITED,
        REACHED: Outcome.ALLOWED,
        FAILED: Outcome.FAILED,
        ASKED: Outcome.UNKNOWN,
    }
    for stronger, weaker in combinations(order, 2):
        assert outcome_of(stronger | weaker) is outcome_of(stronger) is order[stronger]
    assert outcome_of(ASKED) is outcome_of(0) is Outcome.UNKNOWN
