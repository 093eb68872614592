"""Kusto queries through ClickHouse's dialect, mended where that means something else."""

from __future__ import annotations

import pytest

from schemas.settings import Settings
from unproxy import wiring
from unproxy.query import kql
from unproxy.query.answer import ask
from unproxy.query.client import Client, QueryRefused, of_settings

PROXY = "198.51.100.80"


@pytest.mark.parametrize("query", kql.hunting_queries(PROXY))
def test_hunting_queries_stay_as_they_are(query: str) -> None:
    """The two queries of every hunter go to the engine word for word."""
    assert kql.translate(query) == query


@pytest.mark.parametrize(
    ("query", "translated"),
    [
        ("T | where RemotePort != 443", "T | where (RemotePort != 443 or isnull(RemotePort))"),
        ("T | where 1 == 1 and LocalPort!=-1", "T | where 1 == 1 and (LocalPort!=-1 or isnull(LocalPort))"),
        ("T | where RemotePort !in (80, 443)", "T | where (RemotePort !in (80, 443) or isnull(RemotePort))"),
        ("T | where RemotePort != toint('1')", "T | where (RemotePort != toint('1') or isnull(RemotePort))"),
        ('T | where RemoteUrl == "RemotePort != 443"', 'T | where RemoteUrl == "RemotePort != 443"'),
        ("T | take 3 ;\n", "T | take 3"),
        ("// why\nT // what\n| take 1", "\nT \n| take 1"),
        ('T | where RemoteUrl has "http://a"', 'T | where RemoteUrl has "http://a"'),
        ("T | where RemotePort !=", "T | where RemotePort !="),
        ("T | where Timestamp between (ago(2d) .. 1d)", "T | where Timestamp between (ago(2d) .. ago(2d) + 1d)"),
        (
            "T | where X !between(datetime(2026-11-24)..5m)",
            "T | where X !between(datetime(2026-11-24).. datetime(2026-11-24) +5m)",
        ),
        ("T | where Timestamp between (ago(2d) .. now())", "T | where Timestamp between (ago(2d) .. now())"),
        ("T | where RemotePort between (1 .. 1024)", "T | where RemotePort between (1 .. 1024)"),
        ("T | where Duration between (1m .. 1h)", "T | where Duration between (1m .. 1h)"),
        ("T | where X between (1 .. 1d", "T | where X between (1 .. 1d"),
        ("T | where X between", "T | where X between"),
    ],
)
def test_only_what_differs_is_mended(query: str, translated: str) -> None:
    """Null passes `!=` and `!in`; a span becomes its end; the last semicolon and comments go; texts are left alone."""
    assert kql.translate(query) == translated


@pytest.fixture
def tables(settings: Settings) -> Client:
    """A client of our tables with four rows: two hops to the proxy, two destinations."""
    wiring.migrate(settings)
    client = of_settings(settings)
    rows = [("1", "ConnectionSuccess", PROXY, "3128"), ("2", "ConnectionSuccess", "", "443")]
    rows += [("3", "ConnectionFailed", PROXY, "3128"), ("4", "ConnectionSuccess", "", "NULL")]
    values = ", ".join(f"('{number}', 'dev', '{action}', '{ip}', {port})" for number, action, ip, port in rows)
    columns = "RecordId, DeviceId, ActionType, RemoteIP, RemotePort"
    list(client.lines(f"INSERT INTO DeviceNetworkEvents_versions ({columns}) VALUES {values}", output="Null"))
    return client


def found(client: Client, query: str) -> list[str]:
    """The rows that a KQL query gives."""
    answer = ask(client, kql.translate(query), kql.SETTINGS)
    return sorted(str(row[answer.names.index("RecordId")]) for row in answer.rows)


def test_hunting_queries_mean_what_they_mean(tables: Client) -> None:
    """The first gives every success, the second leaves out the hops to the proxy and keeps each destination."""
    everything, behind = kql.hunting_queries(PROXY)

    assert found(tables, everything) == ["1", "2", "4"]
    assert found(tables, behind) == ["2", "4"]


def test_null_passes_not_equal(tables: Client) -> None:
    """As in Kusto, a row without a port is not one with port 443."""
    assert found(tables, "DeviceNetworkEvents | where RemotePort != 443") == ["1", "3", "4"]
    assert found(tables, "DeviceNetworkEvents | where RemotePort !in (443, 3128)") == ["4"]


def test_a_day_is_a_day(tables: Client) -> None:
    """A span that is given by its beginning and its length, as alerts have it in their queries."""
    assert found(tables, "DeviceNetworkEvents | where Timestamp between (datetime(1970-01-01) .. 1d)") == [
        "1",
        "2",
        "3",
        "4",
    ]
    assert found(tables, "DeviceNetworkEvents | where Timestamp !between (datetime(1970-01-01) .. 1d)") == []


def test_refusal_is_one_readable_line(tables: Client) -> None:
    """The engine's error for a wrong query is shown without its code and version."""
    with pytest.raises(QueryRefused) as caught:
        ask(tables, "DeviceNetworkEvents | nonsense", kql.SETTINGS)
    message = str(caught.value)

    assert "nonsense" in message
    assert "\n" not in message
    assert "DB::Exception" not in message


def test_parameters_may_hold_anything(tables: Client) -> None:
    """Values of parameters arrive as they are, whatever characters they hold."""
    odd = "a\\b\tc\nd'e{f} ü"
    (row,) = tables.rows("SELECT {odd:String} AS odd", {"odd": odd})

    assert row["odd"] == odd


@pytest.mark.parametrize("statement", ["DROP VIEW DeviceEvents", "INSERT INTO Rejects_versions (Device) VALUES ('x')"])
def test_a_question_changes_nothing(tables: Client, statement: str) -> None:
    """Whatever the user may do: a statement that writes is refused, in words."""
    with pytest.raises(QueryRefused, match="only reads"):
        ask(tables, statement, {})


def test_format_in_the_question_is_reported(tables: Client) -> None:
    """The answer then is no table; the error points to --format."""
    with pytest.raises(QueryRefused, match="--format"):
        ask(tables, "SELECT 1 FORMAT JSON", {})
