"""What a worker must have made of its input: the log replayed through one pipeline per partition, in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.settings import Settings
from schemas.topics import (
    BLOCK_ALERTS,
    DEVICE_COVERAGE,
    DEVICE_EVENTS,
    NETWORK_EVENTS,
    PROTECTION_MODES,
    REJECTS,
    SENSOR_GAPS,
    STATE_CHANGELOG,
    TABLE_OF_TOPIC,
    TELEMETRY,
)
from streams.alerts.policy import Policy
from streams.pipeline import Message, Output
from tests.streams.worker.worker_counting import CountingPipeline
from tests.streams.worker.worker_process import PARTITIONS, committed, read_all

Place = tuple[str, int]
"""A topic and a partition."""


@dataclass
class Verdict:
    """How what was found differs from what had to be there."""

    inputs: int
    lost: int
    extra: int
    doubled: int
    wrong_state: int


def judge(settings: Settings) -> Verdict:
    """Compare all outputs and the changelog with a replay of the input.

    What is committed must have left its results and its state. A worker may have been ended between results and
    commit, so results and state of the input behind that may be there, or not.
    """
    done = committed(settings)
    pipelines = {
        partition: CountingPipeline(settings.correlation, Policy(settings.protection))
        for partition in range(PARTITIONS)
    }
    state: dict[tuple[int, bytes], list[bytes]] = {}
    expected: Counter[tuple[Place, bytes]] = Counter()
    possible: Counter[tuple[Place, bytes]] = Counter()
    inputs = 0
    for raw in read_all(settings, TELEMETRY):
        offset, partition = raw.offset(), raw.partition()
        assert offset is not None
        assert partition is not None
        pipeline = pipelines[partition]
        headers = dict(raw.headers() or [])
        pipeline.take(Message.read(offset, raw.timestamp()[1], raw.key(), raw.value(), headers))
        results = list(_results(partition, pipeline.drain()))
        possible.update(results)
        is_done = offset < done[partition]
        if is_done:
            inputs += 1
            expected.update(results)
        for key, value in pipeline.checkpoint():
            versions = state.setdefault((partition, key), [])
            if is_done:
                versions.clear()
            versions.append(value)

    found: Counter[tuple[Place, bytes]] = Counter()
    for topic in TABLE_OF_TOPIC:
        for made in read_all(settings, topic):
            found.update(((topic, made.partition() or 0), line) for line in (made.value() or b"").split(b"\n"))
    kept = {
        (entry.partition() or 0, entry.key() or b""): entry.value() or b""
        for entry in read_all(settings, STATE_CHANGELOG)
    }
    wrong = [place for place, value in kept.items() if value not in state.get(place, [])]
    return Verdict(
        inputs=inputs,
        lost=sum((expected - found).values()),
        extra=sum(result not in possible for result in found),
        doubled=sum((found - possible).values()),
        wrong_state=len(wrong) + len(state.keys() - kept.keys()),
    )


def _results(partition: int, output: Output) -> Iterator[tuple[Place, bytes]]:
    yield from (((NETWORK_EVENTS, partition), row) for row in output.network_events)
    yield from (((DEVICE_EVENTS, partition), row) for row in output.device_events)
    yield from (((BLOCK_ALERTS, partition), alert) for _, alert in output.alerts)
    yield from (((REJECTS, partition), reject.raw) for reject in output.rejects)
    yield from (((SENSOR_GAPS, partition), row) for row in output.sensor_gaps)
    yield from (((DEVICE_COVERAGE, partition), row) for row in output.coverage)
    yield from (((PROTECTION_MODES, partition), row) for row in output.modes)
