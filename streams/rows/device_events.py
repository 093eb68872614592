"""Rows of DeviceEvents: verdicts on requests, with or without a known connection."""

from __future__ import annotations

from schemas.address import is_ip, registrable_domain
from schemas.clock import iso_micros
from schemas.tables import AlertKind, Confidence, DeviceEvent
from streams.alerts.findings import kind_of
from streams.alerts.message import ACTIONS
from streams.assess.assessment import Route, connection_id, outcome_of
from streams.assess.mode_history import mode_at
from streams.assess.process_attribution import process_of
from streams.assess.verdict_groups import VerdictGroup
from streams.model.connection import Connection
from streams.model.device import Device, DeviceState
from streams.model.protection import RequestVerdict, UnattributedVerdict
from streams.rows.network_events import NO_PROCESS, encode


def verdict_row(
    route: Route, state: DeviceState, connection: Connection, group: VerdictGroup, version: int
) -> DeviceEvent:
    """Return the row of one request with a verdict."""
    verdict, host, port = group.verdict, group.host, group.port
    process = process_of(connection) or NO_PROCESS
    return DeviceEvent(
        Timestamp=iso_micros(verdict.at),
        DeviceId=route.device,
        DeviceName=route.device,
        ActionType=ACTIONS[kind_of(group.flags)],
        RemoteUrl=verdict.url or f"{host}:{port}",
        RemoteIP=host if is_ip(host) else "" if route.proxied else route.remote_ip,
        RemotePort=port or None,
        LocalIP=route.local_ip,
        LocalPort=route.local_port,
        InitiatingProcessFileName=process.name,
        InitiatingProcessId=process.pid,
        InitiatingProcessFolderPath=process.path,
        InitiatingProcessCommandLine=process.command_line,
        InitiatingProcessAccountName=process.account,
        InitiatingProcessAccountDomain=process.domain,
        AdditionalFields=_verdict_fields(verdict, group.flags, f"{host}:{port}", {}),
        ReportId=int(group.record[:8], 16),
        RecordId=group.record,
        Version=version,
        ConnectionId=connection_id(route, connection),
        DestinationHost=host,
        DestinationDomain=registrable_domain(host) if host else "",
        ProxyIP=route.remote_ip if route.proxied else "",
        ProxyPort=route.remote_port if route.proxied else None,
        ProtectionMode=mode_at(state, verdict.at, group.flags),
        Outcome=outcome_of(group.flags),
    )


def unattributed_row(device: Device, unattributed: UnattributedVerdict, version: int) -> DeviceEvent:
    """Return the row of a process verdict, which names no connection; it may have been joined to a connection."""
    verdict, process, host = unattributed.verdict, unattributed.process, unattributed.verdict.host
    more = (
        {"Confidence": str(Confidence.INFERRED)}
        if unattributed.connection
        else {"Unjoined": unattributed.why}
        if unattributed.why
        else {}
    )
    return DeviceEvent(
        Timestamp=iso_micros(unattributed.at),
        DeviceId=device.name,
        DeviceName=device.name,
        ActionType=ACTIONS[kind_of(verdict.flags)],
        RemoteUrl=verdict.url or host,
        RemoteIP=host if is_ip(host) else "",
        RemotePort=verdict.port or None,
        LocalIP="",
        LocalPort=None,
        InitiatingProcessFileName=process.name,
        InitiatingProcessId=process.pid,
        InitiatingProcessFolderPath=process.path,
        InitiatingProcessCommandLine=process.command_line,
        InitiatingProcessAccountName=process.account,
        InitiatingProcessAccountDomain=process.domain,
        AdditionalFields=_verdict_fields(verdict, unattributed.flags, host, more),
        ReportId=int(unattributed.record[:8], 16),
        RecordId=unattributed.record,
        Version=version,
        ConnectionId=unattributed.connection,
        DestinationHost=host,
        DestinationDomain=registrable_domain(host) if host else "",
        ProxyIP="",
        ProxyPort=None,
        ProtectionMode=mode_at(device.state, unattributed.at, unattributed.flags),
        Outcome=outcome_of(unattributed.flags),
    )


def _verdict_fields(verdict: RequestVerdict, flags: int, uri: str, more: dict[str, str]) -> str:
    """Return the AdditionalFields of a verdict row as JSON."""
    fields: dict[str, object] = {
        "IsAudit": kind_of(flags) is AlertKind.AUDITED,
        "ResponseCategory": verdict.category,
        "DisplayName": verdict.title,
        "Uri": verdict.url or uri,
    }
    if verdict.category_group:
        fields["ResponseCategoryGroup"] = verdict.category_group
    return encode({**fields, **more}).decode()
