"""The decision on listed requests, by mode: ignore, audit or block.

    off      the HTTP level does not run, and no request is inspected
    audit    the request proceeds and is reported: a line `verdict` with the action `audited`
    block    the request is stopped: action `blocked`, with the method in the line

    inline             the packet that would have completed the request was dropped before it left the machine; then the
                       connection was destroyed, so that the client fails at once
    socket_destroyed   the connection was destroyed when the capture saw the request. The proxy may have received the request;
                       the client receives no response

Inline is used where it is available. A listed request that reaches the capture has bypassed inline (no room in the queue, rules
removed, a recent mode change, an unknown proxy). Its connection is destroyed.

`blocked` requires proof. The kernel ends a destroyed connection with a reset. It creates the reset while it holds the socket,
and the reset acknowledges all bytes that the socket had received by then. If it acknowledges no more than the client had
acknowledged when it began to send the request, the client has received no byte since. Reading the socket's counters (sock_diag)
before destruction proves less, because bytes may arrive in between. Without proof the line has the action `audited` and a reason:

    answer_received    bytes of the proxy, or its FIN, had arrived when the socket was destroyed
    socket_gone        the socket did not exist: it was closed before, or belongs to another network namespace
    not_destroyed      the kernel refused
    unproven           no reset was seen: it was lost in the packet ring, or the process had closed the socket

A line `mode` reports the mode in effect, at the start and on each change. If the host cannot block, the reported mode is `audit`
even if `block` is configured.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from producers.sensor.enforce.deny_list import Listed
from producers.sensor.http.heads import NO_METHOD
from producers.sensor.http.packets import ACK, RST, SYN, Packet, parse_packet
from producers.sensor.http.request_lines import HttpEvent, Kind
from producers.sensor.kernel.nft_rules import ProxyAddress
from producers.sensor.kernel.sock_diag import FiveTuple
from schemas.clock import MICROS, iso_micros
from schemas.events import UNNAMED_TARGET, Action, Micros, ProtectionMode
from schemas.sensor_line import Http, Mode, Verdict

log = logging.getLogger(__name__)

ENDED_MAX = 65_536
"""Maximum number of remembered ended connections. Beyond it the oldest is evicted; its later packets get their own decision."""
DESTROYED_MICROS = 2 * MICROS
"""How long packets of a destroyed connection may still appear. Later packets with its ports belong to another connection."""
KEPT_MICROS = 1_000 * MICROS
"""How long TCP retransmits dropped packets of a connection that could not be destroyed (net.ipv4.tcp_retries2)."""
MARKED_MAX = 65_536
"""Maximum number of remembered audited tunnels. Beyond it the oldest is evicted; its TLS name is then reported as well."""
DECIDED_KINDS = frozenset({Kind.REQUEST, Kind.TLS})
"""The kinds of HTTP-level events that name a destination: requests and client hellos. A response comes too late."""
INLINE, SOCKET_DESTROYED = "inline", "socket_destroyed"
ANSWER_RECEIVED, SOCKET_GONE, NOT_DESTROYED, UNPROVEN = "answer_received", "socket_gone", "not_destroyed", "unproven"
PROOF_MICROS = 2 * MICROS
"""How long to wait for the reset of a destroyed connection."""
AWAITED_MAX = 64
"""Maximum number of requests per destroyed connection that wait for its reset. Further requests are unproven."""
UNREADABLE = "proxies may read the request in different ways, or it is not valid (block_unreadable)"
"""Title of a verdict on an unreadable request that is not listed."""

Emit = Callable[[bytes], None]


class _Cause(NamedTuple):
    """The reason for a verdict on a request."""

    host: str
    """The listed host. For an unreadable request that is not listed: its host, "" if unreadable."""
    port: int
    title: str


_ENCODE = msgspec.json.Encoder().encode


class _End(NamedTuple):
    """A connection that the sensor ended."""

    until: Micros
    """Until then packets with its ports belong to this connection."""
    is_destroyed: bool
    """False if it could not be destroyed, so that only its packets are dropped."""
    reset: int | None = None
    """The acknowledgement number of its reset; None before the reset is seen."""


@dataclass(slots=True)
class _Awaited:
    """A request of a destroyed connection, waiting for the reset that proves the block."""

    request: HttpEvent
    cause: _Cause
    how: str
    due: Micros = 0
    """The deadline, set by the first call of `advance`."""
    line: bytes = b""
    """The request's own line, if it arrives during the wait."""


