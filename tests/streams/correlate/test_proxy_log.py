"""A proxy's log as evidence: which connection an entry belongs to, what it adds, and when it is not used."""

from __future__ import annotations

import json
from itertools import permutations

import msgspec
import pytest

from schemas.events import Event, ProxyDecision, ProxyLogged
from schemas.indicator_input import Given
from streams.correlate.proxy_log import CHECKED_MAX, LINES_MAX, TOGETHER_MAX
from streams.model.device import peek
from tests.factories import (
    CLIENT,
    PROXY,
    World,
    connection,
    flow_end,
    indicator,
    latest,
    listing,
    name,
    proxy_line,
    request,
)

LISTED = f"{PROXY}:3128"
UPSTREAM = "203.0.113.80"


def more(row: dict[str, object]) -> dict[str, object]:
    """Return the AdditionalFields of a row."""
    return dict(json.loads(str(row["AdditionalFields"]) or "{}"))


def whole(world: World) -> dict[object, object]:
    """Return the latest rows by identity, versions included."""
    return {row["RecordId"]: row for row in latest(world.versions)}


# With the client's port


def test_the_destinations_real_address_comes_from_the_log() -> None:
    """Address, bytes, user, decision and evidence are on the destination's row; its name stays CONNECT's."""
    world = World().see(connection(0, ended=9), request(0.1), proxy_line(9, started=0.1)).finish()
    (row,) = world.destinations
    (hop,) = world.connections

    assert (row["RemoteIP"], row["RemoteIPType"], row["ResolvedBy"]) == (UPSTREAM, "Public", "connect")
    assert (row["BytesSent"], row["BytesReceived"], row["HttpStatus"], row["ProxyName"]) == (300, 4000, 200, "squid1")
    assert row["HttpEventIds"] == hop["HttpEventIds"] == ["http/77/0/0.1", "squid/0/9"]
    assert more(row) == {
        "ProxyDecision": "served",
        "ProxyUser": "jane",
        "ProxyLogIds": ["squid/0/9"],
        "ProxyLogConfidence": "strong",
    }
    assert hop["RemoteIP"] == PROXY
    assert world.counts["proxy_lines:joined"] == 1


def test_without_an_http_record_the_log_names_the_destination() -> None:
    """Where the request was missed, or TLS goes to the proxy, the entry resolves with less confidence."""
    hidden: list[Event] = [name(0.2, "proxy.corp.example", tunnelled=False), flow_end(10, started=0, ended=9, tls=True)]
    nothing: list[Event] = []
    for seen in (nothing, hidden):
        world = World().see(connection(0, ended=9), *seen, proxy_line(9, started=0.3)).finish()
        (row,) = world.destinations
        (hop,) = world.connections

        assert (row["DestinationHost"], row["DestinationPort"], row["RemoteIP"]) == ("www.example.com", 443, UPSTREAM)
        assert (row["ResolvedBy"], row["Confidence"], row["Outcome"]) == ("proxy_log", "strong", "allowed")
        assert (row["InitiatingProcessId"], row["RequestCount"]) == (4711, 1)
        assert (hop["ResolvedBy"], hop["DestinationHost"], hop["ProxyIP"]) == ("proxy_log", "www.example.com", PROXY)
        assert world.counts["resolved:proxy_log"] == world.counts["connections"] == 1


def test_a_named_destination_stays_one_row_when_its_flow_record_comes_later() -> None:
    """The log names a tunnel older than the sensor; its late flow record adds no row."""
    started = connection(0, ended=25), proxy_line(25, started=0.1)
    world = World().see(*started).wait(30).see(flow_end(43, started=2, ended=25, midstream=True)).finish()

    (row,) = world.destinations
    assert (row["DestinationHost"], row["FlowId"], row["ConnectionEventId"]) == (
        "www.example.com",
        "77",
        "socket/40000/0",
    )


