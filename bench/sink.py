"""The real sink from a real broker into the embedded engine, and the same bytes inserted with nothing in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.cluster import ToSend, cpu_secs, follow, part_of, publish
from bench.figures import Case, tell
from bench.fleet import Fleet
from schemas.ddl import VERSIONS, quoted
from schemas.settings import ClickHouseSettings, Settings
from schemas.topics import NETWORK_EVENTS, topic_name, topics
from sinks.clickhouse import connect
from sinks.migrate import migrate
from streams.pipeline import Message, Pipeline

ROWS = 400_000
DEVICES = 200
BLOCK_BYTES = 64 * 1024 * 1024
"""Of one bare insert."""
TABLE = "DeviceNetworkEvents"
FLOOR_SETTINGS = {"date_time_input_format": "best_effort", "wait_end_of_query": 1}
"""Without the first ClickHouse cannot read our times; with the second it answers when it is done, as it does the sink."""


class Usage(NamedTuple):
    """Time by the clock, and CPU time of the engine and of whoever writes to it."""

    wall_secs: float
    engine_secs: float
    writer_secs: float


def row_messages(settings: Settings, fleet: Fleet, rows: int) -> list[bytes]:
    """At least so many rows as the correlator makes them, those of one input message in one message."""
    pipeline = Pipeline(settings.correlation)
    made: list[bytes] = []
    count = offset = 0
    number = 0
    while count < rows:
        for packed in fleet.rounds(number, 1):
            offset += 1
            pipeline.take(Message(offset, 1_800_000_000_000, packed.device.encode(), packed.value, packed.dialect))
            some = pipeline.drain().network_events
            pipeline.checkpoint()
            if some:
                made.append(b"\n".join(some))
                count += len(some)
        number += 1
    return made


def run_case(settings: Settings, folder: Path, engine_pid: int, rows: int, devices: int = DEVICES) -> Case:
    """One sink over a topic that was filled before; topics and database of these settings are there and empty."""
    tell(f"sink: making {rows:,} rows")
    values = row_messages(settings, Fleet(devices), rows)
    partitions = next(t.partitions for t in topics(settings) if t.name == topic_name(settings, NETWORK_EVENTS))
    to_send = (ToSend(None, value, _rows(value), {}, number % partitions) for number, value in enumerate(values))
    published = publish(settings, topic_name(settings, NETWORK_EVENTS), to_send)
    _migrate(settings.clickhouse)

    tell("sink: the sink works")
    engine = psutil.Process(engine_pid)
    with part_of(settings, "sink", folder) as sink:
        span = follow(settings, settings.sink.group, published, sink, engine)

    tell("sink: the floor")
    bare = _bare_inserts(settings, values, engine)
    total = published.total
    size = sum(len(value) for value in values) / total
    wall, both = span.weight / span.wall_secs, span.weight / (span.cpu_secs + span.other_cpu_secs)
    bare_wall, bare_both = total / bare.wall_secs, total / (bare.engine_secs + bare.writer_secs)
    return Case(
        "sink",
        f"{_mean([_rows(value) for value in values]):.0f} rows a message",
        {
            "rows/s": wall,
            "rows/s a core, sink and engine": both,
            "rows/s a core, sink alone": span.weight / span.cpu_secs,
            "cores used": (span.cpu_secs + span.other_cpu_secs) / span.wall_secs,
            "bytes/row": size,
            "bare insert, rows/s": bare_wall,
            "part of the bare insert": wall / bare_wall,
            "bare insert, rows/s a core": bare_both,
            "part of the bare insert, a core": both / bare_both,
            "rows measured": span.weight,
        },
    )


def _bare_inserts(settings: Settings, values: Sequence[bytes], engine: psutil.Process) -> Usage:
    """All rows into a table of the same shape in another database, as many inserts at once as the sink has."""
    config = settings.clickhouse.model_copy(update={"database": f"{settings.clickhouse.database}_floor"})
    _migrate(config)
    begun = time.monotonic(), cpu_secs(engine), time.process_time()
    with ThreadPoolExecutor(settings.sink.inserts_max) as pool:
        lanes = [
            pool.submit(_insert, config, values[lane :: settings.sink.inserts_max])
            for lane in range(settings.sink.inserts_max)
        ]
        for lane in lanes:
            lane.result()
    return Usage(time.monotonic() - begun[0], cpu_secs(engine) - begun[1], time.process_time() - begun[2])


def _insert(config: ClickHouseSettings, values: Sequence[bytes]) -> None:
    client = connect(config)
    try:
        for block in _blocks(values):
            client.raw_insert(
                f"{quoted(config.database)}.{quoted(TABLE + VERSIONS)}",
                insert_block=block,
                settings=FLOOR_SETTINGS,
                fmt="JSONEachRow",
            )
    finally:
        client.close()


def _blocks(values: Sequence[bytes]) -> Iterator[bytes]:
    some: list[bytes] = []
    size = 0
    for value in values:
        some.append(value)
        size += len(value)
        if size >= BLOCK_BYTES:
            yield b"\n".join(some)
            some, size = [], 0
    if some:
        yield b"\n".join(some)


def _migrate(config: ClickHouseSettings) -> None:
    client = connect(config)
    try:
        migrate(client, config.database)
    finally:
        client.close()


def _rows(value: bytes) -> int:
    return value.count(b"\n") + 1


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers)
