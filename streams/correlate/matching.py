"""Matching of endpoint records and network sensors' flows that belong to the same connection.

Both contain the 5-tuple, which repeats within milliseconds. Only the endpoint record has the exact start; only some of
the sensor's records have the flow's start. Rules, best first:

1. a flow with a known start belongs to the endpoint record with the nearest start: at once within `SAME_START`, within
   `START_TOLERANCE` once the connection is decided;
2. otherwise to the endpoint record that was open when the evidence was logged, if no other free one had begun by then.
   A record may be logged only when its 5-tuple is used again, and then appears to belong to the next connection.
   Evidence that was logged before that connection began stays with the one that was open then;
3. otherwise, once the connection is decided, to the only endpoint record that began before, ended at most `LOGGED_LATE_MAX`
   before and has no flow yet, unless another kind of sensor reported another connection that this flow may belong to as well;
4. otherwise, once the connection is decided, to the only endpoint record without a flow whose start is near (clocks of several
   machines differ), unless another flow may belong to that record.

A flow of `unproxy sensor` uses the endpoint's own clock. So a connection that closed before the flow began is no
candidate of any rule (if the flow's start is unknown: `OWN_DELAY` before the time of the evidence). Rule 4 does not
apply to such a flow if its start is known.

A match by rule 2 is corrected when better evidence arrives. No match is better than a wrong one.
"""

from __future__ import annotations

from schemas.events import Micros
from schemas.parsers import endpoint_clock_kinds
from streams.model.connection import Connection, EndpointRecord, TupleConnections
from streams.model.evidence import APART

SAME_START: Micros = 50_000
"""Microseconds. A flow and a record whose starts differ by at most this match at once: it is one SYN, read by two clocks."""
START_TOLERANCE: Micros = 1_000_000
"""Microseconds. Starts that differ by at most this match once the connection is decided, if no other candidate is nearer."""
EARLY: Micros = 10_000
"""Microseconds by which a sensor's time may precede the endpoint record's start, as two clocks differ."""
LOGGING_DELAY: Micros = 20_000
"""Microseconds after the close within which a record without delay is logged."""
OWN_SKEW: Micros = 1_000
"""Microseconds by which the first packet of a flow of `unproxy sensor` may precede its connection's attempt: two readings of
one clock. The attempt itself comes first."""
OWN_DELAY: Micros = 7_000_000
"""Microseconds after the close within which `unproxy sensor` still reports a request: 5 s without an answer, and a
check each second."""
LOGGED_LATE_MAX: Micros = 61_000_000
"""Microseconds after the end of its connection within which a request may be logged at the latest. Suricata logs a
CONNECT without an observed answer together with the flow record. That is 61 s after the end: its packaged timeout of
closed flows (60 s) and its pass over the flows (1 s)."""


def _distance(endpoint: EndpointRecord, started: Micros, kind: str) -> Micros:
    """Return the difference, in microseconds, between the starts of an endpoint record and of a flow.

    `kind` is the kind of the flow's id. If its sensor uses the endpoint's clock and the record starts more than `OWN_SKEW`
    after the flow, the record belongs to a later connection of the 5-tuple. The result is then more than `APART`, so it is
    beyond every tolerance.
    """
    if endpoint.started > started + OWN_SKEW and kind in endpoint_clock_kinds():
        return APART + endpoint.started - started
    return abs(endpoint.started - started)


def _open_at(endpoint: EndpointRecord, at: Micros) -> bool:
    return endpoint.started - EARLY <= at and (not endpoint.ended or at <= endpoint.ended + LOGGING_DELAY)


def _is_over(endpoint: EndpointRecord, at: Micros, started: Micros) -> bool:
    """Return whether the connection closed before a flow of `unproxy sensor` began, so its 5-tuple was free for the flow.

    This does not hold for other sensors: their clocks may differ from the endpoint's, and they log a request much
    later.
    """
    return 0 < endpoint.ended < (started - EARLY if started else at - OWN_DELAY)


def _may_be_logged_at(endpoint: EndpointRecord, at: Micros) -> bool:
    """Return whether a request of the connection may be logged at that time, with the usual or the longest delay."""
    return endpoint.started - EARLY <= at and (not endpoint.ended or at <= endpoint.ended + LOGGED_LATE_MAX)


