"""Every query of `docs/hunting.md`, asked of one Tuesday (`hunting_story`): what it must answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unproxy.query.hunting_story import OTHER_PROXY, tables
from tests.unproxy.query.hunting_tables import hunted, picked, settings_with
from unproxy.local.servers.engine import Engine
from unproxy.query.answer import Table, ask
from unproxy.query.client import Client, of_settings
from unproxy.query.hunt import Answer

PAGE = Path(__file__).parents[3] / "docs/hunting.md"
DATABASE = "hunting"


class Query(NamedTuple):
    """A block of the page, with the name that stands above it."""

    name: str
    language: str
    text: str

    def ask(self, client: Client) -> Table | Answer:
        """Its answer."""
        return ask(client, self.text, {}) if self.language == "sql" else hunted(client, self.text)


QUERIES = [Query(*found) for found in re.findall(r"<!-- (\S+) -->\n```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)]


@pytest.fixture(scope="module")
def client(engine: Engine) -> Client:
    """Asks the tables of that Tuesday."""
    return of_settings(settings_with(engine, DATABASE, tables()))


ANSWERS: dict[str, list[tuple[object, ...]]] = {
    # ws-1: www.example.com, 203.0.113.21 and bad1.example; ws-2: warned, front; ws-3: noted, twice; others one each.
    "destinations-per-device": [("srv-1", 1), ("ws-1", 3), ("ws-2", 2), ("ws-3", 2), ("ws-4", 1)],
    "who-talked-to-it": [
        ("srv-1", "bad1.example:443", "", "allowed"),
        ("ws-1", "", "203.0.113.21", "allowed"),
        ("ws-1", "http://bad1.example/", "", "blocked"),
        ("ws-1", "bad1.example:443", "", "allowed"),
    ],
    "who-was-off": [("srv-1", "settings"), ("ws-1", "defender_5007"), ("ws-6", "settings")],
    "active-and-off": [("ws-1",), ("ws-4",), ("ws-5",)],
    "blind-on-a-day": [("ws-4", 1440), ("ws-5", 1200), ("ws-1", 600), ("srv-1", 240)],
    "done-while-off": [("ws-1", 61), ("srv-1", 1), ("ws-4", 1)],
    "alerts": [
        ("not_enforced", "srv-1", "bad1.example", 1),
        ("blocked", "ws-1", "bad1.example", 1),
        ("not_enforced", "ws-1", "bad1.example", 1),
    ],
    "not-enforced-rows": [
        ("srv-1", "connection", "allowed"),
        ("srv-1", "destination", "allowed"),
        ("ws-1", "connection", "allowed"),
        ("ws-1", "destination", "allowed"),
    ],
    "blocked-rows": [("ws-1", "http://bad1.example/", "curl")],
    "bypassed": [("ws-2", "http://warned.example/")],
    "bypassed-rows": [("ws-2", "connection"), ("ws-2", "destination")],
    "unjoined": [("ws-3", "alone.example/", "no_connection"), ("ws-3", "twice.example/", "ambiguous")],
    "fronting": [
        ("ws-2", "connection", "front.test", "hidden.test"),
        ("ws-2", "destination", "front.test", "hidden.test"),
    ],
    "unlisted-proxies": [(OTHER_PROXY, 1, 1)],
    "through-a-proxy": [("ws-4", "www.example.com", 1)],
    "past-the-proxy": [("ws-1", "203.0.113.21", 443)],
    "past-the-proxy-rows": [("ws-1", "203.0.113.21", 443)],
}
COLUMNS: dict[str, list[str]] = {
    "destinations-per-device": ["DeviceName", "Destinations"],
    "who-talked-to-it": ["DeviceName", "RemoteUrl", "RemoteIP", "Outcome"],
    "who-was-off": ["DeviceName", "Evidence"],
    "active-and-off": ["DeviceName"],
    "blind-on-a-day": ["DeviceName", "Minutes"],
    "done-while-off": ["DeviceName", "Connections"],
    "alerts": ["Kind", "DeviceName", "DestinationDomain", "Count"],
    "not-enforced-rows": ["DeviceId", "Layer", "Outcome"],
    "blocked-rows": ["DeviceName", "RemoteUrl", "InitiatingProcessFileName"],
    "bypassed": ["DeviceName", "RemoteUrl"],
    "bypassed-rows": ["DeviceName", "Layer"],
    "unjoined": ["DeviceName", "RemoteUrl", "Why"],
    "fronting": ["DeviceName", "Layer", "DestinationHost", "HostMismatch"],
    "unlisted-proxies": ["DestinationDomain", "Devices", "Connections"],
    "through-a-proxy": ["DeviceName", "DestinationHost", "Requests"],
    "past-the-proxy": ["DeviceName", "DestinationDomain", "DestinationPort"],
    "past-the-proxy-rows": ["DeviceId", "RemoteIP", "RemotePort"],
}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.name}-{query.language}")
def test_query_answers(client: Client, query: Query) -> None:
    """In SQL and in KQL alike."""
    assert picked(query.ask(client), *COLUMNS[query.name]) == ANSWERS[query.name]


def test_every_block_is_asked() -> None:
    """No query of the page is without a name, and none is expected that is not there."""
    assert len(QUERIES) == len(re.findall(r"```(?:sql|kql)\n", PAGE.read_text()))
    assert {query.name for query in QUERIES} == ANSWERS.keys() == COLUMNS.keys()


@pytest.mark.parametrize(
    ("clock", "off", "on"),
    [
        ("01:00:00", ["srv-1", "ws-1", "ws-6"], ["srv-1", "ws-1", "ws-4", "ws-5"]),
        ("08:00:00", ["srv-1", "ws-6"], ["ws-4", "ws-5"]),
        ("13:59:59", ["srv-1", "ws-6"], ["ws-4", "ws-5"]),
        ("14:00:00", ["srv-1", "ws-1", "ws-6"], ["ws-1", "ws-4", "ws-5"]),
        ("16:00:00", ["srv-1", "ws-6"], ["ws-4", "ws-5"]),
        ("20:00:00", ["srv-1", "ws-6"], ["ws-4"]),
    ],
)
def test_who_was_off_at_any_time(client: Client, clock: str, off: list[str], on: list[str]) -> None:
    """Whatever time is put into the page's queries: a mode holds from its beginning, and until just before its end."""
    for query in QUERIES:
        if query.name in ("who-was-off", "active-and-off"):
            there = query._replace(text=query.text.replace("15:00:00", clock))
            expected = off if query.name == "who-was-off" else on

            assert [device for (device,) in picked(there.ask(client), "DeviceName")] == expected, there


def test_what_alerts_bring_finds_their_rows(client: Client) -> None:
    """The KQL in `Query` of each alert gives at least one row, of its device."""
    alerts = client.rows("SELECT DeviceId, Query FROM BlockAlerts WHERE Count > 0")
    for alert in alerts:
        found = hunted(client, alert["Query"])

        assert {row[found.names.index("DeviceId")] for row in found.rows} == {alert["DeviceId"]}, alert
    assert len(alerts) == 10


def test_why_is_shown_where_it_is_known(client: Client) -> None:
    """Known to be off, by what; nothing known is empty."""
    (query,) = [query for query in QUERIES if (query.name, query.language) == ("active-and-off", "sql")]

    assert picked(query.ask(client), "DeviceName", "Why", "Since") == [
        ("ws-1", "defender_5007", "2026-11-24 14:00:00.000000"), ("ws-4", "", None), ("ws-5", "", None),
    ]  # fmt: skip
