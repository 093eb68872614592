"""Messages that no producer should send, through the worker with the real pipeline: all accounted for, and it goes on."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, REJECTS, TELEMETRY, topic_name
from streams.messages import LINE_BYTES_MAX, MESSAGE_LINES_MAX
from streams.worker.batch import REJECTS_TOGETHER_MAX
from tests.streams.worker.worker_process import ROOT, WorkerProcess, committed, ends, produce, read_all, wait_until
from unproxy.local.parts import write_settings

SettingsFor = Callable[..., Settings]
Poison = tuple[bytes | None, bytes | None, Any, Counter[bytes]]
"""Value, key and headers of a message, and how many rejects it should become, by reason."""

SOCKETS = [("dialect", b"sockets")]
GOOD = (
    b'{"device":"dev","pid":1,"process":"p","local_ip":"10.0.0.1","local_port":%d,"remote_ip":"203.0.113.5","remote_port":443,'
    b'"result":"success","ts_attempt":"2026-11-24T19:07:26.000000Z","ts_established":"2026-11-24T19:07:26.000100Z",'
    b'"ts_closed":"2026-11-24T19:07:27.000000Z"}'
)
LINE = GOOD % 1000

POISON: dict[str, Poison] = {
    "nothing at all": (None, None, None, Counter()),
    "no value": (None, b"dev", SOCKETS, Counter()),
    "no key": (b"junk", None, SOCKETS, Counter([b"malformed"])),
    "no headers": (LINE, b"dev", None, Counter([b"unknown_dialect"])),
    "header without a value": (LINE, b"dev", [("dialect", None)], Counter([b"unknown_dialect"])),
    "header in no encoding": (LINE, b"dev", [("dialect", b"\xff\xfe\x00")], Counter([b"unknown_dialect"])),
    "header twice, the last one counts": (LINE, b"dev", [*SOCKETS, ("dialect", b"no")], Counter([b"unknown_dialect"])),
    "header name in no encoding": (LINE, b"dev", [*SOCKETS, (b"\xff\xfe", b"x")], Counter()),
    "header of a megabyte": (LINE, b"dev", [*SOCKETS, ("x", b"y" * (1 << 20))], Counter()),
    "key in no encoding": (b"junk", b"\xff\x00\xfe", SOCKETS, Counter([b"malformed"])),
    "key of a megabyte": (b"junk", b"k" * (1 << 20), SOCKETS, Counter([b"malformed"])),
    "lines in a tick": (LINE, b"dev", [("dialect", b"tick")], Counter([b"unknown_dialect"])),
    "a line of 15 MB": (b"x" * 15_000_000, b"dev", SOCKETS, Counter([b"too_long"])),
    "a line at the limit": (b'"' * LINE_BYTES_MAX, b"dev", SOCKETS, Counter([b"bad_value"])),
    "nested 100,000 deep": (b'{"x":' + b"[" * 100_000, b"dev", SOCKETS, Counter([b"malformed"])),
    "a million line ends": (b"\n" * 1_000_000, b"dev", SOCKETS, Counter()),
    "too many lines": (b"x\n" * MESSAGE_LINES_MAX + b"x", b"dev", SOCKETS, Counter([b"too_long"])),
    "many lines": (
        b"\n".join([b"junk"] * (REJECTS_TOGETHER_MAX + 10)), b"dev", SOCKETS,
        Counter({b"malformed": REJECTS_TOGETHER_MAX + 10}),
    ),
    "gzip": (gzip.compress(LINE, mtime=0), b"dev", SOCKETS, Counter([b"malformed"])),
    "UTF-16": (LINE.decode().encode("utf-16"), b"dev", SOCKETS, Counter([b"malformed"])),
    "a device without end": (
        LINE.replace(b'"dev"', b'"%s"' % (b"d" * 900_000)), b"dev", SOCKETS, Counter([b"no_device"])
    ),
    "a process without end": (LINE.replace(b'"p"', b'"%s"' % (b"p" * 900_000)), b"dev", SOCKETS, Counter()),
}  # fmt: skip


@pytest.fixture
def settings(kafka_settings_for: SettingsFor) -> Settings:
    """Broker and topics of this test; the real worker's group."""
    return kafka_settings_for()


@pytest.fixture
def log(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """The log of a real worker that runs meanwhile."""
    file, log = tmp_path / "settings.toml", tmp_path / "worker.log"
    write_settings(settings, file)
    command = [sys.executable, "-m", "unproxy", "--config", str(file), "worker"]
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out) as process:
        yield log
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def test_poison_passes(settings: Settings, log: Path) -> None:
    """Each kind of it becomes the rejects that it should, byte by byte; good lines behind it have their rows."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "message.max.bytes": 16_777_216})
    topic = topic_name(settings, TELEMETRY)
    for value, key, headers, _ in POISON.values():
        producer.produce(topic, value, key, 0, headers=headers)
        producer.poll(0)
    for port in (2001, 2002):
        producer.produce(topic, GOOD % port, b"dev", 0, headers=dict(SOCKETS))
    assert producer.flush(60) == 0
    wait_until(lambda: committed(settings)[0] >= len(POISON) + 2, f"all of it is acknowledged: {log.read_text()}", 120)

    found = read_all(settings, REJECTS)
    reasons = Counter(dict(made.headers() or [])["reason"] for made in found)
    assert reasons == sum((expected for *_, expected in POISON.values()), Counter())
    sent = {line for value, *_ in POISON.values() for line in (value, *(value or b"").split(b"\n"))}
    assert {made.value() for made in found} <= sent
    assert {made.partition() for made in found} == {0}
    assert "ERROR" not in log.read_text()
    wait_until(lambda: {2001, 2002} <= ports(settings), "rows of the good lines")


def ports(settings: Settings) -> set[int]:
    """Local ports in the rows so far."""
    made = read_all(settings, NETWORK_EVENTS)
    return {json.loads(row)["LocalPort"] for message in made for row in (message.value() or b"").split(b"\n")}


def test_a_file_that_is_no_sensors_does_not_stop_the_worker(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """So many rejects take longer than the watchdog waits for a commit; it sees them go forward and lets it be."""
    settings = kafka_settings_for(worker={"stall_secs_max": 1})
    junk = b"\n".join([b"reject: one line of a wrong file"] * 20_000)
    produce(settings, [(0, b"dev", junk)] * 8)
    worker = WorkerProcess(settings, tmp_path / "worker.log").start()
    try:
        wait_until(lambda: committed(settings)[0] >= 8, "all of it", 120)
        assert committed(settings)[0] <= ends(settings)[0]
        assert worker.stop() == 0, worker.log_text()
    finally:
        worker.discard()
    assert len(read_all(settings, REJECTS)) == 160_000
