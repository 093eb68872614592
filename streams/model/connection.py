"""The merged evidence of one TCP connection.

A `Connection` combines the endpoint record (`EndpointRecord`), the network sensor's flow and the requested destinations. Times
merge by minimum and maximum, flags by bitwise or, evidence by set. The result does not depend on the order of arrival, and
repeated evidence changes nothing. Rows (`streams.rows.network_events`) are functions of a `Connection`.
"""

from __future__ import annotations

import msgspec

from schemas.events import Micros, Process
from streams.model.access_log import AccessLogEntry
from streams.model.counters import Entry
from streams.model.process_table import Run
from streams.model.protection import Counted, Hit, RequestVerdict

EVIDENCE_MAX = 256
"""Pieces of evidence kept per connection to detect repeats. Beyond it the oldest is evicted; its repeat counts again."""
EVENT_IDS_MAX = 16
DESTINATIONS_MAX = 256
"""Destinations kept per connection. Further ones are only counted, without a name."""
NAMES_MAX = 16
"""Observed names kept per connection. Further ones are ignored."""
VERDICTS_MAX = 256
"""Requests with a verdict kept per connection. Beyond it the oldest, already reported one is evicted; its repeat counts again."""
TUPLE_CONNECTIONS_MAX = 64
"""Connections kept per 5-tuple, as each event of a 5-tuple scans all of them. Beyond it the oldest is emitted and evicted."""

REACHED, FAILED, ASKED, BLOCKED, AUDITED, WARNED, BYPASSED = 1, 2, 4, 8, 16, 32, 64
"""Bits that describe the requests to one destination."""
STOPPED = BLOCKED | WARNED | BYPASSED
"""Verdicts that only a device in block mode issues."""

BY_CONNECT, BY_URI, BY_VERDICT, BY_VERDICT_NAME, BY_HOST, BY_SNI, BY_PROXY_LOG, BY_PROCESS = 1, 2, 3, 4, 5, 6, 7, 8
BY_SOCKS = -1
"""The evidence that named a destination, best first; 0 is none. From `BY_VERDICT_NAME` on, better evidence may still arrive.
SOCKS and CONNECT both name the end of a tunnel; no connection has both."""

VERDICT_BUMP = 64
"""Pieces of evidence (`streams.assess.version`) that exceed what endpoint records can add."""
UNDECIDED, FROM_ENDPOINT, FROM_FLOW = 0, 1, 2
"""The source of a connection's identity, fixed when its first row is emitted."""


class EndpointRecord(msgspec.Struct, array_like=True, gc=False):
    """Endpoint record of a connection."""

    started: Micros
    """Time of the attempt to connect."""
    established: Micros
    """Time at which the handshake was complete; 0 if unknown."""
    ended: Micros
    """0 if not reported."""
    failed: bool
    """The handshake failed."""
    process: Process
    event_id: str
    bytes_sent: int = -1
    """Payload bytes; -1 if unknown."""
    bytes_received: int = -1
    exec_after: str = ""
    """The program that the process executed right after it opened the connection."""
    sensor: str = ""
    """Name of the sensor (`schemas.events.Sensor`); state from before this field existed is completed when it is restored."""


