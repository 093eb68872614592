"""What a connection is, and when its rows are emitted: each rule has a test that fails without it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import Action, Event, SocksRequest
from streams.model.connection import TUPLE_CONNECTIONS_MAX
from tests.factories import (
    DEVICE,
    PORT,
    PROXY,
    World,
    connection,
    flow_end,
    latest,
    micros,
    name,
    request,
    tuple_of,
    verdict,
    world_of,
)


def test_a_direct_connection_has_one_row() -> None:
    """A direct connection has one row, named by the TLS server name."""
    world = world_of(
        [
            connection(0, remote="203.0.113.5", remote_port=443),
            name(0.1, "site.example", tunnelled=False, remote="203.0.113.5", remote_port=443),
        ]
    )
    (row,) = world.rows

    assert (row["Layer"], row["ProxyIP"], row["ProxyPort"]) == ("connection", "", None)
    assert (row["RemoteIP"], row["DestinationHost"], row["RemoteUrl"]) == (
        "203.0.113.5",
        "site.example",
        "site.example",
    )
    assert (row["ResolvedBy"], row["Outcome"]) == ("direct", "allowed")


def test_a_failed_attempt_is_no_success() -> None:
    """A failed handshake gives `ConnectionFailed` and the outcome `failed`."""
    (row,) = world_of([connection(0, remote="203.0.113.5", failed=True)]).connections

    assert row["UnresolvedReason"] == ""
    assert (row["ActionType"], row["Outcome"]) == ("ConnectionFailed", "failed")


def test_a_denied_proxy_is_never_taken_for_one() -> None:
    """`not_proxies` of the settings overrides all evidence."""
    world = world_of([connection(0), request(0.1, "a.example:443")], not_proxies=[f"{PROXY}:3128"])

    assert world.destinations == []
    assert world.connections[0]["ProxyIP"] == ""


def test_a_proxy_is_learnt_for_connections_seen_before() -> None:
    """A request on one connection makes the address a proxy for earlier connections too."""
    world = World().see(connection(0, port=1)).wait(20)
    assert world.connections[0]["ProxyIP"] == ""

    world.see(request(25, "a.example:443", port=2, flow="2"))
    assert world.connections[0]["ProxyIP"] == PROXY
    assert world.connections[0]["UnresolvedReason"] in ("protection_off", "older_than_sensor")


def test_reused_tuples_are_separated_by_start() -> None:
    """Two connections of one 5-tuple within milliseconds stay apart, with a record logged only at the next use."""
    events: list[Event] = [
        connection(0, pid=1, ended=0.002),
        connection(1.5, pid=2, ended=1.502),
        request(1.5005, "http://first.example/", flow="1"),
        flow_end(1.5006, started=0, ended=0.002, flow="1"),
        request(1.501, "http://second.example/", flow="2"),
        flow_end(60, started=1.5, ended=1.502, flow="2"),
    ]
    for order in (events, list(reversed(events)), [*events[2:], *events[:2]]):
        world = world_of(order)
        found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in world.destinations}

        assert found == {"first.example": 1, "second.example": 2}
        assert len(world.connections) == 2


def test_a_reused_tuple_does_not_take_what_was_asked_while_the_one_before_was_open() -> None:
    """A request stays with the open connection, though the next begins within the clocks' tolerance of 10 ms."""
    first: list[Event] = [connection(0, pid=1, ended=0.0005), request(0.0004, "first.example:443", flow="1")]
    second: list[Event] = [connection(0.01, pid=2, ended=0.011), request(0.0105, "second.example:443", flow="2")]
    for order in (first + second, first[::-1] + second):
        found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in world_of(order).destinations}

        assert found == {"first.example": 1, "second.example": 2}


def test_a_reused_tuple_takes_what_was_asked_after_the_end_of_the_one_before() -> None:
    """A request 5 ms before the start by another clock, with the earlier end reported late, is of the later one."""
    before, over = connection(0, pid=1), connection(0, pid=1, ended=1)
    world = world_of([before, request(5, "a.example:443", flow="2"), over, connection(5.005, pid=2, ended=6)])

    assert {row["DestinationHost"]: row["InitiatingProcessId"] for row in world.destinations} == {"a.example": 2}


def test_a_request_that_is_logged_after_the_end_waits_for_its_process() -> None:
    """A late request has no process before the decision: another connection of the 5-tuple may have begun."""
    (row,) = World().see(connection(0, ended=1), request(50, "a.example:443")).destinations

    assert row["InitiatingProcessId"] is None


