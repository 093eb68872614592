"""A device with 100,000 open connections on the real broker: no message is too large, and no crash tears its state."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Message as Raw

from schemas.settings import Settings
from schemas.topics import BLOCK_ALERTS, DEVICE_EVENTS, NETWORK_EVENTS, STATE_CHANGELOG, TELEMETRY
from streams.pipeline import Message, Pipeline
from tests.streams.model.test_snapshot import opened, state_of
from tests.streams.worker import worker_large
from tests.streams.worker.worker_process import WorkerProcess, committed, ends, produce, read_all, wait_until

SettingsFor = Callable[..., Settings]
MESSAGES, LINES = 100, range(2_000, 3_000)


def offset_of(raw: Raw) -> int:
    """Where a message lies."""
    offset = raw.offset()
    assert offset is not None
    return offset


def handled(settings: Settings) -> bool:
    """All input but the last ticks is committed."""
    return committed(settings)[0] > ends(settings)[0] - 4


def restored(settings: Settings) -> Pipeline:
    """What a worker without a disk would know."""
    pipeline = Pipeline(settings.correlation)
    pipeline.restore({raw.key() or b"": raw.value() or b"" for raw in read_all(settings, STATE_CHANGELOG)}.items())
    return pipeline


def replayed(settings: Settings) -> Pipeline:
    """What one pipeline knows after the committed input."""
    pipeline = Pipeline(settings.correlation)
    until = committed(settings)[0]
    for raw in read_all(settings, TELEMETRY):
        if raw.partition() == 0 and offset_of(raw) < until:
            dialect = dict(raw.headers() or [])["dialect"]
            assert isinstance(dialect, bytes)
            logged_ms = raw.timestamp()[1]
            pipeline.take(Message(offset_of(raw), logged_ms, raw.key() or b"", raw.value() or b"", dialect.decode()))
            pipeline.drain()
            pipeline.checkpoint()
    return pipeline


def test_killed_between_parts(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """Kill -9 after some parts of a snapshot and then of a delta, the disk lost each time: it knows what it knew."""
    settings = kafka_settings_for(worker={"session_timeout_secs": 6, "batch_messages_max": 5})
    folder = Path(settings.worker.data_dir)
    dies_within = folder.with_name("dies-within")
    dies_within.write_text("snapshot")
    worker = WorkerProcess(settings, tmp_path / "log", script=Path(worker_large.__file__))
    produce(settings, ((0, b"dev", opened(LINES, local=number)) for number in range(MESSAGES)), "sockets")
    try:
        assert worker.start().wait() == -signal.SIGKILL
        torn = restored(settings)
        shutil.rmtree(folder)
        worker.start()
        wait_until(lambda: handled(settings), "all connections are open")
        worker.kill()

        dies_within.write_text("delta")
        closed = [opened(LINES, local=number).replace(OPEN, CLOSED) for number in range(MESSAGES)]
        together = (b"\n".join(closed[first : first + 4]) for first in range(0, MESSAGES, 4))
        produce(settings, ((0, b"dev", value) for value in together), "sockets")
        assert worker.start().wait() == -signal.SIGKILL
        shutil.rmtree(folder)
        worker.start()
        wait_until(lambda: handled(settings), "all connections are closed")
        assert worker.stop() == 0
    finally:
        worker.discard()
    again = restored(settings)

    assert 0 < len(torn.devices["dev"].connections) < MESSAGES * len(LINES)
    assert worker.log_text().count("dies within a snapshot") == 1
    assert worker.log_text().count("dies within a delta") == 1
    assert state_of(again) == state_of(replayed(settings))
    assert again.book()["connections"] == MESSAGES * len(LINES)
    for topic in (STATE_CHANGELOG, NETWORK_EVENTS, DEVICE_EVENTS, BLOCK_ALERTS):
        assert max((len(raw.value() or b"") for raw in read_all(settings, topic)), default=0) < 1_000_000
    assert max(len(raw.value() or b"") for raw in read_all(settings, STATE_CHANGELOG)) < 600_000


OPEN, CLOSED = b'"ts_closed":null', b'"ts_closed":"2026-11-24T19:07:40Z"'
