"""Derive requests and their responses from the TCP segments of connections to proxies. Pure, bounded, safe against any bytes.

A client's bytes are put in order. The heads of requests are read, and a TLS client hello after CONNECT or in place of HTTP.
Bodies are skipped by their length and never stored. Of a proxy's bytes only a status at the start of a segment is read; the
kernel's filter passes no others. The status belongs to the one request that waits for a response. If two wait (pipelining, or a
response that was not seen), the assignment is unknown, and no further status of that connection is reported.

After a gap, and on a connection older than the sensor, reading resumes at a segment that begins with a whole request line, or
in a tunnel with a client hello. The id of a connection is derived from its endpoints and first sequence number, so that another
observer of its packets derives the same id.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from producers.sensor.errors import Errors
from producers.sensor.http.client_hello import Hello
from producers.sensor.http.heads import Request, Urls, foreign, status_of
from producers.sensor.http.packets import ACK, FIN, RST, SYN, Packet
from producers.sensor.http.reader import Faults, Reader
from producers.sensor.http.request_lines import FlowKey, HttpEvent, Kind
from producers.sensor.http.segments import Segments
from producers.sensor.http.socks import Socks, is_granted
from producers.sensor.kernel.nft_rules import ProxyAddress
from schemas.address import authority
from schemas.events import Micros

FLOWS_MAX = 65_536
"""Maximum number of followed connections. Beyond it the least recently active one is evicted."""
BYTES_MAX = 64 * 1024 * 1024
"""Maximum size of incomplete heads and early segments of all connections. Beyond it the least recently active connection loses
its bytes: a client that holds many heads open takes no room from the others."""
ANSWER_MICROS = 5_000_000
"""How long to wait for a response. The request is then reported without status; the correlator waits 8 s for the report."""
WAITING_MAX = 65_536
"""Maximum number of requests that wait for a response. Beyond it the oldest is reported without status."""
GAP_MICROS = 1_000_000
"""How long to wait for the missing bytes before an early segment."""
LINGER_MICROS = 2_000_000
"""How long an ended connection is remembered, because of retransmitted segments."""
OVER_MAX = FLOWS_MAX
"""Maximum number of remembered ended connections. Beyond it the oldest is evicted."""
LOOK_MICROS = 200_000
_SEQUENCE = 1 << 32


@dataclass(slots=True, eq=False)
class _Flow:
    key: FlowKey
    id: str
    segments: Segments
    reader: Reader
    from_begin: bool
    started: Micros
    """Time of its SYN; 0 if not seen."""
    acked: int = 0
    """The client's acknowledgement number in the packet in which the unread bytes begin."""
    in_pieces: bool = False
    """Whether the bytes being read began in an earlier packet."""
    waiting: HttpEvent | None = None
    """The request that waits for its response."""
    owed: bool = False
    """Whether a response is due, even if no request waits for it any more."""
    tx: int = 0
    paired: bool = True
    """Whether responses can be assigned to requests; once False, it stays False."""
    answer_seq: int | None = None
    """Sequence number of the last response."""
    kept: int = 0
    """Bytes of this connection that are included in `HttpLevel.kept_bytes`."""
    is_over: bool = False


