"""SOCKS requests: the destination, its repeats and its indicators, and what a SOCKS server shows about other ports."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import SocksRequest
from schemas.indicator_input import Given
from tests.factories import DEVICE, FLOW, PORT, PROXY, World, connection, latest, listing, micros, name, tuple_of


def socks(at: float, host: str = "a.example", *, granted: bool | None = True, tx: int = 0) -> SocksRequest:
    """Make a SOCKS request for port 443 of a host."""
    return SocksRequest(DEVICE, micros(at), tuple_of(), tx, host, 443, granted, f"socks/{tx}/{at}", "suricata")


@pytest.mark.parametrize(("granted", "outcome"), [(True, "allowed"), (False, "failed"), (None, "unknown")])
def test_the_answer_decides_the_outcome(granted: bool | None, outcome: str) -> None:
    """Granted is allowed, refused is failed, and without an answer the outcome is unknown."""
    (row,) = World().see(connection(0), socks(0.1, granted=granted)).finish().destinations

    assert (row["DestinationHost"], row["DestinationPort"], row["Outcome"]) == ("a.example", 443, outcome)
    assert (row["ResolvedBy"], row["RemoteUrl"]) == ("socks", "a.example:443")


def test_two_requests_count_twice_and_a_repeat_does_not() -> None:
    """The transaction number separates requests of one time; the same event again changes nothing."""
    events = [socks(0.1, tx=0), socks(0.1, tx=1), socks(0.1, tx=0), socks(0.1, tx=1)]
    (row,) = World().see(connection(0), *events).finish().destinations

    assert row["RequestCount"] == 2


def test_a_further_request_on_a_decided_connection_has_its_row_at_once() -> None:
    """The row does not wait for another event of the connection."""
    world = World().see(connection(0), socks(0.1)).wait(20).see(socks(21, "b.example", tx=1))

    assert [row["DestinationHost"] for row in world.destinations] == ["a.example", "b.example"]


def test_a_request_without_a_target_raises_the_version() -> None:
    """A request without a target on a connection with a known destination is one more piece of evidence."""
    world = World().see(connection(0), socks(0.1)).wait(20)
    (before,) = world.connections
    world.see(socks(21, "", tx=1))

    assert int(str(world.connections[0]["Version"])) > int(str(before["Version"]))


def test_indicators_for_the_host_match_once_and_those_for_a_url_do_not() -> None:
    """The sensor sees the host of the tunnel, and no URL inside it."""
    for given, found in ((Given("a.example", action="block"), [1]), (Given("http://a.example/x", action="block"), [])):
        world = World(listing(given)).see(connection(0), socks(0.1)).finish()

        assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == found


def test_other_ports_of_a_socks_server_are_not_proxies() -> None:
    """A TLS connection to another port of the server stays direct; the earlier one to its port is proxied."""
    world = World().see(connection(0, port=PORT + 1)).wait(20).see(connection(30), socks(30.1))
    world.see(connection(31, port=PORT + 2, remote_port=8443))
    world.see(name(31.1, "x.example", tunnelled=False, port=PORT + 2, remote_port=8443, flow="8")).finish()
    found = {row["LocalPort"]: row["ProxyIP"] for row in world.connections}

    assert found == {PORT + 1: PROXY, PORT: PROXY, PORT + 2: ""}


def test_the_first_event_of_a_device_may_be_a_socks_request() -> None:
    """HTTP events of a device count from it on: an earlier connection had none, a later one should have had one."""
    early, later = connection(0, port=1), connection(30, port=2)
    world = World(proxies=[f"{PROXY}:3128"]).see(socks(20), early, later).wait(20).finish()
    found = {row["LocalPort"]: row["UnresolvedReason"] for row in world.connections}

    assert (found[1], found[2]) == ("protection_off", "no_http_event")


def test_a_request_on_a_known_flow_changes_no_start() -> None:
    """A start that the event does not report keeps the known one."""
    first = replace(socks(5), started=micros(1))
    (row,) = World().see(first, socks(6, tx=1)).finish().connections

    assert (row["FlowId"], row["ConnectionTime"]) == (FLOW, "2026-11-24T19:07:29.000000Z")
