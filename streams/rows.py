"""Rows from what is known: pure functions of a connection and its device's facts.

`Version` grows with the evidence, so that of two rows the one that knows more holds, wherever and whenever they were made:
four times the number of distinct pieces of evidence that the row rests on, plus what the device's facts add.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from schemas.address import ip_type, is_ip, registrable_domain
from schemas.clock import iso_micros
from schemas.events import Micros, Process, ProtectionMode
from schemas.record import (
    Confidence,
    DeviceEvent,
    Layer,
    NetworkEvent,
    Outcome,
    ResolvedBy,
    UnresolvedReason,
)
from streams.state import (
    ASKED,
    AUDITED,
    BLOCKED,
    BY_CONNECT,
    BY_HOST,
    BY_SNI,
    BY_URI,
    BY_VERDICT,
    EVENT_IDS_MAX,
    FAILED,
    FROM_FLOW,
    REACHED,
    Connection,
    Destination,
    Facts,
    Judged,
)

encode = msgspec.json.Encoder().encode
NOBODY = Process()
METHODS = {
    BY_CONNECT: ResolvedBy.CONNECT,
    BY_URI: ResolvedBy.ABSOLUTE_URI,
    BY_VERDICT: ResolvedBy.VERDICT,
    BY_HOST: ResolvedBy.HOST_HEADER,
    BY_SNI: ResolvedBy.SNI,
}
SURENESS = {
    BY_CONNECT: Confidence.EXACT,
    BY_URI: Confidence.EXACT,
    BY_VERDICT: Confidence.EXACT,
    BY_HOST: Confidence.STRONG,
    BY_SNI: Confidence.STRONG,
}


class Place(NamedTuple):
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


def connection_id(place: Place, connection: Connection) -> str:
    """The connection's name: from the kernel's start where that was known in time, else the sensor's flow."""
    kernel = connection.kernel
    if kernel is not None and connection.identity != FROM_FLOW:
        return identity(place.device, place.key, "kernel", str(kernel.started))
    return identity(place.device, place.key, "flow", connection.flow_id or str(connection.first))


def mode_at(facts: Facts, at: Micros, flags: int = 0) -> ProtectionMode:
    """The device's protection mode at a time; a verdict is its own proof."""
    if flags & BLOCKED or (facts.block_from and at >= facts.block_from):
        return _BLOCK
    if flags & AUDITED or (facts.audit_from and at >= facts.audit_from):
        return _AUDIT
    return _OFF


_BLOCK, _AUDIT, _OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF


def mode_changes(facts: Facts, at: Micros) -> int:
    """How many changes of mode are known up to a time: what the facts add to a version."""
    return (0 < facts.audit_from <= at) + (0 < facts.block_from <= at)


def outcome_of(flags: int) -> Outcome:
    """What became of requests with these bits; a block outweighs all."""
    return _OUTCOMES[flags]


def _outcome(flags: int) -> Outcome:
    if flags & BLOCKED:
        return Outcome.BLOCKED
    if flags & AUDITED:
        return Outcome.AUDITED
    if flags & REACHED:
        return Outcome.ALLOWED
    return Outcome.FAILED if flags & FAILED else Outcome.UNKNOWN


_OUTCOMES = tuple(_outcome(flags) for flags in range(32))
_ACTIONS = {
    Outcome.ALLOWED: "ConnectionSuccess",
    Outcome.AUDITED: "ConnectionSuccess",
    Outcome.BLOCKED: "ConnectionFailed",
    Outcome.FAILED: "ConnectionFailed",
    Outcome.UNKNOWN: "ConnectionAttempt",
}


def tunnel_end(connection: Connection) -> Destination | None:
    """The destination that is spoken to inside: the latest CONNECT's, or what took its place."""
    tunnels = [d for d in connection.destinations if not d.superseded and d.by in (BY_CONNECT, BY_VERDICT, BY_SNI)]
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
    """Bits of a destination, with what was judged inside its tunnel."""
    if connection.inner_flags and destination is tunnel_end(connection):
        return destination.flags | connection.inner_flags
    return destination.flags


def destination_version(facts: Facts, connection: Connection, destination: Destination) -> int:
    """Version of a destination row."""
    at = time_of(connection, destination)
    # Evidence weighs double: an earlier request takes the mark of one logged after the connection's end away.
    evidence = 2 * destination.evidence + (at != destination.first)
    if connection.kernel is not None:
        evidence += 3
    elif connection.flow_started:
        evidence += 2
    else:
        evidence += start_of(connection, destination) != destination.first
    if (connection.inner or connection.inner_flags) and destination is tunnel_end(connection):
        evidence += len(other_names(connection, destination)) + connection.inner_flags.bit_count()
    return 4 * evidence + mode_changes(facts, at) + destination.bump


