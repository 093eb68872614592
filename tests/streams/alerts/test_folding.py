"""Verdicts become rows and alerts: each request counts once, folded by device, domain, day and kind."""

from __future__ import annotations

from schemas.events import Action, Event
from streams.alerts.folding import forget_old
from tests.factories import World, connection, latest, listing, micros, process_verdict, request, verdict, world_of


def counts(world: World) -> dict[tuple[object, object], object]:
    """Count by kind and domain, latest versions."""
    return {(a["Kind"], a["DestinationDomain"]): a["Count"] for a in latest(world.alerts, "AlertId")}


def test_a_block_is_reported_at_once() -> None:
    """Row and alert are emitted with the verdict; both have the process and the proxy."""
    world = World().see(connection(0), verdict(0.1, "http://www.bad.example/x"))
    (row,) = world.verdicts
    (alert,) = world.alerts

    assert (row["ActionType"], row["DestinationHost"]) == ("ExploitGuardNetworkProtectionBlocked", "www.bad.example")
    assert '"IsAudit":false' in str(row["AdditionalFields"])
    assert (alert["Kind"], alert["DestinationDomain"], alert["DestinationHosts"]) == (
        "blocked",
        "bad.example",
        ["www.bad.example"],
    )
    assert (alert["Count"], alert["InitiatingProcessId"], alert["ProxyPort"]) == (1, 4711, 3128)
    assert row["ConnectionId"] == world.connections[0]["ConnectionId"]


def test_a_retry_is_another_request() -> None:
    """A retry on a new connection counts as a second request."""
    world = world_of([verdict(0, flow="1", port=1), verdict(0.1, flow="2", port=2)])

    assert counts(world) == {("blocked", "bad.example"): 2}


def test_two_requests_of_one_connection_are_two() -> None:
    """Two transactions of one connection are two requests; two rules on one transaction are one."""
    world = world_of(
        [
            verdict(0, "http://bad.example/1", tx=1),
            verdict(0, "http://bad.example/1", tx=1, title="another rule"),
            verdict(0.2, "http://bad.example/2", tx=2),
        ]
    )

    assert counts(world) == {("blocked", "bad.example"): 2}
    assert len(latest(world.verdicts)) == 2


def test_connect_and_server_name_of_one_tunnel_are_one() -> None:
    """Verdicts on a CONNECT and on the name in its tunnel are one row and one request, in both orders."""
    verdicts = [
        verdict(0.1, action=Action.AUDITED),
        verdict(0.2, method="", host="bad.example", action=Action.AUDITED),
    ]
    for order in (verdicts, verdicts[::-1]):
        world = world_of([request(0.1, "bad.example:443"), *order])

        assert counts(world) == {("audited", "bad.example"): 1}
        assert len(latest(world.verdicts)) == 1


def test_audited_then_blocked_is_blocked_only() -> None:
    """An audited CONNECT whose inner name is then blocked is one blocked request."""
    world = world_of(
        [
            verdict(0, "http://other.example/", port=1, flow="1"),
            verdict(5, action=Action.AUDITED),
            verdict(5.01, method="", host="bad.example"),
        ]
    )

    assert counts(world) == {("blocked", "other.example"): 1, ("blocked", "bad.example"): 1}


def test_a_first_block_withdraws_the_audited_alert() -> None:
    """With the mode unknown, the audited alert is emitted at once; the block withdraws it with count 0."""
    world = world_of([verdict(5, action=Action.AUDITED), verdict(5.01, method="", host="bad.example")])

    assert counts(world) == {("audited", "bad.example"): 0, ("blocked", "bad.example"): 1}


def test_subdomains_and_days_fold() -> None:
    """There is one alert per registrable domain and UTC day."""
    day = 86_400
    world = World().see(
        verdict(0, "http://a.bad.co.uk/", port=1, flow="1"),
        verdict(1, "http://b.bad.co.uk/", port=2, flow="2"),
        connection(day - 1, port=3),
        verdict(day, "http://a.bad.co.uk/", port=3, flow="3"),
        verdict(day + 1, "http://a.bad.co.uk/", port=4, flow="4"),
    )
    alerts = latest(world.alerts, "AlertId")

    assert sorted((str(a["Count"]), a["DestinationDomain"]) for a in alerts) == [("2", "bad.co.uk"), ("2", "bad.co.uk")]
    hosts: set[tuple[str, ...]] = {tuple(a["DestinationHosts"]) for a in alerts}  # type: ignore[arg-type]  # an array of the row
    assert hosts == {("a.bad.co.uk", "b.bad.co.uk"), ("a.bad.co.uk",)}


