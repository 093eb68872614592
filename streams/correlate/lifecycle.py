"""Connection lifecycle: the device's clock, its timers, and re-evaluation when a fact changes.

Connections are decided, rest and leave the state here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from schemas.clock import MICROS
from schemas.events import Micros
from schemas.sections.base import proxy_address
from schemas.settings import CorrelationSettings
from streams.alerts.policy import Policy, note_hit
from streams.assess.access_log import lines_of
from streams.assess.assessment import Route, flow_name, speaks_tls_to_proxy
from streams.assess.process_attribution import unlist
from streams.correlate.departed import Tombstones, departed_flow
from streams.correlate.matching import better_kernel, is_refuted, kernel_for_flow, only_kernel_left
from streams.correlate.sensor_merge import absorb, twin
from streams.model.connection import (
    ASKED,
    BY_HOST,
    BY_JUDGED_NAME,
    BY_PROCESS,
    BY_PROXY_LOG,
    BY_SNI,
    BY_VERDICT,
    FROM_FLOW,
    FROM_KERNEL,
    GROUP_MAX,
    REACHED,
    UNDECIDED,
    Connection,
    Departed,
    Destination,
    Group,
)
from streams.model.device import DEPARTED_TIMER, NEVER, PROXY_TIMER, VERDICT_TIMER, Device
from streams.model.evidence import add_destination

LEAP: Micros = 3_600 * MICROS
"""Microseconds. The device's clock follows a larger jump only after a second event that agrees."""
REST_SECS = 16


@lru_cache(maxsize=16_384)
def ends_of(key: str) -> tuple[str, int, str, int, str]:
    """Split a 5-tuple key into its four parts; the fifth item is the remote end as settings and facts spell it."""
    local_ip, local_port, remote_ip, remote_port = key.split(" ")
    return local_ip, int(local_port), remote_ip, int(remote_port), f"{remote_ip} {remote_port}"


