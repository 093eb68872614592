"""Indicators alone: what it costs to look a destination up among so many of them, and what they take of memory.

    python -m bench.indicators --count 1000000

measures one case and writes it as JSON. Each case is a process of its own: its memory is then its own, too.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec
import psutil

from bench.child import child
from bench.figures import Case, report_progress
from schemas.indicators import Indicator, IndicatorAction, IndicatorType, indicator_id
from streams.indicators.index import IndicatorSet
from streams.worker.gc_tuning import tune_collector

HOUSE = Path(__file__).resolve().parents[1]
SEED = 7
DESTINATIONS = 200_000
REPEATS = 5
HIT_SHARE = 0.05
"""Of the destinations so many are ones that an indicator means; the others are like them, and match none."""
KINDS = (IndicatorType.DOMAIN,) * 12 + (IndicatorType.IP,) * 4 + (IndicatorType.URL,) * 3 + (IndicatorType.CIDR,)
"""Of twenty: what lists are made of."""

Asked = tuple[str, int, str, str, bool]
"""Host, port, URL, address, encrypted."""


def made(count: int) -> Iterator[Indicator]:
    """So many indicators, all different."""
    for number in range(count):
        type_ = KINDS[number % len(KINDS)]
        value = _value(type_, number)
        yield Indicator(
            indicator_id(type_, value, 0, "", ()),
            type_,
            value,
            (IndicatorAction.BLOCK, IndicatorAction.AUDIT)[number % 2],
            title="Campaign 7",
            category="CommandAndControl",
        )


def _value(type_: IndicatorType, number: int) -> str:
    match type_:
        case IndicatorType.DOMAIN:
            return f"{('www', 'cdn', 'x')[number % 3]}.n{number}.example"
        case IndicatorType.URL:
            return f"https://u{number}.example/path/{number}"
        case IndicatorType.IP:
            return _address(number)
        case IndicatorType.CIDR:
            return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"


def _address(number: int) -> str:
    return f"{11 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def asked(count: int, destinations: int) -> list[Asked]:
    """Destinations as the stream meets them: mostly names behind TLS, some plain URLs, some addresses."""
    random = Random(SEED)
    found: list[Asked] = []
    for _ in range(destinations):
        number = random.randrange(count)
        hit = random.random() < HIT_SHARE
        host = f"a.{_value(IndicatorType.DOMAIN, number)}" if hit else f"www.site{number}.other{number % 997}.test"
        address = _address(number if hit else number + (1 << 28))
        way = random.random()
        if way < 0.7:
            found.append((host, 443, "", address if way < 0.3 else "", True))
        elif way < 0.9:
            found.append((host, 80, f"http://{host}/a/b/c?d={number}", "", False))
        else:
            found.append((address, 443, "", address, True))
    return found


def measure(count: int, destinations: int, repeats: int) -> Case:
    """Fill in, then the best of some repeats over all destinations, and the floor: the names in a plain dict."""
    tune_collector()  # as the worker does
    questions = asked(count, destinations)
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    begun = time.monotonic()
    known = IndicatorSet()
    for one in made(count):
        known.put(one)
    filled = time.monotonic() - begun
    gc.collect()
    resident = process.memory_info().rss - before
    floor = {question[0]: 1 for question in questions[::2]}
    best, bare, hits = float("inf"), float("inf"), 0
    for _ in range(repeats):
        begun = time.process_time()
        hits = 0
        for host, port, url, ip, encrypted in questions:
            if known.match(host, port, url, ip, encrypted, 1, 1, ()):
                hits += 1
        best = min(best, time.process_time() - begun)
        begun = time.process_time()
        for host, _port, _url, _ip, _encrypted in questions:
            floor.get(host)
        bare = min(bare, time.process_time() - begun)
    figures = {
        "µs/destination": best / destinations * 1e6,
        "floor µs/destination": bare / destinations * 1e6,
        "times the floor": best / bare,
        "share that matches": hits / destinations,
        "MB resident": resident / 1e6,
        "resident bytes/indicator": resident / count,
        "µs/indicator put": filled / count * 1e6,
        "indicators": count,
    }
    return Case("indicators", f"{count:,}", figures)


def run_cases(counts: Sequence[int], destinations: int = DESTINATIONS, repeats: int = REPEATS) -> list[Case]:
    """Each number of indicators in a process of its own, one after the other."""
    cases = []
    for count in counts:
        report_progress(f"indicators: {count:,}")
        command = [sys.executable, "-m", "bench.indicators", "--count", str(count)]
        command += ["--destinations", str(destinations), "--repeats", str(repeats)]
        with child(command, stdout=subprocess.PIPE, cwd=HOUSE) as process:
            written, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the case of {count:,} indicators failed; its words are above")
        cases.append(msgspec.json.decode(written, type=Case))
    first = cases[0].figures["µs/destination"]
    for case in cases:
        case.figures[f"times the cost at {cases[0].name}"] = case.figures["µs/destination"] / first
    return cases


def main() -> int:
    """One case, as JSON on stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.indicators", description="One case of the indicators' bench."
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="indicators (default %(default)s)")
    parser.add_argument(
        "--destinations", type=int, default=DESTINATIONS, help="destinations of one repeat (default %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help="repeats; the best counts (default %(default)s)")
    given = parser.parse_args()
    case = measure(given.count, given.destinations, given.repeats)
    sys.stdout.buffer.write(msgspec.json.encode(case) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
