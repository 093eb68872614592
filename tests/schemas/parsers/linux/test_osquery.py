"""The traps of osquery's results (tests/data/osquery); which of them are constructed, its README states."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import ConnectionOpened, Ignored, Process, Reason, Reject
from schemas.parsers.linux.osquery import claims, device_of, parse, split

DATA = Path(__file__).parents[3] / "data" / "osquery"
AT = 1_741_079_721_000_000
CONNECT = {
    "action": "connect",
    "auid": "1000",
    "family": "2",
    "protocol": "6",
    "local_address": "198.51.100.11",
    "local_port": "52817",
    "path": "/usr/bin/curl",
    "pid": "7412",
    "remote_address": "198.51.100.80",
    "remote_port": "3128",
    "status": "succeeded",
    "time": "1741079721",
}


def reported(of: dict[str, Any] = CONNECT, **parts: object) -> Any:
    """What becomes of a result; its device is reported before it is parsed, too."""
    line = {
        "name": "pack_net_sockets",
        "hostIdentifier": "Dev-A.corp.example.",
        "unixTime": 1741079730,
        "action": "added",
        "columns": of,
    }
    raw = json.dumps({name: part for name, part in {**line, **parts}.items() if part is not None}).encode()
    parsed = parse(raw)
    assert isinstance(parsed, Reject) or device_of(raw) == parsed.device
    assert claims(raw)
    return parsed


@pytest.mark.parametrize(("name", "events", "ignored"), [("docs.jsonl", 0, 2), ("traps.constructed.jsonl", 7, 9)])
def test_every_line_of_the_samples_is_read(name: str, events: int, ignored: int) -> None:
    """None is rejected, and each is claimed."""
    lines = gzip.decompress((DATA / f"{name}.gz").read_bytes()).splitlines()
    parsed = [parse(raw) for raw in lines]

    assert sum(isinstance(one, ConnectionOpened) for one in parsed) == events
    assert sum(isinstance(one, Ignored) for one in parsed) == ignored
    assert len(parsed) == events + ignored
    assert all(claims(raw) for raw in lines)


def test_a_connect_with_its_local_port_is_a_connection() -> None:
    """The time is the event's, in whole seconds, not the query's."""
    opened = reported()

    assert opened == ConnectionOpened(
        *("dev-a.corp.example", AT, opened.flow, AT, AT, 0, False),
        Process(7412, "curl", "/usr/bin/curl", account="1000"),
        "osquery/connect/52817/1741079721",
        "osquery",
    )
    assert opened.flow.key == "198.51.100.11 52817 198.51.100.80 3128"


@pytest.mark.parametrize(
    ("status", "established", "failed"),
    [
        ("succeeded", AT, False),
        ("success", AT, False),
        ("1", AT, False),
        ("failed", 0, True),
        ("0", 0, True),
        ("in_progress", 0, False),
        ("", 0, False),
    ],
)
def test_in_progress_is_no_failure(status: str, established: int, failed: bool) -> None:
    """A connect that does not wait has not failed; no one knows what came of it."""
    opened = reported({**CONNECT, "status": status})

    assert (opened.established, opened.failed) == (established, failed)


@pytest.mark.parametrize(
    ("code", "established", "failed"),
    [
        ("0", AT, False),
        ("-115", 0, False),
        ("-111", 0, True),
        ("18446744073709551501", 0, False),  # -115 as a number without sign
        ("18446744073709551505", 0, True),
    ],
)
def test_bpf_reports_the_exit_code(code: str, established: int, failed: bool) -> None:
    """`bpf_socket_events` has `syscall`, `exit_code`, user, parent and the socket's type; IPv6 is written in full."""
    columns = {
        "syscall": "connect",
        "exit_code": code,
        "type": "1",
        "protocol": "0",
        "family": "10",
        "eid": "77",
        "local_address": "2001:db8:0:0:0:0:0:b",
        "local_port": "52817",
        "remote_port": "3128",
        "uid": "1000",
        "remote_address": "2001:db8:0:0:0:0:0:50",
        "pid": "7412",
        "parent": "900",
        "time": "1741079721",
    }
    opened = reported(columns)

    assert (opened.established, opened.failed, opened.process.parent_pid) == (established, failed, 900)
    assert opened.flow.key == "2001:db8::b 52817 2001:db8::50 3128"
    assert opened.event_id == "osquery/connect/52817/77"


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"local_address": "", "local_port": "0"}, "connect_without_port"),
        ({"local_port": "0"}, "connect_without_port"),
        ({"local_address": ""}, "connect_without_port"),
        ({"action": "bind"}, "socket_other"),
        ({"action": "accept"}, "socket_other"),
        ({"action": None, "state": "ESTABLISHED"}, "open_socket"),  # process_open_sockets
        ({"family": "1"}, "connect_not_ip"),
        ({"protocol": "17"}, "connect_not_tcp"),
        ({"protocol": "0"}, "connect_no_protocol"),
        ({"protocol": None}, "connect_no_protocol"),
    ],
)
def test_what_is_no_connection_that_could_be_joined(changed: dict[str, Any], kind: str) -> None:
    """Each has a kind of its own."""
    assert reported({**CONNECT, **changed}).kind == kind


