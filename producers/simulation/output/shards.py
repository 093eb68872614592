"""Publish a world to Kafka from several processes, each with some of the devices; together they send what one would send.

parent    starts the children, adds up their reports, and passes a stop on to them
child     publishes its share, and ends when the parent has ended
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
"""Pace up to which one process is enough on any machine."""
WAIT_SECS = 0.1
START_SECS = 1.5
"""Time after which all processes have started; the world begins then, for all of them together."""
_STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class Outcome:
    """The counters of what was published, and the tally of what the world contained; `error` is "" if there was none."""

    report: Report = field(default_factory=Report)
    tally: Counter[str] = field(default_factory=Counter)
    error: str = ""


def processes_for(world: WorldSettings, speed: float) -> int:
    """Return how many processes are needed for this pace; `speed` 0 is as fast as possible."""
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
    """Publish a world from this number of processes until it ends or `stop` is set.

    The truth is written to the file `truth`, if given. Raises PublisherFailed, and OSError if the file cannot be written.
    """
    if truth:
        truth.open("wb").close()  # raises an error before anything is published
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
    """The share of a world that one process publishes: the devices number `shard`, `shard` + `shards` and so on."""

    settings: Settings
    world: WorldSettings
    speed: float
    began: float
    shard: int = 0
    shards: int = 1
    truth: Path | None = None

    def publish(self, stop: Event, progress: Callable[[Report], None]) -> Outcome:
        """Publish the share until it ends or `stop` is set. Raises PublisherFailed."""
        with ExitStack() as opened:
            record = opened.enter_context(truth_file(self.truth)) if self.truth else None
            devices = World(self.world, shard=self.shard, shards=self.shards, truth=record)
            # Hundreds of thousands of waiting lines have no reference cycles, but would be scanned in each collection.
            gc.freeze()
            gc.disable()
            opened.callback(gc.enable)
            report = feed(self.settings, devices, stop=stop, speed=self.speed, began=self.began, progress=progress)
        return Outcome(report, devices.tally)


class _Parent:
    """The child processes, and the latest outcome of each."""

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
        """Wait until all children have ended; return the sum of their outcomes. An error or a stop ends all of them."""
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
    """Block stop signals while a child is started; the child receives them once it can handle them."""
    resource_tracker.ensure_running()  # otherwise, the first child would start it, which unblocks the signals
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
