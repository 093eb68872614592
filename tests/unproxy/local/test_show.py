"""What people read: tables, explanations, log lines."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from schemas.tables import ResolvedBy
from unproxy.output import printable
from unproxy.query import event
from unproxy.query.client import readable
from unproxy.query.formats import PIPE_CHARS, table
from unproxy.telemetry import FieldsFormatter

PROXY = "198.51.100.80"


def row(layer: str = "connection", **given: Any) -> dict[str, Any]:
    """A row of DeviceNetworkEvents, as a test needs it."""
    base: dict[str, Any] = {
        "Timestamp": "2026-11-24T19:07:30.123456Z", "ConnectionTime": "2026-11-24T19:07:30.123456Z",
        "DeviceName": "dev-a", "ActionType": "ConnectionSuccess", "RemoteIP": PROXY, "RemotePort": 3128,
        "RemoteUrl": "", "InitiatingProcessFileName": "curl", "InitiatingProcessId": 7, "Layer": layer,
        "RecordId": "r1", "ConnectionId": "c1", "ProxyIP": PROXY, "ProxyPort": 3128, "ProxyName": "",
        "DestinationHost": "", "DestinationPort": None, "Outcome": "allowed", "ProtectionMode": "audit",
        "UnresolvedReason": "", "HostMismatch": "", "HttpStatus": None, "ResolvedBy": "", "Confidence": "",
        "ConnectionEventId": "", "HttpEventIds": [],
    }  # fmt: skip
    return {**base, **given}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ResolvedBy": "connect", "Confidence": "exact", "DestinationHost": "a.example"}, "a.example: the CONNECT"),
        ({"UnresolvedReason": "protection_off"}, "Unresolved: protection was off, so no HTTP-level"),
        (
            {"UnresolvedReason": "protection_off", "ProxyIP": ""},
            "whether the remote end is a proxy or a server. To resolve",
        ),
        ({"UnresolvedReason": "something_new"}, "Unresolved: something_new"),
        ({"Outcome": "blocked"}, "network protection blocked it"),
        ({"HostMismatch": "b.example"}, "another name was used: b.example"),
        ({"HttpEventIds": ["http/1"], "ConnectionEventId": "socket/2"}, "Evidence: socket/2, http/1."),
    ],
)
def test_decision_is_shown_in_words(given: dict[str, Any], words: str) -> None:
    """Evidence, certainty, outcome and findings become sentences."""
    assert words in event.decided(row(**given))


@pytest.mark.parametrize("evidence", [kind for kind in ResolvedBy if kind])
def test_every_evidence_has_words(evidence: ResolvedBy) -> None:
    """None is shown only by its name in the table."""
    assert "decided by" not in event.decided(row(ResolvedBy=evidence, DestinationHost="a.example"))


def test_table_that_fits_is_shown_whole() -> None:
    """Nothing is cut in output that is not a terminal."""
    long = "x" * 500
    lines, hidden = table(["Name", "Empty"], [[long, ""], ["y", None]], PIPE_CHARS)

    assert lines[0].rstrip() == "Name"
    assert lines[2] == long
    assert hidden == []


def test_table_keeps_the_important_columns_within_the_width() -> None:
    """On a narrow screen the preferred columns get a place, the others are named as hidden."""
    names = ["AppGuardContainerId", "RemoteUrl", "Timestamp", "Outcome", "LogonID"]
    rows = [["a" * 40, "http://a.example/" + "b" * 90, "2026-11-24 19:07:30.123456", "allowed", 7]]
    lines, hidden = table(names, rows, 60)

    assert all(len(line) <= 60 for line in lines)
    assert lines[-1].startswith("2026-11-24 19:07:30")
    assert "…  allowed" in lines[-1]
    assert hidden == ["AppGuardContainerId"]


def test_nothing_steers_the_terminal() -> None:
    """What a sensor saw is shown, not obeyed."""
    assert printable("a\x1b[31mb\u202ec\n") == "a\\u001b[31mb\\u202ec\\n"


def test_error_of_the_engine_becomes_one_line() -> None:
    """Code, version and the parser's whole list of tokens are left out."""
    error = (
        "Code: 62. DB::Exception: Syntax error: failed at position 7 (x): x\n. Expected one of: a, b, c. "
        "(SYNTAX_ERROR) (version 26.9.2.1)"
    )

    assert readable(error) == "Syntax error: failed at position 7 (x): x"
    assert readable("") != ""
    assert len(readable("long " * 1000)) <= 300


def test_log_line_carries_its_facts() -> None:
    """A constant message, then facts as key=value, quoted where they have spaces."""
    record = logging.makeLogRecord(
        {"name": "sinks", "levelname": "WARNING", "msg": "insert failed", "rows": 3, "error": "no way"}
    )
    line = FieldsFormatter().format(record)

    assert line.endswith("warning sinks: insert failed rows=3 error='no way'")
