"""What the tests of the sink share: rows on topics, looks into the tables, a loop in a thread, a sink as a process.

Run as a script it is that process: settings as JSON on stdin, and as arguments the probability with which it kills
itself at the two worst points (after Kafka knows the plan and before the insert; after the insert and before Kafka knows
of it), and a file that gets a line for each insert: its token, and a digest of its rows.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Producer

from common.group_lag import lag
from common.kafka import client_config
from schemas.settings import ClickHouseSettings, Settings
from schemas.settings_file import dump
from schemas.topics import TABLE_OF_TOPIC, topic_name
from sinks.base import Sink
from sinks.clickhouse import ClickHouseSink, connect
from sinks.consumer import SinkLoop
from sinks.metrics import sink_families
from sinks.migrate import migrate
from sinks.run import run
from unproxy.telemetry import set_up

ROOT = Path(__file__).parents[2]
PARTITIONS = 4


def row(number: int, **changes: Any) -> bytes:
    """A row that DeviceNetworkEvents and DeviceEvents both take."""
    fields = {
        "Timestamp": "2026-11-24T10:00:00.000000Z",
        "DeviceId": f"dev-{number % 7}",
        "RecordId": f"r{number}",
        "Version": 1,
        "DestinationHost": "example.com",
    }
    return msgspec.json.encode({**fields, **changes})


def publish(
    settings: Settings, topic: str, values: Sequence[bytes], headers: dict[str, str | bytes | None] | None = None
) -> None:
    """Put messages on a topic, spread over its partitions."""
    producer = Producer({**client_config(settings.kafka), "linger.ms": 5})
    for number, value in enumerate(values):
        producer.produce(topic_name(settings, topic), value=value, partition=number % PARTITIONS, headers=headers or {})
    assert producer.flush(20.0) == 0


def messages(count: int, rows_each: int = 5) -> list[bytes]:
    """So many messages of network rows, all different."""
    return [b"\n".join(row(n * rows_each + i) for i in range(rows_each)) for n in range(count)]


def until(fact: Callable[[], bool], secs_max: float = 120.0) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + secs_max
    pause = threading.Event()
    while not fact():
        assert time.monotonic() < deadline, "it did not come to pass"
        pause.wait(0.02)


def nothing_waits(settings: Settings) -> bool:
    """Whether all that is on the topics is written; not known counts as no."""
    try:
        return not any(lag(settings).values())
    except KafkaException:
        return False


def ask(settings: Settings, query: str) -> Any:
    """One value from the database."""
    with connect(settings.clickhouse) as client:
        return client.query(query.replace("DB", settings.clickhouse.database)).result_rows[0][0]


def prepare(settings: Settings) -> Settings:
    """Make the tables, without merges: these would do away with what stands twice."""
    with connect(settings.clickhouse) as client:
        migrate(client, settings.clickhouse.database)
        for table in TABLE_OF_TOPIC.values():
            client.command(
                f"ALTER TABLE `{settings.clickhouse.database}`.`{table}_versions` MODIFY SETTING "
                "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"
            )
    return settings


def damage(config: ClickHouseSettings, table: str, file: str = "data.*mrk*", keep: float = 0.0) -> str:
    """Keep only so much of a file of the table's largest part, as a full disk may; the part's name."""
    versions = f"{table}_versions"
    with connect(config) as client:
        # One that is under way has read the part already: its result would be whole.
        client.command(f"SYSTEM STOP MERGES `{config.database}`.`{versions}`")
        try:
            name, folder = client.query(
                "SELECT name, path FROM system.parts WHERE active AND database = {database:String} AND table = {table:String} "
                "ORDER BY rows DESC, name LIMIT 1",
                parameters={"database": config.database, "table": versions},
            ).result_rows[0]
            (path,) = Path(folder).glob(file)
            whole = path.read_bytes()
            path.write_bytes(whole[: int(len(whole) * keep)])
            client.command("SYSTEM DROP MARK CACHE")
        finally:
            client.command(f"SYSTEM START MERGES `{config.database}`.`{versions}`")
    return str(name)


@contextmanager
def loop_of(settings: Settings, *sinks: Sink) -> Iterator[SinkLoop]:
    """A running loop; it must end within five seconds, and with no error."""
    loop = SinkLoop(settings, sinks or [ClickHouseSink(settings.clickhouse) for _ in range(2)])
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            loop.run(stop)
        except BaseException as error:  # noqa: BLE001  # raised again in the test's thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield loop
    finally:
        stop.set()
        asked = time.monotonic()
        thread.join(10.0)
        took = time.monotonic() - asked
    assert errors == []
    assert took < 5.0


def metric(loop: SinkLoop, name: str) -> dict[str, int]:
    """Return a metric's values by label, without zeros."""
    samples = [sample for family in sink_families(loop) for sample in family.samples if sample.name == name]
    return {"".join(sample.labels.values()): int(sample.value) for sample in samples if sample.value}


