"""The state of a device: its facts, its connections by 5-tuple, its alerts, and the timers that look at them again.

Connections of one 5-tuple form a group; a group rests as packed bytes while nothing happens to it (about a quarter of the
memory, and nothing for the garbage collector to walk) and is a list of objects while it is hot.
"""

from __future__ import annotations

import heapq

import msgspec

from schemas.events import Micros, ProtectionMode
from schemas.tables import ModeStatus
from streams.model.access_log import WaitingEntry
from streams.model.connection import Connection, Group
from streams.model.protection import AlertState, Counted, ModeEntry, Span, UnattributedVerdict
from streams.model.sequence_gaps import Sensor

PROXIES_MAX = 1_000
"""Proxies learnt per device; further ones are proxies for their own connections only."""
ALERTS_MAX = 10_000
"""Alerts folded at a time per device. Beyond it the oldest are evicted: their next request begins a new count."""
ALERTS_FORGOTTEN = ALERTS_MAX // 16
"""Alerts evicted at once at that bound."""
SENSORS_MAX = 64
"""Sensors (dialect and name) remembered per device. Beyond it the one heard longest ago is forgotten."""
PIDS_MIN, PIDS_MAX = 64, 1_024
"""PIDs of which more than a connection is remembered, per device. Beyond it those that ended are forgotten first."""
ESTABLISHED_MS = 3_600_000
"""Log time between the first and the latest message of a device that counts as established."""
NEVER: Micros = 1 << 62
VERDICT_TIMER, PROXY_TIMER, DEPARTED_TIMER = "loose", "proxy lines", "departed"
"""Names of the timers of verdicts without a connection, of proxies' lines and of tombstones; no 5-tuple is called so."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Group).decode
_pack_alert = msgspec.msgpack.Encoder().encode
_unpack_alert = msgspec.msgpack.Decoder(AlertState).decode
_pack_sensor = msgspec.msgpack.Encoder().encode
_unpack_sensor = msgspec.msgpack.Decoder(Sensor).decode
_pack_line = msgspec.msgpack.Encoder().encode
_unpack_line = msgspec.msgpack.Decoder(WaitingEntry).decode
_pack_period = msgspec.msgpack.Encoder().encode
_unpack_period = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class Facts(msgspec.Struct, array_like=True, gc=False):
    """What is known of the device as a whole."""

    now: Micros = 0
    """The device's own clock: its latest event. While it is quiet, the log's time since its latest message goes on top."""
    logged_ms: int = 0
    """The log's time of its latest message."""
    offset: int = -1
    """Latest input offset that is in this state."""
    sensor_first: Micros = 0
    """Earliest event of a network sensor; 0 for none."""
    http_first: Micros = 0
    """Earliest HTTP-level event; 0 for none: network protection shows nothing."""
    kernel_seen: bool = False
    """The endpoint itself tells of its connections, too."""
    modes: list[ModeEntry] = []
    """Changes of the protection mode, by time (`streams.assess.mode_history`)."""
    modes_gone: int = 0
    """Changes that are in it no more: too old, or known better."""
    modes_version: int = 0
    modes_heard: dict[ProtectionMode, list[ModeEntry]] = {}
    """The latest words for each mode by time, also where it was known already."""
    settings_mode: str = ""
    """What the settings said when they were looked at last."""
    leap: Micros = 0
    """A time far ahead that one event claimed; the clock follows when a second one agrees."""
    proxies: dict[str, bool] = {}
    """Learnt proxies `ip port`; True when one answered as a proxy does."""
    groups_seen: int = 0
    """How many 5-tuples were first seen: the next one's number."""
    counts: dict[str, int] = {}
    heard: Micros = 0
    """The device's own clock when it was heard last; 0 before."""
    heard_ms: int = 0
    """The log's time then: `logged_ms` is also that of lines that could not be read, or whose time is not believed."""
    baseline: Micros = 0
    """The longest it was quiet of late."""
    silences: int = 0
    silent_ms: int = 0
    """The log's time when it was found silent; 0 while it is not."""
    baselines: dict[str, list[int]] = {}
    """By UTC day: connections through proxies, and those that went outside directly; without those of `baseline_minute`."""
    baseline_minute: int = 0
    """The latest minute with connections, since the epoch."""
    baseline_counts: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    unattributed: list[UnattributedVerdict] = []
    """Verdicts that name no connection, of the last minutes (`streams.correlate.process_verdicts`)."""
    alerts_begun: int = 0
    first_ms: int = 0
    """The log's time of its first message; 0 where that is not known, as in state written before this was kept."""
    summary_kinds: list[str] = []
    """Kinds of network sensors (`streams.model.evidence.kind_of_flow`) that wrote a flow record."""
    forgotten_ended: Micros = 0
    """Latest end of the departed connections whose tombstones were forgotten at a bound (`streams.correlate.departed`)."""
    forgotten_until: int = 0
    """Second at which the last of these tombstones would have expired; 0 while none was forgotten."""

    @property
    def is_established(self) -> bool:
        """Whether it has reported for a while: an invented name that is used for a few messages is not established."""
        return self.logged_ms - self.first_ms >= ESTABLISHED_MS


