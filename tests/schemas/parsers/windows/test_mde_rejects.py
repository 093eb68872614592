"""Rows of Defender's export that hold nothing for us, or make no sense."""

from __future__ import annotations

import json

import pytest

from schemas.events import TEXT_CHARS_MAX, Reason
from schemas.parsers.windows.mde import KINDS, parse
from tests.schemas.parsers.parsed_as import kind, opened, reject
from tests.schemas.parsers.windows.defender_rows import CONNECT, PROCESS, columns, envelope, row, verdict_of


@pytest.mark.parametrize("action", KINDS)
def test_rows_that_hold_nothing_for_us(action: str) -> None:
    """Counted by what they are."""
    assert kind(parse(row(action))) == KINDS[action]


def test_what_unknown_knows_is_counted_by_its_table() -> None:
    """Action types are an open set, and other tables are not read at all."""
    assert kind(parse(row("SomethingNew"))) == "network_other"
    assert kind(parse(verdict_of("PowerShellCommand"))) == "device_other"
    process = json.dumps(envelope(columns("ConnectionSuccess", RemoteUrl=None), "DeviceProcessEvents")).encode()
    assert kind(parse(process)) == "other_table"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row("ConnectionSuccess", Timestamp=None), Reason.INCOMPLETE),
        (row("ConnectionSuccess", ActionType=None), Reason.INCOMPLETE),
        (row("ConnectionSuccess", Timestamp="yesterday"), Reason.BAD_VALUE),
        (row("ConnectionSuccess", RemotePort=65_536), Reason.BAD_VALUE),
        (row("ConnectionSuccess", RemotePort="x"), Reason.BAD_VALUE),
        (row("ConnectionSuccess", RemoteIP="nowhere"), Reason.BAD_VALUE),
        (row("ConnectionSuccess", InitiatingProcessId=-1), Reason.BAD_VALUE),
        (row("ConnectionSuccess", ReportId=True), Reason.BAD_VALUE),
        (row("HttpConnectionInspected", {**CONNECT, "status_code": "ok"}), Reason.BAD_VALUE),
        (row("HttpConnectionInspected", '{"method":"CONN'), Reason.MALFORMED),
        (row("ConnectionSuccess")[:-2], Reason.MALFORMED),
        (b'{"records":[]}', Reason.INCOMPLETE),
        (b'{"timestamp":"2026-11-24T19:07:28.397055+0000","event_type":"dns","host":"a"}', Reason.INCOMPLETE),
        (b'{"properties":5}', Reason.BAD_VALUE),
        (b"plain text", Reason.MALFORMED),
    ],
)
def test_what_makes_no_sense_is_rejected(line: bytes, reason: Reason) -> None:
    """With its bytes."""
    found = reject(parse(line))

    assert (found.reason, found.raw) == (reason, line)


def test_a_remembered_process_lends_its_number_to_nothing_else() -> None:
    """The parent 1 of one row makes no number of the truth value in the next one."""
    parent = opened(parse(row("ConnectionSuccess", InitiatingProcessParentId=1))).process.parent_pid
    rejected = reject(parse(row("ConnectionSuccess", InitiatingProcessParentId=True)))

    assert parent == 1
    assert rejected.reason is Reason.BAD_VALUE


def test_long_texts_are_cut() -> None:
    """They stay in the state."""
    long = dict.fromkeys(
        (name for name, value in PROCESS.items() if isinstance(value, str) and "Time" not in name), "x" * 5_000
    )
    process = opened(parse(row("ConnectionSuccess", **long))).process

    assert (
        max(map(len, (process.name, process.path, process.command_line, process.sid, process.sha1))) == TEXT_CHARS_MAX
    )
