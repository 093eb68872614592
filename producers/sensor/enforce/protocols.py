"""What the enforcer needs of the HTTP level: packets, requests, and the conversion from one to the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from producers.sensor.kernel.sock_diag import FiveTuple
from schemas.events import Micros


class Request(Protocol):
    """An event of the HTTP level. The flow starts with the client's address."""

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


class Level(Protocol[Taken, Given]):
    """The HTTP level: converts segments to requests."""

    def packet(self, at: Micros, packet: Taken, /) -> Iterable[Given]: ...


def flow_of(packet: Packet) -> FiveTuple:
    """Return the flow of a packet that the client sent."""
    return packet.src_ip, packet.src_port, packet.dst_ip, packet.dst_port
