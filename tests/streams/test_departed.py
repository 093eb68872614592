"""Connections that left the state: a late record makes no second row, a new connection of the 5-tuple has its own."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from schemas.events import Event
from streams.departed import tombstone_of
from streams.device import Device
from tests.factories import FLOW, PORT, PROXY, World, connection, flow_end, latest, micros, request, verdict

ZEEK_FLOW = "CHhAvVGS1DHFjwGM9"


def passed(world: World, until: float, step: float = 50) -> World:
    """Let the device's clock go on to that time: other connections begin meanwhile."""
    at = world.device.facts.now / 1e6 - micros(0) / 1e6
    while (at := at + step) < until:
        world.see(connection(at, port=1, remote="203.0.113.5", ended=at + 0.1))
    return world


def restart(world: World) -> World:
    """Take the device back from its items, as a worker that was killed does."""
    items = {item: packed for item, packed in world.device.items().items() if packed is not None}
    facts = msgspec.msgpack.decode(msgspec.msgpack.encode(world.device.facts), type=type(world.device.facts))
    world.device = Device(world.device.name)
    world.device.facts = facts
    world.device.take_back(items)
    return world


def hops(world: World) -> list[dict[str, object]]:
    """Connection rows of the 5-tuple that these tests are about."""
    return [row for row in world.connections if row["LocalPort"] == PORT]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("flow", "timeout"), [(FLOW, 611), (ZEEK_FLOW, 300)], ids=["suricata", "zeek"])
def test_the_flow_record_of_a_blocked_connection_makes_no_second_row(
    flow: str, timeout: float, restarted: bool
) -> None:
    """It comes when the timeout of established flows expires, long after the connection left."""
    world = World().see(connection(0, ended=0.3), verdict(0.1, flow=flow))
    passed(world, timeout)
    assert not any(str(PORT) in key.split() for key in world.device.groups)

    if restarted:
        restart(world)
    world.see(flow_end(timeout + 0.3, started=0, ended=0.3, flow=flow)).wait(20)
    (hop,) = hops(world.finish())
    assert (hop["Outcome"], hop["InitiatingProcessId"], hop["FlowId"]) == ("blocked", 4711, flow)
    assert world.counts["late"] == 1


def test_a_connection_whose_flow_record_is_to_come_waits_for_it() -> None:
    """Where the sensor is known to write such records, the row is updated under its own id."""
    world = World().see(flow_end(0, started=-5, ended=-4, port=9, flow="9"))
    world.see(connection(1, ended=1.3), verdict(1.1))
    passed(world, 612).see(flow_end(612, started=1, ended=1.3, sent=77)).wait(20)
    (hop,) = hops(world.finish())
    versions = [int(str(row["Version"])) for row in world.versions if row["RecordId"] == hop["RecordId"]]

    assert (hop["Outcome"], hop["BytesSent"], "late" in world.counts) == ("blocked", 77, False)
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("reused_after", [130, 400, 590])
def test_a_new_connection_of_the_5_tuple_has_its_own_row(reused_after: float) -> None:
    """By its endpoint's record, by another flow id, or by a start that differs: nothing of it is taken for late."""
    world = passed(World().see(connection(0, ended=0.3), verdict(0.1)), reused_after)
    again = reused_after + 0.5
    world.see(request(again + 0.1, "b.example:443", flow="78"), connection(again, pid=2, ended=again + 1))
    world.see(flow_end(again + 62, started=again, ended=again + 1, flow="78")).finish()

    assert [(hop["InitiatingProcessId"], hop["DestinationHost"]) for hop in hops(world)] == [
        (4711, "bad.example"),
        (2, "b.example"),
    ]
    assert "late" not in world.counts


