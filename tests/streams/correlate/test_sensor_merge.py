"""One connection reported by several sensors is one connection; two connections stay two."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.events import ConnectionOpened, Event, Process
from schemas.indicator_input import Given
from streams.model.connection import VERDICTS_MAX
from tests.factories import (
    PORT,
    PROXY,
    Row,
    World,
    connection,
    flow_end,
    latest,
    listing,
    name,
    proxy_line,
    request,
    tuple_of,
    verdict,
)

UID, OTHER_UID = "CHhAvVGS1DHFjwGM9", "C4J4Th3PJpwUYZZ6gc"
"""Connection ids as Zeek makes them."""
RICH = Process(4711, "curl", "/usr/bin/curl", "curl -x proxy https://www.example.com", 0, "jane", "CORP", "", 1, "bash")


def sysmon(at: float, *, process: Process = RICH) -> ConnectionOpened:
    """Make another endpoint sensor's record, with the process in full and no end."""
    whole = connection(at)
    return replace(whole, process=process, ended=0, event_id=f"sysmon/3/{whole.flow.local_port}/{at}", sensor="sysmon")


def additional(row: Row) -> dict[str, object]:
    """Return the AdditionalFields of a row."""
    return dict(json.loads(str(row["AdditionalFields"]) or "{}"))


def content(world: World) -> list[Row]:
    """Return rows without what may depend on the first sensor: names, versions, and which flow id is first."""
    left_out = {"RecordId", "ConnectionId", "ReportId", "Version", "FlowId"}
    rows = [{column: value for column, value in row.items() if column not in left_out} for row in world.rows]
    return sorted(rows, key=lambda row: (str(row["Layer"]), str(row["DestinationHost"])))


# The whole picture


@pytest.mark.parametrize("skew", [-2.0, 0.0, 2.0])
def test_kernel_suricata_squid_and_zeek_in_any_order(skew: float) -> None:
    """One connection row, one row per destination, all evidence, whatever the order and the wrong clock."""
    events: list[Event] = [
        connection(0, ended=4),
        request(0.1),
        flow_end(4.4, started=0.001, ended=4.001, sent=900, received=5000),
        request(0.1 + skew, flow=UID),
        flow_end(4.3 + skew, started=0.001 + skew, ended=4.001 + skew, flow=UID, sent=800, received=5500),
        proxy_line(4.1, started=0.1),
    ]
    expected = content(World().see(*events).finish())
    hop, row = expected

    assert (hop["Layer"], hop["BytesSent"], hop["BytesReceived"], hop["RequestCount"]) == ("connection", 900, 5500, 1)
    assert (hop["ConnectionTime"], hop["ConnectionEndTime"]) == (
        "2026-11-24T19:07:28.000000Z",
        "2026-11-24T19:07:32.000000Z",
    )
    assert (row["DestinationHost"], row["RemoteIP"], row["RequestCount"], row["InitiatingProcessId"]) == (
        "www.example.com",
        "203.0.113.80",
        1,
        4711,
    )
    assert set(row["HttpEventIds"]) == {"http/77/0/0.1", f"http/{UID}/0/{0.1 + skew}", "squid/0/4.1"}  # type: ignore[call-overload]  # a row's columns are objects
    assert additional(hop)["FlowIds"] == additional(row)["FlowIds"] == ["77", UID]
    for order in permutations(events):
        world = World().see(*order).finish()

        assert content(world) == expected
        assert world.counts["connections"] == world.device.size == 1


@pytest.mark.parametrize("skew", [-2.0, 2.0])
def test_two_endpoint_sensors_and_a_network_sensor_in_any_order(skew: float) -> None:
    """Times come from the kernel, the process from the fullest record, both records are named."""
    events: list[Event] = [
        connection(0),
        connection(0, ended=6),
        sysmon(skew),
        request(0.1),
        name(0.2, "www.example.com"),
        flow_end(6.4, started=0.001, ended=6.001),
    ]
    expected = content(World().see(*events).finish())
    hop, row = expected

    assert [(r["InitiatingProcessCommandLine"], r["InitiatingProcessAccountName"]) for r in expected] == [
        (RICH.command_line, "jane")
    ] * 2
    assert (hop["ConnectionTime"], hop["ConnectionEndTime"]) == (
        "2026-11-24T19:07:28.000000Z",
        "2026-11-24T19:07:34.000000Z",
    )
    assert additional(row)["ConnectionEventIds"] == ["socket/40000/0", f"sysmon/3/40000/{skew}"]
    for order in permutations(events):
        world = World().see(*order).finish()

        assert content(world) == expected
        assert len(world.connections) == len(world.destinations) == 1


