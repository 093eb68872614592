"""Unconfigured proxies, learnt from the requests that clients send to them: bounded, and pure except for one system call.

Only proxies receive CONNECT (RFC 9110 section 9.3.6) or a target with scheme and host (RFC 9112 section 3.2.2), and only SOCKS
servers receive a SOCKS greeting (RFC 1928). The request must be the first data of its connection, because uploads may contain any
bytes later; the learner therefore remembers connection starts. The connection must be this machine's own: requests of other hosts
to a proxy on this machine are not this device's.

Any process can cause an address to be learnt by sending CONNECT to it. The only cost is that traffic to it is read. At most
`LEARNT_MAX` learnt proxies are known at once; configured ones are always known. A proxy in use is not evicted. The request itself
is reported even if its proxy is not remembered, so that a connection to a proxy is never taken for a direct one.
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
from producers.sensor.http.request_lines import HttpEvent, Kind
from producers.sensor.http.socks import asks_socks
from producers.sensor.kernel.nft_rules import ProxyAddress
from schemas.clock import MICROS
from schemas.events import Micros

BEGUN_MAX = 16_384
"""Maximum number of remembered connection starts. Beyond it the oldest is evicted: its HTTP request to a proxy is reported
without a destination, and a SOCKS request is not recognised."""
IN_USE_MICROS = 60 * MICROS
"""Time after a client's last packet to a learnt proxy during which the proxy is not evicted for another one."""
KEPT_MICROS = 24 * 3_600 * MICROS
"""A learnt proxy without packets for this long is forgotten."""
_SEQUENCE = 1 << 32
_ANY_PORT = 9


def asks_proxy(payload: bytes) -> bool:
    """Return whether a client's first bytes are a request to a proxy.

    They must be a complete request line whose target names a host, with its scheme or after CONNECT, or exactly a SOCKS greeting
    or request. The target's host may be ambiguous.
    """
    if asks_socks(payload):
        return True
    line = REQUEST_BEGINS.match(payload, 0, LINE_BYTES_MAX)
    request = request_of(line[0].rstrip(b"\r\n"), Urls.HOST) if line else None
    if line is None or request is None or request.port:
        return request is not None
    return bool(request.others) and (request.method == "CONNECT" or b"://" in line[0])


def is_own(ip: str) -> bool:
    """Return whether an address is this machine's, in its network namespace. Sends nothing.

    An address is own if it is in 127.0.0.0/8, or if the kernel selects it as the source address for packets to it.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((ip, _ANY_PORT))
        return bool(asking.getsockname()[0] == ip) or ip.startswith("127.")
    return False


class Asked(Enum):
    """The result for a packet with a request to an unknown proxy."""

    LEARNT = auto()
    """The proxy is now known."""
    NO_ROOM = auto()
    """The first request of its connection; the proxy is not learnt, as too many are in use."""
    NOT_FIRST = auto()
    """Not observed as the start of its connection; the request may be part of an upload."""


class Learner:
    """The set of configured and learnt proxies. Any thread may read its counters at any time."""

    def __init__(
        self,
        named: Iterable[ProxyAddress],
        denied: Iterable[ProxyAddress] = (),
        is_own: Callable[[str], bool] = is_own,
    ) -> None:
        self.named, self._denied, self._is_own = frozenset(named), frozenset(denied), is_own
        self.proxies: set[ProxyAddress] = set(self.named)
        """Configured and learnt proxies. Other threads may test membership."""
        self.last: dict[ProxyAddress, Micros] = {}
        """Learnt proxies with the time of the last packet to each."""
        self._begun: OrderedDict[tuple[str, int, str, int], int] = OrderedDict()
        self.learnt = 0
        self.forgotten = 0
        self.no_room = 0
        """Connections to proxies that were not learnt, because too many proxies are in use."""
        self.not_begun = 0
        """Requests to a proxy that were not observed as the start of their connection."""

    def observes(self, at: Micros, packet: Packet) -> Asked | None:
        """Process a packet; return the result for a request to an unknown proxy, None for any other packet."""
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
            # Within a connection, the few bytes of a SOCKS greeting may be part of any binary protocol.
            return None
        if not is_first:
            return Asked.NOT_FIRST
        return Asked.LEARNT if self._learns(at, proxy) else Asked.NO_ROOM

    def is_asked(self, request: HttpEvent) -> bool:
        """Return whether a request is to a known proxy, or is of a form that only proxies receive. Thread-safe."""
        proxy = request.flow.proxy_ip, request.flow.proxy_port
        if proxy in self.proxies:
            return True
        if proxy in self._denied or not request.from_begin:
            return False
        return request.tunnelled or (request.kind is Kind.REQUEST and not request.target.startswith(("/", "*")))

    def counted(self) -> dict[str, int]:
        """Return the learning counters for Prometheus."""
        return {
            "learnt": self.learnt,
            "forgotten": self.forgotten,
            "no_room": self.no_room,
            "not_begun": self.not_begun,
        }

    def forget(self, at: Micros) -> list[ProxyAddress]:
        """Forget the proxies unused for `KEPT_MICROS` at time `at`, and return them."""
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
