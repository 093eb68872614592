"""Cases in which disorder, lateness or time once changed rows or state."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import Action, Event, Process, Verdict, flow_of
from schemas.parsers import dialects
from streams.model.connection import JUDGED_MAX
from tests.factories import (
    CLIENT,
    PORT,
    PROXY,
    PROXY_PORT,
    Row,
    World,
    connection,
    flow_end,
    latest,
    micros,
    name,
    request,
    verdict,
)

LISTED = f"{PROXY}:{PROXY_PORT}"


def by_host(world: World) -> dict[object, Row]:
    """Latest destination rows by host."""
    return {row["DestinationHost"]: row for row in world.destinations}


def counts(world: World) -> dict[object, object]:
    """Counts of alerts by domain, without those withdrawn."""
    return {a["DestinationDomain"]: a["Count"] for a in latest(world.alerts, "AlertId") if a["Count"]}


# State and time


def test_leaving_is_counted_once_however_time_is_cut() -> None:
    """In one long step decision and departure coincide: the ended connection departs, the open one stays."""
    world = World().see(connection(0, pid=1, ended=1), connection(1.5, pid=2), connection(1000, port=9))
    group = world.device.group(next(iter(world.device.groups)))

    assert [c.kernel.process.pid for c in group or () if c.kernel] == [2]
    assert (world.counts["connections"], world.counts["left:ended"], world.device.size) == (3, 1, 2)


def test_close_lines_do_not_set_the_clock_back() -> None:
    """The close records of tunnels opened hours ago are dated now, not then."""
    world = World(proxies=[LISTED]).see(connection(0, port=1), connection(36_000, port=2), connection(36_001, port=3))
    world.see(connection(0, port=1, ended=36_002), connection(5, port=4, ended=36_003)).wait(60)

    assert {row["LocalPort"] for row in world.connections} == {1, 2, 3, 4}


def test_one_broken_time_does_not_change_the_mode_of_all_time() -> None:
    """A verdict dated decades back counts as a verdict, but not for the start of block mode."""
    world = World().see(request(0, "a.example:443"), verdict(-1_000_000_000, port=2, flow="2"))
    world.see(request(1, "b.example:443", port=3, flow="3"))

    assert by_host(world)["b.example"]["ProtectionMode"] == "off"


def test_a_start_far_ahead_does_not_wait_for_ever() -> None:
    """An implausible start is ignored; the device's clock decides the connection."""
    world = World(proxies=[LISTED]).see(connection(0, port=1), connection(2_000_000_000, port=2)).wait(60)

    assert {row["LocalPort"] for row in world.connections} == {1, 2}


def test_the_bound_counts_connections_not_tuples() -> None:
    """Connections of one 5-tuple without a close record count one by one."""
    world = World(connections_max=10)
    for number in range(50):
        world.see(connection(number * 2, pid=number))

    assert world.device.size == 10
    assert sum(len(world.device.group(key) or ()) for key in world.device.groups) == 10
    assert len(world.connections) == 50 - 4  # the newest are not decided yet


def test_timers_leave_with_their_connections() -> None:
    """Neither evicted nor closed connections leave a timer behind."""
    world = World(connections_max=10)
    for number in range(200):
        world.see(connection(number * 2, port=1000 + number))
    for number in range(200):
        world.see(connection(500 + number * 2, port=5000 + number))
        world.see(connection(500 + number * 2, port=5000 + number, ended=501 + number * 2))

    assert world.timers <= 10


# Rows


def test_a_first_connect_that_failed_is_no_fronting() -> None:
    """The name inside belongs to the second CONNECT, which may come late: neither row has a `HostMismatch`."""
    failed, second = request(0.1, "a.example:443", status=503), request(61, "b.example:443", tx=1)
    for world in (
        World().see(connection(0), failed, name(0.5, "b.example"), second).finish(),
        World().see(connection(0), failed, second, name(0.5, "b.example")).finish(),
    ):
        rows = by_host(world)

        assert (rows["a.example"]["HostMismatch"], rows["b.example"]["HostMismatch"]) == ("", "")


def test_a_verdict_before_its_connect_learns_where_it_went() -> None:
    """Row and alert of a verdict on a server name get proxy and port from the later CONNECT."""
    events: list[Event] = [request(0.1, "bad.example:443"), verdict(0.2, method="", host="bad.example")]
    for order in (events, events[::-1]):
        world = World().see(connection(0), *order)
        (row,), (alert,) = latest(world.verdicts), latest(world.alerts, "AlertId")

        assert (row["RemotePort"], row["ProxyIP"], row["RemoteIP"]) == (443, PROXY, "")
        assert (alert["ProxyIP"], alert["Count"]) == (PROXY, 1)


