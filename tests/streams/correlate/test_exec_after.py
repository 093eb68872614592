"""A process that executes another program right after it connected: the rows name both."""

from __future__ import annotations

import json
from itertools import permutations

import msgspec

from schemas.events import TEXT_CHARS_MAX, ConnectionOpened, HttpExchange, Process
from schemas.parsers import dialects
from streams.model.connection import Kernel
from tests.factories import Row, World

ENDS = '"local_ip":"198.51.100.11","local_port":40000,"remote_ip":"198.51.100.80","remote_port":3128'
OPENED = (
    f'{{"device":"dev-a","pid":7,"process":"nc",{ENDS},"result":"success","ts_attempt":"2026-11-27T18:00:00.000000Z"}}'
)
FOLLOWED = OPENED[:-1] + ',"exec_after":"/bin/sh"}'
CLOSED = FOLLOWED[:-1] + ',"ts_closed":"2026-11-27T18:00:01.000000Z"}'
ASKED = (
    f'{{"kind":"http","device":"dev-a","ts":"2026-11-27T18:00:00.200000Z",{ENDS},"flow":"u-1","tx":0,"method":"CONNECT",'
    '"target":"www.example.com:443","ts_attempt":"2026-11-27T18:00:00.000100Z"}'
)


def rows(*lines: str) -> tuple[Row, Row]:
    """Return the connection's row and its destination's."""
    world = World()
    for line in lines:
        event = dialects()["sensor" if "kind" in line else "sockets"].parse(line.encode())
        assert isinstance(event, ConnectionOpened | HttpExchange), event
        world.see(event)
    world.finish()
    (connection,), (destination,) = world.connections, world.destinations
    return connection, destination


def test_both_rows_name_the_program_that_followed() -> None:
    """Both rows name it in any order of arrival, also where a row was emitted before it began."""
    for order in permutations([OPENED, FOLLOWED, CLOSED, ASKED]):
        for row in rows(*order):
            assert (row["InitiatingProcessFileName"], row["InitiatingProcessId"]) == ("nc", 7)
            assert json.loads(str(row["AdditionalFields"])) == {"ExecAfter": "/bin/sh"}


def test_without_such_a_program_the_columns_are_empty() -> None:
    """Most connections have no such program."""
    assert [row["AdditionalFields"] for row in rows(OPENED, ASKED)] == ["", ""]


def test_its_path_is_bounded() -> None:
    """The path is cut like all texts in the state."""
    event = dialects()["sockets"].parse(FOLLOWED.replace("/bin/sh", "/" + "x" * 4_095).encode())

    assert isinstance(event, ConnectionOpened)
    assert len(event.exec_after) == TEXT_CHARS_MAX


def test_a_record_in_older_state_is_read() -> None:
    """A record of an older state ends one field earlier."""
    record = Kernel(1, 2, 3, False, Process(7, "nc"), "socket/1", 4, 5)

    assert msgspec.convert(msgspec.to_builtins(record)[:-1], Kernel) == record
