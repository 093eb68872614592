"""Rows from what is known: pure functions of a connection and its device's facts.

`Version` grows with the evidence, so that of two rows the one that knows more holds, wherever and whenever they were made:
four times the number of distinct pieces of evidence that the row rests on, plus what the device's facts add.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec

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
    FROM_KERNEL,
    REACHED,
    UNDECIDED,
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
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def connection_id(place: Place, connection: Connection) -> str:
    """The connection's name: from the kernel's start where that was known in time, else the sensor's flow."""
    kernel = connection.kernel
    if kernel is not None and connection.identity in (UNDECIDED, FROM_KERNEL):
        return identity(place.device, place.key, "kernel", str(kernel.started))
    return identity(place.device, place.key, "flow", connection.flow_id or str(connection.first))


def mode_at(facts: Facts, at: Micros, flags: int = 0) -> ProtectionMode:
    """The device's protection mode at a time; a verdict is its own proof."""
    if flags & BLOCKED or (facts.block_from and at >= facts.block_from):
        return ProtectionMode.BLOCK
    if flags & AUDITED or (facts.audit_from and at >= facts.audit_from):
        return ProtectionMode.AUDIT
    return ProtectionMode.OFF


def _mode_changes(facts: Facts, at: Micros) -> int:
    return bool(facts.audit_from and at >= facts.audit_from) + bool(facts.block_from and at >= facts.block_from)


def outcome_of(flags: int) -> Outcome:
    """What became of requests with these bits; a block outweighs all."""
    if flags & BLOCKED:
        return Outcome.BLOCKED
    if flags & AUDITED:
        return Outcome.AUDITED
    if flags & REACHED:
        return Outcome.ALLOWED
    return Outcome.FAILED if flags & FAILED else Outcome.UNKNOWN


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
    if not connection.connect or destination is not tunnel_end(connection) or is_ip(destination.host):
        return ""
    return min(other_names(connection, destination), default="")


def other_names(connection: Connection, destination: Destination) -> set[str]:
    """Names spoken on a connection that are not the destination's."""
    return {i.name for i in connection.inner if i.name and i.name != destination.host}


def _time_of(connection: Connection, destination: Destination) -> Micros:
    """The request; a record logged after the connection's end tells of something before it."""
    ended = connection.ended
    return min(destination.first, ended) if ended else destination.first


def _start_known(connection: Connection) -> int:
    return 2 if connection.kernel is not None else 1 if connection.flow_started else 0


def destination_flags(connection: Connection, destination: Destination) -> int:
    """Bits of a destination, with what was judged inside its tunnel."""
    if connection.inner_flags and destination is tunnel_end(connection):
        return destination.flags | connection.inner_flags
    return destination.flags


def destination_version(facts: Facts, connection: Connection, destination: Destination) -> int:
    """Version of a destination row."""
    at = _time_of(connection, destination)
    # Evidence weighs double: an earlier request takes the mark of one logged after the connection's end away.
    evidence = 2 * destination.evidence + _start_known(connection) + (at != destination.first)
    if (connection.inner or connection.inner_flags) and destination is tunnel_end(connection):
        evidence += len(other_names(connection, destination)) + connection.inner_flags.bit_count()
    return 4 * evidence + _mode_changes(facts, at) + destination.bump