@pytest.mark.parametrize(("wrong", "right"), [(1, 2), (2, 1)])
def test_verdicts_follow_the_process_that_was_right(wrong: int, right: int) -> None:
    """On a reused 5-tuple the better endpoint record also corrects the verdict's row and alert, whatever its PID."""
    world = World().see(connection(0, pid=wrong), verdict(5.1, "bad.example:443"), connection(5, pid=right)).finish()
    (row,), (alert,) = latest(world.verdicts), latest(world.alerts, "AlertId")
    hop = next(r for r in world.connections if r["InitiatingProcessId"] == right)

    assert (row["InitiatingProcessId"], row["ConnectionId"]) == (right, hop["ConnectionId"])
    assert alert["InitiatingProcessId"] == right


def test_an_alert_loses_a_process_that_was_of_another_connection() -> None:
    """A late flow start excludes the endpoint record: row and alert name no process any more."""
    world = World().see(connection(0, pid=1), verdict(5.1, "bad.example:443")).wait(30)
    assert [alert["InitiatingProcessId"] for alert in latest(world.alerts, "AlertId")] == [1]

    world.see(flow_end(65, started=5, ended=6)).finish()
    (row,), (alert,) = latest(world.verdicts), latest(world.alerts, "AlertId")
    assert (row["InitiatingProcessId"], alert["InitiatingProcessId"], alert["Count"]) == (None, None, 1)


def test_a_process_that_was_another_ones_leaves_what_others_asked() -> None:
    """The correction removes the process only for its own request, not for a later one of the alert."""
    begin: list[Event] = [connection(0, pid=2), verdict(5.1, "bad.example:443")]
    later: list[Event] = [connection(5.2, port=2, pid=3), verdict(5.3, "bad.example:443", port=2, flow="2")]
    (alert,) = latest(World().see(*begin, *later, connection(5, pid=1)).finish().alerts, "AlertId")

    assert (alert["InitiatingProcessId"], alert["Count"]) == (3, 2)


@pytest.mark.parametrize("target", ["bad.example:443", "http://bad.example/"])
def test_two_rules_that_stop_one_request_are_one_request(target: str) -> None:
    """They count once on rows and alert; the client's next request is another."""
    rules: list[Event] = [verdict(0.1, target, title="one"), verdict(0.1, target, title="two")]
    again: list[Event] = [verdict(0.4, target, title="one", tx=1), verdict(0.4, target, title="two", tx=1)]
    for events, requests in ((rules, 1), (rules[::-1] + again, 2)):
        world = World().see(connection(0), *events).finish()
        (alert,) = latest(world.alerts, "AlertId")

        assert [row["RequestCount"] for row in world.rows] == [requests, requests]
        assert alert["Count"] == requests


def test_tunnels_with_verdicts_keep_a_row_each_in_any_order() -> None:
    """Two CONNECTs of one flow with a verdict each keep their rows, though the earlier one is read later."""
    events = [
        verdict(0.1, "a.bad.example:443", tx=0, action=Action.AUDITED),
        verdict(0.2, "b.bad.example:443", tx=1, action=Action.AUDITED),
    ]
    found = [
        {row["RecordId"]: row["DestinationHost"] for row in latest(World().see(connection(0), *order).verdicts)}
        for order in (events, events[::-1])
    ]

    assert found[0] == found[1]
    assert sorted(map(str, found[0].values())) == ["a.bad.example", "b.bad.example"]


def test_a_count_does_not_move_to_another_domain() -> None:
    """Verdicts on a CONNECT and on another name inside are one request, under the CONNECT's name."""
    events = [verdict(0.1, "front.test:443"), verdict(0.2, method="", host="hidden.example")]

    assert counts(World().see(*events)) == counts(World().see(*events[::-1])) == {"front.test": 1}


def test_an_alert_on_an_answer_does_not_make_the_client_a_proxy() -> None:
    """Suricata writes the packet's addresses; the flow's own addresses give the client."""
    line = (
        b'{"timestamp":"2026-11-24T19:07:28.745740+0000","flow_id":1,"event_type":"alert","src_ip":"198.51.100.80",'
        b'"src_port":3128,"dest_ip":"198.51.100.12","dest_port":51882,"proto":"TCP","tx_id":0,"alert":{"action":"allowed",'
        b'"signature":"s","category":"c"},"http":{"hostname":"bad1.example","url":"http://bad1.example/","http_method":"GET"},'
        b'"direction":"to_client",%s"host":"dev-b"}'
    )
    whole = b'"flow":{"start":"2026-11-24T19:07:28.745174+0000","src_ip":"198.51.100.12","dest_ip":"198.51.100.80",'
    for more in (whole + b'"src_port":51882,"dest_port":3128},', b""):
        parsed = dialects()["suricata"].parse(line % more)

        assert isinstance(parsed, Verdict)
        assert (parsed.flow.local_ip, parsed.flow.remote_port) == ("198.51.100.12", 3128)
    world = World().see(connection(0), request(0.1, "bad.example:443"))
    world.see(replace(verdict(0.2, action=Action.AUDITED), flow=flow_of(PROXY, PROXY_PORT, CLIENT, PORT, "77")))
    assert list(world.device.facts.proxies) == [f"{PROXY} {PROXY_PORT}"]


