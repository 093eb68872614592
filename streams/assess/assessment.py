"""What follows from what is known of a connection: outcome, mode, mismatch, reasons, names and versions. Pure functions.

`Version` grows with the evidence, so that of two rows the one that knows more holds, wherever and whenever they were made:
four times the number of distinct pieces of evidence that the row rests on, plus what the device's facts add.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from schemas.address import is_ip
from schemas.events import Micros, ProtectionMode, ProxyDecision
from schemas.tables import Outcome, UnresolvedReason
from streams.assess.access_log import lines_of, ports_of
from streams.assess.mode_history import EVIDENCE, mode_changes, reported_mode
from streams.model.access_log import AccessLogEntry
from streams.model.connection import (
    ASKED,
    AUDITED,
    BLOCKED,
    BY_PROXY_LOG,
    BYPASSED,
    FAILED,
    FROM_FLOW,
    FROM_KERNEL,
    REACHED,
    WARNED,
    Connection,
    Destination,
)
from streams.model.device import Facts
from streams.model.protection import Judged

SENSOR_STARTS: Micros = 1_000_000
"""How long before a sensor's first word a connection must have begun to be called older."""


class Route(NamedTuple):
    """Where a connection goes, and what it is taken for."""

    device: str
    key: str
    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    proxied: bool
    proxy_name: str
    learnt: bool
    """Taken for a proxy by what others asked of it, not by this connection's own evidence."""


def identity(*parts: str) -> str:
    """A name made from content: 128 bits of BLAKE2b (RFC 7693), as hex."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def connection_id(place: Route, connection: Connection) -> str:
    """The connection's name: from the kernel's start where that was known in time, else the sensor's flow."""
    kernel = connection.kernel
    start = connection.kernel_name or (kernel.started if kernel is not None else 0)
    if start and connection.identity != FROM_FLOW:
        return identity(place.device, place.key, "kernel", str(start))
    return identity(place.device, place.key, "flow", flow_name(connection))


def flow_name(connection: Connection) -> str:
    """The sensor's name of the flow; where it has none, the start that the connection's identity rests on."""
    if connection.row_name:
        return connection.row_name
    if connection.flow_id:
        return connection.flow_id
    if connection.identity == FROM_KERNEL and connection.kernel is not None:
        return f"kernel {connection.kernel_name or connection.kernel.started}"
    return str(connection.first)


def outcome_of(flags: int) -> Outcome:
    """What became of requests with these bits; a block outweighs all."""
    return _OUTCOMES[flags]


def _outcome(flags: int) -> Outcome:
    if flags & BLOCKED:
        return Outcome.BLOCKED
    if flags & BYPASSED:
        return Outcome.BYPASSED
    if flags & WARNED:
        return Outcome.WARNED
    if flags & AUDITED:
        return Outcome.AUDITED
    if flags & REACHED:
        return Outcome.ALLOWED
    return Outcome.FAILED if flags & FAILED else Outcome.UNKNOWN


_OUTCOMES = tuple(_outcome(flags) for flags in range(128))


def tunnel_end(connection: Connection) -> Destination | None:
    """The destination that is spoken to inside: the latest CONNECT's, or what took its place."""
    tunnels = [d for d in connection.destinations if d.tunnel and not d.superseded]
    return max(tunnels, key=lambda d: (d.first, d.host, d.port), default=None)


def mismatch(connection: Connection, destination: Destination) -> str:
    """Another name spoken inside the tunnel than the one asked of the proxy (domain fronting, MITRE T1090.004)."""
    if not connection.inner or not connection.connect or is_ip(destination.host):
        return ""
    if destination is not tunnel_end(connection):
        return ""
    return min(other_names(connection, destination), default="")


def other_names(connection: Connection, destination: Destination) -> set[str]:
    """Names spoken on a connection that are not the destination's."""
    return {i.name for i in connection.inner if i.name and i.name != destination.host}