def test_rows_that_left_keep_their_names() -> None:
    """A better clock and another sensor's flow, long after, raise the versions of the same rows."""
    world = World().see(sysmon(1.5), request(0.1, flow=UID)).wait(30)
    before = {row["RecordId"]: row["Version"] for row in world.rows}
    world.see(connection(0, ended=40), flow_end(41, started=0, ended=40)).wait(60).finish()

    assert len(before) == 2
    assert {row["RecordId"] for row in world.rows} == before.keys()
    assert all(int(str(row["Version"])) > int(str(before[row["RecordId"]])) for row in world.connections)
    assert world.connections[0]["ConnectionTime"] == "2026-11-24T19:07:28.000000Z"


# Two stay two


def test_what_excludes_one_attempt() -> None:
    """Another process, another time, an ended lifetime, a failure or the same sensor keep records apart."""
    first = connection(0, ended=1)
    for other in (
        sysmon(0.1, process=replace(RICH, pid=12)),
        sysmon(0.1, process=Process(None, "firefox")),
        sysmon(3.5),
        sysmon(1.5),
        replace(connection(0.1, failed=True), event_id="security/5157/40000/0.1", sensor="security"),
        replace(sysmon(0.1), event_id="socket/40000/0.1", sensor="socket"),
    ):
        for order in permutations([first, other]):
            assert len(World().see(*order).finish().connections) == 2, other
    unknown_pid = sysmon(0.1, process=Process(None, "CURL"))
    assert len(World().see(first, unknown_pid).finish().connections) == 1


def test_a_tuple_used_again_by_one_process_is_not_merged() -> None:
    """Two attempts, each seen by two endpoint sensors, give two rows with their own records."""
    events: list[Event] = [connection(0, ended=0.3), sysmon(0.01), connection(0.4, ended=0.8), sysmon(0.41)]
    for order in permutations(events):
        world = World().see(*order).finish()
        assert sorted(str(additional(row)["ConnectionEventIds"]) for row in world.connections) == [
            "['socket/40000/0', 'sysmon/3/40000/0.01']",
            "['socket/40000/0.4', 'sysmon/3/40000/0.41']",
        ]


def test_flows_of_a_tuple_used_again_are_never_mixed() -> None:
    """Two connections within the tolerance, each seen by two sensors, keep their hosts in any order."""
    events: list[Event] = [
        request(0.1, "a.example:443", flow="1"),
        request(0.1, "a.example:443", flow=UID),
        request(1.1, "b.example:443", flow="2"),
        request(1.1, "b.example:443", flow=OTHER_UID),
        connection(0, pid=1, ended=0.5),
        connection(1, pid=2, ended=1.5),
    ]
    for order in permutations(events):
        world = World().see(*order).finish()
        seen = {(row["DestinationHost"], row["InitiatingProcessId"]) for row in world.destinations}

        assert seen <= {("a.example", 1), ("b.example", 2), ("a.example", None), ("b.example", None)}
        for hop in world.connections:
            assert hop["DestinationHost"] in ("a.example", "b.example", "")
    world = World().see(*sorted(events, key=lambda event: event.at)).finish()
    assert len(world.connections) == len(world.destinations) == 2


def test_a_second_sensor_does_not_revive_what_came_before() -> None:
    """A view of the newer connection is not joined to an older unseen one whose end was not reported."""
    events: list[Event] = [
        connection(0, pid=1),
        connection(4, pid=2),
        request(4.1, "b.example:443", flow="2"),
        flow_end(4.9, started=4, ended=4.8, flow="2"),
        request(4.1, "b.example:443", flow=UID),
    ]
    for order in permutations(events):
        world = World().see(*order).finish()

        assert {row["InitiatingProcessId"] for row in world.destinations} <= {2, None}


def test_a_late_view_does_not_join_the_next_connection() -> None:
    """The first connection may still be open, so the second sensor's record may be late and of it."""
    events: list[Event] = [
        connection(0, pid=1),
        request(0.1, "b.example:443", flow="1"),
        connection(4, pid=2),
        request(4.1, "b.example:443", flow=UID),
    ]
    world = World().see(*events).finish()

    assert {row["InitiatingProcessId"] for row in world.destinations} <= {1, None}


