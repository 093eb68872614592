"""What Defender's exported rows come in: envelopes, lists and carriers, late, in any order and twice."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.parsers import dialects
from schemas.parsers.windows.defender_rows import ROWS_MAX, split
from schemas.parsers.windows.mde import DIALECT, device_of, parse, written_at
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from tests.schemas.parsers.parsed_as import opened, reject
from tests.schemas.parsers.windows.defender_rows import CONNECT, NO_PROCESS, columns, envelope, row


def test_one_row_in_every_shape() -> None:
    """Streamed, bare, of Log Analytics, with line end: the very same event."""
    bare = columns("ConnectionSuccess")
    analytics = {**bare, "Type": "DeviceNetworkEvents", "TimeGenerated": bare["Timestamp"], "AdditionalFields": {}}
    del analytics["Timestamp"]
    shapes = [json.dumps(shape).encode() for shape in (envelope(bare), bare, analytics)]
    shapes.append(shapes[0] + b"\r")

    assert len({msgspec.json.encode(opened(parse(shape))) for shape in shapes}) == 1
    assert {device_of(shape) for shape in shapes} == {"ws-0142.corp.example"}


def test_an_envelope_is_taken_apart() -> None:
    """Into the bytes of its rows, in their order; a row is one row, also where a command line uses of records."""
    rows = [row("ConnectionSuccess", LocalPort=port) for port in (1, 2, 3)]
    talks = row("ConnectionSuccess", InitiatingProcessCommandLine='x {"records":[1,2]}')

    assert split(b'{"records":[' + b", ".join(rows) + b"]}") == rows
    assert split(b' { "records" : [ ' + rows[0] + b" ] }\r") == rows[:1]
    assert split(talks) == [talks]
    assert split(rows[0]) == [rows[0]]


def carriers(event: Any) -> dict[str, bytes]:
    """What a row, or the message of an Event Hub, is passed on in."""
    text, time = json.dumps(event), "2025-03-04T09:18:00.000Z"
    held = {
        "splunk's add-on": {"body": event, "x-opt-sequence-number": 7, "x-opt-enqueued-time": 1741079800000},
        "splunk's search": {"preview": False, "result": {"_raw": text, "host": "a"}},
        "elasticsearch": {"_index": "a", "_source": event},
        "filebeat": {"@timestamp": time, "message": text, "azure": {"eventhub": "a"}, "agent": {"type": "filebeat"}},
        "agent": {"@timestamp": time, "event": {"original": text, "dataset": "m365_defender.event"}},
    }
    return {name: json.dumps(line).encode() for name, line in held.items()}


@pytest.mark.parametrize("carrier", carriers({}))
def test_rows_in_somebodys_envelope(carrier: str) -> None:
    """One row, or several that are taken apart, whichever client passed them on; no one else claims them."""
    one = envelope(columns("ConnectionSuccess"))
    line = carriers(one)[carrier]
    assert [dialect.name for dialect in dialects().values() if dialect.claims(line)] == ["mde"]
    assert opened(parse(line)) == opened(parse(json.dumps(one).encode()))
    assert (device_of(line), written_at(line)) == (parse(line).device, opened(parse(line)).at)

    several = {"records": [envelope(columns("ConnectionSuccess", LocalPort=port)) for port in (1, 2)]}
    line = carriers(several)[carrier]
    assert [dialect.name for dialect in dialects().values() if dialect.claims(line)] == ["mde"]
    assert [opened(parse(row)).flow.local_port for row in split(line)] == [1, 2]


def test_answers_and_lists_are_taken_apart() -> None:
    """What advanced hunting's API answers, and a table exported as a list."""
    rows = [columns("ConnectionSuccess", LocalPort=port) for port in (1, 2)]
    answer = {"Schema": [{"Name": "Timestamp", "Type": "DateTime"}], "Results": rows}
    for line in (json.dumps(answer), json.dumps({"schema": [], "results": rows}), json.dumps(rows)):
        assert DIALECT.claims(line.encode())
        assert [opened(parse(row)).flow.local_port for row in split(line.encode())] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        b'{"records":[]}',
        b'{"records":5}',
        b'{"records":[1,2',
        b'{"records":[' + b",".join([b"0"] * (ROWS_MAX + 1)) + b"]}",
    ],
)
def test_what_is_no_envelope_stays_whole(line: bytes) -> None:
    """Nothing in it, damaged, or of too many rows: it goes to `rejects` as one line, with its bytes."""
    assert split(line) == [line]
    assert reject(parse(line)).raw == line


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda more: b'{"records":[{},' + more + b"]}"))
def test_splitting_never_raises(line: bytes) -> None:
    """Whatever comes, there is at least one row, and all of its bytes come from the line."""
    rows = split(line)

    assert rows
    assert all(one in line for one in rows)


def rows_after(lines: list[bytes], each: int) -> dict[str, dict[str, Any]]:
    """The last version of every row, by its id, without what reports how often and how fast it came about."""
    pipeline = Pipeline(CorrelationSettings(proxies=("198.51.100.80:3128",)))
    for number in range(0, len(lines), each):
        value = b'{"records":[' + b",".join(lines[number : number + each]) + b"]}"
        pipeline.take(Message(number + 1, 0, b"", value, DIALECT.name))
    pipeline.finish()
    latest: dict[str, dict[str, Any]] = {}
    for made in map(json.loads, pipeline.drain().network_events):
        if made["Version"] >= latest.get(made["RecordId"], made)["Version"]:
            latest[made["RecordId"]] = made
    return {name: {**made, "Version": 0, "ResolutionMs": 0} for name, made in latest.items()}


@pytest.mark.parametrize("seed", range(5))
def test_rows_out_of_order_and_twice_change_nothing(seed: int) -> None:
    """An export delivers late, in any order, some rows twice: the same connections with the same destinations."""
    lines = [
        row("ConnectionSuccess", DeviceName=device, LocalPort=port, ReportId=port)
        for device in ("one", "two")
        for port in (1_000, 1_001)
    ]
    lines += [
        row(
            "HttpConnectionInspected",
            {**CONNECT, "host": f"s{port}.example:443", "uri": f"s{port}.example:443"},
            DeviceName=device,
            LocalPort=port,
            ReportId=port + 1_000,
            Timestamp="2025-03-04T09:15:22.0120000Z",
            **NO_PROCESS,
        )
        for device in ("one", "two")
        for port in (1_000, 1_001)
    ]
    chance = random.Random(seed)
    shuffled = chance.sample(lines, len(lines)) + chance.sample(lines, 3)

    expected = rows_after(lines, 100)
    assert {made["DestinationHost"] for made in expected.values()} == {"s1000.example", "s1001.example"}
    assert rows_after(shuffled, 3) == expected
