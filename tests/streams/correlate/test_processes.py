"""Process records: which one belongs to a connection, in any order, and which never does."""

from __future__ import annotations

import json
from itertools import permutations

import msgspec

from schemas.events import ConnectionOpened, Event, Process
from streams.model.device import PIDS_MAX
from tests.factories import (
    World,
    connection,
    flow_end,
    latest,
    program,
    program_end,
    request,
    verdict,
)

COMMAND = "curl -x proxy https://www.example.com"


def command_of(*events: Event) -> object:
    """Return the command line on the connection's row."""
    (row,) = World().see(*events).finish().connections
    return row["InitiatingProcessCommandLine"]


def of(event: ConnectionOpened, **changes: object) -> ConnectionOpened:
    """Return a connection with changed fields of its process."""
    return msgspec.structs.replace(event, process=msgspec.structs.replace(event.process, **changes))


def test_a_process_record_fills_the_rows() -> None:
    """It fills what the connection's own record lacks on both rows, and adds its id."""
    world = World().see(program(0), connection(5), request(5.1)).finish()

    for row in (*world.connections, *world.destinations):
        assert row["InitiatingProcessCommandLine"] == COMMAND
        assert (row["InitiatingProcessAccountName"], row["InitiatingProcessAccountDomain"]) == ("jane", "CORP")
        assert (row["InitiatingProcessParentId"], row["InitiatingProcessParentFileName"]) == (1, "bash")
        assert row["InitiatingProcessSHA256"] == "ab" * 32
        assert row["InitiatingProcessCreationTime"] == "2026-11-24T19:07:28.000000Z"
        assert json.loads(str(row["AdditionalFields"])) == {"ProcessEventId": "sysmon/1/4711/0"}


def test_verdicts_and_alerts_have_the_process_too() -> None:
    """The verdict's row and the alert have the command line, also when the process record came after them."""
    events: list[Event] = [program(0), connection(5), verdict(5.1)]
    for order in permutations(events):
        world = World().see(*order).finish()

        assert latest(world.verdicts)[0]["InitiatingProcessCommandLine"] == COMMAND
        assert latest(world.alerts, "AlertId")[0]["InitiatingProcessCommandLine"] == COMMAND


def test_fields_of_the_connection_record_stay() -> None:
    """Only gaps are filled: its account is kept, without the other record's domain."""
    (row,) = World().see(program(0), of(connection(5), account="1000")).finish().connections

    assert (row["InitiatingProcessAccountName"], row["InitiatingProcessAccountDomain"]) == ("1000", "")
    assert row["InitiatingProcessCommandLine"] == COMMAND


def test_a_process_record_in_any_order_gives_the_same_rows() -> None:
    """Start, end, connection, request and flow summary in any order give the same latest rows and versions."""
    events: list[Event] = [
        program(0, guid="a"),
        connection(5, ended=7),
        request(5.1),
        program_end(8, guid="a"),
        flow_end(8, started=5, ended=7),
    ]
    results = []
    for order in permutations(events):
        world = World().see(*order).finish()
        results.append({row["RecordId"]: row for row in world.rows})

    assert all(result == results[0] for result in results)
    assert all(row["InitiatingProcessCommandLine"] == COMMAND for row in results[0].values())


def test_a_later_record_raises_the_version() -> None:
    """A late record raises the version of emitted rows; its repeat does not."""
    world = World().see(connection(5), request(5.1))
    before = len(world.versions)
    world.see(program(0))
    after = len(world.versions)
    world.see(program(0)).finish()

    assert (before, after, len(world.versions)) == (2, 4, 4)
    assert all(row["InitiatingProcessCommandLine"] == COMMAND for row in world.rows)


def test_a_pid_used_again_is_another_process() -> None:
    """Each connection has the process that had the PID when it began."""
    first, second = program(0, "curl one"), program(10, "curl two")
    events: list[Event] = [first, connection(5, port=1), second, connection(15, port=2)]
    for order in permutations(events):
        rows = World().see(*order).finish().connections

        assert {row["LocalPort"]: row["InitiatingProcessCommandLine"] for row in rows} == {1: "curl one", 2: "curl two"}


def test_a_process_that_ended_connects_no_more() -> None:
    """With the end known and the next start of the PID unknown, the process is unknown, in both orders."""
    events: list[Event] = [program(0, guid="a"), program_end(4, guid="a"), connection(5)]
    for order in permutations(events):
        assert command_of(*order) == ""
    assert command_of(program(0, ended=4), connection(5)) == ""
    assert command_of(program(0, ended=6), connection(5)) == COMMAND


def test_the_end_of_a_process_whose_start_is_not_known() -> None:
    """Another process had the PID since: the older record does not apply to the connection."""
    events: list[Event] = [program(0, guid="a"), program_end(9, guid="b"), connection(10)]
    for order in permutations(events):
        assert command_of(*order) == ""


