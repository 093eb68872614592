"""The worker on the real broker: what goes in comes out, in the right place, and it ends when it should."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from schemas.metrics import METRICS
from schemas.settings import Settings, SettingsError
from schemas.topics import BLOCK_ALERTS, DEVICE_EVENTS, NETWORK_EVENTS, REJECTS, topics
from streams.worker.startup import own_folder
from tests.streams.worker.worker_process import (
    WorkerProcess,
    committed,
    delete_before,
    ends,
    produce,
    read_all,
    wait_until,
)
from unproxy.local.meter import scrape
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.service import free_port

SettingsFor = Callable[..., Settings]
Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers; ends what is left of them after the test."""
    started: list[WorkerProcess] = []

    def begin(settings: Settings) -> WorkerProcess:
        worker = WorkerProcess(settings, tmp_path / f"{settings.worker.name}.log")
        started.append(worker)
        return worker.start()

    yield begin
    for worker in started:
        worker.discard()
        print(f"{worker.log.name}:\n{worker.log_text()}")  # pytest shows it beside a test that failed


def rows(settings: Settings) -> list[dict[str, Any]]:
    """Every row on network-events."""
    return [
        json.loads(row) for made in read_all(settings, NETWORK_EVENTS) for row in (made.value() or b"").split(b"\n")
    ]


def done(settings: Settings) -> bool:
    """Everything on the input is committed."""
    return committed(settings) == ends(settings)


def verdict(settings: Settings, page: str) -> tuple[bool, str]:
    """The answer of /healthz or /readyz; not well without an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.worker.metrics_port}/{page}") as answer:
            state = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            state = json.load(error)
    except urllib.error.URLError as error:
        return False, str(error)
    return state["ok"], state["why"]


def header(message: Message, name: str) -> bytes:
    """One header of a message."""
    value = dict(message.headers() or [])[name]
    assert isinstance(value, bytes)
    return value


def test_outputs_stay_in_the_partition_of_their_input(kafka_settings_for: SettingsFor, start: Start) -> None:
    """Rows, alerts and rejects go to the input's partition of their topics, alerts keyed, rejects with headers."""
    settings = kafka_settings_for(worker={"metrics_port": free_port()})
    worker = start(settings)
    produce(settings, [(2, b"dev", b"one\ntwo\nreject me\nalert!"), (3, b"other", b"three"), (1, None, None)], "lab")
    wait_until(lambda: len(rows(settings)) >= 4, "rows of three lines and of an empty message")
    wait_until(lambda: len(read_all(settings, REJECTS)) == 1, "the reject")
    page = urllib.request.urlopen(f"http://127.0.0.1:{settings.worker.metrics_port}/metrics").read().decode()
    wait_until(lambda: verdict(settings, "readyz") == (True, "Kafka answers"), "it is ready")
    assert verdict(settings, "healthz")[0]
    assert worker.stop() == 0

    found = read_all(settings, NETWORK_EVENTS)
    (alert,) = read_all(settings, BLOCK_ALERTS)
    (reject,) = read_all(settings, REJECTS)
    joined = next(made.value() for made in found if made.partition() == 2)
    assert joined is not None
    assert [json.loads(row)["id"] for row in joined.split(b"\n")] == ["one", "two"]
    assert {made.key() for made in found} == {None}
    assert {made.partition() for made in read_all(settings, DEVICE_EVENTS)} == {1, 2, 3}
    assert (alert.partition(), alert.key(), json.loads(alert.value() or b"")["n"]) == (2, b"dev", 4)
    assert (reject.partition(), reject.value()) == (2, b"reject me")
    assert {name: header(reject, name) for name in ("reason", "dialect", "device")} == {
        "reason": b"malformed",
        "dialect": b"lab",
        "device": b"dev",
    }
    assert header(reject, "detail") == b"x" * 500
    own = ("unproxy_worker_", "unproxy_reject_", "unproxy_indicators", "unproxy_suppressions")
    assert all(metric.name in page for metric in METRICS if metric.name.startswith(own))
    assert "unproxy_lines_read_total 6.0" in page
    assert "unproxy_worker_latency_seconds_count 3.0" in page
    assert 'unproxy_worker_latency_seconds_bucket{le="30.0"} 3.0' in page
    assert 'unproxy_worker_rebalances_total{change="assigned"} 1.0' in page
    warnings = [line for line in worker.log_text().splitlines() if " WARNING " in line]
    # A busy broker may take a tick late; the next one carries the time.
    assert [line for line in warnings if "tick not delivered" not in line] == []


