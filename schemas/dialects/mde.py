"""Rows of Microsoft Defender for Endpoint as its streaming export writes them (`schemas.defender.rows`).

DeviceNetworkEvents gives connections with their process, and the requests and TLS names of inspected ones; DeviceEvents the
verdicts of network protection and SmartScreen. Rows come minutes late, out of order, and some twice: `Timestamp` is the
event's own time, and with device, `ReportId` and `ActionType` its identity. Inbound connections are those of another machine.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas.address import split_authority, split_url
from schemas.clock import parse_micros
from schemas.defender.rows import UNREADABLE, Row, claims, read, read_head, split
from schemas.events import (
    TEXT_CHARS_MAX,
    Action,
    ConnectionOpened,
    Dialect,
    Flow,
    HttpExchange,
    Ignored,
    Micros,
    Parsed,
    Process,
    ProcessVerdict,
    Reason,
    Reject,
    TlsName,
    flow_of,
)
from schemas.windows.record import Missing, Scalar, needed, number, text

PORT_MAX = 65_535
PID_MAX = 2**32
REPORT_ID_MAX = 2**63
NEVER = "1970"
"""Unknown times are also written as the year 1 or 1601."""
STATUS_MAX = 999
NETWORK, DEVICE = "DeviceNetworkEvents", "DeviceEvents"
KINDS = {
    "ConnectionAcknowledged": "network_acknowledged",
    "ConnectionFailedAggregatedReport": "network_aggregated",
    "ConnectionSuccessAggregatedReport": "network_aggregated",
    "DnsConnectionInspected": "network_dns",
    "FtpConnectionInspected": "network_ftp",
    "IcmpConnectionInspected": "network_icmp",
    "InboundConnectionAccepted": "network_inbound",
    "InboundConnectionAttempt": "network_inbound",
    "InboundInternetScanInspected": "network_inbound",
    "ListeningConnectionCreated": "network_listening",
    "NetworkSignatureInspected": "network_signature",
    "NtlmAuthenticationInspected": "network_ntlm",
    "SmtpConnectionInspected": "network_smtp",
    "SshConnectionInspected": "network_ssh",
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
            return handler(row, action)
        return _ignored(row, KINDS.get(action) or ("device_other" if row.table == DEVICE else "network_other"))
    except Missing as error:
        return Reject(Reason.INCOMPLETE, str(error), raw)
    except msgspec.ValidationError as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)
    except UNREADABLE as error:
        return Reject(Reason.MALFORMED, str(error) or type(error).__name__, raw)
    except (ValueError, OverflowError) as error:
        return Reject(Reason.BAD_VALUE, str(error), raw)


def _ignored(row: Row, kind: str) -> Ignored:
    return Ignored(row.device, _at(row), kind)


def _at(row: Row) -> Micros:
    return parse_micros(needed(row.time, "Timestamp"))


def _flow(row: Row) -> Flow | str:
    """The ends of a TCP connection, or why there are none."""
    if row.Protocol and not row.Protocol.lower().startswith("tcp"):
        return "network_not_tcp"
    local_port, remote_port = _number(row.LocalPort, "LocalPort"), _number(row.RemotePort, "RemotePort")
    if row.LocalIP and local_port and row.RemoteIP and remote_port:
        return flow_of(row.LocalIP, local_port, row.RemoteIP, remote_port)
    return "network_no_ends"


def _connection(row: Row, action: str) -> Parsed:
    """A connection that the device made. One without process was seen on the wire: its own row tells what came of it."""
    flow = _flow(row)
    if isinstance(flow, str):
        return _ignored(row, flow)
    process = _process(row)
    established = action in ("ConnectionSuccess", "ConnectionFound")
    failed = action == "ConnectionFailed"
    if action not in ("ConnectionSuccess", "ConnectionFailed") and process.pid is None and not process.name:
        return _ignored(row, "network_no_process")
    at = _at(row)
    return ConnectionOpened(
        row.device, at, flow, at, at if established else 0, 0, failed, process, _event_id(row, action)
    )


def _http(row: Row, action: str) -> Parsed:
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
        _number(row.ReportId, "ReportId", REPORT_ID_MAX),
        method[:TEXT_CHARS_MAX],
        target,
        split_authority(host, 80)[0] if host else "",
        _number(seen.status_code, "status_code", STATUS_MAX) or None,
        _event_id(row, action),
    )


def _tls(row: Row, action: str) -> Parsed:
    """Nothing tells whether the hello came through a tunnel: a CONNECT on the same connection does."""
    flow = _flow(row)
    if isinstance(flow, str):
        return _ignored(row, flow)
    seen = row.additional()
    if _is_inbound(seen.direction):
        return _ignored(row, "network_inbound")
    name = text(seen.server_name)
    sni = split_authority(name, 443)[0] if name else ""
    return TlsName(row.device, _at(row), flow, sni, False, _event_id(row, action))


def _verdict(row: Row, action: str) -> Parsed:
    """The initiating process asked; the row's other process columns are of somebody else, its addresses mostly the proxy's."""
    told = row.additional()
    url, port = row.RemoteUrl or text(told.Uri), 0
    if url:
        host, port = split_url(url)
    elif row.RemoteIP:
        url, (host, _) = row.RemoteIP, split_url(row.RemoteIP)
    elif action.startswith("SmartScreen"):
        return _ignored(row, "device_no_url")
    else:
        raise Missing("neither RemoteUrl nor Uri nor RemoteIP tells what was asked for")
    if not host:
        raise ValueError(f"RemoteUrl {url[:80]!r} names no host")
    did = VERDICTS[action]
    if did is Action.BLOCKED and text(told.IsAudit).lower() in ("true", "1"):
        did = Action.AUDITED
    return ProcessVerdict(
        row.device,
        _at(row),
        did,
        _process(row),
        host,
        port,
        url[:TEXT_CHARS_MAX],
        _short(text(told.DisplayName)),
        _short(text(told.ResponseCategory)) or _short(text(told.Experience)),
        _event_id(row, action),
        _short(text(told.ResponseCategoryGroup)),
    )


def _process(row: Row) -> Process:
    """The initiating process; its PID 0 is Defender's word for none."""
    created = row.InitiatingProcessCreationTime or ""
    return Process(
        _number(row.InitiatingProcessId, "InitiatingProcessId", PID_MAX) or None,
        _short(row.InitiatingProcessFileName),
        _short(row.InitiatingProcessFolderPath),
        _short(row.InitiatingProcessCommandLine),
        parse_micros(created) if created > NEVER else 0,
        _short(row.InitiatingProcessAccountName),
        _short(row.InitiatingProcessAccountDomain),
        _short(row.InitiatingProcessAccountSid),
        _number(row.InitiatingProcessParentId, "InitiatingProcessParentId", PID_MAX) or None,
        _short(row.InitiatingProcessParentFileName),
        _short(row.InitiatingProcessSHA1),
        _short(row.InitiatingProcessSHA256),
        _short(row.InitiatingProcessMD5),
    )


