"""Connections that left the state: a late record makes no second row; a new connection of the 5-tuple has its own."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from schemas.clock import iso_micros
from schemas.events import ConnectionOpened, Event
from schemas.settings import CorrelationSettings
from schemas.tables import NetworkEvent
from streams.correlate import departed
from streams.correlate.departed import Tombstones, departed_flow, tombstone_of
from streams.model.connection import GROUP_MAX, Connection
from streams.model.device import Device
from streams.pipeline import Message, Pipeline
from tests.factories import (
    FLOW,
    PORT,
    PROXY,
    Row,
    World,
    as_row,
    connection,
    flow_end,
    latest,
    micros,
    request,
    verdict,
)

ZEEK_FLOW = "CHhAvVGS1DHFjwGM9"


def passed(world: World, until: float, step: float = 50) -> World:
    """Advance the device's clock to that time by other connections."""
    at = world.device.facts.now / 1e6 - micros(0) / 1e6
    while (at := at + step) < until:
        world.see(connection(at, port=1, remote="203.0.113.5", ended=at + 0.1))
    return world


def hops(world: World) -> list[dict[str, object]]:
    """Return the connection rows of the 5-tuple of these tests."""
    return [row for row in world.connections if row["LocalPort"] == PORT]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("flow", "timeout"), [(FLOW, 611), (ZEEK_FLOW, 300)], ids=["suricata", "zeek"])
def test_the_flow_record_of_a_blocked_connection_makes_no_second_row(
    flow: str, timeout: float, restarted: bool
) -> None:
    """It arrives when the timeout of established flows expires, long after the connection departed."""
    world = World().see(connection(0, ended=0.3), verdict(0.1, flow=flow))
    passed(world, timeout)
    assert not any(str(PORT) in key.split() for key in world.device.groups)

    if restarted:
        world.restart()
    world.see(flow_end(timeout + 0.3, started=0, ended=0.3, flow=flow)).wait(20)
    (hop,) = hops(world.finish())
    assert (hop["Outcome"], hop["InitiatingProcessId"], hop["FlowId"]) == ("blocked", 4711, flow)
    assert world.counts["late"] == 1


def test_a_connection_whose_flow_record_is_to_come_waits_for_it() -> None:
    """Where the sensor writes flow records the connection stays longer, and its row is updated."""
    world = World().see(flow_end(0, started=-5, ended=-4, port=9, flow="9"))
    world.see(connection(1, ended=1.3), verdict(1.1))
    passed(world, 612).see(flow_end(612, started=1, ended=1.3, sent=77)).wait(20)
    (hop,) = hops(world.finish())
    versions = [int(str(row["Version"])) for row in world.versions if row["RecordId"] == hop["RecordId"]]

    assert (hop["Outcome"], hop["BytesSent"], "late" in world.counts) == ("blocked", 77, False)
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("reused_after", [130, 400, 590])
def test_a_new_connection_of_the_5_tuple_has_its_own_row(reused_after: float) -> None:
    """An endpoint record, another flow id or another start makes a new connection, not a late record."""
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
    "flow without a report": ([connection(0, ended=5)], flow_end(615, started=0.001, ended=5)),
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
    """Whatever the sensor and the match, connection and destination keep their rows and versions."""
    events, late = LATE[case]
    world = passed(World(proxies=[f"{PROXY}:3128"]).see(*events), 480)
    before = [row for row in world.rows if row["LocalPort"] == PORT]
    world.see(late).wait(20).finish()

    assert [row for row in world.rows if row["LocalPort"] == PORT] == before
    assert (world.counts["late"], len(hops(world))) == (1, 1)


def test_a_late_verdict_is_still_reported() -> None:
    """A late verdict's row, alert and new destination are emitted under the departed connection's id."""
    late = replace(verdict(400), started=micros(0))
    world = passed(World().see(connection(0, ended=5)), 400).see(late).finish()
    (hop,), (row,) = hops(world), world.destinations

    assert (row["DestinationHost"], row["ConnectionId"]) == ("bad.example", hop["ConnectionId"])
    assert [alert["Kind"] for alert in latest(world.alerts, "AlertId")] == ["blocked"]