class SinkProcess:
    """One sink, as `unproxy sink` is one; started again after each death while it is kept alive."""

    def __init__(self, settings: Settings, log: Path, crash: float = 0.0) -> None:
        self.log = log
        self.exits: list[int] = []
        self._settings = settings
        self._crash = crash
        self._process: subprocess.Popen[bytes] | None = None
        self._keep = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> SinkProcess:
        """Start the process."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(self._crash), str(self.inserts_file)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert process.stdin is not None
        process.stdin.write(dump(self._settings, secrets=True).encode())
        process.stdin.close()
        self._process = process
        return self

    def keep_alive(self) -> SinkProcess:
        """Start it, and again whenever it ends."""
        self.start()
        self._keep.set()
        threading.Thread(target=self._supervise, daemon=True).start()
        return self

    def _supervise(self) -> None:
        pause = threading.Event()
        while self._keep.is_set():
            with self._lock:
                if self._keep.is_set() and self._process is not None and self._process.poll() is not None:
                    self.exits.append(self._process.returncode)
                    self.start()
            pause.wait(0.05)

    @property
    def inserts_file(self) -> Path:
        """The file of its inserts."""
        return self.log.with_suffix(".inserts")

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(signum)

    def kill(self) -> None:
        """Kill it in whatever state it is, and do not start it again."""
        with self._lock:
            self._keep.clear()
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def stop(self, secs_max: float = 10.0) -> int:
        """SIGTERM; the exit code."""
        with self._lock:
            self._keep.clear()
        self.send(signal.SIGTERM)
        return self.wait(secs_max)

    def wait(self, secs_max: float = 30.0) -> int:
        """The exit code, when it ends by itself."""
        assert self._process is not None
        return self._process.wait(secs_max)

    def log_text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")


def inserts(*files: Path) -> set[tuple[str, str]]:
    """The inserts that these processes recorded: token and digest."""
    lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
    # A process that was killed may have written half a line.
    return {(line[0], line[1]) for line in lines if len(line) == 3}


def _report_and_crash(probability: float, file: Path) -> None:
    write = ClickHouseSink.write

    def maybe_die() -> None:
        if random.random() < probability:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_or_die(
        sink: ClickHouseSink, table: str, rows: Sequence[bytes], token: str, *, again: bool = False
    ) -> None:
        maybe_die()
        with file.open("a") as report:
            report.write(f"{token} {hashlib.sha256(b'|'.join([table.encode(), *rows])).hexdigest()} .\n")
        write(sink, table, rows, token, again=again)
        maybe_die()

    ClickHouseSink.write = write_or_die  # type: ignore[assignment,method-assign]  # to die at a chosen write


if __name__ == "__main__":
    set_up(service=True)
    _report_and_crash(float(sys.argv[1]), Path(sys.argv[2]))
    stop_requested = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stop_requested.set())
    run(Settings.model_validate(tomllib.loads(sys.stdin.read())), stop_requested)