def destination_row(
    place: Place, facts: Facts, connection: Connection, destination: Destination, version: int, name: str
) -> NetworkEvent:
    """The row of one real destination on the connection of that name."""
    at = time_of(connection, destination)
    flags = destination_flags(connection, destination)
    superseded = destination.superseded
    outcome = Outcome.UNKNOWN if superseded else _OUTCOMES[flags]
    kernel = connection.kernel
    process = kernel.process if kernel is not None else NOBODY
    host, port = destination.host, destination.port
    literal = host if is_ip(host) else ""
    started = start_of(connection, destination)
    record = identity(place.device, place.key, connection.flow_id or str(connection.first), host, str(port))
    row = NetworkEvent(
        iso_micros(at),  # Timestamp
        place.device,  # DeviceId
        place.device,  # DeviceName
        _ACTIONS[outcome],  # ActionType
        literal,  # RemoteIP
        port,  # RemotePort
        destination.url,  # RemoteUrl
        place.local_ip,  # LocalIP
        place.local_port,  # LocalPort
        "Tcp",  # Protocol
        ip_type(place.local_ip),  # LocalIPType
        ip_type(literal) if literal else "Public",  # RemoteIPType
        process.name,  # InitiatingProcessFileName
        process.pid,  # InitiatingProcessId
        int(record[:8], 16),  # ReportId
        _DESTINATION,  # Layer
        record,  # RecordId
        version,  # Version
        name,  # ConnectionId
        iso_micros(started),  # ConnectionTime
        place.remote_ip,  # ProxyIP
        place.remote_port,  # ProxyPort
        place.proxy_name,  # ProxyName
        host,  # DestinationHost
        port,  # DestinationPort
        registrable_domain(host),  # DestinationDomain
        outcome,  # Outcome
        mode_at(facts, at, flags),  # ProtectionMode
        METHODS[destination.by],  # ResolvedBy
        _UNSURE if superseded else SURENESS[destination.by],  # Confidence
        _SUPERSEDED if superseded else _NO_REASON,  # UnresolvedReason
        (at - started) // 1000 if at > started else 0,  # ResolutionMs
        kernel.event_id if kernel is not None else "",  # ConnectionEventId
        [event_id for _, event_id in destination.event_ids],  # HttpEventIds
        connection.flow_id,  # FlowId
        None,  # ConnectionEndTime
        None,  # BytesSent
        None,  # BytesReceived
        destination.requests or None,  # RequestCount
        destination.status or None,  # HttpStatus
        mismatch(connection, destination) if connection.inner else "",  # HostMismatch
    )
    if connection.inner or not process.is_plain:
        return _with_more(row, process, _inside(connection, destination))
    return row


# Looked up once: an enum's members cost a call each time they are asked for by name.
_CONNECTION, _DESTINATION = Layer.CONNECTION, Layer.DESTINATION
_BY_NOTHING, _BY_ITSELF, _EXACT = ResolvedBy.NONE, ResolvedBy.DIRECT, Confidence.EXACT
_UNSURE, _SUPERSEDED, _NO_REASON = Confidence.NONE, UnresolvedReason.SUPERSEDED, UnresolvedReason.NONE


def _inside(connection: Connection, destination: Destination) -> str:
    """The TLS name inside a tunnel that was asked for by address."""
    if not is_ip(destination.host) or destination is not tunnel_end(connection):
        return ""
    names = sorted({i.name for i in connection.inner if i.tls and i.name})
    return encode({"Sni": names[0]}).decode() if names else ""


def unresolved_reason(facts: Facts, connection: Connection, patience: Micros) -> UnresolvedReason:
    """Why a connection to a proxy has no destination."""
    if speaks_tls_to_proxy(connection):
        return UnresolvedReason.ENCRYPTED_TO_PROXY
    if connection.midstream or (facts.sensor_first and connection.started + 1_000_000 < facts.sensor_first):
        return UnresolvedReason.OLDER_THAN_SENSOR
    if connection.unreadable or connection.connect:
        return UnresolvedReason.NO_USABLE_REQUEST
    return UnresolvedReason.PROTECTION_OFF if is_blind(facts, connection, patience) else UnresolvedReason.NO_HTTP_EVENT


