"""Tables that hold the sample, for the tests of timeline and event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.settings import CorrelationSettings, Settings
from sinks.clickhouse import ClickHouseSink
from streams.alerts.policy import Policy
from streams.pipeline import Message, Pipeline
from tests.sample import sample
from unproxy import wiring
from unproxy.cli import run
from unproxy.local.parts import write_settings
from unproxy.local.servers.engine import Engine
from unproxy.query.client import Client, of_settings

DATABASE = "terminal"
Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def sample_settings(engine: Engine) -> Settings:
    """Of tables that hold the sample."""
    list(of_settings(Settings(clickhouse=engine.settings(""))).lines(f"CREATE DATABASE {DATABASE}", output="Null"))
    settings = Settings(clickhouse=engine.settings(DATABASE))
    wiring.migrate(settings)
    pipeline = Pipeline(CorrelationSettings(), Policy(settings.protection))
    for number, line in enumerate(sample()):
        pipeline.take(Message(number, 0, line.device.encode(), line.value, line.dialect))
    pipeline.finish()
    made = pipeline.drain()
    sink = ClickHouseSink(settings.clickhouse)
    sink.write("DeviceNetworkEvents", made.network_events, "rows")
    sink.write("DeviceEvents", made.device_events, "verdicts")
    sink.write("BlockAlerts", [alert for _, alert in made.alerts], "alerts")
    sink.write("DeviceCoverage", made.coverage, "coverage")
    sink.close()
    return settings


@pytest.fixture
def client(sample_settings: Settings) -> Client:
    """Asks these tables."""
    return of_settings(sample_settings)


@pytest.fixture
def verb(sample_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """A command on these tables; gives exit code, stdout and stderr."""
    file = tmp_path / "settings.toml"
    write_settings(sample_settings, file)

    def do(*arguments: str) -> tuple[int, str, str]:
        code = run(["--config", str(file), *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return do