def destination_row(place: Place, facts: Facts, connection: Connection, destination: Destination) -> NetworkEvent:
    """The row of one real destination."""
    at = _time_of(connection, destination)
    flags = destination_flags(connection, destination)
    outcome = Outcome.UNKNOWN if destination.superseded else outcome_of(flags)
    kernel = connection.kernel
    process = kernel.process if kernel is not None else NOBODY
    host = destination.host
    literal = host if is_ip(host) else ""
    record = identity(place.device, place.key, connection.flow_id or str(connection.first), host, str(destination.port))
    return NetworkEvent(
        Timestamp=iso_micros(at),
        DeviceId=place.device,
        DeviceName=place.device,
        ActionType=_ACTIONS[outcome],
        RemoteIP=literal,
        RemotePort=destination.port,
        RemoteUrl=destination.url,
        LocalIP=place.local_ip,
        LocalPort=place.local_port,
        Protocol="Tcp",
        LocalIPType=ip_type(place.local_ip),
        RemoteIPType=ip_type(literal) if literal else "Public",
        InitiatingProcessFileName=process.name,
        InitiatingProcessId=process.pid,
        ReportId=int(record[:8], 16),
        Layer=Layer.DESTINATION,
        RecordId=record,
        Version=destination_version(facts, connection, destination),
        ConnectionId=connection_id(place, connection),
        ConnectionTime=iso_micros(connection.started),
        ProxyIP=place.remote_ip,
        ProxyPort=place.remote_port,
        ProxyName=place.proxy_name,
        DestinationHost=host,
        DestinationPort=destination.port,
        DestinationDomain=registrable_domain(host),
        Outcome=outcome,
        ProtectionMode=mode_at(facts, at, flags),
        ResolvedBy=METHODS[destination.by],
        Confidence=Confidence.NONE if destination.superseded else SURENESS[destination.by],
        UnresolvedReason=UnresolvedReason.SUPERSEDED if destination.superseded else UnresolvedReason.NONE,
        ResolutionMs=max(at - connection.started, 0) // 1000,
        ConnectionEventId=kernel.event_id if kernel is not None else "",
        HttpEventIds=[event_id for _, event_id in destination.event_ids],
        FlowId=connection.flow_id,
        RequestCount=destination.requests or None,
        HttpStatus=destination.status or None,
        HostMismatch=mismatch(connection, destination),
        AdditionalFields=_inside(connection, destination),
        **_process_columns(process),
    )


def _inside(connection: Connection, destination: Destination) -> str:
    """The TLS name inside a tunnel that was asked for by address."""
    if not is_ip(destination.host) or destination is not tunnel_end(connection):
        return ""
    names = sorted({i.name for i in connection.inner if i.tls and i.name})
    return encode({"Sni": names[0]}).decode() if names else ""


def unresolved_reason(facts: Facts, connection: Connection, patience: Micros) -> UnresolvedReason:
    """Why a connection to a proxy has no destination."""
    started = connection.started
    if speaks_tls_to_proxy(connection):
        return UnresolvedReason.ENCRYPTED_TO_PROXY
    if connection.midstream or (facts.sensor_first and started + 1_000_000 < facts.sensor_first):
        return UnresolvedReason.OLDER_THAN_SENSOR
    if connection.unreadable or connection.connect:
        return UnresolvedReason.NO_USABLE_REQUEST
    if not facts.http_first or facts.http_first > started + patience:
        return UnresolvedReason.PROTECTION_OFF
    return UnresolvedReason.NO_HTTP_EVENT


def speaks_tls_to_proxy(connection: Connection) -> bool:
    """TLS from the first byte: the proxy is spoken to in private, nobody on the endpoint can see inside."""
    return not connection.connect and (connection.tls or any(i.tls and i.outer for i in connection.inner))


def connection_version(place: Place, facts: Facts, connection: Connection) -> int:
    """Version of a connection row."""
    kernel = connection.kernel
    evidence = connection.summarised + len(connection.inner) + connection.unreadable + connection.inner_flags.bit_count()
    # A name that a CONNECT confirms leaves `inner` (-1) while the destination gains: the sum must still grow.
    evidence += 2 * sum(d.evidence for d in connection.destinations)
    if kernel is not None:
        evidence += 1 + bool(kernel.established) + bool(kernel.ended) + kernel.failed
    facts_known = _mode_changes(facts, connection.started) + (place.learnt and not connection.asked)
    return 4 * max(evidence, 1) + facts_known + connection.bump


def direct_name(connection: Connection) -> str:
    """The name that a direct connection speaks, SNI before Host."""
    names = sorted((not i.tls, i.at, i.name) for i in connection.inner if i.name)
    return names[0][2] if names else ""


def connection_flags(place: Place, connection: Connection) -> int:
    """Bits of all that was asked for on a connection."""
    flags = connection.inner_flags
    for destination in connection.live:
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


