"""The real worker on a real broker, its durable state on: from the first committed message to the last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

from bench import floor
from bench.cluster import Published, ToSend, Used, publish, read_all, work_off
from bench.figures import Case, report_progress
from bench.fleet import Fleet
from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, TELEMETRY, topic_name

EVENTS = 1_000_000
DEVICES = 200
STARTERS = 8
"""Devices whose messages are processed once before the measurement."""
SAMPLE_ROWS = 5_000
"""Rows of the run that the floor encodes over and over."""


def lines(fleet: Fleet, events: int) -> Iterator[ToSend]:
    """What the fleet's publishers send, in as many rounds as have so many lines."""
    sent: dict[tuple[str, str], int] = {}
    for one in fleet.at_least(events):
        before = sent.get((one.device, one.dialect), 0)
        sent[one.device, one.dialect] = before + one.lines
        headers: dict[str, str | bytes | None] = {"dialect": one.dialect, "sensor": "bench"}
        headers |= {"seq": str(before + 1), "lines": str(one.lines)}
        yield ToSend(one.device.encode(), one.value, one.lines, headers)


def run_case(settings: Settings, folder: Path, lines_per_message: int, events: int, devices: int = DEVICES) -> Case:
    """One worker over a topic that was filled before; the topics of these settings are there and empty."""
    name = f"{lines_per_message} lines a message"
    start, published, used = at_full_speed(
        settings, folder, f"worker: {name}", Fleet(devices, lines_per_message), events
    )
    report_progress(f"worker: {name}: the floors")
    rows, sample = _rows(settings)
    total = published.total
    bare = _bare(settings, published)
    without_logic = _without_logic(settings, published, rows, sample)
    a_core = total / used.cpu_secs
    return Case(
        "worker",
        name,
        {
            "events/s a core": a_core,
            "events/s": total / used.wall_secs,
            "CPU µs/event": 1e6 / a_core,
            "cores used": used.cpu_secs / used.wall_secs,
            "rows/event": rows / total,
            "bare consumer, events/s a core": bare,
            "part of the bare consumer": a_core / bare,
            "without logic, events/s a core": without_logic,
            "part of without logic": a_core / without_logic,
            "events": total,
            "CPU seconds of a start": start.cpu_secs,
        },
    )


def at_full_speed(
    settings: Settings, folder: Path, who: str, fleet: Fleet, events: int
) -> tuple[Used, Published, Used]:
    """What a start takes; what lay there then, and what it took to work it off."""
    topic = topic_name(settings, TELEMETRY)
    report_progress(f"{who}: starting once, to know what a start takes")
    first = publish(settings, topic, lines(Fleet(STARTERS), 1))
    start = work_off(settings, "worker", folder, first)
    report_progress(f"{who}: publishing {events:,} events")
    published = publish(settings, topic, lines(fleet, events))
    report_progress(f"{who}: the worker works")
    return start, published, work_off(settings, "worker", folder, published, start_secs=start.cpu_secs)


def _bare(settings: Settings, published: Published) -> float:
    """Events a CPU second of a consumer that looks at nothing."""
    begun = time.process_time()
    for _ in read_all(settings, published.topic, published):
        pass
    return published.total / (time.process_time() - begun)


def _without_logic(settings: Settings, published: Published, rows: int, sample: Sequence[bytes]) -> float:
    """The same, each line decoded and as many rows encoded as the worker made."""
    source = cycle(floor.rows_of(sample))
    a_line = rows / published.total
    due = 0.0
    begun = time.process_time()
    for message in read_all(settings, published.topic, published):
        dialect = dict(message.headers() or [])["dialect"]
        assert isinstance(dialect, bytes)
        due += a_line * floor.decode(dialect.decode(), message.value() or b"")
        floor.encode_some(source, int(due))
        due -= int(due)
    return published.total / (time.process_time() - begun)


def _rows(settings: Settings) -> tuple[int, list[bytes]]:
    """How many rows the worker made, and some of them."""
    sample: list[bytes] = []
    count = 0
    for message in read_all(settings, topic_name(settings, NETWORK_EVENTS)):
        rows = (message.value() or b"").split(b"\n")
        count += len(rows)
        sample += rows[: max(0, SAMPLE_ROWS - len(sample))]
    return count, sample
