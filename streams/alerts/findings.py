"""Findings of a connection: requests with a verdict, requests that match an indicator, and host mismatches in tunnels.

A request on the wire is one finding, however many sensors report it. A verdict of the device's own protection takes
precedence over an indicator's action. A tunnel's CONNECT and the name inside the tunnel are one request.
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
from streams.assess.verdict_groups import VerdictGroup
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
from streams.model.protection import HIT_EVENT_IDS_MAX, Hit, day_of, verdict_name

NAMED, PLACED, NUMBERED, DESCRIBED = 1, 2, 4, 8
"""Flags of data that an alert has from a request besides the count: process name, proxy, PID, the process's own record."""


class Finding(NamedTuple):
    """One item that an alert counts."""

    name: str
    """Unique among the findings of the connection."""
    kind: AlertKind
    host: str
    port: int
    at: Micros
    last: Micros
    weight: int
    """Number of requests that the finding stands for."""
    evidence: int
    title: str
    category: str
    event_ids: tuple[str, ...]
    outcome: Outcome
    confidence: Confidence
    indicator: Indicator | None = None
    partial: bool = False
    deferred: bool = False
    """Whether the finding's kind may still change: if it is counted it stays counted, but it is not counted again."""
    more_hosts: tuple[str, ...] = ()

    @property
    def alert(self) -> str:
        """Key of the alert that counts the finding: kind, domain and UTC day."""
        return alert_key(self.kind, registrable_domain(self.host), self.at)


def alert_key(kind: AlertKind, domain: str, at: Micros) -> str:
    """Return the key of an alert in the state."""
    return f"{kind}|{domain}|{iso_micros(at)[:10]}"


def kind_of(flags: int) -> AlertKind:
    """Return the alert kind of a request with these flags."""
    if flags & BLOCKED:
        return AlertKind.BLOCKED
    if flags & BYPASSED:
        return AlertKind.BYPASSED
    return AlertKind.WARNED if flags & WARNED else AlertKind.AUDITED


def findings(device: Device, route: Route, connection: Connection, groups: list[VerdictGroup]) -> list[Finding]:
    """Return all findings of a connection."""
    found = [_of_verdicts(device, connection, group) for group in groups] if groups else []
    matched = [destination for destination in connection.destinations if destination.hits]
    if matched or connection.hits:
        found += _not_enforced(device, route, connection, groups)
    if connection.connect and connection.names and route.proxied:
        found += _mismatches(connection)
    return found


def _of_verdicts(device: Device, connection: Connection, group: VerdictGroup) -> Finding:
    verdict = group.verdict
    latest = max(group.verdicts, key=lambda one: (one.last, one.title))
    matched = [_holds(one.candidates, process_of(connection)) for one in group.verdicts]
    indicator, partial = next((one for one in matched if one is not None), (None, False))
    return Finding(
        verdict_name(verdict.request, verdict.tunnel, verdict.host),
        kind_of(group.flags),
        group.host,
        group.port,
        verdict.at,
        latest.last,
        1,
        group.evidence,
        latest.title,
        latest.category,
        tuple(one.event_id for one in group.verdicts),
        outcome_of(group.flags),
        verdict.confidence or Confidence.EXACT,
        indicator,
        partial,
        # A blocking device may let the CONNECT pass and stop the name inside the tunnel a moment later.
        deferred=not group.flags & STOPPED
        and verdict.tunnel
        and not connection.decided
        and mode_at(device.state, verdict.at) is ProtectionMode.BLOCK,
        more_hosts=tuple(one.host for one in group.verdicts if one.host),
    )


def _not_enforced(device: Device, route: Route, connection: Connection, groups: list[VerdictGroup]) -> list[Finding]:
    """Return findings for the requests that match an indicator and have no verdict."""
    with_verdict = _verdicts_among_hits(route, connection, groups)
    process, found = process_of(connection), []
    end = tunnel_end(connection) if route.proxied else None
    live = connection_flags(route, connection, connection.live)
    for destination in connection.destinations:
        for number, views in _by_meaning(destination.hits if not destination.superseded else []):
            outcome = outcome_of(destination_flags(connection, destination))
            name = f"h{number} {destination.host} {destination.port}"
            left = _without_verdict(views, with_verdict)
            found += _by_indicator(device, connection, views, process, name, left, outcome, destination)
    named = any(hit.host for hit in connection.hits) or bool(connection.names)
    for number, views in _by_meaning(connection.hits):
        host = views[0].host
        # A name inside a tunnel belongs to the CONNECT's request, unless the CONNECT names another host.
        if host and end is not None and (end.host == host or end.hits):
            continue
        if not host and named and not route.proxied:
            continue  # The name was matched together with the address.
        left = _without_verdict(views, with_verdict)
        shown = views if host else [_at_address(hit, route, connection) for hit in views]
        found += _by_indicator(device, connection, shown, process, f"n{number}", left, outcome_of(live), None)
    return found


