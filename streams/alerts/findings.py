"""What of a connection is worth an alert: judged requests, those that an indicator matches, a name that was not asked for.

A request on the wire is one finding, whoever speaks of it: what the device's own protection did outweighs what an indicator
says should have been done, and a tunnel's CONNECT and the name inside it are one.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from schemas.address import is_ip, registrable_domain
from schemas.clock import iso_micros
from schemas.events import Micros, Process, ProtectionMode
from schemas.indicators import Indicator, IndicatorAction
from schemas.tables import AlertKind, Confidence, Outcome
from streams.assess.assessment import Route, connection_flags, destination_flags, mismatch, outcome_of, tunnel_end
from streams.assess.mode_history import mode_at
from streams.assess.process_attribution import process_of
from streams.assess.verdict_groups import Request
from streams.indicators.index import process_matches
from streams.model.connection import (
    BLOCKED,
    BY_PROCESS,
    BY_VERDICT,
    BYPASSED,
    STOPPED,
    WARNED,
    Connection,
    Destination,
)
from streams.model.device import Device
from streams.model.protection import HIT_EVENT_IDS_MAX, Hit, day_of, judged_name

NAMED, PLACED, NUMBERED, DESCRIBED = 1, 2, 4, 8
"""What an alert knows of a finding beside its count: the process's name, the proxy, the process's PID, its own record."""


class Finding(NamedTuple):
    """One thing that an alert counts."""

    name: str
    """Tells it from the connection's others."""
    kind: AlertKind
    host: str
    port: int
    at: Micros
    last: Micros
    weight: int
    """Requests that it stands for."""
    evidence: int
    title: str
    category: str
    event_ids: tuple[str, ...]
    outcome: Outcome
    confidence: Confidence
    indicator: Indicator | None = None
    partial: bool = False
    deferred: bool = False
    """It may still turn out to be another kind: what is counted of it already stays, nothing new is."""
    more_hosts: tuple[str, ...] = ()

    @property
    def alert(self) -> str:
        """What folds together: kind, domain and UTC day."""
        return alert_key(self.kind, registrable_domain(self.host), self.at)


def alert_key(kind: AlertKind, domain: str, at: Micros) -> str:
    """The key of an alert in the state."""
    return f"{kind}|{domain}|{iso_micros(at)[:10]}"


def kind_of(flags: int) -> AlertKind:
    """What a request with these bits is told as."""
    if flags & BLOCKED:
        return AlertKind.BLOCKED
    if flags & BYPASSED:
        return AlertKind.BYPASSED
    return AlertKind.WARNED if flags & WARNED else AlertKind.AUDITED


def findings(device: Device, place: Route, connection: Connection, requests: list[Request]) -> list[Finding]:
    """All that alerts count of a connection."""
    found = [_judged(device, connection, request) for request in requests]
    if connection.hits or any(destination.hits for destination in connection.destinations):
        found += _not_enforced(device, place, connection, requests)
    if connection.connect and connection.inner and place.proxied:
        found += _mismatches(connection)
    return found


def _judged(device: Device, connection: Connection, request: Request) -> Finding:
    judged = request.judged
    latest = max(request.spoken, key=lambda j: (j.last, j.title))
    matched = [_holds(j.candidates, process_of(connection)) for j in request.spoken]
    indicator, partial = next((one for one in matched if one is not None), (None, False))
    return Finding(
        judged_name(judged.request, judged.tunnel, judged.host),
        kind_of(request.flags),
        request.host,
        request.port,
        judged.at,
        latest.last,
        1,
        request.evidence,
        latest.title,
        latest.category,
        tuple(j.event_id for j in request.spoken),
        outcome_of(request.flags),
        judged.confidence or Confidence.EXACT,
        indicator,
        partial,
        # A device that blocks may let CONNECT pass and stop the name inside a moment later.
        deferred=not request.flags & STOPPED
        and judged.tunnel
        and not connection.settled
        and mode_at(device.facts, judged.at) is ProtectionMode.BLOCK,
        more_hosts=tuple(j.host for j in request.spoken if j.host),
    )


def _not_enforced(device: Device, place: Route, connection: Connection, requests: list[Request]) -> list[Finding]:
    """Requests that an indicator matches and that nobody judged."""
    judged = _judged_among_hits(place, connection, requests)
    process, found = process_of(connection), []
    end = tunnel_end(connection) if place.proxied else None
    live = connection_flags(place, connection, connection.live)
    for destination in connection.destinations:
        for number, views in _by_meaning(destination.hits if not destination.superseded else []):
            outcome = outcome_of(destination_flags(connection, destination))
            name = f"h{number} {destination.host} {destination.port}"
            left = _not_judged(views, judged)
            found += _by_indicator(device, connection, views, process, name, left, outcome, destination)
    named = any(hit.host for hit in connection.hits) or bool(connection.inner)
    for number, views in _by_meaning(connection.hits):
        host = views[0].host
        # A name inside a tunnel: the request is the CONNECT's, unless that asked for another host.
        if host and end is not None and (end.host == host or end.hits):
            continue
        if not host and named and not place.proxied:
            continue  # The name was compared together with the address.
        left = _not_judged(views, judged)
        shown = views if host else [_at_address(hit, place, connection) for hit in views]
        found += _by_indicator(device, connection, shown, process, f"n{number}", left, outcome_of(live), None)
    return found