def test_what_a_sensor_saw_of_a_tunnel_outweighs_the_log() -> None:
    """A tunnel has one end: CONNECT's name stays, also where the log's came first."""
    line, asked = proxy_line(9, "other.example:443", started=0.3), request(0.1, "a.example:443")
    before = World().see(connection(0, ended=9), asked, line).finish()
    after = World().see(connection(0, ended=9), line).wait(30).see(asked).finish()

    assert [(row["DestinationHost"], row["RemoteIP"]) for row in before.destinations] == [("a.example", "")]
    assert {row["DestinationHost"]: row["UnresolvedReason"] for row in after.destinations} == {
        "other.example": "superseded",
        "a.example": "",
    }


def test_plain_requests_that_the_sensor_missed_are_added() -> None:
    """On a kept connection with several hosts the log adds the missed one."""
    lines: list[Event] = [
        proxy_line(0.1, "http://a.example/"),
        proxy_line(0.6, "http://b.example/x?y", upstream="203.0.113.9"),
    ]
    for order in permutations([connection(0), request(0.1, "http://a.example/"), *lines]):
        world = World().see(*order).finish()
        rows = {row["DestinationHost"]: row for row in world.destinations}

        assert {host: (r["ResolvedBy"], r["RemoteIP"], r["RemoteUrl"]) for host, r in rows.items()} == {
            "a.example": ("absolute_uri", UPSTREAM, "http://a.example/"),
            "b.example": ("proxy_log", "203.0.113.9", "http://b.example/x"),
        }


def test_an_entry_in_any_order_gives_the_same_rows() -> None:
    """Endpoint record, request, name, flow record and log entry give the same rows and versions in all orders."""
    events: list[Event] = [
        connection(0, ended=2),
        request(0.1),
        name(0.2, "www.example.com"),
        flow_end(2.5, started=0, ended=2),
        proxy_line(2.1, started=0.1),
    ]
    expected = whole(World().see(*events).finish())
    for order in permutations(events):
        assert whole(World().see(*order).finish()) == expected


def test_any_order_gives_the_same_rows_where_the_log_names() -> None:
    """The same holds without any request, and with the entry twice."""
    line = proxy_line(2.1, started=0.1)
    events: list[Event] = [connection(0), connection(0, ended=2), flow_end(2.5, started=0, ended=2), line, line]
    found = [whole(World().see(*order).finish()) for order in permutations(events)]

    assert len(found[0]) == 2
    assert all(picture == found[0] for picture in found)


def test_a_line_that_comes_late_raises_the_version() -> None:
    """A late entry gives emitted rows a higher version; a repeat changes nothing."""
    world = World().see(connection(0, ended=9), request(0.1)).wait(30)
    (before,) = world.destinations
    world.see(proxy_line(9, started=0.1)).wait(60)
    (after,) = world.destinations
    world.see(proxy_line(9, started=0.1)).wait(90).finish()

    assert (before["RemoteIP"], after["RemoteIP"]) == ("", UPSTREAM)
    assert after["RecordId"] == before["RecordId"]
    assert int(str(after["Version"])) > int(str(before["Version"]))
    assert world.destinations == [after]


def test_evidence_after_the_line_still_finds_it() -> None:
    """An unmatched entry is matched once more when ended connections depart."""
    world = World().see(proxy_line(9, started=0.1)).wait(15)
    assert world.counts == {}

    world.see(connection(0, ended=9), request(0.1)).wait(200)
    assert [row["RemoteIP"] for row in world.destinations] == [UPSTREAM]
    assert world.device.waiting_entries == {}


def test_a_flow_record_after_the_row_that_the_log_named_changes_no_identity() -> None:
    """The row was emitted under the endpoint record's start; the flow id came a minute later."""
    world = World().see(connection(0, ended=9), proxy_line(9, started=0.3)).wait(30)
    (before,) = world.destinations
    world.see(flow_end(70, started=0, ended=9)).finish()
    (after,) = world.destinations

    assert after["RecordId"] == before["RecordId"]
    assert [hop["FlowId"] for hop in world.connections] == ["77"]


