"""Egress baseline: detects connections that bypass the device's usual proxy, or that use a proxy that is not listed."""

from __future__ import annotations

from schemas.address import authority, ip_type
from schemas.clock import MICROS, iso_micros
from schemas.events import Micros
from schemas.tables import AlertKind, Confidence
from streams.alerts.findings import Finding
from streams.assess.assessment import Route, connection_flags, direct_name, is_refused, outcome_of
from streams.model.connection import Connection
from streams.model.device import Device, DeviceState

DAYS_MAX = 7
"""Number of days with connections that a baseline covers; older days are dropped."""
PROXIED_MIN = 50
"""Minimum number of connections through proxies; with fewer there is no baseline."""
DIRECT_SHARE_MAX = 0.01
"""Maximum ratio of direct to proxied connections of a device that always uses a proxy."""

MINUTE: Micros = 60 * MICROS

_INSIDE = frozenset({"Private", "Loopback", "LinkLocal", "Multicast"})


def detect_proxy_bypass(device: Device, route: Route, connection: Connection, *, listed: bool) -> list[Finding]:
    """Return the findings on the route of a connection whose evidence was just considered complete.

    Runs once per connection; later evidence does not retract these findings.
    """
    connection.baseline_checked = True
    if route.proxied:
        _count(device.state, connection, route)
        if listed:
            return []
        title = f"{authority(route.remote_ip, route.remote_port)} acts as a proxy"
        return [_finding(AlertKind.UNCONFIRMED_PROXY, route, connection, route.remote_ip, title)]
    if ip_type(route.remote_ip) in _INSIDE or is_refused(connection):
        return []
    past = _always_uses_a_proxy(device.state, connection.started)
    _count(device.state, connection, route)
    if not past:
        return []
    title = f"{authority(route.remote_ip, route.remote_port)} past the proxy"
    host = direct_name(connection) or route.remote_ip
    return [_finding(AlertKind.PROXY_BYPASS, route, connection, host, title)]


def _finding(kind: AlertKind, route: Route, connection: Connection, host: str, title: str) -> Finding:
    at = connection.started
    endpoint = connection.endpoint
    asked = min((d.event_ids[0] for d in connection.destinations if d.event_ids), default=None)
    ids = (asked[1],) if asked is not None else (endpoint.event_id,) if endpoint is not None else ()
    return Finding(
        "",
        kind,
        host,
        route.remote_port,
        at,
        at,
        1,
        1,
        title,
        "",
        ids,
        outcome_of(connection_flags(route, connection, connection.live)),
        Confidence.EXACT,
    )


def _always_uses_a_proxy(state: DeviceState, started: Micros) -> bool:
    """Return whether the device always used a proxy before the connection's own minute.

    The order of the lines within a minute therefore has no effect.
    """
    past = list(state.baselines.values())
    if state.baseline_minute < started // MINUTE:
        past.append(state.baseline_counts)
    proxied, direct = (sum(counts[way] for counts in past) for way in (0, 1))
    return proxied >= PROXIED_MIN and direct <= DIRECT_SHARE_MAX * proxied


def _count(state: DeviceState, connection: Connection, route: Route) -> None:
    minute = connection.started // MINUTE
    if minute > state.baseline_minute:
        if state.baseline_minute:
            _add(state, state.baseline_minute * MINUTE, state.baseline_counts)
        state.baseline_minute, state.baseline_counts = minute, [0, 0]
    if minute == state.baseline_minute:
        state.baseline_counts[not route.proxied] += 1
    else:
        _add(state, connection.started, [int(route.proxied), int(not route.proxied)])


def _add(state: DeviceState, at: Micros, counts: list[int]) -> None:
    day = iso_micros(at)[:10]
    known = state.baselines.get(day, [0, 0])
    state.baselines[day] = [known[0] + counts[0], known[1] + counts[1]]
    for old in sorted(state.baselines)[:-DAYS_MAX]:
        del state.baselines[old]
