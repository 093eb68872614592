"""The merged evidence of one TCP connection.

A `Connection` combines the endpoint record (`EndpointRecord`), the network sensor's flow and the requested destinations. Times
merge by minimum or maximum, flags by bitwise or. Pieces of evidence form a set, so a repeated piece changes nothing. The
result does not depend on the order of arrival. Rows (`streams.rows.network_events`) are functions of a `Connection`.
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
"""Record ids kept per destination and shown per row; the earliest ones are kept."""
DESTINATIONS_MAX = 256
"""Destinations kept per connection. Further ones are only counted, without a name."""
NAMES_MAX = 16
"""Observed names kept per connection. Further ones are ignored."""
VERDICTS_MAX = 256
"""Requests with a verdict kept per connection. Beyond it the oldest is evicted; a repeat of its verdict counts again."""
TUPLE_CONNECTIONS_MAX = 64
"""Connections kept per 5-tuple, because each event scans all connections of its 5-tuple. Beyond it the oldest is emitted and
evicted."""

REACHED, FAILED, ASKED, BLOCKED, AUDITED, WARNED, BYPASSED = 1, 2, 4, 8, 16, 32, 64
"""Bits for the results of the requests to one destination. A request with an open result sets `ASKED`."""
STOPPED = BLOCKED | WARNED | BYPASSED
"""Verdicts that only a device in block mode issues."""

BY_CONNECT, BY_URI, BY_VERDICT, BY_VERDICT_NAME, BY_HOST, BY_SNI, BY_PROXY_LOG, BY_PROCESS = 1, 2, 3, 4, 5, 6, 7, 8
BY_SOCKS = -1
"""The evidence that named a destination: a lower number is better evidence, 0 means none. For `BY_VERDICT_NAME` and higher
numbers, better evidence may still arrive. SOCKS and CONNECT both name the end of a tunnel; no connection has both."""

VERDICT_BUMP = 64
"""Pieces of evidence (`streams.assess.version`); more than the endpoint records of a connection can contribute."""
UNDECIDED, FROM_ENDPOINT, FROM_FLOW = 0, 1, 2
"""Source from which a connection's identity is derived. It is fixed when the first row is emitted."""


class EndpointRecord(msgspec.Struct, array_like=True, gc=False):
    """Record of a connection by the endpoint itself, or by several of its sensors merged."""

    started: Micros
    """Time of the attempt to connect."""
    established: Micros
    """Time at which the handshake was complete; 0 if unknown."""
    ended: Micros
    """Time of the end; 0 if not reported."""
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
    """Name of the sensor (`schemas.events.Sensor`). State that was written before this field existed gets it when it is
    restored (`streams.model.snapshot`)."""


