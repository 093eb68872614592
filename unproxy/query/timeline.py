"""The device timeline: a line for each connection, with its remote address (that of the proxy) and its real targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unproxy.output import printable
from unproxy.query.client import OF_DEVICE, TIME
from unproxy.query.times import readable

TARGETS_SHOWN = 5

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection of a device's connections; an empty field selects all."""

    device: str
    since: str = ""
    until: str = ""
    process: str = ""
    text: str = ""
    limit: int = 1_000


def question(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """Return the SQL that selects the rows in time order, and its parameters.

    It selects one connection more than `wanted.limit`, which shows whether there are more.
    """
    asked = {name: value for name in _HAVING if (value := getattr(wanted, name))}
    having = " AND ".join(_HAVING[name] for name in asked) or "1"
    chosen = (
        f"SELECT ConnectionId, min(ConnectionTime) AS at FROM DeviceNetworkEvents WHERE {OF_DEVICE} "
        f"GROUP BY ConnectionId HAVING {having} ORDER BY at, ConnectionId LIMIT {{limit:UInt64}}"
    )
    return (
        f"SELECT {_COLUMNS} FROM DeviceNetworkEvents WHERE {OF_DEVICE} AND ConnectionId IN "
        f"(SELECT ConnectionId FROM ({chosen})) ORDER BY Timestamp, RecordId",
        {"device": wanted.device, **asked, "limit": wanted.limit + 1},
    )


_COLUMNS = (
    "Timestamp, DeviceName, ActionType, RemoteIP, RemotePort, RemoteUrl, InitiatingProcessFileName, "
    "InitiatingProcessId, Layer, RecordId, ConnectionId, ConnectionTime, ProxyIP, ProxyPort, ProxyName, "
    "DestinationHost, DestinationPort, "
    "Outcome, ProtectionMode, UnresolvedReason, HostMismatch, HttpStatus"
)
_PROTECTED = ("blocked", "warned", "bypassed", "audited")
"""Outcomes that network protection caused."""
_TEXT = (
    "concat(RemoteUrl, ' ', DestinationHost, ' ', RemoteIP, ' ', ProxyIP, ' ', ProxyName, ' ', HostMismatch, ' ', "
    "Outcome, ' ', InitiatingProcessFileName, ' ', InitiatingProcessCommandLine, ' ', UnresolvedReason, "
    "' ', ConnectionId)"
)
_HAVING = {
    "since": f"at >= {TIME % 'since'}",
    "until": f"at < {TIME % 'until'}",
    "process": "countIf(positionCaseInsensitiveUTF8(concat(InitiatingProcessFileName, ' ', InitiatingProcessCommandLine), "
    "{process:String}) > 0 OR toString(InitiatingProcessId) = {process:String}) > 0",
    "text": f"countIf(positionCaseInsensitiveUTF8({_TEXT}, {{text:String}}) > 0) > 0",
}
"""SQL conditions of the fields of `Wanted` that may be empty."""


@dataclass(slots=True)
class Entry:
    """A connection: a row that describes it, and the rows of its destinations."""

    connection: Row
    destinations: list[Row] = field(default_factory=list)

    @property
    def time(self) -> str:
        """Time at which the connection was established."""
        return str(self.connection["ConnectionTime"])


def entries(rows: Iterable[Row]) -> list[Entry]:
    """Group rows by connection, in time order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["ConnectionId"], []).append(row)
    made = []
    for group in found.values():
        # The row of a destination may be published before that of its connection. Any row describes the connection.
        connection = next((row for row in group if row["Layer"] == "connection"), group[0])
        made.append(Entry(connection, [row for row in group if row["Layer"] == "destination"]))
    return sorted(made, key=lambda entry: (entry.time, entry.connection["ConnectionId"]))


def line(entry: Entry) -> str:
    """Return a connection as one line."""
    row = entry.connection
    name, pid = row["InitiatingProcessFileName"], row["InitiatingProcessId"]
    process = f"{name or 'unknown process'}{f' ({pid})' if pid is not None else ''}"
    verb = "failed to connect to" if row["ActionType"] == "ConnectionFailed" else "established connection with"
    parts = [readable(entry.time), f"{process:24}", f"{verb} {_place(row)}{_target(entry)}", str(row["Outcome"])]
    return printable("  ".join([*parts, *marks(entry)]).rstrip())


def as_object(entry: Entry) -> dict[str, Any]:
    """Return a connection as an object for JSON."""
    row = entry.connection
    return {
        "Time": entry.time,
        "DeviceName": row["DeviceName"],
        "InitiatingProcessFileName": row["InitiatingProcessFileName"],
        "InitiatingProcessId": row["InitiatingProcessId"],
        "ActionType": row["ActionType"],
        "Connection": _place(row),
        "Targets": targets(entry),
        "Outcome": str(row["Outcome"]),
        "Marks": marks(entry),
        "ConnectionId": row["ConnectionId"],
    }


def targets(entry: Entry) -> list[str]:
    """Return the real targets of a connection in the order of its requests, each once."""
    rows = entry.destinations or [entry.connection]
    return list(dict.fromkeys(name for row in rows if (name := _name(row))))


def marks(entry: Entry) -> list[str]:
    """Return marks of facts that a hunter should not overlook, such as [unresolved: no_http_event]."""
    outcomes = {row["Outcome"] for row in [entry.connection, *entry.destinations]}
    found = [f"NetworkProtection: {outcome}" for outcome in _PROTECTED if outcome in outcomes]
    if reason := entry.connection["UnresolvedReason"]:
        found.append(f"unresolved: {reason}")
    fronted = sorted({row["HostMismatch"] for row in entry.destinations if row["HostMismatch"]})
    if fronted:
        found.append(f"inside used {', '.join(fronted)}")
    return [f"[{mark}]" for mark in found]


def _place(row: Row) -> str:
    through = bool(row["ProxyIP"])
    return _address(row["ProxyIP"] if through else row["RemoteIP"], row["ProxyPort"] if through else row["RemotePort"])


def _address(ip: str, port: int | None) -> str:
    host = f"[{ip}]" if ":" in ip else ip
    return f"{host}:{port}" if port is not None else host


def _name(row: Row) -> str:
    if row["DestinationHost"]:
        return _address(row["DestinationHost"], row["DestinationPort"])
    return str(row["RemoteUrl"]) if row["Layer"] == "destination" or not row["ProxyIP"] else ""


def _target(entry: Entry) -> str:
    names = targets(entry)
    if names == [_place(entry.connection)]:
        return ""
    shown = ", ".join(names[:TARGETS_SHOWN])
    more = len(names) - TARGETS_SHOWN
    return f" ({shown}{f', +{more} more' if more > 0 else ''})" if names else ""
