"""Conclusions from a connection's evidence, beyond a single request: its tunnel's end, names, times, identities and verdicts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import Action, Event, ProtectionMode
from streams.assess.assessment import identity
from tests.factories import (
    PROXY,
    World,
    connection,
    flow_end,
    mode,
    name,
    process_verdict,
    proxy_line,
    request,
    verdict,
    world_of,
)

LISTED = [f"{PROXY}:3128"]
PUBLISHED = [
    "f7a202aed35e66de70ae680e7fa08713",
    "bd13ba0c48044348fba840d5f991c64a",
    "ea9980b66c8bb3790e40234637fdfbab",
    "ad16a6aa16970bdbd9a637568c2d0936",
    "f73d9b89c280f9e82c7d26fb6b9dc920",
    "e1e0dc882e1a4229b4d19d8440893d61",
    "f73d9b89c280f9e82c7d26fb6b9dc920",
]


def outcomes(world: World) -> dict[object, object]:
    """Return the outcome of each destination."""
    return {row["DestinationHost"]: row["Outcome"] for row in world.destinations}


# Identities


@pytest.mark.parametrize("endpoint", [False, True])
def test_a_destination_row_has_the_id_of_its_connection_row(endpoint: bool) -> None:
    """It may be emitted first: every version of it has the id that the connection row gets later."""
    events: list[Event] = [request(0.1, "a.example:443"), request(0.2, "b.example:443", tx=1)]
    world = World().see(*[connection(0)] * endpoint, *events).wait(30).finish()
    (hop,) = world.connections

    early = [row for row in world.versions if row["Layer"] == "destination"]
    assert {row["ConnectionId"] for row in early} == {hop["RecordId"]}


def test_without_a_flow_id_a_tuple_used_again_has_new_record_ids() -> None:
    """The start in the endpoint record distinguishes the connections, whose destinations only the proxy's log names."""
    events: list[Event] = []
    for at in (0, 100):
        events += [connection(at, ended=at + 9), proxy_line(at + 9, started=at + 0.3, number=at)]
    world = World().see(*events[:2]).wait(60).see(*events[2:]).finish()

    assert len({row["RecordId"] for row in world.destinations}) == 2
    assert len({row["RecordId"] for row in world.connections}) == 2


def test_a_late_endpoint_record_does_not_rename_rows_without_a_flow_id() -> None:
    """Their identity rests on the first event of a sensor that gives its flows no id."""
    world = World().see(request(0.1, "a.example:443", flow=""), flow_end(2, started=0, ended=1.5, flow="")).wait(60)
    before = {row["RecordId"] for row in world.rows}
    world.see(connection(0)).finish()

    assert {row["RecordId"] for row in world.rows} == before
    assert {row["InitiatingProcessId"] for row in world.rows} == {4711}


def test_record_ids_are_the_ones_that_were_published() -> None:
    """Rows in the table are replaced by rows with the same id: another way to derive it would double them."""
    flow_only = world_of([request(0.1, "a.example:443"), flow_end(2, started=0, ended=1.5)])
    endpoint_only = world_of([connection(0, ended=9), proxy_line(9, started=0.3)])
    verdicts = world_of([connection(0), verdict(0.1, "http://bad.example/"), verdict(0.2, "bad.example:443", tx=1)])
    found = [*flow_only.rows, *endpoint_only.rows, *verdicts.verdicts]

    assert [row["RecordId"] for row in found] == PUBLISHED
    assert identity("lone surrogate \ud800") != identity("lone surrogate \ud801")


# Tunnels


def test_a_verdict_on_the_name_inside_is_about_the_latest_tunnel_only() -> None:
    """The proxy refused the first CONNECT of the connection; only the second one was blocked."""
    for inside in (
        verdict(0.4, method="", host="hidden.example"),
        verdict(0.4, method="", host="b.example"),
    ):
        events: list[Event] = [
            connection(0),
            request(0.1, "a.example:443"),
            request(0.2, "b.example:443", tx=1),
            inside,
        ]
        assert outcomes(world_of(events)) == {"a.example": "allowed", "b.example": "blocked"}


