"""Rows of connections, destinations and verdicts, from the assessment (`streams.assess.assessment`) and the device state."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from schemas.address import host_type, ip_type, is_ip, registrable_domain
from schemas.clock import iso_micros
from schemas.events import Micros, Process
from schemas.tables import (
    Confidence,
    Layer,
    NetworkEvent,
    Outcome,
    ResolvedBy,
    UnresolvedReason,
)
from streams.assess.access_log import bytes_of, entries_of, log_fields, upstream_of
from streams.assess.assessment import (
    Route,
    connection_flags,
    destination_flags,
    direct_name,
    flow_name,
    identity,
    is_blind,
    is_refused,
    mismatch,
    outcome_of,
    start_of,
    time_of,
    tunnel_end,
    unresolved_reason,
)
from streams.assess.mode_history import mode_at
from streams.assess.process_attribution import process_of
from streams.model.access_log import AccessLogEntry
from streams.model.connection import (
    AUDITED,
    BLOCKED,
    BY_CONNECT,
    BY_HOST,
    BY_PROCESS,
    BY_PROXY_LOG,
    BY_SNI,
    BY_SOCKS,
    BY_URI,
    BY_VERDICT,
    BY_VERDICT_NAME,
    EVENT_IDS_MAX,
    FAILED,
    REACHED,
    Connection,
    Destination,
)
from streams.model.device import DeviceState

encode = msgspec.json.Encoder().encode


NO_PROCESS = Process()


METHODS = {
    BY_SOCKS: ResolvedBy.SOCKS,
    BY_CONNECT: ResolvedBy.CONNECT,
    BY_URI: ResolvedBy.ABSOLUTE_URI,
    BY_VERDICT: ResolvedBy.VERDICT,
    BY_VERDICT_NAME: ResolvedBy.VERDICT,
    BY_HOST: ResolvedBy.HOST_HEADER,
    BY_SNI: ResolvedBy.SNI,
    BY_PROXY_LOG: ResolvedBy.PROXY_LOG,
    BY_PROCESS: ResolvedBy.PROCESS_TIME,
}


SURENESS = {
    BY_SOCKS: Confidence.EXACT,
    BY_CONNECT: Confidence.EXACT,
    BY_URI: Confidence.EXACT,
    BY_VERDICT: Confidence.EXACT,
    BY_VERDICT_NAME: Confidence.STRONG,
    BY_HOST: Confidence.STRONG,
    BY_SNI: Confidence.STRONG,
    BY_PROXY_LOG: Confidence.STRONG,
    BY_PROCESS: Confidence.INFERRED,
}


_ACTIONS = {
    Outcome.ALLOWED: "ConnectionSuccess",
    Outcome.AUDITED: "ConnectionSuccess",
    Outcome.BYPASSED: "ConnectionSuccess",
    Outcome.WARNED: "ConnectionFailed",
    Outcome.BLOCKED: "ConnectionFailed",
    Outcome.FAILED: "ConnectionFailed",
    Outcome.UNKNOWN: "ConnectionAttempt",
}


def destination_row(
    route: Route, state: DeviceState, connection: Connection, destination: Destination, version: int, name: str
) -> NetworkEvent:
    """Return the row of one real destination; `name` is the id of its connection."""
    at = time_of(connection, destination)
    flags = destination_flags(connection, destination)
    superseded = destination.superseded
    outcome = Outcome.UNKNOWN if superseded else outcome_of(flags)
    endpoint = connection.endpoint
    process = (
        NO_PROCESS
        if endpoint is None
        else endpoint.process
        if connection.run is None
        else process_of(connection) or NO_PROCESS
    )
    host, port = destination.host, destination.port
    literal = host if is_ip(host) else ""
    started = start_of(connection, destination)
    record = identity(route.device, route.key, flow_name(connection), host, str(port))
    row = NetworkEvent(
        iso_micros(at),  # Timestamp
        route.device,  # DeviceId
        route.device,  # DeviceName
        _ACTIONS[outcome],  # ActionType
        literal,  # RemoteIP
        port or None,  # RemotePort
        destination.url,  # RemoteUrl
        route.local_ip,  # LocalIP
        route.local_port,  # LocalPort
        "Tcp",  # Protocol
        ip_type(route.local_ip),  # LocalIPType
        host_type(host),  # RemoteIPType
        process.name,  # InitiatingProcessFileName
        process.pid,  # InitiatingProcessId
        int(record[:8], 16),  # ReportId
        _DESTINATION,  # Layer
        record,  # RecordId
        version,  # Version
        name,  # ConnectionId
        iso_micros(started),  # ConnectionTime
        route.remote_ip,  # ProxyIP
        route.remote_port,  # ProxyPort
        route.proxy_name,  # ProxyName
        host,  # DestinationHost
        port or None,  # DestinationPort
        registrable_domain(host),  # DestinationDomain
        outcome,  # Outcome
        mode_at(state, at, flags),  # ProtectionMode
        METHODS[destination.by],  # ResolvedBy
        _UNSURE if superseded else SURENESS[destination.by],  # Confidence
        _SUPERSEDED if superseded else _NO_REASON,  # UnresolvedReason
        (at - started) // 1000 if at > started else 0,  # ResolutionMs
        endpoint.event_id if endpoint is not None else "",  # ConnectionEventId
        [event_id for _, event_id in destination.event_ids],  # HttpEventIds
        connection.flow_id,  # FlowId
        None,  # ConnectionEndTime
        None,  # BytesSent
        None,  # BytesReceived
        (destination.asked if destination.others else destination.requests) or None,  # RequestCount
        destination.status or None,  # HttpStatus
        mismatch(connection, destination) if connection.names else "",  # HostMismatch
    )
    if connection.names or not process.is_plain:
        row = _with_more(row, process, _inside(connection, destination))
    if (
        connection.sensor_records
        or connection.flow_ids
        or connection.run is not None
        or (endpoint and endpoint.exec_after)
    ):
        row = replace(row, AdditionalFields=_as_text(_inside(connection, destination) | _record_ids(connection)))
    if connection.log_entries and (entries := entries_of(connection, destination)):
        return _as_logged(row, connection, destination, entries)
    return row


def _as_logged(
    row: NetworkEvent, connection: Connection, destination: Destination, entries: list[AccessLogEntry]
) -> NetworkEvent:
    """Return a destination's row with the values of the proxy's access-log entries added."""
    sent, received = bytes_of(entries, destination.asked)
    address = upstream_of(entries) or row.RemoteIP
    known = {event_id for _, event_id in destination.event_ids}
    ids = sorted(
        [*destination.event_ids, *((entry.at, entry.event_id) for entry in entries if entry.event_id not in known)]
    )
    return replace(
        row,
        RemoteIP=address,
        RemoteIPType=ip_type(address) if address else row.RemoteIPType,
        ProxyName=row.ProxyName or entries[0].proxy,
        HttpEventIds=[event_id for _, event_id in ids[:EVENT_IDS_MAX]],
        BytesSent=sent,
        BytesReceived=received,
        RequestCount=destination.asked or len(entries),
        HttpStatus=row.HttpStatus or entries[-1].status or None,
        AdditionalFields=_as_text(_inside(connection, destination) | _record_ids(connection) | log_fields(entries)),
    )


# Bound once: each access to an enum member by name costs a call.
_CONNECTION, _DESTINATION = Layer.CONNECTION, Layer.DESTINATION


_BY_NOTHING, _BY_ITSELF, _EXACT = ResolvedBy.NONE, ResolvedBy.DIRECT, Confidence.EXACT


_UNSURE, _SUPERSEDED, _NO_REASON = Confidence.NONE, UnresolvedReason.SUPERSEDED, UnresolvedReason.NONE


def _inside(connection: Connection, destination: Destination) -> dict[str, object]:
    """Return `{"Sni": name}` with the TLS server name inside a tunnel to an IP address; an empty dict if there is none."""
    if not is_ip(destination.host) or destination is not tunnel_end(connection):
        return {}
    names = sorted({i.name for i in connection.names if i.tls and i.name})
    return {"Sni": names[0]} if names else {}


def connection_row(
    route: Route,
    state: DeviceState,
    connection: Connection,
    live: list[Destination],
    version: int,
    name: str,
    horizon: Micros,
) -> NetworkEvent:
    """Return the row of the TCP connection itself; `live` are its destinations, `name` is its connection id."""
    endpoint = connection.endpoint
    process = (
        NO_PROCESS
        if endpoint is None
        else endpoint.process
        if connection.run is None
        else process_of(connection) or NO_PROCESS
    )
    started, ended = connection.started, connection.ended
    if len(live) > 1:
        live.sort(key=lambda d: (d.first, d.host, d.port))
    flags = connection_flags(route, connection, live)
    host, port, url, mark = "", None, "", ""
    by, sure, why = _BY_NOTHING, _UNSURE, _NO_REASON
    resolution = None
    refused = is_refused(connection)
    if refused:
        flags = flags & (BLOCKED | AUDITED) | FAILED
    if not route.proxied:
        url = direct_name(connection) if connection.names else ""
        host, port = url or route.remote_ip, route.remote_port
        if refused or not is_blind(state, connection, horizon):
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
            host, port = first.host, first.port or None
            mark = mismatch(connection, first) if connection.names else ""
    else:
        why = unresolved_reason(state, connection, horizon)
        url = direct_name(connection) if why is UnresolvedReason.ENCRYPTED_TO_PROXY else ""
    proxied = route.proxied
    began = iso_micros(started)
    sent, received = _bytes_of(connection)
    row = NetworkEvent(
        began,  # Timestamp
        route.device,  # DeviceId
        route.device,  # DeviceName
        "ConnectionFailed" if refused else "ConnectionSuccess",  # ActionType
        route.remote_ip,  # RemoteIP
        route.remote_port,  # RemotePort
        url,  # RemoteUrl
        route.local_ip,  # LocalIP
        route.local_port,  # LocalPort
        "Tcp",  # Protocol
        ip_type(route.local_ip),  # LocalIPType
        ip_type(route.remote_ip),  # RemoteIPType
        process.name,  # InitiatingProcessFileName
        process.pid,  # InitiatingProcessId
        int(name[:8], 16),  # ReportId
        _CONNECTION,  # Layer
        name,  # RecordId
        version,  # Version
        name,  # ConnectionId
        began,  # ConnectionTime
        route.remote_ip if proxied else "",  # ProxyIP
        route.remote_port if proxied else None,  # ProxyPort
        route.proxy_name if proxied else "",  # ProxyName
        host,  # DestinationHost
        port,  # DestinationPort
        registrable_domain(host) if host else "",  # DestinationDomain
        outcome_of(flags),  # Outcome
        mode_at(state, started, flags),  # ProtectionMode
        by,  # ResolvedBy
        sure,  # Confidence
        why,  # UnresolvedReason
        resolution,  # ResolutionMs
        endpoint.event_id if endpoint is not None else "",  # ConnectionEventId
        _event_ids(connection, live),  # HttpEventIds
        connection.flow_id,  # FlowId
        iso_micros(ended) if ended else None,  # ConnectionEndTime
        sent,  # BytesSent
        received,  # BytesReceived
        (live[0].asked if len(live) == 1 else sum([d.asked for d in live])) or None,  # RequestCount
        None,  # HttpStatus
        mark,  # HostMismatch
    )
    more = connection.sensor_records or connection.flow_ids or connection.run is not None
    if process.is_plain and not more and not (endpoint and endpoint.exec_after):
        return row
    return _with_more(row, process, _record_ids(connection))


def _bytes_of(connection: Connection) -> tuple[int | None, int | None]:
    """Return bytes sent and received: a network sensor's counts, else the payload counts of the endpoint record."""
    if connection.summarised:
        return connection.bytes_sent, connection.bytes_received
    endpoint = connection.endpoint
    if endpoint is None:
        return None, None
    sent, received = endpoint.bytes_sent, endpoint.bytes_received
    return sent if sent >= 0 else None, received if received >= 0 else None


