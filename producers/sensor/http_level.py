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
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b

from producers.sensor.heads import CHUNKED, FOUND_REQUEST, REQUEST_BEGINS, UNKNOWN, Request, Urls, request_of, status_of
from producers.sensor.hello import HANDSHAKE, HELLO_BEGINS, NotTls, hello_of
from producers.sensor.packets import ACK, FIN, RST, SYN, Packet
from producers.sensor.said import FlowKey, Kind, Said
from producers.sensor.segments import Segments
from schemas.events import Micros

FLOWS_MAX = 65_536
"""Connections followed; beyond it the one that was quiet the longest is forgotten."""
BYTES_MAX = 64 * 1024 * 1024
"""Of all connections: heads that are not whole yet, and segments that came early."""
HEAD_BYTES_MAX = 65_536
"""A longer head is not read; tickets of Kerberos take up to 48,000."""
LINE_BYTES_MAX = 16_384
CHUNK_LINE_BYTES_MAX = 1_024
ANSWER_MICROS = 5_000_000
"""A request that has no answer by then is told without: the correlator waits 8 s for it."""
WAITING_MAX = 65_536
"""Requests that wait for their answer; beyond it the oldest is told without."""
GAP_MICROS = 1_000_000
"""So long the segment before one that came early is waited for."""
LINGER_MICROS = 2_000_000
"""So long a connection that is over is remembered, for segments that come again."""
LOOK_MICROS = 200_000
_SEQUENCE = 1 << 32


class _State(Enum):
    FIRST = auto()
    """Nothing was said yet."""
    HEAD = auto()
    TUNNEL = auto()
    """Nothing was said in the tunnel yet."""
    HELLO = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    LOST = auto()
    """Whatever comes may be the middle of anything."""
    OPAQUE = auto()
    """Nothing of what comes can be read."""


_MAY_BE_TLS = frozenset({_State.FIRST, _State.TUNNEL})


