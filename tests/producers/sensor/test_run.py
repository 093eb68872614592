"""The thread that reads, over pipes instead of the kernel's: lines, numbers, the queue's bound and the way to Kafka."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from producers.sensor import run as module
from producers.sensor.enforce.deny_list import Listed
from producers.sensor.enforce.enforcer import Enforcer
from producers.sensor.kernel.clock import Distance
from producers.sensor.kernel.processes import Processes, Who
from producers.sensor.kernel.trace_ring import CLOSE, ESTABLISHED, SYN_SENT
from producers.sensor.kernel.tracefs import Instance
from producers.sensor.queue import Queue
from producers.sensor.run import Sensor, publish, write
from schemas.events import ProtectionMode
from schemas.settings import Settings
from schemas.topics import TELEMETRY
from tests.producers.sensor.makers import FORMATS, LAYOUT, PAGE, change, event, page, record
from unproxy.local.servers.service import free_port

STATS = "entries: 0\noverrun: 3\ncommit overrun: 1\nbytes: 0\ndropped events: 2\nread events: 9\n"
Feed = Callable[[bytes], None]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[tuple[Instance, Feed]]:
    """An instance with one CPU, and what writes pages for it."""
    (tmp_path / "per_cpu/cpu0").mkdir(parents=True)
    (tmp_path / "per_cpu/cpu0/stats").write_text(STATS)
    # A read gives what one write put in, as it gives one page of the kernel's.
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)

    def feed(content: bytes) -> None:
        assert os.write(writer, content) == len(content)

    yield Instance(tmp_path, LAYOUT, (reader,)), feed
    os.close(reader)
    os.close(writer)


def connected(number: int, *, pid: int = 2**31 - 1) -> bytes:
    """A page in which a connection is begun and answered; of a process that is not there."""
    begun = change(number, CLOSE, SYN_SENT, sk=number, port=0, pid=pid)
    return page(number, event(0, record(begun)), event(5, record(change(0, SYN_SENT, ESTABLISHED, sk=number))))


def runs(pid: int) -> bytes:
    """The kernel's record of a process that begins to run a shell."""
    number = int(FORMATS["sched_process_exec"].partition("ID: ")[2].split()[0])
    return struct.pack("<HBBiIii8s", number, 0, 0, pid, 8 << 16 | 20, pid, pid, b"/bin/sh")


def test_lines_are_written_until_a_stop(instance: tuple[Instance, Feed]) -> None:
    """What is there when it is asked to stop is read and written before it ends."""
    opened, feed = instance
    feed(PAGE)
    stop, out = threading.Event(), io.BytesIO()
    stop.set()
    sensor = Sensor(opened, "dev-a")
    sensor.start()
    write(sensor, out, stop)
    sensor.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    # Ends that wait for their bytes come last.
    assert sorted((line["remote_ip"], line["remote_port"], line["result"]) for line in lines) == [
        ("198.51.100.80", 3128, "success"),
        ("198.51.100.80", 3130, "success"),
        ("198.51.100.80", 8888, "failed"),
        ("2001:db8:51::80", 3129, "success"),
        ("2001:db8:51::80", 8888, "failed"),
    ]
    assert {line["device"] for line in lines} == {"dev-a"}


def test_an_error_in_one_record_ends_nothing(
    instance: tuple[Instance, Feed], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that cannot be read for a defect of ours is left out, counted and logged; the next one is reported."""
    opened, feed = instance
    for number in (1, 2, 3):
        feed(connected(number, pid=number))

    def broken(_: Processes, thread: int, __: int) -> Who:
        if thread != 2:
            raise RuntimeError("a defect")
        return Who(thread, "curl")

    monkeypatch.setattr(Processes, "of", broken)
    stop, out = threading.Event(), io.BytesIO()
    stop.set()
    sensor = Sensor(opened, "dev-a")
    sensor.start()
    write(sensor, out, stop)
    sensor.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    assert sorted((line["pid"], line["process"]) for line in lines) == [(1, ""), (2, "curl"), (3, "")]
    assert sensor.errors.count == sensor.summary()["skipped_after_errors"] == 2
    assert [vars(one)["so_far"] for one in caplog.records if "skipped after an error" in one.getMessage()] == [1, 2]


def test_a_round_ends_however_much_is_there(instance: tuple[Instance, Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU whose buffer is not read to its end in a round holds back what others reported later; all of it comes, in order."""
    opened, feed = instance
    monkeypatch.setattr(module, "ROUND_PAGES_MAX", 1)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)
    for number in range(10, 50, 10):
        feed(page(number, event(0, record(change(number, SYN_SENT, ESTABLISHED, sk=number)))))
    os.write(writer, page(25, event(0, record(change(25, SYN_SENT, ESTABLISHED, sk=25)))))
    sensor = Sensor(Instance(opened.folder, opened.layout, (*opened.pipes, reader)), "dev-a")
    given: list[list[int]] = []
    monkeypatch.setattr(sensor, "_report", lambda records, *_: given.append([one.at_ns for one in records]))
    for _ in range(5):
        sensor._take(last=False)
    sensor._thread.start()
    sensor.close()
    os.close(reader)
    os.close(writer)

    assert given[:4] == [[10], [20], [25, 30], [40]]


