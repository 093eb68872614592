"""Dialects alone: what it costs to make events of each sensor's lines.

    python -m bench.dialects --dialect squid

measures one dialect and writes its cases as JSON: one of its lines in JSON, one of its others. Each dialect is a process of
its own: what is remembered of addresses and times is then its own, too.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.child import child
from bench.figures import Case, report_progress
from producers.files.lines import Lines
from producers.sources.source import SourceFile
from schemas.dialect import Dialect
from schemas.events import Ignored, Reject
from schemas.parsers import dialects
from schemas.parsers.recognition import NOBODYS
from streams.worker.gc_tuning import tune_collector

HOUSE = Path(__file__).resolve().parents[1]
GOLDEN = HOUSE / "tests/data/golden"
LINES = 2_000
REPEATS = 25
LINE_BYTES_MAX = 1024 * 1024
FLOORS: dict[str, Callable[[bytes], Any]] = {"JSON": msgspec.json.decode, "text": bytes.split}
"""The form of a line, and the least that reading it takes: objects of no type, words."""


def golden(dialect: Dialect) -> list[bytes]:
    """The lines that the tests hold the dialect to."""
    return (GOLDEN / f"{dialect.name}.in.jsonl").read_bytes().splitlines()


def recorded(dialect: Dialect, folder: Path) -> Iterator[bytes]:
    """Lines of this dialect in all files below a folder, as they are published."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".md":
            continue
        content = path.read_bytes()
        lines = Lines(SourceFile(NOBODYS.name, str(path), ""), NOBODYS, LINE_BYTES_MAX)
        whole = gzip.decompress(content) if path.suffix == ".gz" else content
        for line in (*lines.feed(whole), *lines.finish()):
            if line.dialect == dialect.name:
                yield line.value


def measure(dialect: Dialect, lines: Iterable[bytes], whose: str, count: int, repeats: int) -> list[Case]:
    """A case for each form that the dialect is written in. Lines that it rejects are left out: a stream has hardly any."""
    read = [line for line in lines if not isinstance(dialect.parse(line), Reject)]
    cases = []
    for form, decode in FLOORS.items():
        mine = [line for line in read if line.startswith(b"{") == (form == "JSON")]
        if not mine:
            continue
        for_us = [line for line in mine if not isinstance(dialect.parse(line), Ignored)]
        cost, floor = _micros(dialect.parse, mine, count, repeats), _micros(decode, mine, count, repeats)
        figures = {
            "lines/s": 1e6 / cost,
            "µs/line": cost,
            "floor µs/line": floor,
            "times the floor": cost / floor,
            "bytes/line": sum(map(len, mine)) / len(mine),
            "different lines": len(mine),
        }
        if for_us:
            figures["events, lines/s"] = 1e6 / _micros(dialect.parse, for_us, count, repeats)
            figures["events, different lines"] = len(for_us)
        cases.append(Case(f"dialects, {form}, {whose}", dialect.name, figures))
    return cases


def _micros(read: Callable[[bytes], Any], lines: list[bytes], count: int, repeats: int) -> float:
    """CPU time of a line, the best of some repeats over so many of them."""
    rounds, best = -(-count // len(lines)), float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        for _ in range(rounds):
            for line in lines:
                read(line)
        best = min(best, time.process_time() - begun)
    return best / (rounds * len(lines)) * 1e6


def run_cases(
    count: int = LINES, samples: Path | None = None, names: Sequence[str] = (), repeats: int = REPEATS
) -> list[Case]:
    """Each dialect in a process of its own, one after the other."""
    cases: list[Case] = []
    for name in sorted(names or dialects()):
        report_progress(f"dialects: {name}")
        command = [sys.executable, "-m", "bench.dialects", "--dialect", name]
        command += ["--lines", str(count), "--repeats", str(repeats)]
        command += ["--samples", str(samples.resolve())] if samples is not None else []
        with child(command, stdout=subprocess.PIPE, cwd=HOUSE) as process:
            written, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the dialect {name} failed; its words are above")
        cases += msgspec.json.decode(written, type=list[Case])
    return sorted(cases, key=lambda case: case.part)


def main() -> int:
    """The cases of one dialect, as JSON on stdout."""
    parser = argparse.ArgumentParser(prog="python -m bench.dialects", description="One dialect of the dialects' bench.")
    parser.add_argument("--dialect", choices=sorted(dialects()), default="suricata", help="default %(default)s")
    parser.add_argument("--samples", type=Path, metavar="FOLDER", help="its lines in the files there as well")
    parser.add_argument("--lines", type=int, default=LINES, help="lines of one repeat (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="repeats; the best counts (default %(default)s)")
    given = parser.parse_args()
    tune_collector()  # as the worker does
    dialect = dialects()[given.dialect]
    cases = measure(dialect, golden(dialect), "golden", given.lines, given.repeats)
    if given.samples is not None:
        cases += measure(dialect, recorded(dialect, given.samples), "samples", given.lines, given.repeats)
    sys.stdout.buffer.write(msgspec.json.encode(cases) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
