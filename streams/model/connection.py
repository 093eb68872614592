"""What is known of a connection: only merged evidence, so that the order of arrival leaves no trace.

A `Connection` is what one TCP connection left behind at its sensor_records: the endpoint's own record (`Kernel`), the network
sensor's flow, and the destinations that were asked for. Everything merges: times by minimum and maximum, flags by or,
evidence by set; the same evidence twice changes nothing. Rows (`streams.rows.network_events`) are functions of it.
"""

from __future__ import annotations

import msgspec

from schemas.events import Micros, Process
from streams.model.access_log import AccessLogEntry
from streams.model.process_table import Run
from streams.model.protection import Counted, Hit, Judged

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

REACHED, FAILED, ASKED, BLOCKED, AUDITED, WARNED, BYPASSED = 1, 2, 4, 8, 16, 32, 64
"""What is known of requests to one destination, as bits."""
STOPPED = BLOCKED | WARNED | BYPASSED
"""Verdicts that only a device in block mode gives."""

BY_CONNECT, BY_URI, BY_VERDICT, BY_JUDGED_NAME, BY_HOST, BY_SNI, BY_PROXY_LOG, BY_PROCESS = 1, 2, 3, 4, 5, 6, 7, 8
BY_SOCKS = -1
"""How a destination is known, best first (0 is none); from a judged TLS name on, a better one may still be under way. SOCKS and
CONNECT name the end of a tunnel alike: no connection has both."""

JUDGED_BUMP = 64
"""More than kernel records add to the evidence of a version."""
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
    exec_after: str = ""
    """The program that its process began to run right after it."""


class Guess(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A verdict that names only the process, and was joined to its connection (`streams.correlate.process_verdicts`)."""

    at: Micros
    host: str
    flags: int
    counted: bool
    """Alerts count the request by this verdict, as no other sensor judged it."""


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


class ObservedName(msgspec.Struct, array_like=True, gc=False):
    """A name spoken on the connection itself: inside its tunnel, or directly."""

    at: Micros
    name: str
    tls: bool
    outer: bool
    """TLS from the first byte: spoken to whoever was connected to, not inside a tunnel."""
    event_id: str
    judged: bool = False


class Departed(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What is remembered of a connection that left the state (`streams.correlate.departed`)."""

    started: Micros
    """Start of its flow where a network sensor told it, else of the endpoint's record, else its first evidence."""
    ended: Micros
    """0 where no sensor told its end."""
    flow_ids: tuple[str, ...]
    """What network sensors call the flow, the first one's name first; empty where none reported it."""
    kernels: tuple[tuple[str, Micros], ...]
    """Endpoint sensors that reported it, each with the start by its clock, the best clock first."""
    from_flow: bool
    """Its rows are named after the flow, not after the endpoint's record."""
    kernel_name: Micros
    """The start that its rows are named after, where that is not the first of `kernels`."""
    row_name: str
    """What its destinations' rows are named after, where that is not the first of `flow_ids`."""
    told: tuple[int, ...]
    """Destinations whose rows left, as numbers (`streams.correlate.departed.told_as`)."""


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
    inner: list[ObservedName] = []
    destinations: list[Destination] = []
    judged: list[Judged] = []
    seen: list[int] = []
    hits: list[Hit] = []
    """Indicators that match a name spoken on it, or where it goes."""
    counted: dict[str, Counted] = {}
    """What alerts count of it, by finding."""
    looked_at: bool = False
    """Its way was looked at (`streams.alerts.egress_baseline`): that happens once."""
    logged: tuple[AccessLogEntry, ...] = ()
    """Lines of the proxy's own log."""
    row_name: str = ""
    """What its destinations' rows were named by before the sensor's name of the flow was known; "" where that is."""
    sensor_records: tuple[Kernel, ...] = ()
    """Records of several endpoint sensors, of which the kernel's is put together (`sensor_merge.py`); empty for one."""
    kernel_name: Micros = 0
    """The start that its identity was made from, where a better clock was heard of later."""
    flow_ids: tuple[str, ...] = ()
    """What further network sensors call the flow."""
    held: bool = False
    """It may be another sensor's view of a connection that is known: no rows until it settles."""
    run: Run | None = None
    """What was told of its process apart from the connection (`streams.correlate.processes`)."""
    guesses: tuple[Guess, ...] = ()
    """Verdicts of its process: they are the kernel's record's, whosever flow that turns out to be."""
    late: Departed | None = None
    """The connection that left the state and that this one is late evidence of: it has no connection row of its own."""

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
        self.sensor_records, other.sensor_records = other.sensor_records, self.sensor_records
        self.guesses, other.guesses = other.guesses, self.guesses
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
