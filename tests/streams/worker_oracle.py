"""What a worker must have made of its input: the log replayed through one pipeline per partition, in one process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, DEVICE_EVENTS, NETWORK_EVENTS, REJECTS, STATE_CHANGELOG, TELEMETRY
from streams.pipeline import Message
from tests.streams.worker_counting import CountingPipeline
from tests.streams.worker_process import PARTITIONS, committed, read_all

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
    """Compare all outputs and the changelog with a replay of the input up to the committed offsets."""
    done = committed(settings)
    pipelines = {partition: CountingPipeline(settings.correlation) for partition in range(PARTITIONS)}
    state: dict[tuple[int, bytes], bytes] = {}
    expected: Counter[tuple[Place, bytes]] = Counter()
    inputs = 0
    for raw in read_all(settings, TELEMETRY):
        offset, partition = raw.offset(), raw.partition()
        assert offset is not None
        assert partition is not None
        if offset >= done[partition]:
            continue
        inputs += 1
        headers = dict(raw.headers() or [])
        dialect = headers["dialect"]
        assert isinstance(dialect, bytes)
        pipeline = pipelines[partition]
        pipeline.take(Message(offset, raw.timestamp()[1], raw.key() or b"", raw.value() or b"", dialect.decode()))
        output = pipeline.drain()
        expected.update(((NETWORK_EVENTS, partition), row) for row in output.network_events)
        expected.update(((DEVICE_EVENTS, partition), row) for row in output.device_events)
        expected.update(((BLOCK_ALERTS, partition), alert) for _, alert in output.alerts)
        expected.update(((REJECTS, partition), reject.raw) for reject in output.rejects)
        state.update({(partition, key): value for key, value in pipeline.checkpoint()})

    found: Counter[tuple[Place, bytes]] = Counter()
    for topic in (NETWORK_EVENTS, DEVICE_EVENTS, BLOCK_ALERTS, REJECTS):
        for made in read_all(settings, topic):
            found.update(((topic, made.partition() or 0), line) for line in (made.value() or b"").split(b"\n"))
    kept = {
        (entry.partition() or 0, entry.key() or b""): entry.value() for entry in read_all(settings, STATE_CHANGELOG)
    }
    return Verdict(
        inputs=inputs,
        lost=sum((expected - found).values()),
        extra=sum(key not in expected for key in found),
        doubled=sum((found - expected).values()),
        wrong_state=sum(kept.get(key) != value for key, value in state.items()) + len(kept.keys() - state.keys()),
    )
