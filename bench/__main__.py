"""`python -m bench`: the figures on stdout, what goes on at the moment on stderr."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import alerts, correlator, dialects, indicators, recovery, restart, sink, storm, worker
from bench.figures import Case, as_json, report_progress, table
from schemas.settings import Settings
from schemas.topics import topics
from unproxy.local.servers.broker import Broker, create_topics
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.service import EmbeddedError

PARTS = ("dialects", "correlator", "indicators", "storm", "worker", "alerts", "sink", "restart", "recovery")
SIZES = (1_000, 100_000, 1_000_000)
INDICATORS = (1_000, 1_000_000)
LINES_PER_MESSAGE = (100, 500)
QUICK = 4
"""With --quick there is a quarter of everything, and not the largest size."""
EXAMPLE = "Example:\n  python -m bench correlator --quick --json figures.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; gives the exit code."""
    given = _parser().parse_args(arguments)
    parts = given.parts or PARTS
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends us, the servers end too
    try:
        cases = run(parts, quick=given.quick, samples=given.samples)
    except KeyboardInterrupt:
        report_progress("stopped")
        return 130
    except (EmbeddedError, RuntimeError) as error:
        report_progress(str(error))
        return 1
    print(table(cases))
    if given.json:
        given.json.write_bytes(as_json(cases))
    return 0


def run(parts: Sequence[str], *, quick: bool, samples: Path | None = None) -> list[Case]:
    """Return all cases of these parts, those without servers first."""
    less = QUICK if quick else 1
    cases = _pure_cases(parts, less, samples, quick=quick)
    if "worker" in parts:
        for lines in LINES_PER_MESSAGE:
            with _folder() as folder, _broker(folder) as settings:
                cases.append(worker.run_case(settings, folder, lines, worker.EVENTS // less))
    if "alerts" in parts:
        with _folder() as folder, _broker(folder) as settings:
            cases += alerts.run_cases(settings, folder, alerts.EVENTS // less, alerts.COUNT // less)
    if "sink" in parts:
        with _folder() as folder, _broker(folder) as settings, _engine(folder) as engine:
            there = settings.model_copy(update={"clickhouse": engine.settings("bench")})
            cases.append(sink.run_case(there, folder, engine.pid, sink.ROWS // less))
    if "restart" in parts:
        less_open = 10 if quick else 1
        with _folder() as folder, _broker(folder) as settings:
            cases += restart.run_cases(settings, folder, restart.OPEN // less_open, restart.DEVICES // less_open)
    if "recovery" in parts:
        with _folder() as folder, _server(folder) as broker:
            cases += recovery.run_cases(broker, folder)
    return cases


def _pure_cases(parts: Sequence[str], less: int, samples: Path | None, *, quick: bool) -> list[Case]:
    """Return the cases that need no server."""
    cases: list[Case] = []
    if "dialects" in parts:
        cases += dialects.run_cases(dialects.LINES // less, samples)
    if "correlator" in parts:
        cases += correlator.run_cases(SIZES[:-1] if quick else SIZES, correlator.EVENTS // less)
    if "indicators" in parts:
        cases += indicators.run_cases([size // less for size in INDICATORS])
    if "storm" in parts:
        cases += storm.run_cases(storm.HITS // less)
    return cases


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="unproxy-bench-") as folder:
        yield Path(folder)


@contextmanager
def _server(folder: Path) -> Iterator[Broker]:
    report_progress("starting Kafka")
    broker = Broker(folder / "kafka", for_bench=True, login=False)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@contextmanager
def _broker(folder: Path) -> Iterator[Settings]:
    """A broker with all topics, and settings that lead there."""
    with _server(folder) as broker:
        kafka, data_dir = {"bootstrap": broker.bootstrap}, str(folder / "worker")
        settings = Settings.model_validate({"kafka": kafka, "worker": {"data_dir": data_dir}})
        create_topics(broker.settings, topics(settings))
        yield settings


@contextmanager
def _engine(folder: Path) -> Iterator[Engine]:
    report_progress("starting the ClickHouse engine")
    engine = Engine(folder / "clickhouse")
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the parts beside their floors, restarts and recovery times. Figures on stdout, progress on stderr.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=f"{', '.join(PARTS)} (all of them)"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything; the million connections are left out")
    parser.add_argument(
        "--samples", type=Path, metavar="FOLDER", help="dialects: their lines in the files there as well"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