def connection_row(place: Place, facts: Facts, connection: Connection, patience: Micros) -> NetworkEvent:
    """The row of the TCP connection itself."""
    kernel = connection.kernel
    process = kernel.process if kernel is not None else NOBODY
    started, ended = connection.started, connection.ended
    live = sorted(connection.live, key=lambda d: (d.first, d.host, d.port))
    flags = connection_flags(place, connection)
    host, port, url, mark = "", None, "", ""
    by, sure, why = ResolvedBy.NONE, Confidence.NONE, UnresolvedReason.NONE
    resolution = None
    if not place.proxied:
        name = direct_name(connection)
        host, port = name or place.remote_ip, place.remote_port
        url, by, sure = name, ResolvedBy.DIRECT, Confidence.EXACT
    elif live:
        first, best = live[0], min(live, key=lambda d: d.by)
        url, by, sure = first.url, METHODS[best.by], SURENESS[best.by]
        resolution = max(_time_of(connection, first) - started, 0) // 1000
        if len(live) == 1:
            host, port, mark = first.host, first.port, mismatch(connection, first)
    else:
        why = unresolved_reason(facts, connection, patience)
        url = direct_name(connection) if why is UnresolvedReason.ENCRYPTED_TO_PROXY else ""
    refused = (kernel is not None and kernel.failed) or (
        kernel is None and connection.summarised and not connection.answered and not connection.midstream
    )
    name = connection_id(place, connection)
    return NetworkEvent(
        Timestamp=iso_micros(started),
        DeviceId=place.device,
        DeviceName=place.device,
        ActionType="ConnectionFailed" if refused else "ConnectionSuccess",
        RemoteIP=place.remote_ip,
        RemotePort=place.remote_port,
        RemoteUrl=url,
        LocalIP=place.local_ip,
        LocalPort=place.local_port,
        Protocol="Tcp",
        LocalIPType=ip_type(place.local_ip),
        RemoteIPType=ip_type(place.remote_ip),
        InitiatingProcessFileName=process.name,
        InitiatingProcessId=process.pid,
        ReportId=int(name[:8], 16),
        Layer=Layer.CONNECTION,
        RecordId=name,
        Version=connection_version(place, facts, connection),
        ConnectionId=name,
        ConnectionTime=iso_micros(started),
        ProxyIP=place.remote_ip if place.proxied else "",
        ProxyPort=place.remote_port if place.proxied else None,
        ProxyName=place.proxy_name if place.proxied else "",
        DestinationHost=host,
        DestinationPort=port,
        DestinationDomain=registrable_domain(host) if host else "",
        Outcome=Outcome.FAILED if refused and not flags & (BLOCKED | AUDITED) else outcome_of(flags),
        ProtectionMode=mode_at(facts, started, flags),
        ResolvedBy=by,
        Confidence=sure,
        UnresolvedReason=why,
        ResolutionMs=resolution,
        ConnectionEventId=kernel.event_id if kernel is not None else "",
        HttpEventIds=[one for _, one in sorted(e for d in live for e in d.event_ids)[:EVENT_IDS_MAX]],
        FlowId=connection.flow_id,
        ConnectionEndTime=iso_micros(ended) if ended else None,
        BytesSent=connection.bytes_sent if connection.summarised else None,
        BytesReceived=connection.bytes_received if connection.summarised else None,
        RequestCount=sum(d.requests for d in live) or None,
        HostMismatch=mark,
        **_process_columns(process),
    )


def _process_columns(process: Process) -> dict[str, Any]:
    """The columns that only a rich sensor fills."""
    if process == Process(process.pid, process.name):
        return {}
    return {
        "InitiatingProcessFolderPath": process.path,
        "InitiatingProcessCommandLine": process.command_line,
        "InitiatingProcessCreationTime": iso_micros(process.started) if process.started else None,
        "InitiatingProcessAccountName": process.account,
        "InitiatingProcessAccountDomain": process.domain,
        "InitiatingProcessAccountSid": process.sid,
        "InitiatingProcessParentId": process.parent_pid,
        "InitiatingProcessParentFileName": process.parent_name,
        "InitiatingProcessSHA1": process.sha1,
        "InitiatingProcessSHA256": process.sha256,
        "InitiatingProcessMD5": process.md5,
    }


def judged_row(
    place: Place, facts: Facts, connection: Connection, judged: Judged, flags: int, host: str, port: int, record: str, version: int
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
