"""Every row of every sample and of simulated worlds equals the offline join's row."""

from __future__ import annotations

from collections import Counter

import pytest

from producers.simulation import WorldSettings
from schemas.events import Event
from tests.check.offline_join import rows
from tests.check.worlds import SAMPLES, differences, recorded, simulated
from tests.factories import Row, connection, request


def known(events: list[Event]) -> list[Row]:
    """Return the offline join's rows of one device's events."""
    return list(rows("dev-1", events))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    """For each sample, the stream and the offline join give the same rows."""
    apart: Counter[str] = Counter()
    for world in recorded(SAMPLES[name]):
        apart += differences(*world.both())

    assert apart == {}


@pytest.mark.parametrize("gaps", [False, True], ids=["all is seen", "with gaps"])
@pytest.mark.parametrize("seed", range(1, 4))
def test_simulated_worlds(seed: int, gaps: bool) -> None:
    """For simulated worlds too, the stream and the offline join give the same rows."""
    settings = WorldSettings(seed=seed, devices=8, lines_per_sec=500, duration_secs=15, flow_timeout_secs=4, gaps=gaps)

    assert differences(*simulated(settings).both()) == {}


def test_a_process_follows_its_port_to_the_next_connection() -> None:
    """In the offline join a request on a reused port belongs to the second connection and its process."""
    events: list[Event] = [
        connection(0, pid=1, ended=0.1),
        connection(20, pid=2, ended=21),
        request(20.1, "http://a.example/"),
    ]
    (destination,) = [row for row in known(events) if row["layer"] == "destination"]

    assert (destination["host"], destination["process"], destination["outcome"]) == ("a.example", 2, "allowed")


def test_every_difference_is_seen() -> None:
    """The comparison reports a missing row, an extra row, and each field that differs."""
    connected, asked = known([connection(0), request(0.1)])

    assert differences([connected, asked], [asked, connected]) == {}
    assert differences([connected], [connected, asked]).total() == 1
    assert differences([connected, asked], [connected]).total() == 1
    for name, value in (("process", 7), ("outcome", "blocked"), ("by", "sni"), ("mismatch", "x"), ("requests", 9)):
        (difference,) = differences([connected, {**asked, name: value}], [connected, asked])

        assert difference.startswith(f"destination: {name} is {value}, offline ")
    (difference,) = differences([{**connected, "reason": "ambiguous"}], [connected])
    assert difference.startswith("connection: reason is ambiguous, offline  ('dev-1', '10.0.0.7 40000 ")
