"""What a sink promises, checked on the ClickHouse sink and on the one that stands in for it in other tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

import msgspec
import pytest

from sinks.base import Sink
from sinks.clickhouse import ClickHouseSink, connect
from sinks.migrate import migrate
from tests.sinks.memory_sink import MemorySink
from unproxy.local.servers.engine import Engine

TABLE, OTHER = "Rejects", "BlockAlerts"


def row(number: int) -> bytes:
    """A row of Rejects."""
    fields = {
        "RejectedAt": "2026-11-24T10:00:00.123456Z",
        "Reason": "malformed",
        "Detail": f"detail {number}",
        "Dialect": "suricata",
        "Device": "dev-a",
        "RawBase64": "AA==",
        "RecordId": f"r{number}",
    }
    return msgspec.json.encode(fields)


class Subject(Protocol):
    """A kind of sink with a way to look into it."""

    name: str

    def open(self) -> Sink: ...

    def seen(self, table: str) -> list[str]: ...


class Memory:
    name = "memory"

    def __init__(self) -> None:
        self._sink = MemorySink()

    def open(self) -> Sink:
        return self._sink

    def seen(self, table: str) -> list[str]:
        return [json.loads(line)["RecordId"] for line in self._sink.rows.get(table, [])]


class ClickHouse:
    name = "clickhouse"

    def __init__(self, engine: Engine, database: str) -> None:
        self._config = engine.settings(database)
        with connect(self._config) as client:
            migrate(client, database)

    def open(self) -> Sink:
        return ClickHouseSink(self._config)

    def seen(self, table: str) -> list[str]:
        # Of the storage table: a repeated write must not even cost a merge.
        with connect(self._config) as client:
            found = client.query(f"SELECT RecordId FROM `{self._config.database}`.{table}_versions")
        return [str(values[0]) for values in found.result_rows]


@pytest.fixture(params=["memory", "clickhouse"])
def subject(request: pytest.FixtureRequest, unique: str) -> Subject:
    """Each kind in turn."""
    makers: dict[str, Callable[[], Subject]] = {
        "memory": Memory,
        "clickhouse": lambda: ClickHouse(request.getfixturevalue("engine"), unique),
    }
    return makers[request.param]()


def test_whole_write(subject: Subject) -> None:
    """All rows of a write arrive, whether a piece holds one or many."""
    sink = subject.open()
    sink.write(TABLE, [row(1), row(2) + b"\n" + row(3), row(4)], "a")
    sink.close()

    assert sorted(subject.seen(TABLE)) == ["r1", "r2", "r3", "r4"]


def test_same_token_is_once(subject: Subject) -> None:
    """Writing the same again is writing it once."""
    sink = subject.open()
    for _ in range(3):
        sink.write(TABLE, [row(1), row(2)], "a")
    sink.close()

    assert sorted(subject.seen(TABLE)) == ["r1", "r2"]


def test_same_token_after_restart_is_once(subject: Subject) -> None:
    """A sink that is opened again may repeat what the last one wrote."""
    for _ in range(2):
        sink = subject.open()
        sink.write(TABLE, [row(1)], "a")
        sink.close()

    assert subject.seen(TABLE) == ["r1"]


def test_other_token_is_another_write(subject: Subject) -> None:
    """Equal rows under another token are another write: the sink does not choose between them."""
    sink = subject.open()
    sink.write(TABLE, [row(1)], "a")
    sink.write(TABLE, [row(1), row(2)], "b")
    sink.close()

    assert sorted(subject.seen(TABLE)) == ["r1", "r1", "r2"]


def test_many_rows_one_write(subject: Subject) -> None:
    """A large write repeated is still one: it was not cut into parts that are known by other names."""
    pieces = [b"\n".join(row(number) for number in range(start, start + 1_000)) for start in range(0, 30_000, 1_000)]
    sink = subject.open()
    for _ in range(2):
        sink.write(TABLE, pieces, "large")
    sink.close()

    assert len(subject.seen(TABLE)) == 30_000


def test_tokens_are_of_a_table(subject: Subject) -> None:
    """The same token on another table is another write."""
    alert = {"AlertId": "x", "Version": 1, "DeviceId": "d"}
    sink = subject.open()
    sink.write(OTHER, [msgspec.json.encode(alert)], "a")
    sink.write(TABLE, [row(1)], "a")
    sink.close()

    assert subject.seen(TABLE) == ["r1"]
