"""State of one device: its clock and counters, its connections by 5-tuple, its alerts, and the timers of all these.

The connections of an active 5-tuple are a list of objects. Those of an idle 5-tuple are packed into bytes, which takes about a
quarter of the memory and gives the garbage collector nothing to traverse.
"""

from __future__ import annotations

import heapq

import msgspec

from schemas.events import Micros, ProtectionMode
from schemas.tables import ModeStatus
from streams.model.access_log import WaitingEntry
from streams.model.connection import Connection, TupleConnections
from streams.model.counters import Counters
from streams.model.protection import AlertState, Counted, ModeEntry, Span, UnattributedVerdict
from streams.model.sequence_gaps import Sensor

PROXIES_MAX = 1_000
"""Learnt proxies kept per device. Beyond it a remote end is a proxy only for connections whose own requests show it."""
ALERTS_MAX = 10_000
"""Alerts kept per device. Beyond it the oldest are evicted; a later request of an evicted alert starts a new count."""
ALERTS_FORGOTTEN = ALERTS_MAX // 16
"""Number of alerts evicted at once at `ALERTS_MAX`."""
SENSORS_MAX = 64
"""Sensors (dialect and name) kept per device. Beyond it the one that has been quiet the longest is evicted."""
PIDS_MIN, PIDS_MAX = 64, 1_024
"""Bounds on the PIDs per device with process records. At the upper bound, PIDs of ended processes are evicted first."""
ESTABLISHED_MS = 3_600_000
"""Milliseconds of log time between a device's first and latest message from which on the device is established."""
NEVER: Micros = 1 << 62
VERDICT_TIMER, PROXY_TIMER, DEPARTED_TIMER = "process verdicts", "access log", "departed"
"""Names of the timers for unattributed verdicts, access-log entries and tombstones. They stand in place of a 5-tuple in
`Device.timers`; no 5-tuple has such a name."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(TupleConnections).decode
_pack_alert = msgspec.msgpack.Encoder().encode
_unpack_alert = msgspec.msgpack.Decoder(AlertState).decode
_pack_sensor = msgspec.msgpack.Encoder().encode
_unpack_sensor = msgspec.msgpack.Decoder(Sensor).decode
_pack_line = msgspec.msgpack.Encoder().encode
_unpack_line = msgspec.msgpack.Decoder(WaitingEntry).decode
_pack_period = msgspec.msgpack.Encoder().encode
_unpack_period = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class DeviceState(msgspec.Struct, array_like=True, gc=False):
    """State of a device as a whole."""

    event_time: Micros = 0
    """The device's clock: the time of its latest event. It does not advance while the device is quiet: whatever is due by then
    is checked against this time plus the log time that has passed."""
    logged_ms: int = 0
    """Log time of the latest message, in milliseconds."""
    offset: int = -1
    """Latest input offset that this state includes."""
    sensor_first: Micros = 0
    """Time of the earliest network sensor event; 0 for none."""
    http_first: Micros = 0
    """Time of the earliest HTTP-level event; 0 for none. Until then, HTTP may be invisible on the device."""
    endpoint_seen: bool = False
    """At least one endpoint record was received, so connections wait for theirs."""
    modes: list[ModeEntry] = []
    """Changes of the protection mode, sorted by time (`streams.assess.mode_history`)."""
    modes_gone: int = 0
    """Number of changes removed from `modes`: the oldest beyond the bound, and those that a later report corrected."""
    modes_version: int = 0
    """Version of the latest rows of the mode history."""
    mode_reports: dict[ProtectionMode, list[ModeEntry]] = {}
    """The latest reports of each mode, sorted by time, including those that changed nothing."""
    settings_mode: str = ""
    """The mode in the settings at the last check."""
    leap: Micros = 0
    """Time of an event that is far from the clock; 0 for none. The clock follows once a second event agrees."""
    proxies: dict[str, bool] = {}
    """Learnt proxies as `ip port`; True if the remote end answered as a proxy."""
    tuples_seen: int = 0
    """Number of 5-tuples seen so far; the next new 5-tuple gets it as its number."""
    counts: Counters = msgspec.field(default_factory=Counters)
    reported_at: Micros = 0
    """The device's clock after the latest message with a plausible event time; 0 before the first."""
    reported_ms: int = 0
    """Log time of that message, in milliseconds. `logged_ms` is also advanced by lines without a plausible time."""
    baseline: Micros = 0
    """The longest recent quiet period, in microseconds."""
    silences: int = 0
    """Number of silences so far."""
    silent_ms: int = 0
    """Log time in milliseconds at which the device was found silent; 0 while it is not silent."""
    baselines: dict[str, list[int]] = {}
    """Egress baseline, by UTC day (ISO date): the number of connections through proxies, then of direct connections to
    external addresses. Connections of `baseline_minute` are not included."""
    baseline_minute: int = 0
    """The latest minute with such connections, in minutes since the epoch."""
    baseline_counts: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """The two numbers for `baseline_minute`."""
    unattributed: list[UnattributedVerdict] = []
    """Process verdicts of the last minutes (`streams.correlate.process_verdicts`)."""
    alerts_begun: int = 0
    """Number of alerts that began so far."""
    first_ms: int = 0
    """Log time of the first message; 0 if unknown, as in state written before this field existed."""
    summary_kinds: list[str] = []
    """Kinds of flow ids (`Sensor.flow_id_kind`) of the sensors that wrote a flow summary."""
    forgotten_ended: Micros = 0
    """The latest end of a departed connection whose tombstone was evicted at a bound (`streams.correlate.departed`)."""
    forgotten_until: int = 0
    """The second at which the last evicted tombstone would have expired; 0 if none was evicted."""

    @property
    def is_established(self) -> bool:
        """Return whether the device has reported for `ESTABLISHED_MS`; an invented name with a few messages has not."""
        return self.logged_ms - self.first_ms >= ESTABLISHED_MS


