"""A ClickHouse behind HTTPS, as its cloud is: the sink writes, people ask, and wrong settings have clear errors."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from schemas.settings import ClickHouseSettings, Settings, SettingsError
from sinks.base import SinkBusy
from sinks.clickhouse import ClickHouseSink, connect
from tests.faults.tcp_proxy import TcpProxy
from unproxy.cli import run
from unproxy.local.parts import write_settings
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.service import free_port

TLS = Path(__file__).parents[1] / "data" / "tls"
AUTHORITY = str(TLS / "localhost.crt")
ROW = {"Timestamp": "2026-11-24T10:00:00.000000Z", "DeviceId": "d", "RecordId": "r1", "Version": 1}
Make = Callable[..., ClickHouseSettings]


@pytest.fixture(scope="module")
def port(engine: Engine) -> Iterator[int]:
    """Where the engine is reached encrypted."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(TLS / "localhost.pem")
    proxy = TcpProxy(free_port(), engine.port, server)
    yield proxy.port
    proxy.close()


@pytest.fixture
def config(port: int, engine: Engine, unique: str) -> Make:
    """Settings for it, of a database of this test's own."""

    def make(scheme: str = "https", ca_file: str = AUTHORITY) -> ClickHouseSettings:
        url = f"{scheme}://localhost:{port}"
        return ClickHouseSettings(url=url, database=unique, password=engine.secret, ca_file=ca_file)

    return make


def test_rows_are_written_and_found(config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the sink's client and by that of the command line, each with an authority that the system does not know."""
    file = tmp_path / "settings.toml"
    write_settings(Settings(clickhouse=config()), file)

    assert run(["--config", str(file), "migrate"]) == 0
    sink = ClickHouseSink(config())
    sink.write("DeviceNetworkEvents", [msgspec.json.encode(ROW)], "a")
    sink.close()
    capsys.readouterr()
    assert run(["--config", str(file), "query", "select RecordId from DeviceNetworkEvents"]) == 0
    assert "r1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scheme", "ca_file", "message", "code"),
    [
        ("https", "", "check clickhouse.ca_file", 1),
        ("http", "", "clickhouse.url", 1),
        ("https", "nowhere.pem", "clickhouse.ca_file: nowhere.pem cannot be used: No such file or directory", 2),
    ],
    ids=["unknown authority", "not encrypted", "no such file"],
)
def test_a_wrong_setting_is_reported(
    config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str, ca_file: str, message: str, code: int
) -> None:
    """`query` prints it; a sink that meets an unknown authority waits, and its error states why."""
    file, wrong = tmp_path / "settings.toml", config(scheme, ca_file)
    write_settings(Settings(clickhouse=wrong), file)

    assert run(["--config", str(file), "query", "select 1"]) == code
    assert message in capsys.readouterr().err
    with pytest.raises(SettingsError if code == 2 else SinkBusy):
        ClickHouseSink(wrong).write("DeviceNetworkEvents", [b"{}"], "a")
    if code == 2:
        with pytest.raises(SettingsError):
            connect(wrong)