def is_refused(connection: Connection) -> bool:
    """The handshake failed."""
    if connection.kernel is not None:
        return connection.kernel.failed
    return connection.summarised > 0 and not connection.answered and not connection.midstream


def is_blind(facts: Facts, connection: Connection, patience: Micros) -> bool:
    """The device had shown no HTTP-level event by then: a connection to a proxy would look like any other."""
    return not connection.inner and (not facts.http_first or facts.http_first > connection.started + patience)


def speaks_tls_to_proxy(connection: Connection) -> bool:
    """TLS from the first byte: the proxy is spoken to in private, nobody on the endpoint can see inside."""
    return not connection.connect and (connection.tls or any(i.tls and i.outer for i in connection.inner))


def connection_version(place: Place, facts: Facts, connection: Connection) -> int:
    """Version of a connection row."""
    evidence = (
        connection.summarised + len(connection.inner) + connection.unreadable + connection.inner_flags.bit_count()
    )
    # A name that a CONNECT confirms leaves `inner` (-1) while the destination gains: the sum must still grow.
    for destination in connection.destinations:
        evidence += 2 * destination.evidence
    kernel = connection.kernel
    if kernel is not None:
        evidence += 1 + (kernel.established > 0) + (kernel.ended > 0) + kernel.failed
    facts_known = mode_changes(facts, connection.started) + (place.learnt and not connection.asked)
    return 4 * (evidence or 1) + facts_known + connection.bump


def direct_name(connection: Connection) -> str:
    """The name that a direct connection speaks, SNI before Host."""
    names = sorted((not i.tls, i.at, i.name) for i in connection.inner if i.name)
    return names[0][2] if names else ""


def connection_flags(place: Place, connection: Connection, live: list[Destination]) -> int:
    """Bits of all that was asked for on a connection."""
    flags = connection.inner_flags
    for destination in live:
        flags |= destination.flags
    if not place.proxied:
        kernel = connection.kernel
        if kernel is not None:
            flags |= FAILED if kernel.failed else REACHED if kernel.established else ASKED
        elif connection.summarised:
            flags |= REACHED if connection.answered or connection.midstream else FAILED
        elif connection.inner:
            flags |= REACHED
    return flags


def connection_row(
    place: Place, facts: Facts, connection: Connection, version: int, name: str, patience: Micros
) -> NetworkEvent:
    """The row of the TCP connection itself, under its name."""
    kernel = connection.kernel
    process = kernel.process if kernel is not None else NOBODY
    started, ended = connection.started, connection.ended
    live = connection.live
    if len(live) > 1:
        live.sort(key=lambda d: (d.first, d.host, d.port))
    flags = connection_flags(place, connection, live)
    host, port, url, mark = "", None, "", ""
    by, sure, why = _BY_NOTHING, _UNSURE, _NO_REASON
    resolution = None
    refused = is_refused(connection)
    if refused:
        flags = flags & (BLOCKED | AUDITED) | FAILED
    if not place.proxied:
        url = direct_name(connection) if connection.inner else ""
        host, port = url or place.remote_ip, place.remote_port
        if refused or not is_blind(facts, connection, patience):
            by, sure = _BY_ITSELF, _EXACT
        else:
            why = UnresolvedReason.PROTECTION_OFF
            flags &= ~REACHED
    elif live:
        first = live[0]
        best = first.by if len(live) == 1 else min(d.by for d in live)
        url, by, sure = first.url, METHODS[best], SURENESS[best]
        at = time_of(connection, first)
        resolution = (at - started) // 1000 if at > started else 0
        if len(live) == 1:
            host, port = first.host, first.port
            mark = mismatch(connection, first) if connection.inner else ""
    else:
        why = unresolved_reason(facts, connection, patience)
        url = direct_name(connection) if why is UnresolvedReason.ENCRYPTED_TO_PROXY else ""
    proxied = place.proxied
    began = iso_micros(started)
    row = NetworkEvent(
        began,  # Timestamp
        place.device,  # DeviceId
        place.device,  # DeviceName
        "ConnectionFailed" if refused else "ConnectionSuccess",  # ActionType
        place.remote_ip,  # RemoteIP
        place.remote_port,  # RemotePort
        url,  # RemoteUrl
        place.local_ip,  # LocalIP
        place.local_port,  # LocalPort
        "Tcp",  # Protocol
        ip_type(place.local_ip),  # LocalIPType
        ip_type(place.remote_ip),  # RemoteIPType
        process.name,  # InitiatingProcessFileName
        process.pid,  # InitiatingProcessId
        int(name[:8], 16),  # ReportId
        _CONNECTION,  # Layer
        name,  # RecordId
        version,  # Version
        name,  # ConnectionId
        began,  # ConnectionTime
        place.remote_ip if proxied else "",  # ProxyIP
        place.remote_port if proxied else None,  # ProxyPort
        place.proxy_name if proxied else "",  # ProxyName
        host,  # DestinationHost
        port,  # DestinationPort
        registrable_domain(host) if host else "",  # DestinationDomain
        _OUTCOMES[flags],  # Outcome
        mode_at(facts, started, flags),  # ProtectionMode
        by,  # ResolvedBy
        sure,  # Confidence
        why,  # UnresolvedReason
        resolution,  # ResolutionMs
        kernel.event_id if kernel is not None else "",  # ConnectionEventId
        _event_ids(live),  # HttpEventIds
        connection.flow_id,  # FlowId
        iso_micros(ended) if ended else None,  # ConnectionEndTime
        connection.bytes_sent if connection.summarised else None,  # BytesSent
        connection.bytes_received if connection.summarised else None,  # BytesReceived
        (live[0].requests if len(live) == 1 else sum([d.requests for d in live])) or None,  # RequestCount
        None,  # HttpStatus
        mark,  # HostMismatch
    )
    return row if process.is_plain else _with_more(row, process, "")