def endpoint_for_flow(connections: TupleConnections, at: Micros, started: Micros, kind: str) -> Connection | None:
    """Return the connection with only an endpoint record that this sensor evidence belongs to (rules 1 and 2), or None."""
    free = [c for c in connections if c.endpoint is not None and not c.flow_id]
    if kind in endpoint_clock_kinds():
        free = [c for c in free if c.endpoint is not None and not _is_over(c.endpoint, at, started)]
    if started:
        return _nearest(free, started, SAME_START, kind)
    before = [c for c in free if c.endpoint is not None and c.endpoint.started - EARLY <= at]
    if len(before) != 1 or _may_be_of_reported(connections, before[0], kind, at):
        return None
    endpoint = before[0].endpoint
    return before[0] if endpoint is not None and _open_at(endpoint, at) else None


def _may_be_of_reported(connections: TupleConnections, free: Connection, kind: str, at: Micros) -> bool:
    """Return whether this evidence may belong to another connection that only other kinds of sensors reported.

    That connection began after the free one, or was open at `at`.
    """
    assert free.endpoint is not None, "only of a connection with an endpoint record"
    since = free.endpoint.started
    return any(
        c.endpoint is not None
        and c.endpoint.started - EARLY <= at
        and (c.endpoint.started > since or _open_at(c.endpoint, at))
        and c.flow_id
        and kind not in c.flow_kinds
        for c in connections
    )


def flow_for_endpoint(connections: TupleConnections, endpoint: EndpointRecord) -> Connection | None:
    """Return the connection with only a flow that this endpoint record belongs to (rules 1 and 2); else None."""
    free = [c for c in connections if c.endpoint is None and not c.held]
    near = [c for c in free if c.flow_started and _distance(endpoint, c.flow_started, c.flow_kind) <= SAME_START]
    if near:
        return min(near, key=lambda c: (_distance(endpoint, c.flow_started, c.flow_kind), c.flow_id))
    current = [c for c in free if not c.flow_started and _open_at(endpoint, c.first)]
    return current[0] if len(current) == 1 else None


def better_endpoint(connections: TupleConnections, flow: Connection) -> Connection | None:
    """Return the connection whose endpoint record fits this flow's start better than its present one (rule 1), or None."""
    if flow.endpoint is None or not flow.flow_started:
        return None
    started = flow.flow_started
    others = [c for c in connections if c is not flow and _fits_exchanged(c, flow)]
    best = _nearest(others, started, START_TOLERANCE, flow.flow_kind)
    if best is None or best.endpoint is None:
        return None
    is_better = _distance(best.endpoint, started, flow.flow_kind) < _distance(flow.endpoint, started, flow.flow_kind)
    return best if is_better else None


def _fits_exchanged(other: Connection, flow: Connection) -> bool:
    """Return whether a connection and a flow with a known start fit better after exchanging their endpoint records.

    A connection without a known start fits any record.
    """
    if other.endpoint is None or flow.endpoint is None:
        return False
    if not other.flow_started:
        return True
    ends = ((flow.flow_started, flow.flow_kind), (other.flow_started, other.flow_kind))
    now = _distance(flow.endpoint, *ends[0]) + _distance(other.endpoint, *ends[1])
    return _distance(other.endpoint, *ends[0]) + _distance(flow.endpoint, *ends[1]) < now


def wrongly_matched(connections: TupleConnections, endpoint: EndpointRecord) -> Connection | None:
    """Return the connection that has an older endpoint record although this new one fits better, or None."""
    for connection in connections:
        old = connection.endpoint
        if old is None or not connection.flow_id:
            continue
        if connection.flow_started:
            started, kind = connection.flow_started, connection.flow_kind
            distance = _distance(endpoint, started, kind)
            if distance <= START_TOLERANCE and distance < _distance(old, started, kind):
                return connection
        elif old.started < endpoint.started and _fits_better(endpoint, old, connection.first):
            return connection
    return None


def _fits_better(later: EndpointRecord, earlier: EndpointRecord, at: Micros) -> bool:
    """Return whether evidence of that time belongs to the later of two records.

    The later record was open then. Either it had begun by that time, or the earlier one was not open and their clocks
    differ.
    """
    return _open_at(later, at) and (later.started <= at or not _open_at(earlier, at))


