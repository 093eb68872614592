"""A worker as a process of its own, and something that keeps it running as `up` or systemd would.

Run as a script it is that process: settings as JSON on stdin, and as argument the probability with which it kills
itself at the two worst points: after the outputs and before any state, and after the local state and before the
changelog.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name

ROOT = Path(__file__).parents[3]
PARTITIONS = 4


class WorkerProcess:
    """One worker; started again after each death while it is kept alive."""

    def __init__(
        self,
        settings: Settings,
        log: Path,
        crash: float = 0.0,
        *,
        prefix: Sequence[str] = (),
        script: Path = Path(__file__),
    ) -> None:
        self.command = (*prefix, sys.executable, str(script))
        self.settings = settings
        self.log = log
        self.crash = crash
        self.exits: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._keep = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> WorkerProcess:
        """Start the process."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self.command, str(self.crash)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert process.stdin is not None
        process.stdin.write(self.settings.model_dump_json().encode())
        process.stdin.close()
        self._process = process
        return self

    def keep_alive(self) -> WorkerProcess:
        """Start it, and again whenever it ends."""
        self.start()
        self._keep.set()
        threading.Thread(target=self._supervise, daemon=True).start()
        return self

    def _supervise(self) -> None:
        while self._keep.is_set():
            with self._lock:
                if self._keep.is_set() and self._process is not None and self._process.poll() is not None:
                    self.exits.append(self._process.returncode)
                    self.start()
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(signum)

    def kill(self, disk: Path | None = None) -> None:
        """Kill -9 and wait for the end; with a folder, its disk is lost as well."""
        with self._lock:
            assert self._process is not None
            self._process.kill()
            self._process.wait()
            if disk is not None:
                shutil.rmtree(disk)

    def stop(self, secs_max: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        with self._lock:
            self._keep.clear()
            assert self._process is not None
            self._process.terminate()
            return self._process.wait(secs_max)

    def wait(self, secs_max: float = 60.0) -> int:
        """The exit code, when it ends by itself."""
        assert self._process is not None
        return self._process.wait(secs_max)

    def discard(self) -> None:
        """Whatever state it is in, end it."""
        with self._lock:
            self._keep.clear()
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def log_text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")


def wait_until(fact: Callable[[], bool], what: str, secs_max: float = 60.0) -> None:
    """Wait for a fact, with a deadline."""
    deadline = time.monotonic() + secs_max
    while not fact():
        assert time.monotonic() < deadline, f"not within {secs_max} s: {what}"
        time.sleep(0.05)


def produce(settings: Settings, messages: Iterable[tuple[int, bytes | None, bytes | None]], dialect: str = "x") -> None:
    """Partition, key and value of each message onto the input topic."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "message.max.bytes": 16_000_000})
    for partition, key, value in messages:
        while True:
            try:
                producer.produce(
                    topic_name(settings, TELEMETRY), value, key, partition, headers={"dialect": dialect.encode()}
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0


def read_all(settings: Settings, name: str, partitions: int = PARTITIONS) -> list[Message]:
    """Everything on a topic right now, partition by partition in order."""
    topic = topic_name(settings, name)
    consumer = _asker(settings, "reader")
    try:
        spans = {partition: _watermarks(consumer, topic, partition) for partition in range(partitions)}
        missing = {partition for partition, (low, high) in spans.items() if low < high}
        consumer.assign([TopicPartition(topic, partition, spans[partition][0]) for partition in missing])
        found = []
        while missing:
            messages = consumer.consume(10_000, 0.05)
            for message in messages:
                assert message.error() is None, str(message.error())
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if offset < spans[partition][1]:
                    found.append(message)
                if offset >= spans[partition][1] - 1:
                    missing.discard(partition)
        return sorted(found, key=lambda message: (message.partition(), message.offset()))
    finally:
        consumer.close()


def _asker(settings: Settings, group: str) -> Consumer:
    """A consumer that joins nothing; with short waits, as the connection is used for one question after the other."""
    return Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "fetch.message.max.bytes": 20_000_000,
        }
    )


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First and next offset; a topic that was just made may not have its leader yet."""
    deadline = time.monotonic() + 10
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            return low, high
        except KafkaException:
            if time.monotonic() > deadline:
                raise


def committed(settings: Settings) -> dict[int, int]:
    """The group's committed offsets on the input."""
    consumer = _asker(settings, settings.worker.group)
    try:
        places = [TopicPartition(topic_name(settings, TELEMETRY), partition) for partition in range(PARTITIONS)]
        return {place.partition: place.offset for place in consumer.committed(places, timeout=10)}
    finally:
        consumer.close()


def commit(settings: Settings, partition: int, offset: int) -> None:
    """Commit for the group, while it has no members."""
    consumer = _asker(settings, settings.worker.group)
    try:
        place = TopicPartition(topic_name(settings, TELEMETRY), partition, offset)
        consumer.commit(offsets=[place], asynchronous=False)
    finally:
        consumer.close()


def ends(settings: Settings) -> dict[int, int]:
    """The end offsets of the input."""
    consumer = _asker(settings, "reader")
    try:
        topic = topic_name(settings, TELEMETRY)
        return {partition: _watermarks(consumer, topic, partition)[1] for partition in range(PARTITIONS)}
    finally:
        consumer.close()


def delete_before(settings: Settings, partition: int, offset: int) -> None:
    """Delete input records below an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    place = TopicPartition(topic_name(settings, TELEMETRY), partition, offset)
    for deleted in admin.delete_records([place]).values():
        deleted.result(10)


def _crash_at_the_worst(probability: float) -> None:
    from streams.worker.rocksdb import StateStore

    def maybe_die() -> None:
        if random.random() < probability:
            os.kill(os.getpid(), signal.SIGKILL)

    write = StateStore.write

    def write_or_die(store: StateStore, partition: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
        maybe_die()
        write(store, partition, entries)
        maybe_die()

    StateStore.write = write_or_die  # type: ignore[assignment,method-assign]  # to die at a chosen write


def _log_moves() -> None:
    from streams.worker.app import Worker

    assigned = Worker._assigned

    async def assigned_and_logged(worker: Worker, *args: Any, **more: Any) -> None:
        tables: Any = worker.app.tables
        print("partitions move in recovery" if tables.recovery.in_recovery else "partitions move", flush=True)
        await assigned(worker, *args, **more)

    Worker._assigned = assigned_and_logged  # type: ignore[method-assign]  # to see what a test waits for


if __name__ == "__main__":
    from streams.worker.app import run
    from tests.streams.worker.worker_counting import CountingPipeline

    _log_moves()
    if float(sys.argv[1]):
        _crash_at_the_worst(float(sys.argv[1]))
    CountingPipeline.slow_secs = 0.1
    run(Settings.model_validate_json(sys.stdin.read()), CountingPipeline)