def test_kernel_lines_after_the_rows_left_find_the_right_flow() -> None:
    """Two late endpoint records of a 5-tuple, after a row without process: two rows, the right process."""
    world = World().see(request(5.1, "a.example:443")).wait(20)
    world.see(connection(0, pid=1), connection(5, pid=2)).finish()
    found = {row["InitiatingProcessId"]: row["DestinationHost"] for row in world.connections}

    assert found == {1: "", 2: "a.example"}
    assert len(world.connections) == 2


def test_destination_rows_follow_what_a_second_kernel_line_adds() -> None:
    """A second endpoint record adds the established time and the process name."""
    full = replace(connection(0), established=micros(0.4), ended=micros(9))
    bare = replace(full, established=0, ended=0, process=Process(4711, ""))
    world = World().see(bare, request(0.5, "a.example:443"), full).finish()
    (row,) = world.destinations

    assert (row["ConnectionTime"], row["InitiatingProcessFileName"]) == ("2026-11-24T19:07:28.400000Z", "curl")


def test_a_flow_without_an_id_has_one_row_a_destination() -> None:
    """Its rows wait until its first evidence, which gives the identity, is certain."""
    world = World().see(
        request(0.2, "b.example:443", flow="", tx=1), request(0.1, "a.example:443", flow="", status=407)
    )
    assert world.destinations == []

    assert sorted(str(host) for host in by_host(world.finish())) == ["a.example", "b.example"]
    assert len(world.destinations) == 2


def test_facts_that_come_within_the_lateness_do_not_depend_on_order() -> None:
    """The reason of an unresolved connection depends on what was certain at its decision."""
    first: Event = request(7.5, "a.example:443", port=2, flow="2")
    second: Event = connection(9.2, port=3)
    reasons = [
        {
            r["LocalPort"]: r["UnresolvedReason"]
            for r in World(proxies=[LISTED]).see(connection(0, port=1), *o).connections
        }
        for o in ([first, second], [second, first])
    ]

    assert reasons[0][1] == reasons[1][1] == "protection_off"


def test_verdicts_at_the_same_instant_all_count() -> None:
    """Verdicts are distinguished by their whole content, not by a hash of a few bits."""
    for number in range(300):
        world = World().see(verdict(0.1, action=Action.AUDITED), verdict(0.1, title=f"rule {number}"))
        assert world.destinations[0]["Outcome"] == "blocked"
    world = World().see(*(request(0.1, f"http://h{tx}.example/", tx=tx) for tx in range(200)))

    assert len(world.destinations) == 200
    assert JUDGED_MAX >= 200


# Found by a second attempt


def test_a_reused_tuple_joins_its_flow_however_quiet_it_was() -> None:
    """The first use had no sensor evidence; its flow record comes a minute later, after silence or not."""
    events: list[Event] = [
        connection(0, pid=1, ended=12),
        connection(13, pid=2),
        request(13.1, "b.example:443"),
        flow_end(75, started=13.001, ended=15),
    ]
    for quiet in (0, 30):
        world = World().see(*events[:3]).wait(quiet).see(events[3]).finish()

        assert {row["InitiatingProcessId"]: row["DestinationHost"] for row in world.connections} == {
            1: "",
            2: "b.example",
        }
        assert [row["InitiatingProcessId"] for row in world.destinations] == [2]


def test_a_flow_without_a_certain_endpoint_record_gets_its_row() -> None:
    """Two endpoint records fit and no flow record comes: the row is emitted without a process."""
    world = World().see(connection(0, pid=1, ended=12), connection(13, pid=2), request(13.1, "b.example:443")).finish()

    assert {row["InitiatingProcessId"] for row in world.connections} == {1, 2, None}
    assert sum(n for what, n in world.counts.items() if "resolved:" in what) == world.counts["connections"] == 3


def test_a_kernel_record_far_from_the_flows_start_is_refused() -> None:
    """The flow is joined neither to a later connection nor to the guess made before its start was known."""
    started = replace(verdict(20.1, "a.example:443", action=Action.AUDITED), started=micros(19.9))
    for world in (
        World().see(connection(0, pid=1), request(20, "a.example:443"), started, connection(28, pid=2)).finish(),
        World().see(connection(0, pid=1), request(20, "a.example:443"), flow_end(90, started=19.9, ended=27)).finish(),
    ):
        assert [row["InitiatingProcessId"] for row in world.destinations] == [None]


