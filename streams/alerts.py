"""Folding of judged requests into alerts: device + kind + registrable domain + UTC day.

A tunnel is one request, though its CONNECT and the server name inside it may both be judged; a request on the wire counts
once however many rules or packets speak of it. What was only audited at first and blocked a moment later moves from the
audited alert to the blocked one.
"""

from __future__ import annotations

from schemas.address import registrable_domain
from schemas.clock import LATEST, iso_micros
from schemas.events import Micros
from schemas.record import Alert, AlertKind, Outcome
from streams.findings import Place, identity, mode_at, mode_changes
from streams.judged import Request
from streams.state import ALERTS_MAX, AUDITED, BLOCKED, AlertState, Connection, Device, Judged

HOSTS_MAX = 32
EVENT_IDS_MAX = 32
KEPT: Micros = 2 * 86_400_000_000
"""How long an alert's state is kept after its last request."""


NAMED, PLACED, NUMBERED = 1, 2, 4
"""What an alert knows of a request beside its count: the process's name, the proxy, the process's PID."""


def fold(device: Device, place: Place, connection: Connection, found: list[Request]) -> None:
    """Count the judged requests of a connection, each under the one alert it belongs to."""
    own = [request.judged for request in found]
    for judged in connection.judged:
        if judged.counted and not any(judged is one for one in own):
            _hand_over(device, judged, found)
    for request in found:
        _fold(device, place, connection, request)


def _hand_over(device: Device, name: Judged, found: list[Request]) -> None:
    """A server name that was counted by itself turned out to be spoken inside a judged tunnel, which counts for both."""
    heir = next((request for request in found if any(name is one for one in request.spoken)), None)
    if heir is None or heir.judged.counted or alert_key(heir) != name.counted:
        _withdraw(device, name)
        return
    heir.judged.counted, heir.judged.folded, heir.judged.told = name.counted, name.folded, name.told
    name.counted, name.folded, name.told = "", 0, 0


def _withdraw(device: Device, judged: Judged) -> None:
    state = device.alerts.get(judged.counted)
    if state is not None:
        state.count -= 1
        state.version += 1
        if not state.count:
            # What comes next begins anew; of several, those that stay do not say what this one added.
            state.hosts, state.event_ids, state.title = [], [], ""
            state.first = state.last = state.process_at = 0
            state.process_name, state.pid, state.account = "", None, ""
        _touch(device, state)
    judged.counted, judged.folded, judged.told = "", 0, 0


def _fold(device: Device, place: Place, connection: Connection, request: Request) -> None:
    judged = request.judged
    key = alert_key(request)
    if not request.flags & BLOCKED and judged.tunnel and device.facts.block_from and not connection.settled:
        return  # A device that blocks may let CONNECT pass and stop the name inside a moment later.
    process = connection.kernel.process if connection.kernel is not None else None
    tells = PLACED if place.proxied else 0
    if process is not None:
        tells |= NUMBERED | (NAMED if process.name else 0)
    if judged.counted == key and judged.folded == request.evidence and judged.told == tells:
        return
    if judged.counted and judged.counted != key:
        _withdraw(device, judged)
    state = _state(device, key)
    state.count += not judged.counted
    state.version += 2 * (request.evidence - judged.folded) + (tells & ~judged.told).bit_count()
    judged.counted, judged.folded, judged.told = key, request.evidence, tells
    latest = max(request.spoken, key=lambda j: (j.last, j.title))
    state.first = min(state.first or judged.at, *(j.at for j in request.spoken))
    proxy_ip, proxy_port = (place.remote_ip, place.remote_port) if place.proxied else ("", None)
    # Of requests at the very same time the one that compares highest tells, whichever came first.
    if (latest.last, latest.title, proxy_ip, proxy_port or 0) >= _told(state):
        state.last, state.title = latest.last, latest.title
        state.proxy_ip, state.proxy_port = proxy_ip, proxy_port
    state.hosts = sorted({*state.hosts, request.host})[:HOSTS_MAX]
    state.event_ids = sorted({*state.event_ids, *(j.event_id for j in request.spoken)})[:EVENT_IDS_MAX]
    if process is not None and (latest.last, process.name, process.pid or 0, process.account) >= _by(state):
        state.process_at = latest.last
        state.process_name, state.pid, state.account = process.name, process.pid, process.account
    _touch(device, state)


def _told(state: AlertState) -> tuple[Micros, str, str, int]:
    """Of what the latest request told, what decides between two."""
    return state.last, state.title, state.proxy_ip, state.proxy_port or 0


def _by(state: AlertState) -> tuple[Micros, str, int, str]:
    """Of whose request it was, what decides between two."""
    return state.process_at, state.process_name, state.pid or 0, state.account


def alert_key(request: Request) -> str:
    """What folds together: kind, domain and UTC day."""
    kind = AlertKind.BLOCKED if request.flags & BLOCKED else AlertKind.AUDITED
    return f"{kind}|{registrable_domain(request.host)}|{iso_micros(request.judged.at)[:10]}"


def _state(device: Device, key: str) -> AlertState:
    state = device.alerts.get(key)
    if state is None:
        if len(device.alerts) >= ALERTS_MAX:
            oldest = min(device.alerts, key=lambda known: (device.alerts[known].last, known))
            del device.alerts[oldest]
            device.touched_alerts[oldest] = None
        kind, domain, day = key.split("|")
        state = device.alerts[key] = AlertState(kind, domain, day)
    return state


def _touch(device: Device, state: AlertState) -> None:
    key = f"{state.kind}|{state.domain}|{state.day}"
    device.dirty_alerts[key] = None
    device.touched_alerts[key] = None


def forget_old(device: Device, now: Micros) -> None:
    """Let go of alerts whose day is long over; at the latest time there is, of all."""
    for key in [key for key, state in device.alerts.items() if state.last < now - KEPT or now == LATEST]:
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
