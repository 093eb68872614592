"""Verdicts that name a process and no connection: joined to the one that fits, or unattributed with the reason."""

from __future__ import annotations

import json
from itertools import islice, permutations
from typing import Any

import pytest

from schemas.events import Action, Event, ProtectionMode
from schemas.indicator_input import Given
from streams.correlate.process_verdicts import CANDIDATES_MAX
from streams.correlate.program_index import LISTED_MIN
from tests.factories import (
    PORT,
    Row,
    World,
    connection,
    flow_end,
    latest,
    listing,
    mode,
    name,
    process_verdict,
    proxy_line,
    request,
    verdict,
    world_of,
)


def only(rows: list[Row]) -> Row:
    """Return the only row."""
    (row,) = latest(rows)
    return row


def additional(row: Row) -> Row:
    """Return the AdditionalFields of a row."""
    fields: Row = json.loads(str(row["AdditionalFields"]))
    return fields


def test_the_alert_is_emitted_at_once_and_the_row_joined_later() -> None:
    """The alert does not wait for the connection; a later version of the row names it."""
    world = World().see(connection(0), request(0.1, "bad.example:443"), process_verdict(0.2))
    (alert,) = world.alerts

    assert (alert["Kind"], alert["Count"], alert["InitiatingProcessFileName"]) == ("blocked", 1, "curl")
    world.finish()
    row = only(world.verdicts)
    assert row["ConnectionId"] == world.connections[0]["ConnectionId"]
    assert additional(row)["Confidence"] == "inferred"


@pytest.mark.parametrize("turned", [False, True])
def test_the_rows_of_the_connection_have_its_outcome(turned: bool) -> None:
    """A blocked request sets the outcome of both rows, whichever came first, though TCP succeeded."""
    events: list[Event] = [request(0.1, "bad.example:443"), process_verdict(0.2)]
    world = world_of([connection(0), *(events[::-1] if turned else events)])

    assert [row["Outcome"] for row in world.connections] == ["blocked"]
    assert [(row["DestinationHost"], row["Outcome"]) for row in world.destinations] == [("bad.example", "blocked")]
    assert [(a["Kind"], a["Count"]) for a in latest(world.alerts, "AlertId")] == [("blocked", 1)]


def test_a_direct_connection_by_its_name() -> None:
    """On a direct connection the name inside is the host."""
    direct: dict[str, Any] = {"remote": "203.0.113.9", "remote_port": 443}
    world = world_of(
        [connection(0, **direct), name(0.1, "bad.example", tunnelled=False, **direct), process_verdict(0.2)]
    )

    assert only(world.verdicts)["ConnectionId"] == world.connections[0]["ConnectionId"]
    assert world.connections[0]["Outcome"] == "blocked"


def test_the_verdict_names_the_destination_of_the_only_candidate() -> None:
    """With exactly one connection of the process to a proxy, and that without a destination, the verdict names it."""
    world = world_of([connection(0), process_verdict(0.2)], proxies=["10.9.9.9:3128"])
    (row,) = world.destinations

    assert (row["DestinationHost"], row["ResolvedBy"], row["Confidence"]) == ("bad.example", "process_time", "inferred")
    assert row["Outcome"] == "blocked"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([process_verdict(0.2)], "no_connection"),
        ([connection(0, process="wget"), request(0.1, "bad.example:443"), process_verdict(0.2)], "no_connection"),
        ([connection(0), request(0.1, "good.example:443"), process_verdict(0.2)], "no_connection"),
        ([connection(60), request(60.1, "bad.example:443"), process_verdict(0.2)], "no_connection"),
        ([connection(0, ended=1), request(0.1, "bad.example:443"), process_verdict(30)], "no_connection"),
        (
            [
                *(connection(0, port=port) for port in (1, 2)),
                *(request(0.1, "bad.example:443", port=port, flow=str(port)) for port in (1, 2)),
                process_verdict(0.2),
            ],
            "ambiguous",
        ),
        ([connection(0, pid=1), request(0.1, "bad.example:443"), process_verdict(0.2, pid=2)], "no_connection"),
    ],
    ids=["nothing", "another process", "another host", "not yet", "over", "two", "another PID"],
)
def test_a_verdict_is_unattributed_without_exactly_one_candidate(events: list[Event], why: str) -> None:
    """The row names the reason; the alert still counts the verdict."""
    world = world_of(events)
    row = only(world.verdicts)

    assert (row["ConnectionId"], additional(row)["Unjoined"]) == ("", why)
    assert [(a["Kind"], a["Count"]) for a in latest(world.alerts, "AlertId")] == [("blocked", 1)]
    assert all(row["Outcome"] != "blocked" for row in world.rows)


