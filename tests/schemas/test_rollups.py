"""Roll-ups for hunts equal a recount of DeviceNetworkEvents after replays, duplicate inserts and corrections."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from schemas.ddl import migrations
from sinks.clickhouse import connect
from sinks.migrate import migrate
from unproxy.local.servers.engine import Engine

_COLUMNS = (
    "Timestamp", "DeviceId", "RecordId", "Version", "Layer", "ProxyIP", "DestinationDomain", "InitiatingProcessFileName",
    "Outcome", "UnresolvedReason", "BytesSent",
)  # fmt: skip
_COUNTED = "DestinationDomain != '' AND UnresolvedReason != 'superseded' AND (Layer = 'destination' OR ProxyIP = '')"
_KEY = "DeviceId, InitiatingProcessFileName, DestinationDomain"
RECOUNTS = {
    "FirstSeenDomains": f"SELECT {_KEY}, min(Timestamp), max(Timestamp), count() FROM events GROUP BY {_KEY}",
    "DestinationsByProcessDay": f"SELECT toStartOfDay(Timestamp) d, {_KEY}, count(), countIf(Outcome = 'blocked'), "
    f"sum(BytesSent), sum(BytesReceived) FROM events GROUP BY d, {_KEY}",
    "DomainRarity": "SELECT DestinationDomain, uniqExact(DeviceId), min(Timestamp), max(Timestamp), count() FROM events "
    "GROUP BY DestinationDomain",
}
"""The same by plain SQL on the latest version of each row (`events`)."""


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    """A client in no database."""
    with connect(engine.settings("")) as made:
        yield made


def write(client: Client, database: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert versions of rows."""
    client.insert(f"{database}.DeviceNetworkEvents_versions", rows, column_names=_COLUMNS)


def history(seed: int) -> list[tuple[Any, ...]]:
    """Versions of 300 rows in any order: corrections change domain, process and outcome, and a third is there twice."""
    chance = random.Random(seed)
    found: list[tuple[Any, ...]] = []
    for record in range(300):
        found += [
            (
                f"2026-11-{20 + version} 1{record % 10}:00:00",
                f"dev-{record % 5}",
                f"r{record}",
                version,
                chance.choice(["destination", "connection"]),
                chance.choice(["", "10.0.0.1"]),
                chance.choice(["", "a.example", "b.example", "c.example"]),
                chance.choice(["curl", "word.exe"]),
                chance.choice(["allowed", "blocked"]),
                chance.choice(["", "", "superseded"]),
                chance.choice([None, 10, 20]),
            )
            for version in range(1, chance.randrange(2, 5))
        ]
    found += chance.sample(found, len(found) // 3)
    chance.shuffle(found)
    return found


def recount(client: Client, database: str, query: str) -> list[tuple[Any, ...]]:
    """The answer of plain SQL on the latest versions."""
    events = f"WITH events AS (SELECT * FROM {database}.DeviceNetworkEvents WHERE {_COUNTED}) "
    return sorted(map(tuple, client.query(events + query).result_rows), key=str)


def shown(client: Client, database: str, view: str) -> list[tuple[Any, ...]]:
    """All rows of a roll-up."""
    return sorted(map(tuple, client.query(f"SELECT * FROM {database}.{view}").result_rows), key=str)


@pytest.mark.parametrize("view", RECOUNTS)
def test_rollup_equals_a_recount(client: Client, unique: str, view: str) -> None:
    """A roll-up equals the recount while versions arrive in any order and twice, and after everything was replayed."""
    migrate(client, unique)
    rows = history(7)
    for part in (rows[:200], rows[200:400], rows[400:], rows):
        write(client, unique, part)

        assert shown(client, unique, view) == recount(client, unique, RECOUNTS[view]) != []


def test_corrected_domain_leaves_the_rollup(client: Client, unique: str) -> None:
    """A domain that a later version replaced is no longer first seen, even if the older version is written again."""
    migrate(client, unique)
    old = ("2026-11-24 10:00:00", "dev", "r1", 1, "destination", "10.0.0.1", "old.example", "curl", "allowed", "", None)
    new = (*old[:3], 2, *old[4:6], "new.example", *old[7:])
    for row in (old, new, old):
        write(client, unique, [row])

    assert [row[0] for row in shown(client, unique, "DomainRarity")] == ["new.example"]


def test_earlier_rows_are_rolled_up(client: Client, unique: str) -> None:
    """Rows that were written before the migration are in the roll-ups, once, even if it was interrupted and runs again."""
    client.command(f"CREATE DATABASE {unique}")
    (rollups,) = (one for one in migrations() if one.title == "0008_rollups")
    for migration in migrations()[: rollups.number - 1]:
        for statement in migration.statements(unique):
            client.command(statement)
    rows = history(8)
    write(client, unique, rows)
    for statement in [*rollups.statements(unique)[:3], *rollups.statements(unique)]:
        client.command(statement)
    query = RECOUNTS["FirstSeenDomains"]

    assert shown(client, unique, "FirstSeenDomains") == recount(client, unique, query) != []


def test_beacon_has_a_regular_interval(client: Client, unique: str) -> None:
    """Twelve connections a minute apart, one of them written twice, have a mean of 60 s and no deviation; nine are too few."""
    migrate(client, unique)
    rows = [
        (f"2026-11-24 10:{n:02}:00", "dev", f"{domain}{n}", 1, "destination", "", domain, "curl", "allowed", "", None)
        for domain, count in (("beacon.example", 12), ("few.example", 9))
        for n in range(count)
    ]
    write(client, unique, [*rows, rows[0]])
    question = f"SELECT DestinationDomain, Connections, MeanIntervalSecs, DeviationSecs FROM {unique}.BeaconCandidates"

    assert client.query(question).result_rows == [("beacon.example", 12, 60.0, 0.0)]
