"""Requests, responses and TLS names on connections to proxies, as lines of the dialect `sensor`."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from producers.sensor.http.hosts import Authority
from schemas.clock import iso_micros
from schemas.events import Micros
from schemas.sensor_line import Http, Socks, Tls


class Kind(StrEnum):
    """The kind of an event on a connection."""

    REQUEST = "request"
    """A request, reported when it is sent."""
    EXCHANGE = "exchange"
    """The same request with its status, reported after the response, or once no response can come."""
    TLS = "tls"
    """A client hello, which usually names a server."""


class FlowKey(NamedTuple):
    """The two endpoints of a connection."""

    client_ip: str
    client_port: int
    proxy_ip: str
    proxy_port: int


class HttpEvent(NamedTuple):
    """A request, exchange or TLS name on a connection."""

    kind: Kind
    at: Micros
    """Send time; for an exchange, the time of the response or of giving up on it."""
    flow: FlowKey
    flow_id: str
    tx: int
    """Index of the request on its connection, from 0; for a TLS name, the number of requests before it."""
    method: str
    target: str
    """The reported part of the target: truncated, and without credentials."""
    host: str
    """The requested host, normalised: from target, Host field or server name; "" if no host is certain."""
    port: int
    named: str = ""
    """The host in the Host field, normalised."""
    status: int | None = None
    user_agent: str = ""
    tunnelled: bool = False
    """Whether the TLS name was sent inside a tunnel, not to the proxy itself."""
    encrypted_hello: bool = False
    """Whether the TLS name may be only the outer name of an encrypted client hello."""
    socks: int = 0
    """The version of a SOCKS request, else 0. Method and target of a SOCKS request are those of an equivalent CONNECT."""
    granted: bool | None = None
    """Whether the SOCKS server granted the request."""
    acked: int = 0
    """The client's acknowledgement number in the packet in which the request or hello begins. For a SOCKS request: in the packet
    that completes it, because the server answers the greeting before."""
    from_begin: bool = False
    """Whether the connection was observed from its SYN on."""
    in_pieces: bool = False
    """Whether its first bytes were in an earlier packet, so that the proxy may have answered them already."""
    started: Micros = 0
    """Start time of its connection; 0 if not observed."""
    others: tuple[Authority, ...] = ()
    """Other hosts that the proxy may connect to."""
    is_readable: bool = True
    """False if proxies may parse it in several ways, or if it is no request."""


_ENCODE = msgspec.json.Encoder().encode


def line_of(event: HttpEvent, device: str) -> bytes:
    """Encode an exchange or TLS name as a line without newline."""
    assert event.kind is not Kind.REQUEST, "a request is reported with its response"
    ends = (device, iso_micros(event.at), *event.flow, event.flow_id)
    attempt = iso_micros(event.started) if event.started else ""
    if event.kind is Kind.TLS:
        return _ENCODE(Tls(*ends, event.host, event.tunnelled, event.encrypted_hello, attempt))
    if event.socks:
        return _ENCODE(Socks(*ends, event.tx, event.socks, event.host, event.port, event.granted, attempt))
    return _ENCODE(
        Http(*ends, event.tx, event.method, event.target, event.named, event.status, event.user_agent, attempt)
    )
