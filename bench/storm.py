"""A storm of requests that alerts count: how many messages leave, whether the counts are exact, and what it costs.

    python -m bench.storm --way blocked --each 1

runs one case and writes it as JSON. Each case is a process of its own: its memory is then its own, too. The floor is the same
number of the same lines for unlisted hosts, with the same indicators on the list.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from bench.child import child
from bench.figures import Case, report_progress
from bench.hits import Storm, Way, listed
from schemas.settings import Settings
from schemas.tables import AlertKind
from schemas.topics import TICK_DIALECT
from streams.alerts.policy import Policy
from streams.indicators.index import IndicatorSet
from streams.pipeline import Message, Pipeline
from streams.worker.gc_tuning import tune_collector

HOUSE = Path(__file__).resolve().parents[1]
HITS, DEVICES, DOMAINS, SECS = 1_000_000, 1_000, 100, 600
GAP_SECS_MIN = 60.0
"""Between two messages of one alert."""


class AlertMessage(msgspec.Struct):
    """What is looked at of an alert."""

    AlertId: str
    Version: int
    Kind: str
    DeviceId: str
    DestinationDomain: str
    Count: int


@dataclass(slots=True)
class Seen:
    """Alerts of one kind, as they left."""

    kind: str
    latest: dict[str, AlertMessage] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    """By AlertId."""
    shortest_gap_ms: float = float("inf")
    """Of the log's time, between two messages of one alert."""
    _at: dict[str, int] = field(default_factory=dict)
    _decode: msgspec.json.Decoder[AlertMessage] = field(default_factory=lambda: msgspec.json.Decoder(AlertMessage))

    def take(self, message: bytes, logged_ms: int) -> None:
        """One left at this time of the log. A version that was there before, as after a crash, is no news."""
        alert = self._decode.decode(message)
        before = self.latest.get(alert.AlertId)
        if alert.Kind != self.kind or (before is not None and alert.Version <= before.Version):
            return
        if before is not None:
            self.shortest_gap_ms = min(self.shortest_gap_ms, logged_ms - self._at[alert.AlertId])
        self.latest[alert.AlertId], self._at[alert.AlertId] = alert, logged_ms
        self.messages[alert.AlertId] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        """What is counted in the end for each device and domain."""
        return {(alert.DeviceId, alert.DestinationDomain): alert.Count for alert in self.latest.values()}


def pipeline_for(storm: Storm) -> Pipeline:
    """A pipeline that knows indicators for every domain of the storm where they are what counts it."""
    indicators = IndicatorSet()
    for one in listed(storm.domains if storm.way is not Way.BLOCKED else 0):
        indicators.put(one)
    settings = Settings()
    return Pipeline(settings.correlation, Policy(settings.protection, indicators))


def measure(storm: Storm) -> Case:
    """The storm from its first line to the last alert that was held back."""
    tune_collector()  # as the worker does
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    pipeline, seen = pipeline_for(storm), Seen(AlertKind.NOT_ENFORCED if storm.way is Way.HARMLESS else storm.way)
    used, lines, resident = 0.0, 0, 0
    waiting: list[Message] = []
    for message in storm.messages():
        waiting.append(message)
        if message.dialect == TICK_DIALECT:
            begun = time.process_time()
            made = []
            for one in waiting:
                pipeline.take(one)
                output = pipeline.drain()
                lines += output.lines
                made += [(alert, one.logged_ms) for _, alert in output.alerts]
            pipeline.checkpoint()
            used += time.process_time() - begun
            waiting.clear()
            for alert, logged_ms in made:
                seen.take(alert, logged_ms)
            resident = max(resident, process.memory_info().rss)
    expected = {} if storm.way is Way.HARMLESS else dict(storm.counts())
    counted = seen.counts()
    assert counted == expected, f"{storm.way}: the alerts count something else than was sent"
    figures: dict[str, float] = {"µs/line": used / lines * 1e6}
    if expected:
        figures |= {
            "hits": sum(expected.values()),
            "hits counted": sum(counted.values()),
            "alerts": len(seen.latest),
            "alerts with another count": sum(counted[what] != count for what, count in expected.items()),
            "messages": seen.messages.total(),
            "hits/message": sum(expected.values()) / seen.messages.total(),
            "messages of an alert at most": max(seen.messages.values()),
            "shortest gap of an alert, s": seen.shortest_gap_ms / 1_000,
        }
    figures |= {"lines": lines, "CPU seconds": used, "MB resident at most": (resident - before) / 1e6}
    return Case("storm", _name(storm.way, storm.domains_each), figures)


def run_cases(hits: int = HITS, devices: int = DEVICES, domains: int = DOMAINS) -> list[Case]:
    """Each device asks for one of the domains all the time, or for all of them one after the other; then what it costs."""
    cases = []
    for each in (1, domains):
        bare: Case | None = None
        for way in (Way.HARMLESS, Way.BLOCKED, Way.NOT_ENFORCED):
            report_progress(f"storm: {_name(way, each)}")
            command = [sys.executable, "-m", "bench.storm", "--way", way, "--each", str(each)]
            command += ["--hits", str(hits), "--devices", str(devices), "--domains", str(domains)]
            with child(command, stdout=subprocess.PIPE, cwd=HOUSE) as process:
                written, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the storm of {_name(way, each)} failed; its words are above")
            case = msgspec.json.decode(written, type=Case)
            bare = bare or case
            case.figures["times harmless"] = case.figures["µs/line"] / bare.figures["µs/line"]
            cases.append(case)
    return cases


def _name(way: Way, each: int) -> str:
    return f"{way}, {each:,} each"


def main() -> int:
    """One case, as JSON on stdout."""
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description="One case of the storm.")
    parser.add_argument("--way", type=Way, choices=list(Way), default=Way.BLOCKED, help="what becomes of the requests")
    parser.add_argument("--each", type=int, default=1, help="domains that a device asks for (default %(default)s)")
    parser.add_argument("--hits", type=int, default=HITS, help="requests of all (default %(default)s)")
    parser.add_argument("--devices", type=int, default=DEVICES, help="devices (default %(default)s)")
    parser.add_argument("--domains", type=int, default=DOMAINS, help="domains of all (default %(default)s)")
    given = parser.parse_args()
    case = measure(Storm(given.way, given.devices, given.domains, given.each, given.hits // given.devices, SECS))
    sys.stdout.buffer.write(msgspec.json.encode(case) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