def peek(found: Group | bytes) -> Group:
    """The connections of a 5-tuple, to look at and not to change: a group that rests goes on resting."""
    return _unpack(found) if isinstance(found, bytes) else found


class Device:
    """State of one device: facts, groups by 5-tuple, alerts, sensors, and the timers of its connections."""

    __slots__ = (
        "alerts",
        "by_pid",
        "departed",
        "departed_count",
        "dirty",
        "dirty_alerts",
        "dirty_number",
        "facts",
        "forget_due",
        "fresh_alerts",
        "groups",
        "groups_in",
        "heap",
        "held_alerts",
        "held_due",
        "held_sent",
        "last_words",
        "lines",
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
        "timers",
        "times",
        "touched",
        "touched_alerts",
        "touched_departed",
        "touched_lines",
        "touched_processes",
        "touched_sensors",
        "unattributed_changed",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts = Facts()
        self.groups: dict[str, Group | bytes] = {}
        self.alerts: dict[str, AlertState] = {}
        self.timers: dict[int, str | dict[str, None]] = {}
        """Groups to be looked at by second. Most seconds have one or none: that is its name alone, as a dict would weigh
        as much as the group's state."""
        self.sensors: dict[str, Sensor] = {}
        """By dialect and name, with a zero byte between them."""
        self.lines: dict[str, WaitingEntry] = {}
        """Lines of proxies' own logs that wait for their connection (`streams.correlate.proxy_log`)."""
        self.processes: dict[int, bytes] = {}
        """What is known of processes by PID, packed (`streams.correlate.processes`)."""
        self.processes_due = PIDS_MIN
        """With so many PIDs it is looked which may be forgotten."""
        self.by_pid: dict[int, dict[str, None]] | None = None
        """5-tuples by the PID that connected; None until somebody asks."""
        self.programs: dict[str | int, dict[str, None]] | None = None
        """5-tuples by the name and by the PID of the program that connected (`program_index.py`); None until a verdict asks."""
        self.programs_listed = 0
        """Upper bound of the entries in it."""
        self.parked: dict[str, None] = {}
        """Groups that would leave if the device itself had told that their time is over, not only the log."""
        self.size = 0
        """Connections in the groups."""
        self.departed: dict[int, dict[str, bytes]] = {}
        """Tombstones of connections that left, packed (`departed.py`): by the second at which they expire, and 5-tuple."""
        self.departed_count = 0
        """5-tuples in them."""
        self.heap: list[int] = []
        self.next_due = 1 << 62
        self.read = 0
        self.parsed = 0
        """Lines of the message at hand; they are in the facts' counts when it is done."""
        self.times: list[Micros] = []
        """Times that these lines tell."""
        self.mode_rows: list[tuple[Span, ModeStatus, int]] = []
        """Rows of the mode's history that are to be made, with their version."""
        self.orphaned: list[Counted] = []
        """Counted for connections that turned out to be another one's half."""
        self.last_words: list[AlertState] = []
        """Alerts that were forgotten before what is new of them was published."""
        self.unattributed_changed = False
        """Rows of verdicts without a connection may have changed."""
        self.held_due: Micros = NEVER
        """When, on its own clock, an alert may be published that must wait."""
        self.held_alerts: list[tuple[Micros, str]] = []
        """Heap of the changed alerts that wait: when each is due, and its key. Some entries are of alerts that left."""
        self.held_sent: Micros = 0
        """Upper bound of when any of these was published last."""
        self.fresh_alerts: list[str] = []
        """Alerts that changed since it was last decided which are due."""
        self.forget_due: Micros = 0
        """Lower bound of when, on its own clock, an alert may be evicted for its age."""
        self.groups_in: tuple[str, ...] | None = None
        """Groups of devices it is in, as the settings say; None before they were asked."""
        self.quiet_due = NEVER
        """How long it must be quiet until its presence is looked at (`streams.rows.presence`)."""
        self.dirty: dict[str, None] = {}
        """5-tuples whose rows may have changed, in order."""
        self.dirty_alerts: dict[str, int] = {}
        """Alerts that are to be published, numbered in the order in which they changed."""
        self.dirty_number = 0
        self.touched: dict[str, None] = {}
        self.touched_alerts: dict[str, None] = {}
        self.touched_sensors: dict[str, None] = {}
        self.touched_departed: dict[int, None] = {}
        self.touched_lines: dict[str, None] = {}
        self.touched_processes: dict[int, None] = {}
        """Groups, alerts, sensors, periods of tombstones, proxies' lines and processes that changed since the last checkpoint, in
        order."""

    def group(self, key: str) -> Group | None:
        """The connections of a 5-tuple, hot."""
        found = self.groups.get(key)
        if found.__class__ is bytes:
            found = _unpack(found)
            self.groups[key] = found
        return found  # type: ignore[return-value]  # bytes were just unpacked

    def rest(self, key: str) -> None:
        """Pack a group that will be quiet for a while."""
        found = self.groups[key]
        if found.__class__ is not bytes:
            self.groups[key] = _pack(found)

    def wake_at(self, second: int, key: str) -> None:
        """Fire the timer of a group at this second of the device's clock."""
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
        """Take back the timer of a connection that leaves, or gets another one."""
        waiting = self.timers.get(connection.due)
        if not waiting or any(
            other.due == connection.due for other in self.group(key) or () if other is not connection
        ):
            return
        if isinstance(waiting, dict):
            waiting.pop(key, None)
        elif waiting == key:
            self.timers[connection.due] = ""
        if connection.due == self.next_due:
            self._see_next_due()

    def due_until(self, second: int) -> tuple[int, list[str]] | None:
        """The earliest second whose timers are due, with its groups; None when nothing is due.

        In an order that a device which was taken back from its state has as well: what becomes of a group may begin an alert,
        and alerts are numbered.
        """
        if not self.heap or self.heap[0] > second:
            return None
        due = heapq.heappop(self.heap)
        waiting = self.timers.pop(due)
        self._see_next_due()
        return due, sorted(waiting) if isinstance(waiting, dict) else [waiting]

    def _see_next_due(self) -> None:
        """The earliest second at which something is to be done.

        One whose groups have all left is none: a device that was taken back from its state does not know of it.
        """
        heap, timers = self.heap, self.timers
        while heap and not timers[heap[0]]:
            del timers[heapq.heappop(heap)]
        self.next_due = heap[0] if heap else 1 << 62

    def changes(self) -> dict[str, bytes | None]:
        """Items that changed since the last time, packed; None for one that is gone."""
        changed = {"c" + key: self._packed_group(key) for key in self.touched}
        for key in self.touched_alerts:
            alert = self.alerts.get(key)
            changed["a" + key] = None if alert is None else _pack_alert(alert)
        for key in self.touched_sensors:
            sensor = self.sensors.get(key)
            changed["s" + key] = None if sensor is None else _pack_sensor(sensor)
        for key in self.touched_lines:
            line = self.lines.get(key)
            changed["p" + key] = None if line is None else _pack_line(line)
        for pid in self.touched_processes:
            changed[f"r{pid}"] = self.processes.get(pid)
        for second in self.touched_departed:
            period = self.departed.get(second)
            changed[f"d{second}"] = None if period is None else _pack_period(period)
        self._all_told()
        return changed

    def items(self) -> dict[str, bytes | None]:
        """All items of the state, packed.

        Their names: `c` + 5-tuple, `a` + alert key, `s` + sensor, `p` + line of a proxy, `r` + PID, `d` + second of expiry.
        """
        whole = {"c" + key: self._packed_group(key) for key in self.groups}
        whole.update({"a" + key: _pack_alert(alert) for key, alert in self.alerts.items()})
        whole.update({"s" + key: _pack_sensor(self.sensors[key]) for key in sorted(self.sensors)})
        whole.update({"p" + key: _pack_line(line) for key, line in self.lines.items()})
        whole.update({f"r{pid}": packed for pid, packed in self.processes.items()})
        whole.update({f"d{second}": _pack_period(period) for second, period in self.departed.items()})
        self._all_told()
        return whole

    def _all_told(self) -> None:
        self.touched.clear()
        self.touched_alerts.clear()
        self.touched_departed.clear()
        self.touched_sensors.clear()
        self.touched_lines.clear()
        self.touched_processes.clear()

    def _packed_group(self, key: str) -> bytes | None:
        group = self.groups.get(key)
        return group if group is None or isinstance(group, bytes) else _pack(group)

    def retract(self, items: dict[str, bytes]) -> None:
        """The whole state from its items: groups in the order in which they were first seen, timers included.

        Which alerts wait is for `streams.alerts.folding.remember` to say.
        """
        groups = []
        for item, packed in items.items():
            if item[0] == "c":
                connections = _unpack(packed)
                groups.append((connections[0].number, item[1:], packed, connections))
            elif item[0] == "s":
                self.sensors[item[1:]] = _unpack_sensor(packed)
            elif item[0] == "p":
                self.lines[item[1:]] = _unpack_line(packed)
            elif item[0] == "r":
                self.processes[int(item[1:])] = packed
            elif item[0] == "d":
                self.departed[int(item[1:])] = _unpack_period(packed)
            else:
                self.alerts[item[1:]] = _unpack_alert(packed)
        for _, key, packed, connections in sorted(groups, key=lambda group: group[:2]):
            self.groups[key] = packed
            self.size += len(connections)
            for connection in connections:
                self.wake_at(connection.due, key)
        self.departed = dict(sorted(self.departed.items()))
        for second, period in self.departed.items():
            self.departed_count += len(period)
            self.wake_at(second, DEPARTED_TIMER)
        for unattributed in self.facts.unattributed:
            if not unattributed.decided:
                self.wake_at(unattributed.due, VERDICT_TIMER)
        self.lines = dict(sorted(self.lines.items(), key=lambda line: (line[1].due, line[0])))
        for line in self.lines.values():
            self.wake_at(line.due, PROXY_TIMER)
        self.processes_due = min(max(PIDS_MIN, 2 * len(self.processes)), PIDS_MAX)
