"""Hunts and timelines over a table with many rows, with the table's keys, indexes and projections and without them.

The rows are generated in ClickHouse (`rows.sql`): the simulated fleet's mix, 30 days of 2,000 devices. They are inserted
in order of time, as a sink inserts them; one of twenty is written again with a higher version, in a later insert. Merges are
held, so that every run has the same parts. Figures: the shortest of several runs, and the rows and bytes that ClickHouse read,
which are the same on every machine. `times without` is the time of the same query with `PLAIN`, divided by the time with the
table's own order. `--folder` keeps the filled database for another run.

    python -m bench.hunting --rows 10000000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Case, as_json, report_progress, table
from schemas.columns import columns
from schemas.ddl import VERSIONS
from schemas.settings import Settings
from schemas.tables import TABLES
from sinks.clickhouse import ClickHouseSink
from unproxy import wiring
from unproxy.local.servers.engine import Engine
from unproxy.query import timeline
from unproxy.query.client import Client, of_settings
from unproxy.query.hunt import Hunt, Limits, prepared

ROWS = 100_000_000
BLOCK_ROWS = 5_000_000
DEVICES = 2_000
DAYS = 30
RUNS = 5
INSERT_ROWS = 500_000
INSERT_BATCH = 50_000
SECS_MAX = 600
DATABASE = "bench"
TABLE = "DeviceNetworkEvents"
FROM, UNTIL = "2026-11-15T00:00:00Z", "2026-11-16T00:00:00Z"
DAY = f"Timestamp >= datetime({FROM}) and Timestamp < datetime({UNTIL})"
DOMAIN = f'DeviceNetworkEvents | where {DAY} | where RemoteUrl has "{{}}" | summarize count() by DeviceName'
SUCCESS = 'DeviceNetworkEvents | where ActionType == "ConnectionSuccess"'
PLAIN = {"use_primary_key": "0", "use_skip_indexes": "0", "optimize_use_projections": "0"}
"""Settings by which ClickHouse reads a table as if it had no key, no index and no projection."""
KQL = {
    "success": f"{SUCCESS} | take 10",
    "not the proxy": f'{SUCCESS} and RemoteIP != "10.250.0.10" | take 10',
    "rare domain, a day": DOMAIN.format("bad3.example"),
    "usual domain, a day": DOMAIN.format("good7.example"),
    "first seen, a device": 'FirstSeenDomains | where DeviceId == "ws-00077"',
}


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of a query."""

    secs: float
    rows_read: int
    bytes_read: int
    rows: int


def fill(client: Client, rows: int, *, block_rows: int = BLOCK_ROWS, days: int = DAYS, devices: int = DEVICES) -> None:
    """Insert rows, and with each block the corrections of the one before it."""
    place = f"{TABLE}{VERSIONS}"
    names = ", ".join(_generated())
    settings = {
        "max_insert_block_size": str(2 * block_rows),
        "min_insert_block_size_rows": str(2 * block_rows),
        "min_insert_block_size_bytes": "0",
        "optimize_on_insert": "0",
    }
    began = time.monotonic()
    for first in range(0, rows + block_rows, block_rows):
        new = _selected(first, min(first + block_rows, rows), rows, 1, days, devices) if first < rows else ""
        again = _selected(first - block_rows, min(first, rows), rows, 2, days, devices) if first else ""
        selects = " UNION ALL ".join(f"SELECT * FROM ({one})" for one in (new, again) if one)
        list(client.lines(f"INSERT INTO {place} ({names}) {selects}", output="Null", settings=settings))
        report_progress(f"hunting: {min(first + block_rows, rows):,} rows, {time.monotonic() - began:.0f} s")


def _generated() -> list[str]:
    """Return the columns that the generator fills, in its order."""
    known = {column.name for column in columns(TABLES[TABLE])}
    words = _generator().rpartition("\nSELECT\n")[2].split(" AS ")
    return [name for word in words[1:] if (name := word.split()[0].rstrip(",")) in known]


def _generator() -> str:
    return resources.files("bench.hunting").joinpath("rows.sql").read_text(encoding="utf-8")


def _selected(first: int, last: int, total: int, version: int, days: int, devices: int) -> str:
    """Return the SELECT of the rows with these numbers; ClickHouse's parameters cannot differ between two parts of a query."""
    values = {"first": first, "last": last, "total": total, "version": version, "days": days, "devices": devices}
    text = "\n".join(line for line in _generator().splitlines() if not line.startswith("--"))
    for name, value in values.items():
        for kind in ("UInt64", "UInt32"):
            text = text.replace(f"{{{name}:{kind}}}", f"to{kind}({value})")
    return text


