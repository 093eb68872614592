"""A dialect whose code raises stops no producer: its line is published as it is, and counted."""

from __future__ import annotations

import io
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from confluent_kafka import Message

from producers.files.lines import Lines
from producers.identity.devices import Devices, Named
from producers.run import produce
from producers.sources.failures import LOG_SECS_MIN, DialectFailures
from producers.sources.source import Line, SourceFile, parse_source
from schemas.dialect import Dialect
from schemas.parsers import dialects
from schemas.parsers.recognition import AUTO, NOBODYS
from schemas.sections.inputs import IdentitySettings
from schemas.settings import Settings
from schemas.topics import TELEMETRY
from tests.producers.network.test_http import TOKEN, listens, post
from tests.producers.network.test_kafka import committed, put, topic_of
from tests.producers.running import Running, lines_of
from tests.producers.test_framing import Parts
from tests.streams.worker.worker_process import wait_until
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port

EveMaker = Callable[..., bytes]
MessagesOf = Callable[[Settings, str], list[Message]]
SettingsFor = Callable[..., Settings]
Writer = Callable[[Path, Iterable[bytes]], None]
BAD = b"fail, with a secret"
R = TypeVar("R")
CLAIMED = (Path(__file__).parents[2] / "data/golden/suricata.in.jsonl").read_bytes().splitlines()[:2]
"""Lines that Suricata's dialect claims."""


def failing(function: Callable[[bytes], R]) -> Callable[[bytes], R]:
    """The function, failing on lines that request it."""

    def fail(line: bytes) -> R:
        if BAD in line:
            raise ZeroDivisionError(f"fails on purpose by {line!r}")
        return function(line)

    return fail


def raise_it(*_: object) -> NoReturn:
    """Fail whatever it is given."""
    raise ZeroDivisionError("fails on purpose")


def failing_dialect(dialect: Dialect, **more: Any) -> Dialect:
    """A dialect all of whose functions fail on BAD."""
    return replace(
        dialect,
        written_at=failing(dialect.written_at),
        device_of=failing(dialect.device_of),
        claims=failing(dialect.claims),
        **more,
    )


@pytest.fixture
def suricata(monkeypatch: pytest.MonkeyPatch) -> Dialect:
    """Suricata's dialect, which fails on BAD and takes each line for an envelope of one row."""
    dialect = failing_dialect(dialects()["suricata"], split=failing(lambda line: [line]))
    monkeypatch.setitem(dialects(), "suricata", dialect)
    return dialect


@pytest.fixture
def settings(kafka_settings_for: SettingsFor, unique: str) -> Settings:
    """For all three kinds of sources."""
    return kafka_settings_for(
        inputs={
            "kafka_group": unique,
            "grants": {"test": {"token": TOKEN["Authorization"].removeprefix("Bearer "), "devices": ["*"]}},
        },
        publisher={"batch_age_secs_max": 0.05, "metrics_port": free_port()},
    )


def test_files(
    settings: Settings, messages_of: MessagesOf, suricata: Dialect, eve: EveMaker, write: Writer, tmp_path: Path
) -> None:
    """The line goes out with those around it, under the sensor, as lines without a device do; the position is behind it."""
    path = tmp_path / "eve.json"
    write(path, [eve(1), BAD, eve(2)])
    report = produce(settings, [parse_source(f"suricata:{path}")], stop=threading.Event())
    messages = messages_of(settings, TELEMETRY)
    devices = {value: message.key() for message in messages for value in lines_of([message])}

    assert devices == {eve(1): b"dev-a", eve(2): b"dev-a", BAD: f"{socket.gethostname()}:{path}".encode()}
    assert (report.lines, report.failures_by_dialect) == (3, {suricata.name: 3})  # split, written_at, device_of
    assert produce(settings, [parse_source(f"suricata:{path}")], stop=threading.Event()).lines == 0


def test_http(settings: Settings, messages_of: MessagesOf, suricata: Dialect, eve: EveMaker) -> None:
    """A body with such a line is answered like any other; the failures are on the page."""
    port = free_port()
    with Running(settings, f"{suricata.name}:http://127.0.0.1:{port}/"):
        wait_until(lambda: listens(port), "listening")

        assert post(port, eve(1) + b"\n" + BAD + b"\n" + eve(2)) == (204, "")
        page = scrape(settings.publisher.metrics_port) or {}
        assert page["unproxy_publisher_dialect_failures_total"] == {suricata.name: 3}
    assert sorted(lines_of(messages_of(settings, TELEMETRY))) == sorted([eve(1), BAD, eve(2)])


def test_kafka(settings: Settings, messages_of: MessagesOf, suricata: Dialect) -> None:
    """Its message is acknowledged; where the dialect is to be recognised, the line is of no dialect."""
    topic = topic_of(settings)
    put(settings, topic, [CLAIMED[0], BAD, CLAIMED[1]])
    with Running(settings, f"auto:kafka://{settings.kafka.bootstrap}/{topic}") as running:
        wait_until(lambda: committed(settings, topic) == 3, "all acknowledged")
    assert sorted(lines_of(messages_of(settings, TELEMETRY))) == sorted([CLAIMED[0], BAD, CLAIMED[1]])
    assert running.report.by_dialect == {suricata.name: 2, AUTO: 1}
    assert running.report.failures_by_dialect == {suricata.name: 1}


