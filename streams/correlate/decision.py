"""Decision of connections: when a connection counts as complete, and when it leaves the state.

A new connection waits for evidence. When its waiting time is over, it is decided: its evidence counts as complete. It then
stays in the state for late evidence ("rests") and finally leaves the state. `device_clock.py` fires the timers.
"""

from __future__ import annotations

from schemas.clock import MICROS
from schemas.events import Micros
from schemas.settings import CorrelationSettings
from streams.alerts.policy import Policy, note_hit
from streams.assess.process_attribution import unlist
from streams.correlate.departed import Tombstones, continue_departed, departed_flow
from streams.correlate.halves import retract_log_entries, supersede, take_endpoint
from streams.correlate.listener import Listener
from streams.correlate.matching import better_endpoint, endpoint_for_flow, is_refuted, only_endpoint_left
from streams.correlate.observed_names import take_observed_name
from streams.correlate.routes import Routes, ends_of
from streams.correlate.sensor_merge import absorb, twin
from streams.model.connection import (
    BY_PROCESS,
    BY_PROXY_LOG,
    BY_VERDICT,
    FROM_FLOW,
    TUPLE_CONNECTIONS_MAX,
    UNDECIDED,
    Connection,
    Departed,
    Destination,
    TupleConnections,
)
from streams.model.counters import Count, Entry, Left, entry_of
from streams.model.device import Device

REST_SECS = 16
"""The timers of decided connections fire only at multiples of this number of seconds, so that many share one."""
_CONNECTIONS = entry_of(Count.CONNECTIONS)
_ENDED, _TOO_MANY = entry_of(Count.LEFT, Left.ENDED), entry_of(Count.LEFT, Left.TOO_MANY)
IDLE = entry_of(Count.LEFT, Left.IDLE)


