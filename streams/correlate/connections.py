"""Connection table, in which the handlers of events find the connection of each event by flow and time."""

from __future__ import annotations

from schemas.events import Flow, Micros
from streams.alerts.folding import reopen
from streams.assess.assessment import flow_name
from streams.correlate.decision import ConnectionDecisions
from streams.correlate.departed import departed_flow, forgotten_flow, is_departed
from streams.correlate.device_clock import LEAP, see_sensor
from streams.correlate.matching import endpoint_for_flow
from streams.correlate.routes import ends_of
from streams.correlate.sensor_merge import mark_of, may_have_twin, reported_by_another
from streams.model.connection import Connection, Departed, TupleConnections
from streams.model.counters import Count, entry_of
from streams.model.device import PROXIES_MAX, Device
from streams.model.evidence import APART, FlowEvidence, kind_of_flow


class ConnectionTable(ConnectionDecisions):
    """Table of connections. It finds the connection of each piece of evidence, and learns which remote ends are proxies."""

    def locate(
        self, device: Device, event: FlowEvidence, started: Micros, since: Micros = 0, until: Micros = 0
    ) -> tuple[str, Connection]:
        """Find or create the connection of a network sensor's event; return its 5-tuple, client first, and the connection.

        `started` is the flow's start; 0 if the event does not contain it. `since` and `until` are the beginning and the end of a
        flow summary; 0 for other events, for which the event's time is used instead. All are in microseconds.
        """
        state, flow, at = device.state, event.flow, event.at
        if at < state.sensor_first or not state.sensor_first:
            see_sensor(device, at)
        key, flow_id = flow.key, flow.id
        connections = device.connections_of(key)
        if connections is None:
            key, connections = self._turned(device, flow)
        for connection in connections or ():
            if connection.flow_id == flow_id and (flow_id or (connection.endpoint is None and connection.late is None)):
                break
        else:
            found = None if connections is None else _of_further_sensor(connections, flow_id, at)
            if found is None:
                found, is_late = self._of_new_flow(device, event, key, connections, started, since, until)
                if is_late:
                    return key, found
            connection = found
        at = min(at, state.event_time)  # A time ahead of the device's clock is not trusted.
        if not connection.first or (at < connection.first and not connection.decided):
            connection.first = at
        if connections is not None and len(connections) > 1 and not connection.decided and not connection.held:
            connection.held = not connection.rows_left and may_have_twin(connections, connection)
        return key, connection

    def _of_new_flow(
        self,
        device: Device,
        event: FlowEvidence,
        key: str,
        connections: TupleConnections | None,
        started: Micros,
        since: Micros,
        until: Micros,
    ) -> tuple[Connection, bool]:
        """Match a new flow to an endpoint record, or create its connection.

        Returns the connection, and whether it is late evidence of a departed one.
        """
        flow_id, kind, at = event.flow.id, kind_of_flow(event), event.at
        connection = None if connections is None else endpoint_for_flow(connections, at, started, kind)
        if connection is None:
            connection = self.new(device, key, connections, at, self.lateness)
            since, until = since or at, until or at
            gone = self._gone(device, key, connections or [], flow_id, kind, started, since, until)
            if gone is not None:
                connection.flow_id, connection.flow_kinds = flow_id, (kind,)
                connection.first = min(at, device.state.event_time)
                self.mark_late(device, connection, gone)
                return connection, True
        if connection.sent and flow_id and any(d.sent for d in connection.destinations):
            # Rows that were emitted before the flow id was known keep their identity.
            connection.row_name = flow_name(connection)
        if flow_id and connection.first:
            reported_by_another(connection)
        connection.flow_id, connection.flow_kinds = flow_id, (kind, *connection.flow_kinds[1:])
        connection.flow_started = connection.flow_started or started
        return connection, False

    def _turned(self, device: Device, flow: Flow) -> tuple[str, TupleConnections | None]:
        """Return the 5-tuple of a flow, client first, with its connections; None if it has none.

        If a connection of the reversed 5-tuple is known, or the flow's local end is a proxy, the sensor named the server first,
        and the 5-tuple is reversed.
        """
        turned = f"{flow.remote_ip} {flow.remote_port} {flow.local_ip} {flow.local_port}"
        other = device.connections_of(turned)
        sender = f"{flow.local_ip} {flow.local_port}"
        left = not is_departed(device, flow.key) and is_departed(device, turned) if device.departed else False
        if other is not None or left or sender in device.state.proxies or sender in self.proxies:
            return turned, other
        return flow.key, None

    def _gone(
        self,
        device: Device,
        key: str,
        connections: TupleConnections,
        flow_id: str,
        kind: str,
        started: Micros,
        since: Micros,
        until: Micros,
    ) -> Departed | None:
        """Return the departed connection that a new flow belongs to, or a stand-in if its tombstone was evicted; else None."""
        gone = departed_flow(device, key, flow_id, kind, started, since, until)
        if gone is None and device.state.forgotten_until:
            return forgotten_flow(device, connections, flow_id, kind, started or since, until, self.linger)
        return gone

    @staticmethod
    def is_new(device: Device, connection: Connection, event: FlowEvidence, evidence: int) -> bool:
        """Record a piece of evidence, given by its number `evidence`; return False for a repeat.

        A repeat changes nothing. In particular, it does not extend the connection's time in the state.
        """
        if connection.flow_ids and event.flow.id != connection.flow_id:
            evidence ^= mark_of(kind_of_flow(event))
        if not connection.is_new(evidence):
            return False
        connection.last = max(connection.last, device.state.event_time)
        return True

    def match_by_start(self, device: Device, key: str, connection: Connection, started: Micros) -> None:
        """Set the start of a flow, which just became known, and match the flow again."""
        connection.flow_started = started
        if not connection.held:
            self.join_late(device, key, connection, surely=not connection.decided)

    def after_names(self, device: Device, key: str, connection: Connection) -> None:
        """Update a connection after a request or a name was observed on it."""
        if connection.decided:
            self.promote(device, key, connection)
        self.changed(device, key)

    def http_seen(self, device: Device, at: Micros) -> None:
        """Record the time of an HTTP-level event if it is the device's earliest.

        A time more than `LEAP` before the device's clock is ignored.
        """
        state = device.state
        if (not state.http_first or at < state.http_first) and at >= state.event_time - LEAP:
            state.http_first = at

    def is_a_proxy(self, device: Device, key: str, connection: Connection) -> None:
        """Register the remote end as a proxy, because the proxy's own log contains this connection."""
        connection.asked = True
        self.learn(device, key, answered=False)

    def learn(self, device: Device, key: str, *, answered: bool) -> None:
        """Register the remote end of a 5-tuple as a proxy, because it received a request that only a proxy receives.

        `answered` means that it also answered as only a proxy does; its other ports may then be proxies too. The answer to an
        absolute-form request is no such proof, as origin servers accept this form (RFC 9112, section 3.2.2). At `PROXIES_MAX`
        the remote end is not registered, but counted as `proxies_not_learnt`.
        """
        _, _, remote_ip, _, remote = ends_of(key)
        proxies = device.state.proxies
        known = proxies.get(remote)
        if known is None and len(proxies) >= PROXIES_MAX:
            device.state.counts.count(entry_of(Count.PROXIES_NOT_LEARNT))
        elif known is None or (answered and not known):
            proxies[remote] = answered
            self.recheck(device, remote_ip)

    def mode_history_changed(self, device: Device) -> None:
        """Mark all rows and alerts of a device for re-evaluation, as its mode history changed."""
        self.recheck(device)
        device.unattributed_changed = True
        for key in device.alerts:
            reopen(device, key)


def _of_further_sensor(connections: TupleConnections, flow_id: str, at: Micros) -> Connection | None:
    """Return the connection to which a further sensor gave this flow id; None if there is none."""
    found = (c for c in connections if flow_id in c.flow_ids and (flow_id or _only_it(connections, c, at)))
    return next(found, None)


def _only_it(connections: TupleConnections, connection: Connection, at: Micros) -> bool:
    """Return whether evidence at `at`, of a sensor without flow ids, can only belong to this connection of the 5-tuple."""
    return len(connections) == 1 and (not connection.ended or at <= connection.ended + APART)