@pytest.mark.parametrize(("late_secs", "pid"), [(49, 4711), (61, 4711), (61.000001, None), (89, None)])
def test_a_request_is_logged_at_most_61_seconds_after_the_end(late_secs: float, pid: int | None) -> None:
    """Suricata's longest delay of a CONNECT: up to it the process is the connection's, later it is unknown."""
    world = World().see(connection(0, ended=1), request(1 + late_secs, "a.example:443")).wait(20)
    (row,) = world.destinations

    assert row["InitiatingProcessId"] == pid
    assert [hop["InitiatingProcessId"] for hop in world.connections if hop["DestinationHost"] == "a.example"] == [pid]


def test_a_request_that_may_be_of_two_ended_connections_has_no_process() -> None:
    """Two ended candidates leave the process unknown, even where one ended too long before."""
    ended: list[Event] = [connection(0, pid=1, ended=1), connection(40, pid=2, ended=41)]
    (row,) = World().see(*ended, request(90, "a.example:443")).wait(20).destinations

    assert row["InitiatingProcessId"] is None


def test_without_a_kernel_record_it_still_resolves() -> None:
    """Without an endpoint sensor there is a destination and no process."""
    world = world_of([request(0, "a.example:443"), flow_end(70, started=0, ended=9)])
    (row,) = world.destinations
    (hop,) = world.connections

    assert (row["DestinationHost"], row["InitiatingProcessId"], row["InitiatingProcessFileName"]) == (
        "a.example",
        None,
        "",
    )
    assert (hop["DestinationHost"], hop["BytesReceived"]) == ("a.example", 20)
    assert hop["ConnectionTime"] == row["ConnectionTime"]


def test_the_flow_record_gives_the_start() -> None:
    """The flow record at the end of a tunnel corrects the start that CONNECT implied."""
    (row,) = world_of([request(60, "a.example:443"), flow_end(60.1, started=0, ended=59)]).destinations

    assert row["ConnectionTime"] == "2026-11-24T19:07:28.000000Z"
    assert row["Timestamp"] == "2026-11-24T19:08:27.000000Z"


def test_a_destination_leaves_at_once() -> None:
    """A destination's row waits for no endpoint record and no flow end."""
    world = World().see(request(0, "a.example:443"))

    assert [row["DestinationHost"] for row in world.destinations] == ["a.example"]
    assert world.connections == []


def test_the_connection_leaves_with_its_destination_once_the_process_is_known() -> None:
    """With endpoint record and CONNECT both rows are emitted at once."""
    world = World().see(connection(0), request(0.1, "a.example:443"))

    assert [row["DestinationHost"] for row in world.connections] == ["a.example"]


def test_an_unresolved_connection_leaves_after_the_patience() -> None:
    """It is decided after eight seconds of the device's clock; a later event still replaces the row."""
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0)).wait(7)
    assert world.rows == []

    world.wait(2)
    assert [row["DestinationHost"] for row in world.connections] == [""]

    world.see(request(60, "a.example:443"))
    assert [row["DestinationHost"] for row in world.connections] == ["a.example"]
    assert len({row["RecordId"] for row in world.versions if row["Layer"] == "connection"}) == 1


def test_one_clock_ahead_does_not_move_time() -> None:
    """A single event from the far future decides nothing; a second that agrees moves the device's clock."""
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0), connection(90_000, port=2))
    assert world.rows == []

    world.see(connection(90_001, port=3))
    assert PORT in {row["LocalPort"] for row in world.connections}


def test_a_clock_that_was_set_back_is_followed() -> None:
    """After a device a day ahead is corrected, time continues from there and connections are decided."""
    day = 86_400
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(day, port=1), connection(0, port=2), connection(1, port=3))
    world.wait(10)

    assert {row["LocalPort"] for row in world.connections} == {2, 3}


def test_what_grows_is_bounded() -> None:
    """Names, requests with a verdict, destinations and learnt proxies of a connection or device are bounded."""
    world = World()
    for n in range(300):
        world.see(
            request(n * 0.01, f"http://h{n}.example/", tx=n),
            verdict(n * 0.01, f"http://j{n}.example/", tx=n, action=Action.AUDITED, port=2, flow="2"),
            name(n * 0.01, f"n{n}.example", port=3, flow="3", remote="203.0.113.1"),
        )
    kept = [world.device.connections_of(key) for key in world.device.connections]
    counted = {a["DestinationDomain"]: a["Count"] for a in world.alerts}

    assert [len(c.destinations) for group in kept for c in group or ()] == [256, 256, 0]
    assert max(len(c.verdicts) for group in kept for c in group or ()) == 256
    assert max(len(c.names) for group in kept for c in group or ()) == 16
    assert set(counted.values()) == {1}
    assert len(counted) == 300
    for n in range(1100):
        world.see(request(5 + n * 0.001, "a.example:443", port=9, flow=f"p{n}", remote=f"10.1.{n // 200}.{n % 200}"))
    assert len(world.device.state.proxies) == 1000
    assert world.counts["proxies_not_learnt"] > 0


