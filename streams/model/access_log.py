"""Entries of proxies' own logs, as a connection and a device keep them."""

from __future__ import annotations

import msgspec

from schemas.events import Micros, ProxyDecision
from schemas.indicators import Indicator


class AccessLogEntry(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One line of a proxy's own log: a request, a tunnel's once it is closed."""

    at: Micros
    started: Micros
    host: str
    port: int
    """0 where the log does not tell."""
    url: str
    tunnel: bool
    status: int
    """0 for none."""
    decision: ProxyDecision
    upstream: str
    """Address that the proxy connected to; "" when it did not."""
    sent: int
    """-1 where the log does not tell."""
    received: int
    user: str
    proxy: str
    event_id: str
    sure: bool
    """Joined by the client's port; else only by client, host and time."""


class WaitingEntry(msgspec.Struct, array_like=True, gc=False):
    """A line that waits for its connection."""

    logged: AccessLogEntry
    client_ip: str
    client_port: int
    proxy_ip: str
    proxy_port: int
    due: int
    """Second at which it is decided."""
    last: bool = False
    """It was looked for once; the next time is the last."""
    candidates: list[tuple[Indicator, bool]] = []
    """Indicators that matched when it came, as in `Hit`."""
