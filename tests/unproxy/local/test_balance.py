"""The balance of the book."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, DEVICE_COVERAGE, NETWORK_EVENTS, REJECTS, SENSOR_GAPS, topic_name
from unproxy import wiring
from unproxy.local import balance as book
from unproxy.local.meter import Offsets
from unproxy.query.client import of_settings

WORKERS = {
    "read": 10, "parsed": 6, "ignored:dns": 2, "ignored:stats": 1, "rejected:malformed": 1,
    "connections": 5, "resolved:connect": 2, "resolved:sni": 1, "unresolved:no_http_event": 1, "waiting": 1,
}  # fmt: skip


def test_workers_book_balances() -> None:
    """Lines and connections, each with where they went."""
    lines, connections = book.of_workers(WORKERS)

    assert lines.balances
    assert connections.balances
    assert str(lines) == "10 lines read = 6 parsed + 3 ignored + 1 rejected"
    assert str(connections) == "5 connections = 3 resolved + 1 unresolved no_http_event + 1 waiting"


@pytest.mark.parametrize("lost", ["parsed", "ignored:dns", "resolved:sni", "waiting"])
def test_whatever_is_missing_shows(lost: str) -> None:
    """One event less anywhere, and the book does not balance."""
    counted = {**WORKERS, lost: WORKERS[lost] - 1}

    assert not all(line.balances for line in book.of_workers(counted))
    assert any("≠" in str(line) for line in book.of_workers(counted))


Counted = Callable[[dict[str, list[str]], int], dict[str, book.Line]]


@pytest.fixture
def counted(settings: Settings) -> Counted:
    """Puts messages on the result topics, and rows into the table, and gives the book's lines by table."""

    def count(messages: dict[str, list[str]], versions_written: int) -> dict[str, book.Line]:
        wiring.migrate(settings)
        producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
        ends: Offsets = {}
        for name, values in messages.items():
            topic = topic_name(settings, name)
            for value in values:
                producer.produce(topic, value, partition=0)
            ends[topic, 0] = len(values)
        producer.flush()
        client = of_settings(settings)
        rows = ", ".join(f"('r{number % 2}', 'dev', {number})" for number in range(versions_written))
        insert: Any = f"INSERT INTO DeviceNetworkEvents_versions (RecordId, DeviceId, Version) VALUES {rows}"
        list(client.lines(insert, output="Null"))
        found = list(book.of_rows(settings, client, ends, ends))
        return {line.what.split()[2]: line for line in found}

    return count


def row(record: int, version: int) -> str:
    """A row as it stands on the topic."""
    return f'{{"RecordId":"r{record}","Version":{version},"Timestamp":"x"}}'


def test_rows_of_topic_and_table_are_compared(counted: Counted) -> None:
    """Of each record the latest version counts, however often it was sent."""
    rows = [f"{row(0, 0)}\n{row(1, 1)}", row(0, 2), row(1, 3), row(1, 3)]
    lines = counted({NETWORK_EVENTS: rows, BLOCK_ALERTS: [], REJECTS: []}, 4)

    assert all(line.balances for line in lines.values())
    assert lines["DeviceNetworkEvents"].total == 2
    assert "5 versions on the topic" in str(lines["DeviceNetworkEvents"])


def test_row_that_is_missing_shows(counted: Counted) -> None:
    """A row that is on the topic and not in the table makes the book wrong."""
    line = counted({NETWORK_EVENTS: [row(0, 0), row(1, 1), row(2, 2)]}, 2)["DeviceNetworkEvents"]

    assert not line.balances
    assert "≠" in str(line)


def test_older_version_in_the_table_shows(counted: Counted) -> None:
    """As many rows on both sides are not enough: they must be the latest."""
    line = counted({NETWORK_EVENTS: [row(0, 0), row(1, 1), row(0, 2)]}, 2)["DeviceNetworkEvents"]

    assert not line.balances
    assert "other versions" in str(line)


def test_what_is_not_shown_is_counted(settings: Settings, counted: Counted) -> None:
    """A gap that was filled is on the topic and among the versions, though hunters do not see it; coverage is merged."""
    wiring.migrate(settings)
    client = of_settings(settings)
    gaps = "('g0', 'dev', 1, 'open'), ('g0', 'dev', 2, 'filled'), ('g1', 'dev', 1, 'open')"
    for insert in (
        f"INSERT INTO SensorGaps_versions (RecordId, DeviceId, Version, Status) VALUES {gaps}",
        "INSERT INTO DeviceCoverage_versions (RecordId, DeviceId) VALUES ('c0', 'dev'), ('c0', 'dev'), ('c1', 'dev')",
    ):
        list(client.lines(insert, output="Null"))
    coverage = [f'{{"RecordId":"{name}"}}' for name in ("c0", "c1", "c0")]
    gap_rows = [f'{{"RecordId":"{name}","Version":{version}}}' for name, version in (("g0", 1), ("g0", 2), ("g1", 1))]
    lines = counted({SENSOR_GAPS: gap_rows, DEVICE_COVERAGE: coverage, NETWORK_EVENTS: [row(0, 0)]}, 1)

    assert all(line.balances for line in lines.values())
    assert (lines["SensorGaps"].total, lines["DeviceCoverage"].total) == (2, 2)