def test_the_same_host_twice_within_the_tolerance_is_in_doubt() -> None:
    """Where neither start nor host separates the connections, the rows of the two sensors stay apart."""
    flows = [request(0.1, flow="1"), request(1.1, flow="2"), request(0.6, flow=UID)]
    for order in permutations(flows):
        world = World().see(*order).finish()
        assert len(world.connections) == 3
        assert sum(row["RequestCount"] == 1 for row in world.destinations) == 3


def test_equal_starts_separate_reused_tuples() -> None:
    """With both sensors on one clock the flow summaries identify the flows."""
    events: list[Event] = [
        request(0.1, flow="1"),
        flow_end(0.6, started=0, ended=0.5, flow="1"),
        request(1.1, flow="2"),
        flow_end(1.6, started=1, ended=1.5, flow="2"),
        request(0.1, flow=UID),
        flow_end(0.6, started=0.001, ended=0.5, flow=UID),
        request(1.1, flow=OTHER_UID),
        flow_end(1.6, started=1.001, ended=1.5, flow=OTHER_UID),
    ]
    world = World().see(*events).finish()

    assert sorted(str(additional(row)["FlowIds"]) for row in world.connections) == [
        f"['1', '{UID}']",
        f"['2', '{OTHER_UID}']",
    ]


# What becomes of it


def test_the_second_view_waits_and_adds() -> None:
    """The first sensor's row is emitted at once; what only the second saw is added at the decision."""
    world = World().see(
        connection(0),
        request(0.1, "http://a.example/"),
        request(0.1, "http://a.example/", flow=UID),
        request(0.5, "http://b.example/", flow=UID, tx=1),
    )
    assert [row["DestinationHost"] for row in world.destinations] == ["a.example"]

    world.see(request(0.9, "http://a.example/2", flow=UID, tx=2)).wait(20)
    world.see(request(21, "http://a.example/3", flow=UID, tx=3), request(21, "http://a.example/3", tx=3)).finish()
    assert {row["DestinationHost"]: row["RequestCount"] for row in world.destinations} == {
        "a.example": 3,
        "b.example": 1,
    }
    assert len(world.connections) == 1


def test_an_alert_counts_a_request_once_however_many_saw_it() -> None:
    """An indicator match counts once though two sensors and the proxy report the request."""
    events: list[Event] = [connection(0), request(0.1), request(0.2, flow=UID), proxy_line(2, started=0.1)]
    for order in permutations(events):
        world = World(listing(Given("example.com", action="block"))).see(*order).finish()
        assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]


@pytest.mark.parametrize("later", [False, True])
def test_requests_that_match_are_counted_by_sensor(later: bool) -> None:
    """Of two requests seen by two sensors one matches, also where both views are already merged."""
    events: list[Event] = [
        request(20.1, "http://www.example.com/a", tx=1),
        request(20.2, "http://www.example.com/b", tx=2),
        request(20.1, "http://www.example.com/a", flow=UID, tx=2),
        request(20.2, "http://www.example.com/b", flow=UID, tx=3),
    ]
    begin: list[Event] = [
        connection(0),
        request(0.1, "http://www.example.com/"),
        request(0.1, "http://www.example.com/", flow=UID),
    ]
    for order in permutations(events):
        world = World(listing(Given("http://www.example.com/a", action="block")))
        world.see(*begin, *([request(15, port=PORT + 1)] if later else []), *order).finish()
        assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]


@pytest.mark.parametrize("target", ["http://www.example.com/", "www.example.com:443"])
def test_what_one_sensor_stopped_is_not_missed_by_another(target: str) -> None:
    """A verdict without a record, and another sensor's record under its own number, are one request."""
    stopped: list[Event] = [connection(0), verdict(0.1, target, tx=1), request(0.1, target, flow=UID)]
    passed: list[Event] = [request(0.3, target, tx=2), request(0.3, target, flow=UID, tx=1)]
    for more, expected in ((0, {"blocked": 1}), (2, {"blocked": 1, "not_enforced": 1})):
        for order in permutations(stopped + passed[:more]):
            world = World(listing(Given("example.com", action="block"), modes=["dev-1=block"])).see(*order).finish()
            assert {alert["Kind"]: alert["Count"] for alert in latest(world.alerts, "AlertId")} == expected