def test_other_results() -> None:
    """The name is the query's; what a row is of, its columns state."""
    process = {"path": "/usr/bin/curl", "cmdline": "curl google.com", "pid": "1", "time": "1741079721"}

    assert reported(process).kind == "process"
    assert reported({"name": "root"}, name="socket_events").kind == "other"
    assert reported(action="removed").kind == "removed"
    assert reported(snapshot=[{"pid": "1"}], action="snapshot", columns=None).kind == "snapshot"
    assert reported(diffResults={"added": [CONNECT]}, action=None, columns=None).kind == "batch"


def test_a_time_may_be_a_number_or_a_text() -> None:
    """`unixTime` is both; with numerics the columns are numbers, too."""
    numerics = {name: int(value) if value.isdigit() else value for name, value in CONNECT.items()}

    assert reported(numerics) == reported()
    assert (
        reported({"name": "root"}, unixTime="1741079730").at == reported({"name": "root"}).at == 1_741_079_730_000_000
    )


def test_a_time_of_another_table_is_another_time() -> None:
    """`last` reports when a user signed in, which may be years ago."""
    assert (
        reported({"username": "root", "time": "1500000000"}).at
        == reported({"username": "root", "time": "x"}).at
        == AT + 9_000_000
    )


def test_the_daemons_own_words() -> None:
    """Its status log holds nothing; Fleet and Kinesis write it in the same stream."""
    assert reported(columns=None, action=None, severity="0", filename="scheduler.cpp", message="m").kind == "status"


@pytest.mark.parametrize(
    "parts",
    [
        {"snapshot": [CONNECT, {**CONNECT, "pid": "7413"}], "action": "snapshot"},
        {"diffResults": {"added": [CONNECT, {**CONNECT, "pid": "7413"}], "removed": ""}},
        {"diffResults": {"removed": [], "added": [CONNECT, {**CONNECT, "pid": "7413"}]}, "epoch": 0},
    ],
)
def test_rows_of_sockets_are_taken_out_of_their_line(parts: dict[str, Any]) -> None:
    """Snapshots and batches, also behind syslog and posted by the TLS logger, give what rows of their own would."""
    line = {"name": "sockets", "hostIdentifier": "dev-a.corp.example", "unixTime": 1741079730, **parts}
    raw = json.dumps(line).encode()
    posted = json.dumps({"node_key": "k", "log_type": "result", "data": [line, {"severity": "0"}]}).encode()
    expected = [reported(), reported({**CONNECT, "pid": "7413"})]

    assert [parse(row) for row in split(raw)] == expected
    assert [parse(row) for row in split(b"Mar  4 09:15:30 dev-a osqueryd[7]: " + raw)] == expected
    assert [parse(row) for row in split(posted)[:2]] == expected
    assert split(posted)[2:] == [b'{"severity": "0"}']
    assert all(claims(row) for row in (*split(raw), raw, posted))


def test_other_lines_stay_one() -> None:
    """Rows that are of no sockets would be many lines that hold nothing; what cannot be read is rejected whole."""
    snapshot = json.dumps({"name": "q", "snapshot": [{"pid": "1"}] * 3, "action": "snapshot"}).encode()

    for raw in (
        snapshot,
        b'{"snapshot":[{"remote_address":',
        b'{"snapshot":7,"remote_address":1}',
        b"snapshot remote_address",
    ):
        assert split(raw) == [raw]


def test_the_device_is_the_name_that_is_reported() -> None:
    """`--host_identifier=uuid` writes a UUID; a decorator may report the name. Old versions write `hostname`."""
    assert reported(hostIdentifier="4c4c4544", decorations={"hostname": "DEV-A"}).device == "dev-a"
    assert reported(hostIdentifier="4c4c4544", decorations={"x": "y"}).device == "4c4c4544"
    assert reported(hostIdentifier=None, hostname="dev-a").device == "dev-a"
    assert reported(hostIdentifier="4c4c4544", hostname="dev-a").device == "dev-a"  # --decorations_top_level


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"remote_port": "0"}, Reason.BAD_VALUE),
        ({"remote_port": "70000"}, Reason.BAD_VALUE),
        ({"remote_address": "x"}, Reason.BAD_VALUE),
        ({"remote_address": ""}, Reason.INCOMPLETE),
        ({"status": "maybe"}, Reason.BAD_VALUE),
        ({"time": "yesterday"}, Reason.BAD_VALUE),
    ],
)
def test_values_are_not_guessed_at(changed: dict[str, Any], reason: Reason) -> None:
    """A connect that contradicts itself is rejected."""
    assert reported({**CONNECT, **changed}).reason is reason


def test_others_lines_are_not_claimed() -> None:
    """A time, a name and columns make no result of osquery."""
    assert not claims(b'{"unixTime":1,"name":"x","columns":{}}')
    assert not claims(b'{"name":"x","hostIdentifier":"a","columns":{}}')
    assert not claims(b'{"unixTime":')