def test_of_two_candidates_the_one_that_asked_for_the_host_fits() -> None:
    """Of two connections of the process the one with that name has the verdict."""
    world = world_of(
        [
            connection(0, port=1),
            connection(0, port=2),
            request(0.1, "bad.example:443", port=2, flow="2"),
            process_verdict(0.2),
        ]
    )

    assert [row["LocalPort"] for row in world.connections if row["Outcome"] == "blocked"] == [2]


def test_a_later_request_of_a_kept_connection_counts_as_well() -> None:
    """The request with a verdict may be a kept connection's latest as well as another connection's only one."""
    kept: list[Event] = [
        connection(0, port=1),
        *(request(at, "http://bad.example/", tx=at, port=1, flow="1") for at in (1, 100)),
    ]
    other: list[Event] = [connection(96, port=2), request(97, "http://bad.example/", port=2, flow="2")]
    both = world_of(sorted([*kept, *other, process_verdict(100.1)], key=lambda event: event.at))

    assert additional(only(both.verdicts))["Unjoined"] == "ambiguous"
    assert {row["Outcome"] for row in both.rows} == {"allowed"}
    alone = world_of([*kept, process_verdict(100.1)])
    assert {row["Outcome"] for row in alone.rows} == {"blocked"}


def test_requests_whose_times_are_forgotten_may_be_the_one() -> None:
    """Only sixteen request times per destination are kept, so a later request cannot be excluded."""
    kept: list[Event] = [
        connection(0, port=1),
        *(request(at, "http://bad.example/", tx=at, port=1, flow="1") for at in range(1, 19)),
    ]
    other: list[Event] = [connection(96, port=2), request(97, "http://bad.example/", port=2, flow="2")]
    world = world_of([*kept, *other, process_verdict(100.1)])

    assert additional(only(world.verdicts))["Unjoined"] == "ambiguous"


THERE: dict[str, Any] = {"remote": "203.0.113.9", "remote_port": 443}
"""A server reached without a proxy."""


@pytest.mark.parametrize("listed", ["bad.example", "203.0.113.9"])
@pytest.mark.parametrize("stopped", ["bad.example", "203.0.113.9"])
def test_a_verdict_enforces_an_indicator_on_a_direct_connection(listed: str, stopped: str) -> None:
    """The indicator matches name or address and Defender stopped it: one request, one alert."""
    events: list[Event] = [
        connection(0, **THERE),
        name(0.1, "bad.example", tunnelled=False, **THERE),
        process_verdict(0.2, stopped),
    ]
    for order in permutations(events):
        world = World(listing(Given(listed, action="block"), modes=["dev-1=block"])).see(*order).finish()
        counts = {a["Kind"]: a["Count"] for a in latest(world.alerts, "AlertId") if a["Count"]}

        assert counts == {"blocked": 1}


def test_a_verdict_enforces_an_address_without_a_name() -> None:
    """The endpoint record alone describes the connection."""
    policy = listing(Given("203.0.113.9", action="block"), modes=["dev-1=block"])
    world = World(policy).see(connection(0, **THERE), process_verdict(0.2, "203.0.113.9")).finish()

    assert [(a["Kind"], a["Count"]) for a in latest(world.alerts, "AlertId")] == [("blocked", 1)]


