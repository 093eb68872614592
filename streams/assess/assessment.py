"""Conclusions from a connection's evidence: outcome, mismatch, reasons, names and identities. Pure functions."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from schemas.address import is_ip
from schemas.events import Micros, ProtectionMode, ProxyDecision
from schemas.tables import Outcome, UnresolvedReason
from streams.assess.access_log import entries_of
from streams.assess.mode_history import reported_mode
from streams.model.access_log import AccessLogEntry
from streams.model.connection import (
    ASKED,
    AUDITED,
    BLOCKED,
    BY_PROXY_LOG,
    BYPASSED,
    FAILED,
    FROM_ENDPOINT,
    FROM_FLOW,
    REACHED,
    WARNED,
    Connection,
    Destination,
)
from streams.model.device import DeviceState

SENSOR_STARTS: Micros = 1_000_000
"""A connection that began more than this many microseconds before the network sensor's first event counts as older than the
sensor."""


class Route(NamedTuple):
    """Remote end of a connection and its classification: direct, or through a proxy."""

    device: str
    key: str
    """The 5-tuple (`schemas.events.Flow.key`)."""
    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    proxied: bool
    proxy_name: str
    learnt: bool
    """The settings do not name the remote end as a proxy, but requests on the device's connections show that it is one."""


def identity(*parts: str) -> str:
    """Derive an identity from content: 128 bits of BLAKE2b (RFC 7693), as hex."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def connection_id(route: Route, connection: Connection) -> str:
    """Return the connection's identity, derived from the start in the endpoint record, else from the flow.

    The flow is also used if the connection's first row was emitted before the endpoint record arrived.
    """
    endpoint = connection.endpoint
    start = connection.identity_start or (endpoint.started if endpoint is not None else 0)
    if start and connection.identity != FROM_FLOW:
        return identity(route.device, route.key, "kernel", str(start))
    return identity(route.device, route.key, "flow", flow_name(connection))


def flow_name(connection: Connection) -> str:
    """Return the name of the flow for identities: the sensor's flow id or, without one, a start time."""
    if connection.row_name:
        return connection.row_name
    if connection.flow_id:
        return connection.flow_id
    if connection.identity == FROM_ENDPOINT and connection.endpoint is not None:
        return f"kernel {connection.identity_start or connection.endpoint.started}"
    return str(connection.first)


def outcome_of(flags: int) -> Outcome:
    """Return the outcome of requests with these bits: the first of `_BY_PRECEDENCE` whose bit is set."""
    return _OUTCOMES[flags]


_BY_PRECEDENCE = (
    (BLOCKED, Outcome.BLOCKED),
    (BYPASSED, Outcome.BYPASSED),
    (WARNED, Outcome.WARNED),
    (AUDITED, Outcome.AUDITED),
    (REACHED, Outcome.ALLOWED),
    (FAILED, Outcome.FAILED),
)
_OUTCOMES = tuple(
    next((outcome for bit, outcome in _BY_PRECEDENCE if flags & bit), Outcome.UNKNOWN) for flags in range(128)
)


def tunnel_end(connection: Connection) -> Destination | None:
    """Return the latest destination that is the end of a tunnel and is not superseded; None if there is none."""
    tunnels = [d for d in connection.destinations if d.tunnel and not d.superseded]
    return max(tunnels, key=lambda d: (d.first, d.host, d.port), default=None)


def mismatch(connection: Connection, destination: Destination) -> str:
    """Return a name inside the tunnel that differs from the requested one, else "" (domain fronting, MITRE T1090.004).

    Of several names the first in alphabetical order is returned. A tunnel to an IP address has no mismatch.
    """
    if not connection.names or not connection.connect or is_ip(destination.host):
        return ""
    if destination is not tunnel_end(connection):
        return ""
    return min(other_names(connection, destination), default="")


def other_names(connection: Connection, destination: Destination) -> set[str]:
    """Return the names observed on a connection, except the destination's host."""
    return {i.name for i in connection.names if i.name and i.name != destination.host}


def time_of(connection: Connection, destination: Destination) -> Micros:
    """Return the time of the request. A time after the connection's end becomes the end: sensors log some requests late."""
    ended = connection.ended
    if destination.by == BY_PROXY_LOG:
        at = max(destination.first, connection.started)  # By the proxy's clock.
        return ended if ended and ended < at else at
    return ended if ended and ended < destination.first else destination.first


def start_of(connection: Connection, destination: Destination) -> Micros:
    """Return the connection's start for a destination row.

    If neither an endpoint record nor a flow start is known, it is the time of the earliest evidence: for a decided connection
    the connection's evidence, else the destination's, as earlier evidence of the connection may still arrive.
    """
    if connection.endpoint is not None or connection.flow_started or connection.decided:
        return connection.started
    return destination.first


