"""`Version` of rows and alerts, a function of the evidence: the row with more evidence wins, whichever worker emitted it."""

from __future__ import annotations

import msgspec

from streams.assess.access_log import ports_of
from streams.assess.assessment import Route, start_of, time_of
from streams.assess.mode_history import mode_changes
from streams.assess.verdict_groups import VerdictGroup
from streams.model.connection import Connection, Destination
from streams.model.device import DeviceState
from streams.model.protection import AlertState, UnattributedVerdict

PIECE = 1_024
"""Contribution of one piece of evidence to a version. It exceeds the largest decrease of `Evidence.history`."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """The numbers from which the version of a row is computed. The version must grow whenever the content of the row changes.

    - `pieces` is a weighted sum of the pieces of evidence. A new piece adds at least 1. A piece is removed only together with
      the addition of another one that weighs more; the functions of this module choose the weights accordingly.
    - `history` is the contribution of the device's mode history at the row's time, plus 1 for a learnt proxy. For a fixed time
      it only grows (`mode_changes`). It shrinks only together with a new piece, which may move the row's time back or show that
      the connection's own requests prove the proxy. The decrease is at most 3 for each of `mode_history.ENTRIES_MAX` entries
      plus 1, together 769. This is less than `PIECE`.
    - `raised` makes up for pieces that are lost if an endpoint record or a flow moves to another connection: it is increased
      so that the next version exceeds the emitted one (`outbid`). It never shrinks.
    """

    pieces: int
    history: int = 0
    raised: int = 0

    def version(self) -> int:
        """Return the version of the row.

        A row without any piece (for a client hello without a server name) has a lower version than a row with one piece.
        """
        return (PIECE * self.pieces or 1) + self.history + self.raised


def outbid(row: Connection | Destination, version: int) -> int:
    """Return the version or, if the emitted row has an equal or higher one, the next higher number.

    `bump` is increased by the difference, so that later versions are higher too. The correct row therefore replaces the
    emitted one, which contained another connection's endpoint record or flow.
    """
    if not row.sent:
        return version
    row.bump += max(row.sent + 1 - version, 0)
    return max(version, row.sent + 1)


def connection_evidence(route: Route, state: DeviceState, connection: Connection) -> Evidence:
    """Return the evidence of a connection row."""
    pieces = connection.summarised + len(connection.names) + connection.unreadable + connection.name_flags.bit_count()
    # A CONNECT that names the same host removes an observed name from `names` (-1, or -2 if it was observed in TLS and in a
    # Host header) and adds 3 through its destination, so the sum still grows.
    for destination in connection.destinations:
        pieces += 3 * destination.evidence
    endpoint = connection.endpoint
    if endpoint is not None:
        pieces += _endpoint_pieces(connection) + (endpoint.ended > 0) + endpoint.failed
        pieces += (endpoint.bytes_sent >= 0) + (endpoint.bytes_received >= 0)
    if connection.log_entries:
        pieces += 3 * len(connection.log_entries)
    pieces += len(connection.guesses)
    history = mode_changes(state, connection.started) + (route.learnt and not connection.asked)
    return Evidence(pieces, history, connection.bump)


def destination_evidence(state: DeviceState, connection: Connection, destination: Destination) -> Evidence:
    """Return the evidence of a destination row."""
    at = time_of(connection, destination)
    # Evidence counts double: a new, earlier request may remove the 1 for a request that was logged after the connection's end.
    pieces = 2 * destination.evidence + (at != destination.first)
    if connection.endpoint is not None:
        pieces += 2 + _endpoint_pieces(connection)
    elif connection.flow_started:
        pieces += 2
    else:
        pieces += start_of(connection, destination) != destination.first
    if destination.tunnel:
        pieces += _tunnel_pieces(connection)
    pieces += len(connection.guesses)
    if connection.log_entries:
        # The end of the connection and the other requested ports decide which entries apply to the destination.
        pieces += 2 * len(connection.log_entries) + connection.summarised + ports_of(connection, destination)
        pieces += connection.endpoint is not None and connection.endpoint.ended > 0
    return Evidence(pieces, mode_changes(state, at), destination.bump)


def verdict_evidence(route: Route, state: DeviceState, connection: Connection, group: VerdictGroup) -> Evidence:
    """Return the evidence of the row of a verdict group.

    When endpoint records are exchanged, their pieces are lost. `verdict_bump` then grows by more than that.
    """
    pieces = 2 * group.evidence + _endpoint_pieces(connection) + _tunnel_pieces(connection) + route.proxied
    return Evidence(pieces + connection.verdict_bump, mode_changes(state, group.verdict.at))


def unattributed_evidence(state: DeviceState, unattributed: UnattributedVerdict) -> Evidence:
    """Return the evidence of the row of a process verdict: one piece, and one more each if decided, bypassed, retracted."""
    bypassed = unattributed.flags != unattributed.verdict.flags
    pieces = 1 + unattributed.decided + bypassed + unattributed.retracted
    return Evidence(pieces, mode_changes(state, unattributed.at))


def alert_evidence(state: DeviceState, alert: AlertState) -> Evidence:
    """Return the evidence of an alert. Its pieces are counted in `AlertState.version`."""
    return Evidence(alert.version, mode_changes(state, alert.last))


def _endpoint_pieces(connection: Connection) -> int:
    """Return the pieces that the endpoint record contributes to each row of the connection."""
    endpoint = connection.endpoint
    if endpoint is None:
        return 0
    pieces = 1 + (endpoint.established > 0) + (endpoint.process.name != "")
    if connection.sensor_records:
        for record in connection.sensor_records:
            pieces += 2 + (record.established > 0) + (record.ended > 0) + (record.process.name != "")
    return pieces + (connection.run is not None) + (endpoint.exec_after != "")


def _tunnel_pieces(connection: Connection) -> int:
    """Return the pieces that concern all tunnels of the connection: its CONNECT requests, observed names and verdicts on them.

    They count for each row of a tunnel, because each CONNECT may change `tunnel_end`. The weight 3 is explained in
    `connection_evidence`.
    """
    pieces = len(connection.names) + connection.name_flags.bit_count()
    for destination in connection.destinations:
        if destination.tunnel:
            pieces += 3 * destination.evidence
    return pieces
