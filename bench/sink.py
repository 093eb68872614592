"""The real sink from a real broker into the embedded engine, and the same bytes inserted with nothing in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from bench.cluster import ToSend, Used, cpu_secs, publish, work_off
from bench.figures import Case, report_progress
from bench.fleet import Fleet
from schemas.ddl import VERSIONS, quoted
from schemas.settings import ClickHouseSettings, Settings
from schemas.topics import NETWORK_EVENTS, topic_name, topics
from sinks.clickhouse import _INSERT_SETTINGS, connect
from sinks.migrate import migrate
from streams.pipeline import Message, Pipeline

ROWS = 400_000
DEVICES = 200
BLOCK_BYTES = 64 * 1024 * 1024
"""Of one bare insert."""
TABLE = "DeviceNetworkEvents"


def row_messages(settings: Settings, fleet: Fleet, rows: int) -> list[bytes]:
    """At least so many rows as the correlator makes them, those of one input message in one message."""
    pipeline = Pipeline(settings.correlation)
    made: list[bytes] = []
    count = offset = 0
    while count < rows:
        for packed in fleet.rounds(1):
            offset += 1
            pipeline.take(Message(offset, 1_800_000_000_000, packed.device.encode(), packed.value, packed.dialect))
            some = pipeline.drain().network_events
            pipeline.checkpoint()
            if some:
                made.append(b"\n".join(some))
                count += len(some)
    return made


def run_case(settings: Settings, folder: Path, engine_pid: int, rows: int, devices: int = DEVICES) -> Case:
    """One sink over a topic that was filled before; topics and database of these settings are there and empty."""
    report_progress(f"sink: making {rows:,} rows")
    values = row_messages(settings, Fleet(devices), rows)
    partitions = next(t.partitions for t in topics(settings) if t.name == topic_name(settings, NETWORK_EVENTS))
    topic = topic_name(settings, NETWORK_EVENTS)
    to_send = [ToSend(None, value, _rows(value), {}, number % partitions) for number, value in enumerate(values)]
    _migrate(settings.clickhouse)
    engine = psutil.Process(engine_pid)
    report_progress("sink: starting once, to know what a start takes")
    start = work_off(settings, "sink", folder, publish(settings, topic, to_send[:partitions]), server=engine)
    published = publish(settings, topic, to_send)

    report_progress("sink: the sink works")
    used = work_off(settings, "sink", folder, published, start_secs=start.cpu_secs, server=engine)

    report_progress("sink: the floor")
    bare = _bare_inserts(settings, values, engine)
    total = published.total
    size = sum(len(value) for value in values) / total
    both_secs, bare_secs = used.cpu_secs + used.server_cpu_secs, bare.cpu_secs + bare.server_cpu_secs
    wall, both = total / used.wall_secs, total / both_secs
    bare_wall, bare_both = total / bare.wall_secs, total / bare_secs
    return Case(
        "sink",
        f"{_mean([_rows(value) for value in values]):.0f} rows a message",
        {
            "rows/s": wall,
            "rows/s a core, sink and engine": both,
            "rows/s a core, sink alone": total / used.cpu_secs,
            "cores used": both_secs / used.wall_secs,
            "bytes/row": size,
            "bare insert, rows/s": bare_wall,
            "part of the bare insert": wall / bare_wall,
            "bare insert, rows/s a core": bare_both,
            "part of the bare insert, a core": both / bare_both,
            "rows": total,
            "CPU seconds of a start": start.cpu_secs,
        },
    )


def _bare_inserts(settings: Settings, values: Sequence[bytes], engine: psutil.Process) -> Used:
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
    return Used(time.monotonic() - begun[0], time.process_time() - begun[2], cpu_secs(engine) - begun[1])


def _insert(config: ClickHouseSettings, values: Sequence[bytes]) -> None:
    client = connect(config)
    try:
        for block in _blocks(values):
            client.raw_insert(
                f"{quoted(config.database)}.{quoted(TABLE + VERSIONS)}",
                insert_block=block,
                settings=_INSERT_SETTINGS,
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