def destination_flags(connection: Connection, destination: Destination) -> int:
    """Return the bits of a destination. They include verdicts inside its tunnel, process verdicts and access-log entries."""
    flags = destination.flags
    if connection.log_entries:
        flags = _as_logged(flags, entries_of(connection, destination), destination.asked)
    for guess in connection.guesses:
        inside = destination is tunnel_end(connection) and _is_observed(connection, guess.host)
        if guess.host == destination.host or inside:
            flags |= guess.flags
    if connection.name_flags and destination is tunnel_end(connection):
        return flags | connection.name_flags
    return flags


def _is_observed(connection: Connection, host: str) -> bool:
    return any(observed.name == host for observed in connection.names)


def _as_logged(flags: int, entries: list[AccessLogEntry], requests: int) -> int:
    """Return the bits of a destination with the proxy's decisions in these entries applied.

    A response that the proxy passed on sets `REACHED`. A 5xx sets nothing, as it may come from the proxy itself. Any other
    decision sets `FAILED`. If the proxy refused every request, `REACHED` is cleared. `requests` is the number of requests that
    sensors reported.
    """
    denied = 0
    for entry in entries:
        if entry.decision is ProxyDecision.SERVED:
            flags |= REACHED if entry.status < 500 else 0
        else:
            flags |= FAILED
            denied += entry.decision is not ProxyDecision.FAILED
    if denied and denied == len(entries) and denied >= requests:
        flags &= ~REACHED
    return flags


def unresolved_reason(state: DeviceState, connection: Connection, horizon: Micros) -> UnresolvedReason:
    """Return why a connection to a proxy has no destination.

    `horizon` is in microseconds. Evidence that is later than this after the connection's start does not count.
    """
    if uses_tls_to_proxy(connection):
        return UnresolvedReason.ENCRYPTED_TO_PROXY
    started = connection.started
    if is_midstream(connection) or started + SENSOR_STARTS < state.sensor_first <= started + horizon:
        return UnresolvedReason.OLDER_THAN_SENSOR
    if connection.unreadable or connection.connect:
        return UnresolvedReason.NO_USABLE_REQUEST
    return UnresolvedReason.PROTECTION_OFF if is_blind(state, connection, horizon) else UnresolvedReason.NO_HTTP_EVENT


def is_midstream(connection: Connection) -> bool:
    """Return whether the network sensors that reported the connection missed its beginning."""
    return connection.midstream and not (connection.flow_ids and connection.flow_started)


def is_refused(connection: Connection) -> bool:
    """Return whether the handshake failed, by the endpoint record, else by the flow summary."""
    if connection.endpoint is not None:
        return connection.endpoint.failed
    return connection.summarised > 0 and not connection.answered and not connection.midstream


def is_blind(state: DeviceState, connection: Connection, horizon: Micros) -> bool:
    """Return whether HTTP was invisible on the device, so that a connection to a proxy looks like any other one.

    It was invisible while the protection was reported as off. Without a report, it was invisible until the device's first
    HTTP-level event; an event later than `horizon` (microseconds) after the connection's start does not count. A name that was
    observed on the connection shows that HTTP was visible.
    """
    if connection.names:
        return False
    mode = reported_mode(state, connection.started) if state.modes else None
    if mode is not None:
        return mode is ProtectionMode.OFF
    return not state.http_first or state.http_first > connection.started + horizon


def uses_tls_to_proxy(connection: Connection) -> bool:
    """Return whether the connection is TLS from the first byte. For a connection to a proxy, this hides all requests."""
    return not connection.connect and (connection.tls or any(i.outer for i in connection.names))


def direct_name(connection: Connection) -> str:
    """Return the observed name of a direct connection, SNI before Host; "" without one."""
    names = sorted((not i.tls, i.at, i.name) for i in connection.names if i.name)
    return names[0][2] if names else ""


def connection_flags(route: Route, connection: Connection, live: list[Destination]) -> int:
    """Return the bits of all requests on a connection; `live` are its destinations that are not superseded.

    For a direct connection they include the result of the connection attempt.
    """
    flags = connection.name_flags
    for destination in live:
        whole = connection.log_entries or connection.guesses
        flags |= destination_flags(connection, destination) if whole else destination.flags
    for guess in connection.guesses:
        if guess.host == route.remote_ip or _is_observed(connection, guess.host):
            flags |= guess.flags
    if not route.proxied:
        endpoint = connection.endpoint
        if endpoint is not None:
            flags |= FAILED if endpoint.failed else REACHED if endpoint.established else ASKED
        elif connection.summarised:
            flags |= REACHED if connection.answered or connection.midstream else FAILED
        elif connection.names:
            flags |= REACHED
    return flags