class HttpLevel:
    """Convert packets to HTTP events; count what cannot be followed."""

    def __init__(
        self, ports: Iterable[int], addresses: Collection[ProxyAddress] = (), *, urls: Urls = Urls.PATH
    ) -> None:
        """Follow connections to these ports. If `addresses` is not empty, follow connections to these addresses instead.

        `addresses` may change later: each packet is compared with its current content.
        """
        self._ports, self._addresses = frozenset(ports), addresses
        self._urls = urls
        self._flows: OrderedDict[FlowKey, _Flow] = OrderedDict()
        self._waiting: deque[tuple[Micros, _Flow, HttpEvent]] = deque()
        self._over: deque[tuple[Micros, _Flow]] = deque()
        self._early: dict[_Flow, None] = {}
        self._keeping: dict[_Flow, None] = {}
        """Connections with stored bytes, the least recently active first."""
        self._look_at = 0
        self.kept_bytes = 0
        """Size of incomplete heads and early segments."""
        self.requests = 0
        self.answers = 0
        self.names = 0
        self.gaps = 0
        """Missing ranges in clients' bytes."""
        self.faults = Faults()
        self.errors = Errors("the rest of a connection to a proxy")
        self.no_room = 0
        """Connections whose bytes were dropped because of `BYTES_MAX`."""
        self.forgotten = 0
        """Connections evicted because of `FLOWS_MAX`."""

    @property
    def flows(self) -> int:
        """Return the number of followed connections."""
        return len(self._flows)

    def packet(self, at: Micros, packet: Packet) -> list[HttpEvent]:
        """Process one packet of either direction; return its events, and those that are due by `at`."""
        events: list[HttpEvent] = []
        if at >= self._look_at:
            events += self.advance(at)
        if self._is_proxy(packet.dst_ip, packet.dst_port):
            self._from_client(at, packet, events)
        elif self._is_proxy(packet.src_ip, packet.src_port):
            self._from_proxy(at, packet, events)
        return events

    def begin(self, at: Micros, packet: Packet) -> list[HttpEvent]:
        """Announce that the next packet has the first bytes of its connection, whose SYN was not passed in."""
        events: list[HttpEvent] = []
        key = FlowKey(packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port)
        is_syn = bool(packet.flags & SYN)
        self._begin(at, key, (packet.seq + is_syn) % _SEQUENCE, events, from_begin=True, is_syn=is_syn)
        return events

    def single(self, at: Micros, packet: Packet, *, is_first: bool) -> list[HttpEvent]:
        """Process a packet with a request to a proxy that is not followed: no other packet of its connection is seen.

        A packet that is not the first with payload may be part of an upload; its exchange then has no destination.
        """
        events: list[HttpEvent] = []
        key = FlowKey(packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port)
        if key in self._flows:
            return events
        is_syn = bool(packet.flags & SYN)
        seq = (packet.seq + is_syn) % _SEQUENCE
        flow = self._begin(at, key, seq, events, from_begin=is_first, is_syn=is_syn)
        if is_first:
            self._take(at, flow, seq, packet, events)
            self._greeted_only(at, flow, events)
            for request in flow.reader.cut_short():
                self._report(at, flow, request, events)
        else:
            self._report(at, flow, foreign(packet.payload), events)
        self._end(at, flow, events)
        return events if is_first else [one for one in events if one.kind is not Kind.REQUEST]

    def advance(self, at: Micros) -> list[HttpEvent]:
        """Advance the time; return the events whose wait is over."""
        events: list[HttpEvent] = []
        self._look_at = at + LOOK_MICROS
        for flow in [flow for flow in self._early if flow.segments.early_since + GAP_MICROS <= at]:
            self._give_up(at, flow, events)
        while self._waiting and (self._waiting[0][0] + ANSWER_MICROS <= at or len(self._waiting) > WAITING_MAX):
            _, flow, request = self._waiting.popleft()
            if flow.waiting is request:
                self._unanswered(at, flow, events)
        while self._over and (self._over[0][0] + LINGER_MICROS <= at or len(self._over) > OVER_MAX):
            _, flow = self._over.popleft()
            if self._flows.get(flow.key) is flow:
                del self._flows[flow.key]
        return events

    def finish(self, at: Micros) -> list[HttpEvent]:
        """Handle the end of input; return the events that still wait for a response or an earlier segment."""
        events: list[HttpEvent] = []
        while self._early:
            self._give_up(at, next(iter(self._early)), events)
        for flow in self._flows.values():
            self._unanswered(at, flow, events)
            self._greeted_only(at, flow, events)
        return events

    def _is_proxy(self, ip: str, port: int) -> bool:
        return (ip, port) in self._addresses if self._addresses else port in self._ports

    # The client's side

    def _from_client(self, at: Micros, packet: Packet, events: list[HttpEvent]) -> None:
        key = FlowKey(packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port)
        flow = self._flows.get(key)
        seq, flags = packet.seq, packet.flags
        if flags & SYN and not flags & ACK:
            seq = (seq + 1) % _SEQUENCE
            if flow is None or flow.segments.first_seq != seq:
                flow = self._begin(at, key, seq, events, from_begin=True, is_syn=True)
        elif flow is None:
            if not packet.payload or flags & RST:
                return
            flow = self._begin(at, key, seq, events, from_begin=False)
        else:
            self._flows.move_to_end(key)
        if packet.payload and not flow.reader.is_closed:
            self._take(at, flow, seq, packet, events)
        if flags & RST:
            self._end(at, flow, events)

    def _begin(
        self, at: Micros, key: FlowKey, seq: int, events: list[HttpEvent], *, from_begin: bool, is_syn: bool = False
    ) -> _Flow:
        before = self._flows.pop(key, None)
        if before is not None:
            self._end(at, before, events)
        reader = Reader(self._urls, self.faults, from_begin=from_begin)
        flow = _Flow(key, _flow_id(key, seq), Segments(seq), reader, from_begin, at if is_syn else 0)
        self._flows[key] = flow
        if len(self._flows) > FLOWS_MAX:
            _, oldest = self._flows.popitem(last=False)
            self.forgotten += not oldest.is_over
            self._end(at, oldest, events)
        return flow

    def _end(self, at: Micros, flow: _Flow, events: list[HttpEvent]) -> None:
        if flow.is_over:
            return
        while flow in self._early:
            self._give_up(at, flow, events)
        self._unanswered(at, flow, events)
        self._greeted_only(at, flow, events)
        self._begun_only(at, flow, events)
        flow.is_over = True
        self._stop_reading(flow)
        self._keep(flow)
        self._over.append((at, flow))

    def _take(self, at: Micros, flow: _Flow, seq: int, packet: Packet, events: list[HttpEvent]) -> None:
        if not flow.segments.put(at, seq, packet.payload, packet.cut, packet.urgent):
            # Another connection between the same ends, whose beginning was missed.
            self.gaps += 1
            flow = self._begin(at, flow.key, seq, events, from_begin=False)
            flow.segments.put(at, seq, packet.payload, packet.cut, packet.urgent)
        segments = flow.segments
        flow.in_pieces = bool(flow.reader.kept_bytes) and not flow.reader.is_greeted
        if not flow.in_pieces:
            flow.acked = packet.ack
        self._read_on(at, flow, events)
        if segments.is_full:
            self._give_up(at, flow, events)
        self._keep(flow)
        while self.kept_bytes > BYTES_MAX:
            self._make_room()
        if segments.has_early:
            self._early[flow] = None
        else:
            self._early.pop(flow, None)

    def _make_room(self) -> None:
        self.no_room += 1
        flow = next(iter(self._keeping))
        flow.reader.lose()
        flow.segments.drop_early()
        self._early.pop(flow, None)
        self._keep(flow)

    def _give_up(self, at: Micros, flow: _Flow, events: list[HttpEvent]) -> None:
        """Stop waiting for a missing segment."""
        self.gaps += 1
        flow.reader.lose()
        self._unanswered(at, flow, events)
        flow.segments.skip_to_early()
        self._read_on(at, flow, events)
        self._keep(flow)
        if not flow.segments.has_early:
            self._early.pop(flow, None)

    def _read_on(self, at: Micros, flow: _Flow, events: list[HttpEvent]) -> None:
        with self.errors:
            for content, is_begin, missing in flow.segments.taken():
                for found in flow.reader.read(content, is_begin=is_begin):
                    self._report(at, flow, found, events)
                flow.segments.pass_over(flow.reader.beyond)
                if flow.reader.is_closed:
                    self._stop_reading(flow)
                elif missing and flow.segments.lacks(missing):
                    self.gaps += 1
                    for request in flow.reader.cut_short():
                        self._report(at, flow, request, events)
            return
        # After an error the connection is not read further, and cannot hold up the others.
        self._stop_reading(flow)

    def _keep(self, flow: _Flow) -> None:
        kept = flow.reader.kept_bytes + flow.segments.early_bytes
        if kept or flow.kept:
            self.kept_bytes += kept - flow.kept
            flow.kept = kept
            self._keeping.pop(flow, None)
            if kept:
                self._keeping[flow] = None

    def _stop_reading(self, flow: _Flow) -> None:
        flow.reader.close()
        flow.segments.drop_early()
        self._early.pop(flow, None)

    def _report(self, at: Micros, flow: _Flow, found: Request | Hello | Socks, events: list[HttpEvent]) -> None:
        if isinstance(found, Request):
            if flow.segments.urgents > 1:
                self.faults.unreadable += found.is_readable
                found = found.in_doubt()
            words = found.method, found.target, found.host, found.port, found.named, None, found.user_agent
            request = _event(Kind.REQUEST, at, flow, *words)
            self._asked(flow, request._replace(others=found.others, is_readable=found.is_readable), events)
        elif isinstance(found, Socks):
            self._asked(flow, _socks_event(at, flow, found), events)
        else:
            tunnel = flow.reader.tunnel
            port = tunnel[1] if tunnel else flow.key.proxy_port
            self.names += found.name != ""
            event = _event(Kind.TLS, at, flow, "", "", found.name, port)
            events.append(event._replace(tunnelled=tunnel is not None, encrypted_hello=found.encrypted))

    def _asked(self, flow: _Flow, request: HttpEvent, events: list[HttpEvent]) -> None:
        self.requests += 1
        flow.tx += 1
        events.append(request)
        self._unanswered(request.at, flow, events)
        flow.paired &= not flow.owed
        flow.owed = True
        if flow.paired:
            flow.waiting = request
            self._waiting.append((request.at, flow, request))
        else:
            events.append(request._replace(kind=Kind.EXCHANGE))

    def _greeted_only(self, at: Micros, flow: _Flow, events: list[HttpEvent]) -> None:
        """Report a connection that ended after a SOCKS greeting, which shows that its server is a proxy."""
        if flow.reader.is_greeted:
            flow.reader.close()
            self.requests += 1
            events.append(_socks_event(at, flow, Socks(5, "", 0, 0))._replace(kind=Kind.EXCHANGE))

    def _begun_only(self, at: Micros, flow: _Flow, events: list[HttpEvent]) -> None:
        """Report a connection to a proxy that ended before its first request was complete."""
        begun = flow.reader.begun()
        if begun is not None:
            found: list[HttpEvent] = []
            self._report(at, flow, begun, found)
            self._unanswered(at, flow, found)
            events += [one for one in found if one.kind is Kind.EXCHANGE]

    # The proxy's side

    def _from_proxy(self, at: Micros, packet: Packet, events: list[HttpEvent]) -> None:
        flow = self._flows.get(FlowKey(packet.dst_ip, packet.dst_port, packet.src_ip, packet.src_port))
        if flow is None:
            return
        if packet.payload:
            self._answered(at, flow, packet, events)
        if packet.flags & (FIN | RST):
            # No response follows. If the client still sends bytes in a tunnel, their destination was reported before.
            self._end(at, flow, events)

    def _answered(self, at: Micros, flow: _Flow, packet: Packet, events: list[HttpEvent]) -> None:
        if flow.waiting is not None and flow.waiting.socks:
            self._granted(at, flow, flow.waiting, packet, events)
            return
        status = status_of(packet.payload)
        if status is None or (100 <= status < 200 and status != 101):
            return
        if flow.answer_seq == packet.seq:
            return
        flow.answer_seq = packet.seq
        request, flow.waiting, flow.owed = flow.waiting, None, False
        if request is None:
            return
        self.answers += 1
        events.append(request._replace(kind=Kind.EXCHANGE, at=max(at, request.at), status=status))
        if status == 101:
            self._stop_reading(flow)
        elif request.method == "CONNECT" and status >= 300:
            flow.reader.refuse()

    def _granted(self, at: Micros, flow: _Flow, request: HttpEvent, packet: Packet, events: list[HttpEvent]) -> None:
        granted = is_granted(packet.payload, request.socks)
        if granted is None:
            return
        flow.waiting, flow.owed = None, False
        self.answers += 1
        events.append(request._replace(kind=Kind.EXCHANGE, at=max(at, request.at), granted=granted))
        if not granted:
            self._stop_reading(flow)

    @staticmethod
    def _unanswered(at: Micros, flow: _Flow, events: list[HttpEvent]) -> None:
        if flow.waiting is not None:
            events.append(flow.waiting._replace(kind=Kind.EXCHANGE, at=max(at, flow.waiting.at)))
            flow.waiting = None


def _socks_event(at: Micros, flow: _Flow, asked: Socks) -> HttpEvent:
    target = authority(asked.host, asked.port) if asked.host else ""
    return _event(Kind.REQUEST, at, flow, "CONNECT", target, asked.host, asked.port)._replace(socks=asked.version)


def _event(
    kind: Kind, at: Micros, flow: _Flow, method: str, target: str, host: str, port: int,
    named: str = "", status: int | None = None, user_agent: str = "",
) -> HttpEvent:  # fmt: skip
    return HttpEvent(
        kind, at, flow.key, flow.id, flow.tx, method, target, host, port, named, status, user_agent,
        acked=flow.acked, from_begin=flow.from_begin, in_pieces=flow.in_pieces, started=flow.started,
    )  # fmt: skip


def _flow_id(key: FlowKey, seq: int) -> str:
    words = f"{key.client_ip} {key.client_port} {key.proxy_ip} {key.proxy_port} {seq}"
    return f"u-{blake2b(words.encode('ascii'), digest_size=8).hexdigest()}"