def test_ended_connections_leave_the_state() -> None:
    """Ended connections leave the state after a time, open ones when they idle out."""
    world = World(linger_secs=100, idle_secs=1000).see(
        connection(0, ended=1), connection(0, port=2), request(0.5, "a.example:443", port=2, flow="2")
    )
    world.see(connection(150, port=3, ended=151))
    assert [key.split()[1] for key in world.device.connections] == ["2", "3"]

    world.wait(1200)
    assert world.device.connections == {}
    assert world.timers == 0
    assert (world.counts["left:ended"], world.counts["left:idle"]) == (1, 2)


def test_a_device_that_was_cut_off_sends_the_rest_later() -> None:
    """Ten minutes of silence decide connections and evict none: later records find their connection."""
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0, ended=5)).wait(600)
    assert world.connections[0]["UnresolvedReason"] == "protection_off"

    world.see(request(0.1, "a.example:443"), connection(6, port=2), request(6.1, "b.example:443", port=2, flow="2"))
    found = {row["DestinationHost"]: row["InitiatingProcessId"] for row in world.destinations}
    assert found == {"a.example": 4711, "b.example": 4711}
    assert [row["DestinationHost"] for row in world.connections] == ["a.example", "b.example"]


def test_what_comes_late_between_what_is_new_is_joined_as_well() -> None:
    """A backlog that arrives hours later between new lines is joined: both records of a connection meet."""
    world = World()
    for number in range(20):
        at = number * 10
        world.see(
            connection(10_000 + at, port=100 + number),
            connection(at, port=200 + number, pid=number, ended=at + 5),
            request(10_001 + at, "new.example:443", port=100 + number, flow=f"n{number}"),
            request(at + 0.1, "old.example:443", port=200 + number, flow=f"o{number}"),
        )
    old = [row for row in world.destinations if row["DestinationHost"] == "old.example"]

    assert [row["InitiatingProcessId"] for row in old] == list(range(20))
    assert len(world.finish().connections) == 40


def test_a_5_tuple_with_too_many_connections_evicts_its_oldest() -> None:
    """However many flows claim one 5-tuple, each event examines a few: evicted ones have their row."""
    flows = [str(number) for number in range(1, TUPLE_CONNECTIONS_MAX + 11)]
    world = World().see(*(request(0.01 * int(flow), f"h{flow}.example:443", flow=flow) for flow in flows))
    assert world.device.size == TUPLE_CONNECTIONS_MAX
    assert world.counts["left:too_many"] == 10

    world.finish()
    assert len([row for row in latest(world.versions) if row["Layer"] == "connection"]) == len(flows)


def test_when_one_of_a_5_tuple_leaves_only_its_own_rows_do() -> None:
    """Evicting one emits only its own rows at once; the others' rows wait for the end of the message."""
    flows = [str(number) for number in range(1, TUPLE_CONNECTIONS_MAX + 1)]
    world = World().see(*(request(0.01 * int(flow), f"h{flow}.example:443", flow=flow) for flow in flows))
    before = len(world.versions)

    later = [
        event
        for number in range(1, 11)
        for event in (
            request(1 + 0.1 * number, f"h{flows[-1]}.example:443", flow=flows[-1], tx=number),
            request(1.05 + 0.1 * number, f"n{number}.example:443", flow=str(TUPLE_CONNECTIONS_MAX + number)),
        )
    ]
    world.see_together(*later)
    assert world.counts["left:too_many"] == 10
    made = [str(row["DestinationHost"]) for row in world.versions[before:] if row["Layer"] == "destination"]
    assert sorted(made) == sorted([f"h{flows[-1]}.example", *(f"n{number}.example" for number in range(1, 11))])


def test_a_device_with_too_many_connections_evicts_the_oldest() -> None:
    """The bound holds, the oldest one still gets its row, and the eviction is counted."""
    world = World(connections_max=2).see(*(connection(i, port=10 + i) for i in range(3)))

    assert len(world.device.connections) == 2
    assert [row["LocalPort"] for row in world.connections] == [10]
    assert world.counts["left:too_many"] == 1