def test_a_proxy_learnt_later_keeps_the_name_that_was_seen() -> None:
    """A tunnel seen only from inside, first taken for direct, keeps its name."""
    world = World().see(connection(0), name(0.2, "a.example")).wait(20)
    assert [row["ResolvedBy"] for row in world.connections] == ["direct"]

    world.see(request(21, "b.example:443", port=2, flow="2")).finish()
    assert by_host(world)["a.example"]["ResolvedBy"] == "sni"


def test_a_name_seen_twice_and_then_confirmed_raises_the_version() -> None:
    """CONNECT replaces both the TLS name and the Host header, and the row's version still grows."""
    world = World(proxies=[LISTED]).see(connection(0), name(0.1, "a.example"), request(0.2, "/x", host="a.example"))
    world.wait(20).see(request(21, "a.example:443", tx=1)).finish()

    assert [(row["ResolvedBy"], row["Confidence"]) for row in world.connections] == [("connect", "exact")]


def test_a_withdrawn_alert_begins_again() -> None:
    """The next audited request does not carry evidence of the withdrawn one, which was blocked."""
    world = World().see(
        verdict(0.1, method="", host="x.bad.example", action=Action.AUDITED),
        verdict(0.2, "x.bad.example:443"),
        verdict(9, "http://y.bad.example/", action=Action.AUDITED, port=3, flow="3"),
    )
    audited = next(a for a in latest(world.alerts, "AlertId") if a["Kind"] == "audited")

    assert (audited["Count"], audited["DestinationHosts"]) == (1, ["y.bad.example"])
    assert str(audited["FirstTime"]).startswith("2026-11-24T19:07:37")


def test_patience_does_not_depend_on_the_first_sensor() -> None:
    """An undecided connection waits equally long for a better name, whichever sensor reported first."""
    kernel: Event = connection(0)
    host: Event = request(0.1, "/x", host="b.example")
    for order in ([kernel, host], [host, kernel]):
        world = World(proxies=[LISTED]).see(*order, request(4, "c.example:443", tx=1)).finish()

        assert [row["DestinationHost"] for row in world.destinations] == ["c.example"]


def test_verdict_rows_of_a_flow_without_an_id_are_not_doubled() -> None:
    """Rows of verdicts wait for the identity, too."""
    world = World().see(verdict(0.1, flow=""), connection(0)).finish()

    assert len(latest(world.verdicts)) == 1


def test_the_earlier_of_two_names_with_a_verdict_counts() -> None:
    """The earlier request names the alert, in any order of arrival."""
    events = [
        verdict(0.1, method="", host="a.test", action=Action.AUDITED),
        verdict(0.6, method="", host="b.test", action=Action.AUDITED),
    ]
    for order in (events, events[::-1]):
        assert counts(World().see(connection(0), *order).finish()) == {"a.test": 1}


def test_an_alert_learns_a_name_that_came_with_the_second_kernel_line() -> None:
    """The first record has only the PID, the second the process name."""
    bare = replace(connection(0), established=0, process=Process(4711, ""))
    world = World().see(bare, verdict(0.1), connection(0)).finish()

    assert latest(world.alerts, "AlertId")[0]["InitiatingProcessFileName"] == "curl"


def test_a_record_dated_far_ahead_is_decided_and_departs() -> None:
    """The device's clock decides it, and the counts still balance."""
    world = World().see(
        connection(0, port=1), request(2_000_000_000, "m", method="CONNECT", status=None, port=2, flow="2")
    )
    world.wait(60)
    assert {row["LocalPort"] for row in world.connections} == {1, 2}

    world.wait(200_000)
    assert world.device.groups == {}
    assert sum(n for what, n in world.counts.items() if "resolved:" in what) == world.counts["connections"] == 2


def test_the_kernel_record_at_the_very_start_is_taken_at_once() -> None:
    """A record 300 ms off waits for certainty, so the order of arrival does not even change the version."""
    flow: Event = flow_end(9, started=0, ended=8)
    near, far = connection(0.001, pid=1), connection(0.3, pid=2)
    pictures = [
        {row["RecordId"]: row for row in World().see(request(0.01, "a.example:443"), flow, *order).finish().rows}
        for order in ((near, far), (far, near))
    ]

    assert pictures[0] == pictures[1]
    assert {r["InitiatingProcessId"] for r in pictures[0].values() if r["DestinationHost"] == "a.example"} == {1}
