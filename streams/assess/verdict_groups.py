"""Verdict groups of a connection: the verdicts on one request, merged.

A tunnel's CONNECT and the server name inside it are one request. Two network sensors' verdicts on one host are one request if
their times differ by at most `APART`. Verdicts with the same request number match first, which applies if both sensors
observed the flow from its beginning. The remaining ones match in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from streams.assess.assessment import Route, flow_name, identity, tunnel_end
from streams.model.connection import Connection
from streams.model.evidence import APART
from streams.model.protection import Judged

NO_TUNNEL = -1


class Request(NamedTuple):
    """Verdict group: one request with all verdicts on it."""

    judged: Judged
    spoken: list[Judged]
    """All verdicts on the request: on a CONNECT, on the server name inside its tunnel, and from other sensors."""
    flags: int
    host: str
    port: int
    record: str
    ordinal: int
    """Index among the connection's tunnels with a verdict, in the order of their CONNECT; NO_TUNNEL for a plain request."""
    evidence: int


def requests(place: Route, connection: Connection) -> list[Request]:
    """Return the verdict groups of a connection, except those whose host is still unknown."""
    tunnels = _each_once([j for j in connection.judged if j.tunnel and j.request])
    tunnels.sort(key=lambda told: told[0].request)
    names = sorted((j for j in connection.judged if j.tunnel and not j.request), key=lambda j: (j.at, j.host))
    end = tunnel_end(connection) if place.proxied else None
    flow = flow_name(connection)
    found = []
    for ordinal, told in enumerate(tunnels or [names[:1]] * bool(names)):
        judged = told[0]
        spoken = [*told, *(j for j in names if j is not judged)] if not tunnels or told is tunnels[-1] else told
        host, port = judged.host, judged.port
        if end is not None and (not host or not port):
            host, port = host or end.host, port or end.port
        port = port or (place.remote_port if not place.proxied else 443)
        record = identity(place.device, place.key, flow, "judged tunnel", str(ordinal))
        found.append(_request(judged, spoken, host, port, record, ordinal, _evidence(*tunnels, names)))
    for told in _each_once([j for j in connection.judged if not j.tunnel]):
        judged = told[0]
        port = judged.port or (end.port if end is not None else place.remote_port)
        record = identity(place.device, place.key, flow, "judged request", str(judged.request), judged.host)
        found.append(_request(judged, told, judged.host, port, record, NO_TUNNEL, _evidence(told)))
    return [request for request in found if request.host]


def _each_once(judged: list[Judged]) -> list[list[Judged]]:
    """Group the sensors' verdicts by request. The verdict with an emitted row comes first, else the first sensor's."""
    found: list[list[Judged]] = []
    for sensor in dict.fromkeys(j.sensor for j in judged):
        left = sorted((j for j in judged if j.sensor == sensor), key=lambda j: j.request)
        free = sorted(found, key=lambda told: told[0].request)
        for fits in (_is_that, _is_near):
            left = _put(left, free, fits)
        for one in left:
            named = next((told for told in found if _is_called_so(told[0], one)), None)
            if named is None:
                found.append([one])
            else:
                named.append(one)  # Two groups with one name would make one row with two contents.
    return found


def _put(judged: list[Judged], free: list[list[Judged]], fits: Callable[[Judged, Judged], bool]) -> list[Judged]:
    """Merge each verdict with another sensor's verdict on the same request; return the unmatched ones."""
    left: list[Judged] = []
    for one in judged:
        same = next((told for told in free if fits(told[0], one)), None)
        if same is None:
            left.append(one)
        else:
            free.remove(same)
            same.insert(0 if one.sent and not same[0].sent else len(same), one)
    return left


def _is_called_so(one: Judged, other: Judged) -> bool:
    return (one.host, one.request) == (other.host, other.request)


def _is_near(one: Judged, other: Judged) -> bool:
    return one.host == other.host and abs(one.at - other.at) <= APART


def _is_that(one: Judged, other: Judged) -> bool:
    return _is_called_so(one, other) and _is_near(one, other)


def _evidence(*spoken: list[Judged]) -> int:
    """Return the total evidence of these verdicts. Tunnels share it, as a late, earlier CONNECT shifts the others' index."""
    return sum(judged.evidence for several in spoken for judged in several)


def _request(
    judged: Judged, spoken: list[Judged], host: str, port: int, record: str, ordinal: int, evidence: int
) -> Request:
    flags = 0
    for one in spoken:
        flags |= one.flags
    return Request(judged, spoken, flags, host, port, record, ordinal, evidence)


def sent_version(connection: Connection, request: Request) -> int:
    """Return the emitted version of a request's row; 0 for none."""
    if request.ordinal == NO_TUNNEL:
        return request.judged.sent
    rows = connection.tunnel_rows
    return rows[request.ordinal] if request.ordinal < len(rows) else 0


def keep_version(connection: Connection, request: Request, version: int) -> None:
    """Record the emitted version of a request's row."""
    if request.ordinal == NO_TUNNEL:
        request.judged.sent = version
        return
    rows = connection.tunnel_rows
    rows.extend([0] * (request.ordinal + 1 - len(rows)))
    rows[request.ordinal] = version
