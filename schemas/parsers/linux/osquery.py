"""osquery's results log with rows of `socket_events`, `bpf_socket_events` and `process_events`.

The log has the event, batch or snapshot format. Queries may have any name, so the columns of a row determine its table. Values
are strings unless `--logger_numerics` is set. A line with several rows of sockets (a batch, a snapshot, a request of the TLS
logger) is split into one line per row before it is published. `socket_events` come from the kernel's audit, which does not report
the local end of a connection: such a row cannot be assigned to a connection, so it is only counted.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.clock import LATEST, MICROS, parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import ConnectionOpened, Ignored, Micros, Parsed, Process, flow_of
from schemas.parsers.common.envelopes import anywhere_within, read
from schemas.parsers.common.rejects import FAULTS, UNREADABLE, Missing, otherwise, reject_of
from schemas.parsers.common.values import (
    PID_MAX,
    PORT_MAX,
    Scalar,
    device_name,
    maybe_number,
    needed,
    number,
    short,
    text,
)

SENSOR = Sensor("osquery", SensorKind.ENDPOINT, (ConnectionOpened,), clock_rank=40)

SECONDS_MAX = LATEST // MICROS
ADDED = frozenset({"added", "snapshot"})
"""Values of `action` that mean that the row exists."""
INET = frozenset({"", "2", "10", "30"})
"""Address families of IP: AF_INET, and AF_INET6 of Linux and of macOS. Some queries do not select the column."""
TCP, STREAM = "6", "1"
NO_PROTOCOL = frozenset({"", "0"})
SUCCEEDED = frozenset({"succeeded", "success", "1"})
IN_PROGRESS = frozenset({"in_progress"})
FAILED = frozenset({"failed", "0"})
EXIT_SUCCESS, EXIT_IN_PROGRESS = "0", frozenset({"-115", "115", str(2**64 - 115), str(2**32 - 115)})
"""EINPROGRESS, also as an unsigned number of 32 or 64 bits: a non-blocking connect was started, which is no failure."""
POSTS = ("result", "status")
"""Values of `log_type` in requests of the TLS logger."""
ROWS_MAX = 50_000
"""Maximum number of rows of a line that is split."""


class _Columns(msgspec.Struct, gc=False):
    action: Scalar = None
    syscall: Scalar = None
    status: Scalar = None
    success: Scalar = None
    exit_code: Scalar = None
    family: Scalar = None
    protocol: Scalar = None
    type: Scalar = None
    local_address: Scalar = None
    local_port: Scalar = None
    remote_address: Scalar = None
    remote_port: Scalar = None
    pid: Scalar = None
    path: Scalar = None
    cmdline: Scalar = None
    auid: Scalar = None
    uid: Scalar = None
    parent: Scalar = None
    time: Scalar = None
    eid: Scalar = None


class _Decorations(msgspec.Struct, gc=False):
    hostname: Scalar = None


class _Line(msgspec.Struct, gc=False):
    name: str | None = None
    action: str | None = None
    hostIdentifier: str | None = None
    hostname: str | None = None
    decorations: _Decorations | None = None
    unixTime: Scalar = None
    columns: _Columns | None = None
    snapshot: msgspec.Raw = msgspec.Raw(b"")
    diffResults: msgspec.Raw = msgspec.Raw(b"")
    log_type: Any = None
    data: msgspec.Raw = msgspec.Raw(b"")
    severity: Any = None
    filename: Any = None
    Type: str | None = None
    Computer: str | None = None
    TimeGenerated: str | None = None

    @property
    def device(self) -> str:
        """The machine's name in lower case.

        `hostIdentifier` may be a UUID. A decorator, also at the top level, may then contain the name.
        """
        decorated = text(self.decorations.hostname) if self.decorations is not None else ""
        return device_name(decorated or self.hostname or self.hostIdentifier or self.Computer or "")

    @property
    def at(self) -> Micros:
        """Time of the event in whole seconds; `unixTime` is the time of the query, which may be later by the query's interval.

        In other tables a column of the same name may have another meaning, such as the time of a login.
        """
        if self.TimeGenerated:
            return parse_micros(self.TimeGenerated)
        columns = self.columns
        is_event = columns is not None and (columns.remote_port is not None or columns.cmdline is not None)
        own = columns.time if columns is not None and is_event else None
        return number(text(own) or needed(self.unixTime, "unixTime"), "time", SECONDS_MAX) * MICROS

    @property
    def has_rows(self) -> bool:
        """Whether the line has one or several rows."""
        return bool(self.columns is not None or self.snapshot or self.diffResults or self.action == "snapshot")

    @property
    def is_status(self) -> bool:
        """Whether the line is a status message of the daemon."""
        return self.severity is not None and self.filename is not None


_LINE = msgspec.json.Decoder(_Line)
_OUTER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_json = msgspec.json.Encoder().encode


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = _read(raw)
        columns = line.columns
        if line.Type == "VMConnection":
            return _ignored(line, "vmconnection")
        if columns is None:
            return _ignored(line, _without_columns(line))
        if line.action not in ADDED:
            return _ignored(line, "removed")
        if columns.remote_address is not None and columns.remote_port is not None:
            return _socket(line, columns)
        return _ignored(line, "process" if columns.cmdline is not None and columns.path is not None else "other")
    except FAULTS as error:
        return reject_of(error, raw)


def _read(raw: bytes) -> _Line:
    return read(raw, _LINE, lambda line: line.has_rows or bool(line.Type), lambda line: line.has_rows or line.is_status)


def _ignored(line: _Line, kind: str) -> Ignored:
    return Ignored(line.device, line.at, kind)


def _without_columns(line: _Line) -> str:
    if line.diffResults:
        return "batch"
    if line.has_rows:
        return "snapshot"
    if line.is_status:
        return "status"
    raise Missing("neither columns nor snapshot nor diffResults")


def _socket(line: _Line, columns: _Columns) -> Parsed:
    action = text(columns.action) or text(columns.syscall)
    if action != "connect":
        return _ignored(line, "socket_other" if action else "open_socket")
    if text(columns.family) not in INET:
        return _ignored(line, "connect_not_ip")
    protocol = text(columns.protocol)
    if protocol not in NO_PROTOCOL and protocol != TCP:
        return _ignored(line, "connect_not_tcp")
    local_ip = text(columns.local_address)
    local_port = maybe_number(columns.local_port, "local_port", PORT_MAX) or 0
    remote_port = number(needed(columns.remote_port, "remote_port"), "remote_port", PORT_MAX)
    if not (local_ip and local_port):
        return _ignored(line, "connect_without_port")
    if protocol != TCP and text(columns.type) != STREAM:
        return _ignored(line, "connect_no_protocol")
    if not remote_port:
        raise ValueError("TCP with remote_port 0")
    flow = flow_of(local_ip, local_port, needed(columns.remote_address, "remote_address"), remote_port)
    at, succeeded = line.at, _succeeded(columns)
    path = text(columns.path)
    process = Process(
        maybe_number(columns.pid, "pid", PID_MAX),
        short(path.rpartition("/")[2]),
        short(path),
        account=short(text(columns.uid) or text(columns.auid)),
        parent_pid=maybe_number(columns.parent, "parent", PID_MAX),
    )
    event_id = f"osquery/connect/{local_port}/{text(columns.eid) or at // MICROS}"
    established = at if succeeded else 0
    return ConnectionOpened(
        line.device, at, flow, at, established, 0, succeeded is False, process, event_id, SENSOR.name
    )


def _succeeded(columns: _Columns) -> bool | None:
    """Return whether the connect succeeded; None if it was only started or the row has no result."""
    code = text(columns.exit_code)
    if code:
        return None if code in EXIT_IN_PROGRESS else code == EXIT_SUCCESS
    status = text(columns.status) or text(columns.success)
    if status and status not in SUCCEEDED | FAILED | IN_PROGRESS:
        raise ValueError(f"status is {status[:40]!r}, not succeeded, failed or in_progress")
    return None if not status or status in IN_PROGRESS else status in SUCCEEDED


written_at = otherwise(0)(lambda raw: _read(raw).at)
device_of = otherwise("")(lambda raw: _read(raw).device)


@otherwise(False)
def claims(raw: bytes) -> bool:
    """Return whether a line has the fields of a result: query name, host, time of the query, and rows."""
    if b"unixTime" not in raw:
        return False
    line = _read(raw)
    named = line.name and (line.hostIdentifier or line.hostname)
    return bool(
        (line.has_rows and named) or (line.log_type in POSTS and line.data) or (line.is_status and line.unixTime)
    )


def split(raw: bytes) -> list[bytes]:
    """Split a line into one per row of sockets, and a request of the TLS logger into one per result; else return the line."""
    if b"log_type" not in raw and not _may_hold_sockets(raw):
        return [raw]
    for held in (raw, *anywhere_within(raw)):
        try:
            line = _OUTER.decode(held)
            posted = _ROWS.decode(line["data"]) if "data" in line and "log_type" in line else []
            rows = [row for result in posted for row in _rows(bytes(result)) or [bytes(result)]] or _rows(held)
        except UNREADABLE:
            continue
        if rows:
            return rows if len(rows) <= ROWS_MAX else [raw]
    return [raw]


def _may_hold_sockets(raw: bytes) -> bool:
    return b"remote_address" in raw and (b"snapshot" in raw or b"diffResults" in raw)


def _rows(raw: bytes) -> list[bytes]:
    """Return the rows of sockets in a result; an empty list if the result is a single row. Raises the errors of reading it."""
    if not _may_hold_sockets(raw):
        return []
    line = _OUTER.decode(raw)
    if "snapshot" in line:
        several = {"snapshot": line.pop("snapshot")}
    elif "diffResults" in line:
        several = _OUTER.decode(line.pop("diffResults"))
    else:
        return []
    # Versions before 2 write "" for no rows.
    lists = {action: _ROWS.decode(rows) for action, rows in several.items() if bytes(rows).startswith(b"[")}
    return [_json({**line, "columns": row, "action": action}) for action, rows in lists.items() for row in rows]


DIALECT = Dialect(
    "osquery",
    parse,
    written_at,
    device_of,
    title="osquery's results log",
    gives="Connections with process where the table has the local port, which socket_events of Linux's audit does not.",
    claims=claims,
    sensors=(SENSOR,),
    split=split,
    own_marks=(b"local_address",),
)
