"""Rows of Microsoft Defender for Endpoint as its streaming export writes them (`schemas.parsers.windows.defender_rows`).

DeviceNetworkEvents gives connections with their process, and the requests and TLS names of inspected ones; DeviceEvents the
verdicts of network protection and SmartScreen. Rows come minutes late, out of order, and some twice: `Timestamp` is the
event's own time, and with device, `ReportId` and `ActionType` its identity. Inbound connections are those of another machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter

from schemas.address import split_authority, split_url
from schemas.clock import parse_micros
from schemas.dialect import Dialect, Sensor, SensorKind
from schemas.events import (
    TEXT_CHARS_MAX,
    Action,
    ConnectionOpened,
    Flow,
    HttpExchange,
    Ignored,
    Micros,
    Parsed,
    Process,
    ProcessVerdict,
    TlsName,
    flow_of,
)
from schemas.parsers.common.rejects import FAULTS, Missing, otherwise, reject_of
from schemas.parsers.common.values import PID_MAX, PORT_MAX, STATUS_MAX, Scalar, maybe_number, needed, short, text
from schemas.parsers.windows.defender_rows import Row, claims, read, read_head, split

SENSOR = Sensor("mde", SensorKind.ENDPOINT, (ConnectionOpened, HttpExchange, TlsName, ProcessVerdict), clock_rank=80)

REPORT_ID_MAX = 2**63
NEVER = "1970"
"""Unknown times are also written as the year 1 or 1601."""
REMEMBERED_BYTES_MAX = 4_096
"""A process makes many connections: that of a row so long is remembered."""
_TEXTS: Callable[[Row], tuple[str | None, ...]] = attrgetter(
    *(
        f"InitiatingProcess{name}"
        for name in (
            *("FileName", "FolderPath", "CommandLine", "AccountName", "AccountDomain", "AccountSid", "ParentFileName"),
            *("SHA1", "SHA256", "MD5"),
        )
    )
)
"""Columns of the initiating process that are texts."""
NETWORK, DEVICE = "DeviceNetworkEvents", "DeviceEvents"
KINDS = {
    "ConnectionAcknowledged": "network_acknowledged",
    "ConnectionFailedAggregatedReport": "network_aggregated",
    "ConnectionSuccessAggregatedReport": "network_aggregated",
    "InboundConnectionAccepted": "network_inbound",
    "InboundConnectionAcknowledged": "network_inbound",
    "InboundConnectionAttempt": "network_inbound",
    "InboundInternetScanInspected": "network_inbound",
    "ListeningConnectionCreated": "network_listening",
    "NetworkSignatureInspected": "network_signature",
    "NtlmAuthenticationInspected": "network_ntlm",
    **{f"{name}ConnectionInspected": f"network_{name.lower()}" for name in ("Dns", "Ftp", "Icmp", "Smtp", "Ssh")},
}
"""Network rows that hold nothing for us and are counted by name; all others of a table count as `other`."""
VERDICTS = {
    "ExploitGuardNetworkProtectionBlocked": Action.BLOCKED,
    "ExploitGuardNetworkProtectionAudited": Action.AUDITED,
    "NetworkProtectionUserBypassEvent": Action.BYPASSED,
    "SmartScreenExploitWarning": Action.WARNED,
    "SmartScreenUrlWarning": Action.WARNED,
    "SmartScreenUserOverride": Action.BYPASSED,
}
"""A row of DeviceEvents that is one of these is a verdict."""


def parse(raw: bytes) -> Parsed:
    """Read one row."""
    try:
        row = read(raw)
        if row.table not in ("", NETWORK, DEVICE):
            return _ignored(row, "other_table")
        action = needed(row.ActionType, "ActionType")
        handler = HANDLERS.get(action)
        if handler is not None:
            return handler(row, action, len(raw) <= REMEMBERED_BYTES_MAX)
        return _ignored(row, KINDS.get(action) or ("device_other" if row.table == DEVICE else "network_other"))
    except FAULTS as error:
        return reject_of(error, raw)


def _ignored(row: Row, kind: str) -> Ignored:
    return Ignored(row.device, _at(row), kind)


def _at(row: Row) -> Micros:
    return parse_micros(needed(row.time, "Timestamp"))


def _flow(row: Row) -> Flow | str:
    """The ends of a TCP connection, or why there are none."""
    protocol = row.Protocol
    if protocol and protocol != "Tcp" and not protocol.lower().startswith("tcp"):
        return "network_not_tcp"
    local_ip, local_port = row.LocalIP, maybe_number(row.LocalPort, "LocalPort", PORT_MAX)
    remote_ip, remote_port = row.RemoteIP, maybe_number(row.RemotePort, "RemotePort", PORT_MAX)
    if local_ip and local_port and remote_ip and remote_port:
        return flow_of(local_ip, local_port, remote_ip, remote_port)
    return "network_no_ends"


def _connection(row: Row, action: str, is_short: bool) -> Parsed:
    """Read a connection that the device made. One without process was seen on the wire: its own row has the outcome."""
    flow = _flow(row)
    if isinstance(flow, str):
        return _ignored(row, flow)
    process = _process(row, is_short)
    established = action in ("ConnectionSuccess", "ConnectionFound")
    failed = action == "ConnectionFailed"
    if action not in ("ConnectionSuccess", "ConnectionFailed") and process.pid is None and not process.name:
        return _ignored(row, "network_no_process")
    at = _at(row)
    return ConnectionOpened(
        row.device, at, flow, at, at if established else 0, 0, failed, process, _event_id(row, action), SENSOR.name
    )


def _http(row: Row, action: str, _: bool) -> Parsed:
    flow = _flow(row)
    if isinstance(flow, str):
        return _ignored(row, flow)
    seen = row.additional()
    if _is_inbound(seen.direction):
        return _ignored(row, "network_inbound")
    method, host = text(seen.method), text(seen.host)
    if not method:
        return _ignored(row, "network_no_request")
    target = text(seen.uri) or (host if method == "CONNECT" else row.RemoteUrl or "")
    return HttpExchange(
        row.device,
        _at(row),
        flow,
        _report_id(row),
        method[:TEXT_CHARS_MAX],
        target,
        split_authority(host, 80)[0] if host else "",
        maybe_number(seen.status_code, "status_code", STATUS_MAX) or None,
        _event_id(row, action),
        SENSOR.name,
    )


def _tls(row: Row, action: str, _: bool) -> Parsed:
    """Return the server name.

    No field shows whether the hello came through a tunnel: a CONNECT on the same connection does.
    """
    flow = _flow(row)
    if isinstance(flow, str):
        return _ignored(row, flow)
    seen = row.additional()
    if _is_inbound(seen.direction):
        return _ignored(row, "network_inbound")
    name = text(seen.server_name)
    sni = split_authority(name, 443)[0] if name else ""
    return TlsName(row.device, _at(row), flow, sni, False, _event_id(row, action), SENSOR.name)


def _verdict(row: Row, action: str, is_short: bool) -> Parsed:
    """Read a verdict on the initiating process's request.

    Other process columns, and mostly the addresses, are of other processes.
    """
    details = row.additional()
    url, port = row.RemoteUrl or text(details.Uri), 0
    if url:
        host, port = split_url(url)
    elif row.RemoteIP:
        url, (host, _) = row.RemoteIP, split_url(row.RemoteIP)
    elif action.startswith("SmartScreen"):
        return _ignored(row, "device_no_url")
    else:
        raise Missing("neither RemoteUrl nor Uri nor RemoteIP names what was asked for")
    if not host:
        raise ValueError(f"RemoteUrl {url[:80]!r} names no host")
    did = VERDICTS[action]
    if did is Action.BLOCKED and text(details.IsAudit).lower() in ("true", "1"):
        did = Action.AUDITED
    return ProcessVerdict(
        row.device,
        _at(row),
        did,
        _process(row, is_short),
        host,
        port,
        url[:TEXT_CHARS_MAX],
        short(text(details.DisplayName)),
        short(text(details.ResponseCategory)) or short(text(details.Experience)),
        _event_id(row, action),
        SENSOR.name,
        short(text(details.ResponseCategoryGroup)),
    )


def _process(row: Row, is_short: bool) -> Process:
    """The initiating process; its PID 0 is Defender's word for none."""
    parent_pid = row.InitiatingProcessParentId
    # True and 1.0 are the same key as 1, but no PID.
    is_plain = is_short and (parent_pid.__class__ is int or parent_pid is None)
    return (_remembered_process if is_plain else _process_of)(
        maybe_number(row.InitiatingProcessId, "InitiatingProcessId", PID_MAX) or None,
        parent_pid,
        row.InitiatingProcessCreationTime,
        _TEXTS(row),
    )


