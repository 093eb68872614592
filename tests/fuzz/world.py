"""One world: some ten thousand damaged lines through one pipeline, which is held to what the worker relies on.

    no exception                  whatever comes in
    the book balances             read = parsed + ignored + rejected, and read is what was fed
    rejects keep their bytes      each is one of the lines, untouched but for logins in URLs
    rows can be stored            as their class and their column's type require
    state is bounded              no entry above its limit, no device above its bounds, and it comes back whole after a crash
    time is bounded               no message takes more CPU time than `MESSAGE_MS_MAX`

A seed and a world's number give the very same world again; so they do of one dialect alone.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from schemas.logins import masked
from schemas.parsers import dialects
from schemas.settings import CorrelationSettings
from schemas.topics import TICK_DIALECT
from streams.messages import LINE_BYTES_MAX, MESSAGE_LINES_MAX
from streams.model.device import ALERTS_MAX, PROXIES_MAX
from streams.pipeline import Message, Pipeline
from streams.rejects import MISTAKE
from tests.fuzz.corpus import corpus
from tests.fuzz.mutate import Mutator
from tests.fuzz.rows import first_problem

WORLD_LINES = 20_000
MESSAGE_MS_MAX = 50.0
"""For a message of lines; of a tick, which is no input and may wake all devices at once, for each that it wakes."""
RETRIES = 3
ENTRY_BYTES_MAX = 600 * 1024
MEMORY_BYTES_MAX = 1 << 30
BOOK_ENTRIES_MAX = 200
BATCH_MESSAGES = 100
CHECKPOINT_BATCHES = 5
ROWS_LOOKED_AT = 4
"""Every fourth row is read again."""
WORLD_CPU_SECS_MAX = 300.0
MANY_LINES = 40

Entries = dict[bytes, bytes]


@dataclass
class Found:
    """What went wrong, and with which message."""

    seed: int
    world: int
    problem: str
    message: Message
    dialect: str = ""
    """The one of whose lines the world was; "" where it was of all."""


@dataclass
class Verdict:
    """What one world showed."""

    world: int
    lines: int = 0
    messages: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """The book, with labels summed up; rows, verdicts and alerts that left; restarts."""
    cpu_secs: float = 0.0
    """In the pipeline."""
    slowest_ms: float = 0.0
    slowest: Message | None = None
    memory_bytes: int = 0
    found: Found | None = None


class Wrong(Exception):
    """The pipeline broke a promise."""


def settings_of(chance: random.Random) -> CorrelationSettings:
    """Mostly as they come; sometimes with little room, or with everything known for a proxy."""
    return CorrelationSettings(
        connections_max=chance.choice((200_000, 200_000, 200, 3)),
        proxies=chance.choice(((), ("10.0.0.1:3128", "squid=10.0.0.2:8080"))),
    )


class World:
    """One pipeline and its input."""

    def __init__(self, seed: int, number: int, lines_max: int = WORLD_LINES, dialect: str = "") -> None:
        self.chance = random.Random(f"{seed}/{number}/{dialect}" if dialect else f"{seed}/{number}")
        self.seed, self.lines_max, self.dialect = seed, lines_max, dialect
        self.settings = settings_of(self.chance)
        self.mutator = Mutator(self.chance, corpus(dialect))
        self.pipeline = Pipeline(self.settings)
        self.verdict = Verdict(number)
        self.fed = 0
        self.offset = 0
        self.logged_ms = 1_795_547_248_000
        self.entries: Entries = {}
        self.since: list[Message] = []
        """Messages since the last checkpoint."""
        self.batch: list[Message] = []
        self.last = Message(0, 0, b"", b"", "")
        self.names = (dialect,) if dialect else (*dialects(), "nosuch", "", "SURICATA", "\udcff", "x" * 300)

    def run(self) -> Verdict:
        """All lines; stops at the first broken promise."""
        verdict = self.verdict
        before = signal.signal(signal.SIGPROF, _hangs)
        signal.setitimer(signal.ITIMER_PROF, WORLD_CPU_SECS_MAX)
        try:
            while self.fed < self.lines_max:
                self._take(self._next())
                if len(self.batch) >= BATCH_MESSAGES:
                    self._batch_ends()
            self._batch_ends()
            self._world_ends()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what we are looking for
            problem = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"[:2_000]
            verdict.found = self._found(problem)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        verdict.memory_bytes = peak if sys.platform == "darwin" else peak * 1024
        if verdict.found is None and verdict.memory_bytes > MEMORY_BYTES_MAX:
            verdict.found = self._found(f"{verdict.memory_bytes >> 20} MB of memory")
        verdict.lines = self.fed
        return verdict

    def _found(self, problem: str) -> Found:
        return Found(self.seed, self.verdict.world, problem, self.last, self.dialect)

    def _next(self) -> Message:
        chance = self.chance.random()
        self.offset += 1 if chance < 0.99 else 3
        self.logged_ms += int(chance * 20)
        if chance < 0.005:
            self.logged_ms += self.chance.choice((10_000, 200_000, 90_000_000))
            return Message(self.offset, self.logged_ms, b"", b"", TICK_DIALECT)
        real, value = self.mutator.next()
        lines = [value]
        if chance > 0.98:
            lines += [self.mutator.next()[1] for _ in range(self.chance.randrange(MANY_LINES))]
        key, dialect = real.device.encode(), real.dialect
        if 0.5 < chance < 0.53:
            key = self.chance.choice((b"", b"other", b"\xff\xfe", b"\x00", b"dev-a\x00d01", b"k" * 3_000))
        elif 0.6 < chance < 0.62:
            dialect = self.chance.choice(self.names)
        elif 0.7 < chance < 0.7005:
            return Message(self.offset, 0, key, b"\n".join(lines), TICK_DIALECT)
        return Message(self.offset, self.logged_ms, key, b"\n".join(lines), dialect)

    def _take(self, message: Message) -> None:
        self.last = message
        self.batch.append(message)
        self.since.append(message)
        self.fed += len(_lines_of(message))
        self.verdict.messages += 1
        ms = _ms_of(self.pipeline, message)
        self.verdict.cpu_secs += ms / 1000
        ms /= _woken(self.pipeline, message)
        if ms > MESSAGE_MS_MAX:
            ms = min(ms, *(self._again() for _ in range(RETRIES)))
        if ms > self.verdict.slowest_ms:
            self.verdict.slowest_ms, self.verdict.slowest = ms, message
        if ms > MESSAGE_MS_MAX:
            raise Wrong(f"{ms:.0f} ms of CPU time for one message, {RETRIES + 1} times over")

    def _again(self) -> float:
        """The time of the last message once more, on the very same state: a pause may have hit it by chance."""
        pipeline = Pipeline(self.settings)
        pipeline.restore(self.entries.items())
        for message in self.since[:-1]:
            pipeline.take(message)
        return _ms_of(pipeline, self.since[-1]) / _woken(pipeline, self.since[-1])

    def _batch_ends(self) -> None:
        output = self.pipeline.drain()
        fed = Counter(masked(line) for message in self.batch for line in _lines_of(message))
        if changed := Counter(reject.raw for reject in output.rejects) - fed:
            raise Wrong(f"a reject is none of the lines: {next(iter(changed))[:300]!r}")
        if failed := [reject for reject in output.rejects if reject.detail.startswith(MISTAKE)]:
            raise Wrong(f"{failed[0].dialect}: {failed[0].detail.removeprefix(MISTAKE)}: {failed[0].raw[:300]!r}")
        if problem := first_problem(output, ROWS_LOOKED_AT):
            raise Wrong(problem)
        counts = self.verdict.counts
        counts["rejects"] += len(output.rejects)
        counts["rows"] += len(output.network_events)
        counts["verdict rows"] += len(output.device_events)
        counts["alerts"] += len(output.alerts)
        counts["batches"] += 1
        if counts["batches"] % CHECKPOINT_BATCHES == 0:
            self._checkpoint()
        self.batch = []

    def _checkpoint(self) -> None:
        written = self.pipeline.checkpoint()
        self.entries.update(written)
        self.since = []
        for key, value in written:
            if len(key) + len(value) > ENTRY_BYTES_MAX:
                raise Wrong(f"a state entry of {len(key) + len(value)} bytes: {key[:100]!r}")
        if self.chance.random() < 0.1:
            self._restart()

    def _restart(self) -> None:
        """A crash right after the checkpoint: the state comes back, and what is read again does nothing."""
        entries = list(self.entries.items())
        self.chance.shuffle(entries)
        restored = Pipeline(self.settings)
        restored.restore(entries)
        if restored.book() != self.pipeline.book():
            raise Wrong(f"the book after a restart is {restored.book()}, not {self.pipeline.book()}")
        for message in self.batch:
            restored.take(message)
        output = restored.drain()
        if output.network_events or output.device_events or output.alerts or output.rejects:
            raise Wrong("what is read again after a restart made output")
        self.pipeline = restored
        self.verdict.counts["restarts"] += 1

    def _world_ends(self) -> None:
        for device in self.pipeline.devices.values():
            for what, size, most in (
                ("connections", device.size, self.settings.connections_max),
                ("alerts", len(device.alerts), ALERTS_MAX),
                ("proxies", len(device.state.proxies), PROXIES_MAX),
                ("book entries", len(device.state.counts), BOOK_ENTRIES_MAX),
            ):
                if size > most:
                    raise Wrong(f"device {device.name[:100]!r} has {size} {what}, more than {most}")
        self.pipeline.finish()
        if problem := first_problem(self.pipeline.drain(), 1):
            raise Wrong(problem)
        counts = self.verdict.counts
        for entry, count in self.pipeline.book().items():
            if (name := entry.partition(":")[0]) not in ("rows", "verdict_rows"):
                counts[name] += count
        accounted = counts["parsed"] + counts["ignored"] + counts["rejected"]
        if not self.fed == counts["read"] == accounted:
            raise Wrong(f"{self.fed} lines fed, {counts['read']} read, {accounted} accounted for: {dict(counts)}")
        if counts["rejected"] != counts["rejects"]:
            raise Wrong(f"{counts['rejected']} lines rejected, {counts['rejects']} on the way to the topic")
        if counts["waiting"]:
            raise Wrong(f"{counts['waiting']} connections wait after the end")


def _lines_of(message: Message) -> list[bytes]:
    """The lines that must be accounted for: all but blank ones, an envelope's rows instead of it; too many are one."""
    lines = message.value.split(b"\n")
    dialect = dialects().get(message.dialect)
    if dialect is not None and dialect.split is not None:
        lines = [row for line in lines for row in (dialect.split(line) if len(line) <= LINE_BYTES_MAX else [line])]
    if len(lines) > MESSAGE_LINES_MAX:
        return [message.value] if message.value.strip() else []
    return [line for line in lines if line and not line.isspace()]


def _ms_of(pipeline: Pipeline, message: Message) -> float:
    """CPU time of one message, so that a busy machine does not count."""
    began = time.thread_time_ns()
    pipeline.take(message)
    return (time.thread_time_ns() - began) / 1e6


def _woken(pipeline: Pipeline, message: Message) -> int:
    """Devices that a tick woke; 1 for any other message."""
    if message.dialect != TICK_DIALECT:
        return 1
    return max(1, sum(device.state.offset == message.offset for device in pipeline.devices.values()))


def _hangs(_signum: int, _frame: FrameType | None) -> Any:
    raise Wrong(f"more than {WORLD_CPU_SECS_MAX:.0f} s of CPU time for one world: the last message may never end")


def run_world(seed: int, number: int, lines_max: int = WORLD_LINES, dialect: str = "") -> Verdict:
    """One world from its seed and number, of one dialect's lines or of all."""
    return World(seed, number, lines_max, dialect).run()