def _by_meaning(hits: list[Hit]) -> list[tuple[int, list[Hit]]]:
    """Hits that may be the same requests as several sensors saw them, under the number of the first of them."""
    numbers: dict[tuple[str, int, tuple[str, ...]], int] = {}
    views: dict[int, list[Hit]] = {}
    for number, hit in enumerate(hits):
        views.setdefault(numbers.setdefault(hit.means, number), []).append(hit)
    return list(views.items())


def _not_judged(views: list[Hit], judged: Counter[Whose]) -> int:
    """Requests that nobody judged, by the sensor that saw most of them; those that were are taken off `judged`."""
    most = 0
    for hit in views:
        whose = hit.sensor, hit.host, day_of(hit.first)
        told = min(judged[whose], hit.count)
        judged[whose] -= told
        most = max(most, hit.count - told)
    return most


Whose = tuple[str, str, int]
"""Of which sensor a request is, to which host, on which day."""


def _judged_among_hits(place: Route, connection: Connection, requests: list[Request]) -> Counter[Whose]:
    """Judged requests that each sensor counted among its hits, by sensor and host.

    Of one that was stopped most sensors write no record of their own; another sensor may have seen it all the same, under a
    number of its own.
    """
    hits = [*connection.hits, *(hit for destination in connection.destinations for hit in destination.hits)]
    found: Counter[Whose] = Counter()
    for request in requests:
        for sensor in {hit.sensor for hit in hits}:
            judged = next((j for j in request.spoken if j.sensor == sensor and j.request), request.judged)
            found[sensor, request.host, day_of(judged.at)] += (
                not request.flags & BLOCKED
                or not judged.request
                or judged.sensor != sensor
                or any(h.host == request.host and h.sensor == sensor and judged.request in h.requests for h in hits)
            )
    for guess in connection.guesses:
        for sensor, host in {(hit.sensor, hit.host) for hit in hits}:
            # A verdict on the address that a connection goes to directly is one on whatever is spoken there.
            found[sensor, host, day_of(guess.at)] += guess.counted and (
                host == guess.host or place.remote_ip == guess.host
            )
    return found


def _at_address(hit: Hit, place: Route, connection: Connection) -> Hit:
    """The request is the connection itself, so its time is that of the connection's row, whoever told of it first."""
    at = connection.started
    return Hit(hit.candidates, place.remote_ip, place.remote_port, at, at, hit.count, hit.event_ids)


def _by_indicator(
    device: Device,
    connection: Connection,
    views: list[Hit],
    process: Process | None,
    name: str,
    weight: int,
    outcome: Outcome,
    destination: Destination | None,
) -> list[Finding]:
    hit = views[0]
    held = _holds(hit.candidates, process)
    if not weight or held is None or held[0].action is IndicatorAction.ALLOW:
        return []
    indicator, partial = held
    first = min(view.first for view in views)
    return [
        Finding(
            name,
            AlertKind.AUDITED if indicator.action is IndicatorAction.AUDIT else AlertKind.NOT_ENFORCED,
            hit.host,
            hit.port,
            first,
            max(view.last for view in views),
            weight,
            sum(view.count for view in views),
            indicator.title,
            indicator.category,
            tuple(sorted({event_id for view in views for event_id in view.event_ids})[:HIT_EVENT_IDS_MAX]),
            outcome,
            _sureness(destination),
            indicator,
            partial,
            # Whoever protects may still say what it did about it.
            deferred=not connection.settled and mode_at(device.facts, first) is not ProtectionMode.OFF,
        )
    ]


def _sureness(destination: Destination | None) -> Confidence:
    if destination is not None and destination.by <= BY_VERDICT:
        return Confidence.EXACT
    return Confidence.INFERRED if destination is not None and destination.by == BY_PROCESS else Confidence.STRONG


def _holds(candidates: list[tuple[Indicator, bool]], process: Process | None) -> tuple[Indicator, bool] | None:
    """The first whose process is the one that asked."""
    for indicator, partial in candidates:
        if not indicator.process:
            return indicator, partial
        if process is not None and process_matches(indicator, process.name, process.path):
            return indicator, partial
    return None


def _mismatches(connection: Connection) -> list[Finding]:
    found = []
    for destination in connection.live:
        other = mismatch(connection, destination)
        if other and not is_ip(destination.host):
            spoken = min((i.at, i.event_id) for i in connection.inner if i.name == other)
            found.append(
                Finding(
                    f"m {destination.host} {destination.port}",
                    AlertKind.HOST_MISMATCH,
                    destination.host,
                    destination.port,
                    destination.first,
                    max(destination.first, spoken[0]),
                    1,
                    len(connection.inner),
                    f"{other} inside a tunnel to {destination.host}",
                    "",
                    (destination.event_ids[0][1], spoken[1]) if destination.event_ids else (spoken[1],),
                    outcome_of(destination_flags(connection, destination)),
                    Confidence.EXACT,
                    more_hosts=(other,),
                )
            )
    return found