def test_waiting_lines_survive_a_restart() -> None:
    """Entries wait across a restart, before and after their connection is known."""
    events: list[Event] = [proxy_line(9, started=0.1), connection(0, ended=9), request(0.1)]
    expected = whole(World().see(*events).finish())
    for cut in range(1, 4):
        world = World().see(*events[:cut]).restart().see(*events[cut:]).finish()
        assert whole(world) == expected


def test_an_entry_of_a_reused_tuple_is_certain_or_unused() -> None:
    """Time separates the connections where the clocks allow it, else the requested host; else the entry is unused."""
    events: list[Event] = [
        connection(0, pid=1, ended=0.5),
        connection(1, pid=2, ended=1.5),
        request(0.1, "a.example:443", flow="1"),
        flow_end(0.6, started=0, ended=0.5, flow="1"),
        request(1.1, "b.example:443", flow="2"),
        flow_end(1.6, started=1, ended=1.5, flow="2"),
    ]
    line = proxy_line(1.5, "b.example:443", started=1.1)
    world = World().see(*events, line, proxy_line(1.5, "c.example:443", started=1.1, number=2)).finish()

    assert {r["DestinationHost"]: r["RemoteIP"] for r in world.destinations} == {"a.example": "", "b.example": UPSTREAM}
    assert world.counts["proxy_lines:ambiguous"] == 1
    later = World().see(connection(0, pid=1, ended=2), connection(60, pid=2), proxy_line(61, started=60.2)).finish()
    assert [row["InitiatingProcessId"] for row in later.destinations] == [2]


def test_an_entry_with_another_proxy_address_names_nothing() -> None:
    """Behind a load balancer, or without an address, an entry joins only a known request and names nothing."""
    for proxy, port in (("10.9.9.11", 8080), ("", 3128), ("", 0)):
        line = proxy_line(9, started=0.1, proxy=proxy, proxy_port=port)
        world = World(proxies=[LISTED]).see(connection(0, ended=9), request(0.1), line).finish()
        assert [row["RemoteIP"] for row in world.destinations] == [UPSTREAM]
    elsewhere = World(proxies=[LISTED]).see(connection(0, ended=9), proxy_line(9, started=0.1, proxy="10.9.9.11"))
    assert elsewhere.finish().destinations == []
    direct = World().see(connection(0, remote="203.0.113.7"), proxy_line(9, started=0.1, proxy="", proxy_port=0))
    assert direct.finish().destinations == []


# Without it


def test_without_a_port_the_only_request_it_can_be() -> None:
    """Client, host, method and time match: the entry adds address and user with less confidence."""
    line = proxy_line(9, started=0.2, port=0)
    events: list[Event] = [connection(0, ended=9), request(0.1), line]
    for order in permutations(events):
        (row,) = World().see(*order).finish().destinations

        assert (row["RemoteIP"], row["ResolvedBy"], row["Confidence"]) == (UPSTREAM, "connect", "exact")
        assert more(row)["ProxyLogConfidence"] == "inferred"


def test_without_a_port_two_candidates_are_one_too_many() -> None:
    """With two tunnels to one host at the same time, one or two entries stay unused."""
    events: list[Event] = [request(0.1), request(0.4, port=2, flow="2")]
    for lines in (
        [proxy_line(9, started=0.2, port=0)],
        [proxy_line(9, started=0.2, port=0), proxy_line(9, started=0.4, port=0, number=2)],
    ):
        for order in permutations([*events, *lines]):
            world = World().see(*order).finish()
            assert [row["RemoteIP"] for row in world.destinations] == ["", ""]
            assert world.counts["proxy_lines:ambiguous"] == len(lines)


