"""The judged requests of a connection, each once: a tunnel's CONNECT and the server name inside it are one request."""

from __future__ import annotations

from typing import NamedTuple

from streams.findings import Place, flow_name, identity, tunnel_end
from streams.protection import Judged
from streams.state import Connection

NO_TUNNEL = -1


class Request(NamedTuple):
    """One judged request on the wire."""

    judged: Judged
    spoken: list[Judged]
    """All that was judged of it: a CONNECT, and the server name inside its tunnel."""
    flags: int
    host: str
    port: int
    record: str
    ordinal: int
    """Which of the connection's judged tunnels, in order of their CONNECT; NO_TUNNEL for a plain request."""
    evidence: int


def judged_name(request: int, tunnel: bool, host: str) -> str:
    """What tells a judged request from the connection's others: its transaction; of a name and of a plain one the host, too."""
    return f"{'t' if tunnel else 'r'}{request}" + ("" if tunnel and request else f" {host}")


def requests(place: Place, connection: Connection) -> list[Request]:
    """The judged requests of a connection, each once; those whose host nobody knows yet are left out."""
    tunnels = sorted((j for j in connection.judged if j.tunnel and j.request), key=lambda j: j.request)
    names = sorted((j for j in connection.judged if j.tunnel and not j.request), key=lambda j: (j.at, j.host))
    end = tunnel_end(connection) if place.proxied else None
    flow = flow_name(connection)
    found = []
    for ordinal, judged in enumerate(tunnels or names[:1]):
        spoken = [judged, *(j for j in names if j is not judged)] if not tunnels or judged is tunnels[-1] else [judged]
        host, port = judged.host, judged.port
        if end is not None and (not host or not port):
            host, port = host or end.host, port or end.port
        port = port or (place.remote_port if not place.proxied else 443)
        record = identity(place.device, place.key, flow, "judged tunnel", str(ordinal))
        found.append(_request(judged, spoken, host, port, record, ordinal, _evidence(tunnels, names)))
    for judged in connection.judged:
        if not judged.tunnel:
            port = judged.port or (end.port if end is not None else place.remote_port)
            record = identity(place.device, place.key, flow, "judged request", str(judged.request), judged.host)
            found.append(_request(judged, [judged], judged.host, port, record, NO_TUNNEL, judged.evidence))
    return [request for request in found if request.host]


def _evidence(*spoken: list[Judged]) -> int:
    """Of all that was judged of a connection's tunnels: an earlier CONNECT that comes later moves the others on."""
    return sum(judged.evidence for several in spoken for judged in several)


def _request(
    judged: Judged, spoken: list[Judged], host: str, port: int, record: str, ordinal: int, evidence: int
) -> Request:
    flags = 0
    for one in spoken:
        flags |= one.flags
    return Request(judged, spoken, flags, host, port, record, ordinal, evidence)


def sent_version(connection: Connection, request: Request) -> int:
    """The version of its row that left; 0 for none."""
    if request.ordinal == NO_TUNNEL:
        return request.judged.sent
    rows = connection.tunnel_rows
    return rows[request.ordinal] if request.ordinal < len(rows) else 0


def keep_version(connection: Connection, request: Request, version: int) -> None:
    """Its row leaves with this version."""
    if request.ordinal == NO_TUNNEL:
        request.judged.sent = version
        return
    rows = connection.tunnel_rows
    rows.extend([0] * (request.ordinal + 1 - len(rows)))
    rows[request.ordinal] = version
