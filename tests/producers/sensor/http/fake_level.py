"""A stand-in for the HTTP level: a request or a name is the whole content of one segment."""

from __future__ import annotations

from typing import NamedTuple

from producers.sensor.kernel.sock_diag import FiveTuple
from producers.sensor.kernel.trace_ring import spelled
from schemas.address import split_authority, split_url

SYN = 0x02
HELLO = b"\x16hello "


class Segment(NamedTuple):
    """A TCP segment."""

    src_ip: str
    src_port: int
    dst_ip: str
    dst_port: int
    flags: int
    payload: bytes
    ack: int = 0


class HttpEvent(NamedTuple):
    """A request, or a name in what stands for a client hello."""

    kind: str
    at: int
    flow: FiveTuple
    flow_id: str
    tx: int
    method: str
    target: str
    host: str
    port: int
    acked: int = 0
    from_begin: bool = True
    in_pieces: bool = False
    started: int = 0
    named: str = ""
    user_agent: str = ""
    others: tuple[tuple[str, int], ...] = ()
    is_readable: bool = True


def segment_of(ip: bytes) -> Segment | None:
    """Of a whole packet without extension headers."""
    at, ends = (20, ip[12:20]) if ip[0] >> 4 == 4 else (40, ip[8:40])
    half = len(ends) // 2
    head = ip[at:]
    ports = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
    payload = head[(head[12] >> 4) * 4 :]
    ack = int.from_bytes(head[8:12], "big")
    return Segment(spelled(ends[:half]), ports[0], spelled(ends[half:]), ports[1], head[13], payload, ack)


def events(
    host: str,
    port: int = 443,
    *,
    kind: str = "request",
    at: int = 0,
    flow: FiveTuple = ("198.51.100.11", 40_000, "198.51.100.80", 3128),
) -> HttpEvent:
    """A CONNECT to this host, or its name in a tunnel."""
    method, target = ("CONNECT", f"{host}:{port}") if kind != "tls" else ("", "")
    return HttpEvent(kind, at, flow, "u-1", 0, method, target, host, port)


class Level:
    """Returns what each segment contains."""

    def packet(self, at: int, packet: Segment, /) -> list[HttpEvent]:
        """CONNECT, absolute URIs, names."""
        return [one._replace(at=at, acked=packet.ack) for one in self._events(packet)]

    def _events(self, packet: Segment) -> list[HttpEvent]:
        flow = packet[:4]
        if packet.payload.startswith(HELLO):
            return [events(packet.payload.removeprefix(HELLO).decode(), kind="tls", flow=flow)]
        method, _, rest = packet.payload.partition(b" ")
        target = rest.partition(b" ")[0].decode(errors="replace")
        if method == b"CONNECT":
            return [events(*split_authority(target, 0), flow=flow)]
        if method == b"GET":
            return [HttpEvent("request", 0, flow, "u-1", 0, "GET", target, split_url(target)[0], 80)]
        return []
