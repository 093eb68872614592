"""What clients ask the proxies for, told from their TCP segments: pure, bounded, and safe against any bytes.

Of a client's bytes, put in order, the heads of requests are read and what follows CONNECT, or comes in place of HTTP, up to the
end of a TLS client hello; bodies are passed over by their length, and never kept. Of a proxy's bytes only the status is read,
where a segment begins with one: the kernel's filter lets no others through. It answers the one request that waits for an answer.
Where two wait (pipelining, or an answer that was not seen) nothing tells whose it is, and no status of that connection is told
any more.

After a gap, and on a connection that is older than the sensor, only a segment that begins with a whole request line is read, or
within a tunnel with a client hello. Each connection has a name of its own, made of its ends and its first sequence number, so
that who else sees its packets gives it the same.
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
from producers.sensor.http.request_lines import FlowKey, Kind, Said
from producers.sensor.http.segments import Segments
from producers.sensor.http.socks import Socks, is_granted
from producers.sensor.kernel.nft_rules import ProxyAddress
from schemas.address import authority
from schemas.events import Micros

FLOWS_MAX = 65_536
"""Connections followed; beyond it the one that was quiet the longest is forgotten."""
BYTES_MAX = 64 * 1024 * 1024
"""Of all connections: heads that are not whole yet, and segments that came early. Beyond it the connection that was quiet for the
longest time loses its bytes: a client that holds many heads open takes no room from the others."""
ANSWER_MICROS = 5_000_000
"""A request that has no answer by then is told without: the correlator waits 8 s for it."""
WAITING_MAX = 65_536
"""Requests that wait for their answer; beyond it the oldest is told without."""
GAP_MICROS = 1_000_000
"""So long the segment before one that came early is waited for."""
LINGER_MICROS = 2_000_000
"""So long a connection that is over is remembered, for segments that come again."""
OVER_MAX = FLOWS_MAX
"""Connections that are over and remembered; beyond it the oldest is forgotten."""
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
    """When its SYN was sent; 0 where it was not seen."""
    acked: int = 0
    """What the client acknowledged with the packet in which begins what is not read yet."""
    in_pieces: bool = False
    """What is read began in an earlier packet."""
    waiting: Said | None = None
    """The request that is told once it is answered."""
    owed: bool = False
    """An answer is due, even if nothing waits for it any more."""
    tx: int = 0
    paired: bool = True
    """Answers can be told apart."""
    answer_seq: int | None = None
    """Where the last answer began."""
    kept: int = 0
    """Bytes."""
    is_over: bool = False


class HttpLevel:
    """Packets in, what is said out. Counts what it cannot follow."""

    def __init__(
        self, ports: Iterable[int], addresses: Collection[ProxyAddress] = (), *, urls: Urls = Urls.PATH
    ) -> None:
        """Proxies listen on these ports, where addresses are given only on those, as they are at the time of a packet."""
        self._ports, self._addresses = frozenset(ports), addresses
        self._urls = urls
        self._flows: OrderedDict[FlowKey, _Flow] = OrderedDict()
        self._waiting: deque[tuple[Micros, _Flow, Said]] = deque()
        self._over: deque[tuple[Micros, _Flow]] = deque()
        self._early: dict[_Flow, None] = {}
        self._keeping: dict[_Flow, None] = {}
        """Connections that keep bytes, the one that was quiet the longest first."""
        self._look_at = 0
        self.kept_bytes = 0
        """Of heads that are not whole yet, and of segments that came early."""
        self.requests = 0
        self.answers = 0
        self.names = 0
        self.gaps = 0
        """Places in a client's bytes that never came."""
        self.faults = Faults()
        self.errors = Errors("the rest of a connection to a proxy")
        self.no_room = 0
        """Connections whose bytes were let go as all connections' were too many."""
        self.forgotten = 0
        """Connections left as there were too many."""

    @property
    def flows(self) -> int:
        """Connections followed now."""
        return len(self._flows)

    def packet(self, at: Micros, packet: Packet) -> list[Said]:
        """Take one packet, of either direction; gives what is said with it, and what time has brought about."""
        said: list[Said] = []
        if at >= self._look_at:
            said += self.advance(at)
        if self._is_proxy(packet.dst_ip, packet.dst_port):
            self._from_client(at, packet, said)
        elif self._is_proxy(packet.src_ip, packet.src_port):
            self._from_proxy(at, packet, said)
        return said

    def begin(self, at: Micros, packet: Packet) -> list[Said]:
        """The packet, which is given next, has the first bytes of its connection, whose SYN was not given."""
        said: list[Said] = []
        key = FlowKey(packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port)
        is_syn = bool(packet.flags & SYN)
        self._begin(at, key, (packet.seq + is_syn) % _SEQUENCE, said, from_begin=True, is_syn=is_syn)
        return said

    def single(self, at: Micros, packet: Packet, *, is_first: bool) -> list[Said]:
        """Take a packet that asks a proxy which is not followed: nothing else of its connection is seen.

        Where it is not the first packet with payload, it may as well be part of an upload, so the exchange has no destination.
        """
        said: list[Said] = []
        key = FlowKey(packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port)
        if key in self._flows:
            return said
        is_syn = bool(packet.flags & SYN)
        seq = (packet.seq + is_syn) % _SEQUENCE
        flow = self._begin(at, key, seq, said, from_begin=is_first, is_syn=is_syn)
        if is_first:
            self._take(at, flow, seq, packet, said)
            self._greeted_only(at, flow, said)
            for request in flow.reader.cut_short():
                self._say(at, flow, request, said)
        else:
            self._say(at, flow, foreign(packet.payload), said)
        self._end(at, flow, said)
        return said if is_first else [one for one in said if one.kind is not Kind.REQUEST]

    def advance(self, at: Micros) -> list[Said]:
        """It is that late: what waits no longer."""
        said: list[Said] = []
        self._look_at = at + LOOK_MICROS
        for flow in [flow for flow in self._early if flow.segments.early_since + GAP_MICROS <= at]:
            self._give_up(at, flow, said)
        while self._waiting and (self._waiting[0][0] + ANSWER_MICROS <= at or len(self._waiting) > WAITING_MAX):
            _, flow, request = self._waiting.popleft()
            if flow.waiting is request:
                self._unanswered(at, flow, said)
        while self._over and (self._over[0][0] + LINGER_MICROS <= at or len(self._over) > OVER_MAX):
            _, flow = self._over.popleft()
            if self._flows.get(flow.key) is flow:
                del self._flows[flow.key]
        return said

    def finish(self, at: Micros) -> list[Said]:
        """Nothing more comes: what still waits, for an answer or for a segment before it."""
        said: list[Said] = []
        while self._early:
            self._give_up(at, next(iter(self._early)), said)
        for flow in self._flows.values():
            self._unanswered(at, flow, said)
            self._greeted_only(at, flow, said)
        return said

    def _is_proxy(self, ip: str, port: int) -> bool:
        return (ip, port) in self._addresses if self._addresses else port in self._ports

    # The client's side

    def _from_client(self, at: Micros, packet: Packet, said: list[Said]) -> None:
        key = FlowKey(packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port)
        flow = self._flows.get(key)
        seq, flags = packet.seq, packet.flags
        if flags & SYN and not flags & ACK:
            seq = (seq + 1) % _SEQUENCE
            if flow is None or flow.segments.first_seq != seq:
                flow = self._begin(at, key, seq, said, from_begin=True, is_syn=True)
        elif flow is None:
            if not packet.payload or flags & RST:
                return
            flow = self._begin(at, key, seq, said, from_begin=False)
        else:
            self._flows.move_to_end(key)
        if packet.payload and not flow.reader.is_closed:
            self._take(at, flow, seq, packet, said)
        if flags & RST:
            self._end(at, flow, said)

    def _begin(
        self, at: Micros, key: FlowKey, seq: int, said: list[Said], *, from_begin: bool, is_syn: bool = False
    ) -> _Flow:
        before = self._flows.pop(key, None)
        if before is not None:
            self._end(at, before, said)
        reader = Reader(self._urls, self.faults, from_begin=from_begin)
        flow = _Flow(key, _flow_id(key, seq), Segments(seq), reader, from_begin, at if is_syn else 0)
        self._flows[key] = flow
        if len(self._flows) > FLOWS_MAX:
            _, oldest = self._flows.popitem(last=False)
            self.forgotten += not oldest.is_over
            self._end(at, oldest, said)
        return flow

    def _end(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        if flow.is_over:
            return
        while flow in self._early:
            self._give_up(at, flow, said)
        self._unanswered(at, flow, said)
        self._greeted_only(at, flow, said)
        self._begun_only(at, flow, said)
        flow.is_over = True
        self._close_eyes(flow)
        self._keep(flow)
        self._over.append((at, flow))

    def _take(self, at: Micros, flow: _Flow, seq: int, packet: Packet, said: list[Said]) -> None:
        if not flow.segments.put(at, seq, packet.payload, packet.cut, packet.urgent):
            # Another connection between the same ends, whose beginning was missed.
            self.gaps += 1
            flow = self._begin(at, flow.key, seq, said, from_begin=False)
            flow.segments.put(at, seq, packet.payload, packet.cut, packet.urgent)
        segments = flow.segments
        flow.in_pieces = bool(flow.reader.kept_bytes) and not flow.reader.is_greeted
        if not flow.in_pieces:
            flow.acked = packet.ack
        self._read_on(at, flow, said)
        if segments.is_full:
            self._give_up(at, flow, said)
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

    def _give_up(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        """What is missing will not come."""
        self.gaps += 1
        flow.reader.lose()
        self._unanswered(at, flow, said)
        flow.segments.skip_to_early()
        self._read_on(at, flow, said)
        self._keep(flow)
        if not flow.segments.has_early:
            self._early.pop(flow, None)

    def _read_on(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        with self.errors:
            for content, is_begin, missing in flow.segments.taken():
                for found in flow.reader.read(content, is_begin=is_begin):
                    self._say(at, flow, found, said)
                flow.segments.pass_over(flow.reader.beyond)
                if flow.reader.is_closed:
                    self._close_eyes(flow)
                elif missing and flow.segments.lacks(missing):
                    self.gaps += 1
                    for request in flow.reader.cut_short():
                        self._say(at, flow, request, said)
            return
        # What an error left behind is not read any further, and cannot hold up the other connections.
        self._close_eyes(flow)

    def _keep(self, flow: _Flow) -> None:
        kept = flow.reader.kept_bytes + flow.segments.early_bytes
        if kept or flow.kept:
            self.kept_bytes += kept - flow.kept
            flow.kept = kept
            self._keeping.pop(flow, None)
            if kept:
                self._keeping[flow] = None

    def _close_eyes(self, flow: _Flow) -> None:
        flow.reader.close()
        flow.segments.drop_early()
        self._early.pop(flow, None)

    def _say(self, at: Micros, flow: _Flow, found: Request | Hello | Socks, said: list[Said]) -> None:
        if isinstance(found, Request):
            if flow.segments.urgents > 1:
                self.faults.unreadable += found.is_readable
                found = found.in_doubt()
            self._asked(
                flow,
                Said(
                    Kind.REQUEST,
                    at,
                    flow.key,
                    flow.id,
                    flow.tx,
                    found.method,
                    found.target,
                    found.host,
                    found.port,
                    found.named,
                    None,
                    found.user_agent,
                    acked=flow.acked,
                    from_begin=flow.from_begin,
                    in_pieces=flow.in_pieces,
                    started=flow.started,
                    others=found.others,
                    is_readable=found.is_readable,
                ),
                said,
            )
        elif isinstance(found, Socks):
            self._asked(flow, _socks_said(at, flow, found), said)
        else:
            tunnel = flow.reader.tunnel
            port = tunnel[1] if tunnel else flow.key.proxy_port
            self.names += found.name != ""
            said.append(
                Said(
                    Kind.TLS,
                    at,
                    flow.key,
                    flow.id,
                    flow.tx,
                    "",
                    "",
                    found.name,
                    port,
                    tunnelled=tunnel is not None,
                    encrypted_hello=found.encrypted,
                    acked=flow.acked,
                    from_begin=flow.from_begin,
                    in_pieces=flow.in_pieces,
                    started=flow.started,
                )
            )

    def _asked(self, flow: _Flow, request: Said, said: list[Said]) -> None:
        self.requests += 1
        flow.tx += 1
        said.append(request)
        self._unanswered(request.at, flow, said)
        flow.paired &= not flow.owed
        flow.owed = True
        if flow.paired:
            flow.waiting = request
            self._waiting.append((request.at, flow, request))
        else:
            said.append(request._replace(kind=Kind.EXCHANGE))

    def _greeted_only(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        """A SOCKS server that was greeted and not asked is one all the same."""
        if flow.reader.is_greeted:
            flow.reader.close()
            self.requests += 1
            said.append(_socks_said(at, flow, Socks(5, "", 0, 0))._replace(kind=Kind.EXCHANGE))

    def _begun_only(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        """Report a connection that ended within its first request line: it went to a proxy all the same."""
        begun = flow.reader.begun()
        if begun is not None:
            found: list[Said] = []
            self._say(at, flow, begun, found)
            self._unanswered(at, flow, found)
            said += [one for one in found if one.kind is Kind.EXCHANGE]

    # The proxy's side

    def _from_proxy(self, at: Micros, packet: Packet, said: list[Said]) -> None:
        flow = self._flows.get(FlowKey(packet.dst_ip, packet.dst_port, packet.src_ip, packet.src_port))
        if flow is None:
            return
        if packet.payload:
            self._answered(at, flow, packet, said)
        if packet.flags & (FIN | RST):
            # It says no more; what the client still sends in a tunnel was named before.
            self._end(at, flow, said)

    def _answered(self, at: Micros, flow: _Flow, packet: Packet, said: list[Said]) -> None:
        if flow.waiting is not None and flow.waiting.socks:
            self._granted(at, flow, flow.waiting, packet, said)
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
        said.append(request._replace(kind=Kind.EXCHANGE, at=max(at, request.at), status=status))
        if status == 101:
            self._close_eyes(flow)
        elif request.method == "CONNECT" and status >= 300:
            flow.reader.refuse()

    def _granted(self, at: Micros, flow: _Flow, request: Said, packet: Packet, said: list[Said]) -> None:
        granted = is_granted(packet.payload, request.socks)
        if granted is None:
            return
        flow.waiting, flow.owed = None, False
        self.answers += 1
        said.append(request._replace(kind=Kind.EXCHANGE, at=max(at, request.at), granted=granted))
        if not granted:
            self._close_eyes(flow)

    @staticmethod
    def _unanswered(at: Micros, flow: _Flow, said: list[Said]) -> None:
        if flow.waiting is not None:
            said.append(flow.waiting._replace(kind=Kind.EXCHANGE, at=max(at, flow.waiting.at)))
            flow.waiting = None


def _socks_said(at: Micros, flow: _Flow, asked: Socks) -> Said:
    target = authority(asked.host, asked.port) if asked.host else ""
    ends = (flow.key, flow.id, flow.tx)
    said = Said(Kind.REQUEST, at, *ends, "CONNECT", target, asked.host, asked.port, socks=asked.version)
    return said._replace(acked=flow.acked, from_begin=flow.from_begin, in_pieces=flow.in_pieces, started=flow.started)


def _flow_id(key: FlowKey, seq: int) -> str:
    words = f"{key.client_ip} {key.client_port} {key.proxy_ip} {key.proxy_port} {seq}"
    return f"u-{blake2b(words.encode('ascii'), digest_size=8).hexdigest()}"
