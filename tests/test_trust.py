"""Lines that their sender may not write, through a producer and a worker on the real Kafka, become rejects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Message

from producers.run import produce, publish
from producers.sources.failures import DialectFailures
from producers.sources.source import Line, SourceFile, parse_source
from schemas.events import DEVICE_CHARS_MAX
from schemas.parsers import dialects
from schemas.settings import Settings
from schemas.topics import DEVICE_EVENTS, NETWORK_EVENTS, REJECTS, TELEMETRY, topic_name
from tests.conftest import SettingsMaker
from tests.producers.running import Running
from tests.streams.worker.worker_process import read_all, wait_until
from unproxy.local.meter import scrape
from unproxy.local.parts import write_settings
from unproxy.local.servers.service import free_port

ENDS = '"local_ip":"10.0.0.1","local_port":1000,"remote_ip":"10.9.9.9","remote_port":3128,"flow":"f"'


def line_of(kind: str, device: str, more: str) -> bytes:
    """Return a line of `unproxy sensor`."""
    return f'{{"kind":"{kind}","device":"{device}","ts":"2026-11-24T19:07:28.614Z",{more}}}'.encode()


def request(device: str) -> bytes:
    """Return a request for a listed site."""
    return line_of("http", device, f'{ENDS},"tx":0,"method":"GET","target":"http://bad.example/","host":"bad.example"')


def verdict(device: str) -> bytes:
    """Make the forged verdict that the same request was blocked."""
    return line_of("verdict", device, f'{ENDS},"host":"bad.example","action":"blocked"')


HONEST = request("ws-1")
FORGED = [verdict("ws-1"), line_of("mode", "ws-1", '"mode":"block"')]
ABOUT_OTHERS = [request("ws-2"), verdict("ws-2")]


def headers(message: Message) -> dict[str, str]:
    """A message's headers as text."""
    pairs: Any = message.headers()
    return {name: value.decode() for name, value in pairs}


def rejects_of(settings: Settings) -> list[tuple[bytes | None, str, str]]:
    """Return bytes, reason and device of all rejects; each keeps the key's device and its sender's claims."""
    found = [(message.value() or b"", headers(message)) for message in read_all(settings, REJECTS)]
    assert {(header["device_from"], header["claims"]) for _, header in found} == {("key", "none")}
    return sorted((value, header["reason"], header["device"]) for value, header in found)


def as_a_sensor_publishes(settings: Settings, lines: list[bytes]) -> None:
    """Publish to the topic `telemetry` of these settings as `unproxy sensor` does on an endpoint."""
    dialect = dialects()["sensor"]
    file = SourceFile("sensor", "sensor", "ws-1:sensor", once=True)

    def given() -> Iterator[Line]:
        for line in lines:
            yield Line("sensor", file.sensor, line, file, 0, 0, dialect.written_at(line))

    publish(settings, given(), stop=Event(), families=lambda: iter(()), failures=DialectFailures())


def test_an_endpoint_with_a_topic_of_its_own(kafka_settings_for: SettingsMaker, tmp_path: Path) -> None:
    """With a sensor's credentials only its raw topic is writable; lines about others, verdicts and modes are rejected."""
    settings = kafka_settings_for()
    raw = kafka_settings_for(
        kafka={"topic_prefix": f"{settings.kafka.topic_prefix}ws-1-"}, publisher={"state_dir": str(tmp_path / "ws-1")}
    )
    as_a_sensor_publishes(raw, [HONEST, *FORGED, *ABOUT_OTHERS])
    source = f"kafka://{settings.kafka.bootstrap}/{topic_name(raw, TELEMETRY)}"
    port = free_port()
    settings = kafka_settings_for(
        inputs={"grants": {"ws-1": {"sources": [source]}}, "kafka_group": settings.worker.group},
        publisher={"metrics_port": port},
        correlation={"lateness_secs": 0.2, "patience_secs": 0.5},
    )
    with Running(settings, f"auto:{source}") as one:
        wait_until(lambda: one.report.not_allowed["ws-1"] == 2, "the lines about others are counted")
        wait_until(lambda: one.report.acknowledged_messages >= 3, "all is published")
        page = scrape(port) or {}
    write_settings(settings, tmp_path / "unproxy.toml")
    command = [sys.executable, "-m", "unproxy", "--config", str(tmp_path / "unproxy.toml"), "worker"]
    with (tmp_path / "worker.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as worker:
        try:
            wait_until(lambda: len(read_all(settings, REJECTS)) == 4, "what is refused")
            wait_until(lambda: bool(read_all(settings, NETWORK_EVENTS)), "the honest request's row")
        finally:
            worker.kill()

    assert page["unproxy_publisher_lines_not_allowed_total"] == {"ws-1": 2}
    assert rejects_of(settings) == sorted(
        [(line, "not_allowed", "ws-1") for line in FORGED] + [(line, "not_allowed", "ws-2") for line in ABOUT_OTHERS]
    )
    assert read_all(settings, DEVICE_EVENTS) == []
    rows = [
        json.loads(row) for made in read_all(settings, NETWORK_EVENTS) for row in (made.value() or b"").split(b"\n")
    ]
    assert {row["DeviceId"] for row in rows} == {"ws-1"}


@pytest.mark.parametrize("name", ["ws-1", "", "x" * (DEVICE_CHARS_MAX + 1), "ws-2\\u0000"])
def test_a_name_that_the_producer_does_not_see_is_not_believed(
    kafka_settings_for: SettingsMaker, tmp_path: Path, name: str
) -> None:
    """An endpoint's lines are about its device; the worker reads no other name from them."""
    log = tmp_path / "log"
    log.write_bytes(b'{"timestamp":"2026-11-24T19:07:28.614Z","event_type":"stats","host":"%s"}\n' % name.encode())
    settings = kafka_settings_for(inputs={"grants": {"ws-1": {"sources": [str(tmp_path / "*")]}}})
    produce(settings, [parse_source(f"suricata:{log}")], stop=Event())

    (message,) = read_all(settings, TELEMETRY)
    assert message.key() == b"ws-1"
    assert headers(message).items() >= {"device_from": "key", "claims": "none"}.items()
    assert "clock" not in headers(message)
    assert read_all(settings, REJECTS) == []


def test_a_file_with_a_grant_is_published_once(kafka_settings_for: SettingsMaker, tmp_path: Path) -> None:
    """Refused lines count as read: a second run starts after them."""
    log = tmp_path / "log"
    log.write_bytes(b"\n".join([HONEST, *ABOUT_OTHERS]) + b"\n")
    settings = kafka_settings_for(inputs={"grants": {"ws-1": {"sources": [str(log)]}}})
    first = produce(settings, [parse_source(f"sensor:{log}")], stop=Event())
    again = produce(settings, [parse_source(f"sensor:{log}")], stop=Event())

    assert (first.lines, first.acknowledged_messages, first.not_allowed) == (3, 3, {"ws-1": 2})
    assert (again.lines, again.not_allowed) == (0, {"ws-1": 0})
    assert [message.value() for message in read_all(settings, TELEMETRY)] == [HONEST]
    assert [value for value, _, _ in rejects_of(settings)] == sorted(ABOUT_OTHERS)
