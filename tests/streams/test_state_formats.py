"""State that an older version of the code wrote is read, and leads to the right rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from schemas.settings import CorrelationSettings
from schemas.tables import NetworkEvent
from streams.pipeline import Message, Pipeline
from tests.factories import Row, as_row, latest
from tests.streams import state_story
from tests.streams.state_story import BLOCKED, DEPARTED, OPEN, UNNAMED

FORMAT_4 = Path(__file__).parents[1] / "data" / "state" / "format-4.jsonl"

NO_SENSORS = FORMAT_4.with_name("format-5-no-sensors.jsonl")


def rows(pipeline: Pipeline, messages: Iterable[Message]) -> list[Row]:
    """Return the versions of network rows that these messages make, with a checkpoint after each."""
    made: list[Row] = []
    for message in messages:
        pipeline.take(message)
        made += (as_row(row, NetworkEvent) for row in pipeline.drain().network_events)
        pipeline.checkpoint()
    return made


def of(made: list[Row], port: int) -> list[Row]:
    """Return the latest versions of a connection's rows."""
    return [row for row in latest(made) if row["LocalPort"] == port]


def test_state_of_format_4_goes_on() -> None:
    """Open connections get the rows of a worker that was not updated; departed ones have no tombstone."""
    before, after = state_story.story()
    written = state_story.entries(FORMAT_4)
    assert {msgspec.msgpack.decode(value)[0] for _, value in written} == {4}

    updated, unbroken = Pipeline(CorrelationSettings()), Pipeline(CorrelationSettings())
    updated.restore(written)
    made_before = rows(unbroken, before)
    made, expected = made_before + rows(updated, after), made_before + rows(unbroken, after)
    for port in (BLOCKED, OPEN, UNNAMED):
        assert of(made, port) == of(expected, port)
    hops = [row for row in latest(made) if row["Layer"] == "connection"]
    assert [(row["LocalPort"], row["Outcome"]) for row in hops if row["LocalPort"] in {BLOCKED, OPEN, UNNAMED}] == [
        (BLOCKED, "blocked"),
        (OPEN, "allowed"),
        (UNNAMED, "allowed"),
    ]

    # The one second row that docs/design/bounds.md documents: the old format has no tombstones.
    assert [row["Outcome"] for row in hops if row["LocalPort"] == DEPARTED] == ["blocked", "unknown"]
    assert len([row for row in of(expected, DEPARTED) if row["Layer"] == "connection"]) == 1
    assert (updated.book()["late"], unbroken.book()["late"]) == (1, 2)


def test_state_without_sensors_goes_on() -> None:
    """Records without a sensor field, whose ids imply it, get the rows of a worker that was not updated."""
    before, after = state_story.several()
    updated, unbroken = Pipeline(CorrelationSettings()), Pipeline(CorrelationSettings())
    updated.restore(state_story.entries(NO_SENSORS))
    made_before = rows(unbroken, before)
    expected = rows(unbroken, after)

    assert rows(updated, after) == expected
    assert updated.book() == unbroken.book()
    merged = [
        row
        for row in latest(made_before + expected)
        if row["Layer"] == "connection" and "FlowIds" in str(row["AdditionalFields"])
    ]
    assert {row["LocalPort"] for row in merged} == {DEPARTED, BLOCKED}