def test_more_entries_than_requests_are_unused() -> None:
    """One of two entries is of an unseen request, and it is unknown which."""
    lines = [proxy_line(9, started=0.2, port=0), proxy_line(9, started=0.4, port=0, upstream="203.0.113.9", number=2)]
    events: list[Event] = [request(0.1), *lines]
    for order in permutations(events):
        (row,) = World().see(*order).finish().destinations
        assert (row["RemoteIP"], row["AdditionalFields"]) == ("", "")


def test_without_a_port_nothing_is_named() -> None:
    """Without a known request there is no row, and the entry is counted."""
    world = World(proxies=[LISTED]).see(connection(0, ended=9), proxy_line(9, started=0.1, port=0)).finish()

    assert world.destinations == []
    assert (world.counts["proxy_lines:no_connection"], world.device.waiting_entries) == (1, {})


def test_what_does_not_agree_is_not_joined() -> None:
    """Another host, method, port, time, answer, client or proxy excludes an entry."""
    for line in (
        proxy_line(9, "other.example:443", started=0.2, port=0),
        proxy_line(9, "http://www.example.com/", started=0.2, port=0),
        proxy_line(9, "www.example.com:8443", started=0.2, port=0),
        proxy_line(60, started=50, port=0),
        proxy_line(9, started=0.2, port=0, status=503),
        proxy_line(9, started=0.2, port=0, client="10.0.0.8"),
        proxy_line(9, started=0.2, port=0, proxy_port=8080),
        proxy_line(30, started=0.2, port=0),
    ):
        world = World().see(connection(0, ended=9), request(0.1), line).finish()
        assert [row["RemoteIP"] for row in world.destinations] == [""]
        assert world.counts["proxy_lines:no_connection"] == 1


def test_a_line_without_a_host_is_counted() -> None:
    """The entry of a connection without a usable request is counted."""
    line: ProxyLogged = msgspec.structs.replace(proxy_line(1), host="")
    assert World().see(line).finish().counts == {"proxy_lines:no_destination": 1}


# What became of it


def test_the_proxys_decision_counts() -> None:
    """A refusal by the proxy is `failed`, though it sent a page; a forwarded error page is not."""
    for status, decision, logged, outcome in (
        (None, ProxyDecision.SERVED, 200, "allowed"),
        (403, ProxyDecision.SERVED, 403, "allowed"),
        (200, ProxyDecision.DENIED, 200, "failed"),
        (None, ProxyDecision.DENIED, 403, "failed"),
        (None, ProxyDecision.SERVED, 503, "unknown"),
        (None, ProxyDecision.FAILED, 503, "failed"),
    ):
        target = "http://www.example.com/"
        line = proxy_line(0.3, target, status=logged, decision=decision)
        world = World().see(connection(0), request(0.1, target, status=status), line).finish()

        assert {row["Outcome"] for row in world.rows} == {outcome}, (status, decision)
        assert world.destinations[0]["HttpStatus"] == (status or logged)


def test_an_indicator_matches_what_only_the_log_names() -> None:
    """It counts once, also when the sensor's record of the same request comes later."""
    listed = Given("example.com", action="block")
    world = World(listing(listed)).see(connection(0, ended=9), proxy_line(9, started=0.1)).wait(30)
    (alert,) = latest(world.alerts, "AlertId")
    assert (alert["Kind"], alert["Count"], alert["IndicatorId"], alert["Confidence"]) == (
        "not_enforced",
        1,
        indicator(listed).id,
        "strong",
    )

    world.see(request(0.1)).finish()
    assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]
    assert [row["ResolvedBy"] for row in world.destinations] == ["connect"]


def test_devices_behind_one_address_are_not_guessed_at() -> None:
    """An entry with the address of a translator matches no device's connections."""
    inside = World().see(connection(0), request(0.1), proxy_line(9, started=0.1, client="192.0.2.1")).finish()

    assert CLIENT != "192.0.2.1"
    assert [row["RemoteIP"] for row in inside.destinations] == [""]


# What could be another one's


