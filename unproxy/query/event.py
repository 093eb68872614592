"""The rows, verdicts and alerts about one row, connection or alert, and an explanation of how it was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unproxy.errors import Failed, Fixable
from unproxy.output import printable
from unproxy.query.alerts import counted
from unproxy.query.client import Client
from unproxy.query.formats import PIPE_CHARS, cell
from unproxy.query.screen import timeline_lines
from unproxy.query.times import readable
from unproxy.query.unresolved import cause_of

PREFIX_CHARS_MIN = 8
CANDIDATES_SHOWN = 10
ROWS_OF_ALERT_MAX = 1_000

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
    note: str = ""
    """What an alert counts beside what is shown, or why its rows are not shown."""


def find(client: Client, identity: str) -> Known:
    """Return all rows about the connection or alert with this ID, or with an ID that begins so.

    The RecordId of a row stands for its connection. Raises Fixable if the text is shorter than `PREFIX_CHARS_MIN`
    characters, or unless it matches exactly one connection or alert.
    """
    if len(identity) < PREFIX_CHARS_MIN:
        raise Fixable(f'"{identity}" is too short; give at least {PREFIX_CHARS_MIN} characters of an ID')
    asked = {"id": identity}
    things = client.rows(_THINGS, asked)
    alerts = client.rows("SELECT * FROM BlockAlerts WHERE startsWith(AlertId, {id:String}) LIMIT 11", asked)
    if not things and not alerts:
        raise Fixable(
            f"nothing is called {identity}; an ID is a RecordId, ConnectionId or AlertId, as `query` shows them"
        )
    if len(things) + len(alerts) > 1:
        candidates = [
            *(f"{row['Matched']}  {readable(row['At'])}  {row['Device']}  {row['What']}" for row in things),
            *(f"{row['AlertId']}  {readable(row['LastTime'])}  {row['DeviceName']}  alert" for row in alerts),
        ]
        several = "\n".join(f"  {candidate}" for candidate in candidates[:CANDIDATES_SHOWN])
        raise Fixable(f"{len(candidates)} things begin with {identity}; give more of the ID:\n{several}")
    if alerts:
        return _of_alert(client, alerts[0])
    if not things[0]["ConnectionId"]:
        alone = client.rows("SELECT * FROM DeviceEvents WHERE RecordId = {id:String}", {"id": things[0]["Matched"]})
        return Known([], [], alone, [])
    return _of_connection(client, things[0]["ConnectionId"])


_THINGS = (
    "SELECT ConnectionId, if(ConnectionId = '', RecordId, ConnectionId) AS Thing, "
    "max(if(startsWith(RecordId, {id:String}), RecordId, ConnectionId)) AS Matched, min(Timestamp) AS At, "
    "max(DeviceName) AS Device, if(ConnectionId = '', 'verdict', 'connection') AS What FROM ("
    "SELECT ConnectionId, RecordId, Timestamp, DeviceName FROM DeviceNetworkEvents UNION ALL "
    "SELECT ConnectionId, RecordId, Timestamp, DeviceName FROM DeviceEvents) "
    "WHERE startsWith(RecordId, {id:String}) OR startsWith(ConnectionId, {id:String}) "
    "GROUP BY ConnectionId, Thing ORDER BY Matched LIMIT 11"
)
"""A verdict that fits no connection stands for itself."""
_OF_ALERT = "DeviceId = {device:String} AND ConnectionId != '' AND has(splitByChar(' ', {ids:String}), ConnectionId)"


def _of_alert(client: Client, alert: Row) -> Known:
    """Return what an alert's own query finds, and the rows of these connections that are about its destination."""
    from unproxy.query.hunt import Hunt, Limits, answered, prepared

    limits = Limits(rows=ROWS_OF_ALERT_MAX)
    try:
        result = prepared(client, Hunt(f"{alert['Query']}\n| project RecordId, ConnectionId", limits=limits))
        answer = answered(client, result, limits)
    except (Fixable, Failed) as error:
        return Known([], [], [], [alert], f"Its rows are not shown, as its query cannot be run: {error}")
    found = {str(record) for record, _ in answer.rows}
    connections = {str(connection) for _, connection in answer.rows if connection}
    device = alert["DeviceId"]
    rows = client.rows(
        f"SELECT * FROM DeviceNetworkEvents WHERE {_OF_ALERT} ORDER BY Timestamp, RecordId",
        {"device": device, "ids": " ".join(sorted(connections))},
    )
    verdicts = client.rows(
        "SELECT * FROM DeviceEvents WHERE DeviceId = {device:String} AND has(splitByChar(' ', {ids:String}), RecordId) "
        "ORDER BY Timestamp, RecordId",
        {"device": device, "ids": " ".join(sorted(found))},
    )
    proxy_itself = alert["ProxyIP"] == alert["DestinationDomain"]
    about = [
        row
        for row in rows
        if row["Layer"] == "destination"
        and (row["RecordId"] in found or (not proxy_itself and row["DestinationDomain"] == alert["DestinationDomain"]))
    ]
    words = (
        f"The alert counts {counted(alert)}; its query finds {len(found):,} rows of {len(connections):,} connections"
    )
    more = f" (the first {ROWS_OF_ALERT_MAX:,} rows)" if answer.more else ""
    return Known([row for row in rows if row["Layer"] == "connection"], about, verdicts, [alert], f"{words}{more}.")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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


