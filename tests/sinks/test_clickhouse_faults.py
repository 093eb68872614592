"""The sink while its ClickHouse is killed, hangs, refuses, or has no space left: nothing lost, nothing twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, topics
from sinks.base import SinkBusy
from sinks.clickhouse import ClickHouseSink
from tests.sinks.sink_world import SinkProcess, ask, loop_of, messages, nothing_waits, prepare, publish, row, until
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine

SettingsMaker = Callable[..., Settings]
Own = TypeVar("Own", bound=Engine)
TABLE = "DeviceNetworkEvents"
STORED = f"SELECT (count(), uniqExact(RecordId)) FROM DB.{TABLE}_versions"
SPACE = 80 * 1024 * 1024


@contextmanager
def running(engine: Own) -> Iterator[Own]:
    """An engine of this test's own, that it may harm."""
    engine.start()
    try:
        yield engine
    finally:
        engine.kill()


def settings_of(kafka_settings_for: SettingsMaker, engine: Engine, **sink: Any) -> Settings:
    """Settings that lead to this engine; the tables are there."""
    return prepare(
        kafka_settings_for(
            clickhouse=engine.settings("own", timeout_secs=2.0).model_dump(exclude_unset=True),
            sink={"batch_age_secs_max": 0.1, "retry_secs_max": 0.3, **sink},
        )
    )


@contextmanager
def harmed(engine: Engine, how: str) -> Iterator[None]:
    """Kill, stop or halt the engine; undo it when the block is left."""
    if how == "hung":
        os.kill(engine.pid, signal.SIGSTOP)
        yield
        os.kill(engine.pid, signal.SIGCONT)
        return
    (engine.kill if how == "killed" else engine.stop)()
    yield
    engine.start()


@pytest.mark.parametrize("how", ["killed", "stopped", "hung"])
def test_away_and_back(kafka_settings_for: SettingsMaker, tmp_path: Path, how: str) -> None:
    """Killed in the middle of inserts, ended, or hanging for longer than a request may take, three times."""
    with running(Engine(tmp_path / "clickhouse")) as engine:
        settings = settings_of(kafka_settings_for, engine, batch_rows_max=400)
        with loop_of(settings) as loop:
            for number in range(3):
                values = [value.replace(b'"r', b'"r%d-' % number) for value in messages(2_000)]
                before, retries = loop.rows_written, loop.retries
                publish(settings, NETWORK_EVENTS, values[:1_000])
                until(lambda before=before: loop.rows_written > before)  # type: ignore[misc]  # mypy cannot infer it
                with harmed(engine, how):
                    publish(settings, NETWORK_EVENTS, values[1_000:])
                    until(lambda retries=retries: loop.retries > retries)  # type: ignore[misc]
            until(lambda: nothing_waits(settings))
            assert loop.refused == 0

        assert ask(settings, STORED) == (30_000, 30_000)


def test_a_token_without_its_rows(tmp_path: Path) -> None:
    """Killed after it noted the token and before the rows were in place: who writes again finds that out."""
    with running(Engine(tmp_path / "clickhouse")) as engine:
        config = engine.settings("own")
        settings = prepare(Settings.model_validate({"clickhouse": config.model_dump()}))
        sink = ClickHouseSink(config)
        sink.write(TABLE, [row(1)], "a")
        sink.write(TABLE, [row(2), row(3)], "b")
        lost = ask(settings, f"SELECT path FROM system.parts WHERE active AND table = '{TABLE}_versions' AND rows = 2")
        engine.kill()
        shutil.rmtree(str(lost))
        engine.start()
        sink.write(TABLE, [row(2), row(3)], "b")
        assert ask(settings, STORED) == (1, 1)

        for _ in range(2):
            sink.write(TABLE, [row(1)], "a", again=True)
            sink.write(TABLE, [row(2), row(3)], "b", again=True)
        assert ask(settings, STORED) == (3, 3)
        sink.close()


def test_the_same_insert_twice_at_once(tmp_path: Path) -> None:
    """A zombie and the new owner write the same batch at the same time: one of them counts."""
    with running(Engine(tmp_path / "clickhouse")) as engine:
        config = engine.settings("own")
        settings = prepare(Settings.model_validate({"clickhouse": config.model_dump()}))
        sinks = [ClickHouseSink(config) for _ in range(4)]
        with ThreadPoolExecutor(len(sinks)) as pool:
            for batch in range(20):
                rows = [row(batch * 1_000 + number) for number in range(1_000)]
                list(pool.map(lambda sink, rows=rows, batch=batch: sink.write(TABLE, rows, f"b{batch}"), sinks))
        for sink in sinks:
            sink.close()

        assert ask(settings, STORED) == (20_000, 20_000)