def test_a_name_inside_counts_once() -> None:
    """The server name of a direct connection, reported twice, counts once."""
    there: dict[str, Any] = {"remote": "203.0.113.5", "remote_port": 443}
    events: list[Event] = [
        replace(connection(0), flow=tuple_of(flow="", **there)),
        name(0.1, "www.example.com", tunnelled=False, **there),
        name(0.3, "www.example.com", tunnelled=False, flow=UID, **there),
    ]
    for order in permutations(events):
        world = World(listing(Given("example.com", action="block"))).see(*order).finish()
        assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]
        assert len(world.connections) == 1


def test_what_was_counted_of_a_view_is_counted_once() -> None:
    """An alert for the address came first; then the connection turns out to be another sensor's view."""
    there: dict[str, Any] = {"remote": "203.0.113.5", "remote_port": 443}
    events: list[Event] = [
        name(0, "www.example.com", tunnelled=False, flow=UID, **there),
        connection(2, **there),
        name(2.1, "www.example.com", tunnelled=False, **there),
        flow_end(3, started=0, ended=2.9, flow=UID, **there),
    ]
    world = World(listing(Given("203.0.113.5", action="block"), modes=["dev-1=off"])).see(*events).finish()

    assert len(world.connections) == 1
    assert [alert["Count"] for alert in latest(world.alerts, "AlertId") if alert["Count"]] == [1]


def test_the_sensor_that_saw_the_beginning_is_believed() -> None:
    """Where one sensor saw the beginning, the connection is not older than its sensors."""
    events: list[Event] = [
        connection(0, ended=4),
        flow_end(4.2, started=0, ended=4, midstream=True),
        flow_end(4.3, started=0, ended=4, flow=UID),
    ]
    earlier = request(-20, port=2, flow="2")
    for order in permutations(events):
        world = World(proxies=[f"{PROXY}:3128"]).see(earlier, *order).finish()
        assert [row["UnresolvedReason"] for row in world.connections if row["LocalPort"] != 2] == ["no_http_event"]


def test_a_sensor_without_names_for_flows_is_another_view() -> None:
    """Its requests are merged with the other's, which come before or after."""
    events: list[Event] = [connection(0), request(0.1), request(0.2, flow="")]
    for order in permutations(events):
        world = World().see(*order).finish()
        assert [(row["DestinationHost"], row["RequestCount"]) for row in world.destinations] == [("www.example.com", 1)]
        assert len(world.connections) == 1


@pytest.mark.parametrize("skew", [-2.0, 2.0])
def test_a_network_sensor_whose_clock_is_off_finds_its_process(skew: float) -> None:
    """The only candidate is joined at the decision; a connection that had ended is none."""
    events: list[Event] = [
        connection(0, ended=6),
        request(0.1 + skew),
        flow_end(6.5 + skew, started=skew, ended=6 + skew),
    ]
    for order in permutations(events):
        world = World().see(*order).finish()
        assert [row["InitiatingProcessId"] for row in world.rows] == [4711, 4711]
    over = World().see(connection(0, ended=0.2), flow_end(9, started=1.5, ended=6)).finish()
    assert {row["InitiatingProcessId"] for row in over.connections} == {4711, None}


def test_a_sensor_without_names_for_flows_does_not_revive_what_is_over() -> None:
    """A new connection on the 5-tuple, reported by that sensor only, does not get the old one's process."""
    later = request(60, "b.example:443", flow="")
    world = World().see(connection(0, ended=5), request(0.1), request(0.2, flow=""), later).finish()
    assert {(row["DestinationHost"], row["InitiatingProcessId"]) for row in world.destinations} == {
        ("www.example.com", 4711),
        ("b.example", None),
    }


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("target", ["http://bad.example/", "bad.example:443"])
def test_verdicts_of_two_sensors_on_a_request_are_one(target: str, number: int) -> None:
    """Numbered alike or not: one row, one request on the alert; the next request is another."""
    first: list[Event] = [verdict(0.1, target), verdict(0.2, target, flow=UID, tx=number)]
    again: list[Event] = [verdict(5.1, target, tx=1), verdict(5.2, target, flow=UID, tx=1 + number)]
    known: list[Event] = [connection(0), request(0, "http://a.example/"), request(0, "http://a.example/", flow=UID)]
    for order in ([*first, *again], [*first[::-1], *again], [*first, *again[::-1]]):
        for begin in (known[:1], known):
            requests = len(order) // 2
            world = World(listing(Given("bad.example"), modes=["dev-1=block"])).see(*begin, *order[:2]).wait(20)
            assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [1]
            world.see(*order[2:]).finish()

            assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [requests]
            assert len(latest(world.verdicts)) == requests
            (row,) = [row for row in world.destinations if row["DestinationHost"] == "bad.example"]
            assert (row["RequestCount"], row["Outcome"], len(world.connections)) == (requests, "blocked", 1)


