"""What is said on a connection to a proxy, as lines of the dialect `sensor`."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from producers.sensor.http.hosts import Authority
from schemas.clock import iso_micros
from schemas.events import Micros
from schemas.sensor_line import Http, Socks, Tls


class Kind(StrEnum):
    """What is said."""

    REQUEST = "request"
    """Somebody asks, told as the request is sent."""
    EXCHANGE = "exchange"
    """The same request with its status, told once it is answered or will not be."""
    TLS = "tls"
    """A client hello, which mostly names a server."""


class FlowKey(NamedTuple):
    """A connection's ends."""

    client_ip: str
    client_port: int
    proxy_ip: str
    proxy_port: int


class Said(NamedTuple):
    """Something that was said on a connection."""

    kind: Kind
    at: Micros
    """When it was sent; of an exchange when it was answered, or given up."""
    flow: FlowKey
    flow_id: str
    tx: int
    """Which request of its connection, from 0; of a name how many there were before."""
    method: str
    target: str
    """As far as it may be told: cut, and never with credentials."""
    host: str
    """The host that is asked for, normalised: of target or Host field, or the server name; "" where none is certain."""
    port: int
    named: str = ""
    """What the Host field says, normalised."""
    status: int | None = None
    user_agent: str = ""
    tunnelled: bool = False
    """A name that was spoken in a tunnel, not to the proxy itself."""
    encrypted_hello: bool = False
    """The name may be only the outer one of an encrypted client hello."""
    socks: int = 0
    """The version, where it is a SOCKS request; then method and target are those of a CONNECT to the same host and port."""
    granted: bool | None = None
    """What the SOCKS server answered."""
    acked: int = 0
    """What the client acknowledged of the proxy's bytes with the packet in which the request, or the hello, begins; of a SOCKS
    request with the one that completes it, as the server answers the greeting before."""
    from_begin: bool = False
    """All packets of its connection were seen, from the SYN on, as far as they came by."""
    in_pieces: bool = False
    """Its first bytes came in an earlier packet, so the proxy may have answered them already."""
    started: Micros = 0
    """When its connection began; 0 where that was not seen."""
    others: tuple[Authority, ...] = ()
    """Each other host that the proxy may go to."""
    is_readable: bool = True
    """False: proxies may read it in several ways, or it is no request at all."""


_ENCODE = msgspec.json.Encoder().encode


def line_of(said: Said, device: str) -> bytes:
    """The line of an exchange or a name, without a newline."""
    assert said.kind is not Kind.REQUEST, "a request is told with its answer"
    ends = (device, iso_micros(said.at), *said.flow, said.flow_id)
    attempt = iso_micros(said.started) if said.started else ""
    if said.kind is Kind.TLS:
        return _ENCODE(Tls(*ends, said.host, said.tunnelled, said.encrypted_hello, attempt))
    if said.socks:
        return _ENCODE(Socks(*ends, said.tx, said.socks, said.host, said.port, said.granted, attempt))
    return _ENCODE(Http(*ends, said.tx, said.method, said.target, said.named, said.status, said.user_agent, attempt))