class Guess(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Process verdict that was joined to a connection by process and time (`streams.correlate.process_verdicts`)."""

    at: Micros
    host: str
    flags: int
    """Bit of the verdict's action (`BLOCKED` and so on)."""
    counted: bool
    """Alerts count the request through this verdict. False if another verdict covers the same request."""


class Destination(msgspec.Struct, array_like=True, gc=False, eq=False):
    """Destination requested on a connection."""

    host: str
    port: int
    """0 if unknown."""
    by: int
    """The best evidence that named the destination (`BY_CONNECT` and so on)."""
    first: Micros
    """Time of the earliest request."""
    url: str
    """URL of the earliest request without the query, or `host:port`."""
    tunnel: bool = False
    """True for the end of a CONNECT tunnel, False for a host of plain requests."""
    flags: int = 0
    """Bits for the results of the requests (`REACHED` and so on)."""
    evidence: int = 0
    """Number of pieces of evidence, for the version."""
    requests: int = 0
    """Number of requests that the first network sensor reported."""
    status: int = 0
    """HTTP status of the latest response; 0 for none."""
    status_at: Micros = 0
    """Time of that response."""
    event_ids: list[tuple[Micros, str]] = []
    """Time and id of the records of its requests, sorted by time; the first `EVENT_IDS_MAX`."""
    superseded: bool = False
    """A better name arrived, or the evidence that named the destination no longer fits the connection."""
    sent: int = 0
    """Version of the latest emitted row; 0 before the first."""
    moved: bool = False
    """The emitted row may be wrong, because halves of connections were exchanged: the next row needs a higher version."""
    bump: int = 0
    """Added to each version, so that it exceeds that of an emitted row with another connection's half."""
    hits: list[Hit] = []
    """Requests to the destination that match indicators."""
    others: dict[str, int] | None = None
    """Numbers of requests that further network sensors reported, by kind of sensor. They may be the same requests as those in
    `requests`. None with one sensor."""

    @property
    def asked(self) -> int:
        """Return the number of requests; with several sensors, the largest count."""
        return max(self.requests, *self.others.values()) if self.others else self.requests


class ObservedName(msgspec.Struct, array_like=True, gc=False):
    """Name (SNI or Host header) observed on the connection itself: inside its tunnel, or outside of a tunnel."""

    at: Micros
    name: str
    tls: bool
    outer: bool
    """The connection is TLS from its first byte: the client sent the name to the remote end, not into a tunnel."""
    event_id: str
    has_verdict: bool = False
    """A verdict contains the name."""


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
    """The identity of the rows is derived from the flow, not from the endpoint record."""
    identity_start: Micros
    """The start from which the identity of the rows is derived, if it differs from the start in the first of `endpoints`;
    else 0."""
    row_name: str
    """The flow name from which the identity of the destination rows is derived, if it differs from the first of `flow_ids`;
    else ""."""
    emitted: tuple[int, ...]
    """Destinations with emitted rows, as numbers (`streams.correlate.departed.emitted_as`)."""
    flow_kinds: tuple[str, ...] = ()
    """Kinds (`Sensor.flow_id_kind`) of `flow_ids`, in the same order."""


class Connection(msgspec.Struct, array_like=True, gc=False, eq=False):
    """TCP connection with its merged evidence."""

    endpoint: EndpointRecord | None = None
    flow_id: str = ""
    """The first network sensor's id of the flow."""
    flow_started: Micros = 0
    flow_ended: Micros = 0
    """`flow_started` and `flow_ended`: start and end of the flow as network sensors reported them; 0 if unknown."""
    bytes_sent: int = 0
    bytes_received: int = 0
    """`bytes_sent` and `bytes_received`: the largest counts in the network sensors' flow summaries."""
    answered: bool = False
    """A flow summary reports that the remote end answered the handshake."""
    midstream: bool = False
    """A network sensor did not observe the beginning of the flow."""
    tls: bool = False
    """A flow summary reports TLS from the first byte."""
    summarised: int = 0
    """Number of distinct flow summaries."""
    first: Micros = 0
    """Time of the network sensors' earliest evidence; 0 without any."""
    last: Micros = 0
    """Time on the device's clock at which the latest evidence arrived: records that belong to late evidence may follow it."""
    connect: bool = False
    """A CONNECT or SOCKS request was observed, with a usable target or without one."""
    asked: bool = False
    """The connection carried a request that only a proxy receives."""
    unreadable: int = 0
    """Number of requests that add no named destination: they name none, or exceed `DESTINATIONS_MAX`."""
    name_flags: int = 0
    """Bits of verdicts that apply to the connection's tunnel or to an observed name, not to a named destination."""
    moved: bool = False
    """The emitted row may be wrong, because halves of connections were exchanged: the next row needs a higher version."""
    bump: int = 0
    """Added to each version, so that it exceeds that of an emitted row with another connection's half."""
    identity: int = UNDECIDED
    """Source of the connection's identity: `UNDECIDED`, `FROM_ENDPOINT` or `FROM_FLOW`."""
    decided: bool = False
    """The waiting time is over. Later evidence still replaces the rows."""
    sent: int = 0
    """Version of the latest emitted connection row; 0 before the first."""
    booked: Entry = Entry("")
    """The entry of `Count.RESOLVED` or `Count.UNRESOLVED` that includes the connection; "" while it waits."""
    due: int = 0
    """The second at which the connection's timer fires."""
    number: int = 0
    """Position of the 5-tuple in the order in which the device's 5-tuples were first seen."""
    verdict_bump: int = 0
    """Pieces of evidence added to the versions of verdict rows, in steps of `VERDICT_BUMP`."""
    tunnel_rows: list[int] = []
    """Versions of the latest emitted rows of tunnels with a verdict, in the order of their CONNECT requests."""
    names: list[ObservedName] = []
    destinations: list[Destination] = []
    verdicts: list[RequestVerdict] = []
    seen: list[int] = []
    """Numbers of the latest `EVIDENCE_MAX` pieces of evidence (`streams.model.evidence.evidence_key`)."""
    hits: list[Hit] = []
    """Requests to an observed name or to the remote end that match indicators."""
    counted: dict[str, Counted] = {}
    """The connection's contributions to alerts, by name of the finding."""
    baseline_checked: bool = False
    """The route was checked against the egress baseline (`streams.alerts.egress_baseline`). The check runs once."""
    log_entries: tuple[AccessLogEntry, ...] = ()
    """Access-log entries of the proxy that were joined to the connection."""
    row_name: str = ""
    """The flow name from which the identity of the destination rows is derived, if rows were emitted before the sensor's flow
    id was known; "" if the flow id is used."""
    sensor_records: tuple[EndpointRecord, ...] = ()
    """Records of several endpoint sensors, from which `endpoint` is merged (`sensor_merge.py`); empty with one sensor."""
    identity_start: Micros = 0
    """The start from which the identity was derived, if a sensor with a better clock reported another start later; else 0."""
    flow_ids: tuple[str, ...] = ()
    """Ids that further network sensors gave the flow."""
    held: bool = False
    """The flow may be another sensor's view of a known connection. No rows are emitted until this is decided."""
    run: Run | None = None
    """The process of the connection as process records describe it (`streams.correlate.processes`); None if none fits."""
    guesses: tuple[Guess, ...] = ()
    """Process verdicts that were joined to the connection. They belong to the endpoint record and move with it to another
    flow."""
    late: Departed | None = None
    """The departed connection that this evidence belongs to. A late connection has no connection row of its own."""
    flow_kinds: tuple[str, ...] = ()
    """Kinds (`Sensor.flow_id_kind`) of `flow_id` and of each of `flow_ids`, in this order; empty without network evidence."""

    @property
    def flow_kind(self) -> str:
        """Return the kind of `flow_id`; "" without an id."""
        return self.flow_kinds[0] if self.flow_kinds else ""

    def add_flows(self, flow_ids: tuple[str, ...], kinds: tuple[str, ...]) -> None:
        """Add the ids that further sensors gave the flow, with their kinds; `flow_ids` stays sorted."""
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
        """Return whether any row of the connection, of its destinations or of its verdicts was emitted."""
        return self.sent > 0 or any(d.sent for d in self.destinations) or any(verdict.sent for verdict in self.verdicts)

    @property
    def started(self) -> Micros:
        """Return the start: by the endpoint record, else by the flow, else the time of the earliest evidence.

        An endpoint record gives the time at which the handshake was complete or, if unknown, the time of the attempt.
        """
        if self.endpoint is not None:
            return self.endpoint.established or self.endpoint.started
        return self.flow_started or self.first

    @property
    def ended(self) -> Micros:
        """Return the time of the end; 0 if no sensor reported it."""
        endpoint_ended = self.endpoint.ended if self.endpoint is not None else 0
        return endpoint_ended or self.flow_ended

    def swap_flow(self, other: Connection) -> None:
        """Exchange the network sensors' evidence with another connection; endpoint record and identity stay."""
        for field in FLOW_FIELDS:
            mine, theirs = getattr(self, field), getattr(other, field)
            setattr(self, field, theirs)
            setattr(other, field, mine)
        self.was_another()
        other.was_another()

    def swap_endpoint(self, other: Connection) -> None:
        """Exchange the endpoint records with another connection; reset an identity that was derived from one."""
        self.endpoint, other.endpoint = other.endpoint, self.endpoint
        self.sensor_records, other.sensor_records = other.sensor_records, self.sensor_records
        self.guesses, other.guesses = other.guesses, self.guesses
        self.identity_start, other.identity_start = 0, 0
        for connection in (self, other):
            if connection.identity == FROM_ENDPOINT:
                connection.identity, connection.sent = UNDECIDED, 0
            connection.was_another()

    def was_another(self) -> None:
        """Mark emitted rows as wrong, because the connection got another half, so that the next rows get a higher version."""
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