class Enforcer:
    """The component that decides on requests and reports the decision. Two threads call it: capture thread and gate thread."""

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
        """Create an enforcer that reports events of `device` to `emit`.

        `block_unreadable` also stops unreadable requests. Bytes that are no request are stopped only on connections to `named`
        proxies: any process can cause an address to be learnt as a proxy, which must not stop other processes' connections to it.
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
        """Listed requests that should have been stopped but were not, or not provably."""

    def enters(self, mode: ProtectionMode, at: Micros) -> None:
        """Set the mode in effect, and report it if it differs from the previous one."""
        before, self.mode = self.mode, mode
        if mode is not ProtectionMode.BLOCK:
            with self._lock:
                self._ended.clear()
        if before is not mode:
            self._emit(_ENCODE(Mode(self._device, iso_micros(at), mode, before)))

    def saw(self, at: Micros, request: HttpEvent) -> bool:
        """Handle a request seen by the capture; return whether it was to be blocked and has therefore bypassed inline."""
        mode = self.mode
        if mode is None or mode is ProtectionMode.OFF or request.kind not in DECIDED_KINDS:
            return False
        cause = self._cause(request, mode)
        if cause is None:
            return False
        if mode is ProtectionMode.AUDIT:
            if self._is_marked(request):
                return False
            self.audited += 1
            self._report(request, Action.AUDITED, cause)
            return False
        self._stop(at, request, cause, SOCKET_DESTROYED, is_held=False)
        return True

    def stops(self, at: Micros, request: HttpEvent) -> bool:
        """Decide on a held request; return whether to drop it. If so, end its connection."""
        if self.mode is not ProtectionMode.BLOCK or request.kind not in DECIDED_KINDS:
            return False
        cause = self._cause(request, self.mode)
        if cause is None:
            return False
        # On a connection older than the queue this may be a retransmission: the first copy may have left.
        how = INLINE if request.from_begin else SOCKET_DESTROYED
        self._stop(at, request, cause, how, is_held=True)
        return True

    def keeps(self, request: HttpEvent, line: bytes) -> bool:
        """Return whether to suppress a request's own line: its verdict includes the request, or is undecided.

        An undecided request's line is stored and follows the verdict if the request was not blocked.
        """
        if request.kind is Kind.TLS:
            return False
        with self._lock:
            for one in self._awaited.get(request.flow, ()):
                if (one.request.flow_id, one.request.tx) == (request.flow_id, request.tx):
                    one.line = line
                    return True
            return (request.flow_id, request.tx) in self._stopped

    def reset(self, packet: Packet) -> None:
        """Handle a client's packet. If it is the reset of a destroyed connection, decide on the requests that wait for it."""
        if packet.flags & (RST | ACK) != RST | ACK:
            return
        flow = _flow_of(packet)
        with self._lock:
            end = self._ended.get(flow)
            if end is not None and end.reset is None:
                self._ended[flow] = end._replace(reset=packet.ack)
            awaited = self._awaited.pop(flow, [])
        for one in awaited:
            self._decide(one, packet.ack)

    def advance(self, now: Micros) -> None:
        """Advance the time: report the requests whose reset is overdue as unproven."""
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
        """Handle the end of input: report all waiting requests as unproven."""
        with self._lock:
            left = [one for awaited in self._awaited.values() for one in awaited]
            self._awaited.clear()
        for one in left:
            self._decide(one, None)

    def held_back(self, requests: Iterable[HttpEvent]) -> None:
        """Report the other requests of a packet that was dropped because of one request. The capture does not see them."""
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
        """Return False for a packet with payload of an ended connection.

        Packets without payload, which close the connection, pass. A SYN starts another connection and passes.
        """
        flow = _flow_of(packet)
        if not self._is_ended(at, flow):
            return True
        if packet.flags & SYN:
            with self._lock:
                self._ended.pop(flow, None)
            return True
        return not packet.payload

    def _cause(self, request: HttpEvent, mode: ProtectionMode) -> _Cause | None:
        """Return the reason to audit or block a request, or None."""
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

    def _is_marked(self, request: HttpEvent) -> bool:
        """Return whether a TLS name repeats the host of its tunnel's audited CONNECT. For a CONNECT, remember its host."""
        if request.kind is Kind.TLS:
            return self._marked.get(request.flow_id) == request.host
        if request.method == "CONNECT":
            self._marked[request.flow_id] = request.host
            if len(self._marked) > MARKED_MAX:
                self._marked.popitem(last=False)
        return False

    def _is_ended(self, at: Micros, flow: FiveTuple) -> bool:
        end = self._ended.get(flow)
        return end is not None and at < end.until

    def _stop(self, at: Micros, request: HttpEvent, cause: _Cause, how: str, *, is_held: bool) -> None:
        """End the request's connection and report it once the proof is available or impossible."""
        one, reset = _Awaited(request, cause, how), None
        with self._lock:
            why = self._end(at, request.flow)
            if not why:
                if self._awaits(one):
                    return
                reset = self._ended[request.flow].reset
            elif is_held:
                # TCP retransmits the packet, and each copy is dropped.
                self._remember(request.flow, at + KEPT_MICROS, is_destroyed=False)
        if not why:
            self._decide(one, reset)
        elif how == INLINE and not request.in_pieces:
            # No byte of the request left the machine, so no response exists.
            self.blocked_inline += 1
            self._report(request, Action.BLOCKED, cause, how)
        else:
            self._pass(request, cause, why)

    def _end(self, at: Micros, flow: FiveTuple) -> str:
        """Destroy the connection; return the reason of a failure, "" on success. Hold the lock, as the reset follows at once."""
        why = SOCKET_GONE
        try:
            if self._destroy(flow):
                self._remember(flow, at + DESTROYED_MICROS, is_destroyed=True)
        except OSError as error:
            log.debug("socket not destroyed", extra={"error": str(error)})
            why = NOT_DESTROYED
        return "" if self._is_ended(at, flow) and self._ended[flow].is_destroyed else why

    def _awaits(self, one: _Awaited) -> bool:
        """Queue a request until the reset; return False if the reset was seen or a bound is reached. Hold the lock."""
        flow = one.request.flow
        awaited = self._awaited.setdefault(flow, [])
        if self._ended[flow].reset is not None or len(awaited) >= AWAITED_MAX or len(self._awaited) > ENDED_MAX:
            if not awaited:
                del self._awaited[flow]
            return False
        awaited.append(one)
        return True

    def _remember(self, flow: FiveTuple, until: Micros, *, is_destroyed: bool) -> None:
        """Record an ended connection. Hold the lock."""
        self._ended[flow] = _End(until, is_destroyed)
        self._ended.move_to_end(flow)
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _decide(self, one: _Awaited, reset: int | None) -> None:
        """Report a request of a destroyed connection. `reset` is its reset's acknowledgement number, None without a reset."""
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
        if request.kind is not Kind.TLS:
            with self._lock:
                self._stopped[request.flow_id, request.tx] = None
                if len(self._stopped) > ENDED_MAX:
                    self._stopped.popitem(last=False)
        self._report(request, Action.BLOCKED, one.cause, one.how)

    def _pass(self, request: HttpEvent, cause: _Cause, why: str) -> None:
        self.passed += 1
        if self.passed & (self.passed - 1) == 0:
            log.error(
                "a request was not provably stopped",
                extra={"host": cause.host, "why": why, "so_far": self.passed},
            )
        self._report(request, Action.AUDITED, cause, why=why)

    def _report(self, request: HttpEvent, action: Action, cause: _Cause, how: str = "", *, why: str = "") -> None:
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
    events: Callable[[Micros, Packet], Iterable[HttpEvent]],
    now: Callable[[], Micros],
    is_proxied: Callable[[HttpEvent], bool] = lambda _: True,
) -> Callable[[bytes], bool]:
    """Return the gate's predicate: whether a packet may pass. A packet that is no TCP segment passes.

    `events` returns the HTTP events that a packet completes. If packets to other addresses than proxies are held too,
    `is_proxied` returns whether a request is to a proxy.
    """

    def may_pass(ip_bytes: bytes) -> bool:
        packet = parse_packet(ip_bytes)
        if packet is None:
            return True
        enforcer.reset(packet)
        at = now()
        if not enforcer.may_go_on(at, packet):
            return False
        flow = _flow_of(packet)
        may, others = True, []
        for request in events(at, packet):
            if not is_proxied(request):
                continue
            if request.flow != flow:
                # The request is of earlier packets, which passed while it was incomplete.
                enforcer.saw(at, request)
            elif enforcer.stops(at, request):
                may = False
            elif request.kind is Kind.REQUEST:
                others.append(request)
        if not may:
            enforcer.held_back(others)
        return may

    return may_pass


def _flow_of(packet: Packet) -> FiveTuple:
    """Return the flow of a packet that the client sent."""
    return packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port