def test_a_process_verdict_on_the_name_inside_blocks_the_latest_tunnel_only() -> None:
    """Network protection of the endpoint reports the name that it saw in the tunnel, not the CONNECT's."""
    events: list[Event] = [
        connection(0),
        request(0.1, "a.example:443"),
        request(0.2, "b.example:443", tx=1),
        name(0.3, "hidden.example"),
        process_verdict(0.4, "hidden.example"),
    ]
    assert outcomes(world_of(events)) == {"a.example": "allowed", "b.example": "blocked"}


def test_a_withdrawn_name_is_not_the_end_of_a_tunnel() -> None:
    """A CONNECT that is reported late replaces the name seen after it, which stays its mismatch."""
    world = World(proxies=LISTED).see(connection(0), name(0.4, "front.example")).wait(60)
    assert [row["DestinationHost"] for row in world.destinations] == ["front.example"]

    world.see(request(0.2, "real.example:443")).finish()
    rows = {row["DestinationHost"]: row for row in world.destinations}
    assert (rows["real.example"]["HostMismatch"], rows["front.example"]["UnresolvedReason"]) == (
        "front.example",
        "superseded",
    )


@pytest.mark.parametrize(
    ("inside", "mismatch"),
    [(["b.hidden.example", "a.hidden.example"], "a.hidden.example"), (["", "b.hidden.example"], "b.hidden.example")],
)
def test_the_first_other_name_in_alphabetical_order_is_the_mismatch(inside: list[str], mismatch: str) -> None:
    """A client hello without a name is none."""
    names = [
        replace(name(0.2 + number, sni, tunnelled=bool(sni)), to_proxy=not sni) for number, sni in enumerate(inside)
    ]
    (row,) = world_of([connection(0), request(0.1, "front.example:443"), *names]).destinations

    assert row["HostMismatch"] == mismatch


def test_without_a_connect_two_names_are_no_mismatch() -> None:
    """No CONNECT requested either of them."""
    events: list[Event] = [connection(0), name(0.2, "a.example"), name(0.3, "b.example")]
    assert {row["HostMismatch"] for row in world_of(events, proxies=LISTED).rows} == {""}


# Times


def test_without_a_start_a_destination_starts_with_the_connections_first_event() -> None:
    """Before the connection is decided, earlier evidence may still arrive: its own request counts until then."""
    target = "http://b.example/"
    world = World().see(request(0, "http://a.example/"), request(2, target, tx=1))
    first = next(row for row in world.versions if row["DestinationHost"] == "b.example")
    world.wait(60).finish()
    last = next(row for row in world.destinations if row["DestinationHost"] == "b.example")
    (hop,) = world.connections

    assert first["ConnectionTime"] == first["Timestamp"] == last["Timestamp"]
    assert last["ConnectionTime"] == hop["Timestamp"] != last["Timestamp"]
    assert (first["ResolutionMs"], last["ResolutionMs"]) == (0, 2000)


def test_a_request_logged_after_the_connections_end_is_at_the_end() -> None:
    """The record of a request may be later than the request."""
    (row,) = world_of([connection(0, ended=1), request(1.4, "a.example:443")]).destinations
    assert row["ResolutionMs"] == 1000


# Why a connection has no destination


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ([], "older_than_sensor"),
        ([flow_end(9.5, started=5, ended=9, flow="C1", midstream=True)], "older_than_sensor"),
        ([flow_end(9.5, started=1, ended=9, flow="C1")], "no_http_event"),
    ],
)
def test_one_sensor_that_saw_the_beginning_is_enough(later: list[Event], reason: str) -> None:
    """The other one picked the flow up in the middle."""
    events: list[Event] = [
        request(0, "a.example:443", port=1, flow="1"),
        connection(1, ended=9),
        flow_end(9.4, started=4, ended=9, midstream=True),
        *later,
    ]
    row = next(row for row in world_of(events).connections if row["LocalPort"] != 1)
    assert row["UnresolvedReason"] == reason


