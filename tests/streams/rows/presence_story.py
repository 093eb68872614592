"""A device's numbered lines as a producer sends them, and the gaps and coverage that result."""

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
    """The log's time of the message, seconds after T0; None for right after its last line."""


def line(at: float, device: str = DEVICE) -> bytes:
    """Make a line without a usable event; it only shows that the sensor runs."""
    return b'{"timestamp":"%s","event_type":"stats","host":"%s"}' % (iso_micros(micros(at)).encode(), device.encode())


def message(offset: int, sent: Sent, sensor: str = "s") -> Message:
    """Make the message of these lines."""
    logged = sent.at + sent.lines if sent.logged is None else sent.logged
    value = b"\n".join(line(sent.at + number) for number in range(sent.lines))
    logged_ms = START_MS + round(logged * 1000)
    return Message(offset, logged_ms, DEVICE.encode(), value, "suricata", sensor, sent.seq, sent.lines)


def tick(offset: int, logged: float) -> Message:
    """Make a tick at a log time, seconds after T0."""
    return Message(offset, START_MS + round(logged * 1000), b"", b"", "tick")


def in_a_row(sizes: Sequence[int], seq: int = 1, at: float = 0) -> list[Sent]:
    """Make messages of so many lines each, without a gap between them; one line per second."""
    made = []
    for size in sizes:
        made.append(Sent(seq, size, at))
        seq, at = seq + size, at + size
    return made


class Log:
    """A log and the pipeline that reads it; keeps the rows as they are emitted."""

    def __init__(self, **settings: Any) -> None:
        self.settings = CorrelationSettings(**settings)
        self.pipeline = Pipeline(self.settings)
        self.messages: list[Message] = []
        self.gap_versions: list[Row] = []
        self.coverage_rows: list[Row] = []
        self.table: dict[bytes, bytes] = {}

    def send(self, *sent: Sent, sensor: str = "s") -> Log:
        """Send messages, in this order."""
        for one in sent:
            self.take(message(len(self.messages), one, sensor))
        return self

    def tick(self, *logged: float) -> Log:
        """Send ticks at these log times, seconds after T0."""
        for at in logged:
            self.take(tick(len(self.messages), at))
        return self

    def take(self, message: Message) -> None:
        """Take one message, then keep its rows and its state."""
        self.messages.append(message)
        self.pipeline.take(message)
        self.drain()
        self.table.update(self.pipeline.checkpoint())

    def drain(self) -> None:
        """Keep the emitted rows."""
        output = self.pipeline.drain()
        self.gap_versions += map(json.loads, output.sensor_gaps)
        self.coverage_rows += map(json.loads, output.coverage)

    def crash(self) -> Log:
        """Continue with a new pipeline from the written state."""
        self.pipeline = Pipeline(self.settings)
        self.pipeline.restore(self.table.items())
        return self

    @property
    def gaps(self) -> list[Row]:
        """Return the gaps that the table shows, by number."""
        shown = [row for row in latest(self.gap_versions) if row["Status"] != "filled"]
        return sorted(shown, key=lambda row: (row["FromSeq"] or 0, row["FromTime"] or ""))

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Return open losses: the first number, and the number after the last."""
        return [(row["FromSeq"], row["ToSeq"]) for row in self.gaps if row["Kind"] == "loss"]

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of the shown gaps."""
        return [row["Kind"] for row in self.gaps]

    @property
    def seen(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return coverage as the table merges it: the first and the latest time by sensor and bucket."""
        merged: dict[tuple[str, str], tuple[str, str]] = {}
        for row in self.coverage_rows:
            key = (row["Sensor"], row["Bucket"])
            first, last = merged.get(key, (row["FirstTime"], row["LastTime"]))
            merged[key] = (min(first, row["FirstTime"]), max(last, row["LastTime"]))
        return merged

    @property
    def state(self) -> dict[str, object]:
        """Return everything that the pipeline knows, order included."""
        devices = self.pipeline.devices.items()
        return {name: (list(device.items().items()), repr(device.facts)) for name, device in devices}

    @property
    def counts(self) -> dict[str, int]:
        """Return the pipeline's counts."""
        return self.pipeline.book()


def replayed(messages: Iterable[Message], **settings: Any) -> Log:
    """Read the same log again."""
    log = Log(**settings)
    for one in messages:
        log.take(one)
    return log


def clock(at: float) -> str:
    """Return seconds after T0 as rows have it."""
    return iso_micros(micros(at))


def plain(rows: Iterable[Row]) -> list[Row]:
    """Return rows without the time of detection."""
    return [{name: value for name, value in row.items() if name != "DetectedAt"} for row in rows]
