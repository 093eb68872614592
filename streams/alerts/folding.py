"""Folding of findings into alerts by device, kind, registrable domain and UTC day.

A request on the wire counts once, however many rules, packets or sensors report it (`streams.alerts.findings`). Each alert
counts the requests of its findings. A finding whose kind changes moves from one alert to another: a request that is first
audited and then blocked moves from the audited alert to the blocked one.
"""

from __future__ import annotations

import heapq
import zlib

from schemas.clock import LATEST
from schemas.events import Micros, Process
from schemas.tables import AlertKind
from streams.alerts.findings import DESCRIBED, NAMED, NUMBERED, PLACED, Finding
from streams.assess.assessment import Route
from streams.model.device import ALERTS_FORGOTTEN, ALERTS_MAX, NEVER, Device
from streams.model.protection import AlertState, Counted

HOSTS_MAX = 32
EVENT_IDS_MAX = 32
KEPT: Micros = 2 * 86_400_000_000
"""Time for which an alert's state is kept after its last request and after its last publication."""
WAYS = {AlertKind.UNCONFIRMED_PROXY, AlertKind.PROXY_BYPASS}
WAY_EVENT_IDS_MAX = 8
"""Maximum number of event ids for kinds that count connections; it is small, as each connection rewrites the alert's state."""
PATIENT = {AlertKind.UNCONFIRMED_PROXY: 60}
"""Factor by which the wait between two versions is longer, for kinds that change with each connection."""


def fold(
    device: Device, route: Route | None, process: Process | None, counted: dict[str, Counted], found: list[Finding]
) -> None:
    """Count the findings of one connection in their alerts.

    `counted` contains what the alerts already count for these findings, and is updated.
    """
    moved = _remove_missing(counted, found) if counted else {}
    held = _held(route, process)
    for finding in found:
        known, key = counted.get(finding.name), finding.alert
        if known is None and moved.get(key):
            # The same request under a new name: a server name that was counted alone is now part of a tunnel with a verdict.
            known = counted[finding.name] = moved[key].pop()
        if finding.deferred:
            continue
        stamp = 2 * finding.evidence + held.bit_count()
        if known is not None and (known.alert, known.weight, known.stamp) == (key, finding.weight, stamp):
            continue
        if known is not None and known.alert != key:
            withdraw(device, known)
            known = None
        if known is not None and _part_of(device, known) is None:
            continue
        state = _state(device, key)
        state.count += finding.weight - (known.weight if known is not None else 0)
        before = known.stamp if known is not None else 0
        state.version += max(stamp - before, 1)
        asker = _checksum(_asker(finding, process)) if process is not None else 0
        counted[finding.name] = Counted(key, finding.weight, stamp, state.number, asker)
        if known is not None and known.asker not in (0, asker) and known.asker == _checksum(_by(state)):
            _forget_process(state)  # The alert's process came from this request, whose process or time changed.
        _update(state, finding, route, process)
        touch(device, key)
    for several in moved.values():
        for gone in several:
            withdraw(device, gone)


def _remove_missing(counted: dict[str, Counted], found: list[Finding]) -> dict[str, list[Counted]]:
    """Remove what is counted for findings that are gone; return it by alert."""
    moved: dict[str, list[Counted]] = {}
    there = {finding.name for finding in found}
    for name in [name for name in counted if name not in there]:
        gone = counted.pop(name)
        moved.setdefault(gone.alert, []).append(gone)
    return moved


def _held(route: Route | None, process: Process | None) -> int:
    """Return the flags of the data that an alert has from a request besides the count."""
    held = PLACED if route is not None and route.proxied else 0
    if process is not None:
        held |= NUMBERED | (NAMED if process.name else 0) | (DESCRIBED if process.command_line else 0)
    return held


def add(device: Device, route: Route, process: Process | None, finding: Finding) -> None:
    """Count a finding permanently: later evidence does not retract it."""
    state = _state(device, finding.alert)
    state.count += finding.weight
    state.version += 1
    _update(state, finding, route, process)
    touch(device, finding.alert)