def test_tls_inside_the_tunnel_is_not_tls_to_the_proxy() -> None:
    """With a CONNECT whose target is unreadable the reason is the request."""
    events: list[Event] = [
        request(0, "a.example:443", port=1, flow="1"),
        connection(1),
        request(1.1, "m", method="CONNECT", status=None),
        flow_end(9.4, started=1, ended=9, tls=True),
    ]
    row = next(row for row in world_of(events).connections if row["LocalPort"] != 1)
    assert row["UnresolvedReason"] == "no_usable_request"


def test_a_client_hello_without_a_name_does_not_hide_the_proxys_name() -> None:
    """The row of TLS to the proxy has the first server name."""
    nameless = replace(name(0.2, "", tunnelled=False), to_proxy=True)
    events: list[Event] = [connection(0), nameless, name(0.3, "proxy.corp.example", tunnelled=False)]
    (hop,) = world_of(events, proxies=LISTED).connections
    assert (hop["RemoteUrl"], hop["UnresolvedReason"]) == ("proxy.corp.example", "encrypted_to_proxy")


def test_a_host_header_does_not_make_a_connection_encrypted() -> None:
    """It names the proxy itself, as the server name of TLS to the proxy does."""
    (hop,) = world_of([connection(0), request(0.1, "/wpad.dat", host=PROXY)], proxies=LISTED).connections
    assert hop["UnresolvedReason"] == "no_http_event"


def test_an_unreadable_plain_request_is_no_usable_request() -> None:
    """A request in origin form without a Host header names no destination."""
    (hop,) = world_of([connection(0), request(0.1, "/x")], proxies=LISTED).connections
    assert hop["UnresolvedReason"] == "no_usable_request"


def test_a_verdict_on_a_connect_without_a_target_is_no_usable_request() -> None:
    """The sensor reported the rule's match, but not the request."""
    (hop,) = world_of([connection(0), verdict(0.1, "", method="CONNECT")], proxies=LISTED).connections
    assert (hop["UnresolvedReason"], hop["Outcome"]) == ("no_usable_request", "blocked")


@pytest.mark.parametrize(
    ("valid", "method", "reason"),
    [(ProtectionMode.OFF, "", "protection_off"), (ProtectionMode.AUDIT, "direct", "")],
)
def test_a_reported_mode_decides_whether_http_was_visible(valid: ProtectionMode, method: str, reason: str) -> None:
    """While the protection is off, a connection without a request may be to a proxy, even where HTTP was seen before."""
    events: list[Event] = [
        request(0, "a.example:443"),
        mode(1, valid),
        connection(2, remote="203.0.113.5", port=2),
    ]
    hop = next(row for row in world_of(events).connections if row["LocalPort"] == 2)
    assert (hop["ResolvedBy"], hop["UnresolvedReason"]) == (method, reason)


# Direct connections


def test_the_server_name_of_a_direct_connection_outweighs_the_host_header() -> None:
    """It does so in either order; a client hello without a name gives none."""
    remote, port = "203.0.113.5", 443
    seen: list[Event] = [
        request(0.1, "/x", host="header.example", remote=remote, remote_port=port),
        name(0.2, "", tunnelled=False, remote=remote, remote_port=port),
        name(0.3, "sni.example", tunnelled=False, remote=remote, remote_port=port),
    ]
    for count, expected in ((2, "header.example"), (3, "sni.example")):
        (hop,) = world_of([connection(0, remote=remote, remote_port=port), *seen[:count]]).connections
        assert (hop["ResolvedBy"], hop["DestinationHost"]) == ("direct", expected)


@pytest.mark.parametrize(
    ("answered", "midstream", "outcome", "action"),
    [
        (True, False, "allowed", "ConnectionSuccess"),
        (False, True, "allowed", "ConnectionSuccess"),
        (False, False, "failed", "ConnectionFailed"),
    ],
)
def test_a_direct_flow_that_was_answered_is_allowed(answered: bool, midstream: bool, outcome: str, action: str) -> None:
    """A flow that was picked up in the middle was answered before."""
    events: list[Event] = [
        request(0, "a.example:443"),
        flow_end(9, started=1, ended=8, answered=answered, midstream=midstream, remote="203.0.113.5", port=2, flow="2"),
    ]
    hop = next(row for row in world_of(events).connections if row["LocalPort"] == 2)
    assert (hop["Outcome"], hop["ActionType"]) == (outcome, action)


