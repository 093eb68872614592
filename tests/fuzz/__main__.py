"""`python -m tests.fuzz`: millions of damaged lines through the pipeline; the verdict on stdout, progress on stderr.

    python -m tests.fuzz --lines 10000000 --seed 1 --jobs 2
    python -m tests.fuzz --dialect all --lines 1000000
    python -m tests.fuzz --dialect all --long
    python -m tests.fuzz --replay .unproxy/fuzz/1-17.json

Exit codes: 0 nothing found, 1 something found (its input lies in a file), 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from schemas.parsers import dialects
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline
from streams.worker.gc_tuning import tune_collector
from tests.fuzz.corpus import corpus
from tests.fuzz.long_lines import slowest
from tests.fuzz.world import MESSAGE_MS_MAX, WORLD_LINES, Found, Verdict, run_world

FOLDER = Path(".unproxy/fuzz")
REPORT_SECS = 5.0
ALL = "all"
"""In place of a dialect's name: one after the other."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; gives the exit code."""
    given = _parser().parse_args(arguments)
    if given.replay:
        return replay(given.replay)
    names = sorted(dialects()) if given.dialect == ALL or (given.long and not given.dialect) else [given.dialect]
    if given.long:
        tune_collector()
        found = [long_lines(name, given.seed, given.out) for name in names]
        return 1 if any(found) else 0
    try:
        results = [fuzz(name, given.lines, given.seed, given.jobs, given.out) for name in names]
    except KeyboardInterrupt:
        _report("stopped")
        return 130
    return 1 if any(results) else 0


def fuzz(dialect: str, lines: int, seed: int, jobs: int, out: Path) -> bool:
    """So many lines of one dialect, or of all mixed; whether anything was found."""
    began = time.monotonic()
    total = Total(lines, dialect)
    for verdict in verdicts(lines, seed, jobs, dialect):
        total.add(verdict)
        if verdict.found is not None:
            place = save(out, verdict.found)
            _report(f"found in world {verdict.world}: {verdict.found.problem}")
            _report(f"the message is in {place}; again with: python -m tests.fuzz --replay {place}")
            break
    if total.slowest is not None and total.slowest.slowest is not None:
        slowest = Found(seed, total.slowest.world, "the slowest", total.slowest.slowest, dialect)
        save(out, slowest, "-".join(filter(None, (dialect, "slowest.json"))))
    print("\n".join(total.table(seed, time.monotonic() - began)), flush=True)
    return total.found


def long_lines(dialect: str, seed: int, out: Path) -> bool:
    """Lines of the greatest length of one dialect; whether one of them took too long."""
    found = False
    for one in slowest(dialect, seed):
        verdict = "" if one.ms <= MESSAGE_MS_MAX else f" more than {MESSAGE_MS_MAX:.0f}"
        print(f"{dialect:12}{one.reader:12}{one.ms:7.1f} ms of CPU time, runs of {one.unit!r}{verdict}", flush=True)
        if verdict:
            found = True
            message = Message(1, 1_795_547_248_000, b"dev", one.line, dialect)
            save(
                out,
                Found(seed, 0, f"{one.reader} took {one.ms:.0f} ms", message, dialect),
                f"{dialect}-{one.reader}.json",
            )
    return found


