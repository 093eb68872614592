"""The oracle: what a disturbed run left behind, held against the very same log worked through in peace.

accounted    every line that a sensor wrote is in the log; every message of the log is acknowledged
the same     the rows, verdicts, alerts and rejects on the topics are those of one undisturbed pipeline over that log,
             byte for byte; none is missing, none is there that should not be
once         hunters see each of them once, with the content of its latest version
the truth    no row claims a destination that the simulated fleet did not reach
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import to_builtins

from schemas.columns import columns
from schemas.settings import Settings
from schemas.tables import TABLES
from schemas.topics import (
    BLOCK_ALERTS,
    DEVICE_COVERAGE,
    DEVICE_EVENTS,
    NETWORK_EVENTS,
    PROTECTION_MODES,
    REJECTS,
    SENSOR_GAPS,
    STATE_CHANGELOG,
    TABLE_OF_TOPIC,
    TELEMETRY,
)
from streams.pipeline import Message, Output, Pipeline
from tests.faults.wishes import policy_of
from tests.sample import score
from tests.streams.model.test_snapshot import state_of
from tests.streams.worker.worker_process import PARTITIONS, committed, read_all
from tests.test_whole_path import ask

SHOWN_MAX = 3
EXAMPLE_CHARS_MAX = 4_000
KEYS = {"BlockAlerts": "AlertId"}
Row = dict[str, Any]


@dataclass
class Verdict:
    """What is wrong; nothing is when every count is zero."""

    lines: int = 0
    rows: int = 0
    lost: int = 0
    extra: int = 0
    doubled_for_hunters: int = 0
    differing_for_hunters: int = 0
    wrong: int = 0
    wrong_state: int = 0
    """Devices."""
    requests: int = 0
    """Of the simulated fleet, those whose port is certain."""
    right: int = 0
    """Of these, those whose destination stands on a row of their connection."""
    published_twice: int = 0
    """Rows on the topics more than once: allowed, as at least once is what is promised there."""
    stored_twice: int = 0
    """Rows in the tables of versions more than once: allowed, hidden by the views."""
    details: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing lost, nothing doubled, nothing wrong."""
        return not (
            self.lost
            or self.extra
            or self.doubled_for_hunters
            or self.differing_for_hunters
            or self.wrong
            or self.wrong_state
            or self.details
        )

    def add(self, what: str, examples: Iterable[object]) -> None:
        """Note some examples of what is wrong."""
        self.details.extend(
            f"{what}: {str(example)[:EXAMPLE_CHARS_MAX]}"
            for example, _ in zip(examples, range(SHOWN_MAX), strict=False)
        )


def lines_in_the_log(settings: Settings) -> Counter[bytes]:
    """Every line on the telemetry topic, and how often."""
    return Counter(
        line for raw in read_all(settings, TELEMETRY) for line in (raw.value() or b"").split(b"\n") if line.strip()
    )


def missing_lines(settings: Settings, written: Counter[bytes]) -> Counter[bytes]:
    """Lines that a sensor wrote and that are not in the log as often."""
    return written - lines_in_the_log(settings)


def judge(settings: Settings, written: Counter[bytes]) -> Verdict:
    """Everything but the truth, which `judge_truth` adds."""
    verdict = Verdict(lines=written.total())
    found_lines = lines_in_the_log(settings)
    lost = written - found_lines
    strange = [line for line in found_lines if line not in written]
    verdict.lost += lost.total()
    verdict.extra += len(strange)
    verdict.add("line not in the log", lost)
    verdict.add("line in the log that no sensor wrote", strange)
    must, may = _undisturbed(settings)
    _same_state(settings, verdict)
    for topic, table in TABLE_OF_TOPIC.items():
        found = Counter(_found(settings, topic))
        missing = [row for row in must[topic] if row not in found]
        extra = [row for row in found if row not in must[topic] and row not in may[topic]]
        verdict.rows += len(found)
        verdict.lost += len(missing)
        verdict.extra += len(extra)
        verdict.published_twice += found.total() - len(found)
        verdict.add(f"missing on {topic}", missing)
        verdict.add(f"strange on {topic}", extra)
        if topic == REJECTS:
            _same_number(settings, table, read_all(settings, topic), verdict)
        else:
            _same_for_hunters(settings, table, found, verdict)
    return verdict


def _undisturbed(settings: Settings) -> tuple[dict[str, set[bytes]], dict[str, set[bytes]]]:
    """What the log must give, and what it may: a worker may be ended between its results and its commit."""
    done = committed(settings)
    policy = policy_of(settings)
    pipelines = {partition: Pipeline(settings.correlation, policy) for partition in range(PARTITIONS)}
    must: dict[str, set[bytes]] = {topic: set() for topic in TABLE_OF_TOPIC}
    may: dict[str, set[bytes]] = {topic: set() for topic in TABLE_OF_TOPIC}
    for raw in read_all(settings, TELEMETRY):
        offset, partition = raw.offset(), raw.partition()
        assert offset is not None
        assert partition is not None
        pipeline = pipelines[partition]
        pipeline.take(message(raw))
        into = must if offset < done[partition] else may
        for topic, rows in _by_topic(pipeline.drain()):
            into[topic].update(rows)
    return must, may


