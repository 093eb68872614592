"""Alerts as published: severity, recommended action and technique of each kind, and the KQL query that finds the rows."""

from __future__ import annotations

import json

from schemas.clock import iso_micros
from schemas.indicators import Severity
from schemas.suppressions import Suppression
from schemas.tables import Alert, AlertKind
from streams.assess.assessment import identity
from streams.assess.mode_history import mode_at
from streams.assess.version import alert_evidence
from streams.model.connection import AUDITED, BLOCKED
from streams.model.device import Device
from streams.model.protection import AlertState

SEVERITY = {
    AlertKind.BLOCKED: Severity.MEDIUM,
    AlertKind.WARNED: Severity.MEDIUM,
    AlertKind.BYPASSED: Severity.HIGH,
    AlertKind.AUDITED: Severity.LOW,
    AlertKind.NOT_ENFORCED: Severity.HIGH,
    AlertKind.UNCONFIRMED_PROXY: Severity.LOW,
    AlertKind.PROXY_BYPASS: Severity.MEDIUM,
    AlertKind.HOST_MISMATCH: Severity.MEDIUM,
}
TECHNIQUES = {
    AlertKind.HOST_MISMATCH: ["T1090.004"],  # Proxy: Domain Fronting
    AlertKind.UNCONFIRMED_PROXY: ["T1090"],  # Proxy
}
RECOMMENDED = {
    AlertKind.BLOCKED: "Find out what asked for it; the request itself was stopped",
    AlertKind.WARNED: "Find out what asked for it; the user was warned",
    AlertKind.BYPASSED: "Ask the user; look what was fetched past the warning",
    AlertKind.AUDITED: "Find out what asked for it; the request went through",
    AlertKind.NOT_ENFORCED: "The request went through: look what it fetched, and switch the device to block",
    AlertKind.UNCONFIRMED_PROXY: "Name it in correlation.proxies if it is yours; else find out who put it there",
    AlertKind.PROXY_BYPASS: "Find out which process goes past the proxy, and whether the firewall should let it",
    AlertKind.HOST_MISMATCH: "Find out what is behind the tunnel; the name inside is not the one asked of the proxy",
}
ACTIONS = {
    AlertKind.BLOCKED: "ExploitGuardNetworkProtectionBlocked",
    AlertKind.AUDITED: "ExploitGuardNetworkProtectionAudited",
    AlertKind.WARNED: "SmartScreenUrlWarning",
    AlertKind.BYPASSED: "NetworkProtectionUserBypassEvent",
}
"""`ActionType` of the verdicts in DeviceEvents."""
_PROOF = {
    AlertKind.AUDITED: AUDITED,
    AlertKind.BLOCKED: BLOCKED,
    AlertKind.WARNED: BLOCKED,
    AlertKind.BYPASSED: BLOCKED,
}


def alert(device: Device, state: AlertState, suppression: Suppression | None) -> Alert:
    """Return the alert to publish from its state."""
    kind, indicator = AlertKind(state.kind), state.indicator
    by_protection = indicator is None or kind not in {AlertKind.AUDITED, AlertKind.NOT_ENFORCED}
    return Alert(
        AlertId=identity(device.name, state.kind, state.domain, state.day),
        Version=alert_evidence(device.state, state).version(),
        Kind=kind,
        Severity=indicator.severity if indicator is not None else SEVERITY[kind],
        DeviceId=device.name,
        DeviceName=device.name,
        DestinationDomain=state.domain,
        DestinationHosts=state.hosts,
        DestinationPort=state.port or None,
        Count=state.count,
        FirstTime=iso_micros(state.first),
        LastTime=iso_micros(state.last),
        Outcome=state.outcome,
        ProtectionMode=mode_at(device.state, state.last, _PROOF.get(kind, 0) if by_protection else 0),
        InitiatingProcessFileName=state.process_name,
        InitiatingProcessId=state.pid,
        InitiatingProcessFolderPath=state.path,
        InitiatingProcessCommandLine=state.command_line,
        InitiatingProcessSHA256=state.sha256,
        InitiatingProcessAccountName=state.account,
        ProxyIP=state.proxy_ip,
        ProxyPort=state.proxy_port,
        ProxyName=state.proxy_name,
        Title=state.title,
        Category=state.category,
        Confidence=state.confidence,
        IndicatorId=indicator.id if indicator is not None else "",
        IndicatorValue=indicator.value if indicator is not None else "",
        IndicatorAction=str(indicator.action) if indicator is not None else "",
        IndicatorMatch="" if indicator is None else "host_only" if state.partial else "full",
        RecommendedAction=(indicator.recommended if indicator is not None else "") or RECOMMENDED[kind],
        Techniques=TECHNIQUES.get(kind, []),
        EvidenceIds=state.event_ids,
        SuppressedBy=suppression.who if suppression is not None else "",
        SuppressedReason=suppression.why if suppression is not None else "",
        SuppressedUntil=iso_micros(suppression.until) if suppression is not None else None,
        Query=_query(device.name, kind, state),
    )


def _query(device: str, kind: AlertKind, state: AlertState) -> str:
    action = ACTIONS.get(kind)
    table = "DeviceEvents" if action and not _by_indicator(kind, state) else "DeviceNetworkEvents"
    domain = f"DestinationDomain == {_quoted(state.domain)}"
    what = {
        AlertKind.UNCONFIRMED_PROXY: f"ProxyIP == {_quoted(state.domain)}",
        AlertKind.PROXY_BYPASS: f'Layer == "connection" and ProxyIP == "" and {domain}',
        AlertKind.HOST_MISMATCH: f'HostMismatch != "" and {domain}',
    }.get(kind, domain if table == "DeviceNetworkEvents" else f'{domain} and ActionType == "{action}"')
    return (
        f"{table} | where DeviceId == {_quoted(device)} and {what} and Timestamp between (datetime({state.day}) .. 1d)"
    )


def _by_indicator(kind: AlertKind, state: AlertState) -> bool:
    return kind is AlertKind.NOT_ENFORCED or (kind is AlertKind.AUDITED and state.outcome != "audited")


def _quoted(text: str) -> str:
    """Return a KQL string literal: KQL uses JSON's escapes (learn.microsoft.com/kusto/query/scalar-data-types/string)."""
    return json.dumps(text)
