"""A proxy's own log as evidence: which connection a line is about, what it adds, and when it is not used."""

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
    """What stands in AdditionalFields."""
    return dict(json.loads(str(row["AdditionalFields"]) or "{}"))


def whole(world: World) -> dict[object, object]:
    """The latest rows by identity, versions included."""
    return {row["RecordId"]: row for row in latest(world.versions)}


# With the client's port


def test_the_destinations_real_address_comes_from_the_log() -> None:
    """Address, bytes, user, decision and evidence stand on the destination's row; the name stays what CONNECT said."""
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
    """The sensor missed the request, or TLS is spoken to the proxy: the line resolves by itself, with less confidence."""
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
    """A tunnel older than the network sensor: the log names it, and the flow record that is joined in the end adds no row."""
    started = connection(0, ended=25), proxy_line(25, started=0.1)
    world = World().see(*started).wait(30).see(flow_end(43, started=2, ended=25, midstream=True)).finish()

    (row,) = world.destinations
    assert (row["DestinationHost"], row["FlowId"], row["ConnectionEventId"]) == (
        "www.example.com",
        "77",
        "socket/40000/0",
    )


def test_what_a_sensor_saw_of_a_tunnel_outweighs_the_log() -> None:
    """A tunnel has one end: a name from CONNECT stands, also where the log's was first."""
    line, asked = proxy_line(9, "other.example:443", started=0.3), request(0.1, "a.example:443")
    before = World().see(connection(0, ended=9), asked, line).finish()
    after = World().see(connection(0, ended=9), line).wait(30).see(asked).finish()

    assert [(row["DestinationHost"], row["RemoteIP"]) for row in before.destinations] == [("a.example", "")]
    assert {row["DestinationHost"]: row["UnresolvedReason"] for row in after.destinations} == {
        "other.example": "superseded",
        "a.example": "",
    }


def test_plain_requests_that_the_sensor_missed_are_added() -> None:
    """Many hosts on one kept connection: the log knows one more."""
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


def test_any_order_gives_the_same_rows() -> None:
    """Kernel, request, name inside, flow record and the proxy's line, each once, in all orders, versions included."""
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
    """Likewise without any request, and with the line twice."""
    line = proxy_line(2.1, started=0.1)
    events: list[Event] = [connection(0), connection(0, ended=2), flow_end(2.5, started=0, ended=2), line, line]
    found = [whole(World().see(*order).finish()) for order in permutations(events)]

    assert len(found[0]) == 2
    assert all(picture == found[0] for picture in found)


def test_a_line_that_comes_late_raises_the_version() -> None:
    """The rows left long ago; the same rows again, knowing more. A repeat changes nothing."""
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
    """The line found nobody at first: it is looked for once more when ended connections leave."""
    world = World().see(proxy_line(9, started=0.1)).wait(15)
    assert world.counts == {}

    world.see(connection(0, ended=9), request(0.1)).wait(200)
    assert [row["RemoteIP"] for row in world.destinations] == [UPSTREAM]
    assert world.device.waiting_entries == {}


def test_a_flow_record_after_the_row_that_the_log_named_changes_no_identity() -> None:
    """The row left under the kernel's start; the sensor's name of the flow came a minute later."""
    world = World().see(connection(0, ended=9), proxy_line(9, started=0.3)).wait(30)
    (before,) = world.destinations
    world.see(flow_end(70, started=0, ended=9)).finish()
    (after,) = world.destinations

    assert after["RecordId"] == before["RecordId"]
    assert [hop["FlowId"] for hop in world.connections] == ["77"]


def test_waiting_lines_survive_a_restart() -> None:
    """Before and after the connection was known."""
    events: list[Event] = [proxy_line(9, started=0.1), connection(0, ended=9), request(0.1)]
    expected = whole(World().see(*events).finish())
    for cut in range(1, 4):
        world = World().see(*events[:cut]).restart().see(*events[cut:]).finish()
        assert whole(world) == expected


def test_a_tuple_used_again_is_told_apart_or_left_alone() -> None:
    """By time where the clocks can tell, by the host that was asked for where they cannot; else nothing."""
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