def _number(written: Scalar, name: str, largest: int = PORT_MAX) -> int:
    """A whole number, 0 where there is none."""
    if written.__class__ is int and 0 <= written <= largest:  # nearly always, and fast
        return written
    return number(written, name, largest) if text(written) else 0


def _short(written: str | None) -> str:
    return written[:TEXT_CHARS_MAX] if written else ""


def _is_inbound(direction: Scalar) -> bool:
    return text(direction).lower() == "in"


def _event_id(row: Row, action: str) -> str:
    return f"mde/{action}/{_number(row.ReportId, 'ReportId', REPORT_ID_MAX)}/{row.time}"


HANDLERS: dict[str, Callable[[Row, str], Parsed]] = {
    **dict.fromkeys(
        ("ConnectionSuccess", "ConnectionFailed", "ConnectionFound", "ConnectionRequest", "ConnectionAttempt"),
        _connection,
    ),
    "HttpConnectionInspected": _http,
    "SslConnectionInspected": _tls,
    **dict.fromkeys(VERDICTS, _verdict),
}
"""The rows that are for us, by `ActionType`."""


def written_at(raw: bytes) -> Micros:
    """When the event happened. That the export wrote it later is no matter: other sensors' lines are put in order with it."""
    try:
        time = read_head(raw).time
        return parse_micros(time) if time else 0
    except (*UNREADABLE, ValueError, OverflowError):
        return 0


def device_of(raw: bytes) -> str:
    """The device's name, or its id where it has none."""
    try:
        return read_head(raw).device
    except UNREADABLE:
        return ""


DIALECT = Dialect(
    "mde",
    parse,
    written_at,
    device_of,
    title="Microsoft Defender for Endpoint, streamed rows (Event Hub, storage account, advanced hunting)",
    gives="DeviceNetworkEvents: connections with process and user, requests and TLS names of inspected ones; DeviceEvents: "
    "verdicts of network protection and SmartScreen.",
    claims=claims,
    split=split,
    own_marks=(b"LocalIP",),
)