def time_of(connection: Connection, destination: Destination) -> Micros:
    """The request; a record logged after the connection's end tells of something before it."""
    ended = connection.ended
    if destination.by == BY_PROXY_LOG:
        at = max(destination.first, connection.started)  # the proxy's clock
        return ended if ended and ended < at else at
    return ended if ended and ended < destination.first else destination.first


def start_of(connection: Connection, destination: Destination) -> Micros:
    """The connection's start as a destination row tells it.

    Where neither kernel nor flow record says, the earliest evidence stands for it: until the connection settles the
    destination's own, as an earlier one may be under way, then the connection's.
    """
    if connection.kernel is not None or connection.flow_started or connection.settled:
        return connection.started
    return destination.first


def destination_flags(connection: Connection, destination: Destination) -> int:
    """Bits of a destination, with what was judged inside its tunnel and what the proxy's log says of it."""
    flags = destination.flags
    if connection.logged:
        flags = _as_logged(flags, lines_of(connection, destination), destination.asked)
    for guess in connection.guesses:
        inside = destination is tunnel_end(connection) and _is_spoken(connection, guess.host)
        if guess.host == destination.host or inside:
            flags |= guess.flags
    if connection.inner_flags and destination is tunnel_end(connection):
        return flags | connection.inner_flags
    return flags


def _is_spoken(connection: Connection, host: str) -> bool:
    return any(inner.name == host for inner in connection.inner)


def _as_logged(flags: int, lines: list[AccessLogEntry], requests: int) -> int:
    """What the proxy did: an answer that it made itself is no success, one that it passed on is one.

    A server error that it passed on may as well be its own, so it says nothing.
    """
    denied = 0
    for line in lines:
        if line.decision is ProxyDecision.SERVED:
            flags |= REACHED if line.status < 500 else 0
        else:
            flags |= FAILED
            denied += line.decision is not ProxyDecision.FAILED
    if denied and denied == len(lines) and denied >= requests:
        flags &= ~REACHED
    return flags


def destination_version(facts: Facts, connection: Connection, destination: Destination) -> int:
    """Version of a destination row."""
    at = time_of(connection, destination)
    # Evidence weighs double: an earlier request takes the mark of one logged after the connection's end away.
    evidence = 2 * destination.evidence + (at != destination.first)
    if connection.kernel is not None:
        evidence += 2 + kernel_evidence(connection)
    elif connection.flow_started:
        evidence += 2
    else:
        evidence += start_of(connection, destination) != destination.first
    if destination.tunnel:
        evidence += tunnel_evidence(connection)
    evidence += len(connection.guesses)
    if connection.logged:
        # Which lines fit depends on when it ended, and on what else was asked for.
        evidence += 2 * len(connection.logged) + connection.summarised + ports_of(connection, destination)
        evidence += connection.kernel is not None and connection.kernel.ended > 0
    return EVIDENCE * evidence + mode_changes(facts, at) + destination.bump


def kernel_evidence(connection: Connection) -> int:
    """What the endpoint's own record adds to the version of every row."""
    kernel = connection.kernel
    if kernel is None:
        return 0
    evidence = 1 + (kernel.established > 0) + (kernel.process.name != "")
    for record in connection.sensor_records:
        evidence += 2 + (record.established > 0) + (record.ended > 0) + (record.process.name != "")
    return evidence + (connection.run is not None) + (kernel.exec_after != "")


def tunnel_evidence(connection: Connection) -> int:
    """What was said of the tunnel as a whole: which end is its last, which names were spoken inside, how they were judged.

    It counts for every row of the tunnel, as each CONNECT may make another one the last. A name that a CONNECT confirms leaves
    `inner` (-1 or -2) while its destination gains: the sum still grows.
    """
    evidence = len(connection.inner) + connection.inner_flags.bit_count()
    for destination in connection.destinations:
        if destination.tunnel:
            evidence += 3 * destination.evidence
    return evidence


def judged_version(place: Route, facts: Facts, connection: Connection, judged: Judged, evidence: int) -> int:
    """Version of the row of a judged request."""
    evidence = 2 * evidence + kernel_evidence(connection) + tunnel_evidence(connection) + place.proxied
    return EVIDENCE * (evidence + connection.judged_bump) + mode_changes(facts, judged.at)


