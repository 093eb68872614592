"""What becomes of a listed request: nothing, a mark, or an end.

    off      there is no HTTP level: nothing is looked at
    audit    it goes on and is marked: a line `verdict` with the action `audited`
    block    it does not get through: `blocked`, and the line says how

    inline             the packet that would have completed the request was dropped before it left the machine, then the
                       connection was destroyed, so that the client fails at once
    socket_destroyed   the connection was destroyed when the request was seen on its way. The proxy may have got the request;
                       the client gets no answer

Inline is taken where it can be had. What is seen on its way although it is listed has passed it by (no room, rules taken
away, another mode a moment ago), so its connection is destroyed. Where that fails, nothing was blocked, and the line says
`audited`. A line `mode` tells of the mode in force, at the start and whenever it changes; where nothing could be blocked,
that is `audit`, whatever was asked for.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from producers.sensor.diag import FiveTuple
from producers.sensor.heads import NO_METHOD
from producers.sensor.listed import Listed
from producers.sensor.rules import ProxyAddress
from schemas.clock import MICROS, iso_micros
from schemas.events import Action, Micros, ProtectionMode
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
UNREADABLE = "proxies may read the request in several ways, or it is none (block_unreadable)"
"""Title of a verdict on a request that is not listed."""
_SYN = 0x02


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


Segment = TypeVar("Segment", bound=Packet)
Taken = TypeVar("Taken", bound=Packet, contravariant=True)
Emit = Callable[[bytes], None]


class _Cause(NamedTuple):
    """Why a request is judged."""

    host: str
    """The listed one; "" where the request cannot be read."""
    port: int
    title: str


class Level(Protocol[Taken]):
    """The HTTP level: segments in, requests out."""

    def packet(self, at: Micros, packet: Taken, /) -> Iterable[Request]: ...


_ENCODE = msgspec.json.Encoder().encode


class Enforcer:
    """Decides about requests and tells of it. Asked by two threads: the one that sees packets, the one that holds them."""

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
        self._ended: OrderedDict[FiveTuple, Micros] = OrderedDict()
        """Connections, and until when what has their ports is taken for their rest."""
        self._marked: OrderedDict[str, str] = OrderedDict()
        self._stopped: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._lock = threading.Lock()
        self.audited = 0
        self.blocked_inline = 0
        self.destroyed = 0
        self.passed = 0
        """Listed requests that could not be stopped although they should."""

    def enters(self, mode: ProtectionMode, at: Micros) -> None:
        """From now on this mode is in force; told if it is another one."""
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
            self._tell(at, request, Action.AUDITED, cause)
            return False
        if self._end(at, request.flow) or self._is_ended(at, request.flow):
            self.destroyed += 1
            if request.kind != _TLS:
                self._stopped[request.flow_id, request.tx] = None
                if len(self._stopped) > ENDED_MAX:
                    self._stopped.popitem(last=False)
            self._tell(at, request, Action.BLOCKED, cause, SOCKET_DESTROYED)
            return True
        self.passed += 1
        if self.passed & (self.passed - 1) == 0:
            log.error("a request to be stopped went through", extra={"host": cause.host, "so_far": self.passed})
        self._tell(at, request, Action.AUDITED, cause)
        return True

    def is_told(self, request: Request) -> bool:
        """Its verdict carries the request: it needs no line of its own when it is given up, or answered all the same."""
        return request.kind != _TLS and (request.flow_id, request.tx) in self._stopped

    def stops(self, at: Micros, request: Request) -> bool:
        """A request is held; whether it is not to go on. Then its connection is ended."""
        if self.mode is not ProtectionMode.BLOCK or request.kind not in JUDGED:
            return False
        cause = self._cause(request, self.mode)
        if cause is None:
            return False
        if not self._end(at, request.flow) and not self._is_ended(at, request.flow):
            self._remember(request.flow, at + KEPT_MICROS)
        self.blocked_inline += 1
        self._tell(at, request, Action.BLOCKED, cause, INLINE)
        return True

    def held_back(self, at: Micros, requests: Iterable[Request]) -> None:
        """Report requests of a packet that is dropped for another request in it: the capture does not see them."""
        for one in requests:
            self._emit(
                _ENCODE(
                    Http(
                        self._device, iso_micros(at), *one.flow, one.flow_id, one.tx,
                        one.method, one.target, one.named, None, one.user_agent,
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
        return at < self._ended.get(flow, 0)

    def _end(self, at: Micros, flow: FiveTuple) -> bool:
        """Destroy the connection; whether it was done."""
        with self._lock:
            try:
                done = self._destroy(flow)
            except OSError as error:
                log.debug("socket not destroyed", extra={"error": str(error)})
                return False
        if done:
            self._remember(flow, at + DESTROYED_MICROS)
        return done

    def _remember(self, flow: FiveTuple, until: Micros) -> None:
        with self._lock:
            self._ended[flow] = until
            self._ended.move_to_end(flow)
            if len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)

    def _tell(self, at: Micros, request: Request, action: Action, cause: _Cause, how: str = "") -> None:
        self._emit(
            _ENCODE(
                Verdict(
                    self._device, iso_micros(at), *request.flow, request.flow_id, cause.host, action, request.tx,
                    request.method, request.target, cause.port, cause.title, how,
                )
            )
        )  # fmt: skip


def passes(
    enforcer: Enforcer,
    parse: Callable[[bytes], Segment | None],
    level: Level[Segment],
    now: Callable[[], Micros],
) -> Callable[[bytes], bool]:
    """The question of the gate: may this packet go on? What is no TCP segment of ours may."""

    def may_pass(ip_bytes: bytes) -> bool:
        packet = parse(ip_bytes)
        if packet is None:
            return True
        at = now()
        if not enforcer.may_go_on(at, packet):
            return False
        flow = flow_of(packet)
        may, others = True, []
        for request in level.packet(at, packet):
            if request.flow != flow:
                # Of packets that went on before, while it was not whole.
                enforcer.saw(at, request)
            elif enforcer.stops(at, request):
                may = False
            elif request.kind == _REQUEST:
                others.append(request)
        if not may:
            enforcer.held_back(at, others)
        return may

    return may_pass


def flow_of(packet: Packet) -> FiveTuple:
    """Whose packet it is, when a client sent it."""
    return packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port