def report(known: Known, width: int = PIPE_CHARS) -> Iterator[str]:
    """Yield the rows and explanations as lines of text, in sections; of an alert its rows as lines of a timeline."""
    if known.note:
        for row in known.alerts:
            yield from _section(f"Alert {row['AlertId']}", row)
        yield ""
        yield known.note
        rows = sorted([*known.connection, *known.destinations], key=lambda row: (row["Timestamp"], row["RecordId"]))
        if rows:
            yield from timeline_lines(rows, width)
        for row in known.verdicts:
            url = row["RemoteUrl"]
            yield f"{readable(row['Timestamp'])}  verdict  {row['Outcome']}  {url}  {row['RecordId'][:PREFIX_CHARS_MIN]}"
        return
    if tree := process_tree((*known.connection, *known.destinations)):
        yield "Process"
        yield from (f"  {line}" for line in tree)
        yield ""
    for title, found in (("Connection", known.connection), ("Destination", known.destinations)):
        for row in found:
            yield from _section(f"{title} {row['RecordId']}", row)
            yield f"  How it was decided: {decided(row)}"
            yield ""
    for title, found, key in (("Verdict", known.verdicts, "RecordId"), ("Alert", known.alerts, "AlertId")):
        for row in found:
            yield from _section(f"{title} {row[key]}", row)
            yield ""


def process_tree(rows: Sequence[Row]) -> list[str]:
    """Return the process of a connection as an indented tree, its parent above it where that is known; [] if neither is."""
    for row in rows:
        name, pid = row["InitiatingProcessFileName"], row["InitiatingProcessId"]
        if not name and pid is None:
            continue
        user = "\\".join(filter(None, (row["InitiatingProcessAccountDomain"], row["InitiatingProcessAccountName"])))
        words = [_process(name, pid), row["InitiatingProcessCommandLine"], f"user {user}" if user else ""]
        line = "  ".join(filter(None, words))
        parent, parent_pid = row["InitiatingProcessParentFileName"], row["InitiatingProcessParentId"]
        if not parent and parent_pid is None:
            return [line]
        return [_process(parent, parent_pid), f"└─ {line}"]
    return []


def _process(name: str, pid: int | None) -> str:
    return f"{name or 'unknown'}{f' ({pid})' if pid is not None else ''}"


def _section(title: str, row: Row) -> Iterator[str]:
    yield title
    width = max(len(name) for name in row)
    for name, value in row.items():
        if text := cell(value):
            yield f"  {name:{width}}  {text}"
