"""Simulated lines are written as the real tools write them, and the dialects read every one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from producers.simulation import SimulatedLine, WorldSettings, simulate
from producers.simulation.eve import Pair
from producers.simulation.fleet import remote
from schemas.events import ConnectionOpened, FlowSummary, HttpExchange, Ignored, Reject, TlsName, Verdict
from schemas.parsers import dialects
from tests.sample import sample

CUT_SHORT = {"stats"}
"""Records that no parser reads, of which only the beginning is written."""


@pytest.fixture(scope="module")
def lines() -> list[SimulatedLine]:
    """A world with all that sensors write."""
    return list(
        simulate(
            WorldSettings(seed=11, devices=40, lines_per_sec=3_000, duration_secs=15, flow_timeout_secs=3, gaps=True)
        )
    )


def test_every_line_is_read(lines: list[SimulatedLine]) -> None:
    """No line is rejected; it names its device and when it was written; all kinds of events come out."""
    known = dialects()
    kinds = set()
    for line in lines:
        dialect = known[line.dialect]
        parsed = dialect.parse(line.value)
        assert not isinstance(parsed, Reject), line
        assert dialect.device_of(line.value) == parsed.device == line.device
        assert dialect.written_at(line.value)
        kinds.add(type(parsed))

    assert kinds == {ConnectionOpened, FlowSummary, HttpExchange, TlsName, Verdict, Ignored}


def shapes(values: Iterable[bytes]) -> dict[tuple[str, str], set[tuple[str, ...]]]:
    """The keys of each kind of record and of each object in it, in their order."""
    found: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for value in values:
        for name, keys in _objects(json.loads(value)):
            found.setdefault(name, set()).add(keys)
    return found


def _objects(record: dict[str, Any]) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    kind = record.get("event_type", "connection")
    if kind in CUT_SHORT or (kind != "dns" and record.get("proto") == "UDP"):
        return
    yield (kind, ""), tuple(record)
    for name, part in record.items():
        if isinstance(part, dict):
            yield (kind, name), tuple(part)


def test_written_as_the_real_sensors_write(lines: list[SimulatedLine]) -> None:
    """Each object has keys that a real one has, in the same order; it may lack some (no answer, no flag)."""
    real = shapes(line.value for line in sample())

    for name, made in shapes(line.value for line in lines).items():
        for keys in made:
            assert any(is_part(keys, whole) for whole in real[name]), (name, keys)


def is_part(keys: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Whether the keys stand in the same order in the whole."""
    rest = iter(whole)
    return all(key in rest for key in keys)


def test_community_id_is_that_of_the_sensors() -> None:
    """The same flows as in the sample have the same Community ID, IPv4 and IPv6."""
    local, proxy = remote("198.51.100.11", 0), remote("198.51.100.80", 3128)
    assert Pair(local, proxy).community_id(45_812) == "1:0k3xWJ6HSDifnXTWdv8yJTqesk0="

    local, proxy = remote("2001:db8:51::11", 0), remote("2001:db8:51::80", 3128)
    assert Pair(local, proxy).community_id(47_040) == "1:+zCgIsDrNz402tVZZHISFfvRXHE="