def test_verdicts_of_two_sensors_are_evicted_together() -> None:
    """At the bound a request is evicted with all its verdicts, and stays counted once."""
    asked = VERDICTS_MAX // 2 + 3
    events: list[Event] = [connection(0)]
    for number in range(asked):
        target = f"http://bad.example/{number}"
        events += [verdict(number, target, tx=number), verdict(number, target, flow=UID, tx=number)]
    world = World(listing()).see(*events[:3]).wait(20).see(*events[3:]).finish()

    assert [alert["Count"] for alert in latest(world.alerts, "AlertId")] == [asked]


def test_the_merged_row_has_the_extremes_of_both_views() -> None:
    """Of two views of one connection the earlier request, the later status and the higher counts are on the rows."""
    world = World().see(
        request(0.2, "http://a.example/late", status=200),
        flow_end(3, started=0, ended=2.9, sent=10, received=900),
        request(0.1, "http://a.example/early", flow=UID, status=200),
        request(0.5, "http://a.example/early", flow=UID, status=404, tx=1),
        flow_end(3.4, started=0.001, ended=3.3, flow=UID, sent=70, received=20),
    )
    world.wait(20).finish()
    (hop,), (row,) = world.connections, world.destinations

    assert (hop["BytesSent"], hop["BytesReceived"]) == (70, 900)
    assert hop["ConnectionEndTime"] == "2026-11-24T19:07:31.300000Z"
    assert (row["RemoteUrl"], row["HttpStatus"], row["RequestCount"]) == ("http://a.example/early", 404, 2)
    assert world.pipeline.book()["kept"] == world.counts["connections"] == 1


def test_a_repeat_of_a_merged_view_changes_nothing() -> None:
    """The evidence of the view is remembered as that of its sensor."""
    seen = request(0.1, "http://a.example/", flow=UID)
    world = World().see(request(0.1, "http://a.example/"), seen).wait(20)
    before = list(world.versions)

    assert world.see(seen).finish().versions == before


def test_an_unusable_request_of_a_view_counts() -> None:
    """Only the second sensor saw that the client asked for nothing usable."""
    world = World(proxies=[f"{PROXY}:3128"]).see(
        connection(0), flow_end(2, started=0, ended=1.9), request(0.1, "garbage", method="GET", flow=UID)
    )
    (hop,) = world.wait(20).finish().connections

    assert hop["UnresolvedReason"] == "no_usable_request"


@pytest.mark.parametrize("early", [True, False])
def test_an_attempt_that_one_endpoint_sensor_saw_established_succeeded(early: bool) -> None:
    """The sensor with the better clock saw neither an answer nor the end; the row has the other one's."""
    there: dict[str, Any] = {"remote": "203.0.113.5", "remote_port": 443}
    first = replace(connection(0, **there), established=0, bytes_sent=5, bytes_received=70)
    other = replace(connection(0.2, **there), event_id="sysmon/3", sensor="sysmon", bytes_sent=50, bytes_received=7)
    other = replace(other, ended=other.started + 4_000_000)
    (row,) = World().see(*((first, other) if early else (other, first))).finish().connections

    assert (row["ActionType"], row["ConnectionTime"]) == ("ConnectionSuccess", "2026-11-24T19:07:28.000000Z")
    assert row["ConnectionEndTime"] == "2026-11-24T19:07:32.200000Z"
    assert (row["BytesSent"], row["BytesReceived"]) == (50, 70)


def test_an_attempt_that_one_endpoint_sensor_saw_fail_has_failed() -> None:
    """The other sensor reports the attempt only."""
    there: dict[str, Any] = {"remote": "203.0.113.5", "remote_port": 443}
    first = replace(connection(0, **there), established=0)
    failed = replace(connection(0.2, failed=True, **there), event_id="sysmon/3", sensor="sysmon")
    (row,) = World().see(first, failed).finish().connections

    assert (row["ActionType"], row["Outcome"]) == ("ConnectionFailed", "failed")
