"""What becomes of a listed request: nothing, a mark, or an end.

    off      there is no HTTP level: nothing is looked at
    audit    it goes on and is marked: a line `verdict` with the action `audited`
    block    it does not get through: `blocked`, and the line says how

    inline             the packet that would have completed the request was dropped before it left the machine, then the
                       connection was destroyed, so that the client fails at once
    socket_destroyed   the connection was destroyed when the request was seen on its way. The proxy may have got the request;
                       the client gets no answer

Inline is used where it is available. A listed request that is seen on its way has passed it by (no room, rules taken away,
another mode a moment ago, a proxy that was not known), so its connection is destroyed.

`blocked` takes proof. The kernel ends a destroyed connection with a reset, which it makes while it holds the socket, and which
acknowledges all bytes that the socket had received by then. If that is no more than the client had acknowledged when it began
to send the request, the client has not received a byte since. To read the socket's counters (sock_diag) before destroying it
proves less: bytes may arrive in between. Without proof the line says `audited` and why:

    answer_received    bytes of the proxy, or its end, had arrived when the socket was destroyed
    socket_gone        there was no such socket: it was closed before, or belongs to another network namespace
    not_destroyed      the kernel refused
    unproven           no reset was seen: lost in the packet ring, or the process had closed the socket

A line `mode` tells of the mode in force, at the start and whenever it changes; where nothing could be blocked, that is `audit`,
whatever was asked for.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from producers.sensor.enforce.deny_list import Listed
from producers.sensor.http.heads import NO_METHOD
from producers.sensor.kernel.nft_rules import ProxyAddress
from producers.sensor.kernel.sock_diag import FiveTuple
from schemas.clock import MICROS, iso_micros
from schemas.events import UNNAMED_TARGET, Action, Micros, ProtectionMode
from schemas.sensor_line import Http, Mode, Verdict

log = logging.getLogger(__name__)

ENDED_MAX = 65_536
"""Connections that are remembered as ended by us; of more the oldest is forgotten, whose rest then is judged by itself."""
DESTROYED_MICROS = 2 * MICROS
"""So long packets of a destroyed connection may still come by; later ones with its ports are of another."""
KEPT_MICROS = 1_000 * MICROS
"""So long TCP sends again what was dropped, where the connection could not be destroyed (net.ipv4.tcp_retries2)."""
_REQUEST, _TLS = "request", "tls"
MARKED_MAX = 65_536
"""Tunnels that are remembered as marked; of more the oldest's name is told as well."""
JUDGED = frozenset({_REQUEST, _TLS})
"""Of what the HTTP level tells: who is asked for, in a request or in a client hello. The answer comes too late."""
INLINE, SOCKET_DESTROYED = "inline", "socket_destroyed"
ANSWER_RECEIVED, SOCKET_GONE, NOT_DESTROYED, UNPROVEN = "answer_received", "socket_gone", "not_destroyed", "unproven"
PROOF_MICROS = 2 * MICROS
"""So long the reset of a destroyed connection is waited for."""
AWAITED_MAX = 64
"""Requests of one destroyed connection that wait for its reset; further ones are unproven."""
UNREADABLE = "proxies may read the request in several ways, or it is none (block_unreadable)"
"""Title of a verdict on a request that is not listed."""
_SYN, _RST, _ACK = 0x02, 0x04, 0x10


