"""Merging of sensor records: whether two records or two flows are of one connection, and the content of the merged record.

A 5-tuple may be reused within milliseconds, and clocks differ by seconds. Time alone therefore never proves that two sensors
report the same connection. Two views are merged only if neither may belong to another connection; otherwise there are two rows.

- Records of different endpoint sensors are one attempt if their processes and lifetimes agree. Times come from the sensor with
  the best clock (`Sensor.clock_rank`), the process from the sensor that reports most of it; the other sensors fill its gaps.
- Network sensors differ in the kind of their flow ids (`Sensor.flow_id_kind`). The rows of a second kind's flow wait until the
  connection is decided (`held`), because only then it is known whether the flow is another view of the first one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from msgspec.structs import replace

from schemas.events import Micros, Process
from schemas.parsers import sensor_of
from streams.correlate.matching import SAME_START, lives_apart, may_be_flow_of
from streams.model.connection import (
    BY_CONNECT,
    DESTINATIONS_MAX,
    EVENT_IDS_MAX,
    EVIDENCE_MAX,
    FROM_ENDPOINT,
    UNDECIDED,
    Connection,
    Destination,
    EndpointRecord,
    TupleConnections,
)
from streams.model.evidence import APART, FlowEvidence, add_name, keep_verdict, kind_of_flow
from streams.model.protection import Hit

COMM_CHARS = 15
"""Characters of a process name that Linux reports (proc(5), `comm`)."""


def mark_of(kind: str) -> int:
    """Return a number for a kind of flow ids, which distinguishes its evidence from equal evidence of the first sensor."""
    return zlib.crc32(b"sensor " + kind.encode())


def of_same_sensor(connection: Connection, endpoint: EndpointRecord) -> EndpointRecord | None:
    """Return the earlier record of the same sensor and attempt that this record updates; None if there is none."""
    known = connection.sensor_records or ((connection.endpoint,) if connection.endpoint is not None else ())
    for record in known:
        if record.started == endpoint.started and (
            record.event_id == endpoint.event_id or record.sensor == endpoint.sensor
        ):
            return record
    return None


def same_connection(connections: TupleConnections, endpoint: EndpointRecord) -> Connection | None:
    """Return the only connection that other endpoint sensors reported and that this record also describes; else None."""
    found = [c for c in connections if _is_another_view(c, endpoint)]
    if len(found) > 1:
        found = [
            c for c in found if c.endpoint is not None and abs(c.endpoint.started - endpoint.started) <= SAME_START
        ]
    return found[0] if len(found) == 1 else None


def _is_another_view(connection: Connection, endpoint: EndpointRecord) -> bool:
    own = connection.endpoint
    if own is None or abs(own.started - endpoint.started) > APART:
        return False
    if any(record.sensor == endpoint.sensor for record in connection.sensor_records or (own,)):
        return False
    if (own.failed and endpoint.established) or (endpoint.failed and own.established):
        return False
    apart = lives_apart(own.started, own.ended, endpoint.started, endpoint.ended)
    return not apart and _may_be_one_process(own.process, endpoint.process)


def _may_be_one_process(one: Process, other: Process) -> bool:
    if one.pid is not None and other.pid is not None:
        return one.pid == other.pid
    a, b = one.name.lower()[:COMM_CHARS], other.name.lower()[:COMM_CHARS]
    return not a or not b or a == b


def merged(one: EndpointRecord, other: EndpointRecord) -> EndpointRecord:
    """Merge two records of one sensor about one attempt."""
    return EndpointRecord(
        one.started,
        max(one.established, other.established),
        max(one.ended, other.ended),
        one.failed or other.failed,
        one.process if one.process.name else other.process,
        one.event_id,
        max(one.bytes_sent, other.bytes_sent),
        max(one.bytes_received, other.bytes_received),
        one.exec_after or other.exec_after,
        one.sensor,
    )


def add_sensor_record(connection: Connection, endpoint: EndpointRecord) -> bool:
    """Merge another sensor's record into this connection; return False if it adds nothing."""
    assert connection.endpoint is not None, "only of a connection with an endpoint's record"
    records = connection.sensor_records or (connection.endpoint,)
    known = of_same_sensor(connection, endpoint)
    if known is not None:
        endpoint = merged(known, endpoint)
        if endpoint == known:
            return False
        records = tuple(record for record in records if record is not known)
    if connection.identity == FROM_ENDPOINT and not connection.identity_start:
        connection.identity_start = connection.endpoint.started
    connection.sensor_records = tuple(sorted([*records, endpoint], key=_rank))
    connection.endpoint = _composed(connection.sensor_records)
    return True


