"""deploy/shippers/rsyslog.conf, run by Debian's rsyslog: what it receives arrives on our topic, by way of one of raw lines."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message

from schemas.settings import Settings
from schemas.topics import TELEMETRY, Topic
from tests.producers.network.test_http import listens
from tests.producers.running import Running, lines_of
from tests.streams.worker.worker_process import ROOT, wait_until
from unproxy.local.servers.broker import create_topics
from unproxy.local.servers.service import free_port

EXAMPLE = ROOT / "deploy" / "shippers" / "rsyslog.conf"
UNPACKED = ROOT / ".venv" / "rsyslog"
SQUID = (
    b"1764011250.123    120 10.1.0.7 TCP_TUNNEL/200 4821 CONNECT news.example:443 - HIER_DIRECT/203.0.113.9 "
    b"text/html;\tcharset=utf-8"
)


@pytest.fixture(scope="module")
def rsyslogd() -> Path:
    """The daemon of Debian's package, unpacked; fetched once. Without apt-get this fails with a message."""
    made = subprocess.run(
        ["make", "--silent", ".venv/rsyslog/usr/sbin/rsyslogd"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, f"rsyslog could not be fetched: {made.stderr}"
    return UNPACKED / "usr" / "sbin" / "rsyslogd"


def config_for(folder: Path, bootstrap: str, topic: str, port: int) -> str:
    """The example with this test's places in it, and without the login that the tests' Kafka does not have."""
    config = EXAMPLE.read_text()
    for example, ours in (
        ('"broker-1:9093", "broker-2:9093"', f'"{bootstrap}"'),
        ('topic="raw"', f'topic="{topic}"'),
        ('address="0.0.0.0" port="514"', f'address="127.0.0.1" port="{port}"'),
        ("/var/spool/rsyslog", str(folder)),
        ('"security.protocol=SASL_SSL"', '"security.protocol=PLAINTEXT"'),
    ):
        assert example in config
        config = config.replace(example, ours)
    return re.sub(r'"(ssl|sasl)\.[^"]*",\s*', "", config)


def test_rsyslog_onto_a_raw_topic(
    kafka_settings_for: Callable[..., Settings],
    messages_of: Callable[[Settings, str], list[Message]],
    rsyslogd: Path,
    unique: str,
    tmp_path: Path,
) -> None:
    """A line by TCP and one by UDP arrive as they were sent, header and tab included, under the key of their device."""
    settings, port = kafka_settings_for(inputs={"kafka_group": unique}), free_port()
    topic = f"{unique}-raw"
    create_topics(settings.kafka, [Topic(topic, "Raw lines", 2, {})])
    (tmp_path / "rsyslog.conf").write_text(config_for(tmp_path, settings.kafka.bootstrap, topic, port))
    libraries = next(UNPACKED.glob("usr/lib/*/rsyslog"))
    command = [
        str(rsyslogd),
        "-n",
        "-f",
        str(tmp_path / "rsyslog.conf"),
        "-i",
        str(tmp_path / "pid"),
        "-M",
        str(libraries),
    ]
    by_tcp = b"<134>1 2025-11-24T19:07:30.123Z gw-1 squid 7 - - " + SQUID
    by_udp = b"<134>Nov 24 19:07:30 gw-1 squid[7]: " + SQUID
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "LD_LIBRARY_PATH": str(libraries.parent)}
        )
    try:
        wait_until(lambda: listens(port) or daemon.poll() is not None, "rsyslog listens")
        assert daemon.poll() is None, (tmp_path / "log").read_text()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"%d %s" % (len(by_tcp), by_tcp))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(by_udp, ("127.0.0.1", port))
        with Running(settings, f"auto:kafka://{settings.kafka.bootstrap}/{topic}") as one:
            wait_until(lambda: one.report.acknowledged_messages > 0 and one.report.lines == 2, "both lines")
    finally:
        daemon.terminate()
        assert daemon.wait(20) == 0

    messages = messages_of(settings, TELEMETRY)
    assert sorted(lines_of(messages)) == sorted([by_tcp, by_udp])
    assert {(message.key(), dict(message.headers() or [])["dialect"]) for message in messages} == {
        (b"10.1.0.7", b"squid")
    }