def _process_of(pid: int | None, parent_pid: Scalar, created: str | None, texts: tuple[str | None, ...]) -> Process:
    name, path, command_line, account, domain, sid, parent_name, sha1, sha256, md5 = map(short, texts)
    started = parse_micros(created) if created and created > NEVER else 0
    parent = maybe_number(parent_pid, "InitiatingProcessParentId", PID_MAX) or None
    return Process(pid, name, path, command_line, started, account, domain, sid, parent, parent_name, sha1, sha256, md5)


_remembered_process = lru_cache(maxsize=4_096)(_process_of)


def _is_inbound(direction: Scalar) -> bool:
    return text(direction).lower() == "in"


def _report_id(row: Row) -> int:
    return maybe_number(row.ReportId, "ReportId", REPORT_ID_MAX) or 0


def _event_id(row: Row, action: str) -> str:
    return f"mde/{action}/{_report_id(row)}/{row.time}"


HANDLERS: dict[str, Callable[[Row, str, bool], Parsed]] = {
    **dict.fromkeys(
        ("ConnectionSuccess", "ConnectionFailed", "ConnectionFound", "ConnectionRequest", "ConnectionAttempt"),
        _connection,
    ),
    "HttpConnectionInspected": _http,
    "SslConnectionInspected": _tls,
    **dict.fromkeys(VERDICTS, _verdict),
}
"""The rows that are for us, by `ActionType`. The last argument is whether the row is short enough to remember its
process."""


# When the event happened, not when the export wrote it: other sensors' lines are put in order with it.
written_at = otherwise(0)(lambda raw: parse_micros(read_head(raw).time))
device_of = otherwise("")(lambda raw: read_head(raw).device)

DIALECT = Dialect(
    "mde",
    parse,
    written_at,
    device_of,
    title="Microsoft Defender for Endpoint, streamed rows (Event Hub, storage account, advanced hunting)",
    gives="DeviceNetworkEvents: connections with process and user, requests and TLS names of inspected ones; DeviceEvents: "
    "verdicts of network protection and SmartScreen.",
    claims=claims,
    sensors=(SENSOR,),
    split=split,
    own_marks=(b"LocalIP",),
)