def _same_state(settings: Settings, verdict: Verdict) -> None:
    """The state restored from the changelog equals that of a pipeline that has read as far."""
    entries: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
    for raw in read_all(settings, STATE_CHANGELOG):
        entries[raw.partition() or 0][raw.key() or b""] = raw.value() or b""
    policy = policy_of(settings)
    kept = [Pipeline(settings.correlation, policy) for _ in range(PARTITIONS)]
    peaceful = [Pipeline(settings.correlation, policy) for _ in range(PARTITIONS)]
    done = committed(settings)
    ends = []
    for partition, pipeline in enumerate(kept):
        pipeline.restore(entries[partition].items())
        # A worker may be ended between its state and its commit.
        reached = max((device.state.offset for device in pipeline.devices.values()), default=-1)
        ends.append(max(done[partition], reached + 1))
    for raw in read_all(settings, TELEMETRY):
        partition, offset = raw.partition() or 0, raw.offset() or 0
        if offset < ends[partition]:
            peaceful[partition].take(message(raw))
    for found, wanted in zip(kept, peaceful, strict=True):
        one, other = state_of(found), state_of(wanted)
        wrong = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        verdict.wrong_state += len(wrong)
        verdict.add("state of a device differs", [_apart(one.get(name), other.get(name)) for name in wrong])


def _apart(one: tuple[object, ...] | None, other: tuple[object, ...] | None) -> str:
    """What of a device is known in one of two states, or otherwise than in the other."""
    if one is None or other is None:
        return "the device is known in one of them only"
    (items, *rest), (wanted, *facts) = one, other
    assert isinstance(items, dict)
    assert isinstance(wanted, dict)
    named = [name for name in items.keys() | wanted.keys() if items.get(name) != wanted.get(name)]
    differences = [f"{name}: {items.get(name)!r} INSTEAD OF {wanted.get(name)!r}" for name in sorted(named)]
    return "; ".join([*differences, f"facts {rest} INSTEAD OF {facts}"] if rest != facts else differences)


def _by_topic(output: Output) -> Iterator[tuple[str, Iterable[bytes]]]:
    yield NETWORK_EVENTS, output.network_events
    yield DEVICE_EVENTS, output.device_events
    yield BLOCK_ALERTS, (alert for _, alert in output.alerts)
    yield REJECTS, (reject.raw for reject in output.rejects)
    yield SENSOR_GAPS, output.sensor_gaps
    yield DEVICE_COVERAGE, output.coverage
    yield PROTECTION_MODES, output.modes


def _found(settings: Settings, topic: str) -> Iterator[bytes]:
    for made in read_all(settings, topic):
        value = made.value() or b""
        yield from (value,) if topic == REJECTS else value.split(b"\n")


def _same_for_hunters(settings: Settings, table: str, found: Counter[bytes], verdict: Verdict) -> None:
    """The view shows each identity once, with the content of its latest version."""
    key = KEYS.get(table, "RecordId")
    wanted = {row[key]: _content(row) for row in _seen(table, [json.loads(row) for row in found], key, verdict)}
    names = ", ".join(f"`{column.name}`" for column in columns(TABLES[table]))
    rows = [_content(row) for row in ask(settings, f"select {names} from {table}")]
    seen = {row[key]: row for row in rows}
    doubled = [identity for identity, times in Counter(row[key] for row in rows).items() if times > 1]
    apart = [identity for identity in wanted.keys() | seen.keys() if wanted.get(identity) != seen.get(identity)]
    stored = str(ask(settings, f"select count() as n from {table}_versions")[0]["n"])
    verdict.doubled_for_hunters += len(doubled)
    verdict.differing_for_hunters += len(apart)
    verdict.stored_twice += max(int(stored) - found.total(), 0)
    verdict.add(f"twice in {table}", doubled)
    verdict.add(f"differs in {table}", [(wanted.get(identity), seen.get(identity)) for identity in apart])


def _seen(table: str, rows: list[Row], key: str, verdict: Verdict) -> list[Row]:
    """What the view makes of the versions of its rows."""
    if table != "DeviceCoverage":
        return [row for row in _latest(rows, key, verdict) if row.get("Status") not in {"filled", "withdrawn"}]
    merged: dict[str, Row] = {}
    for row in rows:
        other = merged.setdefault(row[key], dict(row))
        other["FirstTime"] = min(other["FirstTime"], row["FirstTime"])
        other["LastTime"] = max(other["LastTime"], row["LastTime"])
        other["DeviceName"] = max(other["DeviceName"], row["DeviceName"])
    return list(merged.values())


def _latest(rows: list[Row], key: str, verdict: Verdict) -> list[Row]:
    """Of rows with one identity the one with the highest version; two that differ must not share a version."""
    found: dict[object, Row] = {}
    for row in rows:
        old = found.get(row[key])
        if old is not None and old != row and old["Version"] == row["Version"]:
            verdict.extra += 1
            verdict.add("one version, two contents", [(old, row)])
        if old is None or row["Version"] >= old["Version"]:
            found[row[key]] = row
    return list(found.values())


def _same_number(settings: Settings, table: str, messages: list[Any], verdict: Verdict) -> None:
    """A reject's identity is its place in the topic, so there are as many rows as messages."""
    seen = int(str(ask(settings, f"select count() as n from {table}")[0]["n"]))
    if seen != len(messages):
        verdict.differing_for_hunters += abs(seen - len(messages))
        verdict.add(f"{table} has {seen} rows, the topic {len(messages)}", [""])


def judge_truth(settings: Settings, truth: list[Row], verdict: Verdict) -> None:
    """No row of the table claims a destination that was not reached."""
    result = score(ask(settings, "select * from DeviceNetworkEvents"), truth)
    verdict.wrong += result.wrong + result.wrong_rows
    verdict.requests, verdict.right = result.requests, result.right


def message(raw: Any) -> Message:
    """A message of the log as the worker reads it."""
    return Message.read(raw.offset(), raw.timestamp()[1], raw.key(), raw.value(), dict(raw.headers() or ()))


def _content(row: object) -> Row:
    """Without what is empty, which the topic leaves out and the table does not."""
    content: Row = to_builtins(row)
    return {name: value for name, value in content.items() if value not in ("", None, [])}