class Request(Protocol):
    """What the HTTP level tells; the flow is the client's side first."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> Micros: ...
    @property
    def flow(self) -> FiveTuple: ...
    @property
    def flow_id(self) -> str: ...
    @property
    def tx(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def acked(self) -> int: ...
    @property
    def from_begin(self) -> bool: ...
    @property
    def in_pieces(self) -> bool: ...
    @property
    def started(self) -> Micros: ...
    @property
    def named(self) -> str: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def others(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def is_readable(self) -> bool: ...


class Packet(Protocol):
    """A TCP segment."""

    @property
    def src_ip(self) -> str: ...
    @property
    def src_port(self) -> int: ...
    @property
    def dst_ip(self) -> str: ...
    @property
    def dst_port(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def ack(self) -> int: ...


Segment = TypeVar("Segment", bound=Packet)
Taken = TypeVar("Taken", bound=Packet, contravariant=True)
Asked = TypeVar("Asked", bound=Request)
Given = TypeVar("Given", bound=Request, covariant=True)
Emit = Callable[[bytes], None]


class _Cause(NamedTuple):
    """Why a request is judged."""

    host: str
    """The listed one; "" where the request cannot be read."""
    port: int
    title: str


class Level(Protocol[Taken, Given]):
    """The HTTP level: segments in, requests out."""

    def packet(self, at: Micros, packet: Taken, /) -> Iterable[Given]: ...


_ENCODE = msgspec.json.Encoder().encode


class _End(NamedTuple):
    """A connection that was ended by us."""

    until: Micros
    """What has its ports is taken for its rest until then."""
    is_destroyed: bool
    """Otherwise only its packets are dropped."""
    reset: int | None = None
    """What its reset acknowledged, once that was seen."""


@dataclass(slots=True)
class _Awaited:
    """A request whose connection was destroyed, until the reset proves that it was blocked."""

    request: Request
    cause: _Cause
    how: str
    due: Micros = 0
    """Given at the first look."""
    line: bytes = b""
    """The request's own line, if it came meanwhile."""