def _by_meaning(hits: list[Hit]) -> list[tuple[int, list[Hit]]]:
    """Group hits that may be views of the same requests by several sensors; each group has the index of its first hit."""
    numbers: dict[tuple[str, int, tuple[str, ...]], int] = {}
    views: dict[int, list[Hit]] = {}
    for number, hit in enumerate(hits):
        views.setdefault(numbers.setdefault(hit.means, number), []).append(hit)
    return list(views.items())


def _without_verdict(views: list[Hit], with_verdict: Counter[Whose]) -> int:
    """Return the number of requests without a verdict.

    For each sensor it is the number of its requests minus those with a verdict; the largest of these numbers counts.
    """
    most = 0
    for hit in views:
        whose = hit.sensor, hit.host, day_of(hit.first)
        known = min(with_verdict[whose], hit.count)
        with_verdict[whose] -= known
        most = max(most, hit.count - known)
    return most


Whose = tuple[str, str, int]
"""Sensor, host and UTC day of a request."""


def _verdicts_among_hits(route: Route, connection: Connection, groups: list[VerdictGroup]) -> Counter[Whose]:
    """Count the requests with a verdict that each sensor has among its hits, by sensor, host and day.

    Most sensors write no record of their own for a stopped request. Another sensor may still have seen it, under its own
    number.
    """
    hits = [*connection.hits, *(hit for destination in connection.destinations for hit in destination.hits)]
    found: Counter[Whose] = Counter()
    for group in groups:
        for sensor in {hit.sensor for hit in hits}:
            verdict = next((one for one in group.verdicts if one.sensor == sensor and one.request), group.verdict)
            found[sensor, group.host, day_of(verdict.at)] += (
                not group.flags & BLOCKED
                or not verdict.request
                or verdict.sensor != sensor
                or any(h.host == group.host and h.sensor == sensor and verdict.request in h.requests for h in hits)
            )
    for guess in connection.guesses:
        for sensor, host in {(hit.sensor, hit.host) for hit in hits}:
            # A verdict on the remote address of a direct connection covers all requests on it.
            found[sensor, host, day_of(guess.at)] += guess.counted and guess.host in (host, route.remote_ip)
    return found


def _at_address(hit: Hit, route: Route, connection: Connection) -> Hit:
    """Return a copy of a hit without a host that has the connection's remote address and port as host and port.

    Its times become the connection's start, so the result does not depend on which sensor reported first.
    """
    at = connection.started
    return Hit(hit.candidates, route.remote_ip, route.remote_port, at, at, hit.count, hit.event_ids)


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
            # Network protection may still report a verdict on it.
            deferred=not connection.decided and mode_at(device.state, first) is not ProtectionMode.OFF,
        )
    ]


def _sureness(destination: Destination | None) -> Confidence:
    if destination is not None and destination.by <= BY_VERDICT:
        return Confidence.EXACT
    return Confidence.INFERRED if destination is not None and destination.by == BY_PROCESS else Confidence.STRONG


def _holds(candidates: list[tuple[Indicator, bool]], process: Process | None) -> tuple[Indicator, bool] | None:
    """Return the first candidate that has no process condition or whose condition matches the process; None if none does.

    The flag of a candidate is True if only the host could be compared (`Hit.candidates`).
    """
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
            observed = min((i.at, i.event_id) for i in connection.names if i.name == other)
            found.append(
                Finding(
                    f"m {destination.host} {destination.port}",
                    AlertKind.HOST_MISMATCH,
                    destination.host,
                    destination.port,
                    destination.first,
                    max(destination.first, observed[0]),
                    1,
                    len(connection.names),
                    f"{other} inside a tunnel to {destination.host}",
                    "",
                    (destination.event_ids[0][1], observed[1]) if destination.event_ids else (observed[1],),
                    outcome_of(destination_flags(connection, destination)),
                    Confidence.EXACT,
                    more_hosts=(other,),
                )
            )
    return found
