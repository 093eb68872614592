"""Syslog over TCP and UDP on the real Kafka: what was read is published, who is too fast waits, what is dropped is counted."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from producers.run import produce
from producers.source import SourceError, parse_source
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topics
from tests.producers.running import Running, lines_of
from tests.streams.worker_process import wait_until
from unproxy.embedded.broker import Broker, create_topics
from unproxy.embedded.service import free_port

MessagesOf = Callable[[Settings, str], list[Message]]
SettingsFor = Callable[..., Settings]
HEAD = b"<134>1 2026-11-24T19:07:30Z gw-1 squid 7 - - "


def connected(port: int) -> socket.socket:
    """A client, once somebody listens."""
    made: list[socket.socket] = []

    def tried() -> bool:
        try:
            made.append(socket.create_connection(("127.0.0.1", port), timeout=1))
        except ConnectionRefusedError:
            return False
        return True

    wait_until(tried, "listening")
    return made[0]


def test_restart_in_the_middle(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """All that was read before a stop is published once; a client that connects again goes on; numbers have no gap."""
    settings, port = kafka_settings_for(), free_port()
    source = f"auto:syslog+tcp://127.0.0.1:{port}"
    lines = [HEAD + b"line %d" % number for number in range(4_000)]
    with Running(settings, source) as one, connected(port) as client:
        client.sendall(b"".join(b"%d %s" % (len(line), line) for line in lines[:2_000]))
        wait_until(lambda: one.report.received["syslog_tcp"] == 2_000, "read")
        one.stop.set()
    with Running(settings, source) as two, connected(port) as client:
        client.sendall(b"\n".join(lines[2_000:]))
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: two.report.lines == 2_000, "the rest")

    messages = messages_of(settings, TELEMETRY)
    assert sorted(lines_of(messages)) == sorted(lines)
    assert two.report.received["syslog_cut"] == 1  # the last one, without its newline
    numbers: list[int] = []
    for message in messages:
        pairs: Any = message.headers()
        found = dict(pairs)
        numbers += range(int(found["seq"]), int(found["seq"]) + int(found["lines"]))
        assert found["sensor"].endswith(f":syslog+tcp://127.0.0.1:{port}/127.0.0.1".encode())
    assert sorted(numbers) == list(range(1, len(lines) + 1))


@pytest.mark.parametrize("queue_bytes_max", [64_000_000, 20_000], ids=["room", "no room"])
def test_a_stop_waits_for_kafka(
    kafka_settings_for: SettingsFor, messages_of: MessagesOf, tmp_path: Path, queue_bytes_max: int
) -> None:
    """What was read cannot be read again: a Kafka that needs a while is waited for, also for what it had no room for yet."""
    port, own = free_port(), Broker(tmp_path / "kafka", login=False)
    own.start()
    try:
        settings = kafka_settings_for(publisher={"queue_bytes_max": queue_bytes_max, "batch_bytes_max": 4_000})
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": own.bootstrap})})
        create_topics(own.settings, topics(settings))
        sent = b"".join(HEAD + b"line %04d\n" % number for number in range(2_000))
        with Running(settings, f"auto:syslog+tcp://127.0.0.1:{port}") as one, connected(port) as client:
            os.kill(own.pid, signal.SIGSTOP)
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            wait_until(lambda: one.report.received["syslog_tcp"] > 200, "read")
            threading.Timer(1.5, os.kill, (own.pid, signal.SIGCONT)).start()

        arrived = lines_of(messages_of(settings, TELEMETRY))
    finally:
        own.kill()
    assert len(arrived) == one.report.lines > 200
    assert sent.startswith(b"\n".join(arrived))


def test_too_fast_is_slowed(kafka_settings_for: SettingsFor, caplog: pytest.LogCaptureFixture) -> None:
    """While Kafka takes nothing the client's writes stand still; what was read then and cannot be published is told."""
    settings, port = kafka_settings_for(), free_port()
    away = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"}),
            "publisher": settings.publisher.model_copy(update={"queue_bytes_max": 20_000, "batch_bytes_max": 4_000}),
        }
    )
    block = (HEAD + b"x" * 100 + b"\n") * 1_000
    sent = 0
    with Running(away, f"auto:syslog+tcp://127.0.0.1:{port}") as one, connected(port) as client:
        with suppress(TimeoutError):
            while sent < 200_000_000:
                sent += client.send(block)
        one.stop.set()

    assert sent < 50_000_000
    assert one.report.lines < 5_000
    (lost,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "send them again" in lost.getMessage()
    assert vars(lost)["sources"] == [f"syslog+tcp://127.0.0.1:{port}/"]


def test_datagrams(kafka_settings_for: SettingsFor, messages_of: MessagesOf) -> None:
    """One message each, a newline at its end or none."""
    settings, port = kafka_settings_for(), free_port()
    with (
        Running(settings, f"auto:syslog+udp://127.0.0.1:{port}") as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):

        def arrived() -> bool:
            client.sendto(HEAD + b"hello\nworld\n", ("127.0.0.1", port))
            return one.report.received["syslog_udp"] > 2

        wait_until(arrived, "datagrams")

    assert set(lines_of(messages_of(settings, TELEMETRY))) == {HEAD + b"hello world"}
    assert one.report.lines == one.report.received["syslog_udp"] == len(lines_of(messages_of(settings, TELEMETRY)))


def test_dropped_datagrams_are_counted(kafka_settings_for: SettingsFor) -> None:
    """What the system had no room for is told with a later datagram; read and dropped are all that was sent."""
    settings, port = kafka_settings_for(), free_port()
    sent = 0
    with (
        Running(settings, f"auto:syslog+udp://127.0.0.1:{port}") as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):

        def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                client.sendto(HEAD + b"x" * 1_000, ("127.0.0.1", port))
            sent += count

        def listened() -> bool:
            client.sendto(HEAD, ("127.0.0.1", port))
            return one.report.received["syslog_udp"] > 0

        def burst_is_dropped() -> bool:
            send(5_000)
            return one.report.received["syslog_udp_dropped"] > 0

        def all_is_told() -> bool:
            send(1)
            received = one.report.received
            return received["syslog_udp"] + received["syslog_udp_dropped"] >= sent

        wait_until(listened, "listening")
        wait_until(burst_is_dropped, "more than there is room for")
        wait_until(all_is_told, "a datagram after the last drop")

    received = one.report.received
    assert 0 < received["syslog_udp"] < sent
    assert received["syslog_udp"] + received["syslog_udp_dropped"] < sent + 500  # those before it was seen to listen


def test_connections_are_bounded(kafka_settings_for: SettingsFor) -> None:
    """One more than there may be is closed at once, and counted; one that is silent for long is closed, too."""
    settings, port = kafka_settings_for(inputs={"syslog_connections_max": 1, "syslog_idle_secs_max": 3.0}), free_port()
    with Running(settings, f"auto:syslog+tcp://127.0.0.1:{port}") as one, connected(port) as first:
        asked = time.monotonic()
        with connected(port) as second:
            second.settimeout(20)
            assert second.recv(1) == b""
        first.settimeout(20)
        assert first.recv(1) == b""
        assert time.monotonic() - asked > 1
        wait_until(lambda: one.report.received["syslog_turned_away"] == 1, "counted")


def test_port_in_use(kafka_settings_for: SettingsFor) -> None:
    """It says what to do."""
    settings = kafka_settings_for()
    for scheme, kind in (("syslog+tcp", socket.SOCK_STREAM), ("syslog+udp", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            if kind is socket.SOCK_STREAM:
                other.listen()
            source = parse_source(f"auto:{scheme}://127.0.0.1:{other.getsockname()[1]}")
            with pytest.raises(SourceError, match="name another port"):
                produce(settings, [source], stop=threading.Event())
