"""Tetragon's JSON export: connects from a tracing policy on `tcp_connect`, and connection events of the enterprise edition.

`process_kprobe` with a socket as argument, and `process_connect`, report that a process tries to connect, before the answer.
`process_close` reports the end, with bytes. It is also written for accepted connections, without a mark: it is used only if the
ports show which end was the client.
"""

from __future__ import annotations

import msgspec

from schemas.clock import parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import ConnectionOpened, Flow, FlowSummary, Ignored, Micros, Parsed, Process, flow_of
from schemas.parsers.common.envelopes import read
from schemas.parsers.common.rejects import FAULTS, otherwise, reject_of
from schemas.parsers.common.values import (
    COUNT_MAX,
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

SENSOR = Sensor("tetragon", SensorKind.ENDPOINT, (ConnectionOpened, FlowSummary), clock_rank=30)

EPHEMERAL = 32_768
"""Lowest port that Linux assigns to outgoing connections (`net.ipv4.ip_local_port_range`)."""
CONNECTS = frozenset({
    "tcp_connect", "tcp_v4_connect", "tcp_v6_connect", "security_socket_connect", "__x64_sys_connect",
    "__arm64_sys_connect", "sys_connect", "__sys_connect",
})  # fmt: skip
"""Kernel functions that connect. Those called before `tcp_connect` have no local port yet."""
STOPPED = frozenset({
    "KPROBE_ACTION_SIGKILL", "KPROBE_ACTION_OVERRIDE", "KPROBE_ACTION_NOTIFYENFORCER", "KPROBE_ACTION_NOTIFYKILLER",
})  # fmt: skip
"""Actions of a policy that stop the call; the last one is the name in versions 1.0 and 1.1."""
EINPROGRESS = -115
"""Result of a non-blocking connect that was started, which is no failure."""


class _User(msgspec.Struct, gc=False):
    name: str | None = None


class _Process(msgspec.Struct, gc=False):
    pid: Scalar = None
    uid: Scalar = None
    binary: str | None = None
    arguments: str | None = None
    start_time: str | None = None
    user: _User | None = None


class _Socket(msgspec.Struct, gc=False):
    protocol: str | None = None
    saddr: str | None = None
    daddr: str | None = None
    sport: Scalar = None
    dport: Scalar = None


class _Argument(msgspec.Struct, gc=False):
    sock_arg: _Socket | None = None
    int_arg: Scalar = None


class _Stats(msgspec.Struct, gc=False):
    bytes_sent: Scalar = None
    bytes_received: Scalar = None
    segs_in: Scalar = None


class _Of(msgspec.Struct, gc=False):
    process: _Process | None = None
    parent: _Process | None = None


class _Kprobe(_Of, gc=False):
    function_name: str | None = None
    args: list[_Argument] | None = None
    returned: _Argument | None = msgspec.field(default=None, name="return")
    action: str | None = None


class _Connection(_Of, gc=False):
    source_ip: str | None = None
    source_port: Scalar = None
    destination_ip: str | None = None
    destination_port: Scalar = None
    protocol: str | None = None
    stats: _Stats | None = None


class _Line(msgspec.Struct, gc=False):
    node_name: str | None = None
    time: str | None = None
    process_kprobe: _Kprobe | None = None
    process_connect: _Connection | None = None
    process_close: _Connection | None = None
    process_exec: msgspec.Raw = msgspec.Raw(b"")
    process_exit: msgspec.Raw = msgspec.Raw(b"")
    process_listen: msgspec.Raw = msgspec.Raw(b"")
    process_accept: msgspec.Raw = msgspec.Raw(b"")
    process_tracepoint: msgspec.Raw = msgspec.Raw(b"")
    process_loader: msgspec.Raw = msgspec.Raw(b"")
    process_uprobe: msgspec.Raw = msgspec.Raw(b"")
    process_lsm: msgspec.Raw = msgspec.Raw(b"")
    process_usdt: msgspec.Raw = msgspec.Raw(b"")
    process_throttle: msgspec.Raw = msgspec.Raw(b"")
    rate_limit_info: msgspec.Raw = msgspec.Raw(b"")
    Type: str | None = None
    Computer: str | None = None
    TimeGenerated: str | None = None

    @property
    def device(self) -> str:
        """The node's name in lower case; processes in containers with their own addresses also belong to the node."""
        return device_name(self.node_name or self.Computer or "")

    @property
    def at(self) -> Micros:
        """Time of the event. Raises ValueError; Missing if there is none."""
        return parse_micros(needed(self.time or self.TimeGenerated, "time"))

    @property
    def kind(self) -> str:
        """Tetragon's name for the type of the event; "" if the type is unknown."""
        if self.rate_limit_info:
            return "rate_limit"
        return next((kind for kind in KINDS if getattr(self, f"process_{kind}")), "")


KINDS = (
    "kprobe", "exec", "exit", "connect", "close", "listen", "accept", "tracepoint", "loader", "uprobe", "lsm", "usdt", "throttle",
)  # fmt: skip
_LINE = msgspec.json.Decoder(_Line)


def parse(raw: bytes) -> Parsed:
    """Read one line."""
    try:
        line = _read(raw)
        if line.process_kprobe is not None:
            return _kprobe(line, line.process_kprobe)
        if line.process_connect is not None:
            return _connect(line, line.process_connect)
        if line.process_close is not None:
            return _close(line, line.process_close)
        kind = line.kind or ("vmconnection" if line.Type == "VMConnection" else "")
        return _ignored(line, kind or "other")
    except FAULTS as error:
        return reject_of(error, raw)


def _read(raw: bytes) -> _Line:
    return read(raw, _LINE, lambda line: bool(line.kind or line.Type), lambda line: line.kind != "")


def _ignored(line: _Line, kind: str) -> Ignored:
    return Ignored(line.device, line.at, kind)


def _kprobe(line: _Line, kprobe: _Kprobe) -> Parsed:
    function = kprobe.function_name or ""
    if function not in CONNECTS:
        return _ignored(line, "kprobe_close" if function == "tcp_close" else "kprobe")
    socket = next((argument.sock_arg for argument in kprobe.args or () if argument.sock_arg is not None), None)
    if socket is None:
        return _ignored(line, "connect_without_port")
    if socket.protocol is not None and socket.protocol != "IPPROTO_TCP":
        return _ignored(line, "connect_not_tcp")
    flow = _flow(socket.saddr, socket.sport, socket.daddr, socket.dport)
    if flow is None:
        return _ignored(line, "connect_without_port")
    code = kprobe.returned.int_arg if kprobe.returned is not None else None
    failed = kprobe.action in STOPPED or (isinstance(code, int) and code < 0 and code != EINPROGRESS)
    return _opened(line, kprobe, flow, failed=failed)


def _connect(line: _Line, connect: _Connection) -> Parsed:
    if connect.protocol is not None and connect.protocol != "TCP":
        return _ignored(line, "connect_not_tcp")
    flow = _flow(connect.source_ip, connect.source_port, connect.destination_ip, connect.destination_port)
    return _ignored(line, "connect_without_port") if flow is None else _opened(line, connect, flow, failed=False)


def _opened(line: _Line, of: _Of, flow: Flow, *, failed: bool) -> ConnectionOpened:
    at = line.at
    event_id = f"tetragon/connect/{flow.local_port}/{line.time}"
    return ConnectionOpened(line.device, at, flow, at, 0, 0, failed, _process(of), event_id, SENSOR.name)


def _close(line: _Line, close: _Connection) -> Parsed:
    if close.protocol is not None and close.protocol != "TCP":
        return _ignored(line, "close_not_tcp")
    flow = _flow(close.source_ip, close.source_port, close.destination_ip, close.destination_port)
    if flow is None or not flow.local_port >= EPHEMERAL > flow.remote_port:
        return _ignored(line, "close_unsure")
    at, stats = line.at, close.stats or _Stats()
    sent, received = _count(stats.bytes_sent, "bytes_sent"), _count(stats.bytes_received, "bytes_received")
    # A single segment may be the server's refusal.
    answered = received > 0 or _count(stats.segs_in, "segs_in") > 1
    event_id = f"tetragon/close/{flow.local_port}/{line.time}"
    return FlowSummary(line.device, at, flow, 0, at, sent, received, answered, False, False, event_id, SENSOR.name)


def _flow(local_ip: str | None, local_port: Scalar, remote_ip: str | None, remote_port: Scalar) -> Flow | None:
    """Return the flow; None if there is no local end."""
    local = maybe_number(local_port, "local port", PORT_MAX)
    remote = number(needed(remote_port, "remote port"), "remote port", PORT_MAX)
    if not (local and local_ip):
        return None
    if not remote:
        raise ValueError("TCP with remote port 0")
    return flow_of(local_ip, local, needed(remote_ip, "remote address"), remote)


def _process(of: _Of) -> Process:
    process, parent = of.process or _Process(), of.parent or _Process()
    path = process.binary or ""
    started = process.start_time
    return Process(
        number(process.pid, "pid", PID_MAX) if process.pid is not None else None,
        short(path.rpartition("/")[2]),
        short(path),
        short(f"{path} {process.arguments}" if process.arguments else path),
        parse_micros(started) if started else 0,
        account=short((process.user.name if process.user else None) or text(process.uid)),
        parent_pid=number(parent.pid, "parent's pid", PID_MAX) if parent.pid is not None else None,
        parent_name=short((parent.binary or "").rpartition("/")[2]),
    )


def _count(written: Scalar, name: str) -> int:
    """Return a count; 64-bit numbers are strings (protobuf's JSON)."""
    if isinstance(written, str) and written.isascii() and written.isdigit() and len(written) < 20:
        written = int(written)
    return number(written, name, COUNT_MAX) if written is not None else 0


written_at = otherwise(0)(lambda raw: _read(raw).at)
device_of = otherwise("")(lambda raw: _read(raw).device)


@otherwise(False)
def claims(raw: bytes) -> bool:
    """Return whether a line is an event: an object under the name of its type, with the node and the time."""
    if not (b'"process_' in raw or b'"rate_limit_info' in raw) or b"time" not in raw:
        return False
    line = _read(raw)
    return bool(line.kind and line.time)


DIALECT = Dialect(
    "tetragon",
    parse,
    written_at,
    device_of,
    title="Tetragon's JSON export",
    gives="The connection that a process tries, with command line, user and parent; of the commercial edition its end and bytes.",
    claims=claims,
    sensors=(SENSOR,),
    own_marks=(b"process_kprobe", b"process_connect"),
)