def measured(
    client: Client, sql: str, settings: Mapping[str, str], parameters: Mapping[str, object] | None = None
) -> Cost:
    """Run a query once."""
    began = time.monotonic()
    body = b"".join(client.chunks(sql, output="JSONCompact", settings=settings, parameters=parameters))
    secs = time.monotonic() - began
    found = json.loads(body)
    statistics = found["statistics"]
    return Cost(secs, statistics["rows_read"], statistics["bytes_read"], found["rows"])


def run_cases(client: Client, rows: int, *, runs: int = RUNS, compare: bool = True) -> list[Case]:
    """Return a case for each query."""
    limits = Limits(secs=SECS_MAX, memory_mb=12_000)
    questions: dict[str, tuple[str, Mapping[str, object] | None]] = {
        name: (prepared(client, Hunt(text, limits=limits)).sql, None) for name, text in KQL.items()
    }
    questions["timeline of a day"] = timeline.question(timeline.Wanted("ws-00077", since=FROM, until=UNTIL))
    cases = []
    for name, (sql, parameters) in questions.items():

        def run(more: Mapping[str, str], sql: str = sql, parameters: Mapping[str, object] | None = parameters) -> Cost:
            return measured(client, sql, {**limits.settings(), **more}, parameters)

        cases.append(Case("hunting", name, {"rows": rows, **_figures(run, runs, compare=compare)}))
        report_progress(f"hunting: {name}: {cases[-1].figures}")
    return cases


def _figures(run: Callable[[Mapping[str, str]], Cost], runs: int, *, compare: bool) -> dict[str, float]:
    costs = [run({}) for _ in range(runs)]
    best = min(costs, key=lambda cost: cost.secs)
    found = {
        "ms": best.secs * 1000,
        "ms, the first run": costs[0].secs * 1000,
        "rows read": best.rows_read,
        "MB read": best.bytes_read / 1e6,
        "rows found": best.rows,
    }
    if compare:
        plain = run(PLAIN)
        assert plain.rows == best.rows, "the same query has another result without indexes"
        found |= {"times without": plain.secs / best.secs, "rows read without": plain.rows_read}
    return found


def insert_case(engine: Engine, rows: int = INSERT_ROWS) -> Case:
    """Insert the same rows by the sink into a table with its projections and into one without, in turns."""
    sinks = {}
    for name in ("with", "without"):
        settings = Settings(clickhouse=engine.settings(f"insert_{name}", timeout_secs=SECS_MAX))
        list(of_settings(settings).lines(f"DROP DATABASE IF EXISTS insert_{name} SYNC", output="Null"))
        wiring.migrate(settings)
        client = of_settings(settings)
        if name == "without":
            for projection in ("by_day", "by_hash"):
                list(
                    client.lines(f"ALTER TABLE {TABLE}{VERSIONS} DROP PROJECTION IF EXISTS {projection}", output="Null")
                )
        sinks[name] = ClickHouseSink(settings.clickhouse)
    selected = _selected(0, rows, rows, 1, 1, 200)
    lines = list(
        client.lines(selected, output="JSONEachRow", settings={"output_format_json_quote_64bit_integers": "0"})
    )
    secs = dict.fromkeys(sinks, 0.0)
    for first in range(0, rows, INSERT_BATCH):
        for name, sink in sinks.items():
            began = time.monotonic()
            sink.write(TABLE, lines[first : first + INSERT_BATCH], f"{name} {first}")
            secs[name] += time.monotonic() - began
    for sink in sinks.values():
        sink.close()
    figures = {f"rows/s, projections {name}": rows / took for name, took in secs.items()}
    return Case("inserts", "by the sink", figures | {"times without": secs["with"] / secs["without"]})


def main() -> int:
    """Fill a database, unless the folder has one, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.hunting", description="Hunts over many rows.")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows (default %(default)s; 100 million take 30 GB)")
    parser.add_argument("--folder", type=Path, help="keep the database here, and use it if it is there")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each query (default %(default)s)")
    parser.add_argument("--no-compare", action="store_true", help="leave out the runs without indexes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="unproxy-bench-") as temporary:
        engine = Engine(given.folder or Path(temporary))
        engine.start()
        try:
            settings = Settings(clickhouse=engine.settings(DATABASE, timeout_secs=SECS_MAX))
            wiring.migrate(settings)
            client = of_settings(settings)
            list(client.lines(f"SYSTEM STOP MERGES {TABLE}{VERSIONS}", output="Null"))
            if not client.rows(f"SELECT 1 FROM {TABLE}{VERSIONS} LIMIT 1"):
                fill(client, given.rows)
            cases = run_cases(client, given.rows, runs=given.runs, compare=not given.no_compare)
            cases.append(insert_case(engine))
        finally:
            engine.stop()
    print(table(cases))
    if given.json:
        given.json.write_bytes(as_json(cases))
    return 0


if __name__ == "__main__":
    sys.exit(main())