@pytest.mark.parametrize("port", [0, 443])
@pytest.mark.parametrize(("action", "outcome"), [(Action.AUDITED, "audited"), (Action.BLOCKED, "blocked")])
def test_the_outcome_stays_when_the_request_comes_late(port: int, action: Action, outcome: str) -> None:
    """A CONNECT logged half a minute late gives the same destination, one request, the same outcome."""
    policy = listing(Given("bad.example", action="block"), modes=["dev-1=block"])
    world = World(policy, proxies=["10.9.9.9:3128"]).see(connection(0), process_verdict(0.2, action=action, port=port))
    world.wait(12).see(request(30, "bad.example:443")).wait(30).finish()
    (hop,) = world.connections
    (row,) = [row for row in world.destinations if not row["UnresolvedReason"]]

    assert (hop["Outcome"], row["Outcome"], row["ResolvedBy"]) == (outcome, outcome, "connect")
    assert (row["RequestCount"], hop["RequestCount"]) == (1, 1)
    assert {a["Kind"]: a["Count"] for a in latest(world.alerts, "AlertId") if a["Count"]} == {outcome: 1}


def test_another_request_that_comes_late_has_no_verdict() -> None:
    """The join was wrong: the request that the connection really made is not blocked."""
    world = World(proxies=["10.9.9.9:3128"]).see(connection(0), process_verdict(0.2)).wait(12)
    world.see(request(30, "good.example:443")).finish()
    (hop,) = world.connections
    found = {row["DestinationHost"]: (row["Outcome"], row["UnresolvedReason"]) for row in world.destinations}

    assert hop["Outcome"] == "allowed"
    assert found == {"bad.example": ("unknown", "superseded"), "good.example": ("allowed", "")}
    row, (alert,) = only(world.verdicts), latest(world.alerts, "AlertId")
    assert (row["ConnectionId"], additional(row)["Unjoined"]) == ("", "no_connection")
    assert (alert["Count"], alert["ProxyIP"], alert["Confidence"]) == (1, "", "exact")


@pytest.mark.parametrize("asked", ["good.example", "bad.example"])
def test_a_better_name_that_comes_late_gives_the_destination(asked: str) -> None:
    """SNI inside the tunnel and the proxy's log are no inference: they replace the inferred destination."""
    for late, by in ((name(20, asked), "sni"), (proxy_line(20, f"{asked}:443", started=0.1), "proxy_log")):
        world = World(proxies=["10.9.9.9:3128"]).see(connection(0), process_verdict(0.2)).wait(12)
        world.see(late).wait(30).finish()
        found = [
            (row["DestinationHost"], row["ResolvedBy"]) for row in world.destinations if not row["UnresolvedReason"]
        ]

        assert found == [(asked, by)]
        (hop,) = world.connections
        assert (hop["RemoteUrl"], hop["Outcome"]) == (
            f"{asked}:443", "blocked" if asked == "bad.example" else "allowed",
        )  # fmt: skip


def test_what_was_stopped_in_plain_is_not_in_the_log() -> None:
    """The proxy logs another request of the kept connection; the stopped one keeps its own row."""
    world = World(proxies=["10.9.9.9:3128"]).see(connection(0), process_verdict(0.2)).wait(12)
    world.see(proxy_line(20, "http://good.example/", started=19.9)).wait(30).finish()
    found = {row["DestinationHost"]: row["Outcome"] for row in world.destinations if not row["UnresolvedReason"]}

    assert found == {"bad.example": "blocked", "good.example": "allowed"}


def test_the_outcome_stays_when_the_flow_is_reported_late() -> None:
    """The verdict follows the process's endpoint record to the flow that turns out to be its own."""
    world = World().see(connection(0, ended=3, **THERE), process_verdict(0.2, "203.0.113.9")).wait(12)
    assert [row["Outcome"] for row in world.connections] == ["blocked"]

    world.see(flow_end(65, started=0.5, ended=3.5, **THERE)).wait(30).finish()
    assert [(row["Outcome"], row["FlowId"]) for row in world.connections] == [("blocked", "77")]


def test_a_mode_that_is_known_late_is_on_the_verdict() -> None:
    """An unattributed verdict's row gets a new version with the mode of its time."""
    world = World().see(process_verdict(5, action=Action.AUDITED)).wait(20)
    assert only(world.verdicts)["ProtectionMode"] == "audit"

    world.see(mode(0, ProtectionMode.BLOCK))
    assert only(world.verdicts)["ProtectionMode"] == "block"


def test_the_same_verdict_twice_is_one() -> None:
    """A verdict that was collected twice counts once."""
    world = world_of([connection(0), request(0.1, "bad.example:443"), process_verdict(0.2), process_verdict(0.2)])

    assert len(latest(world.verdicts)) == 1
    assert [a["Count"] for a in latest(world.alerts, "AlertId")] == [1]


