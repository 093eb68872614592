"""What `up` shows on stdout when all rows are in the tables: two hunting queries, and commands to try next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from unproxy.local.folder import Running
from unproxy.options import DATA_FOLDER, program
from unproxy.output import printable
from unproxy.query.client import Client
from unproxy.query.formats import readable_width, table
from unproxy.query.hunt import Hunt, Limits, answered, prepared

PROXY_WHEN_NONE = "198.51.100.80"


def busiest_proxy(client: Client) -> str:
    """Return the IP address of the proxy with the most connections; an example address if there is none."""
    rows = client.rows(
        "SELECT ProxyIP FROM DeviceNetworkEvents WHERE ProxyIP != '' GROUP BY 1 ORDER BY count() DESC, 1 LIMIT 1"
    )
    return str(rows[0]["ProxyIP"]) if rows else PROXY_WHEN_NONE


def hunting_queries(proxy_ip: str) -> tuple[str, str]:
    """Return the two hunting queries to begin with; the second omits the hops to the proxy."""
    everything = 'DeviceNetworkEvents | where ActionType == "ConnectionSuccess" | take 10'
    behind = f'DeviceNetworkEvents | where ActionType == "ConnectionSuccess" and RemoteIP != "{proxy_ip}" | take 10'
    return everything, behind


def hunts(client: Client, proxy: str) -> Iterator[str]:
    """Yield the two hunting queries and their results."""
    for query in hunting_queries(proxy):
        answer = answered(client, prepared(client, Hunt(query)), Limits())
        yield query
        yield ""
        lines, _ = table(answer.names, answer.rows, readable_width() - 2)
        yield from (f"  {line}" for line in lines)
        yield f"  {len(answer.rows)} rows"
        yield ""


def going_on(running: Running, data: Path, client: Client, proxy: str) -> Iterator[str]:
    """Yield the commands to try next."""
    name = program()
    where = "" if data == DATA_FOLDER else f" --data {data}"
    _, behind = hunting_queries(proxy)
    devices = client.rows("SELECT DeviceName FROM DeviceNetworkEvents GROUP BY 1 ORDER BY count() DESC, 1 LIMIT 1")
    records = client.rows(
        "SELECT ConnectionId FROM DeviceNetworkEvents ORDER BY Outcome = 'blocked' DESC, Timestamp, RecordId LIMIT 1"
    )
    yield "How to go on:"
    yield f"  {name} hunt{where} '{behind}'"
    if devices:
        yield f"  {name} timeline{where} {quote(printable(devices[0]['DeviceName']))} --limit 20"
    if records:
        yield f"  {name} event{where} {records[0]['ConnectionId']}"
    yield f"  {name} alerts{where}"
    yield f"  ClickHouse {running.clickhouse}, database unproxy, user default; Kafka {running.kafka}, user unproxy (SASL PLAIN)"
    yield f"  their logins are in {running.settings}, for commands with --config"