def withdraw(device: Device, counted: Counted) -> None:
    """Retract what an alert counts for a finding."""
    state = _part_of(device, counted)
    if state is None:
        return
    state.count -= counted.weight
    state.version += 1
    if not state.count:
        # An empty alert starts again. While other findings remain, the state does not show what this one added.
        state.hosts, state.event_ids, state.title = [], [], ""
        state.first = state.last = 0
        _forget_process(state)
        state.indicator, state.partial = None, False
    touch(device, counted.alert)


def _part_of(device: Device, counted: Counted) -> AlertState | None:
    """Return the alert that counts this finding.

    None if that alert was published and evicted, even if a later alert has the same key.
    """
    state = device.alerts.get(counted.alert)
    return state if state is not None and state.number == counted.number else None


def _update(state: AlertState, finding: Finding, route: Route | None, process: Process | None) -> None:
    state.first = min(state.first or finding.at, finding.at)
    proxied = route is not None and route.proxied
    proxy_ip, proxy_port = (route.remote_ip, route.remote_port) if route is not None and proxied else ("", None)
    # Of requests at the same time the highest tuple sets the fields, independent of the order of arrival.
    if (finding.last, finding.title, proxy_ip, proxy_port or 0) >= _rank(state):
        state.last, state.title, state.category = finding.last, finding.title, finding.category
        state.proxy_ip, state.proxy_port = proxy_ip, proxy_port
        state.proxy_name = route.proxy_name if route is not None and proxied else ""
        state.port, state.outcome, state.confidence = finding.port, finding.outcome, finding.confidence
        state.indicator, state.partial = finding.indicator, finding.partial
    hosts = {finding.host, *finding.more_hosts}
    if not hosts <= set(state.hosts):
        state.hosts = sorted({*state.hosts, *hosts})[:HOSTS_MAX]
    ids, ids_max = state.event_ids, WAY_EVENT_IDS_MAX if finding.kind in WAYS else EVENT_IDS_MAX
    if len(ids) < ids_max or min(finding.event_ids, default=ids[-1]) < ids[-1]:
        state.event_ids = sorted({*ids, *finding.event_ids})[:ids_max]
    if process is not None and _asker(finding, process) >= _by(state):
        state.process_at = finding.last
        state.process_name, state.pid, state.account = process.name, process.pid, process.account
        state.path, state.command_line, state.sha256 = process.path, process.command_line, process.sha256


def _rank(state: AlertState) -> tuple[Micros, str, str, int]:
    """Return the fields of the latest request that rank it against another one."""
    return state.last, state.title, state.proxy_ip, state.proxy_port or 0


Asker = tuple[Micros, str, int, str]
"""Time and process (name, PID, account) of a request; the larger tuple supplies the alert's process."""


def _by(state: AlertState) -> Asker:
    return state.process_at, state.process_name, state.pid or 0, state.account


def _asker(finding: Finding, process: Process) -> Asker:
    return finding.last, process.name, process.pid or 0, process.account


def _checksum(asker: Asker) -> int:
    """Return a checksum of the tuple that is the same in every worker process."""
    return zlib.crc32("\0".join(map(str, asker)).encode("utf-8", "surrogatepass"))


def _forget_process(state: AlertState) -> None:
    state.process_at, state.process_name, state.pid, state.account = 0, "", None, ""
    state.path = state.command_line = state.sha256 = ""


def _state(device: Device, key: str) -> AlertState:
    state = device.alerts.get(key)
    if state is None:
        if len(device.alerts) >= ALERTS_MAX:
            _forget_oldest(device)
        kind, domain, day = key.split("|")
        device.state.alerts_begun += 1
        state = device.alerts[key] = AlertState(kind, domain, day, number=device.state.alerts_begun)
    return state


def reopen(device: Device, key: str) -> None:
    """Mark an alert for another publication after the mode history changed.

    The history is part of the published version but not of `state.version`, whose growth normally causes a publication.
    """
    state = device.alerts[key]
    state.sent = min(state.sent, max(state.version - 1, 0))
    touch(device, key)