def test_the_process_reaches_an_alert_that_left_before_it() -> None:
    """A late endpoint record adds the process to the same alert."""
    world = World().see(verdict(0.1, "http://bad.example/"), connection(0))
    first, second = world.alerts

    assert (first["InitiatingProcessFileName"], second["InitiatingProcessFileName"]) == ("", "curl")
    assert first["AlertId"] == second["AlertId"]
    assert int(str(second["Version"])) > int(str(first["Version"]))
    assert second["Count"] == 1


def test_old_alerts_are_forgotten() -> None:
    """An alert leaves the state two days after its last request."""
    world = World().see(verdict(0))
    forget_old(world.device, micros(86_400 * 2 - 1))
    assert world.device.alerts

    forget_old(world.device, micros(86_400 * 2 + 1))
    assert world.device.alerts == {}


def test_an_evicted_alert_is_neither_emitted_nor_withdrawn() -> None:
    """A connection that outlives its audited alert does not change it, though the request turns out blocked."""
    world = World().see(verdict(0.1, "http://bad.example/", action=Action.AUDITED))
    forget_old(world.device, micros(10**6))
    emitted = len(world.alerts)
    world.see(connection(0))
    assert (world.device.alerts, len(world.alerts)) == ({}, emitted)

    world.see(verdict(0.2, "http://bad.example/", flow="2", port=2, action=Action.AUDITED))
    world.see(verdict(0.3, "http://bad.example/", action=Action.BLOCKED))

    assert {state.kind: state.count for state in world.device.alerts.values()} == {"audited": 1, "blocked": 1}


def test_requests_at_the_same_time_give_one_alert_in_any_order() -> None:
    """Of two requests at one time the alert names the one that compares highest, in any order of arrival."""
    events = [
        event
        for number in (0, 1)
        for event in (
            connection(0, port=number + 1, pid=number + 1, remote=f"10.9.9.{number}"),
            verdict(0.1, flow=str(number), port=number + 1, remote=f"10.9.9.{number}"),
        )
    ]
    one, other = (latest(world_of(order).alerts, "AlertId") for order in (events, events[::-1]))

    assert one == other
    assert one[0]["Count"] == 2


def requests_of(*seconds: float) -> list[Event]:
    """Blocked requests, each on a connection of its own."""
    return [verdict(at, "http://bad.example/", port=number + 1, flow=str(number)) for number, at in enumerate(seconds)]


def published(world: World, now: float) -> list[object]:
    """Return the counts of the alerts that are emitted until a time of the log."""
    before = len(world.alerts)
    world.wait_until(now)
    return [alert["Count"] for alert in world.alerts[before:]]


def test_further_versions_wait() -> None:
    """The first version is emitted at once, then at most one per minute; the last one counts all requests."""
    world = World(listing(gap_secs=60)).see(*requests_of(0, 1, 2, 3))

    assert [alert["Count"] for alert in world.alerts] == [1]
    assert published(world, 59) == []
    assert published(world, 60) == [4]
    assert published(world, 180) == []


def test_what_the_log_published_is_not_hurried_by_the_device() -> None:
    """An alert published by a tick ahead of the device's clock waits a minute from that tick."""
    world = World(listing(gap_secs=60)).see(*requests_of(0, 1))
    assert published(world, 61) == [2]

    world.see(*(verdict(at, "http://bad.example/", port=50 + at, flow=f"f{at}") for at in (2, 3)))
    assert [alert["Count"] for alert in world.alerts] == [1, 2]
    assert published(world, 178) == []
    assert published(world, 179) == [4]


def test_a_clock_set_back_holds_nothing_up() -> None:
    """After the clock was set back by hours, the next version is emitted."""
    world = World(listing(gap_secs=60)).see(*requests_of(0, 1))
    assert published(world, 7_200) == [2]

    world.see(verdict(5, "http://bad.example/", port=70, flow="g"))
    assert world.alerts[-1]["Count"] == 3


def test_an_alert_withdrawn_before_it_was_emitted_is_not_emitted() -> None:
    """A warning that is bypassed in the same message emits no warned alert, and no withdrawal."""
    clicked = [process_verdict(0.1, action=Action.WARNED), process_verdict(0.2, action=Action.BYPASSED)]
    world = World().see_together(*clicked)
    forget_old(world.device, micros(1))
    world.see(connection(2)).finish()

    assert [(alert["Kind"], alert["Count"]) for alert in latest(world.alerts, "AlertId")] == [("bypassed", 1)]