def test_recognition_passes_a_failing_dialect_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of another dialect is recognised all the same, whether the failing one had the line before or not."""
    auditd = replace(dialects()["auditd"], claims=raise_it)
    monkeypatch.setitem(dialects(), "auditd", auditd)
    failures = DialectFailures()
    subject = Lines(SourceFile(AUTO, "p", "s"), NOBODYS, 1_000, failures)
    (given,) = subject.message(CLAIMED[0])

    assert (given.dialect, given.value) == ("suricata", CLAIMED[0])
    assert [one.dialect for one in subject.message(b"x")] == [AUTO]
    assert failures.by_dialect == {"auditd": 2}


class Failing(Parts):
    """Holds parts back, and fails on BAD in one of its functions."""

    where = "take"

    def __init__(self) -> None:
        super().__init__()
        self._fails = False

    @property
    def held(self) -> int | None:
        if self._fails and self.where == "held":
            raise_it()
        return super().held

    def take(self, line: bytes, start: int) -> list[bytes]:
        if line == BAD:
            self._fails = True
            raise_it()
        return super().take(line, start)

    def release(self) -> list[bytes]:
        if self._fails and self.where == "release":
            raise_it()
        return super().release()


@pytest.mark.parametrize(
    ("where", "given"),
    [("take", [b"a1", BAD, b"b1.", b"c1"]), ("release", [BAD, b"b1.", b"c1"]), ("held", [BAD, b"b1.", b"c1"])],
)
def test_framing(where: str, given: list[bytes]) -> None:
    """What a framing held back is released when it fails; one that cannot release it begins again."""
    framing = type("FailingThere", (Failing,), {"where": where})
    dialect = replace(dialects()["suricata"], framing=lambda _: framing())
    failures = DialectFailures()
    subject = Lines(SourceFile("suricata", "p", "s"), dialect, 1_000, failures)
    whole = b"a1\n" + BAD + b"\nb1\nb.\nc1\n"

    assert [line.value for line in (*subject.feed(whole), *subject.finish())] == given
    assert failures.by_dialect == {"suricata": 1 if where == "take" else 2}
    assert subject.given_to == len(whole)


def test_a_framing_that_cannot_begin_or_recall() -> None:
    """Its lines go on as they are; what it should be reminded of is passed over."""
    unborn = replace(dialects()["suricata"], framing=raise_it)
    failures = DialectFailures()
    subject = Lines(SourceFile("suricata", "p", "s"), unborn, 1_000, failures)
    assert [line.value for line in subject.message(b"one\ntwo")] == [b"one", b"two"]
    assert failures.by_dialect == {"suricata": 2}
    before = b"=" + BAD + b"\n=2\n"
    forgetful = type("Forgetful", (Parts,), {"take": failing_take})
    dialect = replace(dialects()["suricata"], framing=lambda _: forgetful())
    subject = Lines(SourceFile("suricata", "p", "s", taken=len(before)), dialect, 1_000, failures)
    subject.recall(io.BytesIO(before).read)

    assert [line.value for line in subject.message(b"a1\na.")] == [b"a1."]
    assert failures.by_dialect == {"suricata": 3}


def failing_take(framing: Parts, line: bytes, start: int) -> list[bytes]:
    """Parts.take, failing on BAD."""
    return failing(lambda value: Parts.take(framing, value, start))(line)


def test_a_lease_does_not_apply_to_a_line_of_unknown_time(suricata: Dialect, tmp_path: Path) -> None:
    """The line stays under its address."""
    leases = tmp_path / "leases.csv"
    leases.write_text("device,address,from\nws-1,10.0.3.17,2026-11-24T09:00:00Z\n")
    devices = Devices(IdentitySettings(files=(str(leases),)), Counter(), clock=lambda: 0.0)
    devices._dialects = {"suricata": replace(suricata, device_of=lambda _: "10.0.3.17")}

    assert devices.of(Line("suricata", "s", BAD, SourceFile("suricata", "p", "s"), 0, 1, 0)) == Named("10.0.3.17", True)


def test_the_log_is_limited_and_quotes_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """One record a minute and dialect, with where the exception was raised; its message may quote the line and stays out."""
    times = iter((1.0, 2.0, 1.0 + LOG_SECS_MIN))
    failures = DialectFailures(lambda: next(times))
    bad = failing_dialect(dialects()["suricata"])
    with caplog.at_level(logging.ERROR):
        assert [failures.written_at(bad, BAD) for _ in range(3)] == [0, 0, 0]
    (first, last) = caplog.records

    assert vars(first)["dialect"] == "suricata"
    assert vars(first)["error"].startswith("ZeroDivisionError in fail (test_failures.py:")
    assert (vars(first)["failures"], vars(last)["failures"]) == (1, 3)
    assert "secret" not in str([vars(record) for record in caplog.records])