def test_beside_an_unseen_connection_no_other_is_certain() -> None:
    """The 5-tuple was reused within the clocks' tolerance and its request missed: the entry may belong to it."""
    events: list[Event] = [
        connection(0, pid=1, ended=0.5),
        request(0.1),
        flow_end(0.6, started=0, ended=0.5),
        connection(1, pid=2, ended=1.5),
        proxy_line(1.5, started=1.1),
    ]
    for order in permutations(events):
        world = World().see(*order).finish()
        assert [(row["InitiatingProcessId"], row["RemoteIP"]) for row in world.destinations] == [(1, "")]
        assert world.counts["proxy_lines:ambiguous"] == 1


def test_a_request_whose_time_is_forgotten_may_be_meant() -> None:
    """One connection exceeded the kept request times for a host, another asked once: neither is certain."""
    often: list[Event] = [request(i, f"http://h.example/{i}", port=1, flow="1", tx=i) for i in range(31)]
    once = request(30.05, "http://h.example/x", port=2, flow="2")
    line = proxy_line(30.1, "http://h.example/30", port=0)
    for events in ([*often, once, line], [once, line, *often], [line, *often, once]):
        world = World().see_together(*events).finish()
        assert [row["RemoteIP"] for row in world.destinations] == ["", ""]


def test_a_late_end_withdraws_entries_after_it() -> None:
    """The entry was another connection's: neither its address nor its name stay on these rows."""
    late = proxy_line(30, started=6.2)
    asked = World().see(connection(0), request(0.1), late).wait(60)
    assert [row["RemoteIP"] for row in asked.destinations] == [UPSTREAM]
    asked.see(connection(0, ended=3)).finish()
    assert [row["RemoteIP"] for row in asked.destinations] == [""]

    by_flow = World().see(connection(0), request(0.1), late).wait(60).see(flow_end(61, started=0, ended=3)).finish()
    assert [row["RemoteIP"] for row in by_flow.destinations] == [""]

    named = World().see(connection(0), late).wait(60)
    assert [row["DestinationHost"] for row in named.connections] == ["www.example.com"]
    named.see(connection(0, ended=3)).finish()
    assert [row["DestinationHost"] for row in named.connections] == [""]
    assert [row["UnresolvedReason"] for row in named.destinations] == ["superseded"]


def test_a_withdrawn_destination_that_is_named_again_is_one() -> None:
    """An entry after the end and one before it give one row, from the one that fits."""
    late, before = proxy_line(30, started=6.2), proxy_line(2.9, started=2, number=2, upstream="203.0.113.9")
    world = World().see(connection(0), late).wait(60).see(connection(0, ended=3), before).wait(30).finish()
    assert [(row["RemoteIP"], row["UnresolvedReason"]) for row in world.destinations] == [("203.0.113.9", "")]


def test_an_alert_for_what_only_the_log_named_is_withdrawn_with_it() -> None:
    """A late CONNECT names another destination, and the alert goes with the row."""
    world = World(listing(Given("other.example", action="block")))
    world.see(connection(0, ended=9), proxy_line(9, "other.example:443", started=0.3)).wait(30)
    assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]

    world.see(request(0.1, "a.example:443")).finish()
    assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [0]


def test_an_entry_without_a_port_matches_neither_of_two() -> None:
    """Two ports of one host were requested: the entry is on no row, in any order."""
    events: list[Event] = [
        connection(0),
        request(0.1, "http://h.example/"),
        request(0.2, "http://h.example:8080/", tx=1),
        msgspec.structs.replace(proxy_line(0.3, "http://h.example/"), port=0),
    ]
    for order in permutations(events):
        assert [row["RemoteIP"] for row in World().see(*order).finish().destinations] == ["", ""]
    late = World().see(events[0], events[1], events[3]).wait(30).see(events[2]).finish()
    assert [row["RemoteIP"] for row in late.destinations] == ["", ""]


