"""Halves of connections: an endpoint record joins its flow, and evidence that no longer fits is superseded. Pure.

A connection consists of an endpoint record and a flow, which may arrive as two connections and may be matched the wrong way
round at first.
"""

from __future__ import annotations

from streams.assess.access_log import entries_of
from streams.assess.assessment import flow_name
from streams.model.connection import BY_PROXY_LOG, Connection, Destination
from streams.model.protection import Counted


def take_endpoint(flow: Connection, other: Connection) -> list[Counted]:
    """Move everything from a connection with only an endpoint record to its flow; the caller removes the other connection.

    Returns the contributions to alerts that the flow already has under the same name.
    """
    flow.endpoint, flow.sensor_records = other.endpoint, other.sensor_records
    flow.identity_start, flow.guesses = other.identity_start, other.guesses
    _take_log_entries(flow, other)
    if other.sent:
        flow.sent, flow.identity = other.sent, other.identity
        flow.bump, flow.moved = other.bump, True
    flow.decided |= other.decided
    flow.last = max(flow.last, other.last)
    flow.baseline_checked |= other.baseline_checked
    twice = [counted for name, counted in other.counted.items() if name in flow.counted]
    flow.counted |= {name: counted for name, counted in other.counted.items() if name not in flow.counted}
    return twice


def _take_log_entries(flow: Connection, other: Connection) -> None:
    """Move access-log entries and the destinations that they named from an endpoint record to its flow.

    Emitted rows keep their name. Must run before the flow takes over `sent`: the name depends on whether the flow itself
    already had rows.
    """
    flow.log_entries += tuple(entry for entry in other.log_entries if entry not in flow.log_entries)
    if not flow.rows_left and any(d.sent for d in other.destinations):
        flow.row_name = flow_name(other)
    for destination in other.destinations:
        for known in flow.destinations:
            if (known.host, known.port) == (destination.host, destination.port):
                known.sent = max(known.sent, destination.sent)
                break
        else:
            flow.destinations.append(destination)


def supersede(weak: Destination) -> None:
    """Mark a destination as superseded: a better name arrived, or the evidence that named it no longer fits."""
    if not weak.superseded:
        weak.superseded = True
        weak.evidence += 1


def retract_log_entries(connection: Connection) -> None:
    """Supersede destinations that only a proxy's log named if no access-log entry fits the connection any more."""
    for destination in connection.destinations:
        if destination.by == BY_PROXY_LOG and not entries_of(connection, destination):
            supersede(destination)
