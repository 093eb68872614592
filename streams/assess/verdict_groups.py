"""The judged requests of a connection, each once: a tunnel's CONNECT and the server name inside it are one request.

So are two network sensors' verdicts on requests to one host within the time by which their clocks may be apart: of one number
where both saw the flow from its beginning, else the next one.
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
    """One judged request on the wire."""

    judged: Judged
    spoken: list[Judged]
    """All that was judged of it: a CONNECT, the server name inside its tunnel, what other sensors say of it."""
    flags: int
    host: str
    port: int
    record: str
    ordinal: int
    """Which of the connection's judged tunnels, in order of their CONNECT; NO_TUNNEL for a plain request."""
    evidence: int


def requests(place: Route, connection: Connection) -> list[Request]:
    """The judged requests of a connection, each once; those whose host nobody knows yet are left out."""
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
    """What each sensor judged, by request: the word whose row has left leads, else the first sensor's."""
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
                named.append(one)  # Two of one name would be one row with two contents.
    return found


def _put(judged: list[Judged], free: list[list[Judged]], fits: Callable[[Judged, Judged], bool]) -> list[Judged]:
    """Put each to what another sensor told of its request; those are left of which nobody else told."""
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
