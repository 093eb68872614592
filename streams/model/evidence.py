"""Merging of evidence into a connection. The order in which the pieces of evidence arrive has no effect."""

from __future__ import annotations

from schemas.address import split_authority
from schemas.events import FlowSummary, HttpExchange, Micros, SocksRequest, TlsName, Verdict
from schemas.parsers import sensor_of
from streams.indicators.index import Match
from streams.model.connection import (
    ASKED,
    BLOCKED,
    BY_CONNECT,
    BY_PROCESS,
    BY_PROXY_LOG,
    BY_SNI,
    BY_VERDICT,
    DESTINATIONS_MAX,
    EVENT_IDS_MAX,
    FAILED,
    NAMES_MAX,
    REACHED,
    VERDICTS_MAX,
    WARNED,
    Connection,
    Destination,
    ObservedName,
)
from streams.model.protection import RequestVerdict, verdict_name

URL_LENGTH_MAX = 256
SCHEME_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}

FlowEvidence = FlowSummary | HttpExchange | SocksRequest | TlsName | Verdict
"""The events of network sensors about one flow."""

SUMMARY, REQUEST, NAME, VERDICT = range(4)
"""Kinds of evidence in `evidence_key`."""

APART: Micros = 3_000_000
"""Largest difference, in microseconds, between the times that two sensors report for one connection or request. A match by
this tolerance requires that no other connection or request qualifies."""


def evidence_key(kind: int, at: Micros, more: int = 0) -> int:
    """Return a number that identifies a piece of evidence; equal content gives the same number in every process.

    The number has 63 bits: 29 from the time (it repeats after nine minutes), 2 from the kind, 32 from `more`. `more`
    distinguishes pieces of the same time and kind.
    """
    return (at & 0x1FFF_FFFF) << 34 | kind << 32 | (more & 0xFFFF_FFFF)


def absolute_target(target: str) -> tuple[str, int, str]:
    """Return host, port and URL without query of an absolute-form target (RFC 9112 section 3.2.2), else ("", 0, "")."""
    scheme, mark, rest = target.partition("://")
    default_port = SCHEME_PORTS.get(scheme.lower(), 0) if mark else 0
    if not default_port:
        return "", 0, ""
    authority = rest.partition("/")[0]
    if "?" in authority or "#" in authority:
        authority = authority.partition("?")[0].partition("#")[0]
    host, port = split_authority(authority, default_port)
    return host, port, target.partition("?")[0][:URL_LENGTH_MAX]


def path_of(target: str) -> str:
    """Return the path of an absolute-form target without its query, as in the origin form (RFC 9112 section 3.2.1)."""
    authority_and_path = target.partition("://")[2].partition("?")[0]
    return "/" + authority_and_path.partition("/")[2]


def flags_of_status(status: int | None, *, connect: bool) -> int:
    """Return the bit for a response status: `REACHED`, `FAILED`, or `ASKED` if the status leaves the result open.

    Without a status (None) the bit is `ASKED`. A CONNECT succeeds with 2xx and fails with any other status. For a plain
    request, 403, 407 and 5xx are `FAILED`, as a proxy may have refused it; 400 and 408 are `ASKED`; all others are `REACHED`.
    """
    if status is None:
        return ASKED
    if connect:
        return REACHED if 200 <= status < 300 else FAILED
    if status in (400, 408):
        return ASKED
    return FAILED if status in (403, 407) or status >= 500 else REACHED


