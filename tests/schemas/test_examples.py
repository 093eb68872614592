"""The programs of docs/consume.md: shown as they are in their files, and run against a real broker."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Producer

from common.kafka import client_config
from schemas.events import Event
from schemas.indicator_input import Given
from schemas.settings import CorrelationSettings, Settings
from schemas.topics import BLOCK_ALERTS, INDICATORS, NETWORK_EVENTS, topic_name
from streams.pipeline import Message, Output, Pipeline
from tests.conftest import SettingsMaker
from tests.factories import DEVICE, EVENTS, connection, indicator, line_of, listing, request
from unproxy.indicators.topic import Board

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_page_shows_the_programs() -> None:
    """The page has each program as it is in its file."""
    page = (DOCS / "consume.md").read_text(encoding="utf-8")

    for file in sorted((DOCS / "examples").glob("*.py")):
        link = f"[examples/{file.name}](examples/{file.name})"
        assert f"{link}:\n\n```python\n{file.read_text(encoding='utf-8')}```" in page


def output() -> Output:
    """Return the output for one request of a listed host."""
    pipeline = Pipeline(CorrelationSettings(), listing(Given("evil.example")), {EVENTS.name: EVENTS})
    events: tuple[Event, ...] = (connection(0), request(1, "evil.example:443"))
    for offset, event in enumerate(events):
        pipeline.take(Message(offset, 0, DEVICE.encode(), line_of(event), EVENTS.name))
    pipeline.finish()
    return pipeline.drain()


def consumed(settings: Settings, topic: str, messages: Sequence[bytes], lines: int) -> list[list[str]]:
    """Publish messages and return the first lines that the consumer of the page prints, by field."""
    name = topic_name(settings, topic)
    producer = Producer(client_config(settings.kafka))
    for message in messages:
        producer.produce(name, message, DEVICE.encode())
    producer.flush()
    command = [sys.executable, str(DOCS / "examples/consume.py"), settings.kafka.bootstrap, name, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().rstrip("\n").split("\t") for _ in range(lines)]
        process.terminate()
    return printed


def test_alerts_are_consumed(kafka_settings_for: SettingsMaker) -> None:
    """The program prints each alert, and a later version; an older version that arrives late is left out."""
    (alert,) = (alert for _, alert in output().alerts if b"not_enforced" in alert)
    older = re.sub(rb'"Version":\d+', b'"Version":1', alert)
    newer = re.sub(rb'"Version":\d+', b'"Version":999999999', alert).replace(b'"DeviceName":"', b'"DeviceName":"later ')
    assert older != alert
    printed = consumed(kafka_settings_for(), BLOCK_ALERTS, [alert, older, alert, newer], 2)

    assert printed == [
        [DEVICE, "allowed", "evil.example", "curl"],
        [f"later {DEVICE}", "allowed", "evil.example", "curl"],
    ]


def test_rows_are_consumed(kafka_settings_for: SettingsMaker) -> None:
    """The program prints each row of a message with several."""
    rows = output().network_events
    printed = consumed(kafka_settings_for(), NETWORK_EVENTS, [b"\n".join(rows)], len(rows))

    assert [DEVICE, "allowed", "evil.example", "curl"] in printed


def test_indicator_is_published(kafka_settings_for: SettingsMaker) -> None:
    """The program publishes an indicator, normalised, and ends with an error for a value that cannot be one."""
    settings = kafka_settings_for()
    command = [
        sys.executable,
        str(DOCS / "examples/publish.py"),
        settings.kafka.bootstrap,
        topic_name(settings, INDICATORS),
    ]
    subprocess.run([*command, "EVIL.example."], check=True)
    refused = subprocess.run([*command, "co.uk"], capture_output=True, text=True, check=False)
    wanted = Given("evil.example", title="Campaign 7", severity="high", expires="2099-01-01T00:00:00Z")

    assert Board(settings).indicators() == [indicator(wanted)]
    assert refused.returncode == 1
    assert "public suffix" in refused.stderr
