"""Emission of rows, verdicts and alerts for devices whose state changed; also counts each connection by its result."""

from __future__ import annotations

from schemas.events import Micros
from schemas.tables import ResolvedBy, UnresolvedReason
from streams.alerts.egress_baseline import detect_proxy_bypass
from streams.alerts.findings import findings
from streams.alerts.folding import add, due, fold, withdraw
from streams.assess.assessment import (
    Route,
    connection_id,
    is_blind,
    is_refused,
    unresolved_reason,
)
from streams.assess.process_attribution import identify, process_of
from streams.assess.verdict_groups import VerdictGroup, keep_version, sent_version, verdict_groups
from streams.assess.version import (
    connection_evidence,
    destination_evidence,
    outbid,
    unattributed_evidence,
    verdict_evidence,
)
from streams.correlate.correlator import Correlator
from streams.correlate.departed import was_emitted
from streams.correlate.matching import may_be_of_another
from streams.messages import Output
from streams.model.connection import FROM_ENDPOINT, FROM_FLOW, UNDECIDED, Connection, Destination, TupleConnections
from streams.model.counters import Count, entry_of
from streams.model.device import Device
from streams.rows.device_events import unattributed_row, verdict_row
from streams.rows.mode_rows import mode_row
from streams.rows.network_events import (
    METHODS,
    connection_row,
    destination_row,
    encode,
)


