"""The correlator alone: bytes of lines in, bytes of rows out, while so many tunnels lie open.

    python -m bench.correlator --open 100000

measures one case and writes it as JSON. Each case is a process of its own: its memory is then its own, too.
The garbage collector is left as the worker leaves it.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import psutil

from bench import floor
from bench.child import child
from bench.figures import Case, per_event, report_progress
from bench.fleet import Fleet, Packed
from schemas.settings import Settings
from schemas.topics import TICK_DIALECT
from streams.pipeline import Message, Pipeline
from streams.worker.gc_tuning import tune_collector

HOUSE = Path(__file__).resolve().parents[1]
DEVICES = {1_000: 20, 100_000: 500, 1_000_000: 5_000}
"""Open connections to devices. At most `ACTIVE_MAX` of them open further ones while it is measured."""
ACTIVE_MAX = 500
EVENTS = 200_000
REPEATS = 3
WARM_ROUNDS = 4
"""Until as many connections leave the state as come into it: a flow record after one, and two to linger."""
TICK_MESSAGES = 2_500
"""Between two ticks: a second's messages at 250,000 events a second."""
REST_MS = 60_000
PRELOAD_MESSAGES, PRELOAD_MS = 400, 10_000
"""While tunnels are opened ahead, 10 s go by for each 400 messages: long ago most of them came to rest."""


class Run:
    """One pipeline, fed as the worker feeds it: some messages, then the rows, then the state entries."""

    def __init__(self, settings: Settings) -> None:
        self._pipeline = Pipeline(settings.correlation)
        self._batch = settings.worker.batch_messages_max
        self._offset = 0
        self._sent: dict[tuple[str, str], int] = {}
        """Lines of each device and dialect so far."""
        self._logged_ms = 1_800_000_000_000
        self.take_secs = 0.0
        """CPU time from bytes of lines to bytes of rows."""
        self.checkpoint_secs = 0.0
        self.events = 0
        self.rows: list[bytes] = []
        """Rows, while `keep_rows`."""
        self.keep_rows = False
        self.entry_bytes = 0
        self.first_bytes: dict[bytes, int] = {}
        """Of each device, the bytes of its first entries: a snapshot of all there was of it."""

    def feed(self, packed: Iterable[Packed]) -> None:
        """Take messages in, a worker's batch at a time."""
        source = iter(packed)
        while some := list(islice(source, self._batch)):
            self._handle([self._message(one) for one in some])
            self.events += sum(one.lines for one in some)

    def preload(self, fleet: Fleet, connections: int) -> None:
        """Open tunnels that stay open, and let them come to rest."""
        source = fleet.preload(connections)
        while some := list(islice(source, PRELOAD_MESSAGES)):
            self.feed(some)
            self.pass_time(PRELOAD_MS)

    def pass_time(self, ms: int) -> None:
        """Nothing but the log's time goes by."""
        self._logged_ms += ms
        self._handle([self._tick()])

    def reset(self) -> None:
        """Count from here."""
        self.take_secs = self.checkpoint_secs = 0.0
        self.events = self.entry_bytes = 0
        self.rows = []

    def book(self) -> dict[str, int]:
        """The pipeline's balance."""
        return self._pipeline.book()

    def _handle(self, messages: list[Message]) -> None:
        pipeline = self._pipeline
        begun = time.process_time()
        for message in messages:
            pipeline.take(message)
        made = pipeline.drain()
        taken = time.process_time()
        entries = pipeline.checkpoint()
        self.checkpoint_secs += time.process_time() - taken
        self.take_secs += taken - begun
        self.entry_bytes += sum(len(value) for _, value in entries)
        fresh: dict[bytes, int] = {}
        for key, value in entries:
            device = key.rpartition(b"\0")[0]
            if device not in self.first_bytes:
                fresh[device] = fresh.get(device, 0) + len(value)
        self.first_bytes.update(fresh)
        if self.keep_rows:
            self.rows += made.network_events

    def _message(self, packed: Packed) -> Message:
        self._offset += 1
        before = self._sent.get((packed.device, packed.dialect), 0)
        self._sent[packed.device, packed.dialect] = before + packed.lines
        return Message(
            self._offset,
            self._logged_ms,
            packed.device.encode(),
            packed.value,
            packed.dialect,
            "bench",
            before + 1,
            packed.lines,
        )

    def _tick(self) -> Message:
        self._offset += 1
        return Message(self._offset, self._logged_ms, b"", b"", TICK_DIALECT)


