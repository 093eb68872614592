"""The sensor at work in the clients' namespace, and the rows that come of its lines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.sensor import SENSOR, cpu_secs, rss
from schemas.events import ProtectionMode
from tests.live.errands import LISTED
from tests.live.oracle import Rows
from tests.live.stage import ROOT, Stage, WentWrong, await_that, environment

STARTED = "sensor started"
DEVICE = "live"


@dataclass
class Sensed:
    """A sensor's run."""

    lines: Path
    cpu_secs: float = 0.0
    rss_kb: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    """Its last word."""


@contextmanager
def sensing(
    stage: Stage,
    folder: Path,
    tracefs: Path,
    mode: ProtectionMode,
    proxies: Sequence[tuple[str, int]],
    *,
    listed: Sequence[str] = (LISTED,),
    more: Sequence[str] = (),
) -> Iterator[Sensed]:
    """Run a sensor, with these entries listed and `more` options, until the block is left.

    Raises WentWrong where it does not start, or ends by itself.
    """
    entries = folder / "listed.txt"
    entries.write_text("".join(f"{entry}\n" for entry in listed))
    sensed = Sensed(folder / "lines.jsonl")
    words: list[str | Path] = [*SENSOR, "--tracefs", tracefs, "--device", DEVICE, "--out", sensed.lines]
    words += ["--mode", mode, "--list", entries, *more]
    for address, port in proxies:
        words += ["--proxy", f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]
    name = f"sensor-{mode}-{folder.name}"
    process = stage.near(words, name)

    def started() -> bool:
        if process.poll() is not None:
            raise WentWrong(f"the sensor ended with {process.returncode}: {stage.output(name).strip()[-1000:]}")
        return STARTED in stage.output(name)

    await_that(started, "the sensor starts")
    before = cpu_secs(process.pid)
    yield sensed
    if process.poll() is not None:
        raise WentWrong(f"the sensor ended by itself: {stage.output(name).strip()[-1000:]}")
    sensed.cpu_secs, sensed.rss_kb = cpu_secs(process.pid) - before, rss(process.pid)
    code = stage.stop(process)
    if code:
        raise WentWrong(f"the sensor ended with {code}: {stage.output(name).strip()[-1000:]}")
    sensed.counters = {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)(?=\s)", stage.output(name))}


def rows_of(sensed: Sensed, folder: Path) -> Rows:
    """What `unproxy replay` makes of its lines. Raises WentWrong."""
    rows, verdicts = replayed(sensed, folder)
    with rows.open("rb") as row_lines, verdicts.open("rb") as verdict_lines:
        return Rows.of(row_lines, verdict_lines)


def replayed(sensed: Sensed, folder: Path) -> tuple[Path, Path]:
    """The files of rows and of verdicts that `unproxy replay` makes of its lines. Raises WentWrong."""
    rows, verdicts, rejects = (folder / f"{name}.jsonl" for name in ("rows", "verdicts", "rejects"))
    words: list[str | Path] = [sys.executable, "-m", "unproxy", "replay", f"auto:{sensed.lines}", "--out", rows]
    words += ["--events", verdicts, "--rejects", rejects]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode or rejects.stat().st_size:
        raise WentWrong(f"replay ended with {done.returncode}; rejected lines are in {rejects}: {done.stderr[-1000:]}")
    return rows, verdicts
