"""State of evicted devices leaves the changelog, so that a worker without its disk recovers only what is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from schemas.settings import Settings
from schemas.topics import STATE_CHANGELOG
from streams.pipeline import Pipeline
from tests.streams.worker.guards import worker_stubborn
from tests.streams.worker.guards.test_worker_poison import GOOD
from tests.streams.worker.worker_process import WorkerProcess, committed, produce, read_all, wait_until
from unproxy.local.meter import scrape
from unproxy.local.servers.service import free_port

SettingsFor = Callable[..., Settings]
DEVICES_MAX = 64
NAMES = 300


def table(settings: Settings) -> dict[bytes, bytes]:
    """The entries that the changelog leaves: the last value of each key that has one."""
    last = {raw.key() or b"": raw.value() for raw in read_all(settings, STATE_CHANGELOG)}
    return {key: value for key, value in last.items() if value}


def names(settings: Settings) -> set[str]:
    """The named devices of which entries are left."""
    return {key.rpartition(b"\0")[0].decode() for key in table(settings)} - {""}


def value_of(port: int, metric: str) -> float:
    """A number on the worker's page; 0 where it is not there yet."""
    return sum((scrape(port) or {}).get(metric, {}).values())


def send(settings: Settings, first: int, last: int) -> None:
    """One connection of each of some devices, all in one partition."""
    numbers = range(first, last)
    lines = ((0, b"dev-%d" % number, GOOD.replace(b'"dev"', b'"dev-%d"' % number) % 2000) for number in numbers)
    produce(settings, lines, "sockets")


def test_the_changelog_keeps_what_is_left(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """Of 300 devices at most 64 have entries; the same ones are known after a recovery without the disk, and it goes on."""
    settings = kafka_settings_for(
        correlation={"devices_max": DEVICES_MAX},
        worker={"metrics_port": free_port(), "batch_messages_max": 20, "session_timeout_secs": 6},
    )
    port = settings.worker.metrics_port
    worker = WorkerProcess(settings, tmp_path / "log", script=Path(worker_stubborn.__file__))
    try:
        send(settings, 0, NAMES)
        worker.start()
        wait_until(lambda: committed(settings)[0] >= NAMES, "all devices are committed")
        assert worker.stop() == 0
        left = names(settings)
        assert 0 < len(left) <= DEVICES_MAX
        recovered = Pipeline(settings.correlation)
        recovered.restore(table(settings).items())
        shutil.rmtree(settings.worker.data_dir)
        worker.start()
        wait_until(lambda: value_of(port, "unproxy_devices") > 0, "the worker has recovered")
        assert value_of(port, "unproxy_devices_evicted_total") >= NAMES - DEVICES_MAX

        assert value_of(port, "unproxy_devices") == len(recovered.devices)
        send(settings, NAMES, NAMES + 1)
        wait_until(lambda: f"dev-{NAMES}" in names(settings), "the next device has entries")
        assert worker.stop() == 0
        assert len(names(settings)) <= DEVICES_MAX
        assert len(left - names(settings)) <= 1
    finally:
        worker.discard()
    assert recovered.devices.keys() - {""} == left