def test_a_process_that_began_later_did_not_connect() -> None:
    """Records of one machine may be milliseconds out of order; with two candidates none applies."""
    assert command_of(connection(5), program(5.004)) == COMMAND
    assert command_of(connection(5), program(5.1)) == ""
    assert command_of(program(0, "curl one"), connection(5), program(5.004, "curl two")) == ""
    assert command_of(program(0, "sh -c", process="sh"), program(4.999), connection(5)) == COMMAND


def test_the_program_must_be_the_same() -> None:
    """By path where both records have it, with a drive as its device; else by name, which Linux cuts."""
    path = "C:\\Windows\\System32\\Curl.exe"
    volume = "\\device\\harddiskvolume2\\windows\\system32\\curl.exe"
    device = of(connection(5), name="curl.exe", path=volume)

    assert command_of(program(0, process="Curl.exe", path=path), device) == COMMAND
    assert command_of(program(0, process="Curl.exe", path="C:\\Users\\Curl.exe"), device) == ""
    assert command_of(program(0, process="wget"), connection(5)) == ""
    assert command_of(program(0, process="a-very-long-name-of-it"), connection(5, process="a-very-long-nam")) == COMMAND
    assert command_of(program(0), of(connection(5), name="")) == COMMAND


def test_the_sensors_own_name_of_a_process_decides() -> None:
    """With a GUID on both records only that process applies, not another of the same PID and program."""
    mine = of(connection(5), guid="b")

    assert (
        command_of(program(0, "one", guid="a"), program(3, "two", guid="b"), program(4, "three", guid="c"), mine)
        == "two"
    )
    assert command_of(program(0, "one", guid="a"), mine) == ""


def test_the_process_start_of_a_connection_must_agree() -> None:
    """A process start on the connection's record excludes a process record of another start."""
    assert command_of(program(0), of(connection(5), started=connection(3).started)) == ""
    assert command_of(program(3), of(connection(5), started=connection(3).started)) == COMMAND


def test_a_command_line_of_the_connection_record_stays() -> None:
    """Fields of the connection's own sensor are not mixed with another record."""
    (row,) = World().see(program(0), of(connection(5), command_line="own")).finish().connections

    assert (row["InitiatingProcessCommandLine"], row["AdditionalFields"]) == ("own", "")


def test_it_survives_a_restart() -> None:
    """Process records from before and after a restart apply alike."""
    early = World().see(program(0)).restart().see(connection(5), request(5.1)).finish()
    late = World().see(connection(5), request(5.1)).restart().see(program(0)).finish()
    ended = World().see(program(0, guid="a"), connection(5)).restart().see(program_end(4, guid="a")).restart()

    assert early.rows == late.rows
    assert [row["InitiatingProcessCommandLine"] for row in early.rows] == [COMMAND] * 2
    assert [row["InitiatingProcessCommandLine"] for row in ended.finish().rows] == [""]


def test_changes_are_written_alone() -> None:
    """A checkpoint writes only PIDs with a new record."""
    world = World().see(program(0), program(0, pid=5))
    world.device.changes()
    world.see(program(1, pid=5))

    assert [item for item in world.device.changes() if item[0] == "r"] == ["r5"]


def test_memory_is_bounded() -> None:
    """Ended processes are evicted first, then the oldest, and counted; a connection keeps its process."""
    world = World().see(program(0, pid=1), connection(1, pid=1), request(1.1))
    for pid in range(2, 3 * PIDS_MAX):
        world.see(program(2 + pid / 1000, pid=pid))
        assert len(world.device.processes) <= PIDS_MAX
    world.see(request(9, tx=1)).finish()

    assert 1 not in world.device.processes
    assert all(row["InitiatingProcessCommandLine"] == COMMAND for row in world.rows)
    assert world.counts["processes_forgotten"] > PIDS_MAX


def test_processes_that_are_over_do_not_pile_up() -> None:
    """Processes leave the state minutes after their end, long before the bound."""
    world = World()
    for number in range(1_000):
        world.see(program(10 * number, pid=number, ended=10 * number + 1))

    assert len(world.device.processes) < 100
    assert "processes_forgotten" not in world.counts


def test_connections_that_left_are_not_asked_for() -> None:
    """The index of a PID's connections drops a connection with its departure."""
    world = World().see(program(0), connection(5, ended=6), connection(7, pid=9, ended=8, port=50_000))
    assert set(world.device.by_pid or {}) == set()
    world.finish()
    assert set(world.device.by_pid or {}) == {4711, 9}
    world.see(program(10_000, pid=77), program(10_001, pid=78))

    assert not world.device.groups
    assert world.device.by_pid == {}


def test_a_device_without_process_records_keeps_nothing() -> None:
    """Without process records no PID is stored."""
    world = World().see(connection(5), request(5.1)).finish()

    assert world.device.by_pid is None
    assert not any(item.startswith("r") for item in world.device.items())


def test_a_connection_without_a_pid_has_no_process_record() -> None:
    """Without an endpoint record, or without a PID in it, no process record applies."""
    assert command_of(program(0), request(5), flow_end(9, started=5, ended=8)) == ""
    assert command_of(program(0), msgspec.structs.replace(connection(5), process=Process(None, "curl"))) == ""
