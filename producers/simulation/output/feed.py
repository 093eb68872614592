"""Publish a world to Kafka, with the message keys, headers, line numbers and limits that its devices' publishers would use.

A message holds the lines of one file in one time slice, because a publisher holds no line for longer. If the world is
published faster than its own pace, a message holds several slices, up to `publisher.disorder_secs_max`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

from producers.files.batcher import Batch
from producers.publish.publisher import POLL_SECS, Publisher
from producers.publish.report import Report
from producers.run import SAVE_SECS_MIN, STOP_SECS_MAX, STOP_SECS_QUIET
from producers.simulation.journal import SLICE
from producers.simulation.world import DeviceLines, Stream, World
from producers.sources.source import SourceFile
from schemas.clock import MICROS
from schemas.events import Micros
from schemas.settings import Settings

_NO_FILE = SourceFile("", "", "")
"""The file of all batches. A publisher needs it for saved positions, which do not exist here."""


def feed(
    settings: Settings,
    world: World,
    *,
    stop: Event,
    speed: float = 1.0,
    progress: Callable[[Report], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> Report:
    """Publish a world until it ends or `stop` is set; return the counters.

    `speed` is a multiple of the world's own pace; 0 is as fast as possible. `began` is the time by `clock` at which the
    world begins; None is now. Raises PublisherFailed.
    """
    return _Feed(settings, world, stop, speed, progress, clock).run(clock() if began is None else began)


class _Feed:
    """The loop that publishes a world, with the lines that are not sent yet."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        stop: Event,
        speed: float,
        progress: Callable[[Report], None],
        clock: Callable[[], float],
    ) -> None:
        self._world, self._stop, self._speed = world, stop, speed
        self._progress, self._clock = progress, clock
        self._bytes_max = settings.publisher.batch_bytes_max
        overtaking = round(settings.publisher.disorder_secs_max * MICROS)
        self._slices_max = 1 if 0 < speed <= 1 else max(1, overtaking // SLICE)
        self._held: dict[str, tuple[tuple[Stream, Stream], list[list[bytes]]]] = {}
        self._report = Report()
        self._publisher = Publisher(
            settings, clock=clock, stopping=stop.is_set, acknowledged=self._acknowledged, last_seq=lambda _: 0
        )

    def run(self, began: float) -> Report:
        """Publish the world until it ends or a stop is requested; then wait for Kafka."""
        publisher, begin = self._publisher, self._world.settings.begin
        report_at = began
        try:
            for number, (until, by_device) in enumerate(self._world.slices(), 1):
                self._hold(by_device)
                if self._speed:
                    self._wait(began + (until - begin) / MICROS / self._speed)
                if number % self._slices_max == 0:
                    self._send(until)
                if self._stop.is_set():
                    break
                publisher.serve()
                if self._clock() >= report_at:
                    report_at = self._clock() + SAVE_SECS_MIN
                    self._progress(self._report)
            self._send(self._world.settings.end)
            while not self._stop.is_set() and not publisher.flush(SAVE_SECS_MIN):
                self._progress(self._report)
            publisher.flush(STOP_SECS_MAX, quiet_secs=STOP_SECS_QUIET)
        finally:
            publisher.close()
        self._progress(self._report)
        return self._report

    def _hold(self, by_device: list[DeviceLines]) -> None:
        """Store lines until their message is due."""
        for one in by_device:
            held = self._held.get(one.device)
            if held is None:
                held = self._held[one.device] = (one.streams, [[], []])
            for waiting, lines in zip(held[1], one.lines, strict=True):
                waiting += [line for _, line in lines]

    def _send(self, until: Micros) -> None:
        """Send the stored lines as messages. Stops early if a stop is requested."""
        report = self._report
        for device, (streams, both) in self._held.items():
            for stream, lines in zip(streams, both, strict=True):
                for batch in self._batches(device, stream, lines, until):
                    if not self._publisher.send(batch):
                        return
                    report.messages += 1
                    report.lines += len(batch.lines)
                    report.bytes += batch.size_bytes - len(batch.lines)
                    report.by_dialect[stream.dialect] += len(batch.lines)
        self._held.clear()

    def _batches(self, device: str, stream: Stream, lines: list[bytes], until: Micros) -> Iterator[Batch]:
        """Yield the lines of one file in batches of at most `batch_bytes_max` bytes; a longer line has its own batch."""
        while lines:
            size, count = sum(map(len, lines)) + len(lines), len(lines)
            while size > self._bytes_max and count > 1:
                count = max(1, count * self._bytes_max // size)
                size = sum(map(len, lines[:count])) + count
            dialect, sensor = stream
            yield Batch(device, dialect, sensor, _NO_FILE, 0, until, 0.0, lines=lines[:count], size_bytes=size)
            lines = lines[count:]

    def _wait(self, due: float) -> None:
        while (left := due - self._clock()) > 0 and not self._stop.is_set():
            self._publisher.serve(min(left, POLL_SECS))

    def _acknowledged(self, batch: Batch) -> None:
        self._report.acknowledged_by_dialect[batch.dialect] += 1
        self._report.acknowledged_bytes_by_dialect[batch.dialect] += batch.size_bytes - len(batch.lines)
