"""Folding of judged requests into alerts: device + kind + registrable domain + UTC day.

A tunnel is one request, though its CONNECT and the server name inside it may both be judged; a request on the wire counts
once however many rules or packets speak of it. What was only audited at first and blocked a moment later moves from the
audited alert to the blocked one.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.address import registrable_domain
from schemas.clock import iso_micros
from schemas.events import Micros, ProtectionMode
from schemas.record import Alert, AlertKind, Outcome
from streams.rows import Place, identity, mode_at, tunnel_end
from streams.state import AUDITED, BLOCKED, AlertState, Connection, Device, Judged

HOSTS_MAX = 32
EVENT_IDS_MAX = 32
KEPT_DAYS = 2
"""How long an alert's state is kept after its last request, in days of the device's clock."""


class Request(NamedTuple):
    """One judged request on the wire."""

    judged: Judged
    flags: int
    host: str
    port: int
    record: str
    evidence: int


def requests(place: Place, connection: Connection) -> list[Request]:
    """The judged requests of a connection, each once; those whose host nobody knows yet are left out."""
    tunnels = sorted((j for j in connection.judged if j.tunnel and j.request), key=lambda j: j.request)
    names = [j for j in connection.judged if j.tunnel and not j.request]
    inside = 0
    for judged in names:
        inside |= judged.flags
    end = tunnel_end(connection) if place.proxied else None
    flow = connection.flow_id or str(connection.first)
    found = []
    for ordinal, judged in enumerate(tunnels or names[:1]):
        last = not tunnels or judged is tunnels[-1]
        host, port = judged.host, judged.port
        if end is not None and (not host or not port):
            host, port = host or end.host, port or end.port
        port = port or (place.remote_port if not place.proxied else 443)
        record = identity(place.device, place.key, flow, "judged tunnel", str(ordinal))
        evidence = judged.evidence + (sum(j.evidence for j in names if j is not judged) if last else 0)
        found.append(Request(judged, judged.flags | (inside if last else 0), host, port, record, evidence))
    for judged in connection.judged:
        if not judged.tunnel:
            port = judged.port or (end.port if end is not None else place.remote_port)
            record = identity(place.device, place.key, flow, "judged request", str(judged.request), judged.host)
            found.append(Request(judged, judged.flags, judged.host, port, record, judged.evidence))
    return [request for request in found if request.host]


def fold(device: Device, place: Place, connection: Connection, request: Request) -> None:
    """Count a request under the alert it belongs to, and take it from the one it no longer belongs to."""
    judged = request.judged
    flag = BLOCKED if request.flags & BLOCKED else AUDITED
    if judged.counted == flag:
        return
    if judged.counted:
        _shift(device, judged.counted, request, -1)
    judged.counted = flag
    state = _shift(device, flag, request, 1)
    at = judged.at
    state.first = min(state.first or at, at)
    if at >= state.last:
        state.last = at
        state.mode = mode_at(device.facts, at, request.flags)
        state.proxy_ip = place.remote_ip if place.proxied else ""
        state.proxy_port = place.remote_port if place.proxied else None
        state.title = judged.title
    if request.host not in state.hosts and len(state.hosts) < HOSTS_MAX:
        state.hosts = sorted([*state.hosts, request.host])
    if judged.event_id not in state.event_ids and len(state.event_ids) < EVENT_IDS_MAX:
        state.event_ids = sorted([*state.event_ids, judged.event_id])
    name_process(device, connection, request)


def name_process(device: Device, connection: Connection, request: Request) -> None:
    """Put the process on the alert once the endpoint's record of the connection is there."""
    key = alert_key(request.judged.counted, request)
    state = device.alerts.get(key)
    if connection.kernel is None or state is None or request.judged.at < state.process_at:
        return
    process = connection.kernel.process
    known = (state.process_name, state.pid, state.account, state.process_at)
    state.process_at = request.judged.at
    state.process_name, state.pid, state.account = process.name, process.pid, process.account
    if known != (state.process_name, state.pid, state.account, state.process_at):
        state.version += 1
        _touch(device, key)


def alert_key(flag: int, request: Request) -> str:
    """What folds together: kind, domain and UTC day."""
    kind = AlertKind.BLOCKED if flag == BLOCKED else AlertKind.AUDITED
    return f"{kind}|{registrable_domain(request.host)}|{iso_micros(request.judged.at)[:10]}"


def _shift(device: Device, flag: int, request: Request, by: int) -> AlertState:
    key = alert_key(flag, request)
    state = device.alerts.get(key)
    if state is None:
        kind, domain, day = key.split("|")
        state = device.alerts[key] = AlertState(kind, domain, day)
    state.count += by
    state.version += 1
    _touch(device, key)
    return state


def _touch(device: Device, key: str) -> None:
    device.dirty_alerts[key] = None
    device.touched["a" + key] = None


def forget_old(device: Device) -> None:
    """Let go of alerts whose day is long over by the device's clock."""
    oldest: Micros = device.facts.now - KEPT_DAYS * 86_400_000_000
    for key in [key for key, state in device.alerts.items() if state.last < oldest]:
        del device.alerts[key]
        device.touched["a" + key] = None


def alert(device: Device, state: AlertState) -> Alert:
    """The alert as it is published."""
    action = "Blocked" if state.kind == AlertKind.BLOCKED else "Audited"
    return Alert(
        AlertId=identity(device.name, state.kind, state.domain, state.day),
        Version=state.version,
        Kind=AlertKind(state.kind),
        DeviceId=device.name,
        DeviceName=device.name,
        DestinationDomain=state.domain,
        DestinationHosts=state.hosts,
        Count=state.count,
        FirstTime=iso_micros(state.first),
        LastTime=iso_micros(state.last),
        Outcome=Outcome(state.kind),
        ProtectionMode=ProtectionMode(state.mode),
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
