"""Lines that end the worker which reads them: after two deaths they are rejects, and everything else is as without them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Message as Raw

from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, REJECTS, TELEMETRY
from streams.pipeline import Message, Pipeline
from streams.quarantine import Refused
from streams.worker.guards.deaths import Deaths
from streams.worker.guards.exit_codes import Exit
from tests.streams.worker.guards.test_worker_poison import GOOD, ports
from tests.streams.worker.guards.worker_stubborn import STUBBORN
from tests.streams.worker.worker_process import PARTITIONS, WorkerProcess, committed, produce, read_all, wait_until
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port

SettingsFor = Callable[..., Settings]
SCRIPT = Path(__file__).with_name("worker_stubborn.py")
MEMORY_BYTES_MAX = 700 << 20
STALL_SECS = 3
PATIENT_STALL_SECS = 60
"""For what ends by itself: on a busy machine it takes a while to take so much memory."""
GOES_ON_SECS_MAX = 240.0
"""Two deaths and three starts."""
BEFORE, BEHIND = GOOD % 2001, GOOD % 2002
PORTS = {1999, 2001, 2002, 2003, 3000}
"""Of all good lines; 2001 and 2002 stand in one message with the poison."""


@pytest.fixture
def settings(kafka_settings_for: SettingsFor) -> Settings:
    """A worker that takes three seconds for a standstill."""
    return kafka_settings_for(worker={"stall_secs_max": STALL_SECS, "session_timeout_secs": 6})


@contextmanager
def memory_is_limited(worker: WorkerProcess) -> Iterator[None]:
    """Kill -9 whatever life of the worker takes too much memory, as the kernel does beyond a cgroup's limit."""
    enough = threading.Event()

    def look() -> None:
        while not enough.wait(0.02):
            try:
                if psutil.Process(worker.pid).memory_info().rss > MEMORY_BYTES_MAX:
                    worker.kill()
            except psutil.NoSuchProcess:
                continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def send(settings: Settings, poison: bytes) -> int:
    """The poison in the middle of a message in partition 1, and good lines everywhere else; how many messages stand there."""
    message = b"\n".join([BEFORE, poison, BEHIND])
    lines = [(1, b"dev", GOOD % 1999), (1, b"dev", message), (1, b"dev", GOOD % 2003)]
    produce(settings, [*lines, *((partition, b"dev%d" % partition, GOOD % 3000) for partition in (0, 2, 3))], STUBBORN)
    return len(lines)


def undisturbed(settings: Settings, refused: Mapping[bytes, Refused]) -> tuple[set[bytes], set[bytes]]:
    """Rows that pipelines make of the log without a death, up to what the group has committed, and of all of it."""
    done = committed(settings)
    pipelines = [Pipeline(settings.correlation) for _ in range(PARTITIONS)]
    must: set[bytes] = set()
    may: set[bytes] = set()
    for raw in read_all(settings, TELEMETRY):
        partition, offset = raw.partition() or 0, raw.offset() or 0
        pipelines[partition].take(as_sockets(raw), refused.get(raw.value() or b""))
        rows = pipelines[partition].drain().network_events
        may.update(rows)
        if offset < done[partition]:
            must.update(rows)
    return must, may


def as_sockets(raw: Raw) -> Message:
    """A message of the log, its stubborn lines as those of the dialect that they are without the poison."""
    headers = dict(raw.headers() or [])
    if headers["dialect"] == STUBBORN.encode():
        headers["dialect"] = b"sockets"
    return Message.read(raw.offset() or 0, raw.timestamp()[1], raw.key(), raw.value(), headers)


def rows(settings: Settings) -> list[bytes]:
    """Every row on network-events."""
    return [row for made in read_all(settings, NETWORK_EVENTS) for row in (made.value() or b"").split(b"\n")]


def judge(settings: Settings, poison: bytes) -> None:
    """Check that the rows are those of the log with the poison as a reject that ends no worker."""
    message = b"\n".join([BEFORE, poison, BEHIND])
    must, may = undisturbed(settings, {message: Refused({1}, "")})

    assert must
    assert must <= set(rows(settings)) <= may