@dataclass
class Total:
    """All verdicts together."""

    wanted: int
    dialect: str = ""
    lines: int = 0
    messages: int = 0
    worlds: int = 0
    found: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    cpu_secs: float = 0.0
    memory_bytes: int = 0
    slowest: Verdict | None = None
    reported_at: float = field(default_factory=time.monotonic)

    def add(self, verdict: Verdict) -> None:
        """Add one world's verdict; report progress at intervals."""
        self.worlds += 1
        self.lines += verdict.lines
        self.messages += verdict.messages
        self.counts.update(verdict.counts)
        self.cpu_secs += verdict.cpu_secs
        self.memory_bytes = max(self.memory_bytes, verdict.memory_bytes)
        self.found |= verdict.found is not None
        if self.slowest is None or verdict.slowest_ms > self.slowest.slowest_ms:
            self.slowest = verdict
        if time.monotonic() - self.reported_at >= REPORT_SECS:
            self.reported_at = time.monotonic()
            slowest = self.slowest.slowest_ms
            _report(f"{self.lines:,} of {self.wanted:,} lines, {self.worlds} worlds, slowest message {slowest:.1f} ms")

    def table(self, seed: int, secs: float) -> Iterator[str]:
        """What was done and what came of it."""
        slowest = self.slowest.slowest_ms if self.slowest is not None else 0.0
        counts = self.counts
        rows = {
            "verdict": "something was found" if self.found else "nothing found",
            "seed": seed,
            "dialects": self.dialect or ", ".join(sorted(dialects())),
            "lines": f"{self.lines:,} in {self.messages:,} messages, {self.worlds:,} worlds",
            "parsed": f"{counts['parsed']:,}",
            "ignored": f"{counts['ignored']:,}",
            "rejected": f"{counts['rejected']:,}",
            "not accounted for": f"{counts['read'] - counts['parsed'] - counts['ignored'] - counts['rejected']:,}",
            "rows, verdicts, alerts": f"{counts['rows']:,}, {counts['verdict rows']:,}, {counts['alerts']:,}",
            "restarts": f"{counts['restarts']:,}",
            "slowest message": f"{slowest:.1f} ms of CPU time (limit {MESSAGE_MS_MAX:.0f})",
            "pipeline": f"{1e6 * self.cpu_secs / max(self.lines, 1):.1f} µs of CPU time a line",
            "memory": f"{self.memory_bytes >> 20} MB at most",
            "took": f"{secs:.0f} s, {self.lines / max(secs, 0.001):,.0f} lines/s",
        }
        return (f"{name:24}{value}" for name, value in rows.items())


def verdicts(lines: int, seed: int, jobs: int, dialect: str = "") -> Iterator[Verdict]:
    """Worlds in so many processes until there were enough lines, or one of them found something."""
    worlds = iter(range(-(-lines // WORLD_LINES)))
    corpus()  # read once, before the processes are forked
    with ProcessPoolExecutor(jobs, initializer=_as_a_worker) as pool:
        waiting: set[Future[Verdict]] = set()
        for world in islice(worlds, 2 * jobs):
            waiting.add(pool.submit(run_world, seed, world, WORLD_LINES, dialect))
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                for world in islice(worlds, len(done)):
                    waiting.add(pool.submit(run_world, seed, world, WORLD_LINES, dialect))
        finally:
            for future in waiting:
                future.cancel()


def _as_a_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who waits for us
    os.nice(5)
    tune_collector()


def save(folder: Path, found: Found, name: str = "") -> Path:
    """Write down what was found, so that it can be tried again."""
    folder.mkdir(parents=True, exist_ok=True)
    message = found.message
    whose = f"{found.dialect}-" if found.dialect else ""
    place = folder / (name or f"{whose}{found.seed}-{found.world}.json")
    content = {
        "problem": found.problem,
        "seed": found.seed,
        "world": found.world,
        "of": found.dialect,
        "offset": message.offset,
        "logged_ms": message.logged_ms,
        "dialect": message.dialect,
        "key": base64.b64encode(message.key).decode(),
        "value": base64.b64encode(message.value).decode(),
        "value_begins": repr(message.value[:400]),
    }
    place.write_text(json.dumps(content, indent=2) + "\n")
    return place


def replay(place: Path) -> int:
    """The message by itself on a pipeline that knows nothing, then its whole world; 1 when anything is found again."""
    saved = json.loads(place.read_text())
    key, value = (base64.b64decode(saved[name]) for name in ("key", "value"))
    message = Message(saved["offset"], saved["logged_ms"], key, value, saved["dialect"])
    pipeline = Pipeline(CorrelationSettings())
    began = time.thread_time_ns()
    pipeline.take(message)
    print(f"by itself: {(time.thread_time_ns() - began) / 1e6:.1f} ms; book {pipeline.book()}")
    for reject in pipeline.drain().rejects[:3]:
        print(f"by itself: rejected as {reject.reason}: {reject.detail[:300]}")
    verdict = run_world(saved["seed"], saved["world"], WORLD_LINES, saved["of"])
    if verdict.found is None:
        print(f"in its world: nothing found; the slowest message took {verdict.slowest_ms:.1f} ms")
        return 0
    print(f"in its world: {verdict.found.problem}")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=10_000_000, help="lines in all (default: 10,000,000)")
    names = [*sorted(dialects()), ALL]
    parser.add_argument(
        "--dialect", choices=names, default="", metavar="NAME", help=f"of one alone; {ALL}: of each so many"
    )
    parser.add_argument("--long", action="store_true", help="lines of a megabyte instead, timed for each parser")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other worlds (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder for what is found (default: {FOLDER})")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try again what was found before")
    return parser


def _report(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