def touch(device: Device, key: str) -> None:
    """Mark an alert as changed, for publication and for the next checkpoint."""
    if key not in device.dirty_alerts:
        _mark_dirty(device, key)
        device.held_due = 0
    device.touched_alerts[key] = None
    device.forget_due = min(device.forget_due, _latest(device.alerts[key]) + KEPT)


def _mark_dirty(device: Device, key: str) -> None:
    device.dirty_number += 1
    device.dirty_alerts[key] = device.dirty_number
    device.fresh_alerts.append(key)


def evict(device: Device, key: str) -> None:
    """Remove an alert from the state; its unpublished changes stay queued for publication."""
    state = device.alerts.pop(key)
    device.dirty_alerts.pop(key, None)
    device.touched_alerts[key] = None
    if _is_publishable(state):
        device.evicted_alerts.append(state)


def _forget_oldest(device: Device) -> None:
    """Remove the `ALERTS_FORGOTTEN` alerts with the oldest activity at once, as finding one costs as much as finding all."""
    for key in heapq.nsmallest(
        ALERTS_FORGOTTEN, device.alerts, key=lambda known: (_latest(device.alerts[known]), known)
    ):
        evict(device, key)


def forget_old(device: Device, now: Micros) -> None:
    """Remove alerts without activity for `KEPT`, or all alerts if `now` is `LATEST`. Returns at once if none is due."""
    if now <= device.forget_due:
        return
    for key in [key for key, state in device.alerts.items() if _latest(state) < now - KEPT or now == LATEST]:
        evict(device, key)
    device.forget_due = min((_latest(state) + KEPT for state in device.alerts.values()), default=NEVER)


def _latest(state: AlertState) -> Micros:
    """Return the time of the alert's latest request or of its latest publication, whichever is later.

    A withdrawn alert has no request, but its state must stay so that its next version is higher.
    """
    return max(state.last, state.sent_at)


def remember(device: Device, gap: Micros) -> None:
    """Restore the schedule of the alerts of a restored device, as `due` left it."""
    for key, state in device.alerts.items():
        if _is_publishable(state):
            _mark_dirty(device, key)
            device.held_due = min(device.held_due, state.sent_at + _wait(state, gap) if state.sent_at else 0)


def _is_publishable(state: AlertState) -> bool:
    """Return whether an alert has unpublished changes and was not withdrawn before its first publication."""
    return state.version > state.sent and bool(state.count or state.sent_at)


def _wait(state: AlertState, gap: Micros) -> Micros:
    return gap * PATIENT.get(AlertKind(state.kind), 1)


def due(device: Device, now: Micros, gap: Micros) -> list[AlertState]:
    """Return the alerts that are to be published at the device's time `now`, in the order in which they changed.

    The other changed alerts wait in a heap, so the cost of a call depends on the due and changed alerts, not on the waiting ones.
    `held_due` becomes the time at which the next one is due.
    """
    ready, device.evicted_alerts = device.evicted_alerts, []
    heap = device.held_alerts
    keys = set(device.fresh_alerts)
    device.fresh_alerts.clear()
    if not gap or device.held_sent > now + gap:  # No alert has to wait, or the clock was set back.
        keys.update(device.dirty_alerts)
        heap.clear()
        device.held_sent = 0
    while heap and heap[0][0] <= now:
        keys.add(heapq.heappop(heap)[1])
    dirty = device.dirty_alerts
    for key in sorted(keys & dirty.keys(), key=dirty.__getitem__):
        state = device.alerts[key]
        wait = _wait(state, gap)
        next_at = state.sent_at + wait if state.sent_at else now
        if not (state.count or state.sent_at):
            del dirty[key]  # Withdrawn before it was published.
        elif next_at <= now or state.sent_at > now + wait:
            del dirty[key]
            state.sent, state.sent_at = state.version, now
            device.touched_alerts[key] = None
            ready.append(state)
        else:
            heapq.heappush(heap, (next_at, key))
            device.held_sent = max(device.held_sent, state.sent_at)
    device.held_due = heap[0][0] if heap else NEVER
    return ready