def _event_ids(connection: Connection, live: list[Destination]) -> list[str]:
    if connection.log_entries:
        ids = {e for d in live for e in d.event_ids}
        ids |= {(entry.at, entry.event_id) for d in live for entry in entries_of(connection, d)}
        return [one for _, one in sorted(ids)[:EVENT_IDS_MAX]]
    if len(live) == 1:
        return [event_id for _, event_id in live[0].event_ids]
    return [one for _, one in sorted([e for d in live for e in d.event_ids])[:EVENT_IDS_MAX]]


def _record_ids(connection: Connection) -> dict[str, object]:
    """Return fields for AdditionalFields.

    Record ids if there are several of one kind, the process record's id, the later program.
    """
    ids: dict[str, object] = {}
    if connection.sensor_records:
        ids["ConnectionEventIds"] = [record.event_id for record in connection.sensor_records]
    if connection.flow_ids:
        ids["FlowIds"] = sorted(flow_id for flow_id in (connection.flow_id, *connection.flow_ids) if flow_id)
    if connection.run is not None:
        ids["ProcessEventId"] = connection.run.event_id
    if connection.endpoint is not None and connection.endpoint.exec_after:
        ids["ExecAfter"] = connection.endpoint.exec_after
    return ids


def _as_text(more: dict[str, object]) -> str:
    return encode(more).decode() if more else ""


def _with_more(row: NetworkEvent, process: Process, additional: dict[str, object]) -> NetworkEvent:
    """Return the row with the columns that only detailed sensors or rare cases fill."""
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
        AdditionalFields=_as_text(additional),
    )
