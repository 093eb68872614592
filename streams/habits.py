"""Ways that connections take: past a proxy that a device always uses, or through one that nobody listed."""

from __future__ import annotations

from schemas.address import ip_type
from schemas.clock import iso_micros
from schemas.record import AlertKind, Confidence
from streams.alertable import Finding
from streams.findings import Place, connection_flags, direct_name, is_refused, outcome_of
from streams.state import Connection, Device, Facts

DAYS_MAX = 7
"""A habit is what was so on the last days with connections."""
PROXIED_MIN = 50
"""With fewer connections through proxies nothing is a habit."""
DIRECT_SHARE_MAX = 0.01
"""Who goes outside directly more often than this does not always use a proxy."""

_INSIDE = frozenset({"Private", "Loopback", "LinkLocal", "Multicast"})


def look_at(device: Device, place: Place, connection: Connection, *, listed: bool) -> list[Finding]:
    """What the way of a connection that settled tells, once: what is learnt later takes nothing back."""
    if not connection.settled or connection.looked_at:
        return []
    connection.looked_at = True
    if place.proxied:
        _count(device.facts, connection, place)
        if listed:
            return []
        title = f"{place.remote_ip}:{place.remote_port} acts as a proxy"
        return [_finding(AlertKind.UNCONFIRMED_PROXY, place, connection, place.remote_ip, title)]
    if ip_type(place.remote_ip) in _INSIDE or is_refused(connection):
        return []
    past = _always_uses_a_proxy(device.facts)
    _count(device.facts, connection, place)
    if not past:
        return []
    title = f"{place.remote_ip}:{place.remote_port} past the proxy"
    host = direct_name(connection) or place.remote_ip
    return [_finding(AlertKind.PROXY_BYPASS, place, connection, host, title)]


def _finding(kind: AlertKind, place: Place, connection: Connection, host: str, title: str) -> Finding:
    at = connection.started
    kernel = connection.kernel
    ids = tuple(d.event_ids[0][1] for d in connection.destinations[:1] if d.event_ids)
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
        ids or ((kernel.event_id,) if kernel is not None else ()),
        outcome_of(connection_flags(place, connection, connection.live)),
        Confidence.EXACT,
    )


def _always_uses_a_proxy(facts: Facts) -> bool:
    proxied = sum(counts[0] for counts in facts.habits.values())
    direct = sum(counts[1] for counts in facts.habits.values())
    return proxied >= PROXIED_MIN and direct <= DIRECT_SHARE_MAX * proxied


def _count(facts: Facts, connection: Connection, place: Place) -> None:
    day = iso_micros(connection.started)[:10]
    counts = facts.habits.get(day)
    if counts is None:
        counts = facts.habits[day] = [0, 0]
        for old in sorted(facts.habits)[:-DAYS_MAX]:
            del facts.habits[old]
    counts[not place.proxied] += 1
