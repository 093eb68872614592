"""`Version` of rows and alerts: a function of the evidence, so that the row with more evidence wins, wherever it was made."""

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
"""What a piece of evidence adds to a version; above all that the device's history can take away."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """What a row rests on, as numbers. Its version grows whenever the content of the row changes.

    - A new piece of evidence adds at least 1 to `pieces`. Pieces leave a sum only when another one replaces them, and the
      weights of the sums below are such that the replacement adds more than it removes.
    - `history` is the contribution of the device's mode history at the row's time, plus 1 for a learnt proxy. At a fixed time
      it only grows (`mode_changes`). It shrinks only with a new piece, which may move the row's time back or show that the
      proxy is not merely learnt. The loss is at most 3 * `mode_history.ENTRIES_MAX` + 1 = 769, less than `PIECE`.
    - If connections exchange their halves, pieces may be lost. `raised` then grows so that the next version is above the
      emitted one (`outbid`). It never shrinks.
    """

    pieces: int
    history: int = 0
    raised: int = 0

    def version(self) -> int:
        """Return the version of the row.

        A row without a piece (of a client hello without a name) has a version below that of the first piece.
        """
        return (PIECE * self.pieces or 1) + self.history + self.raised


def outbid(row: Connection | Destination, version: int) -> int:
    """Return a version above the emitted one, and raise the row's later versions by the difference.

    The correct row thereby replaces one that was made with another connection's half.
    """
    if not row.sent:
        return version
    row.bump += max(row.sent + 1 - version, 0)
    return max(version, row.sent + 1)


def connection_evidence(route: Route, state: DeviceState, connection: Connection) -> Evidence:
    """Return the evidence of a connection row."""
    pieces = connection.summarised + len(connection.names) + connection.unreadable + connection.name_flags.bit_count()
    # A name that a CONNECT confirms is removed from `names` (-1, or -2 if both TLS and Host contain it) while the
    # destination gains 3, so the sum still grows.
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
    # Evidence counts double, because an earlier request removes the +1 of one logged after the connection's end.
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
        # Which entries fit depends on the end of the connection and on the other requested ports.
        pieces += 2 * len(connection.log_entries) + connection.summarised + ports_of(connection, destination)
        pieces += connection.endpoint is not None and connection.endpoint.ended > 0
    return Evidence(pieces, mode_changes(state, at), destination.bump)


def verdict_evidence(route: Route, state: DeviceState, connection: Connection, group: VerdictGroup) -> Evidence:
    """Return the evidence of the row of a verdict group.

    `verdict_bump` is more than the pieces of the endpoint record, which are lost when halves are exchanged.
    """
    pieces = 2 * group.evidence + _endpoint_pieces(connection) + _tunnel_pieces(connection) + route.proxied
    return Evidence(pieces + connection.verdict_bump, mode_changes(state, group.verdict.at))


def unattributed_evidence(state: DeviceState, unattributed: UnattributedVerdict) -> Evidence:
    """Return the evidence of the row of a process verdict: it arrived, was decided, bypassed, retracted."""
    bypassed = unattributed.flags != unattributed.verdict.flags
    pieces = 1 + unattributed.decided + bypassed + unattributed.retracted
    return Evidence(pieces, mode_changes(state, unattributed.at))


def alert_evidence(state: DeviceState, alert: AlertState) -> Evidence:
    """Return the evidence of an alert, whose state counts its pieces."""
    return Evidence(alert.version, mode_changes(state, alert.last))


def _endpoint_pieces(connection: Connection) -> int:
    """Return the pieces that the endpoint record adds to every row."""
    endpoint = connection.endpoint
    if endpoint is None:
        return 0
    pieces = 1 + (endpoint.established > 0) + (endpoint.process.name != "")
    if connection.sensor_records:
        for record in connection.sensor_records:
            pieces += 2 + (record.established > 0) + (record.ended > 0) + (record.process.name != "")
    return pieces + (connection.run is not None) + (endpoint.exec_after != "")


def _tunnel_pieces(connection: Connection) -> int:
    """Return the pieces about the tunnel as a whole: its latest end, the observed names and the verdicts on them.

    They count for every row of the tunnel, as each CONNECT may change the latest end. A name that a CONNECT confirms is
    removed from `names` (-1 or -2) while its destination gains 3, so the sum still grows.
    """
    pieces = len(connection.names) + connection.name_flags.bit_count()
    for destination in connection.destinations:
        if destination.tunnel:
            pieces += 3 * destination.evidence
    return pieces