LATE: dict[str, tuple[list[Event], Event]] = {
    "flow that nobody spoke of": ([connection(0, ended=5)], flow_end(615, started=0.001, ended=5)),
    "flow seen from the middle": ([connection(0, ended=5)], flow_end(615, started=1, ended=5, midstream=True)),
    "another network sensor": (
        [connection(0, ended=5), request(0.1, "a.example:443")],
        flow_end(305, started=0.2, ended=5, flow=ZEEK_FLOW),
    ),
    "no name for the flow": ([connection(0, ended=5)], flow_end(300, started=0, ended=5, flow="")),
    "repeated flow record": (
        [connection(0, ended=5), request(0.1, "a.example:443"), flow_end(66, started=0, ended=5)],
        flow_end(66, started=0, ended=5),
    ),
    "endpoint's record of a flow": (
        [request(0.1, "a.example:443"), flow_end(66, started=0, ended=5)],
        connection(0.01, ended=5),
    ),
    "repeated endpoint's record": ([connection(0, ended=5), request(0.1, "a.example:443")], connection(0, ended=5)),
    "repeated request": ([connection(0, ended=5), request(0.1, "a.example:443")], request(0.1, "a.example:443")),
}


@pytest.mark.parametrize("case", LATE)
def test_no_late_record_makes_a_second_row(case: str) -> None:
    """Whoever writes it, and however it is matched: connection and destination keep their rows and versions."""
    events, late = LATE[case]
    world = passed(World(proxies=[f"{PROXY}:3128"]).see(*events), 480)
    before = [row for row in world.rows if row["LocalPort"] == PORT]
    world.see(late).wait(20).finish()

    assert [row for row in world.rows if row["LocalPort"] == PORT] == before
    assert (world.counts["late"], len(hops(world))) == (1, 1)


def test_a_late_verdict_is_still_reported() -> None:
    """Row and alert of the verdict leave, and a destination that nobody told of, under the departed connection's id."""
    late = replace(verdict(400), started=micros(0))
    world = passed(World().see(connection(0, ended=5)), 400).see(late).finish()
    (hop,), (row,) = hops(world), world.destinations

    assert (row["DestinationHost"], row["ConnectionId"]) == ("bad.example", hop["ConnectionId"])
    assert [alert["Kind"] for alert in latest(world.alerts, "AlertId")] == ["blocked"]


def test_tombstones_expire_by_the_devices_clock() -> None:
    """Silence alone forgets none of them before a day; the setting overrides what sensors declare."""
    world = passed(World(flow_timeout_secs=60).see(connection(0, ended=1)), 200)
    assert world.device.departed_count > 0

    world.wait(3_600)
    kept = world.device.departed_count
    passed(world.see(connection(210, port=2, ended=211)), 400, step=10)
    assert kept > 0
    assert all(second * 10**6 > world.device.facts.now for second in world.device.departed)
    world.wait(90_000).wait(1)
    assert (world.device.departed, world.device.departed_count, world.correlator.tombstones.total) == ({}, 0, 0)


def test_a_tombstone_is_small() -> None:
    """Bytes in the state: documented in docs/design.md."""
    world = World().see(connection(0, ended=0.3), verdict(0.1, flow="1953470231846123"))
    (group,) = (world.device.group(key) for key in world.device.groups)
    assert group is not None
    tombstone = msgspec.msgpack.encode(tombstone_of(group[0]))

    assert len(tombstone) <= 64


def test_a_day_of_cut_connections_has_one_row_each() -> None:
    """By the default timeouts of Suricata and Zeek, ports used again, the state taken back from its entries each hour."""
    events: list[Event] = []
    for number in range(720):
        at, port = number * 120.0, PORT + number % 12
        flow, timeout = (f"{1_000 + number}", 611) if number % 2 else (f"C{number:017d}", 300)
        events += [
            connection(at, port=port, pid=number, ended=at + 0.3),
            verdict(at + 0.1, port=port, flow=flow),
            flow_end(at + timeout, started=at, ended=at + 0.3, port=port, flow=flow),
        ]
    world = World()
    for number, event in enumerate(sorted(events, key=lambda event: event.at)):
        world.see(event)
        if number % 90 == 0:
            restart(world)
    rows = world.finish().connections

    assert len(rows) == len({row["FlowId"] for row in rows}) == 720
    assert {row["Outcome"] for row in rows} == {"blocked"}
    assert sorted(int(str(row["InitiatingProcessId"])) for row in rows) == list(range(720))
