"""Verdicts of two network sensors on one flow: which are one request, and what its row contains."""

from __future__ import annotations

import pytest

from schemas.clock import MICROS
from schemas.events import Action, Event, Verdict
from streams.model.evidence import APART
from tests.factories import T0, World, connection, latest, verdict

PAGE = "http://bad.example/x"
APART_SECS = APART / MICROS


def by(sensor: str, at: float, tx: int = 0, action: Action = Action.AUDITED, target: str = PAGE) -> Verdict:
    """Make a verdict of Suricata ("s") or Zeek ("z") on the same flow."""
    return verdict(at, target, tx=tx, action=action, flow="C1" if sensor == "z" else "77")


def outcomes(*events: Event) -> list[tuple[float, object]]:
    """Return second and outcome of each verdict row, by time."""
    rows = latest(World().see(connection(0), *events).finish().verdicts)
    return sorted((round(float(str(row["Timestamp"])[17:-1]) - T0 % 60, 3), row["Outcome"]) for row in rows)


def test_verdicts_with_the_same_number_are_one_request_first() -> None:
    """The second sensor reports only the second request, which both saw as number 1."""
    assert outcomes(by("s", 0.1), by("s", 0.5, 1), by("z", 0.5, 1, Action.BLOCKED)) == [
        (0.1, "audited"),
        (0.5, "blocked"),
    ]


def test_a_request_has_at_most_one_verdict_of_each_sensor_beside_it() -> None:
    """The second sensor reports one more request than the first."""
    assert outcomes(by("s", 0.1), by("z", 0.1), by("z", 0.5, 1, Action.BLOCKED)) == [(0.1, "audited"), (0.5, "blocked")]


@pytest.mark.parametrize(("apart", "count"), [(APART_SECS, 1), (APART_SECS + 0.001, 2)])
def test_differently_numbered_verdicts_are_one_request_if_near(apart: float, count: int) -> None:
    """A sensor that missed the beginning of the flow numbers its requests differently."""
    assert len(outcomes(by("s", 0.1), by("z", 0.1 + apart, 1))) == count


def test_verdicts_on_two_hosts_are_two_requests() -> None:
    """They are near each other and have the same number."""
    assert outcomes(by("s", 0.1), by("z", 0.1, 0, Action.BLOCKED, "http://worse.example/")) == [
        (0.1, "audited"),
        (0.1, "blocked"),
    ]


def test_two_verdicts_of_one_name_are_one_row_with_both_outcomes() -> None:
    """Host and number are equal, but the times are not near: two rows would have one record id."""
    assert outcomes(by("s", 0.1), by("z", 0.1 + APART_SECS + 1, 0, Action.BLOCKED)) == [(0.1, "blocked")]
