"""The sample: three hosts behind two proxies, recorded by Suricata and the kernel; the proxies' logs are the truth."""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from schemas.clock import MICROS, parse_micros
from schemas.parsers import dialects
from tests.factories import Row

DATA = Path(__file__).parent / "data" / "suricata"
TRUTH = DATA / "truth.jsonl"
SQUID_LOG = DATA.parent / "proxylogs" / "squid-sample.jsonl.gz"
SAMPLE_FILES = [
    *(("suricata", DATA / f"dev-{letter}.eve.json.gz") for letter in "abc"),
    ("sockets", DATA / "sockets.jsonl.gz"),
]
REACHED = {"allowed", "audited", "warned", "bypassed"}
NEAR: int = MICROS // 2


class SampleLine(NamedTuple):
    """One line of the sample with the headers that the publisher adds."""

    at: int
    dialect: str
    device: str
    value: bytes


def sample(*, kernel: bool = True) -> list[SampleLine]:
    """Return all lines in the order of arrival, with or without the kernel's records."""

    def lines(dialect: str, path: Path) -> Iterator[SampleLine]:
        known = dialects()[dialect]
        last = 0
        with gzip.open(path) as file:
            for raw in file:
                value = raw.rstrip(b"\n")
                last = max(last, known.written_at(value))
                yield SampleLine(last, dialect, known.device_of(value), value)

    files = [(dialect, path) for dialect, path in SAMPLE_FILES if kernel or dialect != "sockets"]
    return list(heapq.merge(*(lines(*file) for file in files), key=lambda line: line.at))


class Score(NamedTuple):
    """Counts of rows compared with the truth."""

    requests: int
    right: int
    wrong: int
    wrong_rows: int
    process_wrong: int
    connection_rows: dict[int, int]
    outcomes: dict[tuple[str, str], int]


def score(rows: Iterable[Row], truth: Iterable[Row] | None = None) -> Score:
    """Count the true requests (default: the sample's) that have a row, and the rows of requests that were never made."""
    requests: list[Any] = (
        [json.loads(line) for line in TRUTH.read_text().splitlines()] if truth is None else list(truth)
    )
    certain = [t for t in requests if _is_certain(t)]
    vague = {(t["device"], t["host"], t["port"]) for t in requests if not _is_certain(t)}
    by_tuple: dict[tuple[object, ...], list[Row]] = {}
    hops: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        local = (row["DeviceName"], row["LocalIP"], row["LocalPort"])
        if row["Layer"] == "destination":
            by_tuple.setdefault((*local, row["ProxyIP"], row["ProxyPort"]), []).append(row)
        else:
            hops.setdefault((*local, row["RemoteIP"], row["RemotePort"]), []).append(row)
    starts: dict[tuple[object, ...], set[int]] = {}
    asked: dict[tuple[tuple[object, ...], int], set[tuple[str, int]]] = {}
    for t in certain:
        key = _tuple(t)
        starts.setdefault(key, set()).add(_start(t))
        asked.setdefault((key, _start(t)), set()).add((t["host"], t["port"]))

    def own(key: tuple[object, ...], start: int, found: Iterable[Row]) -> list[Row]:
        mine = []
        for row in found:
            at = parse_micros(str(row["ConnectionTime"]))
            if abs(at - start) <= NEAR and min(starts[key], key=lambda other: abs(other - at)) == start:
                mine.append(row)
        return mine

    right = wrong = process_wrong = 0
    false_rows: set[object] = set()
    outcomes: dict[tuple[str, str], int] = {}
    for t in certain:
        key, start = _tuple(t), _start(t)
        mine = own(key, start, by_tuple.get(key, ()))
        match = [r for r in mine if (r["DestinationHost"], r["DestinationPort"]) == (t["host"], t["port"])]
        claims = [
            r
            for r in mine
            if r["Outcome"] in REACHED
            and (r["DestinationHost"], r["DestinationPort"]) not in asked[key, start]
            and (t["device"], r["DestinationHost"], r["DestinationPort"]) not in vague
        ]
        false_rows |= {r["RecordId"] for r in claims}
        right += bool(match)
        wrong += not match and bool(claims)
        for r in match[:1]:
            process_wrong += r["InitiatingProcessId"] != t.get("pid")
            pair = (t["verdict"], str(r["Outcome"]))
            outcomes[pair] = outcomes.get(pair, 0) + 1
    counted: dict[int, int] = {}
    for place, begun in asked:
        number = len(own(place, begun, hops.get(place, ())))
        counted[number] = counted.get(number, 0) + 1
    return Score(len(certain), right, wrong, len(false_rows), process_wrong, counted, outcomes)


def _is_certain(t: Row) -> bool:
    """Return whether the truth names its connection."""
    return bool(t.get("client_port")) and t.get("port_certain") is not False


def _tuple(t: Row) -> tuple[object, ...]:
    return (t["device"], t["client_ip"], t["client_port"], t["proxy_ip"], t["proxy_port"])


def _start(t: Row) -> int:
    return parse_micros(str(t.get("conn_start") or t["ts"]))