def test_numbers_move(instance: tuple[Instance, Feed]) -> None:
    """Connections, what the kernel lost by its own count, what no process is known of, and jumps of the clock."""
    opened, feed = instance
    feed(PAGE)
    sensor = Sensor(opened, "dev-a", queue_bytes_max=1)
    sensor.clock.look(Distance(0, 0))
    sensor.start()
    sensor.close()
    numbers = {
        (sample.name, *sample.labels.values()): sample.value
        for family in sensor.families()
        for sample in family.samples
    }

    assert numbers["unproxy_endpoint_connections_total", "attempted"] == 5
    assert numbers["unproxy_endpoint_connections_total", "established"] == 3
    assert numbers["unproxy_endpoint_connections_total", "failed"] == 2
    assert numbers["unproxy_endpoint_connections_total", "closed"] == 2
    assert numbers["unproxy_endpoint_connections_open",] == 1
    assert numbers["unproxy_endpoint_lost_total", "kernel_buffer"] == 3 + 1 + 2
    assert numbers["unproxy_endpoint_lost_total", "queue"] == 5
    assert numbers["unproxy_endpoint_lost_total", "process_gone"] == 5
    assert numbers["unproxy_endpoint_lost_total", "error"] == 0
    assert numbers["unproxy_endpoint_clock_jumps_total",] >= 1


