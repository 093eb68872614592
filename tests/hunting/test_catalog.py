"""The catalog: tables that hunts join exist on a migrated database, with the same columns with and without a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from hunting import catalog
from hunting.kql.errors import KqlError
from hunting.kql.translation import translate
from schemas.joined_tables import JOINED
from sinks.clickhouse import connect
from sinks.migrate import migrate
from unproxy.local.servers.engine import Engine


@pytest.fixture
def client(engine: Engine, unique: str) -> Iterator[Client]:
    """A client in a migrated database."""
    with connect(engine.settings("")) as made:
        migrate(made, unique)
        yield made


def hunted(client: Client, database: str, query: str) -> list[tuple[object, ...]]:
    """The rows of a hunt on the server's tables."""
    found = client.query(catalog.COLUMNS_QUERY, parameters={"database": database})
    tables = catalog.of_server(found.named_results(), database)
    return [tuple(row) for row in client.query(translate(query, tables).sql).result_rows]


@pytest.fixture
def filled(client: Client, unique: str) -> Client:
    """A connection of process 7 on ws-1 at 10:00, that process, and what a customer knows of ws-1."""
    client.command(
        f"INSERT INTO {unique}.DeviceNetworkEvents_versions (Timestamp, DeviceId, DeviceName, RecordId, Version, RemoteUrl, "
        "InitiatingProcessId) VALUES ('2026-11-24 10:00:00', 'ws-1', 'ws-1', 'r1', 1, 'example.com', 7)"
    )
    client.command(
        f"INSERT INTO {unique}.DeviceProcessEvents (Timestamp, DeviceId, FileName, ProcessId) VALUES "
        "('2026-11-24 09:00:00', 'ws-1', 'curl.exe', 7), ('2026-11-24 09:00:00', 'ws-1', 'word.exe', 8)"
    )
    client.command(
        f"INSERT INTO {unique}.DeviceInfo (Timestamp, DeviceId, OSPlatform, IsInternetFacing) VALUES "
        "('2026-11-24 08:00:00', 'ws-1', 'Windows11', true), ('2026-11-24 08:00:00', 'ws-2', 'Linux', NULL)"
    )
    return client


def test_hunt_joins_devices(filled: Client, unique: str) -> None:
    """A connection gets the operating system of its device from DeviceInfo."""
    query = (
        "DeviceNetworkEvents | join kind=inner DeviceInfo on DeviceId | project RemoteUrl, OSPlatform, IsInternetFacing"
    )

    assert hunted(filled, unique, query) == [("example.com", "Windows11", True)]


def test_hunt_joins_processes(filled: Client, unique: str) -> None:
    """A connection gets the file name of its own process from DeviceProcessEvents."""
    processes = "DeviceProcessEvents | project DeviceId, InitiatingProcessId = ProcessId, FileName"
    join = f"DeviceNetworkEvents | join kind=inner ({processes}) on DeviceId, InitiatingProcessId"
    query = f"{join} | project RemoteUrl, FileName"

    assert hunted(filled, unique, query) == [("example.com", "curl.exe")]


@pytest.mark.parametrize("time", ["Timestamp", "TimeGenerated"])
def test_time_has_both_names(filled: Client, unique: str, time: str) -> None:
    """Defender's and Sentinel's name of the time select the same rows."""
    query = f"DeviceInfo | where {time} == datetime(2026-11-24 08:00) | summarize count(), min({time})"

    ((count, _),) = hunted(filled, unique, query)
    assert count == 2


def test_security_alert_has_a_timestamp(filled: Client, unique: str) -> None:
    """SecurityAlert, a table of Sentinel, stores TimeGenerated and answers Timestamp too."""
    filled.command(
        f"INSERT INTO {unique}.SecurityAlert (TimeGenerated, SystemAlertId) VALUES ('2026-11-24 08:00:00', 'a')"
    )
    query = "SecurityAlert | where Timestamp == TimeGenerated | project SystemAlertId, Type"

    assert hunted(filled, unique, query) == [("a", "SecurityAlert")]


def test_sentinels_columns_are_empty(filled: Client, unique: str) -> None:
    """Sentinel's extra columns bind on DeviceNetworkEvents: texts are empty, Type is the table's name, the size is null."""
    query = "DeviceNetworkEvents | project TenantId, MachineGroup, SourceSystem, Type, _IsBillable, isnull(_BilledSize)"

    assert hunted(filled, unique, query) == [("", "", "", "DeviceNetworkEvents", "", True)]


def test_catalog_is_the_servers(client: Client, unique: str) -> None:
    """A translation without a server knows the same columns of the same types as the migrated tables have."""
    found = client.query(catalog.COLUMNS_QUERY, parameters={"database": unique})
    server = catalog.of_server(found.named_results(), unique)
    known = catalog.known(unique)

    assert set(JOINED) < set(known)
    for name, table in known.items():
        assert dict(server[name].columns) == dict(table.columns), name


@pytest.mark.parametrize("table", ["DeviceNetworkEvents_versions", "schema_migrations"])
def test_tables_behind_the_views_are_no_tables_of_hunts(filled: Client, unique: str, table: str) -> None:
    """Old versions of a row would count, also for `union *`."""
    with pytest.raises(KqlError, match="there is no table"):
        hunted(filled, unique, f"{table} | count")

    assert hunted(
        filled, unique, "union withsource=Table Device* | where Table startswith 'DeviceNetworkE' | count"
    ) == [(1,)]
