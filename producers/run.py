"""The main loop of a producer: sources → batches → Kafka → saved position, until the files end or a stop is requested."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Event
from typing import BinaryIO

from common.exporter import Family, served
from common.health import Health
from common.throttle import Throttle
from producers.files.batcher import Batch, Batcher
from producers.files.position import Positions
from producers.files.replay import paced, piped, replay
from producers.files.tail import Tail
from producers.identity.devices import Devices
from producers.identity.learning import Learning, LearningStopped
from producers.network.http import HttpInput
from producers.network.inputs import Input, in_turns, outcomes_of
from producers.network.kafka import KafkaInput
from producers.publish.health import alive, ready, with_dialects
from producers.publish.metrics import publisher_families
from producers.publish.publisher import Publisher
from producers.publish.report import Report
from producers.sources.endpoint import Scheme
from producers.sources.failures import DialectFailures
from producers.sources.grants import Grants
from producers.sources.source import STDIN, Line, Source, SourceDamaged, SourceError, SourceFile
from schemas.settings import Settings

log = logging.getLogger(__name__)

IDLE_SECS = 0.05
"""Pause of the loop while no source has a line."""
REPORT_SECS = 5.0
"""Interval between two log entries about the progress of learning addresses."""
STOP_SECS_MAX = 8.0
"""Longest wait of a stop for Kafka; messages not acknowledged by then are sent again by the next run,
if their lines can be read again."""
STOP_SECS_QUIET = 0.8
"""Longest wait for the next acknowledgement during a stop, so that an unreachable or hanging cluster does not delay the stop."""
STOP_SECS_QUIET_ONCE = 5.0
"""Longest such wait while lines that cannot be read again are not acknowledged."""
SAVE_SECS_MIN = 1.0
"""Shortest interval between two saves of the position."""
SAVE_SECS_MIN_OF_INPUTS = 0.1
"""The same with network sources, which answer their clients only after a save."""
SAVE_SHARE_MAX = 0.05
"""Largest share of the time spent saving the position, whatever the number of devices."""

_INPUTS: dict[Scheme, type[KafkaInput | HttpInput]] = {
    Scheme.KAFKA: KafkaInput,
    Scheme.HTTPS: HttpInput,
    Scheme.HTTP: HttpInput,
}


def produce(
    settings: Settings,
    sources: Iterable[Source],
    *,
    stop: Event,
    follow: bool = False,
    device: str = "",
    speed: float | None = None,
    progress: Callable[[Report], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Publish the lines of the sources until they end or `stop` is set; return the counters.

    `follow` reads files as they grow, without end. `device` is the device of lines that name none. `speed` is a multiple
    of the recorded pace; None reads as fast as possible. `progress` receives the counters after each save of the
    position. Raises SourceError if the sources or settings are invalid, and PublisherFailed if only a restart can
    continue.
    """
    grants, failures = Grants(settings.inputs), DialectFailures(clock)
    given = [replace(source, grants=grants, failures=failures) for source in sources]
    positions = Positions(Path(settings.publisher.state_dir))
    try:
        without_end = follow or any(source.endpoint is not None for source in given)
        learning = None if without_end else _learning(settings, given, stop)
        producer = _Producer(settings, positions, stop, device, learning, failures, progress, clock)
        page = settings.publisher.metrics_host, settings.publisher.metrics_port
        with ExitStack() as opened:
            inputs: list[Input] = [
                opened.enter_context(closing(one)) for one in _inputs(settings, given, producer.report, clock)
            ]
            listened = [(one, one.lines()) for one in inputs]
            lines_of = [lines for _, lines in listened]
            stream = _stream(settings, given, positions, producer.report, follow, speed, clock, lines_of)
            opened.enter_context(served("publisher", *page, producer.families, producer.health()))
            return producer.run(stream, listened)
    finally:
        positions.close()


