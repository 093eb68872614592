"""The device timeline: a line for each row of DeviceNetworkEvents, each destination with its own verdict.

The row of a proxied connection has the URL of its first destination beside an outcome that sums up all of them. A line that
showed both would call an allowed destination blocked. So the line of a proxied connection names no target; its destinations
have lines of their own.

    Wanted      what is asked for
    timeline    Wanted → Page, for the command line and a console alike
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from unproxy.query.client import OF_DEVICE, TIME, Client
from unproxy.query.times import readable

ID_CHARS_MIN = 8
"""Shortest beginning of an ID that `event` takes."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of a device are asked for; what is empty narrows nothing."""

    device: str
    since: str = ""
    until: str = ""
    process: str = ""
    text: str = ""
    layer: str = ""
    limit: int = 1_000
    """The latest so many rows."""
    oldest_first: bool = False
    outcome: str = ""
    destination: str = ""
    """A name, with all names below it, or an address."""
    proxy: str = ""
    """Address, address with port, or name of a proxy."""
    before: str = ""
    """The `place` of a row: only rows that follow it in the list."""


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a timeline, in the order asked for."""

    rows: Sequence[Row]
    more: bool
    """Whether earlier rows were left out."""


@dataclass(frozen=True, slots=True)
class Span:
    """The first and the last time of a device's rows, as rows have them; "" where it has none."""

    first: str
    last: str

    def in_words(self) -> str:
        """Return which interval has data, in words."""
        if not self.last:
            return "it has no rows yet"
        return f"it has rows from {readable(self.first, 19)} to {readable(self.last, 19)} (UTC)"


def timeline(client: Client, wanted: Wanted) -> Page:
    """Return the latest rows that are asked for."""
    rows = client.rows(*question(wanted))
    kept = rows[: wanted.limit]
    return Page(kept[::-1] if wanted.oldest_first else kept, len(rows) > wanted.limit)


def span(client: Client, device: str) -> Span:
    """Return from when to when a device has rows."""
    (row,) = client.rows(
        f"SELECT count() AS found, min(Timestamp) AS first, max(Timestamp) AS last "
        f"FROM DeviceNetworkEvents WHERE {OF_DEVICE}",
        {"device": device},
    )
    return Span(row["first"], row["last"]) if row["found"] else Span("", "")


def question(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """Return the SQL for the rows, newest first, and its parameters: for one row more than wanted."""
    conditions, asked = narrowed(wanted)
    return (
        f"SELECT {_COLUMNS} FROM DeviceNetworkEvents WHERE {conditions} "
        "ORDER BY Timestamp DESC, RecordId DESC LIMIT {limit:UInt64}",
        {**asked, "limit": wanted.limit + 1},
    )


def narrowed(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """Return the SQL condition for the rows that are asked for, and its parameters."""
    asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name))}
    conditions = " AND ".join([OF_DEVICE, *(_CONDITIONS[name] for name in asked)])
    return conditions, {"device": wanted.device, **asked}


def place(row: Row) -> str:
    """Return the place of a row in the list, for `Wanted.before`: its time and RecordId."""
    return f"{row['Timestamp']}/{row['RecordId']}"


_COLUMNS = (
    "Timestamp, DeviceName, ActionType, RemoteIP, RemotePort, RemoteUrl, InitiatingProcessFileName, "
    "InitiatingProcessId, InitiatingProcessAccountDomain, InitiatingProcessAccountName, Layer, RecordId, ConnectionId, "
    "ProxyIP, ProxyPort, ProxyName, DestinationHost, DestinationPort, Outcome, ProtectionMode, UnresolvedReason, "
    "HostMismatch, HttpStatus, BytesSent, BytesReceived"
)
_TARGET = "if(Layer = 'connection' AND ProxyIP != '', '', concat(RemoteUrl, ' ', DestinationHost))"
"""As a line shows it: the target of a proxied connection stands on the lines of its destinations."""
_ADDRESS = "if(Layer = 'destination' OR ProxyIP = '', concat(DestinationHost, ':', toString(DestinationPort)), '')"
_TEXT = (
    f"concat({_TARGET}, ' ', ifNull({_ADDRESS}, ''), ' ', RemoteIP, ' ', ProxyIP, ' ', ProxyName, ' ', HostMismatch, ' ', "
    "Outcome, ' ', InitiatingProcessFileName, ' ', InitiatingProcessCommandLine, ' ', UnresolvedReason, ' ', "
    "ConnectionId, ' ', RecordId)"
)
_PLACE_TIME = "parseDateTime64BestEffort(splitByChar('/', {before:String})[1], 6, 'UTC')"
_PLACE_ID = "splitByChar('/', {before:String})[2]"
_CONDITIONS = {
    "since": f"Timestamp >= {TIME % 'since'}",
    "until": f"Timestamp < {TIME % 'until'}",
    "process": "(positionCaseInsensitiveUTF8(concat(InitiatingProcessFileName, ' ', InitiatingProcessCommandLine), "
    "{process:String}) > 0 OR toString(InitiatingProcessId) = {process:String})",
    "text": f"positionCaseInsensitiveUTF8({_TEXT}, {{text:String}}) > 0",
    "layer": "Layer = {layer:String}",
    "outcome": "Outcome = {outcome:String}",
    "destination": "(Layer = 'destination' OR ProxyIP = '') AND (RemoteIP = {destination:String} OR DestinationHost = "
    "lowerUTF8({destination:String}) OR endsWith(DestinationHost, concat('.', lowerUTF8({destination:String}))))",
    "proxy": "ProxyIP != '' AND has([ProxyIP, ProxyName, concat(ProxyIP, ':', toString(ifNull(ProxyPort, 0))), "
    "concat('[', ProxyIP, ']:', toString(ifNull(ProxyPort, 0)))], {proxy:String})",
    "before": f"Timestamp <= {_PLACE_TIME} AND (Timestamp < {_PLACE_TIME} OR RecordId < {_PLACE_ID})",
}
"""The condition of each field of `Wanted` that may be empty."""


def target(row: Row) -> str:
    """Return where a row really leads; "" for a connection to a proxy, whose destinations have rows of their own."""
    if row["Layer"] == "connection" and row["ProxyIP"]:
        return ""
    if row["DestinationHost"]:
        return address(row["DestinationHost"], row["DestinationPort"])
    return str(row["RemoteUrl"])


def marks(row: Row) -> list[str]:
    """Return the facts that a hunter should not overlook."""
    found = []
    if row["ActionType"] == "ConnectionFailed":
        found.append("failed to connect")
    if reason := row["UnresolvedReason"]:
        found.append(f"unresolved: {reason}")
    if row["HostMismatch"] and target(row):
        found.append(f"inside used {row['HostMismatch']}")
    return found


def as_objects(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as objects for JSON: their columns, and what a line shows beside them."""
    short = short_ids([str(row["RecordId"]) for row in rows])
    return [{"Id": short[row["RecordId"]], **row, "Target": target(row), "Marks": marks(row)} for row in rows]


def address(ip: str, port: int | None) -> str:
    """Return an address or a name with its port."""
    host = f"[{ip}]" if ":" in ip else ip
    return f"{host}:{port}" if port is not None else host


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Return for each ID its shortest beginning that none of the others has, of at least `ID_CHARS_MIN` characters."""
    ordered = sorted(set(ids))
    sizes = dict.fromkeys(ordered, ID_CHARS_MIN)
    for one, other in pairwise(ordered):
        alike = next(
            (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        sizes[one], sizes[other] = max(sizes[one], alike + 1), max(sizes[other], alike + 1)
    return {one: one[:size] for one, size in sizes.items()}