def _rest_until(until: Micros) -> int:
    """Return the second at which the timer of a decided connection fires, for a time in microseconds.

    The second is rounded up to a multiple of `REST_SECS`.
    """
    return -(-until // (REST_SECS * MICROS)) * REST_SECS


class ConnectionDecisions(Routes):
    """The part of the connection table that creates connections, decides them, and removes them from the state."""

    def __init__(self, settings: CorrelationSettings, policy: Policy, listener: Listener) -> None:
        super().__init__(settings)
        self.policy = policy
        self._listener = listener
        self.lateness = int(settings.lateness_secs * MICROS)
        self.patience = int(settings.patience_secs * MICROS)
        self.linger = int(settings.linger_secs * MICROS)
        self.idle = int(settings.idle_secs * MICROS)
        self.horizon = self.patience - self.lateness
        """Microseconds after a connection's start. Later evidence may still be missing when the connection is decided, so it does
        not count for conclusions that must not depend on the order of arrival."""
        self.tombstones = Tombstones(settings)
        self.connections_max = settings.connections_max

    def wake(self, device: Device, key: str, second: int, *, quiet: bool) -> bool:
        """Process the due connections of a 5-tuple; return whether the stored state of one changed."""
        connections = device.connections_of(key)
        assert connections, "a 5-tuple in the state has connections"
        now = second * MICROS
        changed = False
        for connection in list(connections):
            if connection.due > second or connection not in connections:
                continue
            if not connection.decided:
                waits_until = connection.first + self.patience
                waits = not connection.live or device.state.endpoint_seen
                changed = True
                if connection.endpoint is None and waits and now < waits_until:
                    self.wake_at(device, key, connection, -(-waits_until // MICROS))
                    continue
                self._decide(device, key, connection)
                if connection not in connections:
                    continue  # It was merged into another connection.
            ended = connection.ended
            since = max(connection.last, min(ended, connection.last + self.idle))
            rests_until = since + (self._linger(device, connection) if ended else self.idle)
            if now < rests_until:
                self.wake_at(device, key, connection, _rest_until(rests_until))
                changed = True
            elif quiet and now < since + self.idle:
                device.parked[key] = None
            else:
                self.leave(device, key, connection, _ENDED if ended else IDLE)
                changed = True
        if key in device.connections and key not in device.dirty:
            device.rest(key)
        if changed:
            device.touched[key] = None
        return changed

    def finish(self, device: Device) -> None:
        """Decide all waiting connections and fix the identity of all connections, as at the end of a recording."""
        for key in list(device.connections):
            for connection in list(device.connections_of(key) or ()):
                if not connection.decided:
                    self._decide(device, key, connection)
            for connection in device.connections_of(key) or ():
                self._identify_by_flow(device, key, connection)

    def _identify_by_flow(self, device: Device, key: str, connection: Connection) -> None:
        """Fix the flow as the source of a connection's identity, if no endpoint record was matched, so that its row is emitted.

        Called when no endpoint record is expected any more.
        """
        if connection.endpoint is None and connection.identity == UNDECIDED:
            connection.identity = FROM_FLOW
            self.changed(device, key)

    def new(
        self, device: Device, key: str, connections: TupleConnections | None, at: Micros, wait: Micros
    ) -> Connection:
        """Create a connection of a 5-tuple with evidence at time `at`; its timer fires `wait` microseconds later.

        `connections` are those of the 5-tuple so far; None if there are none. At `TUPLE_CONNECTIONS_MAX` the oldest connection
        of the 5-tuple leaves the state; at `connections_max`, the oldest connection of the device's first 5-tuple.
        """
        if connections is not None and len(connections) >= TUPLE_CONNECTIONS_MAX:
            self._evict_oldest(device, key)
            connections = device.connections_of(key)
        if device.size >= self.connections_max:
            self._evict_oldest(device, next(iter(device.connections)))
            connections = device.connections_of(key)
        connection = Connection()
        if connections is None:
            connection.number = device.state.tuples_seen
            device.state.tuples_seen += 1
            device.connections[key] = [connection]
        else:
            connection.number = connections[0].number
            connections.append(connection)
        device.size += 1
        # The timer fires at most `patience` after the device's clock, as a start far ahead of the clock is not trusted.
        connection.due = -(-min(at + wait, device.state.event_time + self.patience) // MICROS)
        device.wake_at(connection.due, key)
        device.state.counts.count(_CONNECTIONS)
        if not self.policy.indicators.empty:
            self._compare_address(device, key, connection, min(at, device.state.event_time))
        return connection

    def mark_late(self, device: Device, connection: Connection, left: Departed) -> None:
        """Mark a connection as late evidence of a departed one: it gets that identity and has no connection row."""
        continue_departed(connection, left)
        device.state.counts.count(_CONNECTIONS, -1)
        if connection.booked:
            device.state.counts.count(connection.booked, -1)
            connection.booked = Entry("")
        device.state.counts.count(entry_of(Count.LATE))

    def _compare_address(self, device: Device, key: str, connection: Connection, at: Micros) -> None:
        """Match indicators against a connection's remote address, and record the hits.

        These hits have an empty host: they count only if no name is observed on the connection.
        """
        _, _, ip, port, _ = ends_of(key)
        matches = self.policy.match(device, "", port, "", ip, at, encrypted=False)
        if matches:
            note_hit(connection.hits, matches, "", port, at, "")

    def swap(self, device: Device, key: str, one: Connection, other: Connection) -> None:
        """Correct a wrong match: exchange the endpoint records of two connections or, with the same effect, their flows.

        The endpoint records are exchanged if the identity of one of the two is derived from its flow, else the flows.
        """
        if FROM_FLOW in (one.identity, other.identity):
            one.swap_endpoint(other)
        else:
            one.swap_flow(other)
        for connection in (one, other):
            self.ended(device, key, connection)
        self.changed(device, key)

    def join_late(self, device: Device, key: str, connection: Connection, *, surely: bool = False) -> None:
        """Match a flow again that has no endpoint record or may have the wrong one.

        Rules 1, 3 and 4 of `streams.correlate.matching` apply. With `surely`, a flow without a record is matched only if the
        starts are known and at most `SAME_START` apart.
        """
        connections = device.connections_of(key)
        if not connections or (len(connections) < 2 and not is_refuted(connection)):
            return
        if connection.endpoint is not None:
            better = better_endpoint(connections, connection)
            if better is not None:
                self.swap(device, key, connection, better)
            elif is_refuted(connection):
                self.swap(device, key, connection, self.new(device, key, connections, connection.first, self.patience))
            return
        if surely:
            started, kind = connection.flow_started, connection.flow_kind
            other = endpoint_for_flow(connections, connection.first, started, kind) if started else None
        else:
            other = only_endpoint_left(connections, connection)
        if other is None or (other.sent and connection.sent):
            return
        device.orphaned += take_endpoint(connection, other)
        device.let_sleep(other, key)
        connections.remove(other)
        device.size -= 1
        if other.late is None:
            device.state.counts.count(_CONNECTIONS, -1)
        elif connection.late is None:
            self.mark_late(device, connection, other.late)
        if other.booked:
            device.state.counts.count(other.booked, -1)
        self.changed(device, key)

    def _decide(self, device: Device, key: str, connection: Connection) -> None:
        connection.decided = True
        if connection.first and connection.late is None and self._was_a_view(device, key, connection):
            return
        connections = device.connections_of(key)
        assert connections, "a 5-tuple in the state has connections"
        for flow in list(connections):
            if flow is connection or (connection.endpoint is not None and flow.endpoint is None and not flow.held):
                self.join_late(device, key, flow)
        if device.departed and connection.endpoint is None and connection.flow_started and not connection.sent:
            self._recognise(device, key, connection)
        for left in connections:
            if left.decided:
                self.promote(device, key, left)
        self.changed(device, key)

    def _recognise(self, device: Device, key: str, flow: Connection) -> None:
        """Mark a flow as late if its start fits a departed connection. The start may become known after the first evidence."""
        since, until = flow.flow_started, flow.flow_ended
        left = None
        if flow.late is None:
            left = departed_flow(device, key, flow.flow_id, flow.flow_kind, since, since, until)
        if left is not None:
            self.mark_late(device, flow, left)

    def _was_a_view(self, device: Device, key: str, view: Connection) -> bool:
        """Release a held flow; merge it if it is another sensor's view of a known connection. Return whether it was merged."""
        connections = device.connections_of(key)
        assert connections, "a 5-tuple in the state has connections"
        view.held = False
        connection = twin(connections, view) if len(connections) > 1 and not view.rows_left else None
        if connection is None:
            return False
        absorb(connection, view)
        device.orphaned += view.counted.values()
        device.let_sleep(view, key)
        connections.remove(view)
        device.size -= 1
        device.state.counts.count(_CONNECTIONS, -1)
        self.ended(device, key, connection)
        if connection.decided:
            self.join_late(device, key, connection)
            self.promote(device, key, connection)
        self.changed(device, key)
        return True

    def promote(self, device: Device, key: str, connection: Connection) -> None:
        """Take an observed name as the destination if no better evidence names one; supersede weaker destinations if it does."""
        best = min((d.by for d in connection.destinations), default=0)
        if best and best <= BY_VERDICT:
            for weak in connection.destinations:
                # A plain-text connection carries many requests: the ones that the sensor saw do not contradict the proxy's log.
                one_of_many = weak.by == BY_PROXY_LOG and not weak.tunnel and not connection.connect
                if weak.by > BY_VERDICT and not one_of_many:
                    self._supersede_weak(device, key, connection, weak)
            return
        if not connection.names or any(d.by < BY_PROXY_LOG for d in connection.destinations):
            return
        if not take_observed_name(connection, self.route(device, key, connection)):
            return
        for weak in connection.destinations:
            if weak.by == BY_PROCESS or (weak.by == BY_PROXY_LOG and weak.tunnel):
                self._supersede_weak(device, key, connection, weak)

    def _supersede_weak(self, device: Device, key: str, connection: Connection, weak: Destination) -> None:
        supersede(weak)
        if weak.by == BY_PROCESS and connection.guesses:
            named = {d.host for d in connection.live} | {observed.name for observed in connection.names}
            if weak.host not in named:
                self._listener.guess_refuted(device, key, connection, weak.host)

    def recheck(self, device: Device, remote_ip: str = "") -> None:
        """Re-evaluate the rows of all connections of a device, or of those to `remote_ip`, after the device state changed.

        Such changes are rare, so a walk over all connections is cheap enough.
        """
        for key in list(device.connections):
            if not remote_ip:
                self.changed(device, key)
            elif ends_of(key)[2] == remote_ip:
                for connection in device.connections_of(key) or ():
                    if connection.decided:
                        self.promote(device, key, connection)
                self.changed(device, key)

    def ended(self, device: Device, key: str, connection: Connection) -> None:
        """Update a connection after its evidence changed: its end may be known now.

        Destinations that only unfitting access-log entries name are superseded. A decided connection with a known end leaves
        after `linger` instead of `idle`.
        """
        if connection.log_entries:
            retract_log_entries(connection)
        if connection.decided and (ended := connection.ended):
            due = _rest_until(max(connection.last, ended) + self.linger)
            if due < connection.due:
                self.wake_at(device, key, connection, due)

    def wake_at(self, device: Device, key: str, connection: Connection, second: int) -> None:
        """Set the timer of a connection to this second, and cancel its earlier one."""
        device.let_sleep(connection, key)
        connection.due = second
        device.wake_at(second, key)

    def _linger(self, device: Device, connection: Connection) -> Micros:
        """Return for how many microseconds an ended connection stays in the state.

        It stays longer while its flow summary is missing, if its sensor is known to write flow summaries.
        """
        kind = connection.flow_kind
        if not connection.flow_id or connection.summarised or kind not in device.state.summary_kinds:
            return self.linger
        return self.linger + self.tombstones.kept

    def _evict_oldest(self, device: Device, key: str) -> None:
        connections = device.connections_of(key)
        assert connections, "a 5-tuple in the state has connections"
        oldest = connections[0]
        if not oldest.decided:
            self._decide(device, key, oldest)
        if oldest in connections:
            self.leave(device, key, oldest, _TOO_MANY)

    def leave(self, device: Device, key: str, connection: Connection, why: Entry) -> None:
        """Remove a connection from the state after its last rows; `why` is the entry under which this is counted."""
        self._identify_by_flow(device, key, connection)
        self._listener.before_leaving(device, key, connection)
        device.let_sleep(connection, key)
        connections = device.connections_of(key)
        assert connections is not None, "a connection that leaves is there"
        connections.remove(connection)
        device.size -= 1
        device.touched[key] = None
        device.state.counts.count(why)
        if device.by_pid is not None:
            unlist(device, key, connection, connections)
        if forgotten := self.tombstones.add(device, key, connection):
            device.state.counts.count(entry_of(Count.DEPARTED_FORGOTTEN), forgotten)
        if not connections:
            del device.connections[key]
            device.parked.pop(key, None)

    def changed(self, device: Device, key: str) -> None:
        """Mark a 5-tuple whose rows may have changed, so that they are emitted again."""
        device.dirty[key] = None
        device.touched[key] = None