@dataclass(slots=True, eq=False)
class _Flow:
    key: FlowKey
    id: str
    segments: Segments
    state: _State
    buffer: bytearray = field(default_factory=bytearray)
    searched: int = 0
    """So far there is no end of a head in the buffer."""
    waiting: Said | None = None
    """The request that is told once it is answered."""
    owed: bool = False
    """An answer is due, even if nothing waits for it any more."""
    tx: int = 0
    tunnel: tuple[str, int] | None = None
    """Whom the last CONNECT asked for, unless it was refused."""
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
        self, ports: Iterable[int], addresses: Collection[tuple[str, int]] = (), *, urls: Urls = Urls.PATH
    ) -> None:
        """Proxies listen on these ports, where addresses are given only on those."""
        self._ports, self._addresses = frozenset(ports), frozenset(addresses)
        self._urls = urls
        self._flows: OrderedDict[FlowKey, _Flow] = OrderedDict()
        self._waiting: deque[tuple[Micros, _Flow, Said]] = deque()
        self._over: deque[tuple[Micros, _Flow]] = deque()
        self._early: dict[_Flow, None] = {}
        self._look_at = 0
        self.kept_bytes = 0
        """Of heads that are not whole yet, and of segments that came early."""
        self.requests = 0
        self.answers = 0
        self.names = 0
        self.gaps = 0
        """Places in a client's bytes that never came."""
        self.unreadable = 0
        """Heads that are not well-formed, or can be read in two ways."""
        self.too_long = 0
        """Heads beyond their bound."""
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
        while self._over and self._over[0][0] + LINGER_MICROS <= at:
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
                flow = self._begin(at, key, seq, _State.FIRST, said)
        elif flow is None:
            if not packet.payload or flags & RST:
                return
            flow = self._begin(at, key, seq, _State.LOST, said)
        else:
            self._flows.move_to_end(key)
        if flow.is_over:
            return
        if packet.payload and flow.state is not _State.OPAQUE:
            self._take(at, flow, seq, packet, said)
        if flags & RST:
            self._end(at, flow, said)

    def _begin(self, at: Micros, key: FlowKey, seq: int, state: _State, said: list[Said]) -> _Flow:
        before = self._flows.pop(key, None)
        if before is not None:
            self._end(at, before, said)
        flow = _Flow(key, _flow_id(key, seq), Segments(seq), state)
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
        flow.is_over = True
        self._close_eyes(flow)
        self._keep(flow)
        self._over.append((at, flow))

    def _take(self, at: Micros, flow: _Flow, seq: int, packet: Packet, said: list[Said]) -> None:
        if not flow.segments.put(at, seq, packet.payload, packet.cut):
            # Another connection between the same ends, whose beginning was missed.
            self.gaps += 1
            flow = self._begin(at, flow.key, seq, _State.LOST, said)
            flow.segments.put(at, seq, packet.payload, packet.cut)
        segments = flow.segments
        self._read_on(at, flow, said)
        if segments.is_full:
            self._give_up(at, flow, said)
        self._keep(flow)
        if self.kept_bytes > BYTES_MAX:
            self.no_room += 1
            self._lose(flow)
            segments.drop_early()
            self._keep(flow)
        if segments.has_early:
            self._early[flow] = None
        else:
            self._early.pop(flow, None)

    def _give_up(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        """What is missing will not come."""
        self.gaps += 1
        self._lose(flow)
        self._unanswered(at, flow, said)
        flow.segments.skip_to_early()
        self._read_on(at, flow, said)
        self._keep(flow)
        if not flow.segments.has_early:
            self._early.pop(flow, None)

    def _lose(self, flow: _Flow) -> None:
        if flow.state is not _State.OPAQUE:
            self._set(flow, _State.LOST)

    def _read_on(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        for content, is_begin, missing in flow.segments.taken():
            self._read(at, flow, content, is_begin, said)
            if missing and flow.segments.lacks(missing):
                self.gaps += 1
                self._lose(flow)

    def _keep(self, flow: _Flow) -> None:
        kept = len(flow.buffer) + flow.segments.early_bytes
        self.kept_bytes += kept - flow.kept
        flow.kept = kept

    @staticmethod
    def _set(flow: _Flow, state: _State) -> None:
        flow.state, flow.searched = state, 0
        flow.buffer.clear()

    def _close_eyes(self, flow: _Flow) -> None:
        self._set(flow, _State.OPAQUE)
        flow.segments.drop_early()
        self._early.pop(flow, None)

    # What its bytes say

    def _read(self, at: Micros, flow: _Flow, content: bytes, is_begin: bool, said: list[Said]) -> None:
        """Read on in a connection."""
        rest: bytes | None = content
        while rest:
            if flow.state is _State.LOST and (not is_begin or not self._finds_begin(flow, rest)):
                return
            is_begin = False
            if flow.state in _MAY_BE_TLS and not flow.buffer and rest[0] == HANDSHAKE:
                flow.state = _State.HELLO
            if flow.state is _State.OPAQUE:
                return
            flow.buffer += rest
            if flow.state is _State.HELLO:
                self._read_hello(at, flow, said)
                return
            if flow.state in (_State.CHUNK, _State.CHUNK_END, _State.TRAILER):
                rest = self._read_chunk_line(flow)
            else:
                rest = self._read_head(at, flow, said)

    def _finds_begin(self, flow: _Flow, content: bytes) -> bool:
        if FOUND_REQUEST.match(content):
            flow.state = _State.HEAD
        elif flow.tunnel is not None and HELLO_BEGINS.match(content):
            flow.state = _State.HELLO
        else:
            return False
        return True

    def _read_hello(self, at: Micros, flow: _Flow, said: list[Said]) -> None:
        try:
            hello = hello_of(flow.buffer)
        except NotTls:
            self.unreadable += 1
            self._close_eyes(flow)
            return
        if hello is None:
            return
        self._close_eyes(flow)
        if hello.name:
            port = flow.tunnel[1] if flow.tunnel else flow.key.proxy_port
            self.names += 1
            said.append(
                Said(
                    Kind.TLS,
                    at,
                    flow.key,
                    flow.id,
                    flow.tx,
                    "",
                    "",
                    hello.name,
                    port,
                    tunnelled=flow.tunnel is not None,
                    encrypted_hello=hello.encrypted,
                )
            )

    def _read_head(self, at: Micros, flow: _Flow, said: list[Said]) -> bytes | None:
        buffer = flow.buffer
        while buffer.startswith((b"\r", b"\n")):  # RFC 9112 section 2.2: empty lines before a request
            del buffer[0]
        if not self._may_be_request(flow):
            return None
        end, after = _head_end(buffer, flow.searched)
        if end < 0:
            # Only once the request line is there, as it is looked at until then.
            flow.searched = max(0, len(buffer) - 3) if b"\n" in buffer else 0
            if len(buffer) > HEAD_BYTES_MAX:
                self.too_long += 1
                self._set(flow, _State.LOST)
            return None
        request = request_of(bytes(buffer[:end]), self._urls)
        rest = bytes(buffer[after:])
        if request is None:
            self.unreadable += 1
            self._set(flow, _State.LOST)
            return None
        self._asked(at, flow, request, said)
        return self._behind(flow, request, rest)

    def _may_be_request(self, flow: _Flow) -> bool:
        """What is there may be the beginning of a request; where it is not, the state says what follows."""
        buffer = flow.buffer
        if not buffer:
            return False
        if flow.searched or REQUEST_BEGINS.match(buffer, 0, LINE_BYTES_MAX):
            return True
        if buffer[:1].isupper() and b"\n" not in buffer:
            if len(buffer) < LINE_BYTES_MAX:
                return True
            self.too_long += 1
        if flow.state in _MAY_BE_TLS:
            self._close_eyes(flow)
        else:
            self.unreadable += 1
            self._set(flow, _State.LOST)
        return False

    def _asked(self, at: Micros, flow: _Flow, request: Request, said: list[Said]) -> None:
        self.requests += 1
        one = Said(
            Kind.REQUEST,
            at,
            flow.key,
            flow.id,
            flow.tx,
            request.method,
            request.target,
            request.host,
            request.port,
            request.named,
            None,
            request.user_agent,
        )
        flow.tx += 1
        said.append(one)
        self._unanswered(at, flow, said)
        flow.paired &= not flow.owed
        flow.owed = True
        if flow.paired:
            flow.waiting = one
            self._waiting.append((at, flow, one))
        else:
            said.append(one._replace(kind=Kind.EXCHANGE))

    def _behind(self, flow: _Flow, request: Request, rest: bytes) -> bytes | None:
        """Pass over the body; gives what follows it as far as it is there."""
        if request.method == "CONNECT":
            flow.tunnel = request.host, request.port
            self._set(flow, _State.TUNNEL)
            return rest
        if request.body == UNKNOWN:
            self._set(flow, _State.LOST)
            return None
        if request.body == CHUNKED:
            self._set(flow, _State.CHUNK)
            return rest
        self._set(flow, _State.HEAD)
        return self._pass(flow, request.body, rest)

    @staticmethod
    def _pass(flow: _Flow, length: int, rest: bytes) -> bytes:
        if length > len(rest):
            flow.segments.pass_over(length - len(rest))
        return rest[length:]

    def _read_chunk_line(self, flow: _Flow) -> bytes | None:
        """RFC 9112 section 7.1."""
        buffer = flow.buffer
        end = buffer.find(b"\n")
        if end < 0:
            if len(buffer) > (HEAD_BYTES_MAX if flow.state is _State.TRAILER else CHUNK_LINE_BYTES_MAX):
                self.too_long += 1
                self._set(flow, _State.LOST)
            return None
        line, rest = bytes(buffer[:end]).removesuffix(b"\r"), bytes(buffer[end + 1 :])
        if flow.state is _State.TRAILER:
            self._set(flow, _State.TRAILER if line else _State.HEAD)
            return rest
        if flow.state is _State.CHUNK_END:
            self._set(flow, _State.LOST if line else _State.CHUNK)
            return None if line else rest
        size = _chunk_bytes(line)
        if size < 0:
            self.unreadable += 1
            self._set(flow, _State.LOST)
            return None
        self._set(flow, _State.CHUNK_END if size else _State.TRAILER)
        return self._pass(flow, size, rest)

    # The proxy's side

    def _from_proxy(self, at: Micros, packet: Packet, said: list[Said]) -> None:
        flow = self._flows.get(FlowKey(packet.dst_ip, packet.dst_port, packet.src_ip, packet.src_port))
        if flow is None or flow.is_over:
            return
        if packet.payload:
            self._answered(at, flow, packet, said)
        if packet.flags & (FIN | RST):
            # It says no more; what the client still sends in a tunnel was named before.
            self._end(at, flow, said)

    def _answered(self, at: Micros, flow: _Flow, packet: Packet, said: list[Said]) -> None:
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
        elif request.method == "CONNECT" and status >= 300 and flow.tunnel is not None:
            flow.tunnel = None
            if flow.state is _State.TUNNEL and not flow.buffer:
                self._set(flow, _State.HEAD)
            else:
                self._set(flow, _State.LOST)

    @staticmethod
    def _unanswered(at: Micros, flow: _Flow, said: list[Said]) -> None:
        if flow.waiting is not None:
            said.append(flow.waiting._replace(kind=Kind.EXCHANGE, at=max(at, flow.waiting.at)))
            flow.waiting = None


def _flow_id(key: FlowKey, seq: int) -> str:
    words = f"{key.client_ip} {key.client_port} {key.proxy_ip} {key.proxy_port} {seq}"
    return f"u-{blake2b(words.encode('ascii'), digest_size=8).hexdigest()}"


def _head_end(buffer: bytearray, begin: int) -> tuple[int, int]:
    """Where a head ends and where what follows begins; (-1, -1) while there is no empty line."""
    crlf = buffer.find(b"\r\n\r\n", begin)
    bare = buffer.find(b"\n\n", begin)
    if crlf >= 0 and (bare < 0 or crlf < bare):
        return crlf, crlf + 4
    return (bare, bare + 2) if bare >= 0 else (-1, -1)


def _chunk_bytes(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not 0 < len(digits) <= 15 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        return -1
    return int(digits, 16)