class Guess(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Process verdict that was joined to its connection (`streams.correlate.process_verdicts`)."""

    at: Micros
    host: str
    flags: int
    counted: bool
    """Alerts count the request by this verdict, because no other sensor reported one."""


class Destination(msgspec.Struct, array_like=True, gc=False, eq=False):
    """Destination requested on a connection."""

    host: str
    port: int
    """0 if unknown."""
    by: int
    """The best evidence that named it (`BY_CONNECT` and so on)."""
    first: Micros
    """Time of the earliest request."""
    url: str
    """URL without its query of the earliest request, or `host:port`."""
    tunnel: bool = False
    """True for the end of a CONNECT tunnel, False for a host of plain requests."""
    flags: int = 0
    """Bits of its requests (`REACHED` and so on)."""
    evidence: int = 0
    """Number of pieces of evidence, for the version."""
    requests: int = 0
    """Number of requests that the first network sensor reported."""
    status: int = 0
    """HTTP status of the latest response; 0 for none."""
    status_at: Micros = 0
    event_ids: list[tuple[Micros, str]] = []
    """Time and id of its records, sorted; the first `EVENT_IDS_MAX`."""
    superseded: bool = False
    """A better name arrived, or the evidence that named it no longer fits."""
    sent: int = 0
    """Version of the emitted row; 0 before the first."""
    moved: bool = False
    """The emitted row is wrong: the next one needs a higher version."""
    bump: int = 0
    """Added to the version once an emitted row turned out to contain another connection's half."""
    hits: list[Hit] = []
    others: dict[str, int] | None = None
    """Request counts of further network sensors, by kind of sensor; they may be the same requests. None with one sensor."""

    @property
    def asked(self) -> int:
        """Return the number of requests; with several sensors, the largest count."""
        return max(self.requests, *self.others.values()) if self.others else self.requests


class ObservedName(msgspec.Struct, array_like=True, gc=False):
    """Name observed on the connection itself: inside its tunnel or on a direct connection."""

    at: Micros
    name: str
    tls: bool
    outer: bool
    """TLS from the first byte: the name is addressed to the remote end, not sent inside a tunnel."""
    event_id: str
    has_verdict: bool = False
    """A verdict names it."""


class Departed(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Tombstone of a connection that left the state (`streams.correlate.departed`)."""

    started: Micros
    """Start of the flow if a network sensor reported it, else of the endpoint record, else the first evidence."""
    ended: Micros
    """0 if no sensor reported the end."""
    flow_ids: tuple[str, ...]
    """Network sensors' ids of the flow, the first sensor's first; empty if none reported it."""
    endpoints: tuple[tuple[str, Micros], ...]
    """Endpoint sensors that reported the connection, each with the start by its own clock; the best clock comes first."""
    from_flow: bool
    """The rows' identity comes from the flow, not from the endpoint record."""
    identity_start: Micros
    """The start that the rows' identity rests on, if it is not the first of `endpoints`."""
    row_name: str
    """The name that the destination rows' identity rests on, if it is not the first of `flow_ids`."""
    emitted: tuple[int, ...]
    """Destinations with emitted rows, as numbers (`streams.correlate.departed.emitted_as`)."""
    flow_kinds: tuple[str, ...] = ()
    """Kinds of `flow_ids`, in the same order."""


class Connection(msgspec.Struct, array_like=True, gc=False, eq=False):
    """TCP connection with its merged evidence."""

    endpoint: EndpointRecord | None = None
    flow_id: str = ""
    """The first network sensor's id of the flow."""
    flow_started: Micros = 0
    flow_ended: Micros = 0
    """`flow_started` and `flow_ended`: start and end as network sensors reported them; 0 if unknown."""
    bytes_sent: int = 0
    bytes_received: int = 0
    """`bytes_sent` and `bytes_received`: by the network sensors' flow summaries."""
    answered: bool = False
    """The remote end answered the handshake."""
    midstream: bool = False
    """A network sensor did not observe the beginning."""
    tls: bool = False
    """TLS from the first byte."""
    summarised: int = 0
    """Distinct flow summaries merged."""
    first: Micros = 0
    """Time of the network sensor's earliest evidence."""
    last: Micros = 0
    """Time of the latest evidence. Late evidence counts with the device's clock, so that related records may follow."""
    connect: bool = False
    """A CONNECT request was observed, readable or not."""
    asked: bool = False
    """The connection carried a request that only a proxy receives."""
    unreadable: int = 0
    """Number of requests that name no destination."""
    name_flags: int = 0
    """Bits of verdicts on the observed names."""
    moved: bool = False
    """The emitted row is wrong: the next one needs a higher version."""
    bump: int = 0
    """Added to the version once an emitted row turned out to contain another connection's half."""
    identity: int = UNDECIDED
    """`UNDECIDED`, `FROM_ENDPOINT` or `FROM_FLOW`."""
    decided: bool = False
    """The waiting time is over. Later evidence still replaces the rows."""
    sent: int = 0
    """Version of the emitted connection row; 0 before the first."""
    booked: Entry = Entry("")
    """The counter that includes the connection: `Count.RESOLVED` or `Count.UNRESOLVED`; "" while it waits."""
    due: int = 0
    """The second at which the connection's timer fires."""
    number: int = 0
    """Position of the 5-tuple in the order in which the device's 5-tuples were first seen."""
    verdict_bump: int = 0
    """Pieces of evidence added to the versions of verdict rows, in steps of `VERDICT_BUMP`."""
    tunnel_rows: list[int] = []
    """Emitted versions of the rows of tunnels with a verdict, in the order of their CONNECT."""
    names: list[ObservedName] = []
    destinations: list[Destination] = []
    verdicts: list[RequestVerdict] = []
    seen: list[int] = []
    """Numbers of the pieces of evidence so far (`streams.model.evidence.evidence_key`)."""
    hits: list[Hit] = []
    """Indicators that match an observed name or the remote end."""
    counted: dict[str, Counted] = {}
    """The contribution to alerts, by finding."""
    baseline_checked: bool = False
    """The route was checked against the egress baseline (`streams.alerts.egress_baseline`). The check runs once."""
    log_entries: tuple[AccessLogEntry, ...] = ()
    """Access-log entries of the proxy."""
    row_name: str = ""
    """The name used for the destination rows' identity before the sensor's flow id was known; "" if the flow id is used."""
    sensor_records: tuple[EndpointRecord, ...] = ()
    """Records of several endpoint sensors, from which `endpoint` is merged (`sensor_merge.py`); empty with one sensor."""
    identity_start: Micros = 0
    """The start that the identity was made from, if a better clock was reported later."""
    flow_ids: tuple[str, ...] = ()
    """Further network sensors' ids of the flow."""
    held: bool = False
    """The connection may be another sensor's view of a known one. No rows are emitted until it is decided."""
    run: Run | None = None
    """The process record that was reported apart from the connection (`streams.correlate.processes`)."""
    guesses: tuple[Guess, ...] = ()
    """Joined process verdicts. They belong to the endpoint record and move with it to another flow."""
    late: Departed | None = None
    """The departed connection that this one is late evidence of. A late connection has no connection row of its own."""
    flow_kinds: tuple[str, ...] = ()
    """Kinds (`Sensor.flow_id_kind`) of `flow_id` and of each of `flow_ids`, in this order; empty before network evidence."""

    @property
    def flow_kind(self) -> str:
        """Return the kind of `flow_id`; "" without an id."""
        return self.flow_kinds[0] if self.flow_kinds else ""

    def add_flows(self, flow_ids: tuple[str, ...], kinds: tuple[str, ...]) -> None:
        """Add further sensors' ids of the flow with their kinds, sorted."""
        more = sorted({*zip(self.flow_ids, self.flow_kinds[1:], strict=True), *zip(flow_ids, kinds, strict=True)})
        self.flow_ids = tuple([flow_id for flow_id, _ in more])
        self.flow_kinds = (self.flow_kind, *(kind for _, kind in more))

    @property
    def live(self) -> list[Destination]:
        """Return a new list of the destinations that are not superseded."""
        destinations = self.destinations
        if len(destinations) == 1 and not destinations[0].superseded:
            return destinations.copy()
        return [d for d in destinations if not d.superseded]

    @property
    def rows_left(self) -> bool:
        """Return whether rows or verdicts of the connection were emitted."""
        return self.sent > 0 or any(d.sent for d in self.destinations) or any(verdict.sent for verdict in self.verdicts)

    @property
    def started(self) -> Micros:
        """Return the time of establishment, or the best approximation from the evidence."""
        if self.endpoint is not None:
            return self.endpoint.established or self.endpoint.started
        return self.flow_started or self.first

    @property
    def ended(self) -> Micros:
        """Return the time of the end; 0 if no sensor reported it."""
        endpoint_ended = self.endpoint.ended if self.endpoint is not None else 0
        return endpoint_ended or self.flow_ended

    def swap_flow(self, other: Connection) -> None:
        """Exchange the network sensor's evidence with another connection; the endpoint record and the identity stay."""
        for field in FLOW_FIELDS:
            mine, theirs = getattr(self, field), getattr(other, field)
            setattr(self, field, theirs)
            setattr(other, field, mine)
        self.was_another()
        other.was_another()

    def swap_endpoint(self, other: Connection) -> None:
        """Exchange the endpoint records; reset an identity that was made from one."""
        self.endpoint, other.endpoint = other.endpoint, self.endpoint
        self.sensor_records, other.sensor_records = other.sensor_records, self.sensor_records
        self.guesses, other.guesses = other.guesses, self.guesses
        self.identity_start, other.identity_start = 0, 0
        for connection in (self, other):
            if connection.identity == FROM_ENDPOINT:
                connection.identity, connection.sent = UNDECIDED, 0
            connection.was_another()

    def was_another(self) -> None:
        """Mark emitted rows as wrong, so that the next ones get a higher version."""
        self.moved = True
        for destination in self.destinations:
            destination.moved = True
        for counted in self.counted.values():
            counted.stamp = 0
        if self.tunnel_rows or any(verdict.sent for verdict in self.verdicts):
            self.verdict_bump += VERDICT_BUMP

    def is_new(self, evidence: int) -> bool:
        """Record a piece of evidence; return False for a repeat."""
        if evidence in self.seen:
            return False
        if len(self.seen) >= EVIDENCE_MAX:
            del self.seen[0]
        self.seen.append(evidence)
        return True


FLOW_FIELDS = (
    *("flow_id", "flow_started", "flow_ended", "bytes_sent", "bytes_received", "answered", "midstream", "tls", "first"),
    *("summarised", "connect", "asked", "unreadable", "name_flags", "names", "destinations", "verdicts", "seen"),
    *("verdict_bump", "tunnel_rows", "hits", "counted", "baseline_checked", "log_entries", "row_name"),
    *("flow_ids", "flow_kinds", "held"),
)
TupleConnections = list[Connection]