def _event_ids(live: list[Destination]) -> list[str]:
    if len(live) == 1:
        return [event_id for _, event_id in live[0].event_ids]
    return [one for _, one in sorted([e for d in live for e in d.event_ids])[:EVENT_IDS_MAX]]


def _with_more(row: NetworkEvent, process: Process, additional: str) -> NetworkEvent:
    """A row with the columns that only a rich sensor or a rare case fills."""
    return replace(
        row,
        InitiatingProcessFolderPath=process.path,
        InitiatingProcessCommandLine=process.command_line,
        InitiatingProcessCreationTime=iso_micros(process.started) if process.started else None,
        InitiatingProcessAccountName=process.account,
        InitiatingProcessAccountDomain=process.domain,
        InitiatingProcessAccountSid=process.sid,
        InitiatingProcessParentId=process.parent_pid,
        InitiatingProcessParentFileName=process.parent_name,
        InitiatingProcessSHA1=process.sha1,
        InitiatingProcessSHA256=process.sha256,
        InitiatingProcessMD5=process.md5,
        AdditionalFields=additional,
    )


def judged_row(
    place: Place,
    facts: Facts,
    connection: Connection,
    judged: Judged,
    flags: int,
    host: str,
    port: int,
    record: str,
    version: int,
) -> DeviceEvent:
    """The row of one judged request."""
    audit = not flags & BLOCKED
    process = connection.kernel.process if connection.kernel is not None else NOBODY
    return DeviceEvent(
        Timestamp=iso_micros(judged.at),
        DeviceId=place.device,
        DeviceName=place.device,
        ActionType=f"ExploitGuardNetworkProtection{'Audited' if audit else 'Blocked'}",
        RemoteUrl=judged.url or f"{host}:{port}",
        RemoteIP=host if is_ip(host) else "" if place.proxied else place.remote_ip,
        RemotePort=port or None,
        LocalIP=place.local_ip,
        LocalPort=place.local_port,
        InitiatingProcessFileName=process.name,
        InitiatingProcessId=process.pid,
        InitiatingProcessFolderPath=process.path,
        InitiatingProcessCommandLine=process.command_line,
        InitiatingProcessAccountName=process.account,
        InitiatingProcessAccountDomain=process.domain,
        AdditionalFields=encode(
            {
                "IsAudit": audit,
                "ResponseCategory": judged.category,
                "DisplayName": judged.title,
                "Uri": judged.url or f"{host}:{port}",
            }
        ).decode(),
        ReportId=int(record[:8], 16),
        RecordId=record,
        Version=version,
        ConnectionId=connection_id(place, connection),
        DestinationHost=host,
        DestinationDomain=registrable_domain(host) if host else "",
        ProxyIP=place.remote_ip if place.proxied else "",
        ProxyPort=place.remote_port if place.proxied else None,
        ProtectionMode=mode_at(facts, judged.at, flags),
        Outcome=Outcome.BLOCKED if not audit else Outcome.AUDITED,
    )