class SmallEngine(Engine):
    """An engine whose folder lies on a small file system of its own, in a mount namespace of its own."""

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        command, environment = super()._prepare(port)
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        script = f'mount -t tmpfs -o size={SPACE} none "$0" && exec "$@"'
        # As root, too, a user namespace: some machines let root mount only there.
        ways = ["--mount"] if os.geteuid() == 0 and _may(["--mount"]) else ["--user", "--map-root-user", "--mount"]
        unshare = shutil.which("unshare")
        assert unshare, "unshare is missing; install util-linux"
        return [unshare, *ways, "/bin/sh", "-c", script, str(self.folder / "data"), *command], environment

    @property
    def inside(self) -> Path:
        """The data as the engine sees it."""
        return Path(f"/proc/{self.pid}/root{self.folder}/data")


def _may(ways: list[str]) -> bool:
    return not subprocess.run(["unshare", *ways, "true"], check=False, capture_output=True).returncode


def test_no_space_left(kafka_settings_for: SettingsMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk at ClickHouse is busy, not bad rows: once there is space again all is written, once."""
    with running(SmallEngine(tmp_path / "clickhouse")) as engine:
        settings = settings_of(kafka_settings_for, engine, batch_rows_max=2_000)
        with loop_of(settings) as loop:
            publish(settings, NETWORK_EVENTS, messages(400))
            until(lambda: nothing_waits(settings))
            filler = engine.inside / "filler"
            fill(filler)
            publish(settings, NETWORK_EVENTS, [value.replace(b'"r', b'"full') for value in messages(4_000)])
            until(lambda: loop.retries > 5)
            written = loop.rows_written
            filler.unlink()
            until(lambda: nothing_waits(settings))

            assert written < 22_000
            assert loop.refused == 0
        assert ask(settings, STORED) == (22_000, 22_000)
    assert any("does not take rows now" in record.__dict__.get("error", "") for record in caplog.records)


def fill(file: Path) -> None:
    """Write until there is no space."""
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(b"\0" * 4_096)


def test_ends_whatever_is_down(tmp_path: Path) -> None:
    """Broker and engine hang with an insert under way: SIGTERM ends the sink with 0 and in time; later all comes, once."""
    broker = Broker(tmp_path / "kafka", login=False)
    broker.start()
    try:
        with running(Engine(tmp_path / "clickhouse")) as engine:
            settings = Settings.model_validate(
                {
                    "kafka": {"bootstrap": broker.bootstrap},
                    "clickhouse": engine.settings("own").model_dump(exclude_unset=True),
                    "sink": {"batch_rows_max": 500, "batch_age_secs_max": 0.1, "session_timeout_secs": 6},
                }
            )
            create_topics(broker.settings, topics(settings))
            prepare(settings)
            sink = SinkProcess(settings, tmp_path / "sink.log").start()
            try:
                publish(settings, NETWORK_EVENTS, messages(2_000))
                until(lambda: ask(settings, STORED)[0] > 0)
                for server in (engine, broker):
                    os.kill(server.pid, signal.SIGSTOP)
                code = sink.stop(secs_max=10.0)
                for server in (engine, broker):
                    os.kill(server.pid, signal.SIGCONT)
                sink.start()
                until(lambda: nothing_waits(settings))
                codes = code, sink.stop()
            finally:
                sink.kill()

            assert codes == (0, 0)
            assert ask(settings, STORED) == (10_000, 10_000)
    finally:
        broker.kill()


def test_no_space_is_busy(tmp_path: Path) -> None:
    """ClickHouse's error for a full disk means: retry the same rows later."""
    with running(SmallEngine(tmp_path / "clickhouse")) as engine:
        config = engine.settings("own")
        settings = prepare(Settings.model_validate({"clickhouse": config.model_dump()}))
        sink = ClickHouseSink(config)
        fill(engine.inside / "filler")
        for _ in range(3):
            with pytest.raises(SinkBusy, match=r"NOT_ENOUGH_SPACE|No space left"):
                sink.write(TABLE, [row(number) for number in range(50_000)], "a", again=True)
        (engine.inside / "filler").unlink()
        sink.write(TABLE, [row(number) for number in range(50_000)], "a", again=True)
        sink.close()

        assert ask(settings, STORED) == (50_000, 50_000)
