"""Selective hunts read by day: the SQL differs, the rows do not."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from clickhouse_connect.driver.client import Client

from hunting import catalog
from hunting.kql.protocols import Table
from hunting.kql.scalar import terms
from hunting.kql.tabular import candidates
from hunting.kql.translation import translate
from hunting.kql.types import Type
from hunting.kql.values import Value, text_literal
from sinks.clickhouse import connect
from sinks.migrate import migrate
from unproxy.local.servers.engine import Engine

EVENTS = "DeviceNetworkEvents"
DAY = "Timestamp between (datetime(2026-11-24) .. datetime(2026-11-25))"
NARROWED = [
    f'{EVENTS} | where {DAY} | where RemoteUrl has "b.example"',
    f'{EVENTS} | where {DAY} and RemoteUrl has "x"',
    f'{EVENTS} | where {DAY} and RemoteUrl has_any ("a.example", "ü")',
    f'{EVENTS} | where {DAY} and RemoteUrl has "\' OR 1=1 --"',
    f'{EVENTS} | where {DAY} and RemoteUrl has "{{x:String}} \\\\ `"',
    f'{EVENTS} | where {DAY} | where Outcome == "blocked" | where RemoteUrl !has "b.example" | summarize count() by DeviceId',
    f'{EVENTS} | where TimeGenerated > datetime(2026-11-24 12:00) and TimeGenerated <= datetime(2026-11-25) | where Outcome in ("allowed")',
    f'{EVENTS} | where Timestamp >= datetime(2026-11-24) and Timestamp < datetime(2026-11-25) | where Outcome == "allowed"',
    f'{EVENTS} | where Timestamp >= datetime(2026-11-24) and Timestamp < datetime(1900-01-01) | where Outcome == "allowed"',
    f'{EVENTS} | where Timestamp == datetime(2026-11-24 03:00) | where Outcome == "allowed" or Outcome =~ "BLOCKED"',
    f'let since = datetime(2026-11-24); {EVENTS} | where Timestamp > since | where RemoteUrl contains "EXAMPLE" | count',
    f'{EVENTS} | where {DAY} and RemoteUrl startswith "a" | join kind=inner ({EVENTS} | where DeviceId == "dev-1") on ConnectionId',
    f'let T = {EVENTS} | where {DAY} and Outcome == "blocked"; T | union T | summarize count() by RecordId',
]
WHOLE = [
    f'{EVENTS} | where DeviceId == "dev-2" | where BytesSent > 3',
    f'{EVENTS} | where DeviceId in ("dev-1", "dev-2") and {DAY} and isnotempty(RemoteUrl) | summarize max(Version)',
    f"{EVENTS} | where {DAY} | count",
    f'{EVENTS} | where RemoteUrl has "b.example" | count',
    f'{EVENTS} | where Timestamp < datetime(2026-11-25) and RemoteUrl has "b.example" | count',
    f'{EVENTS} | extend Outcome = "blocked" | where {DAY} and Outcome == "blocked" | count',
    f'{EVENTS} | where {DAY} and not(RemoteUrl has "b.example") | count',
    f'{EVENTS} | where {DAY} or Outcome == "blocked" | count',
    f'{EVENTS} | where {DAY} and HttpEventIds has "x" | count',
    f'let {EVENTS} = datatable(Timestamp: datetime, Outcome: string)[datetime(2026-11-24), "x"]; {EVENTS} | where {DAY} and Outcome == "x"',
]


@pytest.fixture(scope="module")
def database(engine: Engine) -> str:
    """Versions of 400 rows in four parts: later ones have another time, outcome and target; some are there twice."""
    name = "candidates"
    chance = random.Random(5)
    with connect(engine.settings("")) as client:
        migrate(client, name)
        client.command(f"SYSTEM STOP MERGES {name}.{EVENTS}_versions")
        columns = ["Timestamp", "DeviceId", "RecordId", "Version", "RemoteUrl", "Outcome", "BytesSent", "ConnectionId"]
        for _ in range(4):
            rows = [
                (
                    f"2026-11-{chance.choice([22, 23, 24, 25, 26])} {chance.randrange(24):02}:00:00",
                    f"dev-{record % 4}",
                    f"r{record}",
                    chance.randrange(1, 1_000_000),
                    chance.choice(
                        [
                            "",
                            "a.example:443",
                            "http://b.example/x",
                            "b-example",
                            "ü.example",
                            "\u2018b.example\u2019",
                            "ba\u017fe",
                        ]
                    ),
                    chance.choice(["allowed", "blocked", "unknown"]),
                    chance.choice([None, 1, 5]),
                    f"c{record % 40}",
                )
                for record in chance.sample(range(400), 250)
            ]
            client.insert(f"{name}.{EVENTS}_versions", rows + rows[:20], column_names=columns)
    return name


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    """A client in no database."""
    with connect(engine.settings("")) as made:
        yield made


def tables(client: Client, database: str) -> dict[str, Table]:
    """Return the tables of the server."""
    found = client.query(catalog.COLUMNS_QUERY, parameters={"database": database})
    return catalog.of_server(found.named_results(), database)


def both(client: Client, database: str, query: str) -> tuple[list[str], list[str]]:
    """Return the rows of a query, and its rows for a reader who does not see the history."""
    known = tables(client, database)
    blind = {name: replace(table, history="") for name, table in known.items()}
    fast, slow = (translate(query, one, now=1_795_000_000_000_000).sql for one in (known, blind))
    return sorted(map(str, client.query(fast).result_rows)), sorted(map(str, client.query(slow).result_rows))


@pytest.mark.parametrize("query", NARROWED)
def test_narrowed_hunt_finds_the_same(client: Client, database: str, query: str) -> None:
    """A selective hunt reads the history and finds the latest versions, whatever earlier versions contain."""
    fast, slow = both(client, database, query)

    assert fast == slow
    assert f"{EVENTS}_history" in translate(query, tables(client, database)).sql


@pytest.mark.parametrize("query", NARROWED)
def test_many_candidates_read_the_view(
    client: Client, database: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more candidates than allowed the rows come from the view of the latest versions."""
    monkeypatch.setattr(candidates, "ROWS_MAX", 3)
    fast, slow = both(client, database, query)

    assert fast == slow


