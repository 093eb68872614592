"""Access-log entries of proxies, as a connection and a device store them."""

from __future__ import annotations

import msgspec

from schemas.events import Micros, ProxyDecision
from schemas.indicators import Indicator


class AccessLogEntry(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Entry of a proxy's access log: a request, or a tunnel once it is closed."""

    at: Micros
    """Time at which the proxy wrote the entry."""
    started: Micros
    """Time at which the request reached the proxy."""
    host: str
    port: int
    """0 if the log does not contain it."""
    url: str
    tunnel: bool
    status: int
    """HTTP status; 0 for none."""
    decision: ProxyDecision
    upstream: str
    """The address that the proxy connected to; "" if it did not connect."""
    sent: int
    """Bytes that the client sent; -1 if the log does not contain them."""
    received: int
    """Bytes that the client received; -1 if the log does not contain them."""
    user: str
    proxy: str
    """Name of the proxy; "" if unknown."""
    event_id: str
    sure: bool
    """The log contains the client's port, which identifies the connection. If False, the entry is joined by client, host and
    time."""


class WaitingEntry(msgspec.Struct, array_like=True, gc=False):
    """Access-log entry that waits for its connection."""

    entry: AccessLogEntry
    client_ip: str
    client_port: int
    proxy_ip: str
    proxy_port: int
    due: int
    """The second of the device's clock at which the connection is searched."""
    last: bool = False
    """One search for the connection failed; the next one is the last."""
    candidates: list[tuple[Indicator, bool]] = []
    """Indicators that matched the entry when it arrived, as in `Hit`."""
