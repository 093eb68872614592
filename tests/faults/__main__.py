"""Break a running pipeline in every way, and see that nothing is lost, doubled or wrong.

python -m tests.faults --seed 7               one run; the same seed gives the same world and the same faults
python -m tests.faults --seeds 100 --jobs 2   seeds 1 to 100, and the table of faults and recovery times
python -m tests.faults --damage               one run in which a full disk leaves a part of a table damaged, and the cure
python -m tests.faults --broken all           six workers broken on purpose: each must be caught
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.disk import enter_namespaces
from tests.faults.report import table, verdict_line
from tests.faults.worker import BREAKS
from unproxy.local.servers.jars import kafka_jars

MODULE = "tests.faults"
EXIT_INTERRUPTED = 130


def main() -> int:
    """Exit code 0 when all is well, 1 when a run failed or a broken worker went unnoticed, 2 when called wrongly."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="one run with this seed")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs with seeds 1 to N")
    parser.add_argument("--first", type=int, default=1, help="with --seeds: begin with this one instead of 1")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--broken", choices=["all", *BREAKS], help="a worker that is broken on purpose must be caught")
    parser.add_argument("--outage", type=float, metavar="SECS", help="one run in which ClickHouse is away for so long")
    parser.add_argument("--damage", action="store_true", help="one run in which a full disk leaves a damaged part")
    parser.add_argument("--kinds", nargs="+", metavar="WORD", help="only faults whose name holds one of these words")
    parser.add_argument("--keep", action="store_true", help="keep the logs of good runs, too")
    parser.add_argument("--out", type=Path, help="folder for results and the logs of failed runs")
    given = parser.parse_args()
    out = (given.out or Path(tempfile.mkdtemp(prefix="unproxy-faults-"))).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if given.seeds:
        return _many(out, range(given.first, given.first + given.seeds), given.jobs, given.kinds or [])
    if given.broken == "all":
        codes = [_alone(["--broken", name], out, name) for name in BREAKS]
        return max(codes)
    if given.broken is None and given.seed is None and not given.outage and not given.damage:
        parser.error("name --seed, --seeds, --outage, --damage or --broken")
    kafka_jars()
    enter_namespaces(MODULE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_INTERRUPTED))  # so that nothing is left running
    return _one(out, given)


def _one(out: Path, given: argparse.Namespace) -> int:
    from tests.faults.breaking import run_broken
    from tests.faults.run import DAMAGE, outage, run
    from tests.faults.schedule import Kind

    seed, words = given.seed or 1, given.kinds or []
    kinds = tuple(kind for kind in Kind if not words or any(word.lower() in kind.lower() for word in words))
    folder = out / (given.broken or f"seed-{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    if given.broken:
        caught = run_broken(given.broken, folder)
        print(f"{given.broken}: {caught.by or 'NOT CAUGHT'}", flush=True)
        return 0 if caught.by else 1
    planned = outage(given.outage) if given.outage else DAMAGE if given.damage else None
    result = run(seed, folder, kinds=kinds, keep=given.keep, planned=planned, damages=given.damage)
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(result.plain()) + "\n")
    print(verdict_line(result.plain()), flush=True)
    if not result.good:
        print(f"again with: python -m {MODULE} --seed {seed}; its logs are in {folder / 'kept'}", flush=True)
    return 0 if result.good else 1


def _alone(arguments: list[str], out: Path, name: str) -> int:
    """A run in a process of its own, so that whatever happens to it is its own."""
    command = [sys.executable, "-m", MODULE, "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    output = done.stdout.strip()
    print(output or f"{name}: the run itself died: {done.stderr[-2000:]}", flush=True)
    return done.returncode


def _many(out: Path, seeds: Sequence[int], jobs: int, words: list[str]) -> int:
    began = time.monotonic()
    kinds = ["--kinds", *words] if words else []
    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(lambda seed: _alone(["--seed", str(seed), *kinds], out, f"seed {seed}"), seeds))
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    print(f"\n{table(results)}\n\n{len(seeds)} runs in {(time.monotonic() - began) / 60:.0f} min; results are in {out}")
    return max(done)


if __name__ == "__main__":
    sys.exit(main())
