"""The sensor's lines are what the dialect reads."""

from __future__ import annotations

import json

from producers.sensor.kernel.connections import Connection
from producers.sensor.kernel.processes import Who
from producers.sensor.kernel.socket_lines import line_of
from producers.sensor.kernel.trace_ring import AF_INET
from schemas.clock import parse_micros
from schemas.events import ConnectionOpened, Process
from schemas.parsers import dialects
from tests.producers.sensor.makers import CLIENT, SERVER

WALL_NS = parse_micros("2026-11-27T12:00:00.000000Z") * 1_000
WHO = Who(7, "curl", "/usr/bin/curl", "curl -s", 1_000, "ada", 1, "bash", 5_000_000_000, "")
SOCKETS = dialects()["sockets"]


def connection(who: Who | None = WHO, failed: bool = False) -> Connection:
    made = Connection(9, who, 10_000_000_123, 3128, AF_INET, CLIENT, SERVER, WALL_NS)
    made.local_port, made.closed_ns, made.failed = 40_000, 12_000_000_000, failed
    made.established_ns = 0 if failed else 10_001_000_000
    return made


def test_a_line_is_read_back_whole() -> None:
    """Times to the microsecond; the process with all that is known of it."""
    parsed = SOCKETS.parse(line_of(connection(), "dev-a"))

    assert isinstance(parsed, ConnectionOpened)
    assert parsed.flow.key == "198.51.100.11 40000 198.51.100.80 3128"
    assert (parsed.started, parsed.established, parsed.ended, parsed.failed) == (
        WALL_NS // 1_000 + 10_000_000, WALL_NS // 1_000 + 10_001_000, WALL_NS // 1_000 + 12_000_000, False,
    )  # fmt: skip
    assert parsed.process == Process(
        7, "curl", "/usr/bin/curl", "curl -s", WALL_NS // 1_000 + 5_000_000, "ada", parent_pid=1, parent_name="bash"
    )


def test_both_lines_of_a_connection_are_one() -> None:
    """The first line and the one that comes at the end have the same identity."""
    first, last = connection(), connection()
    first.closed_ns = 0
    ids = {
        parsed.event_id
        for one in (first, last)
        if isinstance(parsed := SOCKETS.parse(line_of(one, "dev-a")), ConnectionOpened)
    }

    assert ids == {"socket/40000/2026-11-27T12:00:10.000000Z"}


def test_of_a_process_that_is_gone_the_thread_is_reported() -> None:
    """Nothing is made up: number of the thread, no name."""
    line = json.loads(line_of(connection(None, failed=True), "dev-a"))

    assert (line["pid"], line["process"], line["result"]) == (9, "", "failed")
    assert not {"path", "command_line", "uid", "user", "parent", "ts_established"} & set(line)


def test_a_user_without_a_name_is_its_number() -> None:
    """In a container, or where no one has that number."""
    parsed = SOCKETS.parse(line_of(connection(WHO._replace(user="")), "dev-a"))

    assert isinstance(parsed, ConnectionOpened)
    assert parsed.process.account == "1000"


def test_bytes_are_reported_once_they_are_known() -> None:
    """None at all is reported, too."""
    made = connection()
    assert "bytes_sent" not in json.loads(line_of(made, "dev-a"))
    made.bytes_sent, made.bytes_received = 0, 777
    parsed = SOCKETS.parse(line_of(made, "dev-a"))

    assert isinstance(parsed, ConnectionOpened)
    assert (parsed.bytes_sent, parsed.bytes_received) == (0, 777)