def measure(open_connections: int, devices: int, events: int, repeats: int) -> Case:
    """Preload, warm up, then the best of some repeats on ever new connections, and the floor of the same lines."""
    process = psutil.Process()
    tune_collector()  # as the worker does
    Run(Settings()).preload(Fleet(1), 100)  # what Python needs once is not the state's
    run = Run(Settings())
    fleet = Fleet(devices, active_max=ACTIVE_MAX)
    figures: dict[str, float] = {"open connections": open_connections, "devices": devices}

    begun = time.monotonic()
    gc.collect()
    before = process.memory_info().rss
    run.preload(fleet, open_connections)
    figures["durable bytes/connection"] = sum(run.first_bytes.values()) / open_connections
    run.pass_time(REST_MS)
    gc.collect()
    figures["resident bytes/connection"] = (process.memory_info().rss - before) / open_connections
    figures["preload seconds"] = time.monotonic() - begun
    resolved = run.book().get("resolved:connect", 0)
    assert resolved == open_connections, f"{resolved} of {open_connections} tunnels were resolved"

    run.feed(fleet.rounds(WARM_ROUNDS))
    run.keep_rows = True
    best: dict[str, float] = {}
    for _ in range(repeats):
        messages = list(fleet.at_least(events))
        run.reset()
        for part in _with_ticks(run, messages):
            run.feed(part)
        found = _found(run, messages)
        if not best or found["µs/event"] < best["µs/event"]:
            best = found
    return Case("correlator", f"{open_connections:,}", {**best, **figures})


def _with_ticks(run: Run, messages: Sequence[Packed]) -> Iterator[Sequence[Packed]]:
    for first in range(0, len(messages), TICK_MESSAGES):
        yield messages[first : first + TICK_MESSAGES]
        run.pass_time(1_000)


def _found(run: Run, messages: Sequence[Packed]) -> dict[str, float]:
    bare = floor.measure([(one.dialect, one.value) for one in messages], run.rows, 2)
    return {
        **per_event(run.take_secs, run.events),
        "rows/event": len(run.rows) / run.events,
        "floor µs/event": bare / run.events * 1e6,
        "times the floor": run.take_secs / bare,
        "checkpoint µs/event": run.checkpoint_secs / run.events * 1e6,
        "checkpoint bytes/event": run.entry_bytes / run.events,
        "lines/message": run.events / len(messages),
    }


def run_cases(sizes: Sequence[int], events: int = EVENTS, repeats: int = REPEATS) -> list[Case]:
    """Each size in a process of its own, one after the other."""
    cases = []
    for size in sizes:
        report_progress(f"correlator: {size:,} open connections on {devices_for(size):,} devices")
        command = [sys.executable, "-m", "bench.correlator", "--open", str(size), "--events", str(events)]
        command += ["--repeats", str(repeats)]
        with child(command, stdout=subprocess.PIPE, cwd=HOUSE) as process:
            written, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the correlator's case of {size:,} connections failed; its words are above")
        cases.append(msgspec.json.decode(written, type=Case))
    first = cases[0].figures["events/s"]
    for case in cases:
        case.figures[f"of the speed at {cases[0].name}"] = case.figures["events/s"] / first
    return cases


def devices_for(open_connections: int) -> int:
    """On how many devices so many connections lie."""
    return DEVICES.get(open_connections, max(1, open_connections // 200))


def main() -> int:
    """One case, as JSON on stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.correlator", description="One case of the correlator's bench."
    )
    parser.add_argument("--open", type=int, default=1_000, help="tunnels that stay open (default %(default)s)")
    parser.add_argument("--events", type=int, default=EVENTS, help="events of one repeat (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="repeats; the best counts (default %(default)s)")
    given = parser.parse_args()
    case = measure(given.open, devices_for(given.open), given.events, given.repeats)
    sys.stdout.buffer.write(msgspec.json.encode(case) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