def test_entries_of_two_proxies_are_not_exchanged() -> None:
    """With one client port at two proxies, the entry of the unseen connection is not the other's."""
    line = proxy_line(9, started=0.1, proxy="10.9.9.8")
    world = World(proxies=[LISTED, "10.9.9.8:3128"]).see(connection(0, ended=9), request(0.1), line).finish()
    assert [row["RemoteIP"] for row in world.destinations] == [""]


# Restarts


def test_the_oldest_entries_are_decided_first_after_a_restart() -> None:
    """At the bound the same entries are decided with or without a restart."""
    lines: list[Event] = [proxy_line(5 - i / 1_000, port=2, number=i) for i in range(LINES_MAX)]
    whole_run, cut = World().see_together(*lines), World().see_together(*lines).restart()
    for world in (whole_run, cut):
        world.see(proxy_line(5.5, port=2))

    assert len(whole_run.device.waiting_entries) == LINES_MAX - TOGETHER_MAX + 1
    assert whole_run.device.waiting_entries.keys() == cut.device.waiting_entries.keys()


def test_lines_are_decided_after_the_connections_of_the_same_second() -> None:
    """The order does not depend on which waited first, because a restart forgets that."""
    decided: list[bool] = []
    both: list[Event] = [proxy_line(0, started=0), connection(1)]
    for events in (both, both[::-1]):
        for world in (World().see(*events), World().see(*events).restart()):
            world.pipeline.correlator.proxy_log_due = lambda device, second: decided.extend(  # type: ignore[method-assign]  # noqa: ARG005  # only looks
                one.decided for group in device.connections.values() for one in peek(group)
            )
            world.see(connection(9.5, port=9))
    assert decided == [True] * 4


def test_the_last_candidate_is_not_certain_after_others_departed() -> None:
    """One of two candidates departed before the second look or a late entry: the other one is not certain."""
    line, both = proxy_line(0.9, started=0.2, port=0), (request(0.1), request(0.4, port=2, flow="2"))
    ended = flow_end(1.1, started=0, ended=1)
    reused: list[Event] = [connection(0, pid=1, ended=0.9), connection(0.95, pid=2), proxy_line(1.1, started=0.9)]
    for events in ([*both, ended, line], [*both, ended, connection(150, port=8), line], reused):
        world = World().see(*events)
        for at in range(1, 40):
            world.see(connection(at * 10 + 200 * (events[-1] is line and len(events) > 4), port=9))
        world.finish()
        assert world.counts["proxy_lines:ambiguous"] == 1
        assert {row["RemoteIP"] for row in world.destinations} <= {""}


@pytest.mark.parametrize("wrong", [-5.0, 5.0])
def test_a_proxys_wrong_clock_moves_nothing_to_the_neighbour(wrong: float) -> None:
    """Two requests as far apart as the clocks: an entry is not joined to the other one, with or without port."""
    at = 0.1 + wrong
    tabs: list[Event] = [request(0.1), request(at, port=2, flow="2"), proxy_line(at + 0.1, started=at, port=0)]
    reused: list[Event] = [connection(0, pid=1, ended=1), connection(wrong, pid=2, ended=1 + wrong), request(0.1)]
    for events in (tabs, [*reused, proxy_line(at + 0.2, started=at)]):
        for order in permutations(events):
            world = World().see(*order).finish()
            assert {row["RemoteIP"] for row in world.destinations} == {""}
            assert world.counts["proxy_lines:ambiguous"] == 1


def test_beyond_the_bound_of_candidates_an_entry_is_unused() -> None:
    """An entry without a port examines a bounded number of candidates; beyond it none is used."""
    for others, address in ((CHECKED_MAX - 1, UPSTREAM), (CHECKED_MAX, "")):
        many: list[Event] = [request(-60 + i / 100, port=1000 + i, flow=str(i + 1)) for i in range(others)]
        world = World().see_together(*many).see(request(0.1, flow="0"), proxy_line(9, started=0.2, port=0)).finish()
        assert {row["RemoteIP"] for row in world.destinations} - {""} == {address} - {""}