def same_of_another(connections: TupleConnections, endpoint: EndpointRecord) -> Connection | None:
    """Return the connection with another sensor's record that fits this new record better than the connection's own; else None.

    A connection whose identity is decided is not returned, as its rows were emitted.
    """
    return next(
        (c for c in connections if c.sensor_records and c.identity == UNDECIDED and _better_with(c, endpoint)), None
    )


def _better_with(connection: Connection, endpoint: EndpointRecord) -> EndpointRecord | None:
    own = next((record for record in connection.sensor_records if record.sensor == endpoint.sensor), None)
    if own is None:
        return None
    for record in connection.sensor_records:
        if record is not own and abs(endpoint.started - record.started) < abs(own.started - record.started):
            apart = lives_apart(record.started, record.ended, endpoint.started, endpoint.ended)
            if not apart and _may_be_one_process(record.process, endpoint.process):
                return record
    return None


def to_sensor_record(connection: Connection, endpoint: EndpointRecord) -> EndpointRecord:
    """Remove from the connection the other sensor's record that fits this new record better, and return it."""
    taken = _better_with(connection, endpoint)
    assert taken is not None, "only of a connection that was just found to have one"
    left = tuple(record for record in connection.sensor_records if record is not taken)
    connection.endpoint, connection.sensor_records = _composed(left), left if len(left) > 1 else ()
    return taken


def _rank(endpoint: EndpointRecord) -> tuple[int, str]:
    return sensor_of(endpoint.sensor).clock_rank, endpoint.event_id


def _composed(records: tuple[EndpointRecord, ...]) -> EndpointRecord:
    """Merge the records of several sensors into one; the first has the best clock."""
    best = records[0]
    established = any(record.established for record in records)
    ended = best.ended or max(record.ended for record in records)
    return EndpointRecord(
        best.started,
        best.established or (best.started if established else 0),
        max(ended, best.started) if ended else 0,
        any(record.failed for record in records) and not established,
        _richest(record.process for record in records),
        best.event_id,
        max(record.bytes_sent for record in records),
        max(record.bytes_received for record in records),
        next((record.exec_after for record in records if record.exec_after), ""),
        best.sensor,
    )


def _richest(processes: Iterable[Process]) -> Process:
    """Merge several sensors' views of a process: the one with the most fields, its gaps filled by the others."""
    by_fields = sorted(processes, key=lambda process: -len(_known_fields(process)))
    fields: dict[str, object] = {}
    for process in by_fields:
        fields = {**_known_fields(process), **fields}
    return replace(by_fields[0], **fields)


def _known_fields(process: Process) -> dict[str, object]:
    fields = ((name, getattr(process, name)) for name in process.__struct_fields__)
    return {name: value for name, value in fields if value not in (None, "", 0)}


# Merging of network sensors' flows


def may_have_twin(connections: TupleConnections, flow: Connection) -> bool:
    """Return whether another kind of sensor reported a connection that this flow may be."""
    return any(other is not flow and not other.held and _may_be_one(other, flow) for other in connections)


def twin(connections: TupleConnections, flow: Connection) -> Connection | None:
    """Return the only connection of which this flow is another view.

    None if several connections or several flows come into question.
    """
    kind = flow.flow_kind
    views = [c for c in connections if c is not flow and not c.held and _may_be_one(c, flow)]
    near = [c for c in views if _is_near(c, flow)]
    found = near if len(near) == 1 else views
    if len(found) != 1:
        return None
    rivals = [c for c in connections if c is not flow and c.flow_kind == kind and _may_be_one(found[0], c)]
    if rivals and (not near or any(_is_near(found[0], rival) for rival in rivals)):
        return None
    endpoints = [c for c in connections if c.endpoint is not None and not c.first and may_be_flow_of(c.endpoint, flow)]
    # If neither flow has an endpoint record, one free record may belong to both.
    if not near and len(endpoints) > (found[0].endpoint is None and flow.endpoint is None):
        return None
    return found[0]


def _start(flow: Connection) -> Micros:
    return flow.flow_started or (flow.endpoint.started if flow.endpoint is not None else 0)


def _is_near(one: Connection, other: Connection) -> bool:
    return bool(one.flow_started and other.flow_started) and abs(one.flow_started - other.flow_started) <= SAME_START


def _may_be_one(one: Connection, other: Connection) -> bool:
    """Return whether two flows come from different kinds of sensors and may be of one connection."""
    if not one.first or not other.first or (one.endpoint is not None and other.endpoint is not None):
        return False
    if one.flow_kind == other.flow_kind:  # The most common case if many connections share a 5-tuple.
        return False
    if any(also in one.flow_kinds for also in other.flow_kinds):
        return False
    a, b = _start(one), _start(other)
    if a and b:
        if abs(a - b) > APART:
            return False
    elif not a and not b and abs(one.first - other.first) > APART:
        return False
    if not _was_open(one, other) or not _was_open(other, one) or lives_apart(a, one.ended, b, other.ended):
        return False
    asked, also = ({d.host for d in c.destinations if d.requests or d.others} for c in (one, other))
    return not asked or not also or bool(asked & also)


