"""Rows of the rejects topic."""

from __future__ import annotations

import json

from sinks.rejects import RECORD_ID, reject_row


def identity(place: str, headers: list[tuple[str, bytes | None]]) -> str:
    """The row's RecordId."""
    return str(json.loads(reject_row(place, 1_000, headers, b"raw"))["RecordId"])


def test_a_reject_sent_twice_is_one_row() -> None:
    """A sender that dies before it records a delivery sends the message again; the header identifies it as the same."""
    named: list[tuple[str, bytes | None]] = [("reason", b"not_deliverable"), (RECORD_ID, b"rows/0/7@900")]

    assert identity("rejects/1/3", named) == identity("rejects/1/4", named) == "rows/0/7@900"
    assert identity("rejects/1/3", []) == "rejects/1/3@1000"
