"""Outgoing TCP connections from the kernel's tracepoint `sock:inet_sock_set_state`, one JSON object per line.

A sensor combines the state changes of a socket into one line per connection: device, pid, process, both ends, `result` (success,
failed, open) and the times of attempt, establishment and close. `unproxy sensor` adds path, command line, user, parent and start
of the process, the program that it executed right after, and at the end the payload bytes. A connection has a further line when
it closes, or when more about it is known.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.clock import parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import ConnectionOpened, Micros, Parsed, Process, Reason, Reject, flow_of
from schemas.parsers.common.rejects import FAULTS, otherwise, reject_of
from schemas.parsers.common.values import COUNT_MAX, PID_MAX, PORT_MAX, short

SENSOR = Sensor("socket", SensorKind.ENDPOINT, (ConnectionOpened,), clock_rank=10)

RESULTS = frozenset({"success", "failed", "open"})


Port = Annotated[int, msgspec.Meta(ge=1, le=PORT_MAX)]
Pid = Annotated[int, msgspec.Meta(ge=0, le=PID_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class _Line(msgspec.Struct, gc=False):
    device: str
    local_ip: str
    local_port: Port
    remote_ip: str
    remote_port: Port
    result: str
    ts_attempt: str | None = None
    ts_established: str | None = None
    ts_closed: str | None = None
    pid: Pid | None = None
    process: str | None = None
    path: str | None = None
    command_line: str | None = None
    user: str | None = None
    uid: Pid | None = None
    parent_pid: Pid | None = None
    parent: str | None = None
    ts_started: str | None = None
    bytes_sent: Count | None = None
    bytes_received: Count | None = None
    exec_after: str | None = None


class _Times(msgspec.Struct, gc=False):
    ts_attempt: str | None = None
    ts_established: str | None = None


class _Device(msgspec.Struct, gc=False):
    device: str = ""


class _Shape(msgspec.Struct, gc=False):
    device: str
    local_ip: str
    remote_ip: str
    result: str


_LINE = msgspec.json.Decoder(_Line)
_TIMES = msgspec.json.Decoder(_Times)
_DEVICE = msgspec.json.Decoder(_Device)
_SHAPE = msgspec.json.Decoder(_Shape)


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = _LINE.decode(raw)
        attempt = parse_micros(line.ts_attempt) if line.ts_attempt else 0
        established = parse_micros(line.ts_established) if line.ts_established else 0
        ended = parse_micros(line.ts_closed) if line.ts_closed else 0
        began = parse_micros(line.ts_started) if line.ts_started else 0
        flow = flow_of(line.local_ip, line.local_port, line.remote_ip, line.remote_port)
    except FAULTS as error:
        return reject_of(error, raw)
    if line.result not in RESULTS:
        return Reject(Reason.BAD_VALUE, f"result is {line.result!r}, not one of {sorted(RESULTS)}", raw)
    if not (attempt or established):
        return Reject(Reason.INCOMPLETE, "neither ts_attempt nor ts_established", raw)
    started = attempt or established
    return ConnectionOpened(
        line.device,
        established or attempt,
        flow,
        started,
        established,
        ended,
        line.result == "failed",
        _process(line, began),
        f"socket/{line.local_port}/{line.ts_attempt or line.ts_established}",
        SENSOR.name,
        line.bytes_sent,
        line.bytes_received,
        short(line.exec_after),
    )


def _process(line: _Line, began: Micros) -> Process:
    name = short(line.process)
    if not (line.path or line.command_line or line.user or line.uid is not None or line.parent_pid or began):
        return Process(line.pid, name)
    account = line.user or ("" if line.uid is None else str(line.uid))
    return Process(
        line.pid,
        name,
        short(line.path),
        short(line.command_line),
        began,
        short(account),
        parent_pid=line.parent_pid,
        parent_name=short(line.parent),
    )


@otherwise(0)
def written_at(raw: bytes) -> Micros:
    """Return the time of the connection's attempt, in the order of which a kernel sensor writes connections."""
    times = _TIMES.decode(raw)
    text = times.ts_attempt or times.ts_established
    return parse_micros(text) if text else 0


device_of = otherwise("")(lambda raw: _DEVICE.decode(raw).device)


@otherwise(False)
def claims(raw: bytes) -> bool:
    """Return whether a line has the fields of this format: device, both ends, a result and a time."""
    # marks without quotes, as a line may contain many quotes
    return (b"ts_attempt" in raw or b"ts_established" in raw) and _SHAPE.decode(raw) is not None


DIALECT = Dialect(
    "sockets",
    parse,
    written_at,
    device_of,
    title="Kernel connections (JSON lines made from the tracepoint sock:inet_sock_set_state)",
    gives="The connection with its process, PID, exact start and end, from our own sensor also path, command line, user, "
    "parent and bytes; no name of the destination.",
    claims=claims,
    sensors=(SENSOR,),
    own_marks=(b'"local_ip"',),
)
