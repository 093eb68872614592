"""What is known of a device and its connections: only merged evidence, so that the order of arrival leaves no trace.

A `Connection` is what one TCP connection left behind at its witnesses: the endpoint's own record (`Kernel`), the network
sensor's flow, and the destinations that were asked for. Everything merges: times by minimum and maximum, flags by or,
evidence by set; the same evidence twice changes nothing. Rows (`streams.rows`) are functions of it.

Connections of one 5-tuple form a group; a group rests as packed bytes while nothing happens to it (about a quarter of the
memory, and nothing for the garbage collector to walk) and is a list of objects while it is hot.
"""

from __future__ import annotations

import heapq

import msgspec

from schemas.events import Micros, Process, ProtectionMode
from schemas.record import ModeStatus
from streams.gaps import Sensor
from streams.logged import Line, Logged
from streams.protection import AlertState, Counted, Hit, Judged, Loose, ModeEntry, Span
from streams.running import Run

EVIDENCE_MAX = 256
"""Distinct evidence remembered per connection to tell repeats. Beyond it the oldest is forgotten: a repeat of it counts twice."""
EVENT_IDS_MAX = 16
DESTINATIONS_MAX = 256
"""Destinations kept per connection; further ones are counted and not named."""
INNER_MAX = 16
"""Names spoken inside kept per connection; further ones are not looked at."""
JUDGED_MAX = 256
"""Judged requests remembered per connection. Beyond it the oldest is forgotten: told already, a repeat of it counts again."""
GROUP_MAX = 64
"""Connections of one 5-tuple kept. Beyond it the oldest gets its row and leaves: each event of a 5-tuple looks at all of them."""
PROXIES_MAX = 1_000
"""Proxies learnt per device; further ones are proxies for their own connections only."""
ALERTS_MAX = 10_000
"""Alerts folded at a time per device. Beyond it the oldest is forgotten: its next request begins a new count."""
SENSORS_MAX = 64
"""Sensors (dialect and name) remembered per device. Beyond it the one heard longest ago is forgotten."""
PIDS_MIN, PIDS_MAX = 64, 1_024
"""PIDs of which more than a connection is remembered, per device. Beyond it those that ended are forgotten first."""
NEVER: Micros = 1 << 62
LOOSE_TIMER, PROXY_TIMER = "loose", "proxy lines"
"""Names of the timers of verdicts without a connection, and of proxies' lines; no 5-tuple is called so."""

REACHED, FAILED, ASKED, BLOCKED, AUDITED, WARNED, BYPASSED = 1, 2, 4, 8, 16, 32, 64
"""What is known of requests to one destination, as bits."""
STOPPED = BLOCKED | WARNED | BYPASSED
"""Verdicts that only a device in block mode gives."""

BY_CONNECT, BY_URI, BY_VERDICT, BY_JUDGED_NAME, BY_HOST, BY_SNI, BY_PROXY_LOG, BY_PROCESS = 1, 2, 3, 4, 5, 6, 7, 8
"""How a destination is known, best first; from a judged TLS name on, a better one may still be under way."""

JUDGED_BUMP = 64
"""More than a kernel record adds to a version."""
UNDECIDED, FROM_KERNEL, FROM_FLOW = 0, 1, 2
"""What a connection's identity is made from; decided when its first row leaves, then never changed."""


class Kernel(msgspec.Struct, array_like=True, gc=False):
    """The endpoint's own record of a connection."""

    started: Micros
    established: Micros
    ended: Micros
    failed: bool
    process: Process
    event_id: str
    bytes_sent: int = -1
    """Payload; -1 where it is not told."""
    bytes_received: int = -1


