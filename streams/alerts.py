"""Folding of judged requests into alerts: device + kind + registrable domain + UTC day.

A tunnel is one request, though its CONNECT and the server name inside it may both be judged; a request on the wire counts
once however many rules or packets speak of it. What was only audited at first and blocked a moment later moves from the
audited alert to the blocked one.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.address import registrable_domain
from schemas.clock import iso_micros
from schemas.events import Micros
from schemas.record import Alert, AlertKind, Outcome
from streams.findings import Place, identity, mode_at, mode_changes, tunnel_end
from streams.state import ALERTS_MAX, AUDITED, BLOCKED, AlertState, Connection, Device, Judged

HOSTS_MAX = 32
EVENT_IDS_MAX = 32
KEPT_DAYS = 2
"""How long an alert's state is kept after its last request, in days of the device's clock."""


class Request(NamedTuple):
    """One judged request on the wire."""

    judged: Judged
    spoken: list[Judged]
    """All that was judged of it: a CONNECT, and the server name inside its tunnel."""
    flags: int
    host: str
    port: int
    record: str
    evidence: int


def requests(place: Place, connection: Connection) -> list[Request]:
    """The judged requests of a connection, each once; those whose host nobody knows yet are left out."""
    tunnels = sorted((j for j in connection.judged if j.tunnel and j.request), key=lambda j: j.request)
    names = [j for j in connection.judged if j.tunnel and not j.request]
    end = tunnel_end(connection) if place.proxied else None
    flow = connection.flow_id or str(connection.first)
    found = []
    for ordinal, judged in enumerate(tunnels or names[:1]):
        spoken = [judged, *(j for j in names if j is not judged)] if not tunnels or judged is tunnels[-1] else [judged]
        host, port = judged.host, judged.port
        if end is not None and (not host or not port):
            host, port = host or end.host, port or end.port
        port = port or (place.remote_port if not place.proxied else 443)
        record = identity(place.device, place.key, flow, "judged tunnel", str(ordinal))
        found.append(_request(judged, spoken, host, port, record))
    for judged in connection.judged:
        if not judged.tunnel:
            port = judged.port or (end.port if end is not None else place.remote_port)
            record = identity(place.device, place.key, flow, "judged request", str(judged.request), judged.host)
            found.append(_request(judged, [judged], judged.host, port, record))
    return [request for request in found if request.host]


def _request(judged: Judged, spoken: list[Judged], host: str, port: int, record: str) -> Request:
    flags = 0
    for one in spoken:
        flags |= one.flags
    return Request(judged, spoken, flags, host, port, record, sum(one.evidence for one in spoken))


def fold(device: Device, place: Place, connection: Connection, request: Request) -> None:
    """Count a request under the alert it belongs to, and take it from the one it no longer belongs to."""
    judged = request.judged
    flag = BLOCKED if request.flags & BLOCKED else AUDITED
    if flag == AUDITED and judged.tunnel and device.facts.block_from and not connection.settled:
        return  # A device that blocks may let CONNECT pass and stop the name inside a moment later.
    process = connection.kernel.process if connection.kernel is not None else None
    if judged.counted == flag and judged.folded == request.evidence and (judged.named or process is None):
        return
    if judged.counted and judged.counted != flag:
        left = device.alerts.get(alert_key(judged.counted, request))
        if left is not None:
            left.count -= 1
            left.version += 1
            _touch(device, left)
        judged.counted = judged.folded = 0
        judged.named = False
    state = _state(device, flag, request)
    state.count += not judged.counted
    state.version += 2 * (request.evidence - judged.folded) + (process is not None and not judged.named)
    judged.counted, judged.folded = flag, request.evidence
    latest = max(request.spoken, key=lambda j: (j.last, j.title))
    state.first = min(state.first or judged.at, *(j.at for j in request.spoken))
    if (latest.last, latest.title) >= (state.last, state.title):
        state.last, state.title = latest.last, latest.title
        state.proxy_ip = place.remote_ip if place.proxied else ""
        state.proxy_port = place.remote_port if place.proxied else None
    state.hosts = sorted({*state.hosts, request.host})[:HOSTS_MAX]
    state.event_ids = sorted({*state.event_ids, *(j.event_id for j in request.spoken)})[:EVENT_IDS_MAX]
    if process is not None:
        judged.named = True
        if latest.last >= state.process_at:
            state.process_at = latest.last
            state.process_name, state.pid, state.account = process.name, process.pid, process.account
    _touch(device, state)


def alert_key(flag: int, request: Request) -> str:
    """What folds together: kind, domain and UTC day."""
    kind = AlertKind.BLOCKED if flag == BLOCKED else AlertKind.AUDITED
    return f"{kind}|{registrable_domain(request.host)}|{iso_micros(request.judged.at)[:10]}"


def _state(device: Device, flag: int, request: Request) -> AlertState:
    key = alert_key(flag, request)
    state = device.alerts.get(key)
    if state is None:
        if len(device.alerts) >= ALERTS_MAX:
            oldest = next(iter(device.alerts))
            del device.alerts[oldest]
            device.touched_alerts[oldest] = None
        kind, domain, day = key.split("|")
        state = device.alerts[key] = AlertState(kind, domain, day)
    return state


def _touch(device: Device, state: AlertState) -> None:
    key = f"{state.kind}|{state.domain}|{state.day}"
    device.dirty_alerts[key] = None
    device.touched_alerts[key] = None


def forget_old(device: Device) -> None:
    """Let go of alerts whose day is long over by the device's clock."""
    oldest: Micros = device.facts.now - KEPT_DAYS * 86_400_000_000
    for key in [key for key, state in device.alerts.items() if state.last < oldest]:
        del device.alerts[key]
        device.touched_alerts[key] = None


def alert(device: Device, state: AlertState) -> Alert:
    """The alert as it is published."""
    action = "Blocked" if state.kind == AlertKind.BLOCKED else "Audited"
    return Alert(
        AlertId=identity(device.name, state.kind, state.domain, state.day),
        Version=4 * state.version + mode_changes(device.facts, state.last),
        Kind=AlertKind(state.kind),
        DeviceId=device.name,
        DeviceName=device.name,
        DestinationDomain=state.domain,
        DestinationHosts=state.hosts,
        Count=state.count,
        FirstTime=iso_micros(state.first),
        LastTime=iso_micros(state.last),
        Outcome=Outcome(state.kind),
        ProtectionMode=mode_at(device.facts, state.last, BLOCKED if state.kind == AlertKind.BLOCKED else AUDITED),
        InitiatingProcessFileName=state.process_name,
        InitiatingProcessId=state.pid,
        InitiatingProcessAccountName=state.account,
        ProxyIP=state.proxy_ip,
        ProxyPort=state.proxy_port,
        Title=state.title,
        EvidenceIds=state.event_ids,
        Query=(
            f'DeviceEvents | where DeviceId == "{device.name}" and DestinationDomain == "{state.domain}"'
            f' and ActionType == "ExploitGuardNetworkProtection{action}"'
            f" and Timestamp between (datetime({state.day}) .. 1d)"
        ),
    )
