"""Rows of Microsoft Defender for Endpoint as its streaming export writes them (`schemas.parsers.windows.defender_rows`).

DeviceNetworkEvents contains connections with their process, and the requests and TLS names of inspected connections. DeviceEvents
contains the verdicts of network protection and SmartScreen. Rows arrive minutes late, out of order, and some twice. `Timestamp`
is the time of the event; with device, `ReportId` and `ActionType` it identifies the row. Inbound connections are ignored.
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
"""Beginning of an unknown time, which is also written as the year 1 or 1601."""
REMEMBERED_BYTES_MAX = 4_096
"""Longest row in bytes whose process is cached, as a process has many connections."""
_TEXTS: Callable[[Row], tuple[str | None, ...]] = attrgetter(
    *(
        f"InitiatingProcess{name}"
        for name in (
            *("FileName", "FolderPath", "CommandLine", "AccountName", "AccountDomain", "AccountSid", "ParentFileName"),
            *("SHA1", "SHA256", "MD5"),
        )
    )
)
"""Text columns of the initiating process."""
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
"""Network rows that are not used and are counted by name; all others of a table are counted as `other`."""
VERDICTS = {
    "ExploitGuardNetworkProtectionBlocked": Action.BLOCKED,
    "ExploitGuardNetworkProtectionAudited": Action.AUDITED,
    "NetworkProtectionUserBypassEvent": Action.BYPASSED,
    "SmartScreenExploitWarning": Action.WARNED,
    "SmartScreenUrlWarning": Action.WARNED,
    "SmartScreenUserOverride": Action.BYPASSED,
}
"""`ActionType` of rows of DeviceEvents that are verdicts."""


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
    """Return the flow of a TCP connection, or the kind under which the row is ignored."""
    protocol = row.Protocol
    if protocol and protocol != "Tcp" and not protocol.lower().startswith("tcp"):
        return "network_not_tcp"
    local_ip, local_port = row.LocalIP, maybe_number(row.LocalPort, "LocalPort", PORT_MAX)
    remote_ip, remote_port = row.RemoteIP, maybe_number(row.RemotePort, "RemotePort", PORT_MAX)
    if local_ip and local_port and remote_ip and remote_port:
        return flow_of(local_ip, local_port, remote_ip, remote_port)
    return "network_no_ends"


def _connection(row: Row, action: str, is_short: bool) -> Parsed:
    """Parse a connection of the device. A row without process comes from network inspection: another row has the outcome."""
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
    """Parse a verdict on the initiating process's request.

    The other process columns, and usually the addresses, belong to other processes.
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
    """Return the initiating process; Defender writes PID 0 for an unknown one."""
    parent_pid = row.InitiatingProcessParentId
    # True and 1.0 equal 1 as cache keys, but are not a PID.
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
"""Handlers of the used rows, by `ActionType`. Their last argument is whether the row is short enough to cache its process."""


# The time of the event and not of the export: it is the order in which lines of several sensors are merged.
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