class Destination(msgspec.Struct, array_like=True, gc=False, eq=False):
    """One real destination asked for on a connection."""

    host: str
    port: int
    by: int
    first: Micros
    url: str
    tunnel: bool = False
    """The end of a CONNECT tunnel, not one of many hosts asked for in plain."""
    flags: int = 0
    evidence: int = 0
    requests: int = 0
    status: int = 0
    status_at: Micros = 0
    event_ids: list[tuple[Micros, str]] = []
    superseded: bool = False
    sent: int = 0
    moved: bool = False
    bump: int = 0
    """Added to the version since the connection's other half was found to be another one than some row said."""
    hits: list[Hit] = []
    others: dict[str, int] | None = None
    """Requests as further network sensors tell them, by kind of sensor: they may be the same ones. None for one sensor."""

    @property
    def asked(self) -> int:
        """Requests: of several sensors those of the one that saw most."""
        return max(self.requests, *self.others.values()) if self.others else self.requests


class Inner(msgspec.Struct, array_like=True, gc=False):
    """A name spoken on the connection itself: inside its tunnel, or directly."""

    at: Micros
    name: str
    tls: bool
    outer: bool
    """TLS from the first byte: spoken to whoever was connected to, not inside a tunnel."""
    event_id: str
    judged: bool = False


class Connection(msgspec.Struct, array_like=True, gc=False, eq=False):
    """One TCP connection."""

    kernel: Kernel | None = None
    flow_id: str = ""
    flow_started: Micros = 0
    flow_ended: Micros = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    answered: bool = False
    midstream: bool = False
    tls: bool = False
    summarised: int = 0
    """Distinct flow summaries merged."""
    first: Micros = 0
    """Earliest evidence of the network sensor."""
    last: Micros = 0
    """Latest evidence of any kind; late evidence counts as of the device's clock, so that what belongs to it may follow."""
    connect: bool = False
    """CONNECT was requested, readable or not."""
    asked: bool = False
    """Asked for something only a proxy is asked for."""
    unreadable: int = 0
    """Requests that name no destination."""
    inner_flags: int = 0
    moved: bool = False
    bump: int = 0
    """Added to the version since the other half was found to be another one than some row said."""
    identity: int = UNDECIDED
    settled: bool = False
    sent: int = 0
    booked: str = ""
    """Where the book counts it: `resolved:…` or `unresolved:…`; "" while waiting."""
    due: int = 0
    """Second at which its timer fires."""
    number: int = 0
    """Place of its 5-tuple in the order in which the device's were first seen."""
    judged_bump: int = 0
    tunnel_rows: list[int] = []
    """Versions sent of the rows of judged tunnels, in order of their CONNECT."""
    inner: list[Inner] = []
    destinations: list[Destination] = []
    judged: list[Judged] = []
    seen: list[int] = []
    hits: list[Hit] = []
    """Indicators that match a name spoken on it, or where it goes."""
    counted: dict[str, Counted] = {}
    """What alerts count of it, by finding."""
    looked_at: bool = False
    """Its way was looked at (`streams.habits`): that happens once."""
    logged: tuple[Logged, ...] = ()
    """Lines of the proxy's own log."""
    row_name: str = ""
    """What its destinations' rows were named by before the sensor's name of the flow was known; "" where that is."""
    witnesses: tuple[Kernel, ...] = ()
    """Records of several endpoint sensors, of which the kernel's is put together (`streams.witnesses`); empty for one."""
    kernel_name: Micros = 0
    """The start that its identity was made from, where a better clock was heard of later."""
    flow_ids: tuple[str, ...] = ()
    """What further network sensors call the flow."""
    held: bool = False
    """It may be another sensor's view of a connection that is known: no rows until it settles."""
    run: Run | None = None
    """What was told of its process apart from the connection (`streams.processes`)."""

    @property
    def live(self) -> list[Destination]:
        """Destinations that still stand."""
        destinations = self.destinations
        if len(destinations) == 1 and not destinations[0].superseded:
            return destinations.copy()
        return [d for d in destinations if not d.superseded]

    @property
    def rows_left(self) -> bool:
        """Rows or verdicts of it were told."""
        return self.sent > 0 or any(d.sent for d in self.destinations) or any(j.sent for j in self.judged)

    @property
    def started(self) -> Micros:
        """When it was established, as near as any evidence tells."""
        if self.kernel is not None:
            return self.kernel.established or self.kernel.started
        return self.flow_started or self.first

    @property
    def ended(self) -> Micros:
        """When it ended; 0 while nobody said so."""
        kernel_ended = self.kernel.ended if self.kernel is not None else 0
        return kernel_ended or self.flow_ended

    def swap_flow(self, other: Connection) -> None:
        """Exchange what the network sensor said with another connection; the kernel's part and the identity stay."""
        for field in FLOW_FIELDS:
            mine, theirs = getattr(self, field), getattr(other, field)
            setattr(self, field, theirs)
            setattr(other, field, mine)
        self.was_another()
        other.was_another()

    def swap_kernel(self, other: Connection) -> None:
        """Exchange the kernel's records; an identity that was made from one begins anew."""
        self.kernel, other.kernel = other.kernel, self.kernel
        self.witnesses, other.witnesses = other.witnesses, self.witnesses
        self.kernel_name, other.kernel_name = 0, 0
        for connection in (self, other):
            if connection.identity == FROM_KERNEL:
                connection.identity, connection.sent = UNDECIDED, 0
            connection.was_another()

    def was_another(self) -> None:
        """Rows that left said something else of it: the next ones must outbid them."""
        self.moved = True
        for destination in self.destinations:
            destination.moved = True
        for counted in self.counted.values():
            counted.stamp = 0
        if self.tunnel_rows or any(judged.sent for judged in self.judged):
            self.judged_bump += JUDGED_BUMP

    def is_new(self, evidence: int) -> bool:
        """Remember a piece of evidence; False when it was here before."""
        if evidence in self.seen:
            return False
        if len(self.seen) >= EVIDENCE_MAX:
            del self.seen[0]
        self.seen.append(evidence)
        return True