def test_an_address_that_is_not_what_the_client_spoke_to() -> None:
    """A load balancer before the proxy, or none told: only what was asked of a known proxy is joined, nothing is named."""
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
    """Client, host, method and time: address and user with less confidence."""
    line = proxy_line(9, started=0.2, port=0)
    events: list[Event] = [connection(0, ended=9), request(0.1), line]
    for order in permutations(events):
        (row,) = World().see(*order).finish().destinations

        assert (row["RemoteIP"], row["ResolvedBy"], row["Confidence"]) == (UPSTREAM, "connect", "exact")
        assert more(row)["ProxyLogConfidence"] == "inferred"


def test_without_a_port_two_candidates_are_one_too_many() -> None:
    """Two tunnels to one host at the same time, and one line, or two: nobody can say which is which."""
    events: list[Event] = [request(0.1), request(0.4, port=2, flow="2")]
    for lines in (
        [proxy_line(9, started=0.2, port=0)],
        [proxy_line(9, started=0.2, port=0), proxy_line(9, started=0.4, port=0, number=2)],
    ):
        for order in permutations([*events, *lines]):
            world = World().see(*order).finish()
            assert [row["RemoteIP"] for row in world.destinations] == ["", ""]
            assert world.counts["proxy_lines:ambiguous"] == len(lines)


def test_more_lines_than_requests_say_nothing() -> None:
    """One of two lines is of a request that no sensor saw: which one, nobody can say."""
    lines = [proxy_line(9, started=0.2, port=0), proxy_line(9, started=0.4, port=0, upstream="203.0.113.9", number=2)]
    events: list[Event] = [request(0.1), *lines]
    for order in permutations(events):
        (row,) = World().see(*order).finish().destinations
        assert (row["RemoteIP"], row["AdditionalFields"]) == ("", "")


def test_without_a_port_nothing_is_named() -> None:
    """No request is known: no row, and it is counted."""
    world = World(proxies=[LISTED]).see(connection(0, ended=9), proxy_line(9, started=0.1, port=0)).finish()

    assert world.destinations == []
    assert (world.counts["proxy_lines:no_connection"], world.device.waiting_entries) == (1, {})


def test_what_does_not_agree_is_not_joined() -> None:
    """Another host, method, port, time, answer, client or proxy."""
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
    """A connection without a usable request."""
    line: ProxyLogged = msgspec.structs.replace(proxy_line(1), host="")
    assert World().see(line).finish().counts == {"proxy_lines:no_destination": 1}


# What became of it


def test_the_proxys_decision_counts() -> None:
    """Its own refusal is no success, though a page came with it; what it passed on is none of its own."""
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


def test_an_indicator_speaks_of_what_only_the_log_names() -> None:
    """Counted once, also when the sensor's record of the same request comes later."""
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
    """The line's client is the address of a translator: the device's own connections have another one."""
    inside = World().see(connection(0), request(0.1), proxy_line(9, started=0.1, client="192.0.2.1")).finish()

    assert CLIENT != "192.0.2.1"
    assert [row["RemoteIP"] for row in inside.destinations] == [""]


# What could be another one's


def test_beside_a_connection_that_nobody_saw_into_no_other_is_certain() -> None:
    """The 5-tuple was used again within the clocks' tolerance, and the second request was missed: the line may be its."""
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
    """One connection asked for a host so often that only the first times are known, another one once: neither is certain."""
    often: list[Event] = [request(i, f"http://h.example/{i}", port=1, flow="1", tx=i) for i in range(31)]
    once = request(30.05, "http://h.example/x", port=2, flow="2")
    line = proxy_line(30.1, "http://h.example/30", port=0)
    for events in ([*often, once, line], [once, line, *often], [line, *often, once]):
        world = World().see_together(*events).finish()
        assert [row["RemoteIP"] for row in world.destinations] == ["", ""]


def test_an_end_that_comes_late_takes_back_what_came_after_it() -> None:
    """The line was another connection's: neither its address nor its name stay on this one's rows."""
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


