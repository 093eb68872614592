"""The rows, verdicts and alerts about one row, connection or alert, and an explanation of how it was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unproxy.errors import Fixable
from unproxy.output import printable
from unproxy.query.client import Client
from unproxy.query.formats import cell
from unproxy.query.unresolved import cause_of

PREFIX_CHARS_MIN = 8
CANDIDATES_SHOWN = 10

Row = Mapping[str, Any]

_EVIDENCE = {
    "socks": "the SOCKS request on this connection names it",
    "connect": "the CONNECT request on this connection names it",
    "absolute_uri": "the request's absolute URI on this connection names it",
    "verdict": "the verdict of the device's network protection names it",
    "host_header": "only the Host header on this connection names it",
    "sni": "only the server name (SNI) of the TLS handshake names it",
    "proxy_log": "the proxy's own log names it, and no sensor saw the request",
    "process_time": "a request of the same process at the same time names it",
    "direct": "the connection goes to it without a proxy",
}
_SURE = {
    "exact": "this is certain: the evidence was seen on this very connection",
    "strong": "this is nearly certain",
    "inferred": "this is inferred from process and time",
}
_OUTCOME = {
    "allowed": "it was reached",
    "audited": "it was reached, and network protection took note (audit)",
    "warned": "network protection warned of it",
    "bypassed": "the user went on in spite of a warning",
    "blocked": "network protection blocked it; a TCP handshake that succeeded before does not change that",
    "failed": "it was not reached",
    "unknown": "whether it was reached is unknown",
}


@dataclass(frozen=True, slots=True)
class Known:
    """The rows of one connection, and its verdicts and alerts; or an alert and its verdicts."""

    connection: Sequence[Row]
    destinations: Sequence[Row]
    verdicts: Sequence[Row]
    alerts: Sequence[Row]


def find(client: Client, identity: str) -> Known:
    """Return all rows about the connection or alert with this ID, or with an ID that begins so.

    The RecordId of a row stands for its connection. Raises Fixable if the text is shorter than `PREFIX_CHARS_MIN`
    characters, or unless it matches exactly one connection or alert.
    """
    if len(identity) < PREFIX_CHARS_MIN:
        raise Fixable(f'"{identity}" is too short; give at least {PREFIX_CHARS_MIN} characters of an ID')
    asked = {"id": identity}
    connections = [row["ConnectionId"] for row in client.rows(_CONNECTIONS, asked)]
    alerts = client.rows("SELECT * FROM BlockAlerts WHERE startsWith(AlertId, {id:String}) LIMIT 11", asked)
    candidates = [*connections, *(row["AlertId"] for row in alerts)]
    if not candidates:
        raise Fixable(
            f"nothing is called {identity}; an ID is a RecordId, ConnectionId or AlertId, as `query` shows them"
        )
    if len(candidates) > 1:
        several = "\n".join(f"  {candidate}" for candidate in candidates[:CANDIDATES_SHOWN])
        raise Fixable(f"{len(candidates)} things begin with {identity}; give more of the ID:\n{several}")
    if alerts:
        return Known([], [], client.rows(_VERDICTS_OF_ALERT, {"id": alerts[0]["AlertId"]}), alerts)
    return _of_connection(client, connections[0])


_CONNECTIONS = (
    "SELECT DISTINCT ConnectionId FROM (SELECT ConnectionId, RecordId FROM DeviceNetworkEvents UNION ALL "
    "SELECT ConnectionId, RecordId FROM DeviceEvents) "
    "WHERE startsWith(RecordId, {id:String}) OR startsWith(ConnectionId, {id:String}) ORDER BY 1 LIMIT 11"
)
_VERDICTS_OF_ALERT = (
    "SELECT * FROM DeviceEvents WHERE (DeviceId, DestinationDomain, toDate(Timestamp), Outcome) IN "
    "(SELECT DeviceId, DestinationDomain, toDate(FirstTime), Outcome FROM BlockAlerts WHERE AlertId = {id:String}) "
    "ORDER BY Timestamp"
)


def _of_connection(client: Client, connection: str) -> Known:
    asked = {"id": connection}
    rows = client.rows(
        "SELECT * FROM DeviceNetworkEvents WHERE ConnectionId = {id:String} ORDER BY Timestamp, RecordId", asked
    )
    verdicts = client.rows("SELECT * FROM DeviceEvents WHERE ConnectionId = {id:String} ORDER BY Timestamp", asked)
    alerts = client.rows(
        "SELECT * FROM BlockAlerts WHERE (DeviceId, DestinationDomain, toDate(FirstTime)) IN (SELECT DeviceId, "
        "DestinationDomain, toDate(Timestamp) FROM DeviceEvents WHERE ConnectionId = {id:String}) ORDER BY FirstTime",
        asked,
    )
    return Known(
        [row for row in rows if row["Layer"] == "connection"],
        [row for row in rows if row["Layer"] == "destination"],
        verdicts,
        alerts,
    )


def decided(row: Row) -> str:
    """Return a few sentences that explain how the destination and outcome of a row of DeviceNetworkEvents were decided."""
    sentences = []
    target = printable(row["DestinationHost"] or row["RemoteUrl"] or "no destination")
    if row["UnresolvedReason"]:
        cause = cause_of(row["UnresolvedReason"], proxied=bool(row["ProxyIP"]))
        sentences.append(f"Unresolved: {cause.why}. To resolve the next one: {cause.remedy}.")
    elif row["ResolvedBy"]:
        evidence = _EVIDENCE.get(row["ResolvedBy"], f"decided by {row['ResolvedBy']}")
        sure = _SURE.get(row["Confidence"], "")
        sentences.append(f"{target}: {evidence}{f'; {sure}' if sure else ''}.")
    outcome = _OUTCOME.get(row["Outcome"], row["Outcome"])
    sentences.append(f"Outcome {row['Outcome']}: {outcome}. Network protection was in mode {row['ProtectionMode']}.")
    if row["HostMismatch"]:
        sentences.append(f"Inside, another name was used: {printable(row['HostMismatch'])} (domain fronting looks so).")
    evidence_ids = [row["ConnectionEventId"], *row["HttpEventIds"]]
    if named := [printable(one) for one in evidence_ids if one]:
        sentences.append(f"Evidence: {', '.join(named)}.")
    return " ".join(sentences)


def report(known: Known) -> Iterator[str]:
    """Yield the rows and explanations as lines of text, in sections."""
    for title, rows in (("Connection", known.connection), ("Destination", known.destinations)):
        for row in rows:
            yield from _section(f"{title} {row['RecordId']}", row)
            yield f"  How it was decided: {decided(row)}"
            yield ""
    for title, rows, key in (("Verdict", known.verdicts, "RecordId"), ("Alert", known.alerts, "AlertId")):
        for row in rows:
            yield from _section(f"{title} {row[key]}", row)
            yield ""


def _section(title: str, row: Row) -> Iterator[str]:
    yield title
    width = max(len(name) for name in row)
    for name, value in row.items():
        if text := cell(value):
            yield f"  {name:{width}}  {text}"
