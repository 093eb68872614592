"""Halves of connections: joins an endpoint record to its flow, and supersedes evidence that no longer fits. Pure.

A connection consists of two halves: an endpoint record and a flow. They may first be kept as two connections, and a flow may
first be matched to the wrong endpoint record.
"""

from __future__ import annotations

from streams.assess.access_log import entries_of
from streams.assess.assessment import flow_name
from streams.model.connection import BY_PROXY_LOG, Connection, Destination
from streams.model.protection import Counted


def take_endpoint(flow: Connection, other: Connection) -> list[Counted]:
    """Move everything from `other`, a connection with only an endpoint record, to the connection of its flow.

    The caller removes `other`. Returns the contributions to alerts of `other` for which the flow has one with the same
    finding name: the caller withdraws them.
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
    """Move the access-log entries of `other`, and the destinations that they named, to the flow's connection.

    Emitted rows keep their identity. Call this before the flow's connection takes over `sent`, because `row_name` depends on
    whether that connection had rows of its own.
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
    """Supersede the destinations that only a proxy's log named and that no entry fits any more."""
    for destination in connection.destinations:
        if destination.by == BY_PROXY_LOG and not entries_of(connection, destination):
            supersede(destination)
