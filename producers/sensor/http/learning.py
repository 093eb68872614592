"""Proxies that nobody named, learnt from what they are asked: pure but for one question to the kernel, and bounded.

Only a proxy is asked with CONNECT (RFC 9110 section 9.3.6), or for a target with scheme and host (RFC 9112 section 3.2.2), and
only a SOCKS server is greeted as one (RFC 1928). It has to be the first that a connection says, as uploads may have anything in
their middle: so beginnings of connections are remembered. And the connection has to be this machine's own: what others ask a
proxy that runs here is not this device's.

A process that sends CONNECT to any address has it learnt. That costs no more than to read what is sent there, and nothing else:
at most `LEARNT_MAX` are known at once, those that are named always. A proxy in use is not evicted. The request itself is reported
whether or not its proxy is remembered: a connection to a proxy is never taken for a direct one.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto

from producers.sensor.http.heads import REQUEST_BEGINS, Urls, request_of
from producers.sensor.http.packet_filter import LEARNT_MAX
from producers.sensor.http.packets import ACK, SYN, Packet
from producers.sensor.http.reader import LINE_BYTES_MAX
from producers.sensor.http.request_lines import Kind, Said
from producers.sensor.http.socks import asks_socks
from producers.sensor.kernel.nft_rules import ProxyAddress
from schemas.clock import MICROS
from schemas.events import Micros

BEGUN_MAX = 16_384
"""Connections whose beginning is remembered. Beyond it the oldest is forgotten; its HTTP request to a proxy is reported without a
destination, and a SOCKS request is not recognised."""
IN_USE_MICROS = 60 * MICROS
"""So long after it was spoken to a proxy makes no room for another."""
KEPT_MICROS = 24 * 3_600 * MICROS
"""One that nobody spoke to for so long is forgotten."""
_SEQUENCE = 1 << 32
_ANY_PORT = 9


def asks_proxy(payload: bytes) -> bool:
    """Whether a client that begins so takes the other side for a proxy.

    It sends a whole request line whose target names a host, with its scheme or after CONNECT, or a SOCKS greeting or request and
    nothing else. Proxies need not agree on which host the target names.
    """
    if asks_socks(payload):
        return True
    line = REQUEST_BEGINS.match(payload, 0, LINE_BYTES_MAX)
    request = request_of(line[0].rstrip(b"\r\n"), Urls.HOST) if line else None
    if line is None or request is None or request.port:
        return request is not None
    return bool(request.others) and (request.method == "CONNECT" or b"://" in line[0])


def is_own(ip: str) -> bool:
    """Whether an address is this machine's, in its network namespace: what goes there would come from there. Nothing is sent."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((ip, _ANY_PORT))
        return bool(asking.getsockname()[0] == ip) or ip.startswith("127.")
    return False


class Asked(Enum):
    """What is known of a packet that asks a proxy which was not known before."""

    LEARNT = auto()
    """The proxy is remembered from now on."""
    NO_ROOM = auto()
    """The first request of its connection; too many proxies are in use to remember this one."""
    NOT_FIRST = auto()
    """The connection did not begin with it, as far as was seen: it may be part of an upload."""


class Learner:
    """Knows whom clients take for a proxy. Its numbers may be read at any time, by any thread."""

    def __init__(
        self,
        named: Iterable[ProxyAddress],
        denied: Iterable[ProxyAddress] = (),
        is_own: Callable[[str], bool] = is_own,
    ) -> None:
        self.named, self._denied, self._is_own = frozenset(named), frozenset(denied), is_own
        self.proxies: set[ProxyAddress] = set(self.named)
        """Named and learnt; others may ask whether one is in it."""
        self.last: dict[ProxyAddress, Micros] = {}
        """Those that are learnt, and when each was spoken to last."""
        self._begun: OrderedDict[tuple[str, int, str, int], int] = OrderedDict()
        self.learnt = 0
        self.forgotten = 0
        self.no_room = 0
        """Connections that asked one that was not learnt, as too many are in use."""
        self.not_begun = 0
        """Requests of a proxy that are not the first of their connection, as far as was seen."""

    def hears(self, at: Micros, packet: Packet) -> Asked | None:
        """Take a packet; return what it asks an unknown proxy, None for any other packet."""
        proxy = packet.dst_ip, packet.dst_port
        if proxy in self.last:
            self.last[proxy] = at
            return None
        if proxy in self.named:
            return None
        flow = packet.src_ip, packet.src_port, *proxy
        if packet.flags & (SYN | ACK) == SYN:
            self._begun[flow] = (packet.seq + 1) % _SEQUENCE
            self._begun.move_to_end(flow)
            if len(self._begun) > BEGUN_MAX:
                self._begun.popitem(last=False)
        if not packet.payload or not asks_proxy(packet.payload) or proxy in self._denied:
            return None
        first = (packet.seq + bool(packet.flags & SYN)) % _SEQUENCE
        is_first = self._begun.pop(flow, None) == first
        self.not_begun += not is_first
        if not self._is_own(packet.src_ip) or (not is_first and asks_socks(packet.payload)):
            # In the middle of a connection, the few bytes of a SOCKS greeting may be part of any binary protocol.
            return None
        if not is_first:
            return Asked.NOT_FIRST
        return Asked.LEARNT if self._learns(at, proxy) else Asked.NO_ROOM

    def is_asked(self, request: Said) -> bool:
        """Whether a request goes to a proxy: one that is known, or that its client takes for one. Any thread may ask."""
        proxy = request.flow.proxy_ip, request.flow.proxy_port
        if proxy in self.proxies:
            return True
        if proxy in self._denied or not request.from_begin:
            return False
        return request.tunnelled or (request.kind is Kind.REQUEST and not request.target.startswith(("/", "*")))

    def counted(self) -> dict[str, int]:
        """What became of those that were asked as a proxy, for Prometheus."""
        return {
            "learnt": self.learnt,
            "forgotten": self.forgotten,
            "no_room": self.no_room,
            "not_begun": self.not_begun,
        }

    def forget(self, at: Micros) -> list[ProxyAddress]:
        """It is that late: those that nobody spoke to for long, which are known no more."""
        unused = [proxy for proxy, last in self.last.items() if last + KEPT_MICROS <= at]
        for proxy in unused:
            self._forget(proxy)
        return unused

    def _learns(self, at: Micros, proxy: ProxyAddress) -> bool:
        if len(self.last) >= LEARNT_MAX:
            quietest = min(self.last, key=self.last.__getitem__)
            if self.last[quietest] + IN_USE_MICROS > at:
                self.no_room += 1
                return False
            self._forget(quietest)
        self.learnt += 1
        self.last[proxy] = at
        self.proxies.add(proxy)
        return True

    def _forget(self, proxy: ProxyAddress) -> None:
        self.forgotten += 1
        del self.last[proxy]
        self.proxies.discard(proxy)
