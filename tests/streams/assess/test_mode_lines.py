"""The history of modes from Defender's lines and from settings, through the whole pipeline, in any order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import pytest

from schemas.clock import iso_micros
from schemas.events import ModeEvidence, ProtectionMode
from schemas.settings import CorrelationSettings, ProtectionSettings
from schemas.tables import ModeSpan, ModeStatus, NetworkEvent
from streams.alerts.policy import Policy
from streams.pipeline import Message, Pipeline
from tests.factories import Row, as_row, latest, micros
from tests.windows_lines import connection_line, mode_line

BLOCK, AUDIT, OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF
DEFENDER = ModeEvidence.DEFENDER_SETTING
SETTINGS = ProtectionSettings(groups=("servers=srv-*",), modes=("ws-2=block", "WS-3=audit", "@servers=off"))
CHANGES = {
    100: mode_line("ws-1", 100, AUDIT, OFF),
    200: mode_line("ws-1", 200, BLOCK, AUDIT),
    300: mode_line("ws-1", 300, OFF, BLOCK),
    400: mode_line("ws-1", 400, BLOCK, OFF),
}
OPENED = (50, 150, 250, 350, 450)


class History:
    """The tables after these lines."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        pipeline = Pipeline(CorrelationSettings(), Policy(SETTINGS))
        self.modes: list[Row] = []
        self.rows: list[Row] = []
        for offset, line in enumerate(lines, 1):
            pipeline.take(Message(offset, 0, b"collector", line, "winlog"))
            self._keep(pipeline)
        pipeline.finish()
        self._keep(pipeline)

    def _keep(self, pipeline: Pipeline) -> None:
        made = pipeline.drain()
        assert not made.rejects
        self.modes += (as_row(row, ModeSpan) for row in made.modes)
        self.rows += (as_row(row, NetworkEvent) for row in made.network_events)

    def history(self, device: str) -> list[tuple[Any, ...]]:
        """The rows of ProtectionModes that are shown."""
        shown = [
            row for row in latest(self.modes) if row["Status"] != ModeStatus.WITHDRAWN and row["DeviceId"] == device
        ]
        shown.sort(key=lambda row: str(row["FromTime"] or ""))
        return [(row["Mode"], row["FromTime"], row["ToTime"], row["Evidence"]) for row in shown]

    def mode_of(self, device: str, port: int) -> object:
        """The mode on the row of the connection from this local port."""
        (row,) = [row for row in latest(self.rows) if (row["DeviceId"], row["LocalPort"]) == (device, port)]
        return row["ProtectionMode"]


def at(seconds: float) -> str:
    """Return a time as rows have it."""
    return iso_micros(micros(seconds))


@pytest.mark.parametrize("order", list(permutations(CHANGES)), ids=str)
@pytest.mark.parametrize("connections_first", [True, False])
def test_changes_in_any_order(order: tuple[int, ...], connections_first: bool) -> None:
    """In any order there is one history with its evidence; each connection has the mode of its own time."""
    changes, opened = [CHANGES[one] for one in order], [connection_line("ws-1", when, when) for when in OPENED]
    shown = History(opened + changes if connections_first else changes + opened)

    assert shown.history("ws-1") == [
        (OFF, None, at(100), DEFENDER),
        (AUDIT, at(100), at(200), DEFENDER),
        (BLOCK, at(200), at(300), DEFENDER),
        (OFF, at(300), at(400), DEFENDER),
        (BLOCK, at(400), None, DEFENDER),
    ]
    assert [shown.mode_of("ws-1", when) for when in OPENED] == [OFF, AUDIT, BLOCK, OFF, BLOCK]


def test_evidence_can_be_looked_up() -> None:
    """Each row names the record that it comes from."""
    shown = History([CHANGES[200], CHANGES[100]])

    assert {row["EvidenceId"] for row in latest(shown.modes)} == {
        f"defender/5007/{at(seconds)}" for seconds in (100, 200)
    }  # fmt: skip


@pytest.mark.parametrize("late", [True, False])
def test_settings_apply_until_defender_reports_a_mode(late: bool) -> None:
    """A mode of the settings, by name or group, ends at the first reported change, however late it comes."""
    change, before, after = mode_line("ws-2", 100, OFF), connection_line("ws-2", 50, 1), connection_line("ws-2", 150, 2)
    shown = History([before, after, change] if late else [change, before, after])

    assert shown.history("ws-2") == [(BLOCK, None, at(100), "settings"), (OFF, at(100), None, DEFENDER)]
    assert (shown.mode_of("ws-2", 1), shown.mode_of("ws-2", 2)) == (BLOCK, OFF)


def test_a_device_without_reports_has_the_mode_of_the_settings() -> None:
    """The mode is off by group, audit by name, and off without a history where neither is set."""
    shown = History(connection_line(device, 50, 1) for device in ("srv-1", "ws-3", "ws-4"))

    assert shown.history("srv-1") == [(OFF, None, None, "settings")]
    assert shown.history("ws-3") == [(AUDIT, None, None, "settings")]
    assert shown.history("ws-4") == []
    assert [shown.mode_of(device, 1) for device in ("srv-1", "ws-3", "ws-4")] == [OFF, AUDIT, OFF]


def test_one_line_in_two_copies_is_one_change() -> None:
    """Lines that a collector sends twice change nothing."""
    lines = [*CHANGES.values()]
    once, twice = History(lines), History([line for line in lines for _ in range(2)])

    assert once.history("ws-1") == twice.history("ws-1")
    assert json.dumps(latest(once.modes)) == json.dumps(latest(twice.modes))