@pytest.mark.parametrize(
    ("poison", "exits"),
    [(b"hang", {Exit.STALLED}), (b"hang in C", {1}), (b"exhaust", {-9})],
    ids=["hangs", "hangs with all threads", "exhausts memory"],
)
def test_a_line_that_ends_the_worker_goes_to_rejects(
    poison: bytes, exits: set[int], settings: Settings, tmp_path: Path
) -> None:
    """Two deaths, then the line is a reject with its bytes, and all other lines of its message and of the log are read."""
    messages, port = send(settings, poison), free_port()
    changes: dict[str, object] = {"metrics_port": port}
    if poison == b"exhaust":
        changes["stall_secs_max"] = PATIENT_STALL_SECS
    settings = settings.model_copy(update={"worker": settings.worker.model_copy(update=changes)})
    worker = WorkerProcess(settings, tmp_path / "log", script=SCRIPT).keep_alive()
    try:
        with memory_is_limited(worker):
            wait_until(lambda: committed(settings)[1] >= messages, "the partition goes on", GOES_ON_SECS_MAX)
        wait_until(lambda: ports(settings) == PORTS, "all connections have rows")
        counted = (scrape(port) or {})["unproxy_worker_messages_quarantined_total"]
        assert worker.stop() == 0
    finally:
        worker.discard()
    (reject,) = read_all(settings, REJECTS)
    headers = dict(reject.headers() or [])

    assert sum(counted.values()) == 1
    assert len(worker.exits) == 2, worker.log_text()
    assert set(worker.exits) == exits
    assert reject.value() == poison
    assert (headers["reason"], headers["dialect"], headers["device"]) == (b"stops_worker", STUBBORN.encode(), b"dev")
    assert b"at offset 1 (at line 2, at line 2;" in (headers["detail"] or b"")
    judge(settings, poison)


def test_a_message_that_ends_the_worker_outside_of_its_lines_goes_to_rejects(
    settings: Settings, tmp_path: Path
) -> None:
    """Which line it is cannot be known: the message is a reject, whole, and what stands before and behind it is read."""
    messages = send(settings, b"envelope")
    worker = WorkerProcess(settings, tmp_path / "log", script=SCRIPT).keep_alive()
    try:
        wait_until(lambda: committed(settings)[1] >= messages, "the partition goes on", GOES_ON_SECS_MAX)
        wait_until(lambda: ports(settings) == PORTS - {2001, 2002}, "all other connections have rows")
        assert worker.stop() == 0
    finally:
        worker.discard()
    (reject,) = read_all(settings, REJECTS)

    assert worker.exits == [Exit.STALLED, Exit.STALLED]
    assert reject.value() == b"\n".join([BEFORE, b"envelope", BEHIND])
    assert dict(reject.headers() or [])["reason"] == b"stops_worker"


def test_deaths_of_one_worker_are_known_to_the_next_one(settings: Settings, tmp_path: Path) -> None:
    """A worker dies of a line once, and its next life ends before it has a partition. Another one then dies once, not twice."""
    messages = send(settings, b"hang")
    lost = WorkerProcess(settings, tmp_path / "lost.log", script=SCRIPT)
    other = settings.worker.model_copy(update={"name": f"{settings.worker.name}-b", "data_dir": str(tmp_path / "b")})
    heir = WorkerProcess(settings.model_copy(update={"worker": other}), tmp_path / "heir.log", script=SCRIPT)
    try:
        code = lost.start().wait()
        lost.start()
        wait_until(lambda: bool(Deaths(settings).of(1)), "the death is registered")
        lost.kill(Path(settings.worker.data_dir))
        heir.keep_alive()
        wait_until(lambda: committed(settings)[1] >= messages, "the partition goes on", GOES_ON_SECS_MAX)
        wait_until(lambda: ports(settings) == PORTS, "all connections have rows")
        assert heir.stop() == 0
    finally:
        lost.discard()
        heir.discard()

    assert code == Exit.STALLED
    assert heir.exits == [Exit.STALLED]
    assert [made.value() for made in read_all(settings, REJECTS)] == [b"hang"]
    judge(settings, b"hang")