def test_verdicts_of_two_sensors_on_one_request_count_once() -> None:
    """The network sensor's verdict names the connection and counts; the process verdict adds none."""
    world = world_of([connection(0), request(0.1, "bad.example:443"), verdict(0.1), process_verdict(0.2)])

    assert [(a["Kind"], a["Count"]) for a in latest(world.alerts, "AlertId")] == [("blocked", 1)]


@pytest.mark.parametrize("turned", [False, True])
def test_a_warning_that_the_user_clicked_away(turned: bool) -> None:
    """Warned, then bypassed, by one process for one host is one request."""
    events: list[Event] = [
        process_verdict(1, action=Action.WARNED),
        process_verdict(4, action=Action.BYPASSED, number=1),
    ]
    world = world_of(events[::-1] if turned else events)
    counts = {a["Kind"]: a["Count"] for a in latest(world.alerts, "AlertId") if a["Count"]}

    assert counts == {"bypassed": 1}


def test_a_join_in_any_order_gives_the_same_rows() -> None:
    """A late connection, request or verdict gives the same rows."""
    events: list[Event] = [connection(0), request(0.1, "bad.example:443"), process_verdict(0.2)]
    pictures = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        world = world_of([events[at] for at in order])
        pictures.append({row["RecordId"]: {**row, "Version": 0} for row in (*world.rows, *latest(world.verdicts))})

    assert pictures[0] == pictures[1] == pictures[2]


def retried(count: int, verdicts: int, *, action: Action = Action.BLOCKED) -> list[Event]:
    """Return a process's connections to one host at once, and verdicts on some of their requests."""
    events: list[Event] = []
    for number in range(count):
        at, port = number / 10, PORT + number
        events += [connection(at, port=port), request(at + 0.02, "bad.example:443", port=port, flow=str(port))]
    return events + [process_verdict(0.05 + number / 10, action=action, number=number) for number in range(verdicts)]


def counts(world: World) -> dict[object, object]:
    """Return what alerts count, without withdrawn ones."""
    return {alert["Kind"]: alert["Count"] for alert in latest(world.alerts, "AlertId") if alert["Count"]}


@pytest.mark.parametrize(("action", "outcome"), [(Action.BLOCKED, "blocked"), (Action.AUDITED, "audited")])
def test_as_many_verdicts_as_connections(action: Action, outcome: str) -> None:
    """As many verdicts as retried connections: each has one, in any order of arrival and any batches."""
    policy = listing(Given("bad.example", action="block"), modes=["dev-1=block"])
    for order in islice(permutations(retried(2, 2, action=action)), 0, 720, 41):
        for world in (World(policy).see(*order), World(policy).see_together(*order)):
            world.see(connection(20, port=1, process="other")).finish()

            assert counts(world) == {outcome: 2}
            assert [row["Outcome"] for row in world.rows if row["LocalPort"] != 1] == [outcome] * 4
            ends = {row["LocalPort"]: row["ConnectionId"] for row in world.connections}
            verdicts = sorted(latest(world.verdicts), key=lambda row: str(row["Timestamp"]))
            assert [row["ConnectionId"] for row in verdicts] == [ends[PORT], ends[PORT + 1]]


@pytest.mark.parametrize(
    "events",
    [
        retried(3, 2),
        retried(2, 3),
        [*retried(2, 1), process_verdict(0.15, action=Action.AUDITED, number=1)],
        retried(2, 2, action=Action.WARNED),
        # One connection that fits only the second verdict.
        [
            *retried(2, 1),
            process_verdict(4, number=1),
            connection(3, port=1),
            request(3.1, "bad.example:443", port=1, flow="1"),
        ],
        # By name and by address: both may belong to one request.
        [
            *(connection(0, port=port, **THERE) for port in (1, 2)),
            *(
                name(0.1, "bad.example", port=port, flow=str(port), tunnelled=False, **THERE)
                for port in (1, 2)
            ),
            process_verdict(0.2),
            process_verdict(0.3, "203.0.113.9"),
        ],
    ],
    ids=["more connections", "more verdicts", "block and audit", "warned", "another one", "name and address"],
)  # fmt: skip
def test_an_ambiguous_set_of_verdicts_is_unattributed(events: list[Event]) -> None:
    """Each verdict of the set is unattributed, in any order of arrival."""
    for order in (events, events[::-1], sorted(events, key=lambda event: event.at)):
        world = world_of(order)

        assert {(row["ConnectionId"], additional(row)["Unjoined"]) for row in latest(world.verdicts)} == {
            ("", "ambiguous")
        }
        assert {row["Outcome"] for row in world.rows} == {"allowed"}


