"""The grouping of lines into messages: each message holds lines of one device, one file and one dialect.

A message costs a worker fifty times as much as a line, so lines are collected up to a size and an age. Lines of one
file keep their order exactly. Lines of two files of the same device (one of a network sensor, one of an endpoint
sensor), or of two dialects in one file, go into different messages; later lines of one may therefore precede earlier
lines of the other, by at most `disorder_secs_max` of the sensors' own time. With 0, every change of file starts a new
message.

    opened first   A: 0.0  0.1  0.3         sent as  A(0.0 0.1 0.3) B(0.2): the line at 0.2 comes 0.1 s late
    opened next    B:          0.2
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from producers.sources.source import Line, SourceFile
from schemas.clock import MICROS
from schemas.events import Micros, Reason


@dataclass(slots=True, eq=False)
class Batch:
    """Lines that become one message."""

    device: str
    dialect: str
    sensor: str
    file: SourceFile
    start: int
    """Offset of the first line. A restart begins there until the message is acknowledged."""
    written: Micros
    opened_at: float
    reason: Reason | None = None
    """Why its only line goes to `rejects`; None if its lines are published."""
    detail: str = ""
    """The reason as text."""
    names_device: bool = True
    """Whether everything in the lines is about `device`; if not, the lines name no device and `device` is a substitute."""
    seq: int = 0
    """Number of its first line; 0 until it is sent, and always for rejected lines, which are not numbered."""
    lines: list[bytes] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, value: bytes) -> None:
        """Append one line."""
        self.lines.append(value)
        self.size_bytes += len(value) + 1


class Batcher:
    """All open batches. The caller sends the batches that the methods return, in the returned order."""

    def __init__(self, *, bytes_max: int, age_secs_max: float, disorder_secs_max: float, total_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._age_secs_max = age_secs_max
        self._disorder_max = round(disorder_secs_max * MICROS)
        self._total_bytes_max = total_bytes_max
        self._by_device: dict[str, list[Batch]] = {}
        self._by_age: OrderedDict[Batch, None] = OrderedDict()
        self.waiting_bytes = 0

    def add(self, line: Line, device: str, now: float, *, names_device: bool = True, refused: str = "") -> list[Batch]:
        """Add a line of a device; return the batches that become due.

        `names_device` states whether the line itself names the device. `refused` is the reason why the sender may not
        report the line, "" if it may. A refused or too long line becomes a batch of its own, for `rejects`.
        """
        if line.too_long:
            rejected = _alone(line, device, now, names_device, Reason.TOO_LONG, line.too_long)
            return [*self._close_device(device), rejected]
        if refused:
            return [_alone(line, device, now, names_device, Reason.NOT_ALLOWED, refused)]

        due: list[Batch] = []
        batch = self._of(device, line, names_device)
        if batch is not None:
            if self._overtakes(line, batch):
                due, batch = self._close_device(device), None
            elif batch.size_bytes + len(line.value) > self._bytes_max:
                due, batch = self._close(batch), None
        if batch is None:
            batch = self._open(line, device, now, names_device)
        batch.add(line.value)
        self.waiting_bytes += len(line.value) + 1
        if batch.size_bytes >= self._bytes_max:
            due += self._close(batch)
        while self.waiting_bytes > self._total_bytes_max:
            due += self._close(next(iter(self._by_age)))
        return due

    def due(self, now: float) -> list[Batch]:
        """Return the batches whose first line has waited long enough."""
        due: list[Batch] = []
        while self._by_age:
            oldest = next(iter(self._by_age))
            if now - oldest.opened_at < self._age_secs_max:
                break
            due += self._close(oldest)
        return due

    def drain(self) -> list[Batch]:
        """Close and return all open batches."""
        due = list(self._by_age)
        self._by_age.clear()
        self._by_device.clear()
        self.waiting_bytes = 0
        return due

    def waiting(self) -> Iterable[Batch]:
        """Return the open batches, oldest first."""
        return self._by_age.keys()

    def _of(self, device: str, line: Line, names_device: bool) -> Batch | None:
        for batch in self._by_device.get(device, ()):
            if batch.file is line.file and batch.dialect == line.dialect and batch.names_device == names_device:
                return batch
        return None

    def _overtakes(self, line: Line, batch: Batch) -> bool:
        """Return whether, in this batch, the line would be sent too early.

        The batches of the device that were opened after this one are sent after it. The line is too early if the time of
        one of them differs from the line's time by more than `disorder_secs_max`.
        """
        batches = self._by_device[batch.device]
        if batches[-1] is batch:
            return False
        later = batches[batches.index(batch) + 1 :]
        return any(abs(line.written - other.written) > self._disorder_max for other in later)

    def _open(self, line: Line, device: str, now: float, names_device: bool) -> Batch:
        batch = _new(line, device, now, names_device)
        self._by_device.setdefault(device, []).append(batch)
        self._by_age[batch] = None
        return batch

    def _close_device(self, device: str) -> list[Batch]:
        batches = self._by_device.get(device)
        return self._close(batches[-1]) if batches else []

    def _close(self, batch: Batch) -> list[Batch]:
        """Close a batch and, to keep the order of lines, those of the device that were opened before it; return them in order."""
        batches = self._by_device[batch.device]
        count = batches.index(batch) + 1
        closed, rest = batches[:count], batches[count:]
        if rest:
            self._by_device[batch.device] = rest
        else:
            del self._by_device[batch.device]
        for one in closed:
            del self._by_age[one]
            self.waiting_bytes -= one.size_bytes
        return closed


def _new(
    line: Line, device: str, now: float, names_device: bool, reason: Reason | None = None, detail: str = ""
) -> Batch:
    """Return an empty batch that will begin with this line. With a `reason`, it goes to `rejects`."""
    origin = device, line.dialect, line.sensor, line.file, line.start
    return Batch(*origin, line.written, now, reason, detail, names_device=names_device)


def _alone(line: Line, device: str, now: float, names_device: bool, reason: Reason, detail: str) -> Batch:
    """Return a batch of one line, which goes to `rejects`."""
    batch = _new(line, device, now, names_device, reason, detail)
    batch.add(line.value)
    return batch