class Enforcer:
    """Decides about requests and reports it. Called by two threads: the one that sees packets, the one that holds them."""

    def __init__(
        self,
        device: str,
        listed: Callable[[], Listed],
        destroy: Callable[[FiveTuple], bool],
        emit: Emit,
        *,
        block_unreadable: bool = False,
        named: Container[ProxyAddress] = (),
    ) -> None:
        """`block_unreadable`: stop what cannot be read as well; what is no request at all only at proxies that are `named`.

        Any process may have an address learnt as a proxy, but not have other processes' connections to it stopped.
        """
        self._device, self._listed, self._destroy, self._emit = device, listed, destroy, emit
        self._block_unreadable, self._named = block_unreadable, named
        self.mode: ProtectionMode | None = None
        self._ended: OrderedDict[FiveTuple, _End] = OrderedDict()
        self._awaited: OrderedDict[FiveTuple, list[_Awaited]] = OrderedDict()
        self._marked: OrderedDict[str, str] = OrderedDict()
        self._stopped: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._lock = threading.Lock()
        self.audited = 0
        self.blocked_inline = 0
        self.destroyed = 0
        self.passed = 0
        """Listed requests that could not be stopped although they should, or not provably."""

    def enters(self, mode: ProtectionMode, at: Micros) -> None:
        """From now on this mode is in force; reported if it is another one."""
        before, self.mode = self.mode, mode
        if mode is not ProtectionMode.BLOCK:
            with self._lock:
                self._ended.clear()
        if before is not mode:
            self._emit(_ENCODE(Mode(self._device, iso_micros(at), mode, before)))

    def saw(self, at: Micros, request: Request) -> bool:
        """A request was seen on its way; whether one went by that should have been stopped."""
        mode = self.mode
        if mode is None or mode is ProtectionMode.OFF or request.kind not in JUDGED:
            return False
        cause = self._cause(request, mode)
        if cause is None:
            return False
        if mode is ProtectionMode.AUDIT:
            if self._is_marked(request):
                return False
            self.audited += 1
            self._tell(request, Action.AUDITED, cause)
            return False
        self._stop(at, request, cause, SOCKET_DESTROYED, is_held=False)
        return True

    def stops(self, at: Micros, request: Request) -> bool:
        """A request is held; whether it is not to go on. Then its connection is ended."""
        if self.mode is not ProtectionMode.BLOCK or request.kind not in JUDGED:
            return False
        cause = self._cause(request, self.mode)
        if cause is None:
            return False
        # Of a connection that is older than the queue this may be a copy: the first may have left.
        how = INLINE if request.from_begin else SOCKET_DESTROYED
        self._stop(at, request, cause, how, is_held=True)
        return True

    def keeps(self, request: Request, line: bytes) -> bool:
        """Whether a request's own line is not to be written: its verdict carries the request, or is not decided yet.

        In the latter case the line follows the verdict if the request was not blocked.
        """
        if request.kind == _TLS:
            return False
        with self._lock:
            for one in self._awaited.get(request.flow, ()):
                if (one.request.flow_id, one.request.tx) == (request.flow_id, request.tx):
                    one.line = line
                    return True
            return (request.flow_id, request.tx) in self._stopped

    def reset(self, packet: Packet) -> None:
        """A client's packet was seen: if it is the reset of a connection that was destroyed, it says what was received."""
        if packet.flags & (_RST | _ACK) != _RST | _ACK:
            return
        flow = flow_of(packet)
        with self._lock:
            end = self._ended.get(flow)
            if end is not None and end.reset is None:
                self._ended[flow] = end._replace(reset=packet.ack)
            awaited = self._awaited.pop(flow, [])
        for one in awaited:
            self._decide(one, packet.ack)

    def advance(self, now: Micros) -> None:
        """It is that late: requests whose connection's reset was not seen are unproven."""
        overdue: list[_Awaited] = []
        with self._lock:
            for flow, awaited in list(self._awaited.items()):
                for one in awaited:
                    one.due = one.due or now + PROOF_MICROS
                if awaited[-1].due <= now:
                    overdue += self._awaited.pop(flow)
        for one in overdue:
            self._decide(one, None)

    def finish(self) -> None:
        """Nothing more is seen."""
        with self._lock:
            left = [one for awaited in self._awaited.values() for one in awaited]
            self._awaited.clear()
        for one in left:
            self._decide(one, None)

    def held_back(self, requests: Iterable[Request]) -> None:
        """Report requests of a packet that is dropped for another request in it: the capture does not see them."""
        for one in requests:
            self._emit(
                _ENCODE(
                    Http(
                        self._device, iso_micros(one.at), *one.flow, one.flow_id, one.tx,
                        one.method, one.target, one.named, None, one.user_agent,
                        iso_micros(one.started) if one.started else "",
                    )
                )
            )  # fmt: skip

    def may_go_on(self, at: Micros, packet: Packet) -> bool:
        """Nothing more of a connection that was ended goes out, but what closes it; one that begins anew is another."""
        flow = flow_of(packet)
        if not self._is_ended(at, flow):
            return True
        if packet.flags & _SYN:
            with self._lock:
                self._ended.pop(flow, None)
            return True
        return not packet.payload

    def _cause(self, request: Request, mode: ProtectionMode) -> _Cause | None:
        """Why a request is to be marked or stopped; None where it is not."""
        listed = self._listed()
        for host, port in ((request.host, request.port), *request.others):
            entry = listed.find(host, port)
            if entry is not None:
                return _Cause(host, port, listed.title_of(entry))
        if request.is_readable or mode is not ProtectionMode.BLOCK or not self._block_unreadable:
            return None
        is_request = request.method != NO_METHOD
        return _Cause(request.host, request.port, UNREADABLE) if is_request or self._is_named(request.flow) else None

    def _is_named(self, flow: FiveTuple) -> bool:
        return flow[2:] in self._named or ("", flow[3]) in self._named

    def _is_marked(self, request: Request) -> bool:
        """A tunnel's name says again what its CONNECT said."""
        if request.kind == _TLS:
            return self._marked.get(request.flow_id) == request.host
        if request.method == "CONNECT":
            self._marked[request.flow_id] = request.host
            if len(self._marked) > MARKED_MAX:
                self._marked.popitem(last=False)
        return False

    def _is_ended(self, at: Micros, flow: FiveTuple) -> bool:
        end = self._ended.get(flow)
        return end is not None and at < end.until

    def _stop(self, at: Micros, request: Request, cause: _Cause, how: str, *, is_held: bool) -> None:
        """End the request's connection, and report it once the proof is there, or cannot come."""
        one, reset = _Awaited(request, cause, how), None
        with self._lock:
            why = self._end(at, request.flow)
            if not why:
                if self._awaits(one):
                    return
                reset = self._ended[request.flow].reset
            elif is_held:
                # TCP sends the packet again, and it is dropped each time.
                self._remember(request.flow, at + KEPT_MICROS, is_destroyed=False)
        if not why:
            self._decide(one, reset)
        elif how == INLINE and not request.in_pieces:
            # No byte of it left, so there is no answer to it.
            self.blocked_inline += 1
            self._tell(request, Action.BLOCKED, cause, how)
        else:
            self._pass(request, cause, why)

    def _end(self, at: Micros, flow: FiveTuple) -> str:
        """Destroy the connection, with the lock held, as its reset comes at once; why that could not be done, "" if it was."""
        why = SOCKET_GONE
        try:
            if self._destroy(flow):
                self._remember(flow, at + DESTROYED_MICROS, is_destroyed=True)
        except OSError as error:
            log.debug("socket not destroyed", extra={"error": str(error)})
            why = NOT_DESTROYED
        return "" if self._is_ended(at, flow) and self._ended[flow].is_destroyed else why

    def _awaits(self, one: _Awaited) -> bool:
        """Let it wait for the reset; False where that was seen already, or will not be waited for. With the lock held."""
        flow = one.request.flow
        awaited = self._awaited.setdefault(flow, [])
        if self._ended[flow].reset is not None or len(awaited) >= AWAITED_MAX or len(self._awaited) > ENDED_MAX:
            if not awaited:
                del self._awaited[flow]
            return False
        awaited.append(one)
        return True

    def _remember(self, flow: FiveTuple, until: Micros, *, is_destroyed: bool) -> None:
        """With the lock held."""
        self._ended[flow] = _End(until, is_destroyed)
        self._ended.move_to_end(flow)
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _decide(self, one: _Awaited, reset: int | None) -> None:
        """Report a request whose connection was destroyed: `reset` is what its reset acknowledged, None without one."""
        request = one.request
        if reset != request.acked:
            self._pass(request, one.cause, UNPROVEN if reset is None else ANSWER_RECEIVED)
            if one.line:
                self._emit(one.line)
            return
        if one.how == INLINE:
            self.blocked_inline += 1
        else:
            self.destroyed += 1
        if request.kind != _TLS:
            with self._lock:
                self._stopped[request.flow_id, request.tx] = None
                if len(self._stopped) > ENDED_MAX:
                    self._stopped.popitem(last=False)
        self._tell(request, Action.BLOCKED, one.cause, one.how)

    def _pass(self, request: Request, cause: _Cause, why: str) -> None:
        self.passed += 1
        if self.passed & (self.passed - 1) == 0:
            log.error(
                "a request was not provably stopped",
                extra={"host": cause.host, "why": why, "so_far": self.passed},
            )
        self._tell(request, Action.AUDITED, cause, why=why)

    def _tell(self, request: Request, action: Action, cause: _Cause, how: str = "", *, why: str = "") -> None:
        self._emit(
            _ENCODE(
                Verdict(
                    self._device, iso_micros(request.at), *request.flow, request.flow_id, cause.host, action, request.tx,
                    request.method, request.target if cause.host else UNNAMED_TARGET, cause.port, cause.title, how, why,
                    iso_micros(request.started) if request.started else "",
                )
            )
        )  # fmt: skip


def passes(
    enforcer: Enforcer,
    parse: Callable[[bytes], Segment | None],
    level: Level[Segment, Asked],
    now: Callable[[], Micros],
    is_proxied: Callable[[Asked], bool] = lambda _: True,
) -> Callable[[bytes], bool]:
    """The question of the gate: may this packet go on? What is no TCP segment of ours may.

    Where packets to others than proxies are held as well, `is_proxied` says whether a request was made to a proxy.
    """

    def may_pass(ip_bytes: bytes) -> bool:
        packet = parse(ip_bytes)
        if packet is None:
            return True
        enforcer.reset(packet)
        at = now()
        if not enforcer.may_go_on(at, packet):
            return False
        flow = flow_of(packet)
        may, others = True, []
        for request in level.packet(at, packet):
            if not is_proxied(request):
                continue
            if request.flow != flow:
                # Of packets that went on before, while it was not whole.
                enforcer.saw(at, request)
            elif enforcer.stops(at, request):
                may = False
            elif request.kind == _REQUEST:
                others.append(request)
        if not may:
            enforcer.held_back(others)
        return may

    return may_pass


def flow_of(packet: Packet) -> FiveTuple:
    """Whose packet it is, when a client sent it."""
    return packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port
