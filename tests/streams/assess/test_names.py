"""Which evidence names a destination: each rule has a test that fails without it."""

from __future__ import annotations

import pytest

from tests.factories import (
    PROXY,
    World,
    connection,
    name,
    request,
    verdict,
    world_of,
)


def test_connect_names_the_end_of_a_tunnel() -> None:
    """The authority of CONNECT is the destination, exact, with the process of the endpoint record."""
    world = world_of([connection(0), request(0.01, "www.example.com:8443")])
    (row,) = world.destinations

    assert (row["DestinationHost"], row["DestinationPort"]) == ("www.example.com", 8443)
    assert (row["ResolvedBy"], row["Confidence"], row["Outcome"]) == ("connect", "exact", "allowed")
    assert (row["InitiatingProcessId"], row["InitiatingProcessFileName"]) == (4711, "curl")
    assert (row["ProxyIP"], row["ProxyPort"], row["RemoteIP"]) == (PROXY, 3128, "")
    assert row["HttpEventIds"] == ["http/77/0/0.01"]


def test_keep_alive_gives_a_row_for_each_host() -> None:
    """Plain HTTP requests on one connection to the proxy give one destination per host."""
    world = world_of(
        [
            connection(0),
            request(0.1, "http://a.example/x", tx=0),
            request(0.2, "http://b.example:8080/y", tx=1),
            request(0.3, "http://a.example/z", tx=2),
        ]
    )

    found = {(row["DestinationHost"], row["DestinationPort"], row["RequestCount"]) for row in world.destinations}
    assert found == {("a.example", 80, 2), ("b.example", 8080, 1)}
    assert len(world.connections) == 1


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("NEWS.Example:443", "news.example", 443),
        ("news.example.:443", "news.example", 443),
        ("[2001:db8::20]:443", "2001:db8::20", 443),
        ("[2001:0db8:0000:0000:0000:0000:0000:0020]:443", "2001:db8::20", 443),
        ("203.0.113.20:443", "203.0.113.20", 443),
        ("[::ffff:203.0.113.20]:443", "203.0.113.20", 443),
        ("http://user:secret@b.example/", "b.example", 80),
        ("https://b.example/", "b.example", 443),
        ("HTTP://B.example?x", "b.example", 80),
        ("http://bücher.example/", "xn--bcher-kva.example", 80),
    ],
)
def test_targets_are_normalised(target: str, host: str, port: int) -> None:
    """Case, trailing dots, brackets, long IPv6, IPv4-mapped IPv6 and IDN are normalised to one spelling."""
    (row,) = world_of([request(0, target)]).destinations

    assert (row["DestinationHost"], row["DestinationPort"]) == (host, port)


@pytest.mark.parametrize("target", ["cdn.example:", "m", "", "example.com:99999", "exa mple.com:443", ":443"])
def test_half_a_connect_names_nothing(target: str) -> None:
    """A CONNECT line that the sensor saw only in part gives no destination."""
    world = world_of([connection(0), request(0.1, target, method="CONNECT", status=None)])

    assert world.destinations == []
    assert world.connections[0]["UnresolvedReason"] == "no_usable_request"


def test_a_host_header_inside_a_tunnel_does_not_stand_in_for_connect() -> None:
    """Without a readable CONNECT a plain request inside gives no destination: its port and the tunnel's end are unknown."""
    world = world_of(
        [connection(0), request(0.1, "m", method="CONNECT", status=None), request(0.2, "/x", host="a.example")]
    )

    assert world.destinations == []


def test_server_name_stands_in_for_half_a_connect() -> None:
    """Without a readable CONNECT the name inside is strong evidence once the connection is decided."""
    world = World().see(connection(0), request(0.1, "m", method="CONNECT", status=None), name(0.2, "mail.example"))
    assert world.destinations == []

    (row,) = world.finish().destinations
    assert (row["DestinationHost"], row["ResolvedBy"], row["Confidence"]) == ("mail.example", "sni", "strong")


def test_late_connect_outranks_the_server_name() -> None:
    """A CONNECT logged after the decision withdraws the name that stood in for it."""
    world = world_of([connection(0), name(0.2, "front.example")], proxies=[f"{PROXY}:3128"])
    assert [row["DestinationHost"] for row in world.destinations] == ["front.example"]

    world.see(request(61, "real.example:443")).finish()
    rows = {row["DestinationHost"]: row for row in world.destinations}
    assert rows["real.example"]["Outcome"] == "allowed"
    assert rows["real.example"]["HostMismatch"] == "front.example"
    assert (rows["front.example"]["Outcome"], rows["front.example"]["UnresolvedReason"]) == ("unknown", "superseded")


def test_late_connect_outranks_a_server_name_with_a_verdict() -> None:
    """A verdict on the name inside gives the destination until the CONNECT arrives."""
    world = world_of([connection(0), verdict(0.2, method="", host="front.example")], proxies=[f"{PROXY}:3128"])
    (row,) = world.destinations
    assert (row["DestinationHost"], row["ResolvedBy"], row["Confidence"]) == ("front.example", "verdict", "strong")

    world.see(request(61, "real.example:443")).finish()
    rows = {row["DestinationHost"]: row for row in world.destinations}
    assert (rows["real.example"]["Outcome"], rows["front.example"]["UnresolvedReason"]) == ("blocked", "superseded")


def test_server_name_confirms_a_late_connect() -> None:
    """The same name from both is one row, exact in the end."""
    world = world_of([connection(0), name(0.2, "a.example"), request(61, "a.example:443")], proxies=[f"{PROXY}:3128"])
    (row,) = world.destinations

    assert (row["ResolvedBy"], row["Confidence"], row["HostMismatch"]) == ("connect", "exact", "")


def test_fronting_is_kept_as_a_finding() -> None:
    """CONNECT names the destination; `HostMismatch` keeps another name inside the tunnel."""
    (row,) = world_of([connection(0), request(0.1, "front.example:443"), name(0.2, "hidden.example")]).destinations

    assert (row["DestinationHost"], row["HostMismatch"]) == ("front.example", "hidden.example")


def test_a_name_behind_an_address_is_no_fronting() -> None:
    """A server name in a tunnel to an address is no finding."""
    (row,) = world_of([connection(0), request(0.1, "203.0.113.9:443"), name(0.2, "site.example")]).destinations

    assert (row["DestinationHost"], row["RemoteIP"], row["HostMismatch"]) == ("203.0.113.9", "203.0.113.9", "")
    assert row["AdditionalFields"] == '{"Sni":"site.example"}'


def test_host_header_names_what_a_known_proxy_is_asked_in_origin_form() -> None:
    """In an origin-form request to a listed proxy the Host header is strong evidence."""
    world = world_of([connection(0), request(0.1, "/x", host="old.example")], proxies=[f"{PROXY}:3128"])
    (row,) = world.destinations

    assert (row["DestinationHost"], row["DestinationPort"], row["ResolvedBy"]) == ("old.example", 80, "host_header")


def test_a_request_for_the_proxy_itself_names_nothing() -> None:
    """A request for a page of the proxy itself gives no destination."""
    world = world_of([connection(0), request(0.1, "/wpad.dat", host=PROXY)], proxies=[f"{PROXY}:3128"])

    assert world.destinations == []


def test_plain_http_inside_a_tunnel_is_not_another_destination() -> None:
    """Transaction numbers restart inside a tunnel; its requests belong to the tunnel's end."""
    world = world_of([connection(0), request(0.1, "a.example:80"), request(0.2, "/x", host="a.example", tx=0)])

    assert [row["DestinationHost"] for row in world.destinations] == ["a.example"]