def test_each_line_without_its_process_is_counted(
    instance: tuple[Instance, Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is gone, one of which only the number is sure, and one that ended and was not waited for."""
    opened, feed = instance
    known = {1: None, 2: Who(2), 3: Who(3, "curl", ended=True), 4: Who(4, "curl", "/usr/bin/curl")}
    monkeypatch.setattr(Processes, "of", lambda _, thread, __: known[thread])
    for number in known:
        feed(connected(number, pid=number))
        feed(page(number + 10, event(0, record(change(number + 10, ESTABLISHED, CLOSE, sk=number)))))
    sensor = Sensor(opened, "dev-a")
    sensor.start()
    sensor.close()
    lines = [json.loads(line) for _, line in sensor.queue.take()]

    assert len([line for line in lines if not line["process"] or line["pid"] == 3]) == sensor.process_gone == 3
    assert sensor.summary()["processes_gone"] == 3


def test_a_real_zombie_is_counted(instance: tuple[Instance, Feed]) -> None:
    """It has a name in /proc, and neither path nor command line."""
    opened, feed = instance
    (opened.folder / "per_cpu/cpu0/stats").write_text("overrun: 0\n")
    child = os.posix_spawnp("true", ["true"], os.environ)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    begun = change(at_ns, CLOSE, SYN_SENT, sk=1, port=0, pid=child)
    feed(page(at_ns, event(0, record(begun)), event(5, record(change(0, SYN_SENT, ESTABLISHED, sk=1)))))
    sensor = Sensor(opened, "dev-a")
    sensor.start()
    sensor.close()
    os.waitpid(child, 0)
    ((_, line),) = sensor.queue.take()

    assert (json.loads(line)["pid"], json.loads(line)["process"], "path" in json.loads(line)) == (child, "true", False)
    assert sensor.process_gone == 1


def test_a_program_counts_though_its_turn_has_not_come(
    instance: tuple[Instance, Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began before the end of the look at an attempt, and after another attempt that is held back."""
    opened, feed = instance
    monkeypatch.setattr(module, "STABLE_NS", 0)
    sensor = Sensor(opened, "dev-a")
    with subprocess.Popen(["sleep", "60"]) as child:
        at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        begun = change(at_ns, CLOSE, SYN_SENT, port=0, pid=child.pid)
        feed(page(at_ns, event(0, record(begun)), event(5, record(change(0, SYN_SENT, ESTABLISHED)))))
        sensor._take(last=False)
        other = change(at_ns + 10, CLOSE, SYN_SENT, sk=2, port=0, pid=1)
        feed(page(at_ns + 10, event(0, record(other)), event(10, runs(child.pid))))
        sensor._take(last=False)
        child.kill()
    sensor.start()
    sensor.close()
    lines = [json.loads(line) for _, line in sensor.queue.take()]

    assert [(line["pid"], line["process"], line.get("path", "")) for line in lines] == [(child.pid, "", "")] * 2


def test_a_program_that_follows_is_on_a_further_line(instance: tuple[Instance, Feed]) -> None:
    """The line of the answer goes before it; the next one has the program, too."""
    opened, feed = instance
    sensor = Sensor(opened, "dev-a")
    feed(connected(10, pid=7))
    sensor._take(last=True)
    feed(page(20, event(0, runs(7))))
    sensor._take(last=True)
    sensor.start()
    sensor.close()
    first, second = (json.loads(line) for _, line in sensor.queue.take())

    assert "exec_after" not in first
    assert second == first | {"exec_after": "/bin/sh"}


def test_the_queue_is_bounded() -> None:
    """Beyond a dialect's bound its newest are dropped and counted; when it was emptied there is room again."""
    queue = Queue(bytes_max=6)
    for line in (b"one", b"two", b"four"):
        queue.put(line, "sockets")
    queue.put(b"three", "sensor")
    assert queue.take() == [("sockets", b"one"), ("sockets", b"two"), ("sensor", b"three")]
    assert queue.dropped == 1
    queue.put(b"five", "sensor")

    assert queue.take() == [("sensor", b"five")]


def test_a_thread_that_failed_is_reported(instance: tuple[Instance, Feed]) -> None:
    """What ends the thread ends the sensor, in the open."""
    opened, _ = instance
    (opened.folder / "per_cpu/cpu0/stats").write_bytes(b"\xff")
    sensor = Sensor(opened, "dev-a")
    sensor.start()
    try:
        with pytest.raises(UnicodeDecodeError):
            write(sensor, io.BytesIO(), threading.Event())
    finally:
        sensor.close()


def test_an_executable_whose_name_is_not_utf8(instance: tuple[Instance, Feed], tmp_path: Path) -> None:
    """Its path is decoded with replacement; the sensor goes on and reports it like any other process."""
    opened, feed = instance
    (opened.folder / "per_cpu/cpu0/stats").write_text("overrun: 0\n")
    program = os.fsencode(tmp_path) + b"/na\xff\nme"
    shutil.copy(os.fsencode(shutil.which("sleep") or ""), program)
    with subprocess.Popen([program, b"60"]) as child:
        at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        begun = change(at_ns, CLOSE, SYN_SENT, sk=1, port=0, pid=child.pid)
        feed(page(at_ns, event(0, record(begun)), event(5, record(change(0, SYN_SENT, ESTABLISHED, sk=1)))))
        stop, out = threading.Event(), io.BytesIO()
        stop.set()
        sensor = Sensor(opened, "dev-a")
        sensor.start()
        write(sensor, out, stop)
        sensor.close()
        child.kill()
    (line,) = [json.loads(line) for line in out.getvalue().split(b"\n") if line]

    assert (line["pid"], line["process"]) == (child.pid, "na\ufffd\nme")
    assert line["path"] == f"{tmp_path}/na\ufffd\nme"
    assert line["command_line"] == f"{tmp_path}/na\ufffd\nme 60"


def test_lines_go_to_kafka_with_numbers(
    instance: tuple[Instance, Feed],
    kafka_settings_for: Callable[..., Settings],
    messages_of: Callable[[Settings, str], list[Message]],
) -> None:
    """Each line once, under its device and its dialect, numbered without a gap; a stop publishes what is there first."""
    opened, feed = instance
    for number in range(1, 4):
        feed(connected(number))
    settings = kafka_settings_for()
    asked = threading.Event()
    asked.set()
    sensor = Sensor(opened, "dev-a")
    enforcer = Enforcer("dev-a", lambda: Listed(""), lambda _: False, lambda line: sensor.queue.put(line, "sensor"))
    enforcer.enters(ProtectionMode.AUDIT, 1)
    enforcer.enters(ProtectionMode.OFF, 2)
    sensor.start()
    report = publish(sensor, settings, asked)
    sensor.close()
    modes, message = sorted(messages_of(settings, TELEMETRY), key=lambda each: b"ts_attempt" in (each.value() or b""))
    pairs: Any = message.headers()

    reported: Any = modes.headers()
    assert (dict(reported)["dialect"], dict(reported)["seq"], dict(reported)["lines"]) == (b"sensor", b"1", b"2")
    assert [json.loads(line).get("before") for line in (modes.value() or b"").splitlines()] == [None, "audit"]
    assert (report.lines, report.messages, report.unacknowledged_messages) == (5, 2, 0)
    assert message.key() == b"dev-a"
    assert (message.value() or b"").count(b"ts_attempt") == 3
    headers = dict(pairs)
    assert (headers["dialect"], headers["seq"], headers["lines"]) == (b"sockets", b"1", b"3")
    assert headers["sensor"].endswith(b":sensor")


def test_a_stop_does_not_wait_for_kafka_for_ever(
    instance: tuple[Instance, Feed], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Kafka is away the lines are lost, and within ten seconds it reports how many."""
    opened, feed = instance
    feed(connected(1))
    nowhere = Settings.model_validate(
        {"kafka": {"bootstrap": f"127.0.0.1:{free_port()}"}, "publisher": {"state_dir": str(tmp_path / "state")}}
    )
    asked = threading.Event()
    asked.set()
    sensor = Sensor(opened, "dev-a")
    sensor.start()
    began = time.monotonic()
    report = publish(sensor, nowhere, asked)
    took_secs = time.monotonic() - began
    sensor.close()

    assert took_secs < 10
    assert (report.lines, report.unacknowledged_messages) == (1, 1)
    lost = [
        record
        for record in caplog.records
        if record.getMessage() == "lines that cannot be read again were not acknowledged, send them again"
    ]
    assert [vars(record)["lines"] for record in lost] == [1]
