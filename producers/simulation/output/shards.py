"""Publish a world to Kafka from several processes: each has some of the devices; together they send the same as one.

parent    starts them, adds up what they report, passes a stop on
child     feeds its share; ends when the parent is gone
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Event

from producers.publish.publisher import PublisherFailed
from producers.publish.report import Report
from producers.simulation.output.feed import feed
from producers.simulation.output.truth_file import merge, part_of, truth_file
from producers.simulation.settings import WorldSettings
from producers.simulation.world import World
from schemas.settings import Settings

PROCESSES_MAX = 8
LINES_PER_SEC_OF_ONE = 50_000.0
"""Up to this pace one process is enough on any machine."""
WAIT_SECS = 0.1
START_SECS = 1.5
"""Processes need so long until they can keep a pace together."""
_STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class Outcome:
    """What was published, and what was in the world."""

    report: Report = field(default_factory=Report)
    tally: Counter[str] = field(default_factory=Counter)
    error: str = ""


def processes_for(world: WorldSettings, speed: float) -> int:
    """How many processes it takes to keep this pace (0: as fast as possible)."""
    pace = world.lines_per_sec * speed if speed else float("inf")
    if pace <= LINES_PER_SEC_OF_ONE:
        return 1
    return min(os.cpu_count() or 1, PROCESSES_MAX, world.devices)


def feed_all(
    settings: Settings,
    world: WorldSettings,
    *,
    stop: Event,
    speed: float,
    processes: int,
    truth: Path | None = None,
    progress: Callable[[Report], None] = lambda _: None,
) -> Outcome:
    """Publish a world from so many processes; `stop` ends all. Raises PublisherFailed, and OSError for the truth's file."""
    if truth:
        truth.open("wb").close()  # a failure to write it is raised before anything is published
    if processes == 1:
        return _Share(settings, world, speed, time.monotonic(), truth=truth).publish(stop, progress)
    parts = [part_of(truth, shard) for shard in range(processes)] if truth else []
    began = time.monotonic() + START_SECS
    shares = [
        _Share(settings, world, speed, began, shard, processes, parts[shard] if parts else None)
        for shard in range(processes)
    ]
    outcome = _Parent(shares, stop).run(progress)
    if truth:
        merge(filter(Path.exists, parts), truth)
    if outcome.error:
        raise PublisherFailed(outcome.error)
    return outcome


@dataclass(frozen=True, slots=True)
class _Share:
    """Every `shards`-th device of a world from `shard` on: what one process publishes."""

    settings: Settings
    world: WorldSettings
    speed: float
    began: float
    shard: int = 0
    shards: int = 1
    truth: Path | None = None

    def publish(self, stop: Event, progress: Callable[[Report], None]) -> Outcome:
        """Publish it until it ends or `stop` is set. Raises PublisherFailed."""
        with ExitStack() as opened:
            record = opened.enter_context(truth_file(self.truth)) if self.truth else None
            devices = World(self.world, shard=self.shard, shards=self.shards, truth=record)
            # Lines wait by the hundred thousand and form no circles: the collector would walk them over and over.
            gc.freeze()
            gc.disable()
            opened.callback(gc.enable)
            report = feed(self.settings, devices, stop=stop, speed=self.speed, began=self.began, progress=progress)
        return Outcome(report, devices.tally)


class _Parent:
    """The processes and the last outcome of each."""

    def __init__(self, shares: Iterable[_Share], stop: Event) -> None:
        self._stop = stop
        spawn = multiprocessing.get_context("spawn")
        self._children: dict[Connection, SpawnProcess] = {}
        self._outcomes: dict[Connection, Outcome] = {}
        for share in shares:
            ours, theirs = spawn.Pipe()
            child = spawn.Process(target=_child, args=(theirs, share), daemon=True)
            with _stops_wait():
                child.start()
            theirs.close()
            self._children[ours] = child
            self._outcomes[ours] = Outcome()

    def run(self, progress: Callable[[Report], None]) -> Outcome:
        """Until all have ended."""
        open_ends, stopped = set(self._children), False
        while open_ends:
            for end in wait(list(open_ends), WAIT_SECS):
                assert isinstance(end, Connection), "only pipes were waited for"
                try:
                    self._outcomes[end] = end.recv()
                except EOFError:
                    open_ends.discard(end)
                    end.close()
                    self._children[end].join()
                    last, code = self._outcomes[end], self._children[end].exitcode
                    if code and not last.error:
                        last.error = f"a process of the simulation ended with {code}"
            outcome = self._together()
            progress(outcome.report)
            if (self._stop.is_set() or outcome.error) and not stopped:
                stopped = True
                for child in self._children.values():
                    child.terminate()
        return self._together()

    def _together(self) -> Outcome:
        whole = Outcome()
        for outcome in self._outcomes.values():
            whole.tally += outcome.tally
            whole.error = whole.error or outcome.error
            mine, theirs = whole.report, outcome.report
            mine.lines += theirs.lines
            mine.bytes += theirs.bytes
            mine.messages += theirs.messages
            mine.by_dialect += theirs.by_dialect
            mine.acknowledged_by_dialect += theirs.acknowledged_by_dialect
            mine.acknowledged_bytes_by_dialect += theirs.acknowledged_bytes_by_dialect
        return whole


@contextmanager
def _stops_wait() -> Iterator[None]:
    """Delay stop signals to a process that is started here until it handles them."""
    resource_tracker.ensure_running()  # the first child would begin it, and that lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(pipe: Connection, share: _Share) -> None:
    stop = Event()
    for wanted in _STOPS:
        signal.signal(wanted, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

    def send(outcome: Outcome) -> None:
        try:
            pipe.send(outcome)
        except OSError:
            stop.set()  # the parent has ended and cannot stop this process

    try:
        outcome = share.publish(stop, lambda report: send(Outcome(report)))
    except PublisherFailed as error:
        outcome = Outcome(error=str(error))
    send(outcome)