def unresolved_reason(facts: Facts, connection: Connection, horizon: Micros) -> UnresolvedReason:
    """Why a connection to a proxy has no destination."""
    if speaks_tls_to_proxy(connection):
        return UnresolvedReason.ENCRYPTED_TO_PROXY
    started = connection.started
    if is_midstream(connection) or started + SENSOR_STARTS < facts.sensor_first <= started + horizon:
        return UnresolvedReason.OLDER_THAN_SENSOR
    if connection.unreadable or connection.connect:
        return UnresolvedReason.NO_USABLE_REQUEST
    return UnresolvedReason.PROTECTION_OFF if is_blind(facts, connection, horizon) else UnresolvedReason.NO_HTTP_EVENT


def is_midstream(connection: Connection) -> bool:
    """No network sensor saw the beginning."""
    return connection.midstream and not (connection.flow_ids and connection.flow_started)


def is_refused(connection: Connection) -> bool:
    """The handshake failed."""
    if connection.kernel is not None:
        return connection.kernel.failed
    return connection.summarised > 0 and not connection.answered and not connection.midstream


def is_blind(facts: Facts, connection: Connection, horizon: Micros) -> bool:
    """Nothing of HTTP level is seen: a connection to a proxy would look like any other.

    So it is where the device's protection is said to be off; where nothing is said, until it has shown an HTTP-level event.
    """
    if connection.inner:
        return False
    told = reported_mode(facts, connection.started) if facts.modes else None
    if told is not None:
        return told is ProtectionMode.OFF
    return not facts.http_first or facts.http_first > connection.started + horizon


def speaks_tls_to_proxy(connection: Connection) -> bool:
    """TLS from the first byte: the proxy is spoken to in private, nobody on the endpoint can see inside."""
    return not connection.connect and (connection.tls or any(i.tls and i.outer for i in connection.inner))


def connection_version(place: Route, facts: Facts, connection: Connection) -> int:
    """Version of a connection row."""
    evidence = (
        connection.summarised + len(connection.inner) + connection.unreadable + connection.inner_flags.bit_count()
    )
    # A name that a CONNECT confirms leaves `inner` (-1, or -2 where TLS and Host said it) while the destination gains: the
    # sum must still grow.
    for destination in connection.destinations:
        evidence += 3 * destination.evidence
    kernel = connection.kernel
    if kernel is not None:
        evidence += kernel_evidence(connection) + (kernel.ended > 0) + kernel.failed
        evidence += (kernel.bytes_sent >= 0) + (kernel.bytes_received >= 0)
    if connection.logged:
        evidence += 3 * len(connection.logged)
    evidence += len(connection.guesses)
    facts_known = mode_changes(facts, connection.started) + (place.learnt and not connection.asked)
    # A client hello without a name is no evidence: its row's version stays below that of the first piece that is.
    return (EVIDENCE * evidence or 1) + facts_known + connection.bump


def direct_name(connection: Connection) -> str:
    """The name that a direct connection speaks, SNI before Host."""
    names = sorted((not i.tls, i.at, i.name) for i in connection.inner if i.name)
    return names[0][2] if names else ""


def connection_flags(place: Route, connection: Connection, live: list[Destination]) -> int:
    """Bits of all that was asked for on a connection."""
    flags = connection.inner_flags
    for destination in live:
        whole = connection.logged or connection.guesses
        flags |= destination_flags(connection, destination) if whole else destination.flags
    for guess in connection.guesses:
        if guess.host == place.remote_ip or _is_spoken(connection, guess.host):
            flags |= guess.flags
    if not place.proxied:
        kernel = connection.kernel
        if kernel is not None:
            flags |= FAILED if kernel.failed else REACHED if kernel.established else ASKED
        elif connection.summarised:
            flags |= REACHED if connection.answered or connection.midstream else FAILED
        elif connection.inner:
            flags |= REACHED
    return flags