FLOW_FIELDS = (
    *("flow_id", "flow_started", "flow_ended", "bytes_sent", "bytes_received", "answered", "midstream", "tls", "first"),
    *("summarised", "connect", "asked", "unreadable", "inner_flags", "inner", "destinations", "judged", "seen"),
    *("judged_bump", "tunnel_rows", "hits", "counted", "looked_at", "logged", "row_name"),
    *("flow_ids", "held"),
)
Group = list[Connection]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Group).decode


_pack_alert = msgspec.msgpack.Encoder().encode
_unpack_alert = msgspec.msgpack.Decoder(AlertState).decode
_pack_sensor = msgspec.msgpack.Encoder().encode
_unpack_sensor = msgspec.msgpack.Decoder(Sensor).decode
_pack_line = msgspec.msgpack.Encoder().encode
_unpack_line = msgspec.msgpack.Decoder(Line).decode


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
    """Changes of the protection mode, by time (`streams.modes`)."""
    modes_gone: int = 0
    """Changes that are in it no more: too old, or known better."""
    modes_version: int = 0
    modes_heard: dict[ProtectionMode, ModeEntry] = {}
    """The latest word for each mode, also where it was known already."""
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
    habit: Micros = 0
    """The longest it was quiet of late."""
    silences: int = 0
    silent_ms: int = 0
    """The log's time when it was found silent; 0 while it is not."""
    habits: dict[str, list[int]] = {}
    """By UTC day: connections through proxies, and those that went outside directly; without those of `habit_minute`."""
    habit_minute: int = 0
    """The latest minute with connections, since the epoch."""
    habit_counts: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    loose: list[Loose] = []
    """Verdicts that name no connection, of the last minutes (`streams.loose`)."""


def peek(found: Group | bytes) -> Group:
    """The connections of a 5-tuple, to look at and not to change: a group that rests goes on resting."""
    return _unpack(found) if isinstance(found, bytes) else found


