"""Verdict groups of a connection: each group holds all verdicts on one request.

Verdicts on a tunnel's CONNECT and on the server name inside the tunnel are about one request. Verdicts of two network sensors
on one host are about one request if their times differ by at most `APART`. Verdicts with equal request numbers are paired
first: two sensors that observed the flow from its beginning number the requests alike. The remaining verdicts are paired in
the order of their request numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from streams.assess.assessment import Route, flow_name, identity, tunnel_end
from streams.model.connection import Connection
from streams.model.evidence import APART
from streams.model.protection import RequestVerdict

NO_TUNNEL = -1
"""Ordinal of a plain request."""
_TUNNEL, _PLAIN = "judged tunnel", "judged request"  # codespell:ignore judged
"""Parts of the text from which record ids are derived. They must not change, as published rows have such ids."""


class VerdictGroup(NamedTuple):
    """One request with all verdicts on it."""

    verdict: RequestVerdict
    """The verdict whose request, time and texts the row shows."""
    verdicts: list[RequestVerdict]
    """All verdicts on the request: on a CONNECT, on the server name inside its tunnel, and from other sensors."""
    flags: int
    """Bits of the actions of all verdicts."""
    host: str
    port: int
    record: str
    """Id of the row."""
    ordinal: int
    """Index of the tunnel among the connection's tunnels with a verdict, in the order of their CONNECT requests; NO_TUNNEL for
    a plain request."""
    evidence: int
    """Number of pieces of evidence, for the version."""


def verdict_groups(route: Route, connection: Connection) -> list[VerdictGroup]:
    """Return the verdict groups of a connection, without those whose host is still unknown."""
    tunnels = _by_request([one for one in connection.verdicts if one.tunnel and one.request])
    tunnels.sort(key=lambda verdicts: verdicts[0].request)
    on_names = sorted(
        (one for one in connection.verdicts if one.tunnel and not one.request), key=lambda one: (one.at, one.host)
    )
    end = tunnel_end(connection) if route.proxied else None
    flow = flow_name(connection)
    found = []
    for ordinal, tunnel in enumerate(tunnels or [on_names[:1]] * bool(on_names)):
        first, verdicts = tunnel[0], tunnel
        if not tunnels or tunnel is tunnels[-1]:
            # Verdicts on names do not name the tunnel; they count for the last one.
            verdicts = [*tunnel, *(one for one in on_names if one is not first)]
        host, port = first.host, first.port
        if end is not None and (not host or not port):
            host, port = host or end.host, port or end.port
        port = port or (route.remote_port if not route.proxied else 443)
        record = identity(route.device, route.key, flow, _TUNNEL, str(ordinal))
        found.append(_group(first, verdicts, host, port, record, ordinal, _evidence(*tunnels, on_names)))
    for verdicts in _by_request([one for one in connection.verdicts if not one.tunnel]):
        first = verdicts[0]
        port = first.port or (end.port if end is not None else route.remote_port)
        record = identity(route.device, route.key, flow, _PLAIN, str(first.request), first.host)
        found.append(_group(first, verdicts, first.host, port, record, NO_TUNNEL, _evidence(verdicts)))
    return [group for group in found if group.host]


def _by_request(verdicts: list[RequestVerdict]) -> list[list[RequestVerdict]]:
    """Group verdicts by request. The first verdict of a group is the one with an emitted row, else the first sensor's."""
    found: list[list[RequestVerdict]] = []
    for sensor in dict.fromkeys(one.sensor for one in verdicts):
        left = sorted((one for one in verdicts if one.sensor == sensor), key=lambda one: one.request)
        free = sorted(found, key=lambda known: known[0].request)
        for fits in (_is_that, _is_near):
            left = _merge(left, free, fits)
        for one in left:
            named = next((known for known in found if _has_same_name(known[0], one)), None)
            if named is None:
                found.append([one])
            else:
                named.append(one)  # Two groups with the same host and request number would have the same record id.
    return found


def _merge(
    verdicts: list[RequestVerdict],
    free: list[list[RequestVerdict]],
    fits: Callable[[RequestVerdict, RequestVerdict], bool],
) -> list[RequestVerdict]:
    """Add each verdict to the group of `free` whose first verdict it fits; return the verdicts that fit none.

    A group takes one verdict and is then removed from `free`.
    """
    left: list[RequestVerdict] = []
    for one in verdicts:
        same = next((known for known in free if fits(known[0], one)), None)
        if same is None:
            left.append(one)
        else:
            free.remove(same)
            same.insert(0 if one.sent and not same[0].sent else len(same), one)
    return left


def _has_same_name(one: RequestVerdict, other: RequestVerdict) -> bool:
    return (one.host, one.request) == (other.host, other.request)


def _is_near(one: RequestVerdict, other: RequestVerdict) -> bool:
    return one.host == other.host and abs(one.at - other.at) <= APART


def _is_that(one: RequestVerdict, other: RequestVerdict) -> bool:
    return _has_same_name(one, other) and _is_near(one, other)


def _evidence(*groups: list[RequestVerdict]) -> int:
    """Return the number of pieces of evidence in all these groups.

    All tunnels of a connection use the same sum: a CONNECT that arrives late but came first shifts the ordinals of the others.
    """
    return sum(verdict.evidence for verdicts in groups for verdict in verdicts)


def _group(
    first: RequestVerdict,
    verdicts: list[RequestVerdict],
    host: str,
    port: int,
    record: str,
    ordinal: int,
    evidence: int,
) -> VerdictGroup:
    flags = 0
    for one in verdicts:
        flags |= one.flags
    return VerdictGroup(first, verdicts, flags, host, port, record, ordinal, evidence)


def sent_version(connection: Connection, group: VerdictGroup) -> int:
    """Return the emitted version of a verdict group's row; 0 for none."""
    if group.ordinal == NO_TUNNEL:
        return group.verdict.sent
    rows = connection.tunnel_rows
    return rows[group.ordinal] if group.ordinal < len(rows) else 0


def keep_version(connection: Connection, group: VerdictGroup, version: int) -> None:
    """Record the emitted version of a verdict group's row."""
    if group.ordinal == NO_TUNNEL:
        group.verdict.sent = version
        return
    rows = connection.tunnel_rows
    rows.extend([0] * (group.ordinal + 1 - len(rows)))
    rows[group.ordinal] = version