def _was_open(flow: Connection, other: Connection) -> bool:
    """Return whether a flow was open at the other flow's first evidence; True if the other flow's start is known."""
    if _start(other):
        return True
    at = min(other.first, other.ended or other.first)
    return _start(flow) - APART <= at and (not flow.ended or at <= flow.ended + SAME_START)


def absorb(connection: Connection, view: Connection) -> None:
    """Merge another sensor's view into a connection; the caller removes the view."""
    kind = view.flow_kind
    connection.add_flows((view.flow_id, *view.flow_ids), view.flow_kinds)
    starts = [at for at in (connection.flow_started, view.flow_started) if at]
    connection.flow_started = min(starts, default=0)
    connection.flow_ended = max(connection.flow_ended, view.flow_ended)
    connection.bytes_sent = max(connection.bytes_sent, view.bytes_sent)
    connection.bytes_received = max(connection.bytes_received, view.bytes_received)
    for field in ("answered", "midstream", "tls", "connect", "asked", "name_flags"):
        setattr(connection, field, getattr(connection, field) | getattr(view, field))
    connection.summarised += view.summarised
    connection.unreadable += view.unreadable
    connection.first = min(connection.first, view.first)
    connection.last = max(connection.last, view.last)
    mark = mark_of(kind)
    connection.seen = [*connection.seen, *(evidence ^ mark for evidence in view.seen)][-EVIDENCE_MAX:]
    for observed in view.names:
        add_name(connection, observed)
    for destination in view.destinations:
        _add_view(connection, destination, kind)
    for verdict in view.verdicts:
        keep_verdict(connection, verdict)
    _add_hits(connection.hits, view.hits)
    connection.log_entries += tuple(entry for entry in view.log_entries if entry not in connection.log_entries)
    if connection.endpoint is None:
        connection.endpoint, connection.sensor_records = view.endpoint, view.sensor_records
        connection.identity_start, connection.guesses = view.identity_start, view.guesses


def _add_view(connection: Connection, view: Destination, kind: str) -> None:
    _count_apart(view, kind, view.requests)
    view.requests = 0
    if view.by <= BY_CONNECT:
        connection.names = [observed for observed in connection.names if observed.name != view.host]
    for found in connection.destinations:
        if (found.host, found.port) == (view.host, view.port):
            break
    else:
        if len(connection.destinations) < DESTINATIONS_MAX:
            connection.destinations.append(view)
        else:
            connection.unreadable += 1
        return
    found.superseded &= view.superseded
    found.tunnel |= view.tunnel
    found.flags |= view.flags
    found.evidence += view.evidence
    found.by = min(found.by, view.by)
    found.first, found.url = min((found.first, found.url), (view.first, view.url))
    found.status_at, found.status = max((found.status_at, found.status), (view.status_at, view.status))
    found.event_ids = sorted({*found.event_ids, *view.event_ids})[:EVENT_IDS_MAX]
    for other, requests in (view.others or {}).items():
        _count_apart(found, other, requests)
    _add_hits(found.hits, view.hits)


def reported_by_another(connection: Connection) -> None:
    """Attribute all evidence so far to a sensor without flow ids, because a second sensor now reports the connection."""
    connection.flow_ids, connection.flow_kinds = ("",), (connection.flow_kind, "")
    connection.seen = [evidence ^ mark_of("") for evidence in connection.seen]
    for destination in connection.destinations:
        destination.others, destination.requests = {"": destination.requests}, 0


def _add_hits(hits: list[Hit], more: list[Hit]) -> None:
    for hit in more:
        for known in hits:
            if known.sensor == hit.sensor and known.means == hit.means:
                known.count = max(known.count, hit.count)
                known.first, known.last = min(known.first, hit.first), max(known.last, hit.last)
                break
        else:
            hits.append(hit)


def count_for_its_sensor(connection: Connection, destination: Destination | None, event: FlowEvidence) -> None:
    """Count a request of a sensor other than the first one separately, as both sensors may have seen it."""
    if destination is not None and event.flow.id != connection.flow_id:
        destination.requests -= 1
        _count_apart(destination, kind_of_flow(event), 1)


def _count_apart(destination: Destination, kind: str, requests: int) -> None:
    others = destination.others or {}
    destination.others = {**others, kind: others.get(kind, 0) + requests}