class Device:
    """State of one device: facts, groups by 5-tuple, alerts, sensors, and the timers of its connections."""

    __slots__ = (
        "alerts",
        "by_pid",
        "dirty",
        "dirty_alerts",
        "facts",
        "groups",
        "groups_in",
        "heap",
        "held_due",
        "last_words",
        "lines",
        "loose_changed",
        "mode_rows",
        "name",
        "next_due",
        "orphaned",
        "parked",
        "parsed",
        "processes",
        "processes_due",
        "quiet_due",
        "read",
        "sensors",
        "size",
        "timers",
        "times",
        "touched",
        "touched_alerts",
        "touched_lines",
        "touched_processes",
        "touched_sensors",
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
        self.lines: dict[str, Line] = {}
        """Lines of proxies' own logs that wait for their connection (`streams.proxy_lines`)."""
        self.processes: dict[int, bytes] = {}
        """What is known of processes by PID, packed (`streams.processes`)."""
        self.processes_due = PIDS_MIN
        """With so many PIDs it is looked which may be forgotten."""
        self.by_pid: dict[int, dict[str, None]] | None = None
        """5-tuples by the PID that connected; None until somebody asks."""
        self.parked: dict[str, None] = {}
        """Groups that would leave if the device itself had told that their time is over, not only the log."""
        self.size = 0
        """Connections in the groups."""
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
        self.loose_changed = False
        """Rows of verdicts without a connection may have changed."""
        self.held_due: Micros = NEVER
        """When, on its own clock, an alert may be published that must wait."""
        self.groups_in: tuple[str, ...] | None = None
        """Groups of devices it is in, as the settings say; None before they were asked."""
        self.quiet_due = NEVER
        """How long it must be quiet until its presence is looked at (`streams.presence`)."""
        self.dirty: dict[str, None] = {}
        """5-tuples whose rows may have changed, in order."""
        self.dirty_alerts: dict[str, None] = {}
        self.touched: dict[str, None] = {}
        self.touched_alerts: dict[str, None] = {}
        self.touched_sensors: dict[str, None] = {}
        self.touched_lines: dict[str, None] = {}
        self.touched_processes: dict[int, None] = {}
        """Groups, alerts, sensors, proxies' lines and processes that changed since the last checkpoint, in order."""

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

    def due_until(self, second: int) -> tuple[int, list[str]] | None:
        """The earliest second whose timers are due, with its groups; None when nothing is due."""
        if not self.heap or self.heap[0] > second:
            return None
        due = heapq.heappop(self.heap)
        self.next_due = self.heap[0] if self.heap else 1 << 62
        waiting = self.timers.pop(due)
        if isinstance(waiting, dict):
            return due, list(waiting)
        return due, [waiting] if waiting else []

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
        self._all_told()
        return changed

    def items(self) -> dict[str, bytes | None]:
        """All items of the state, packed: `c` + 5-tuple, `a` + alert key, `s` + sensor, `p` + line of a proxy, `r` + PID."""
        whole = {"c" + key: self._packed_group(key) for key in self.groups}
        whole.update({"a" + key: _pack_alert(alert) for key, alert in self.alerts.items()})
        whole.update({"s" + key: _pack_sensor(self.sensors[key]) for key in sorted(self.sensors)})
        whole.update({"p" + key: _pack_line(line) for key, line in self.lines.items()})
        whole.update({f"r{pid}": packed for pid, packed in self.processes.items()})
        self._all_told()
        return whole

    def _all_told(self) -> None:
        self.touched.clear()
        self.touched_alerts.clear()
        self.touched_sensors.clear()
        self.touched_lines.clear()
        self.touched_processes.clear()

    def _packed_group(self, key: str) -> bytes | None:
        group = self.groups.get(key)
        return group if group is None or isinstance(group, bytes) else _pack(group)

    def take_back(self, items: dict[str, bytes]) -> None:
        """The whole state from its items: groups in the order in which they were first seen, timers included."""
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
            else:
                alert = self.alerts[item[1:]] = _unpack_alert(packed)
                if alert.version > alert.sent:
                    self.dirty_alerts[item[1:]] = None
                    self.held_due = 0
        for _, key, packed, connections in sorted(groups, key=lambda group: group[:2]):
            self.groups[key] = packed
            self.size += len(connections)
            for connection in connections:
                self.wake_at(connection.due, key)
        for loose in self.facts.loose:
            if not loose.decided:
                self.wake_at(loose.due, LOOSE_TIMER)
        self.lines = dict(sorted(self.lines.items(), key=lambda line: (line[1].due, line[0])))
        for line in self.lines.values():
            self.wake_at(line.due, PROXY_TIMER)
        self.processes_due = min(max(PIDS_MIN, 2 * len(self.processes)), PIDS_MAX)
