"""A stand-in for the HTTP level: a request or a name is the whole content of one segment."""

from __future__ import annotations

from producers.sensor.http.packets import Packet
from producers.sensor.http.request_lines import FlowKey, HttpEvent, Kind
from producers.sensor.kernel.sock_diag import FiveTuple
from schemas.address import split_authority, split_url

HELLO = b"\x16hello "
FLOW: FiveTuple = ("198.51.100.11", 40_000, "198.51.100.80", 3128)


def segment(flow: FiveTuple, flags: int, payload: bytes = b"", *, ack: int = 0) -> Packet:
    """A segment that the client sends."""
    return Packet(*flow, 0, flags, payload, ack=ack)


def events(host: str, port: int = 443, *, kind: str = "request", at: int = 0, flow: FiveTuple = FLOW) -> HttpEvent:
    """A CONNECT to this host, or its name in a tunnel."""
    method, target = ("CONNECT", f"{host}:{port}") if kind != "tls" else ("", "")
    return HttpEvent(Kind(kind), at, FlowKey(*flow), "u-1", 0, method, target, host, port, from_begin=True)


class Level:
    """Returns what each segment contains."""

    def packet(self, at: int, packet: Packet, /) -> list[HttpEvent]:
        """CONNECT, absolute URIs, names."""
        return [one._replace(at=at, acked=packet.ack) for one in self._events(packet)]

    def _events(self, packet: Packet) -> list[HttpEvent]:
        flow = packet[:4]
        if packet.payload.startswith(HELLO):
            return [events(packet.payload.removeprefix(HELLO).decode(), kind="tls", flow=flow)]
        method, _, rest = packet.payload.partition(b" ")
        target = rest.partition(b" ")[0].decode(errors="replace")
        if method == b"CONNECT":
            return [events(*split_authority(target, 0), flow=flow)]
        if method == b"GET":
            host, _ = split_url(target)[:2]
            return [events(host, 80, flow=flow)._replace(method="GET", target=target)]
        return []