def test_a_destination_that_was_taken_back_and_named_again_is_one() -> None:
    """A line that came after the end, and one that did not: one row, of the one that fits."""
    late, before = proxy_line(30, started=6.2), proxy_line(2.9, started=2, number=2, upstream="203.0.113.9")
    world = World().see(connection(0), late).wait(60).see(connection(0, ended=3), before).wait(30).finish()
    assert [(row["RemoteIP"], row["UnresolvedReason"]) for row in world.destinations] == [("203.0.113.9", "")]


def test_an_alert_for_what_only_the_log_named_is_withdrawn_with_it() -> None:
    """CONNECT says that it went elsewhere."""
    world = World(listing(Given("other.example", action="block")))
    world.see(connection(0, ended=9), proxy_line(9, "other.example:443", started=0.3)).wait(30)
    assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]

    world.see(request(0.1, "a.example:443")).finish()
    assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [0]


def test_a_line_that_tells_no_port_is_of_no_one_of_two() -> None:
    """Two ports of one host were asked for, and the log names neither: on none of their rows, whichever came first."""
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


def test_a_proxy_that_clients_speak_to_is_not_taken_for_another() -> None:
    """The same client port at two proxies: a line of the one whose connection no sensor saw is not the other's."""
    line = proxy_line(9, started=0.1, proxy="10.9.9.8")
    world = World(proxies=[LISTED, "10.9.9.8:3128"]).see(connection(0, ended=9), request(0.1), line).finish()
    assert [row["RemoteIP"] for row in world.destinations] == [""]


# Restarts


def test_whoever_goes_on_decides_the_oldest_first() -> None:
    """At the bound, as many as ever: the same lines leave whether or not a restart lies in between."""
    lines: list[Event] = [proxy_line(5 - i / 1_000, port=2, number=i) for i in range(LINES_MAX)]
    whole_run, cut = World().see_together(*lines), World().see_together(*lines).restart()
    for world in (whole_run, cut):
        world.see(proxy_line(5.5, port=2))

    assert len(whole_run.device.waiting_entries) == LINES_MAX - TOGETHER_MAX + 1
    assert whole_run.device.waiting_entries.keys() == cut.device.waiting_entries.keys()


def test_lines_are_decided_after_the_connections_of_the_same_second() -> None:
    """Whichever began to wait first: after a restart nobody knows that any more."""
    settled: list[bool] = []
    both: list[Event] = [proxy_line(0, started=0), connection(1)]
    for events in (both, both[::-1]):
        for world in (World().see(*events), World().see(*events).restart()):
            world.pipeline.correlator.proxy_log_due = lambda device, second: settled.extend(  # type: ignore[method-assign]  # noqa: ARG005
                one.decided for group in device.connections.values() for one in peek(group)
            )
            world.see(connection(9.5, port=9))
    assert settled == [True] * 4


def test_who_remains_when_others_left_is_not_the_only_one() -> None:
    """One of two that it may be about ended and is gone at the second look, or before a line that comes minutes late."""
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
    """Two requests as far apart as the clocks: the line of one looks like the other's, with or without a port."""
    at = 0.1 + wrong
    tabs: list[Event] = [request(0.1), request(at, port=2, flow="2"), proxy_line(at + 0.1, started=at, port=0)]
    reused: list[Event] = [connection(0, pid=1, ended=1), connection(wrong, pid=2, ended=1 + wrong), request(0.1)]
    for events in (tabs, [*reused, proxy_line(at + 0.2, started=at)]):
        for order in permutations(events):
            world = World().see(*order).finish()
            assert {row["RemoteIP"] for row in world.destinations} == {""}
            assert world.counts["proxy_lines:ambiguous"] == 1


def test_of_very_many_connections_to_a_host_none_is_looked_for() -> None:
    """A line without a port costs no more than so many; one of them would fit."""
    for others, address in ((CHECKED_MAX - 1, UPSTREAM), (CHECKED_MAX, "")):
        many: list[Event] = [request(-60 + i / 100, port=1000 + i, flow=str(i + 1)) for i in range(others)]
        world = World().see_together(*many).see(request(0.1, flow="0"), proxy_line(9, started=0.2, port=0)).finish()
        assert {row["RemoteIP"] for row in world.destinations} - {""} == {address} - {""}
