"""The number of devices in a partition's state is bounded: invented names evict each other, real devices stay."""

from __future__ import annotations

import json

from schemas.clock import iso_micros
from schemas.settings import CorrelationSettings
from streams.model.device import ESTABLISHED_MS
from streams.pipeline import Message, Pipeline
from streams.worker.metrics import book_families

DEVICES_MAX = 64
NOON_MS = 1_795_000_000_000


class Log:
    """A partition of the log, the pipeline that reads it, and the table that keeps its state."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(CorrelationSettings(devices_max=DEVICES_MAX))
        self.table: dict[bytes, bytes] = {}
        self.rows: list[dict[str, object]] = []
        self.at_ms = NOON_MS
        self.offset = 0

    def send(self, device: str, port: int = 1000) -> None:
        """Append one connection of a device to a proxy, without a request."""
        at = iso_micros(self.at_ms * 1000)
        line = {
            "device": device, "pid": 1, "process": "p", "local_ip": "10.0.0.1", "local_port": port, "remote_ip": "10.9.9.9",
            "remote_port": 3128, "result": "open", "ts_attempt": at, "ts_established": at, "ts_closed": None,
        }  # fmt: skip
        self.offset += 1
        self.pipeline.take(
            Message(self.offset, self.at_ms, device.encode(), json.dumps(line).encode(), "sockets", "s", self.offset)
        )

    def checkpoint(self) -> None:
        """Write the state entries, as a worker does after a batch."""
        self.rows += map(json.loads, self.pipeline.drain().network_events)
        for key, value in self.pipeline.checkpoint():
            if value:
                self.table[key] = value
            else:
                self.table.pop(key, None)

    def restart(self) -> None:
        """Continue with a new pipeline from the table."""
        self.pipeline = Pipeline(CorrelationSettings(devices_max=DEVICES_MAX))
        self.pipeline.restore(self.table.items())

    def names(self) -> set[str]:
        """Return the names of the devices in the state."""
        return self.pipeline.devices.keys() - {""}


def test_invented_names_do_not_fill_the_state() -> None:
    """With any number of names the devices in memory and their entries stay within the bound."""
    log = Log()
    for number in range(20 * DEVICES_MAX):
        log.send(f"invented-{number}")
        log.at_ms += 10
        log.checkpoint()

        assert len(log.names()) <= DEVICES_MAX
    kept = {key.partition(b"\0")[0].decode() for key in log.table} - {""}

    assert kept == log.names()


def test_a_flood_evicts_itself() -> None:
    """A device that has reported for a while stays, though it was quiet for longer than all invented names."""
    log = Log()
    log.send("real", port=1)
    log.at_ms += ESTABLISHED_MS
    log.send("real", port=2)
    for number in range(5 * DEVICES_MAX):
        log.at_ms += 10
        log.send(f"invented-{number}")

    assert "real" in log.names()


def test_the_new_device_that_is_longest_quiet_is_evicted() -> None:
    """Without a history the device with the oldest latest message is evicted."""
    log = Log()
    for number in range(DEVICES_MAX):
        log.send(f"new-{number}")
        log.at_ms += 10
    log.send("new-0", port=2)
    log.at_ms += 10
    log.send("one more")

    assert log.names() == {f"new-{number}" for number in range(DEVICES_MAX) if number != 1} | {"one more"}


def test_an_evicted_device_leaves_its_rows_and_counts() -> None:
    """Its connections are decided and become rows, and the counts still balance, also after a restart."""
    log = Log()
    for number in range(3 * DEVICES_MAX):
        log.send(f"invented-{number}")
        log.at_ms += 10
    log.checkpoint()
    log.restart()
    book = log.pipeline.book()
    evicted = book["devices_evicted"]
    samples = {s.name: s.value for family in book_families([book]) for s in family.samples}

    assert evicted >= 2 * DEVICES_MAX
    assert len({row["DeviceName"] for row in log.rows}) >= evicted
    assert book["read"] == book["parsed"] == book["connections"] == 3 * DEVICES_MAX
    assert samples["unproxy_devices_evicted_total"] == evicted


def test_an_evicted_device_begins_again_when_it_returns() -> None:
    """Nothing of its earlier state is left to be restored."""
    log = Log()
    for number in range(5 * DEVICES_MAX):
        log.send(f"invented-{number}")
        log.at_ms += 10
    log.send("invented-0", port=7)
    log.checkpoint()
    log.restart()

    assert set(log.pipeline.devices["invented-0"].groups) == {"10.0.0.1 7 10.9.9.9 3128"}


def test_a_restart_evicts_the_same() -> None:
    """Which device is evicted depends on the log alone, not on restarts."""
    peaceful, restarted = Log(), Log()
    for number in range(4 * DEVICES_MAX):
        for log in (peaceful, restarted):
            log.send(f"invented-{number % 100}", port=number)
            log.at_ms += 10
            log.checkpoint()
        if number % 17 == 0:
            restarted.restart()

    assert peaceful.names() == restarted.names()
    assert peaceful.pipeline.book() == restarted.pipeline.book()
    assert peaceful.rows == restarted.rows


def test_the_lines_of_one_message_stay_together() -> None:
    """A message with more devices than the bound evicts none of its own before its end."""
    log = Log()
    at = iso_micros(log.at_ms * 1000)
    lines = [
        json.dumps({"device": f"d{n}", "pid": 1, "process": "p", "local_ip": "10.0.0.1", "local_port": 1, "remote_ip": "10.9.9.9",
                    "remote_port": 3128, "result": "open", "ts_attempt": at, "ts_established": at, "ts_closed": None})
        for n in range(2 * DEVICES_MAX)
    ]  # fmt: skip
    log.pipeline.take(Message(1, log.at_ms, b"", "\n".join(lines).encode(), "sockets"))
    log.offset, log.at_ms = 1, log.at_ms + 10
    log.send("later")
    book = log.pipeline.book()

    assert book["read"] == book["parsed"] == book["connections"] == 2 * DEVICES_MAX + 1
    assert len(log.names()) <= DEVICES_MAX
