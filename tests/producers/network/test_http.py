"""Lines by HTTP on the real Kafka: answered once they are there, refused in words, and a restart costs nothing."""

from __future__ import annotations

import gzip
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Message

from producers.run import produce
from producers.sources.source import SourceError, parse_source
from schemas.settings import Settings
from schemas.topics import TELEMETRY
from tests.producers.running import Running, lines_of
from tests.streams.worker.worker_process import wait_until
from unproxy.local.meter import scrape
from unproxy.local.parts import write_settings
from unproxy.local.servers.service import free_port

EveMaker = Callable[..., bytes]
MessagesOf = Callable[[Settings, str], list[Message]]
SettingsFor = Callable[..., Settings]
TOKEN = {"Authorization": "Bearer a-token-of-this-test"}
RECEIVED = "unproxy_publisher_received_total"


def post(
    port: int, body: bytes | Iterator[bytes], path: str = "/", method: str = "POST", **headers: str
) -> tuple[int, str]:
    """Status and words; the token goes with it unless `Authorization` is given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**TOKEN, **named})
        answer = connection.getresponse()
        message = answer.read().decode()
        return answer.status, message + (answer.getheader("Retry-After") or "")
    finally:
        connection.close()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def make(kafka_settings_for: SettingsFor) -> SettingsFor:
    """Settings with a token, and with a small bound on bodies."""

    def settings(**inputs: object) -> Settings:
        return kafka_settings_for(
            inputs={
                "grants": {"test": {"token": "a-token-of-this-test", "devices": ["*"]}},
                "http_body_bytes_max": 50_000,
                **inputs,
            },
            publisher={"batch_age_secs_max": 0.05, "metrics_port": free_port()},
        )

    return settings


def test_lines_are_there_when_it_answers(make: SettingsFor, messages_of: MessagesOf, eve: EveMaker) -> None:
    """Plain, gzip in two members, without a last newline: 204 means that Kafka has all lines, in their order."""
    settings, port = make(), free_port()
    with Running(settings, f"auto:http://127.0.0.1:{port}/in"):
        wait_until(lambda: listens(port), "listening")

        assert post(port, eve(1) + b"\n\n" + eve(2), "/in?from=test") == (204, "")
        assert lines_of(messages_of(settings, TELEMETRY)) == [eve(1), eve(2)]
        packed = gzip.compress(eve(3) + b"\n") + gzip.compress(eve(4) + b"\n")
        assert post(port, packed, "/in", Content_Encoding="gzip") == (204, "")
        assert lines_of(messages_of(settings, TELEMETRY)) == [eve(1), eve(2), eve(3), eve(4)]
        assert post(port, b"", "/in") == (204, "")
        wait_until(lambda: (scrape(settings.publisher.metrics_port) or {})[RECEIVED]["http_acknowledged"] == 3, "count")


def test_wrong_requests_are_reported(make: SettingsFor, messages_of: MessagesOf, eve: EveMaker) -> None:
    """What cannot be taken is answered with what to do, is counted, and leaves nothing in Kafka."""
    settings, port = make(), free_port()
    bomb = gzip.compress(b"x" * 5_000_000)
    with Running(settings, f"auto:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        answers = [
            post(port, eve(1), Authorization="Bearer another"),
            post(port, eve(1), Authorization=""),
            post(port, eve(1), "/elsewhere"),
            post(port, b"", method="GET"),
            post(port, b"x" * 50_001),
            post(port, bomb, Content_Encoding="gzip"),
            post(port, gzip.compress(eve(1))[:-9], Content_Encoding="gzip"),
            post(port, b"no gzip", Content_Encoding="gzip"),
            post(port, eve(1), Content_Encoding="zstd"),
            post(port, b"[" + eve(1) + b"]"),
            post(port, eve(1), Content_Length="1e3"),
            post(port, eve(1), Transfer_Encoding="chunked"),  # beside a Content-Length
            post(port, iter([eve(1)])),  # http.client sends that in chunks
        ]
        wait_until(lambda: sum(one.report.received.values()) == len(answers), "counted")

    assert [status for status, _ in answers] == [401, 401, 404, 405, 413, 413, 400, 400, 415, 400, 400, 400, 411]
    assert all(message.strip() for _, message in answers)
    assert "Bearer TOKEN" in answers[0][1]
    assert "inputs.http_body_bytes_max" in answers[4][1]
    assert "one object a line" in answers[9][1]
    assert +one.report.received == Counter(http_unauthorized=2, http_too_large=2, http_wrong=9)
    assert messages_of(settings, TELEMETRY) == []


def test_faster_than_kafka(make: SettingsFor, eve: EveMaker) -> None:
    """While Kafka takes nothing, clients are asked to come again: no answer in time, then no room; never 204."""
    settings, port = make(http_answer_secs_max=1.5, http_waiting_bytes_max=1_000), free_port()
    away = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})}
    )
    answers: list[tuple[int, str]] = []
    with Running(away, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        waits = threading.Thread(target=lambda: answers.append(post(port, eve(1))))
        waits.start()
        wait_until(lambda: one.report.lines > 0, "its line is on the way")
        full = post(port, b"\n".join(eve(number) for number in range(20)))
        waits.join()

    assert (full[0], full[1][-1]) == (429, "2")
    assert "send it again later" in full[1]
    assert (answers[0][0], answers[0][1][-1]) == (503, "2")
    assert "will not count twice" in answers[0][1]
    assert one.report.received["http_acknowledged"] == 0


def test_kill_loses_nothing(make: SettingsFor, messages_of: MessagesOf, eve: EveMaker, tmp_path: Path) -> None:
    """Killed in the middle, a client that repeats what was not answered loses no line and doubles only what it repeats."""
    settings, port = make(), free_port()
    write_settings(settings, tmp_path / "unproxy.toml")
    token = f'"token" = "{TOKEN["Authorization"].removeprefix("Bearer ")}"'
    written = (tmp_path / "unproxy.toml").read_text().replace('"token" = "***"', token)
    (tmp_path / "unproxy.toml").write_text(written)
    source = f"suricata:http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "unproxy", "--config", str(tmp_path / "unproxy.toml"), "produce", source]
    bodies = [[eve(10 * body + row, f"dev-{row % 3}") for row in range(10)] for body in range(40)]
    repeated = 0
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: listens(port), "listening")
            for number, body in enumerate(bodies):
                if number in (10, 25):
                    threading.Timer(0.05, process.send_signal, [signal.SIGKILL]).start()
                while True:
                    try:
                        status, _ = post(port, b"\n".join(body))
                    except (OSError, http.client.HTTPException):
                        status = 0
                    if status == 204:
                        break
                    repeated += len(body)
                    if process.poll() is not None:
                        process = subprocess.Popen(command, stdout=log, stderr=log)
                        wait_until(lambda: listens(port), "listening again")
        finally:
            asked = time.monotonic()
            process.terminate()
            assert process.wait(10) == 0
            stopped_secs = time.monotonic() - asked

    arrived = lines_of(messages_of(settings, TELEMETRY))
    assert set(arrived) == {line for body in bodies for line in body}
    assert repeated > 0
    assert len(arrived) <= 400 + repeated
    assert stopped_secs < 4


def test_stop_answers_everybody(make: SettingsFor, eve: EveMaker) -> None:
    """A client that waits during a stop learns at once whether Kafka has the lines."""
    settings, port = make(), free_port()
    slow = settings.model_copy(
        update={
            "publisher": settings.publisher.model_copy(update={"batch_age_secs_max": 60.0, "batch_bytes_max": 1_000})
        }
    )
    answers: list[tuple[int, str]] = []
    with Running(slow, f"suricata:http://127.0.0.1:{port}") as one:
        wait_until(lambda: listens(port), "listening")
        assert post(port, b"x" * 1_000)[0] == 204  # fills a message by itself
        waits = threading.Thread(target=lambda: answers.append(post(port, eve(1))))
        waits.start()
        wait_until(lambda: one.report.lines > 1, "its line waits for company")
    waits.join()

    assert answers == [(204, "")]
    assert not listens(port)


def test_calls_that_cannot_be(make: SettingsFor) -> None:
    """No token, a port that is taken, an address of another machine: each names the remedy."""
    settings = make()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        for given, source, message in (
            (settings.model_copy(update={"inputs": type(settings.inputs)()}), "http://127.0.0.1:1", "with a token"),
            (settings, f"http://127.0.0.1:{taken}", "name another port"),
            (settings, f"http://192.0.2.1:{taken}", "name one of its own"),
            (settings, f"http://0.0.0.0:{free_port()}", "inputs.http_plaintext_allowed"),
            (settings, f"https://127.0.0.1:{free_port()}", "set inputs.http_tls_cert_file"),
        ):
            with pytest.raises(SourceError, match=message):
                produce(given, [parse_source(f"auto:{source}")], stop=threading.Event())