def publish(
    settings: Settings,
    lines: Iterator[Line | None],
    *,
    stop: Event,
    families: Callable[[], Iterator[Family]],
    failures: DialectFailures,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Publish lines that come from no file until `lines` ends or `stop` is set; return the counters.

    `lines` yields None while no line is available. `families` yields metric families that are exported together with the
    producer's metrics. `failures` counts the exceptions in dialects. Raises SourceError if another producer uses the
    position folder, and PublisherFailed if only a restart can continue.
    """
    positions = Positions(Path(settings.publisher.state_dir))
    try:
        producer = _Producer(settings, positions, stop, "", None, failures, lambda _: None, clock)
        page = settings.publisher.metrics_host, settings.publisher.metrics_port
        with served("publisher", *page, lambda: chain(producer.families(), families()), producer.health()):
            return producer.run(lines, [])
    finally:
        positions.close()


def _inputs(settings: Settings, sources: list[Source], report: Report, clock: Callable[[], float]) -> Iterator[Input]:
    for source in sources:
        if source.endpoint is not None:
            # Start at zero, because Prometheus sees an increase only between two samples.
            report.received.update(dict.fromkeys(map(str, outcomes_of(source.endpoint.scheme)), 0))
            yield _INPUTS[source.endpoint.scheme](
                source,
                source.endpoint,
                settings.inputs,
                report.received,
                line_bytes_max=settings.publisher.line_bytes_max,
                clock=clock,
            )


def _stream(
    settings: Settings,
    sources: list[Source],
    positions: Positions,
    report: Report,
    follow: bool,
    speed: float | None,
    clock: Callable[[], float],
    listened: list[Iterator[Line | None]],
) -> Iterator[Line | None]:
    line_bytes_max = settings.publisher.line_bytes_max
    if listened:
        sources = [source for source in sources if source.endpoint is None]
        if speed is not None:
            raise SourceError("--speed does not apply to a network source; remove it")
        if not sources:
            return in_turns(listened)
        if not follow:
            raise SourceError("files beside a network source need --follow; add it, or publish the files separately")
    if follow:
        if any(source.path == STDIN for source in sources):
            raise SourceError("standard input cannot be followed; remove --follow, it is read to its end")
        tailed = Tail(sources, positions, line_bytes_max=line_bytes_max, clock=clock).lines()
        return in_turns([tailed, *listened]) if listened else tailed

    def adopt(source: Source, path: str, stream: BinaryIO, growing: bool) -> SourceFile:
        file = positions.adopt(source, path, stream, growing=growing)
        report.bytes_before += file.taken
        return file

    if [source.path for source in sources] == [STDIN]:
        return piped(sources[0], line_bytes_max=line_bytes_max)
    lines = replay(sources, adopt=adopt, line_bytes_max=line_bytes_max)
    return lines if speed is None else paced(lines, speed, clock)


def _learning(settings: Settings, sources: list[Source], stop: Event) -> Learning:
    """Return the object that learns the devices' addresses from the files of the sources, and logs its progress.

    The files must be complete, so they are neither followed nor combined with network sources.
    """
    throttle = Throttle(REPORT_SECS)

    def report_progress(done: int, of: int) -> None:
        if throttle.due():
            log.info("learning addresses", extra={"bytes": done, "of": of})

    return Learning(
        sources, line_bytes_max=settings.publisher.line_bytes_max, stopped=stop.is_set, progress=report_progress
    )


class _Producer:
    """The main loop of a producer, with its batches, positions and counters."""

    def __init__(
        self,
        settings: Settings,
        positions: Positions,
        stop: Event,
        device: str,
        learning: Learning | None,
        failures: DialectFailures,
        progress: Callable[[Report], None],
        clock: Callable[[], float],
    ) -> None:
        limits = settings.publisher
        self._positions, self._stop = positions, stop
        self._progress, self._clock = progress, clock
        self._due: deque[Batch] = deque()
        self._save_at = 0.0
        self._inputs: list[tuple[Input, Iterator[Line | None]]] = []
        self.report = Report(failures_by_dialect=failures.by_dialect)
        # Start at zero, because Prometheus sees an increase only between two samples.
        self.report.not_allowed.update(dict.fromkeys(settings.inputs.grants, 0))
        self._devices = Devices(
            settings.identity,
            self.report.identified,
            clock=clock,
            given=device,
            learning=learning,
            learnt=self.report.learnt,
            failures=failures,
        )
        self._batcher = Batcher(
            bytes_max=limits.batch_bytes_max,
            age_secs_max=limits.batch_age_secs_max,
            disorder_secs_max=limits.disorder_secs_max,
            total_bytes_max=max(limits.batch_bytes_max, limits.queue_bytes_max // 4),
        )
        self._publisher = Publisher(
            settings,
            clock=clock,
            stopping=stop.is_set,
            acknowledged=self._acknowledged,
            last_seq=lambda key: positions.seqs.get(key, 0),
        )

    def families(self) -> Iterator[Family]:
        """Yield the producer's metrics as Prometheus metric families."""
        self.report.identity_unusable = self._devices.unusable
        waiting = self._batcher.waiting_bytes + sum(batch.size_bytes for batch in list(self._due))
        return publisher_families(self.report, self._publisher.resends, waiting + self._publisher.unacknowledged_bytes)

    def health(self) -> Health:
        """Return the checks for the health pages."""
        publisher = self._publisher
        return Health(
            lambda: with_dialects(alive(publisher.facts(), self._clock()), dict(self.report.by_dialect)),
            lambda: ready(publisher.facts(), publisher.answers(), self._clock()),
        )

    def run(self, stream: Iterator[Line | None], inputs: list[tuple[Input, Iterator[Line | None]]]) -> Report:
        """Publish until the lines end or a stop is requested; then wait for Kafka and save the position."""
        self._inputs = inputs
        try:
            self._publish(stream)
            self._take_rest()
            self._due.extend(self._batcher.drain())
            self._send()
            while not self._stop.is_set() and not self._publisher.flush(SAVE_SECS_MIN):
                self._save()
                self._progress(self.report)
            self._finish()
        finally:
            self._save()
            self._report_losses()
            self._publisher.close()
        self._progress(self.report)
        return self.report

    def _publish(self, stream: Iterator[Line | None]) -> None:
        try:
            for line in stream:
                now = self._clock()
                self._devices.look(now)
                if line is not None:
                    self._take(line, now)
                self._due.extend(self._batcher.due(now))
                if self._due or line is None:
                    self._send()
                    self._publisher.serve()
                if now >= self._save_at:
                    self._save()
                    self._progress(self.report)
                if line is None:
                    self._stop.wait(IDLE_SECS)
                if self._stop.is_set():
                    return
        except SourceDamaged as damage:
            self.report.damage = str(damage)
        except LearningStopped:
            return

    def _take_rest(self) -> None:
        """Stop the network sources, and take the lines that they have already read: some could not be read again."""
        for one, lines in self._inputs:
            one.stop()
            while (line := next(lines)) is not None:
                self._take(line, self._clock())

    def _finish(self) -> None:
        """Wait for Kafka within the time limits of a stop, and send the batches that had no room before."""
        began = self._clock()
        while True:
            would_be_lost = any(batch.file.once for batch in self._outstanding())
            left_secs = STOP_SECS_MAX - (self._clock() - began)
            quiet_secs = STOP_SECS_QUIET_ONCE if would_be_lost else STOP_SECS_QUIET
            if not self._publisher.flush(left_secs, quiet_secs=quiet_secs) or not self._due:
                return
            self._send()

    def _take(self, line: Line, now: float) -> None:
        named = self._devices.of(line)
        self._due.extend(
            self._batcher.add(line, named.device, now, names_device=named.names_device, refused=named.refused)
        )
        line.file.taken = line.end
        report = self.report
        report.lines += 1
        report.bytes += len(line.value)
        report.by_dialect[line.dialect] += 1
        if line.too_long:
            report.cut_by_dialect[line.dialect] += 1
        elif named.refused and line.file.grant is not None:
            report.not_allowed[line.file.grant.name] += 1

    def _send(self) -> None:
        while self._due and self._publisher.send(self._due[0]):
            self._due.popleft()
            self.report.messages += 1

    def _acknowledged(self, batch: Batch) -> None:
        self.report.acknowledged_by_dialect[batch.dialect] += 1
        self.report.acknowledged_bytes_by_dialect[batch.dialect] += batch.size_bytes - len(batch.lines)
        if batch.seq:
            self._positions.acknowledge(batch)

    def _outstanding(self) -> Iterator[Batch]:
        return chain(self._batcher.waiting(), self._due, self._publisher.outstanding())

    def _report_losses(self) -> None:
        """Log the number and the sources of the lines that Kafka did not acknowledge and that cannot be read again.

        Such lines come from standard input or the built-in sensor.
        """
        lost = [batch for batch in self._outstanding() if batch.file.once]
        lines = sum(len(batch.lines) for batch in lost)
        if lines:
            log.error(
                "lines that cannot be read again were not acknowledged, send them again",
                extra={"lines": lines, "sources": sorted({batch.file.path for batch in lost})},
            )

    def _save(self) -> None:
        began = self._clock()
        before = self._positions.save(self._outstanding())
        for one, _ in self._inputs:
            one.acknowledged(before)
        secs_min = SAVE_SECS_MIN_OF_INPUTS if self._inputs else SAVE_SECS_MIN
        self._save_at = began + max(secs_min, (self._clock() - began) / SAVE_SHARE_MAX)