def test_too_large_goes_to_rejects(kafka_settings_for: SettingsFor, start: Start) -> None:
    """A row too large for its topic is kept as a reject; a rejected line of 12 MB passes as it is; nothing stops."""
    settings = kafka_settings_for()
    long_line = b"reject " + b"z" * (12 << 20)
    produce(settings, [(0, b"dev", b"huge 5000000\nafter"), (1, b"long", long_line)])
    worker = start(settings)
    wait_until(lambda: len(read_all(settings, REJECTS)) == 2, "both rejects")
    wait_until(lambda: min(committed(settings).values()) > 0, "a commit of both")
    assert worker.stop() == 0

    by_partition = {made.partition(): made for made in read_all(settings, REJECTS)}
    assert header(by_partition[0], "reason") == b"not_deliverable"
    assert len(json.loads(by_partition[0].value() or b"")["id"]) == 5_000_000
    assert by_partition[1].value() == long_line
    assert "after" in [row["id"] for row in rows(settings)]


def test_a_hole_ends_the_worker(kafka_settings_for: SettingsFor, start: Start) -> None:
    """Input deleted beyond the committed offset ends the process with 78; nothing behind the hole is committed."""
    settings = kafka_settings_for()
    produce(settings, [(0, b"dev", b"%d" % i) for i in range(10)])
    worker = start(settings)
    wait_until(lambda: committed(settings)[0] >= 10, "the first ten")
    worker.kill()
    before = committed(settings)[0]
    produce(settings, [(0, b"dev", b"%d" % i) for i in range(10, 30)])
    delete_before(settings, 0, ends(settings)[0] - 5)
    code = start(settings).wait()

    assert code == 78
    assert committed(settings)[0] == before
    assert "messages were passed over" in worker.log_text()


def test_too_many_rejects_are_an_alarm(kafka_settings_for: SettingsFor, start: Start) -> None:
    """The share of rejected lines and whether it is too large are metrics; it begins and ends with a line in the log."""
    settings = kafka_settings_for(
        worker={"metrics_port": free_port(), "reject_lines_min": 10, "reject_rate_max": 0.25, "reject_window_secs": 30}
    )

    def shown(words: str) -> bool:
        page = urllib.request.urlopen(f"http://127.0.0.1:{settings.worker.metrics_port}/metrics").read().decode()
        return words in page

    worker = start(settings)
    produce(settings, [(0, b"dev", b"\n".join([b"good"] * 7 + [b"reject"] * 3))])
    wait_until(lambda: done(settings), "ten lines")
    wait_until(lambda: shown("unproxy_reject_rate 0.3\n"), "the share")
    assert shown("unproxy_reject_rate_over_limit 1.0\n")
    produce(settings, [(1, b"dev", b"\n".join([b"good"] * 10))])
    wait_until(lambda: shown("unproxy_reject_rate_over_limit 0.0\n"), "the end of the alarm")

    assert worker.stop() == 0
    assert shares_logged(worker) == [
        "too many lines are rejected",
        "the share of rejected lines is below its limit again",
    ]


def shares_logged(worker: WorkerProcess) -> list[str]:
    """The entries about rejects in a worker's log."""
    return [line.rpartition(": ")[2] for line in worker.log_text().splitlines() if "reject_guard" in line]


def test_too_many_rejects_stop_the_worker(kafka_settings_for: SettingsFor, start: Start) -> None:
    """If so set, the process ends with 79 before anything is acknowledged, each time, until the limit is another one."""
    settings = kafka_settings_for(worker={"stop_on_rejects": True, "reject_lines_min": 10})
    produce(settings, [(0, b"dev", b"good")])
    worker = start(settings)
    wait_until(lambda: done(settings), "the good line")
    before = committed(settings)
    produce(settings, [(0, b"dev", b"\n".join([b"reject this"] * 12))])

    assert worker.wait() == 79
    assert "12 of 13 lines within 60 s were rejected" in worker.log_text()
    assert "the latest one is malformed (dialect 'x', device 'dev')" in worker.log_text()
    # Fewer lines than make an alarm, at first: what made it once is not let through bit by bit.
    patient = settings.worker.model_copy(update={"reject_lines_min": 1_000})
    assert start(settings.model_copy(update={"worker": patient})).wait() == 79
    assert committed(settings)[0] == before[0]
    assert read_all(settings, REJECTS) == []

    mended = settings.worker.model_copy(update={"reject_rate_max": 1.0})
    last = start(settings.model_copy(update={"worker": mended}))
    wait_until(lambda: len(read_all(settings, REJECTS)) == 12, "the rejects")
    wait_until(lambda: committed(settings)[0] > before[0], "a commit")
    assert last.stop() == 0