def test_what_comes_after_a_set_was_joined_changes_it_no_more() -> None:
    """A further verdict or connection of the process does not change the set."""
    events = sorted(retried(2, 2), key=lambda event: event.at)
    later = [
        connection(30, port=1),
        request(30.1, "bad.example:443", port=1, flow="1"),
        process_verdict(30.2, number=9),
    ]
    for more, unjoined in (([process_verdict(6, number=9)], ["ambiguous"]), (later, [])):
        world = world_of([*events, *more])
        left = [row for row in latest(world.verdicts) if not row["ConnectionId"]]

        assert [additional(row)["Unjoined"] for row in left] == unjoined
        assert {row["Outcome"] for row in world.rows} == {"blocked"}


@pytest.mark.parametrize("others", [1_900, 2_100])
def test_connections_in_between_do_not_hide_one_that_fits(others: int) -> None:
    """Two connections of the program asked for the host: ambiguous, however many others began in between."""
    world = World().see(connection(0, port=1, pid=1), request(0.1, "bad.example:443", port=1, flow="1"))
    world.see_together(
        *(connection(0.2 + 0.001 * number, port=100 + number, process="other") for number in range(others))
    )
    world.see(connection(3, port=2, pid=2), request(3.1, "bad.example:443", port=2, flow="2"), process_verdict(3.2))

    row = only(world.finish().verdicts)
    assert (row["ConnectionId"], additional(row)["Unjoined"]) == ("", "ambiguous")
    assert {hop["Outcome"] for hop in world.connections if hop["DestinationHost"] == "bad.example"} == {"allowed"}


@pytest.mark.parametrize("restarted", [False, True])
def test_other_programs_do_not_count_as_candidates(restarted: bool) -> None:
    """The program's only fitting connection is found among any others, by name or PID, also after a restart."""
    world = World().see(connection(0, port=1, process="Curl"), request(0.1, "bad.example:443", port=1, flow="1"))
    world.see(process_verdict(0.2, "none.example", process="x")).wait(20)
    others = (connection(0.2 + 0.001 * number, port=100 + number, process="other") for number in range(2_100))
    world.see_together(*others, process_verdict(3.2))
    if restarted:
        world.restart()

    row = latest(world.finish().verdicts)[-1]
    (hop,) = (hop for hop in world.connections if hop["LocalPort"] == 1)
    assert (row["ConnectionId"], hop["Outcome"]) == (hop["ConnectionId"], "blocked")


def test_more_connections_of_the_program_than_are_looked_at_make_it_ambiguous() -> None:
    """At the bound of one decision the only connection that asked is found; with one more it is ambiguous."""
    for extra, why in ((0, None), (1, "ambiguous")):
        world = World().see(connection(0, port=1), request(0.1, "bad.example:443", port=1, flow="1"))
        world.see_together(*(connection(0.2, port=100 + number) for number in range(CANDIDATES_MAX - 1 + extra)))
        row = only(world.see(process_verdict(3.2)).finish().verdicts)

        assert additional(row).get("Unjoined") == why
        assert bool(row["ConnectionId"]) == (why is None)


def test_the_index_of_programs_does_not_outgrow_the_connections() -> None:
    """Connections that left the state leave the index."""
    world = World(linger_secs=1).see(connection(0), process_verdict(0.2)).wait(20)
    for number in range(3_000):
        world.see(connection(30 + number, port=1 + number, pid=number, ended=30.5 + number))
        world.see(*([process_verdict(31 + number, number=number)] if number % 100 == 0 else []))

    assert world.device.size < 50
    assert sum(map(len, (world.device.programs or {}).values())) <= LISTED_MIN