def _rest_until(until: Micros) -> int:
    """Return the second at which a decided connection is checked again, for a time in microseconds.

    The second is rounded up to a multiple of `REST_SECS`, so that many connections share one timer.
    """
    return -(-until // (REST_SECS * MICROS)) * REST_SECS


def supersede(weak: Destination) -> None:
    """Mark a destination as superseded: a better name arrived, or the evidence that named it no longer fits."""
    if not weak.superseded:
        weak.superseded = True
        weak.evidence += 1


def _retract_logged(connection: Connection) -> None:
    """Supersede destinations that only a proxy's log named if no access-log entry fits the connection any more."""
    for destination in connection.destinations if connection.logged else ():
        if destination.by == BY_PROXY_LOG and not lines_of(connection, destination):
            supersede(destination)


class Listener(Protocol):
    """Callbacks of the connection lifecycle, which the correlator implements."""

    def process_verdicts_due(self, device: Device, second: int) -> None:
        """Decide process verdicts that are due by that second of the device's clock."""

    def proxy_log_due(self, device: Device, second: int) -> None:
        """Join access-log entries that are due by that second of the device's clock."""

    def guess_refuted(self, device: Device, key: str, connection: Connection, host: str) -> None:
        """Retract verdicts that were joined for `host`, as the connection is known to have asked for another host."""

    def before_leaving(self, device: Device, key: str, connection: Connection) -> None:
        """Emit the last rows of a connection that is about to leave the state."""


class ConnectionLifecycle:
    """Lifecycle of devices' connections: decided, resting, gone."""

    def __init__(self, settings: CorrelationSettings, policy: Policy, listener: Listener) -> None:
        self.policy = policy
        self._listener = listener
        self.lateness = int(settings.lateness_secs * MICROS)
        self.patience = int(settings.patience_secs * MICROS)
        self.linger = int(settings.linger_secs * MICROS)
        self.idle = int(settings.idle_secs * MICROS)
        self.horizon = self.patience - self.lateness
        """Microseconds. Evidence that is later than this after a connection's start may still be missing when the
        connection is decided, so it does not count."""
        self.tombstones = Tombstones(settings)
        self.connections_max = settings.connections_max
        self.proxies: dict[str, str] = {}
        for entry in settings.proxies:
            ip, port, name = proxy_address(entry)
            self.proxies[f"{ip} {port}"] = name
        self.denied = {f"{ip} {port}" for ip, port, _ in map(proxy_address, settings.not_proxies)}

    def see_time(self, device: Device, at: Micros, until: Micros = 0, *, logged: Micros = 0) -> None:
        """Move the device's clock to an event's time; `until` is when the activity in the event ended.

        A jump of more than `LEAP`, ahead or behind, requires a second event that agrees. So a single wrong timestamp
        moves nothing, and a corrected clock is followed. A record of a long activity that ended just now does not set
        the clock back.

        `logged` is the log's time. It is given for an event that the device itself did not report (a proxy, a network
        tap, another device). Such a timestamp moves the clock neither past the log's time nor back.
        """
        facts = device.facts
        if logged and (at := min(at, logged)) <= facts.now:
            return
        if at < facts.now - LEAP <= until:
            return
        if facts.now and abs(at - facts.now) > LEAP:
            if not facts.leap or abs(at - facts.leap) > LEAP:
                facts.leap = at
                return
            facts.now = at
        elif at > facts.now:
            facts.now = at
        facts.leap = 0
        if facts.now // MICROS >= device.next_due:
            self._fire(device, facts.now // MICROS)

    @staticmethod
    def see_sensor(device: Device, at: Micros) -> None:
        """Note the earliest time at which a network sensor reported on the device."""
        facts = device.facts
        if (not facts.sensor_first or at < facts.sensor_first) and at >= facts.now - LEAP:
            facts.sensor_first = at

    def be_quiet(self, device: Device, passed: Micros) -> bool:
        """Decide what waits on a device that has sent nothing for `passed` microseconds of the log's time.

        Only idle connections leave: the device may have been cut off and may report the rest once it is back. The
        device's clock does not move; it resumes from its last time. Returns False if the stored state is unchanged:
        parking an ended connection changes nothing that is stored.
        """
        second = (device.facts.now + passed) // MICROS
        changed = second >= device.next_due and self._fire(device, second, quiet=True)
        if device.parked and passed >= self.idle:
            changed = True
            for key in list(device.parked):
                for connection in list(device.group(key) or ()):
                    if connection.settled:
                        self._leave(device, key, connection, "left:idle")
            device.parked.clear()
            self.tombstones.expire(device, NEVER)
        return changed

    def resume(self, device: Device) -> None:
        """Set the timers of a device that is back: its parked connections and tombstones leave when they are due."""
        for key in device.parked:
            for connection in device.group(key) or ():
                device.wake_at(connection.due, key)
        if DEPARTED_TIMER in device.parked:
            for second in device.departed:
                device.wake_at(second, DEPARTED_TIMER)
        device.parked.clear()

    def finish(self, device: Device) -> None:
        """Decide everything that waits, as at the end of a recording."""
        for key in list(device.groups):
            for connection in list(device.group(key) or ()):
                if not connection.settled:
                    self._settle(device, key, connection)
            for connection in device.group(key) or ():
                self._decide(device, key, connection)

    def _decide(self, device: Device, key: str, connection: Connection) -> None:
        """Identify a connection by its flow if no endpoint record was matched; its row is emitted under the flow's name.

        No further evidence is expected to provide an endpoint record.
        """
        if connection.kernel is None and connection.identity == UNDECIDED:
            connection.identity = FROM_FLOW
            self.changed(device, key)

    def place(self, device: Device, key: str, connection: Connection) -> Route:
        """Return where a connection goes and whether it goes through a named or learnt proxy."""
        local_ip, local_port, remote_ip, remote_port, remote = ends_of(key)
        name = self.proxies.get(remote)
        proxies = device.facts.proxies
        learnt = name is None and (
            remote in proxies
            or (bool(proxies) and self._speaks_as_proxy(device, remote_ip) and speaks_tls_to_proxy(connection))
        )
        proxied = (connection.asked or name is not None or learnt) and remote not in self.denied
        return Route(device.name, key, local_ip, local_port, remote_ip, remote_port, proxied, name or "", learnt)

    def is_listed(self, place: Route) -> bool:
        """Return whether the settings name the remote end as a proxy."""
        return f"{place.remote_ip} {place.remote_port}" in self.proxies

    def new(self, device: Device, key: str, group: Group | None, at: Micros, wait: Micros) -> Connection:
        """Create a connection of a 5-tuple, first reported for time `at`, whose timer fires `wait` microseconds later.

        At `GROUP_MAX` the oldest connection of the 5-tuple leaves, at `connections_max` the oldest one of the device.
        """
        if group is not None and len(group) >= GROUP_MAX:
            self._let_oldest_go(device, key)
            group = device.group(key)
        if device.size >= self.connections_max:
            self._let_oldest_go(device, next(iter(device.groups)))
            group = device.group(key)
        connection = Connection()
        if group is None:
            connection.number = device.facts.groups_seen
            device.facts.groups_seen += 1
            device.groups[key] = [connection]
        else:
            connection.number = group[0].number
            group.append(connection)
        device.size += 1
        # Cap the wait by the device's clock, as a start far ahead is not trusted.
        connection.due = -(-min(at + wait, device.facts.now + self.patience) // MICROS)
        device.wake_at(connection.due, key)
        self.count(device, "connections")
        if not self.policy.indicators.empty:
            self._compare_address(device, key, connection, min(at, device.facts.now))
        return connection

    def mark_late(self, device: Device, connection: Connection, left: Departed) -> None:
        """Mark a connection as late evidence of a departed one: it has that one's identity and no row of its own."""
        connection.row_name = flow_name(connection) if connection.rows_left else left.row_name
        connection.late, connection.looked_at = left, True
        connection.identity = FROM_FLOW if left.from_flow else FROM_KERNEL
        connection.kernel_name = left.kernel_name or (left.kernels[0][1] if left.kernels else 0)
        if left.flow_ids:
            known = dict(zip((connection.flow_id, *connection.flow_ids), connection.flow_kinds, strict=False))
            known |= dict(zip(left.flow_ids, left.flow_kinds, strict=True))
            connection.flow_id = left.flow_ids[0]
            others = sorted(known.keys() - {connection.flow_id, ""})
            connection.flow_ids = tuple(others)
            connection.flow_kinds = tuple([known[flow_id] for flow_id in (connection.flow_id, *others)])
        connection.flow_started, connection.flow_ended = left.started, max(connection.flow_ended, left.ended)
        connection.hits.clear()
        self.count(device, "connections", -1)
        if connection.booked:
            self.count(device, connection.booked, -1)
            connection.booked = ""
        self.count(device, "late")

    def _compare_address(self, device: Device, key: str, connection: Connection, at: Micros) -> None:
        """Match indicators against a connection's remote address, and note the hits.

        The host of a hit stays empty, as an observed name outweighs the address.
        """
        _, _, ip, port, _ = ends_of(key)
        matches = self.policy.match(device, "", port, "", ip, at, encrypted=False)
        if matches:
            note_hit(connection.hits, matches, "", port, at, "")

    def swap(self, device: Device, key: str, one: Connection, other: Connection) -> None:
        """Exchange the endpoint records or the flows of two connections that were matched the wrong way round.

        Exchanges the endpoint records if one of the two is identified by its flow, else the flows.
        """
        if FROM_FLOW in (one.identity, other.identity):
            one.swap_kernel(other)
        else:
            one.swap_flow(other)
        for connection in (one, other):
            _retract_logged(connection)
            self.ended(device, key, connection)
        self.changed(device, key)

    def join_late(self, device: Device, key: str, connection: Connection, *, surely: bool = False) -> None:
        """Match a flow again that has no endpoint record or may have the wrong one.

        Applies rules 1, 3 and 4 of `streams.correlate.matching`. With `surely`, a flow without a record is matched only
        by a known start within `SAME_START`.
        """
        group = device.group(key)
        if not group or (len(group) < 2 and not is_refuted(connection)):
            return
        if connection.kernel is not None:
            better = better_kernel(group, connection)
            if better is not None:
                self.swap(device, key, connection, better)
            elif is_refuted(connection):
                self.swap(device, key, connection, self.new(device, key, group, connection.first, self.patience))
            return
        if surely:
            started, kind = connection.flow_started, connection.flow_kind
            other = kernel_for_flow(group, connection.first, started, kind) if started else None
        else:
            other = only_kernel_left(group, connection)
        if other is None or (other.sent and connection.sent):
            return
        connection.kernel, connection.sensor_records = other.kernel, other.sensor_records
        connection.kernel_name, connection.guesses = other.kernel_name, other.guesses
        self._take_logged(connection, other)
        if other.sent:
            connection.sent, connection.identity = other.sent, other.identity
            connection.bump, connection.moved = other.bump, True
        connection.settled |= other.settled
        connection.last = max(connection.last, other.last)
        device.let_sleep(other, key)
        group.remove(other)
        device.size -= 1
        if other.late is None:
            self.count(device, "connections", -1)
        elif connection.late is None:
            self.mark_late(device, connection, other.late)
        if other.booked:
            self.count(device, other.booked, -1)
        connection.looked_at |= other.looked_at
        for name, counted in other.counted.items():
            if name in connection.counted:
                device.orphaned.append(counted)
            else:
                connection.counted[name] = counted
        self.changed(device, key)

    @staticmethod
    def _take_logged(connection: Connection, other: Connection) -> None:
        """Move access-log entries and the destinations that they named from an endpoint record to its flow.

        Emitted rows keep their name. Must run before the flow takes over `sent`: the name depends on whether the flow
        itself already had rows.
        """
        connection.logged += tuple(line for line in other.logged if line not in connection.logged)
        if not connection.rows_left and any(d.sent for d in other.destinations):
            connection.row_name = flow_name(other)
        for destination in other.destinations:
            for known in connection.destinations:
                if (known.host, known.port) == (destination.host, destination.port):
                    known.sent = max(known.sent, destination.sent)
                    break
            else:
                connection.destinations.append(destination)

    def _settle(self, device: Device, key: str, connection: Connection) -> None:
        connection.settled = True
        if connection.first and connection.late is None and self._was_a_view(device, key, connection):
            return
        for flow in list(device.group(key) or ()):
            if flow is connection or (connection.kernel is not None and flow.kernel is None and not flow.held):
                self.join_late(device, key, flow)
        if device.departed and connection.kernel is None and connection.flow_started and not connection.sent:
            self._recognise(device, key, connection)
        for left in device.group(key) or ():
            if left.settled:
                self.promote(device, key, left)
        self.changed(device, key)

    def _recognise(self, device: Device, key: str, flow: Connection) -> None:
        """Mark a flow late if its start, known only after its first evidence, fits a departed connection."""
        since, until = flow.flow_started, flow.flow_ended
        left = None
        if flow.late is None:
            left = departed_flow(device, key, flow.flow_id, flow.flow_kind, since, since, until)
        if left is not None:
            self.mark_late(device, flow, left)

    def _was_a_view(self, device: Device, key: str, view: Connection) -> bool:
        """Merge a held flow into the connection that it is another sensor's view of; return whether there is one."""
        group = device.group(key)
        assert group, "a group is never empty"
        view.held = False
        connection = twin(group, view) if len(group) > 1 and not view.rows_left else None
        if connection is None:
            return False
        absorb(connection, view)
        device.orphaned += view.counted.values()
        device.let_sleep(view, key)
        group.remove(view)
        device.size -= 1
        self.count(device, "connections", -1)
        self.ended(device, key, connection)
        if connection.settled:
            self.join_late(device, key, connection)
            self.promote(device, key, connection)
        self.changed(device, key)
        return True

    def promote(self, device: Device, key: str, connection: Connection) -> None:
        """Take a weaker name as the destination if no better one arrived; supersede it if a better one did."""
        best = min((d.by for d in connection.destinations), default=0)
        if best and best <= BY_VERDICT:
            for weak in connection.destinations:
                # A plain-text request is one of many: others that the sensor saw do not contradict the proxy's log.
                one_of_many = weak.by == BY_PROXY_LOG and not weak.tunnel and not connection.connect
                if weak.by > BY_VERDICT and not one_of_many:
                    self._supersede_weak(device, key, connection, weak)
            return
        if not connection.inner or any(d.by < BY_PROXY_LOG for d in connection.destinations):
            return
        place = self.place(device, key, connection)
        if not place.proxied or speaks_tls_to_proxy(connection):
            return
        spoken = min(connection.inner, key=lambda i: (not i.tls, i.at, i.name))
        if not spoken.tls and (connection.connect or spoken.name in (place.remote_ip, place.proxy_name)):
            return
        by = BY_JUDGED_NAME if spoken.judged else BY_SNI if spoken.tls else BY_HOST
        port, flags = (443, REACHED) if spoken.tls else (80, ASKED)
        target = f"{spoken.name}:{port}"
        add_destination(
            connection, by, spoken.name, port, target, flags, (spoken.at, spoken.event_id), None, tunnel=spoken.tls
        )
        for weak in connection.destinations:
            if weak.by == BY_PROCESS or (weak.by == BY_PROXY_LOG and weak.tunnel):
                self._supersede_weak(device, key, connection, weak)

    def _supersede_weak(self, device: Device, key: str, connection: Connection, weak: Destination) -> None:
        supersede(weak)
        if weak.by == BY_PROCESS and connection.guesses:
            named = {d.host for d in connection.live} | {inner.name for inner in connection.inner}
            if weak.host not in named:
                self._listener.guess_refuted(device, key, connection, weak.host)

    def _speaks_as_proxy(self, device: Device, ip: str) -> bool:
        return any(answered and remote.startswith(f"{ip} ") for remote, answered in device.facts.proxies.items())

    def recheck(self, device: Device, remote_ip: str = "") -> None:
        """Re-evaluate the rows of a device's connections, or of those to one address, after a fact changed.

        This is rare, so a walk over all connections is cheap enough.
        """
        for key in list(device.groups):
            if not remote_ip:
                self.changed(device, key)
            elif ends_of(key)[2] == remote_ip:
                for connection in device.group(key) or ():
                    if connection.settled:
                        self.promote(device, key, connection)
                self.changed(device, key)

    def ended(self, device: Device, key: str, connection: Connection) -> None:
        """Retract access-log entries that no longer fit, and shorten the timer once the end is known.

        Entries later than the end are not about the connection. An ended connection rests for the linger instead of the
        idle time.
        """
        _retract_logged(connection)
        due = _rest_until(max(connection.last, connection.ended) + self.linger)
        if connection.settled and connection.ended and due < connection.due:
            self.wake_at(device, key, connection, due)

    def wake_at(self, device: Device, key: str, connection: Connection, second: int) -> None:
        """Set the timer of a connection to this second, and cancel its earlier one."""
        device.let_sleep(connection, key)
        connection.due = second
        device.wake_at(second, key)

    def _fire(self, device: Device, second: int, *, quiet: bool = False) -> bool:
        """Process everything that is due by a second; return whether any of it changed."""
        changed = False
        while (due := device.due_until(second)) is not None:
            for key in due[1]:
                if key in device.groups and self._wake(device, key, due[0], quiet=quiet):
                    changed = True
            # These handlers read all connections, so they run after the connections that are due in the same second.
            if VERDICT_TIMER in due[1]:
                self._listener.process_verdicts_due(device, due[0])
                changed = True
            if PROXY_TIMER in due[1]:
                self._listener.proxy_log_due(device, due[0])
                changed = True
            if DEPARTED_TIMER in due[1]:
                if quiet:
                    device.parked[DEPARTED_TIMER] = None
                else:
                    self.tombstones.expire(device, due[0])
                    changed = True
        return changed

    def _wake(self, device: Device, key: str, second: int, *, quiet: bool) -> bool:
        """Process the due connections of a 5-tuple; return whether any of them changed. Parking does not count."""
        group = device.group(key)
        assert group, "a group is never empty"
        now = second * MICROS
        changed = False
        for connection in list(group):
            if connection.due > second or connection not in group:
                continue
            if not connection.settled:
                waits_until = connection.first + self.patience
                waits = not connection.live or device.facts.kernel_seen
                changed = True
                if connection.kernel is None and waits and now < waits_until:
                    self.wake_at(device, key, connection, -(-waits_until // MICROS))
                    continue
                self._settle(device, key, connection)
                if connection not in group:
                    continue  # It was merged into another connection.
            since = max(connection.last, min(connection.ended, connection.last + self.idle))
            rests_until = since + (self._linger(device, connection) if connection.ended else self.idle)
            if now < rests_until:
                self.wake_at(device, key, connection, _rest_until(rests_until))
                changed = True
            elif quiet and now < since + self.idle:
                device.parked[key] = None
            else:
                self._leave(device, key, connection, "left:ended" if connection.ended else "left:idle")
                changed = True
        if key in device.groups and key not in device.dirty:
            device.rest(key)
        if changed:
            device.touched[key] = None
        return changed

    def _linger(self, device: Device, connection: Connection) -> Micros:
        """Return how many microseconds an ended connection rests.

        It rests longer while its flow summary is missing and the sensor is known to write such summaries.
        """
        kind = connection.flow_kind
        if not connection.flow_id or connection.summarised or kind not in device.facts.summary_kinds:
            return self.linger
        return self.linger + self.tombstones.kept

    def _let_oldest_go(self, device: Device, key: str) -> None:
        group = device.group(key)
        assert group, "a group is never empty"
        oldest = group[0]
        if not oldest.settled:
            self._settle(device, key, oldest)
        if oldest in group:
            self._leave(device, key, oldest, "left:too_many")

    def _leave(self, device: Device, key: str, connection: Connection, why: str) -> None:
        self._decide(device, key, connection)
        self._listener.before_leaving(device, key, connection)
        device.let_sleep(connection, key)
        group = device.group(key)
        assert group is not None, "a connection that leaves is there"
        group.remove(connection)
        device.size -= 1
        device.touched[key] = None
        self.count(device, why)
        if device.by_pid is not None:
            unlist(device, key, connection, group)
        if forgotten := self.tombstones.add(device, key, connection):
            self.count(device, "departed_forgotten", forgotten)
        if not group:
            del device.groups[key]
            device.parked.pop(key, None)

    def changed(self, device: Device, key: str) -> None:
        """Mark a 5-tuple whose rows may have changed."""
        device.dirty[key] = None
        device.touched[key] = None

    @staticmethod
    def count(device: Device, what: str, by: int = 1) -> None:
        """Add to one of the device's counters."""
        counts = device.facts.counts
        counts[what] = counts.get(what, 0) + by