@pytest.mark.parametrize("query", WHOLE)
def test_other_hunts_read_the_view(client: Client, database: str, query: str) -> None:
    """A hunt without a range of time, or that many rows meet, or whose columns are computed, reads the view."""
    fast, slow = both(client, database, query)

    assert fast == slow
    assert f"{EVENTS}_history" not in translate(query, tables(client, database)).sql


def test_day_that_ends_at_midnight_reads_no_other(client: Client, database: str) -> None:
    """The last day of `< midnight` is the day before, that of `<= midnight` the day that begins then."""
    for operator, last in (("<", "2026-11-24"), ("<=", "2026-11-25")):
        query = f'{EVENTS} | where Timestamp >= datetime(2026-11-24) and Timestamp {operator} datetime(2026-11-25) | where Outcome == "x"'
        sql = translate(query, tables(client, database)).sql
        bounds = re.findall(r"toDate32\(t\.Timestamp\) <= (.*?) AND ", sql)

        assert {str(client.command(f"SELECT {bound}")) for bound in bounds} == {last}


def test_history_is_no_table_of_kql(client: Client, database: str) -> None:
    """Hunts over all tables do not see old versions."""
    assert not [name for name in tables(client, database) if name.endswith("_history")]


def test_long_conditions_are_not_repeated(client: Client, database: str) -> None:
    """A list of thousands of names is written once."""
    names = ", ".join(f'"host-{number}.example"' for number in range(5_000))
    sql = translate(f"{EVENTS} | where {DAY} and RemoteUrl in ({names})", tables(client, database)).sql

    assert f"{EVENTS}_history" not in sql


TEXTS = (
    "b.example", "http://B.Example/x", "xb.example", "b.examples", "\u2018b.example\u2019", "b\u2013example", "ba\u017fe-x", "BASE-X", "K-2",
    "\u212a-2", "é.example", "É.EXAMPLE", "a\\b'c", "", "x", "x-", "-x-", "ⅷ.x",
)  # fmt: skip
NEEDLES = (
    "b.example",
    "base-x",
    "k-2",
    "é.example",
    "a\\b'c",
    "x-",
    "-x",
    "-",
    ".",
    "`",
    "x",
    "b\u2013example",
    "\u212a-2",
)


@pytest.mark.parametrize("operator", ["has", "hasprefix", "hassuffix", "has_cs"])
@pytest.mark.parametrize("needle", NEEDLES)
def test_prefilter_changes_nothing(client: Client, operator: str, needle: str) -> None:
    """The search before the regular expression never leaves out a text that the expression matches."""
    plain = operator.removesuffix("_cs")
    flags = "" if operator.endswith("_cs") else "(?i)"
    expected = f"match(s, {text_literal(flags + terms.pattern(needle, plain))})"
    found = terms.condition(operator, Value("s", Type.STRING, False), Value("", Type.STRING, False, needle))
    values = ", ".join(text_literal(text) for text in TEXTS)
    rows = client.query(f"SELECT s FROM (SELECT arrayJoin([{values}]) AS s) WHERE {found} != {expected}").result_rows

    assert rows == []