def add_destination(
    connection: Connection,
    by: int,
    host: str,
    port: int,
    url: str,
    flags: int,
    evidence: tuple[Micros, str],
    status: int | None,
    *,
    tunnel: bool,
) -> Destination | None:
    """Record a request for a destination and return the destination; None for a new one beyond `DESTINATIONS_MAX`.

    `by` is the kind of evidence (`BY_CONNECT` and so on), `flags` the bits of the request's result, `evidence` the record's
    time and id, `status` the HTTP status of the response. `tunnel` is True if the destination is the end of a tunnel.
    """
    for found in connection.destinations:
        if found.port == port and found.host == host:
            break
    else:
        if len(connection.destinations) >= DESTINATIONS_MAX:
            connection.unreadable += 1
            return None
        found = Destination(host, port, by, evidence[0], url)
        connection.destinations.append(found)
    found.superseded = False
    found.tunnel |= tunnel
    if by < found.by and found.by in (BY_SNI, BY_PROXY_LOG, BY_PROCESS):
        # Weaker evidence has named the destination so far. It describes the same request, so the better evidence replaces it.
        found.first, found.url, found.requests = evidence[0], url, 0
        found.event_ids.clear()
        found.hits.clear()
    found.by = min(found.by, by)
    found.first, found.url = min((found.first, found.url), (evidence[0], url))
    found.flags |= flags
    found.evidence += 1
    found.requests += by != BY_VERDICT or flags in (BLOCKED, WARNED)
    if status is not None and (evidence[0], status) > (found.status_at, found.status):
        found.status_at, found.status = evidence[0], status
    ids = found.event_ids
    if not ids:
        ids.append(evidence)
    elif len(ids) < EVENT_IDS_MAX or evidence < ids[-1]:
        ids.append(evidence)
        ids.sort()
        del ids[EVENT_IDS_MAX:]
    if by <= BY_CONNECT and connection.names:
        connection.names = [i for i in connection.names if i.name != host]
    return found


def kind_of_flow(event: FlowEvidence) -> str:
    """Return the kind of the flow id in a network sensor's event, as its sensor declares it; "" without an id.

    Two ids of one kind belong to two connections.
    """
    return sensor_of(event.sensor).flow_id_kind if event.flow.id else ""


def add_name(connection: Connection, observed: ObservedName) -> bool:
    """Record a name observed on the connection itself. Return False if it is ignored, because a CONNECT names the same host.

    The name "" stands for a client hello to the proxy without a server name. Inside a tunnel such a hello is ignored.
    """
    if not (observed.name or observed.outer) or any(
        d.host == observed.name and d.by <= BY_CONNECT for d in connection.destinations
    ):
        return False
    for known in connection.names:
        if known.name == observed.name and known.tls == observed.tls:
            known.at, known.event_id = min((known.at, known.event_id), (observed.at, observed.event_id))
            known.has_verdict |= observed.has_verdict
            known.outer |= observed.outer
            return True
    if len(connection.names) < NAMES_MAX:
        connection.names.append(observed)
    return True


def add_verdict(
    connection: Connection,
    event: Verdict,
    host: str,
    port: int,
    url: str,
    tunnel: bool,
    bits: int,
    matches: tuple[Match, ...],
) -> None:
    """Record a verdict on a request. Verdicts of one sensor on one request, by several of its rules, merge into one.

    `bits` are those of the verdict's action, `matches` the indicators that match the request.
    """
    request, sensor = event.tx + 1 if event.method else 0, kind_of_flow(event)
    for verdict in connection.verdicts:
        if (verdict.request, verdict.tunnel, verdict.host, verdict.sensor) == (request, tunnel, host, sensor):
            break
    else:
        verdict = RequestVerdict(
            event.at, host, port, request, tunnel, 0, url, event.title, event.category, event.event_id
        )
        verdict.candidates = [(match.indicator, match.partial) for match in matches]
        verdict.sensor = sensor
        keep_verdict(connection, verdict)
    verdict.flags |= bits
    verdict.evidence += 1
    verdict.last = max(verdict.last, event.at)
    if (event.at, event.event_id, event.title) < (verdict.at, verdict.event_id, verdict.title):
        verdict.at, verdict.event_id = event.at, event.event_id
        verdict.title, verdict.category = event.title, event.category


def keep_verdict(connection: Connection, verdict: RequestVerdict) -> None:
    """Store a request with a verdict.

    At `VERDICTS_MAX` the oldest request is evicted with the verdicts of all sensors on it. Alerts still count it.
    """
    if len(connection.verdicts) >= VERDICTS_MAX:
        oldest = connection.verdicts[0]
        name = verdict_name(oldest.request, oldest.tunnel, oldest.host)
        connection.verdicts = [j for j in connection.verdicts if verdict_name(j.request, j.tunnel, j.host) != name]
        connection.counted.pop(name, None)
    connection.verdicts.append(verdict)
