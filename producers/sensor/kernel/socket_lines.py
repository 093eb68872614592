"""A connection as a line of the dialect `sockets`."""

from __future__ import annotations

import msgspec

from producers.sensor.kernel.connections import Connection
from producers.sensor.kernel.trace_ring import spelled
from schemas.clock import iso_micros

_NS = 1_000


class _Line(msgspec.Struct, omit_defaults=True):
    device: str
    pid: int
    process: str
    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    result: str
    ts_attempt: str
    ts_established: str = ""
    ts_closed: str = ""
    path: str = ""
    command_line: str = ""
    uid: int | None = None
    user: str = ""
    parent_pid: int | None = None
    parent: str = ""
    ts_started: str = ""
    container: str = ""
    bytes_sent: int | None = None
    bytes_received: int | None = None
    exec_after: str = ""


_ENCODE = msgspec.json.Encoder().encode


def line_of(connection: Connection, device: str) -> bytes:
    """Encode a connection as a line without newline. If the process is unknown, `pid` is the thread's and `process` is empty."""
    who, distance = connection.who, connection.distance_ns
    line = _Line(
        device,
        who.pid if who else connection.thread,
        who.name if who else "",
        spelled(connection.local),
        connection.local_port,
        spelled(connection.remote),
        connection.remote_port,
        "failed" if connection.failed else "success",
        _stamp(connection.attempt_ns, distance),
        _stamp(connection.established_ns, distance),
        _stamp(connection.closed_ns, distance),
        bytes_sent=connection.bytes_sent,
        bytes_received=connection.bytes_received,
        exec_after=connection.exec_after.decode("utf-8", "replace"),
    )
    if who is not None:
        line.path, line.command_line, line.uid, line.user = who.path, who.command_line, who.uid, who.user
        line.parent_pid, line.parent, line.container = who.parent_pid, who.parent_name, who.container
        line.ts_started = _stamp(who.started_ns or 0, distance)
    return _ENCODE(line)


def _stamp(boot_ns: int, distance_ns: int) -> str:
    return iso_micros((boot_ns + distance_ns) // _NS) if boot_ns else ""