def test_a_direct_connection_of_which_only_the_name_is_known_is_allowed() -> None:
    """A server name is sent on an established connection."""
    seen = name(1, "site.example", tunnelled=False, remote="203.0.113.5", remote_port=443, port=2, flow="2")
    hop = next(row for row in world_of([request(0, "a.example:443"), seen]).connections if row["LocalPort"] == 2)
    assert (hop["DestinationHost"], hop["Outcome"]) == ("site.example", "allowed")


@pytest.mark.parametrize(
    ("failed", "established", "outcome"), [(True, True, "failed"), (False, True, "allowed"), (False, False, "unknown")]
)
def test_a_direct_connection_is_allowed_once_established(failed: bool, established: bool, outcome: str) -> None:
    """An endpoint record without the time of establishment does not show an answer."""
    opened = connection(1, remote="203.0.113.5", port=2, failed=failed)
    opened = opened if established else replace(opened, established=0)
    events: list[Event] = [request(0, "a.example:443"), opened]
    hop = next(row for row in world_of(events).connections if row["LocalPort"] == 2)
    assert hop["Outcome"] == outcome


# Rows of verdicts


def row_of(*events: Event, proxies: list[str] | None = None) -> tuple[object, object]:
    """Return host and port of the only verdict row."""
    (row,) = world_of(events, proxies=proxies or []).verdicts[-1:]
    return row["DestinationHost"], row["RemotePort"]


def test_a_verdict_on_a_name_has_the_port_of_its_tunnel() -> None:
    """Without a CONNECT it is 443 behind a proxy, and the remote port of a direct connection."""
    inside = verdict(0.2, method="", host="bad.example")
    assert row_of(connection(0), request(0.1, "bad.example:8443"), inside) == ("bad.example", 8443)
    assert row_of(connection(0), inside, proxies=LISTED) == ("bad.example", 443)

    remote = "203.0.113.5"
    direct = verdict(0.2, method="", host="bad.example", remote=remote, remote_port=8443)
    assert row_of(connection(0, remote=remote, remote_port=8443), direct) == ("bad.example", 8443)


def test_a_verdict_on_a_tunnel_keeps_its_own_target() -> None:
    """A later CONNECT of the connection does not change it."""
    events = connection(0), verdict(0.1, "bad.example:8443", tx=0), request(0.3, "good.example:443", tx=1)
    assert row_of(*events) == ("bad.example", 8443)


def test_the_verdict_on_a_nameless_tunnel_has_the_tunnels_end() -> None:
    """The rule reported the CONNECT, but not its target."""
    assert row_of(connection(0), request(0.1, "a.example:8443"), verdict(0.1, "", method="CONNECT")) == (
        "a.example",
        8443,
    )


def test_a_verdict_on_a_plain_request_has_the_requests_port() -> None:
    """Without one in the request it is the remote port."""
    assert row_of(connection(0), verdict(0.1, "http://bad.example:8080/x")) == ("bad.example", 8080)


def test_each_tunnel_with_a_verdict_has_its_row_in_any_order() -> None:
    """The names inside are in the row of the last tunnel; audited tunnels stay audited."""
    first = verdict(0.1, "a.example:443", action=Action.AUDITED, tx=0)
    second = verdict(0.3, "b.example:443", action=Action.AUDITED, tx=1)
    inside = verdict(0.4, method="", host="b.example")
    for order in ((first, second, inside), (inside, second, first), (second, inside, first)):
        world = World().see(connection(0), *order).finish()
        rows = {row["DestinationHost"]: row["Outcome"] for row in {r["RecordId"]: r for r in world.verdicts}.values()}
        assert rows == {"a.example": "audited", "b.example": "blocked"}


def test_a_destination_named_by_another_entry_of_the_log_is_not_refused() -> None:
    """The refused request was for another host of the connection."""
    events: list[Event] = [
        connection(0),
        request(0.1, "http://a.example/"),
        proxy_line(0.2, "http://b.example/", status=403),
    ]
    assert outcomes(world_of(events))["a.example"] == "allowed"
