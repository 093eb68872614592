"""Egress baseline: connections that bypass the proxy a device always uses, or that use an unlisted proxy."""

from __future__ import annotations

from schemas.address import authority, ip_type
from schemas.clock import MICROS, iso_micros
from schemas.events import Micros
from schemas.tables import AlertKind, Confidence
from streams.alerts.findings import Finding
from streams.assess.assessment import Route, connection_flags, direct_name, is_refused, outcome_of
from streams.model.connection import Connection
from streams.model.device import Device, Facts

DAYS_MAX = 7
"""Days with connections that a baseline covers; older days are dropped."""
PROXIED_MIN = 50
"""Minimum number of connections through proxies that makes a baseline."""
DIRECT_SHARE_MAX = 0.01
"""Maximum ratio of direct to proxied connections of a device that always uses a proxy."""

MINUTE: Micros = 60 * MICROS

_INSIDE = frozenset({"Private", "Loopback", "LinkLocal", "Multicast"})


def look_at(device: Device, place: Route, connection: Connection, *, listed: bool) -> list[Finding]:
    """Return the findings on the route of a connection that was just decided.

    Runs once per connection; later evidence retracts nothing.
    """
    connection.looked_at = True
    if place.proxied:
        _count(device.facts, connection, place)
        if listed:
            return []
        title = f"{authority(place.remote_ip, place.remote_port)} acts as a proxy"
        return [_finding(AlertKind.UNCONFIRMED_PROXY, place, connection, place.remote_ip, title)]
    if ip_type(place.remote_ip) in _INSIDE or is_refused(connection):
        return []
    past = _always_uses_a_proxy(device.facts, connection.started)
    _count(device.facts, connection, place)
    if not past:
        return []
    title = f"{authority(place.remote_ip, place.remote_port)} past the proxy"
    host = direct_name(connection) or place.remote_ip
    return [_finding(AlertKind.PROXY_BYPASS, place, connection, host, title)]


def _finding(kind: AlertKind, place: Route, connection: Connection, host: str, title: str) -> Finding:
    at = connection.started
    kernel = connection.kernel
    asked = min((d.event_ids[0] for d in connection.destinations if d.event_ids), default=None)
    ids = (asked[1],) if asked is not None else (kernel.event_id,) if kernel is not None else ()
    return Finding(
        "",
        kind,
        host,
        place.remote_port,
        at,
        at,
        1,
        1,
        title,
        "",
        ids,
        outcome_of(connection_flags(place, connection, connection.live)),
        Confidence.EXACT,
    )


def _always_uses_a_proxy(facts: Facts, started: Micros) -> bool:
    """Return whether the device always used a proxy before the connection's own minute.

    The order of the lines within a minute therefore has no effect.
    """
    past = list(facts.baselines.values())
    if facts.baseline_minute < started // MINUTE:
        past.append(facts.baseline_counts)
    proxied, direct = (sum(counts[way] for counts in past) for way in (0, 1))
    return proxied >= PROXIED_MIN and direct <= DIRECT_SHARE_MAX * proxied


def _count(facts: Facts, connection: Connection, place: Route) -> None:
    minute = connection.started // MINUTE
    if minute > facts.baseline_minute:
        if facts.baseline_minute:
            _add(facts, facts.baseline_minute * MINUTE, facts.baseline_counts)
        facts.baseline_minute, facts.baseline_counts = minute, [0, 0]
    if minute == facts.baseline_minute:
        facts.baseline_counts[not place.proxied] += 1
    else:
        _add(facts, connection.started, [int(place.proxied), int(not place.proxied)])


def _add(facts: Facts, at: Micros, counts: list[int]) -> None:
    day = iso_micros(at)[:10]
    known = facts.baselines.get(day, [0, 0])
    facts.baselines[day] = [known[0] + counts[0], known[1] + counts[1]]
    for old in sorted(facts.baselines)[:-DAYS_MAX]:
        del facts.baselines[old]