def is_refuted(flow: Connection) -> bool:
    """Return whether the flow's known start contradicts its endpoint record: it is far away, or after the record's close."""
    if began_after_close(flow):
        return True
    endpoint = flow.endpoint
    if endpoint is None or not flow.flow_started:
        return False
    distance = abs(endpoint.started - flow.flow_started)
    return distance > START_TOLERANCE and (distance > APART or _never_together(endpoint, flow))


def began_after_close(flow: Connection) -> bool:
    """Return whether a flow of `unproxy sensor` began after its endpoint record's connection had closed."""
    endpoint = flow.endpoint
    if endpoint is None or flow.flow_kind not in endpoint_clock_kinds():
        return False
    return _is_over(endpoint, flow.first, flow.flow_started)


def lives_apart(started: Micros, ended: Micros, other_started: Micros, other_ended: Micros) -> bool:
    """Return whether one connection ended before the other started. An unknown end is 0."""
    return (0 < ended < other_started - SAME_START) or (0 < other_ended < started - SAME_START)


def _never_together(endpoint: EndpointRecord, flow: Connection) -> bool:
    return lives_apart(endpoint.started, endpoint.ended, flow.flow_started or flow.first, flow.flow_ended)


def may_be_flow_of(endpoint: EndpointRecord, flow: Connection) -> bool:
    """Return whether the clocks differ by no more than `APART` and the lives overlap."""
    if flow.flow_started:
        return abs(endpoint.started - flow.flow_started) <= APART and not _never_together(endpoint, flow)
    return endpoint.started - APART <= flow.first and (not endpoint.ended or flow.first <= endpoint.ended + APART)


def may_be_of_another(connections: TupleConnections, flow: Connection) -> bool:
    """Return whether a flow without an endpoint record may belong to one of the endpoint records without a flow."""
    return flow.endpoint is None and any(
        c.endpoint is not None and _may_be_logged_at(c.endpoint, flow.first) for c in _free_before(connections, flow)
    )


def _free_before(connections: TupleConnections, flow: Connection) -> TupleConnections:
    """Return the endpoint records without a flow that began before this flow's evidence."""
    own = flow.flow_kind in endpoint_clock_kinds()
    return [
        c
        for c in connections
        if c.endpoint is not None
        and not c.flow_id
        and c.endpoint.started - EARLY <= flow.first
        and not (own and _is_over(c.endpoint, flow.first, flow.flow_started))
    ]


def only_endpoint_left(connections: TupleConnections, flow: Connection) -> Connection | None:
    """Return the one endpoint record without a flow that this flow may belong to (rules 1, 3 and 4); None if not exactly one."""
    free = _free_before(connections, flow)
    if flow.flow_started:
        nearest = _nearest(free, flow.flow_started, START_TOLERANCE, flow.flow_kind)
        # With one clock for both, a start that is not near belongs to another connection.
        return nearest or (None if flow.flow_kind in endpoint_clock_kinds() else _only_one_near(connections, flow))
    if len(free) != 1:
        return None if free else _only_one_near(connections, flow)
    endpoint = free[0].endpoint
    sure = endpoint is not None and _may_be_logged_at(endpoint, flow.first)
    return free[0] if sure and not _may_be_of_reported(connections, free[0], flow.flow_kind, flow.first) else None


def _only_one_near(connections: TupleConnections, flow: Connection) -> Connection | None:
    """Return the one endpoint record without a flow that may be this flow's and no other flow's (rule 4), or None."""
    free = [c for c in connections if c.endpoint is not None and not c.first and may_be_flow_of(c.endpoint, flow)]
    if len(free) != 1 or free[0].endpoint is None:
        return None
    endpoint = free[0].endpoint
    rivals = [
        c for c in connections if c is not flow and c.endpoint is None and not c.held and may_be_flow_of(endpoint, c)
    ]
    return None if rivals else free[0]


def _nearest(connections: list[Connection], started: Micros, tolerance: Micros, kind: str) -> Connection | None:
    """Return the connection whose endpoint record began nearest to a flow's start, within the tolerance, or None."""
    best, nearest = None, tolerance + 1
    for connection in connections:
        endpoint = connection.endpoint
        if endpoint is not None and (distance := _distance(endpoint, started, kind)) < nearest:
            best, nearest = connection, distance
    return best
