"""Why connections are unresolved, and which sensor or setting would resolve further ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.tables import UnresolvedReason
from unproxy.query.client import OF_DEVICE, TIME

REMOTES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of unresolved connections as text, and its remedy."""

    why: str
    remedy: str


_PROXY_LOG = "publish the proxy's own log with the client's port"
_HTTP_LEVEL = (
    "enable network protection (audit or block), `unproxy sensor --mode audit`, "
    "or HTTP and TLS events of Suricata or Zeek"
)
CAUSES: Mapping[str, Cause] = {
    UnresolvedReason.PROTECTION_OFF: Cause(
        "protection was off, so no HTTP-level event was seen",
        f"{_HTTP_LEVEL}; or {_PROXY_LOG}",
    ),
    UnresolvedReason.NO_HTTP_EVENT: Cause(
        "the device shows HTTP-level events, but none came for this connection",
        f"have the HTTP sensor watch this address and port (`sensor.proxies`; Suricata's `app-layer`); or {_PROXY_LOG}",
    ),
    UnresolvedReason.ENCRYPTED_TO_PROXY: Cause(
        "TLS was used to the proxy itself, which hides the request on the endpoint",
        _PROXY_LOG,
    ),
    UnresolvedReason.OLDER_THAN_SENSOR: Cause(
        "the connection began before the network sensor did, which missed the request",
        f"start the sensor at boot, before its clients; or {_PROXY_LOG}",
    ),
    UnresolvedReason.NO_USABLE_REQUEST: Cause(
        "a request was seen that names no destination: incomplete, malformed, or without a port",
        _PROXY_LOG,
    ),
    UnresolvedReason.SENSOR_GAP: Cause(
        "lines of the sensor that were lost could have named it",
        "find the lost lines in SensorGaps and remove the cause of the loss",
    ),
    UnresolvedReason.AMBIGUOUS: Cause(
        "several connections could have made the request",
        f"publish a sensor whose records name the connection (port or flow id); or {_PROXY_LOG}",
    ),
    UnresolvedReason.SUPERSEDED: Cause(
        "better evidence named another destination later",
        "nothing to do: the other row has the destination",
    ),
}
UNKNOWN_REMOTE = Cause(
    "no HTTP-level event was seen by then, so nothing shows whether the remote end is a proxy or a server",
    f"{_HTTP_LEVEL}; where protection is on and its sensor does not report the mode, set `protection.modes`",
)
"""Cause of the reason `protection_off` if the remote address is not known as a proxy."""


def cause_of(reason: str, *, proxied: bool) -> Cause:
    """Return the cause of a reason; `proxied` if the remote address is known as a proxy.

    An unknown reason, of a newer version, is its own description.
    """
    if reason == UnresolvedReason.PROTECTION_OFF and not proxied:
        return UNKNOWN_REMOTE
    return CAUSES.get(reason) or Cause(reason, "see docs/reference/rows.md of the version that wrote the row")


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The number of a device's connections that are unresolved for the same cause."""

    reason: str
    proxied: bool
    connections: int
    remotes: tuple[str, ...]
    """Their most frequent remote addresses and ports."""

    @property
    def cause(self) -> Cause:
        """The cause and its remedy."""
        return cause_of(self.reason, proxied=self.proxied)

    def in_words(self) -> str:
        """Return the count, the cause and the remedy as one line of text."""
        noun = "connection" if self.connections == 1 else "connections"
        to = ", ".join(self.remotes)
        return f"{self.connections:,} {noun} unresolved: {self.cause.why}; {self.cause.remedy} (most to {to})"

    def as_object(self) -> dict[str, Any]:
        """Return the count, the cause and the remedy as an object for JSON."""
        words = {"Why": self.cause.why, "Remedy": self.cause.remedy}
        return {"Reason": self.reason, "Connections": self.connections, "Remotes": list(self.remotes), **words}


QUESTION = (
    "SELECT UnresolvedReason, ProxyIP != '' AS proxied, count() AS connections, "
    f"topK({REMOTES_SHOWN})(concat(if(position(RemoteIP, ':') > 0, concat('[', RemoteIP, ']'), RemoteIP), ':', "
    f"toString(RemotePort))) AS remotes FROM DeviceNetworkEvents WHERE {OF_DEVICE} AND Layer = 'connection' "
    f"AND UnresolvedReason != '' AND Timestamp >= {TIME % 'since'} AND Timestamp < {TIME % 'until'} "
    "GROUP BY UnresolvedReason, proxied ORDER BY connections DESC, UnresolvedReason, proxied"
)
"""SQL query that counts a device's unresolved connections by cause; its parameters are `device`, `since` and `until`."""


def unresolved(rows: Iterable[Mapping[str, Any]]) -> list[Unresolved]:
    """Return the rows of the result of `QUESTION` as objects."""
    return [
        Unresolved(row["UnresolvedReason"], bool(row["proxied"]), row["connections"], tuple(row["remotes"]))
        for row in rows
    ]
