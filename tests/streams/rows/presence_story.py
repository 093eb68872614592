"""A device's numbered lines as a producer would send them, and what hunters see of gaps and coverage in the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from schemas.clock import iso_micros
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from tests.factories import DEVICE, T0, latest, micros

Row = dict[str, Any]
START_MS = T0 * 1000


class Sent(NamedTuple):
    """Lines `seq` to `seq + lines`, the first one written at `at` (seconds after T0), one a second."""

    seq: int
    lines: int
    at: float
    logged: float | None = None
    """When it came into the log, seconds after T0; None for right after its last line."""


def line(at: float, device: str = DEVICE) -> bytes:
    """A line that holds nothing for us but says that the sensor is there."""
    return b'{"timestamp":"%s","event_type":"stats","host":"%s"}' % (iso_micros(micros(at)).encode(), device.encode())


def message(offset: int, sent: Sent, sensor: str = "s") -> Message:
    """It as a message."""
    logged = sent.at + sent.lines if sent.logged is None else sent.logged
    value = b"\n".join(line(sent.at + number) for number in range(sent.lines))
    logged_ms = START_MS + round(logged * 1000)
    return Message(offset, logged_ms, DEVICE.encode(), value, "suricata", sensor, sent.seq, sent.lines)


def tick(offset: int, logged: float) -> Message:
    """The log's time, seconds after T0."""
    return Message(offset, START_MS + round(logged * 1000), b"", b"", "tick")


def in_a_row(sizes: Sequence[int], seq: int = 1, at: float = 0) -> list[Sent]:
    """Messages of so many lines each, nothing missing between them; a line a second."""
    made = []
    for size in sizes:
        made.append(Sent(seq, size, at))
        seq, at = seq + size, at + size
    return made


class Log:
    """A log and the pipeline that reads it; rows are kept as they come."""

    def __init__(self, **settings: Any) -> None:
        self.settings = CorrelationSettings(**settings)
        self.pipeline = Pipeline(self.settings)
        self.messages: list[Message] = []
        self.gap_versions: list[Row] = []
        self.coverage_rows: list[Row] = []
        self.table: dict[bytes, bytes] = {}

    def send(self, *sent: Sent, sensor: str = "s") -> Log:
        """Messages, in this order."""
        for one in sent:
            self.take(message(len(self.messages), one, sensor))
        return self

    def tick(self, *logged: float) -> Log:
        """Only time, seconds after T0."""
        for at in logged:
            self.take(tick(len(self.messages), at))
        return self

    def take(self, message: Message) -> None:
        """One message: its rows, then its state."""
        self.messages.append(message)
        self.pipeline.take(message)
        self.drain()
        self.table.update(self.pipeline.checkpoint())

    def drain(self) -> None:
        """Keep the rows that were made."""
        output = self.pipeline.drain()
        self.gap_versions += map(json.loads, output.sensor_gaps)
        self.coverage_rows += map(json.loads, output.coverage)

    def crash(self) -> Log:
        """Go on from the written state."""
        self.pipeline = Pipeline(self.settings)
        self.pipeline.restore(self.table.items())
        return self

    @property
    def gaps(self) -> list[Row]:
        """The gaps that hunters see, by number."""
        shown = [row for row in latest(self.gap_versions) if row["Status"] != "filled"]
        return sorted(shown, key=lambda row: (row["FromSeq"] or 0, row["FromTime"] or ""))

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Open losses: first number and number behind."""
        return [(row["FromSeq"], row["ToSeq"]) for row in self.gaps if row["Kind"] == "loss"]

    @property
    def kinds(self) -> list[str]:
        """What kinds of gaps are seen."""
        return [row["Kind"] for row in self.gaps]

    @property
    def seen(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Coverage as the table merges it: by sensor and bucket the first and the latest time."""
        merged: dict[tuple[str, str], tuple[str, str]] = {}
        for row in self.coverage_rows:
            key = (row["Sensor"], row["Bucket"])
            first, last = merged.get(key, (row["FirstTime"], row["LastTime"]))
            merged[key] = (min(first, row["FirstTime"]), max(last, row["LastTime"]))
        return merged

    @property
    def state(self) -> dict[str, object]:
        """Everything that the pipeline knows; order is part of it."""
        devices = self.pipeline.devices.items()
        return {name: (list(device.items().items()), repr(device.state)) for name, device in devices}

    @property
    def counts(self) -> dict[str, int]:
        """The pipeline's book."""
        return self.pipeline.book()


def replayed(messages: Iterable[Message], **settings: Any) -> Log:
    """The same log read anew."""
    log = Log(**settings)
    for one in messages:
        log.take(one)
    return log


def clock(at: float) -> str:
    """Seconds after T0 as rows have it."""
    return iso_micros(micros(at))


def plain(rows: Iterable[Row]) -> list[Row]:
    """Rows without when they were noticed."""
    return [{name: value for name, value in row.items() if name != "DetectedAt"} for row in rows]
