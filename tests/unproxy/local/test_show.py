"""What people read: tables, timelines, explanations, log lines."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from schemas.tables import ResolvedBy
from unproxy.output import printable
from unproxy.query import event, timeline
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


def destination(host: str, port: int = 443, **given: Any) -> dict[str, Any]:
    """A real target behind the proxy."""
    return row("destination", DestinationHost=host, DestinationPort=port, RemoteIP="", **given)


def only(*rows: dict[str, Any]) -> str:
    """The one line that these rows make."""
    (entry,) = timeline.entries(rows)
    return timeline.line(entry)


def test_proxied_connection_keeps_the_address_and_names_the_target() -> None:
    """The address stays the proxy's, the target stands beside it."""
    line = only(row(), destination("good1.example"))

    assert line == (
        "2026-11-24 19:07:30.123  curl (7)                  "
        f"established connection with {PROXY}:3128 (good1.example:443)  allowed"
    )


def test_many_targets_are_cut() -> None:
    """Five targets are named, each once, and how many more there are."""
    targets = [destination(f"h{number}.example", 80) for number in (1, 2, 2, 3, 4, 5, 6, 7)]

    assert "h5.example:80, +2 more)" in only(row(), *targets)
    assert only(row(), *targets).count("h2.example") == 1


def test_direct_connection_names_what_it_went_to() -> None:
    """Without a proxy the address is the destination's own."""
    direct: dict[str, Any] = {"ProxyIP": "", "ProxyPort": None, "RemoteIP": "2001:db8:113::20", "RemotePort": 443}
    named = row(**direct, DestinationHost="direct1.example", DestinationPort=443)
    bare = row(**direct, DestinationHost="2001:db8:113::20", DestinationPort=443)

    assert "with [2001:db8:113::20]:443 (direct1.example:443)  allowed" in only(named)
    assert "with [2001:db8:113::20]:443  allowed" in only(bare)


def test_failure_and_marks_show() -> None:
    """A failed attempt, a verdict, an unknown target and fronting are shown."""
    failed = row(ActionType="ConnectionFailed", Outcome="failed", UnresolvedReason="no_http_event")
    blocked = [row(Outcome="blocked"), destination("bad1.example", Outcome="blocked", HostMismatch="good.example")]

    assert "failed to connect to" in only(failed)
    assert "[unresolved: no_http_event]" in only(failed)
    assert "[NetworkProtection: blocked]  [inside used good.example]" in only(*blocked)


def test_destination_before_its_connection_makes_a_line_too() -> None:
    """A target may be known before the row of its connection left."""
    assert f"{PROXY}:3128 (good1.example:443)" in only(destination("good1.example"))


VALUES = {"DD'", "PP'", "TT'", "SS'", "UU'"}


def test_question_takes_values_as_parameters() -> None:
    """What a user asks for never becomes a part of the SQL."""
    sql, parameters = timeline.question(timeline.Wanted("DD'", process="PP'", text="TT'", since="SS'", until="UU'"))

    assert not any(value in sql for value in VALUES)
    assert set(map(str, parameters.values())) >= VALUES


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
    assert "\x1b" not in only(row(), destination("a\x1b]0;x"))


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