def socket_line(device: str) -> bytes:
    """The endpoint's record of one connection of a device, as `sockets` reads it."""
    at = iso_micros(micros(0))
    line = {"device": device, "pid": 7, "process": "curl", "local_ip": "10.0.0.7", "local_port": PORT, "ts_attempt": at}
    line |= {"remote_ip": PROXY, "remote_port": 3128, "result": "success", "ts_established": at}
    return json.dumps(line).encode()


@pytest.mark.parametrize("restarted", [False, True])
def test_beyond_the_bound_of_a_device_no_flow_record_makes_a_second_row(
    monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    """The oldest tombstone is forgotten; its connection's flow record still counts as late, also after a restart."""
    monkeypatch.setattr(departed, "DEPARTED_MAX", 4)
    world, ends = World(linger_secs=1, proxies=[f"{PROXY}:3128"]), []
    for number in range(3):
        at, port, flow = number * 20, PORT + number, str(number)
        world.see(connection(at, port=port, pid=port, ended=at + 0.3), verdict(at + 0.1, port=port, flow=flow))
        passed(world, at + 19, step=6)
        ends.append(flow_end(60, started=at, ended=at + 0.3, port=port, flow=flow))
    remembered = [key for period in world.device.departed.values() for key in period]
    forgotten = world.counts["departed_forgotten"]
    assert (len(remembered), world.device.departed_count, world.pipeline.book().get("departed", 0)) == (4, 4, 4)
    assert [any(f" {PORT + number} " in key for key in remembered) for number in range(3)] == [False, True, True]

    if restarted:
        world.restart()
    rows = world.see(*ends).finish().connections
    hops_by_port = [[row for row in rows if row["LocalPort"] == PORT + number] for number in range(3)]
    assert [len(hops) for hops in hops_by_port] == [1, 1, 1]
    assert (world.counts["late"], world.counts["departed_forgotten"] >= forgotten > 0) == (3, True)
    assert [(hop["Outcome"], hop["InitiatingProcessId"]) for (hop,) in hops_by_port] == [
        ("blocked", PORT + n) for n in range(3)
    ]


def forgotten_at(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a device at 160 s whose connection of 0 to 5 s is forgotten, like others that ended by 21 s."""
    monkeypatch.setattr(departed, "DEPARTED_MAX", 1)
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0, ended=5), request(0.1, "a.example:443"))
    world.see(*(connection(at, port=at, remote="203.0.113.5", ended=at + 1) for at in (8, 10, 20)))
    passed(world, 170, step=20)
    assert world.device.facts.forgotten_ended == micros(21)
    return world


FORGOTTEN: dict[str, list[Event]] = {
    "its flow record": [flow_end(165, started=0, ended=5)],
    "its flow record, and another network sensor's": [
        flow_end(165, started=0, ended=5),
        flow_end(165, started=0.2, ended=5, flow=ZEEK_FLOW),
    ],
    "flow seen from the middle": [flow_end(165, started=1, ended=5, midstream=True)],
    "repeated request": [request(0.1, "a.example:443")],
    "a further request": [request(1, "b.example:443")],
    "its flow record while its 5-tuple is used again": [connection(150), flow_end(165, started=0, ended=5)],
}


@pytest.mark.parametrize("case", FORGOTTEN)
def test_no_evidence_of_a_forgotten_connection_makes_a_row(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Late evidence of a forgotten connection makes no row of a connection or destination."""
    world = forgotten_at(monkeypatch)
    before = [row for row in world.rows if row["LocalPort"] == PORT]
    world.see(*FORGOTTEN[case]).wait(20).finish()
    after = [row for row in world.rows if row["LocalPort"] == PORT]

    assert [row for row in after if row["InitiatingProcessId"] is None or row["FlowId"] or row in before] == before
    assert world.counts["late"] == sum(not isinstance(event, ConnectionOpened) for event in FORGOTTEN[case])


def test_a_late_verdict_of_a_forgotten_connection_is_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict's row and alert are emitted; no row of a connection or destination."""
    world = forgotten_at(monkeypatch)
    before = list(world.rows)
    world.see(verdict(4)).finish()

    assert [row for row in world.rows if row["LocalPort"] == PORT] == [r for r in before if r["LocalPort"] == PORT]
    assert [row["LocalPort"] for row in world.verdicts] == [PORT]
    assert [alert["Kind"] for alert in latest(world.alerts, "AlertId")] == ["blocked"]


NEW: dict[str, Event] = {
    "a flow that ended after the last forgotten connection": flow_end(165, started=2, ended=44.4, port=9, flow="9"),
    "a flow that began after it": flow_end(165, started=44, ended=44.4, port=9, flow="9"),
    "a request at this time": request(165, "a.example:443", port=9, flow="9"),
    "the endpoint's record": connection(4, port=9, ended=5),
}


@pytest.mark.parametrize("case", NEW)
def test_a_connection_that_is_not_a_forgotten_one_has_its_row(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Evidence later than the forgotten connections is of another one; an endpoint record always makes a row."""
    world = forgotten_at(monkeypatch).see(NEW[case]).wait(20).finish()

    assert [row["LocalPort"] for row in world.connections if row["LocalPort"] == 9] == [9]
    assert "late" not in world.counts


def test_the_flow_record_of_an_open_connection_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open connection that existed beside the forgotten ones may have the evidence."""
    monkeypatch.setattr(departed, "DEPARTED_MAX", 1)
    world = World(proxies=[f"{PROXY}:3128"]).see(connection(0))
    world.see(*(connection(at, port=at, remote="203.0.113.5", ended=at + 1) for at in (8, 10, 20)))
    passed(world, 170, step=20).see(flow_end(165, started=1.5, ended=5, sent=77)).wait(20)

    assert world.device.facts.forgotten_ended > 0
    assert "late" not in world.finish().counts


MARKS = {
    "in force": (11, 800, 5, 0),
    "the flow ended within linger_secs": (170, 800, 100, 1),
    "the tombstone would have expired": (11, 164, 5, 1),
    "the clock was set back": (166, 800, 5, 1),
}


@pytest.mark.parametrize("case", MARKS)
def test_forgotten_connections_matter_for_a_time(case: str) -> None:
    """They do not affect flows that may be in the state, later periods, or another clock."""
    ended, until, flow_ended, expected = MARKS[case]
    world = passed(World().see(connection(0, ended=5)), 160, step=20)
    facts = world.device.facts
    facts.forgotten_ended, facts.forgotten_until = micros(ended), micros(until) // 10**6
    world.see(flow_end(165, started=flow_ended - 1, ended=flow_ended, port=9, flow="9")).wait(20).finish()

    assert len([row for row in world.connections if row["LocalPort"] == 9]) == expected


def test_a_further_connection_of_a_remembered_5_tuple_forgets_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound counts 5-tuples per period; forgotten connections are counted."""
    tombstones, device, left = Tombstones(CorrelationSettings()), Device("dev"), Connection()
    monkeypatch.setattr(departed, "DEPARTED_MAX", 2)
    assert [tombstones.add(device, key, left) for key in ("a", "b", "a", "c")] == [0, 0, 0, 2]

    assert [list(period) for period in device.departed.values()] == [["b", "c"]]


def test_beyond_the_bound_of_a_partition_a_device_forgets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device can evict another device's tombstones."""
    tombstones, one, other, left = Tombstones(CorrelationSettings()), Device("one"), Device("other"), Connection()
    monkeypatch.setattr(departed, "DEPARTED_TOTAL_MAX", 2)
    assert [tombstones.add(one, "a", left), tombstones.add(one, "b", left)] == [0, 0]
    other.facts.now, other_left = micros(9), Connection(first=micros(1), flow_ended=micros(2))
    assert [tombstones.add(other, "c", other_left), tombstones.add(one, "d", left)] == [1, 1]
    assert (other.facts.forgotten_ended, one.facts.forgotten_ended) == (micros(2), 0)

    assert [list(period) for period in one.departed.values()] == [["b", "d"]]
    assert (other.departed, one.departed_count, tombstones.total) == ({}, 2, 2)


def test_the_bound_of_a_partition_holds_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored tombstones count; those of an evicted device do not."""
    pipeline, device = Pipeline(CorrelationSettings()), Device("dev")
    for number in range(3):
        pipeline.correlator.table.tombstones.add(device, str(number), Connection())
    pipeline.devices["dev"] = pipeline.store.changed["dev"] = device
    restored = Pipeline(CorrelationSettings(devices_max=64))
    restored.restore(pipeline.checkpoint())
    assert restored.book()["departed"] == 3

    monkeypatch.setattr(departed, "DEPARTED_TOTAL_MAX", 3)
    assert restored.correlator.table.tombstones.add(restored.devices["dev"], "3", Connection()) == 1
    assert [list(period) for period in restored.devices["dev"].departed.values()] == [["1", "2", "3"]]
    restored.take(Message(0, 0, b"", b"\n".join(socket_line(f"dev-{number}") for number in range(64)), "sockets"))
    assert restored.book().get("departed", 0) == 0


def test_the_oldest_of_many_connections_of_a_5_tuple_is_forgotten() -> None:
    """With more than `GROUP_MAX` in one period the oldest is forgotten, and each is counted."""
    tombstones, device = Tombstones(CorrelationSettings()), Device("dev")
    left = [Connection(flow_id=str(number), first=1, flow_kinds=("number",)) for number in range(GROUP_MAX + 2)]
    forgotten = [tombstones.add(device, "key", connection) for connection in left]

    assert forgotten == [0] * GROUP_MAX + [1, 1]
    assert departed_flow(device, "key", "1", "number", 1, 1, 1) is None
    assert departed_flow(device, "key", "2", "number", 1, 1, 1) == tombstone_of(left[2])


def test_tombstones_expire_by_the_devices_clock() -> None:
    """Silence alone expires none before a day; the setting overrides what sensors declare."""
    world = passed(World(flow_timeout_secs=60).see(connection(0, ended=1)), 200)
    assert world.device.departed_count > 0

    world.wait(3_600)
    kept = world.device.departed_count
    passed(world.see(connection(210, port=2, ended=211)), 400, step=10)
    assert kept > 0
    assert all(second * 10**6 > world.device.facts.now for second in world.device.departed)
    world.wait(90_000).wait(1)
    assert (world.device.departed, world.device.departed_count, world.pipeline.book().get("departed", 0)) == ({}, 0, 0)


def test_a_tombstone_is_small() -> None:
    """A state entry has the bytes per connection, 5-tuple included, that docs/design/bounds.md documents."""
    world = World().see(connection(0, ended=0.3), verdict(0.1, flow="1953470231846123"))
    (group,) = (world.device.group(key) for key in world.device.groups)
    assert group is not None
    pipeline, device = Pipeline(CorrelationSettings()), Device("dev")
    pipeline.devices["dev"] = pipeline.store.changed["dev"] = device
    for port in range(10_000, 11_000):
        pipeline.correlator.table.tombstones.add(device, f"10.0.123.7 {port} 10.9.9.9 3128", group[0])

    assert sum(len(key) + len(value) for key, value in pipeline.checkpoint()) / 1_000 <= 107


def socket_record(at: float, port: int, pid: int) -> bytes:
    """The endpoint's record of a connection that lasted 0.3 s."""
    line = {"device": "dev", "pid": pid, "process": "curl", "local_ip": "10.0.0.7", "local_port": port}
    line |= {"remote_ip": PROXY, "remote_port": 3128, "result": "success"}
    times = {"ts_attempt": at, "ts_established": at, "ts_closed": at + 0.3}
    return json.dumps(line | {name: iso_micros(micros(when)) for name, when in times.items()}).encode()


def suricata_record(at: float, port: int, flow_id: int, kind: str, **more: object) -> bytes:
    """A line of eve.json about the connection."""
    line = {"timestamp": iso_micros(micros(at)), "flow_id": flow_id, "event_type": kind, "host": "dev", "proto": "TCP"}
    line |= {"src_ip": "10.0.0.7", "src_port": port, "dest_ip": PROXY, "dest_port": 3128}
    return json.dumps(line | more).encode()


def zeek_record(at: float, port: int, uid: str) -> bytes:
    """A line of conn.log about a connection that lasted 0.3 s."""
    line: dict[str, object] = {
        "_path": "conn",
        "ts": micros(at) / 1e6,
        "uid": uid,
        "id.orig_h": "10.0.0.7",
        "id.orig_p": port,
    }
    line |= {"id.resp_h": PROXY, "id.resp_p": 3128, "proto": "tcp", "duration": 0.3, "conn_state": "S1"}
    line |= {"orig_bytes": 10, "resp_bytes": 20, "history": "ShAD"}
    return json.dumps(line).encode()


def day_of_cut_connections() -> list[tuple[float, str, bytes]]:
    """Return log time, dialect and line of 720 blocked connections over 12 ports, by both sensors' timeouts."""
    blocked = {"action": "blocked", "signature": "listed"}
    http = {"hostname": "bad.example", "url": "bad.example:443", "http_method": "CONNECT"}
    lines: list[tuple[float, str, bytes]] = []
    for number in range(720):
        at, port, flow = number * 120.0, PORT + number % 12, 1_000 + number
        lines.append((at + 0.3, "sockets", socket_record(at, port, number + 1)))
        alert = suricata_record(at + 0.1, port, flow, "alert", alert=blocked, http=http)
        lines.append((at + 0.31, "suricata", alert))
        if number % 2:
            times = {"start": iso_micros(micros(at)), "end": iso_micros(micros(at + 0.3))}
            flow_line = times | {"state": "established", "reason": "timeout"}
            lines.append((at + 611, "suricata", suricata_record(at + 611, port, flow, "flow", flow=flow_line)))
        else:
            lines.append((at + 300.3, "zeek", zeek_record(at, port, f"C{number:017d}")))
    return sorted(lines)


def test_a_day_of_cut_connections_has_one_row_each() -> None:
    """With the default timeouts of Suricata and Zeek, ports reused, and a restart each hour."""
    entries: dict[bytes, bytes] = {}
    pipeline, restored_at, made = Pipeline(CorrelationSettings()), 0.0, list[Row]()
    for offset, (at, dialect, line) in enumerate(day_of_cut_connections()):
        pipeline.take(Message(offset, micros(at) // 1_000, b"dev", line, dialect, keyed=True))
        made += (as_row(row, NetworkEvent) for row in pipeline.drain().network_events)
        entries.update(pipeline.checkpoint())
        if at - restored_at >= 3_600:
            pipeline, restored_at = Pipeline(CorrelationSettings()), at
            pipeline.restore(entries.items())
    pipeline.finish()
    made += (as_row(row, NetworkEvent) for row in pipeline.drain().network_events)
    rows = [row for row in latest(made) if row["Layer"] == "connection"]
    book = pipeline.book()

    assert len(rows) == len({(row["LocalPort"], row["InitiatingProcessId"]) for row in rows}) == 720
    assert {row["Outcome"] for row in rows} == {"blocked"}
    assert sorted(int(str(row["InitiatingProcessId"])) for row in rows) == list(range(1, 721))
    assert (book["read"], book["parsed"], book.get("late", 0) > 0) == (2_160, 2_160, True)