def peek(found: TupleConnections | bytes) -> TupleConnections:
    """Return the connections of a 5-tuple for reading only; packed ones stay packed."""
    return _unpack(found) if isinstance(found, bytes) else found


class Device:
    """One device: its state, connections by 5-tuple, alerts, sensors and connection timers."""

    __slots__ = (
        "alerts",
        "by_pid",
        "connections",
        "departed",
        "departed_count",
        "dirty",
        "dirty_alerts",
        "dirty_number",
        "evicted_alerts",
        "forget_due",
        "fresh_alerts",
        "groups_in",
        "heap",
        "held_alerts",
        "held_due",
        "held_sent",
        "mode_rows",
        "name",
        "next_due",
        "orphaned",
        "parked",
        "parsed",
        "processes",
        "processes_due",
        "programs",
        "programs_listed",
        "quiet_due",
        "read",
        "sensors",
        "size",
        "state",
        "timers",
        "times",
        "touched",
        "touched_alerts",
        "touched_departed",
        "touched_entries",
        "touched_processes",
        "touched_sensors",
        "unattributed_changed",
        "waiting_entries",
    )

    def __init__(self, name: str) -> None:  # noqa: PLR0915  # one statement per attribute, with its meaning
        self.name = name
        self.state = DeviceState()
        self.connections: dict[str, TupleConnections | bytes] = {}
        self.alerts: dict[str, AlertState] = {}
        self.timers: dict[int, str | dict[str, None]] = {}
        """5-tuples with a timer, by second. A second with one 5-tuple stores the bare name, because a dict takes as much
        memory as the connection's state; "" if its only timer was cancelled."""
        self.sensors: dict[str, Sensor] = {}
        """Sensors by dialect and name, separated by a zero byte."""
        self.waiting_entries: dict[str, WaitingEntry] = {}
        """Access-log entries that wait for their connection (`streams.correlate.proxy_log`)."""
        self.processes: dict[int, bytes] = {}
        """Packed process records by PID (`streams.correlate.processes`)."""
        self.processes_due = PIDS_MIN
        """Number of PIDs beyond which old ones are evicted."""
        self.by_pid: dict[int, dict[str, None]] | None = None
        """5-tuples by the PID that connected; None until the first lookup."""
        self.programs: dict[str | int, dict[str, None]] | None = None
        """5-tuples by name and by PID of the connecting program (`program_index.py`); None until a verdict needs them."""
        self.programs_listed = 0
        """Upper bound on the number of entries in `programs`."""
        self.parked: dict[str, None] = {}
        """5-tuples whose connections are due to leave by the log's time, but not yet by the device's own clock. Also
        `DEPARTED_TIMER`, if tombstones are due in the same way."""
        self.size = 0
        """Number of connections of all 5-tuples."""
        self.departed: dict[int, dict[str, bytes]] = {}
        """Packed tombstones (`departed.py`), by second of expiry and by 5-tuple."""
        self.departed_count = 0
        """Number of 5-tuples in `departed`, counted once per second of expiry."""
        self.heap: list[int] = []
        """Heap of the seconds in `timers`."""
        self.next_due = 1 << 62
        """The earliest second with a timer; `1 << 62` without one."""
        self.read = 0
        self.parsed = 0
        """`read` and `parsed`: lines of the current message. They are added to `state.counts` at the end of the message."""
        self.times: list[Micros] = []
        """Event times of these lines."""
        self.mode_rows: list[tuple[Span, ModeStatus, int]] = []
        """Rows of the mode history that are not emitted yet: period, status and version."""
        self.orphaned: list[Counted] = []
        """Contributions to alerts that must be withdrawn, because their connection was merged into another one."""
        self.evicted_alerts: list[AlertState] = []
        """Alerts that were evicted before their latest change was published."""
        self.unattributed_changed = False
        """Rows of process verdicts may have changed."""
        self.held_due: Micros = NEVER
        """Time on the device's clock at which the next held alert is published; 0 for at once."""
        self.held_alerts: list[tuple[Micros, str]] = []
        """Heap of changed alerts that are held: due time and key. Entries of evicted alerts may remain."""
        self.held_sent: Micros = 0
        """Upper bound on the time at which any held alert was last published."""
        self.fresh_alerts: list[str] = []
        """Alerts that changed since alerts were last selected for publication (`streams.alerts.folding.due`)."""
        self.forget_due: Micros = 0
        """Lower bound on the time, on the device's clock, at which an alert expires by age."""
        self.groups_in: tuple[str, ...] | None = None
        """Device groups from the settings that contain this device; None before the first lookup."""
        self.quiet_due = NEVER
        """Quiet time in microseconds after which the presence check runs (`streams.rows.presence`)."""
        self.dirty: dict[str, None] = {}
        """5-tuples whose rows may have changed, in the order of change."""
        self.dirty_alerts: dict[str, int] = {}
        """Alerts to publish, numbered in the order of change."""
        self.dirty_number = 0
        """The latest number in `dirty_alerts`."""
        self.touched: dict[str, None] = {}
        self.touched_alerts: dict[str, None] = {}
        self.touched_sensors: dict[str, None] = {}
        self.touched_departed: dict[int, None] = {}
        self.touched_entries: dict[str, None] = {}
        self.touched_processes: dict[int, None] = {}
        """The `touched` fields: 5-tuples, alerts, sensors, tombstone periods, access-log entries and processes that changed since
        the last checkpoint, in the order of change."""

    def connections_of(self, key: str) -> TupleConnections | None:
        """Return the connections of a 5-tuple, unpacked for changes; None if the device has none."""
        found = self.connections.get(key)
        if found.__class__ is bytes:
            found = _unpack(found)
            self.connections[key] = found
        return found  # type: ignore[return-value]  # bytes were just unpacked

    def rest(self, key: str) -> None:
        """Pack the connections of a 5-tuple that are expected to stay idle."""
        found = self.connections[key]
        if found.__class__ is not bytes:
            self.connections[key] = _pack(found)

    def wake_at(self, second: int, key: str) -> None:
        """Schedule the timer of a 5-tuple at this second of the device's clock."""
        waiting = self.timers.get(second)
        if waiting is None:
            self.timers[second] = key
            heapq.heappush(self.heap, second)
            self.next_due = self.heap[0]
        elif isinstance(waiting, dict):
            waiting[key] = None
        elif not waiting:
            self.timers[second] = key
        elif waiting != key:
            self.timers[second] = {waiting: None, key: None}

    def let_sleep(self, connection: Connection, key: str) -> None:
        """Cancel the timer of a connection, unless another connection of its 5-tuple is due at the same second."""
        waiting = self.timers.get(connection.due)
        if not waiting or any(
            other.due == connection.due for other in self.connections_of(key) or () if other is not connection
        ):
            return
        if isinstance(waiting, dict):
            waiting.pop(key, None)
        elif waiting == key:
            self.timers[connection.due] = ""
        if connection.due == self.next_due:
            self._see_next_due()

    def due_until(self, second: int) -> tuple[int, list[str]] | None:
        """Remove the earliest second with timers and return it with its 5-tuples; None if it is after `second`.

        The 5-tuples are sorted, so that a device restored from its state handles them in the same order. The order matters
        because a connection may begin an alert, and alerts are numbered.
        """
        if not self.heap or self.heap[0] > second:
            return None
        due = heapq.heappop(self.heap)
        waiting = self.timers.pop(due)
        self._see_next_due()
        return due, sorted(waiting) if isinstance(waiting, dict) else [waiting]

    def _see_next_due(self) -> None:
        """Set `next_due` to the earliest second with a timer.

        Seconds whose connections have all left are skipped, because a device restored from its state has no such seconds.
        """
        heap, timers = self.heap, self.timers
        while heap and not timers[heap[0]]:
            del timers[heapq.heappop(heap)]
        self.next_due = heap[0] if heap else 1 << 62

    def changes(self) -> dict[str, bytes | None]:
        """Return the packed items that changed since the last call of `changes` or `items`; None for a removed item."""
        changed = {"c" + key: self._packed_connections(key) for key in self.touched}
        for key in self.touched_alerts:
            alert = self.alerts.get(key)
            changed["a" + key] = None if alert is None else _pack_alert(alert)
        for key in self.touched_sensors:
            sensor = self.sensors.get(key)
            changed["s" + key] = None if sensor is None else _pack_sensor(sensor)
        for key in self.touched_entries:
            line = self.waiting_entries.get(key)
            changed["p" + key] = None if line is None else _pack_line(line)
        for pid in self.touched_processes:
            changed[f"r{pid}"] = self.processes.get(pid)
        for second in self.touched_departed:
            period = self.departed.get(second)
            changed[f"d{second}"] = None if period is None else _pack_period(period)
        self._all_written()
        return changed

    def items(self) -> dict[str, bytes | None]:
        """Return all items of the state, packed.

        Item names: `c` + 5-tuple, `a` + alert key, `s` + sensor, `p` + access-log entry, `r` + PID, `d` + second of expiry.
        """
        whole = {"c" + key: self._packed_connections(key) for key in self.connections}
        whole.update({"a" + key: _pack_alert(alert) for key, alert in self.alerts.items()})
        whole.update({"s" + key: _pack_sensor(self.sensors[key]) for key in sorted(self.sensors)})
        whole.update({"p" + key: _pack_line(line) for key, line in self.waiting_entries.items()})
        whole.update({f"r{pid}": packed for pid, packed in self.processes.items()})
        whole.update({f"d{second}": _pack_period(period) for second, period in self.departed.items()})
        self._all_written()
        return whole

    def _all_written(self) -> None:
        self.touched.clear()
        self.touched_alerts.clear()
        self.touched_departed.clear()
        self.touched_sensors.clear()
        self.touched_entries.clear()
        self.touched_processes.clear()

    def _packed_connections(self, key: str) -> bytes | None:
        found = self.connections.get(key)
        return found if found is None or isinstance(found, bytes) else _pack(found)

    def restore(self, items: dict[str, bytes]) -> None:
        """Restore connections, alerts, sensors and the like from all items, and set their timers.

        The 5-tuples are restored in the order in which they were first seen. `streams.alerts.folding.remember` restores
        which alerts are held.
        """
        tuples = []
        for item, packed in items.items():
            if item[0] == "c":
                connections = _unpack(packed)
                tuples.append((connections[0].number, item[1:], packed, connections))
            elif item[0] == "s":
                self.sensors[item[1:]] = _unpack_sensor(packed)
            elif item[0] == "p":
                self.waiting_entries[item[1:]] = _unpack_line(packed)
            elif item[0] == "r":
                self.processes[int(item[1:])] = packed
            elif item[0] == "d":
                self.departed[int(item[1:])] = _unpack_period(packed)
            else:
                self.alerts[item[1:]] = _unpack_alert(packed)
        self.departed = dict(sorted(self.departed.items()))
        self.waiting_entries = dict(sorted(self.waiting_entries.items(), key=lambda line: (line[1].due, line[0])))
        self.processes_due = min(max(PIDS_MIN, 2 * len(self.processes)), PIDS_MAX)
        for _, key, packed, connections in sorted(tuples, key=lambda one: one[:2]):
            self.connections[key] = packed
            self.size += len(connections)
            for connection in connections:
                self.wake_at(connection.due, key)
        self._restore_timers()

    def _restore_timers(self) -> None:
        """Set the timers that belong to no 5-tuple."""
        for second, period in self.departed.items():
            self.departed_count += len(period)
            self.wake_at(second, DEPARTED_TIMER)
        for unattributed in self.state.unattributed:
            if not unattributed.decided:
                self.wake_at(unattributed.due, VERDICT_TIMER)
        for line in self.waiting_entries.values():
            self.wake_at(line.due, PROXY_TIMER)