def test_the_unexpected_ends_the_worker(kafka_settings_for: SettingsFor, start: Start) -> None:
    """An exception in the pipeline ends the process with 70, and the batch is not committed."""
    settings = kafka_settings_for()
    produce(settings, [(0, b"dev", b"fine"), (0, b"dev", b"fail")])
    worker = start(settings)
    code = worker.wait()

    assert code == 70
    assert committed(settings)[0] < 2
    assert "failed on request" in worker.log_text()


def test_standing_still_ends_the_worker(kafka_settings_for: SettingsFor, start: Start) -> None:
    """A message that is worked on for stall_secs_max ends the process with 76, also when its event loop hangs.

    Its pages answer all the same, and reported it before.
    """
    settings = kafka_settings_for(worker={"stall_secs_max": 16, "metrics_port": free_port()})
    produce(settings, [(0, b"dev", b"hang")])
    worker = start(settings)
    wait_until(lambda: "nothing was committed for" in verdict(settings, "healthz")[1], "it is not well")
    page = scrape(settings.worker.metrics_port) or {}

    assert page["unproxy_worker_lag_messages"][""] >= 1
    assert page["unproxy_alive"] == {"": 0}
    assert worker.wait() == 76
    assert "partition 0 at offset 0, line 1, has been worked on for 16 s" in worker.log_text()
    assert "in _count_line" in worker.log_text(), "the stacks show where it stands"


def test_a_stop_that_hangs_is_cut(kafka_settings_for: SettingsFor, start: Start) -> None:
    """SIGTERM while the event loop hangs: the watchdog ends the process with 77."""
    settings = kafka_settings_for(worker={"stop_secs_max": 2})
    worker = start(settings)
    produce(settings, [(0, b"dev", b"row")])
    wait_until(lambda: len(rows(settings)) > 0, "the first row")
    produce(settings, [(0, b"dev", b"hang")])
    wait_until(lambda: "hanging" in worker.log_text(), "the pipeline hangs")
    began = time.monotonic()
    code = worker.stop()

    assert code == 77
    assert time.monotonic() - began < 4


def test_stops_while_it_starts(kafka_settings_for: SettingsFor, start: Start) -> None:
    """SIGTERM while the worker joins its group ends it cleanly as well, and soon."""
    settings = kafka_settings_for()
    worker = start(settings)
    wait_until(lambda: "worker starts" in worker.log_text(), "Faust starts")
    began = time.monotonic()

    assert worker.stop() == 0
    assert time.monotonic() - began < 5


def test_comes_and_goes_with_the_broker(kafka_settings_for: SettingsFor, start: Start, tmp_path: Path) -> None:
    """A worker waits for a broker that comes later, survives its restart, and stops cleanly when it is gone."""
    port = free_port()
    own = Broker(tmp_path / "kafka", port=port, login=False)
    settings = kafka_settings_for()
    kafka = settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{port}"})
    watched = settings.worker.model_copy(update={"metrics_port": free_port()})
    settings = settings.model_copy(update={"kafka": kafka, "worker": watched})
    other_worker = settings.worker.model_copy(
        update={"data_dir": str(tmp_path / "other"), "name": "other", "metrics_port": 0}
    )
    worker = start(settings)
    other = start(settings.model_copy(update={"worker": other_worker}))
    wait_until(lambda: f"waiting for Kafka at 127.0.0.1:{port}" in worker.log_text(), "the worker logs what for")
    wait_until(lambda: "waiting for Kafka" in other.log_text(), "the other as well")
    assert verdict(settings, "healthz")[0]
    assert verdict(settings, "readyz") == (False, "waits for Kafka and its topics; the log names what is missing")
    began = time.monotonic()
    assert other.stop() == 0
    assert time.monotonic() - began < 4
    try:
        own.start()
        create_topics(own.settings, topics(settings))
        produce(settings, [(0, b"dev", b"before")])
        # Not how many: two silent seconds later the device's closing is a second one.
        wait_until(lambda: {row["n"] for row in rows(settings)} == {1}, "a row")
        wait_until(lambda: verdict(settings, "readyz")[0], "it is ready")

        own.kill()
        wait_until(lambda: "Kafka has not answered" in verdict(settings, "readyz")[1], "it is not ready any more")
        assert verdict(settings, "healthz")[0]
        own.start()
        produce(settings, [(0, b"dev", b"after")])
        wait_until(lambda: {row["n"] for row in rows(settings)} == {1, 2}, "a row after the restart")
        wait_until(lambda: verdict(settings, "readyz")[0], "it is ready again")

        own.kill()
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < settings.worker.stop_secs_max
    finally:
        own.kill()


def test_a_data_folder_has_one_worker(tmp_path: Path) -> None:
    """A second worker on the same folder ends at once, with the reason."""
    lock = own_folder(tmp_path / "state")
    with pytest.raises(SettingsError, match="in use by another worker"):
        own_folder(tmp_path / "state")

    assert lock > 0