def test_every_connection_is_booked_once() -> None:
    """Resolved, unresolved by reason and waiting add up to the number of connections."""
    world = World(proxies=[f"{PROXY}:3128"]).see(
        connection(0, port=1),
        request(0.1, "a.example:443", port=1, flow="1"),
        connection(1, port=2),
        connection(20, port=3),
    )

    counts = world.counts
    assert counts["connections"] == 3
    assert {what: n for what, n in counts.items() if "resolved" in what} == {
        "resolved:connect": 1,
        "unresolved:no_http_event": 1,
    }
    world.see(request(21, "b.example:443", port=2, flow="2"))
    assert {what: n for what, n in world.counts.items() if "resolved" in what} == {"resolved:connect": 2}


def test_repeated_records_change_nothing() -> None:
    """The same records again give no further row and no further count."""
    events: list[Event] = [
        connection(0),
        request(0.1, "a.example:443"),
        name(0.2, "a.example"),
        flow_end(70, started=0, ended=9),
    ]
    world = World().see(*events)
    made = len(world.versions)
    world.see(*events, *events)

    assert len(world.versions) == made
    assert world.counts["connections"] == 1


def test_times_are_the_connections_own() -> None:
    """`ConnectionTime` is the established handshake; the end is the endpoint's close."""
    (row,) = world_of([connection(3, ended=4), request(3.5, "a.example:443")]).connections

    assert row["ConnectionTime"] == "2026-11-24T19:07:31.000000Z"
    assert row["ConnectionEndTime"] == "2026-11-24T19:07:32.000000Z"
    assert micros(3) == 1_795_547_251_000_000


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (request(30, "a.example:443", status=200), True),
        (request(30, "a.example:443", status=407), True),
        (request(30, "a.example:443", status=403), False),
        (request(30, "a.example:443", status=None), False),
        (request(30, "http://a.example/", status=407), True),
        (request(30, "http://a.example/", status=200), False),
        (verdict(30), False),
    ],
    ids=lambda value: f"{value.method} {getattr(value, 'status', 'verdict')}" if hasattr(value, "method") else None,
)
def test_an_answer_that_only_a_proxy_gives_shows_its_other_ports(asked: Event, shown: bool) -> None:
    """A granted CONNECT or 407 makes TLS to another port of the address a proxied connection; other answers do not."""
    world = World().see(connection(29.9), asked, connection(31, port=2, remote_port=8443))
    world.see(name(31.1, "x.example", tunnelled=False, port=2, remote_port=8443, flow="8")).finish()
    found = {row["LocalPort"]: row["ProxyIP"] for row in world.connections}

    assert found == {PORT: PROXY, 2: PROXY if shown else ""}


def test_a_proxy_that_answers_as_one_only_later_shows_its_other_ports_then() -> None:
    """The answer counts though the address is known as a proxy, and a later ordinary answer does not undo it."""
    world = World().see(request(1, "http://a.example/"), request(2, "b.example:443", flow="2", port=2))
    world.see(request(3, "http://c.example/", flow="3", port=3), connection(31, port=4, remote_port=8443))
    world.see(name(31.1, "x.example", tunnelled=False, port=4, remote_port=8443, flow="8")).finish()

    assert {row["ProxyIP"] for row in world.connections if row["LocalPort"] == 4} == {PROXY}


STARTED: list[Event] = [
    replace(request(2, "a.example:443", tx=1), started=micros(1)),
    replace(name(2, "a.example"), started=micros(1)),
    SocksRequest(DEVICE, micros(2), tuple_of(), 1, "a.example", 443, True, "socks/1", "suricata", micros(1)),
]


@pytest.mark.parametrize("later", STARTED, ids=["http", "tls", "socks"])
def test_a_start_that_comes_later_identifies_the_process_at_once(later: Event) -> None:
    """Two records of the 5-tuple may be the request's; the flow's start, reported by a later event, separates them."""
    world = World().see(connection(0, pid=1), connection(1, pid=2), request(1.5, "a.example:443"))
    assert [row["InitiatingProcessId"] for row in world.destinations] == [None]

    assert [row["InitiatingProcessId"] for row in world.see(later).destinations] == [2]


@pytest.mark.parametrize("later", STARTED, ids=["http", "tls", "socks"])
@pytest.mark.parametrize("started", [0, micros(1.7)])
def test_the_first_known_start_of_a_flow_stays(later: Event, started: int) -> None:
    """An event without a start, or with another one, changes no known start."""
    first = replace(request(1.5, "a.example:443"), started=micros(1))
    world = World().see(first, replace(later, started=started)).finish()

    assert [row["ConnectionTime"] for row in world.connections] == ["2026-11-24T19:07:29.000000Z"]