class Emitter:
    """Producer of rows from changed state: each row at most once per message, and only when its version has grown."""

    def __init__(self, correlator: Correlator) -> None:
        self.correlator = correlator
        self.policy, self._table = correlator.policy, correlator.table
        self.output = Output()
        correlator.on_leaving = self._emit_last

    def drain(self) -> Output:
        """Return the output since the last call, and clear it."""
        done, self.output = self.output, Output()
        return done

    def emit(self, device: Device, now: Micros | None = None) -> None:
        """Emit a device's changed rows and its due alerts; `now` (microseconds) replaces the time of the device's clock."""
        rows = self.output.network_events
        before = len(rows)
        for key in list(device.dirty):
            self._emit_tuple(device, key)
            connections = device.connections.get(key)
            if isinstance(connections, list) and _all_decided(connections):
                device.rest(key)
        device.state.counts.count(_ROWS, len(rows) - before)
        if device.unattributed_changed:
            self._emit_unattributed(device)
        for orphan in device.orphaned:
            withdraw(device, orphan)
        device.orphaned.clear()
        for span, status, version in device.mode_rows:
            self.output.modes.append(encode(mode_row(device.name, span, status, version)))
        device.mode_rows.clear()
        at = device.state.event_time if now is None else now
        if at >= device.held_due or device.evicted_alerts:
            self._publish(device, at, self.policy.alert_gap)

    def publish_all(self, device: Device) -> None:
        """Publish all waiting alerts of a device, as at the end of a recording."""
        self._publish(device, device.state.event_time, 0)

    def _publish(self, device: Device, now: Micros, gap: Micros) -> None:
        for state in due(device, now, gap):
            self.output.alerts.append((device.name.encode(), encode(self.policy.message(device, state))))

    def _emit_unattributed(self, device: Device) -> None:
        device.unattributed_changed = False
        for unattributed in device.state.unattributed:
            version = unattributed_evidence(device.state, unattributed).version()
            if version > unattributed.sent:
                unattributed.sent = version
                self.output.device_events.append(encode(unattributed_row(device, unattributed, version)))
                device.state.counts.count(_VERDICT_ROWS)

    def _emit_tuple(self, device: Device, key: str) -> None:
        if device.dirty.pop(key, 0) is None:
            connections = device.connections_of(key) or []
            for connection in connections:
                self._emit(device, key, connections, connection)

    def _emit_last(self, device: Device, key: str, connection: Connection) -> None:
        """Emit the rows of a connection that leaves the state; the others of its 5-tuple wait for the next `emit`."""
        if key in device.dirty:
            before = len(self.output.network_events)
            self._emit(device, key, device.connections_of(key) or [], connection)
            device.state.counts.count(_ROWS, len(self.output.network_events) - before)

    def _emit(self, device: Device, key: str, connections: TupleConnections, connection: Connection) -> None:
        if connection.held or not (
            connection.decided or connection.destinations or connection.verdicts or connection.hits
        ):
            return
        if device.processes or connection.run is not None:
            identify(device, key, connection)
        route = self._table.route(device, key, connection)
        name = ""
        if connection.late is None:
            live = connection.live
            if connection.decided or (live and connection.endpoint is not None):
                self._book(device, route, connection, live)
            if connection.identity != UNDECIDED or _identified(connections, connection, live):
                name = self._emit_connection(device, route, connection, live)
        named = connection.flow_id or connection.identity != UNDECIDED
        if named and route.proxied and connection.destinations:
            self._emit_destinations(device, route, connection, name)
        found = self._emit_verdicts(device, route, connection) if named and connection.verdicts else []
        self._alert(device, route, connection, found)

    def _emit_connection(self, device: Device, route: Route, connection: Connection, live: list[Destination]) -> str:
        """Emit the connection row if its version has grown; return the connection's identity, or "" if nothing was emitted."""
        if connection.identity == UNDECIDED:
            connection.identity = FROM_ENDPOINT if connection.endpoint is not None else FROM_FLOW
        version = connection_evidence(route, device.state, connection).version()
        if connection.moved:
            connection.moved = False
            version = outbid(connection, version)
        if version <= connection.sent:
            return ""
        connection.sent = version
        name = connection_id(route, connection)
        row = connection_row(route, device.state, connection, live, version, name, self._table.horizon)
        self.output.network_events.append(encode(row))
        return name

    def _emit_destinations(self, device: Device, route: Route, connection: Connection, name: str) -> None:
        """Emit the destination rows whose version has grown; `name` is the connection's identity, or "" to derive it."""
        for destination in connection.destinations:
            version = destination_evidence(device.state, connection, destination).version()
            if destination.moved:
                destination.moved = False
                version = outbid(destination, version)
            if version > destination.sent and not (
                connection.late is not None and was_emitted(connection.late, destination.host, destination.port)
            ):
                destination.sent = version
                name = name or connection_id(route, connection)
                row = destination_row(route, device.state, connection, destination, version, name)
                self.output.network_events.append(encode(row))

    def _emit_verdicts(self, device: Device, route: Route, connection: Connection) -> list[VerdictGroup]:
        found = verdict_groups(route, connection)
        for group in found:
            version = verdict_evidence(route, device.state, connection, group).version()
            if version > sent_version(connection, group):
                keep_version(connection, group, version)
                row = verdict_row(route, device.state, connection, group, version)
                self.output.device_events.append(encode(row))
                device.state.counts.count(_VERDICT_ROWS)
        return found

    def _alert(self, device: Device, route: Route, connection: Connection, groups: list[VerdictGroup]) -> None:
        found = findings(device, route, connection, groups)
        if found or connection.counted:
            fold(device, route, process_of(connection), connection.counted, found)
        if connection.decided and not connection.baseline_checked:
            listed = not route.proxied or self._table.is_listed(route)
            for finding in detect_proxy_bypass(device, route, connection, listed=listed):
                add(device, route, process_of(connection), finding)

    def _book(self, device: Device, route: Route, connection: Connection, live: list[Destination]) -> None:
        state, horizon = device.state, self._table.horizon
        if not route.proxied:
            blind = not is_refused(connection) and is_blind(state, connection, horizon)
            entry = _PROTECTION_OFF if blind else _DIRECT
        elif live:
            entry = _RESOLVED[live[0].by if len(live) == 1 else min(d.by for d in live)]
        else:
            entry = entry_of(_UNRESOLVED, unresolved_reason(state, connection, horizon))
        if entry != connection.booked:
            if connection.booked:
                state.counts.count(connection.booked, -1)
            connection.booked = entry
            state.counts.count(entry)


def _identified(connections: TupleConnections, connection: Connection, live: list[Destination]) -> bool:
    """Return whether a connection without an emitted row is known well enough for one.

    That is the case once it is decided or its endpoint record and a destination are known, unless it is the other half of
    another connection.
    """
    if connection.endpoint is not None:
        return connection.decided or bool(live)
    return connection.decided and not (len(connections) > 1 and may_be_of_another(connections, connection))


def _all_decided(connections: TupleConnections) -> bool:
    return connections[0].decided if len(connections) == 1 else all(connection.decided for connection in connections)


_UNRESOLVED = Count.UNRESOLVED  # Bound once: each access to an enum member by name costs a call.
_ROWS, _VERDICT_ROWS = entry_of(Count.ROWS), entry_of(Count.VERDICT_ROWS)
_DIRECT = entry_of(Count.RESOLVED, ResolvedBy.DIRECT)
_PROTECTION_OFF = entry_of(_UNRESOLVED, UnresolvedReason.PROTECTION_OFF)
_RESOLVED = {by: entry_of(Count.RESOLVED, method) for by, method in METHODS.items()}
