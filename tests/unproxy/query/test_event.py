"""`unproxy event`: what an ID stands for, the rows that an alert counts, and the process with its parent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unproxy.query.conftest import Verb
from tests.unproxy.query.test_timeline import row
from unproxy.query.client import Client
from unproxy.query.event import find, process_tree, report
from unproxy.query.timeline import Wanted, timeline

ALERTS_OF_SAMPLE = 19


def test_an_alert_shows_exactly_what_it_counts(client: Client) -> None:
    """Of every alert of the sample: as many verdicts, or connections, as its Count."""
    alerts = client.rows("SELECT AlertId, Kind, Count, DeviceId FROM BlockAlerts WHERE Count > 0")
    for alert in alerts:
        known = find(client, alert["AlertId"])
        by_verdict = alert["Kind"] in ("blocked", "audited", "warned", "bypassed")
        shown = known.verdicts if by_verdict else known.connection

        assert len(shown) == alert["Count"], alert
        assert known.connection
        assert {one["DeviceId"] for one in (*shown, *known.destinations)} == {alert["DeviceId"]}
    assert len(alerts) == ALERTS_OF_SAMPLE


def test_the_lines_of_an_alert_stand_below_it(verb: Verb, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the beginning of its ID: the alert, what it counts, and a line for each row."""
    monkeypatch.setenv("COLUMNS", "120")
    (alert,) = client.rows(
        "SELECT * FROM BlockAlerts WHERE Kind = 'audited' AND DeviceName = 'dev-a' AND DestinationDomain = 'bad4.example'"
    )
    code, out, err = verb("event", alert["AlertId"][:8])
    _, counted, lines = out.partition("The alert counts 3 requests; its query finds 3 rows of 3 connections.\n")

    assert (code, err) == (0, "")
    assert counted
    assert lines.count("  destination  ") == lines.count("  connection   ") == lines.count("  verdict  ") == 3
    assert lines.count("cdn.bad4.example:443") == 6


def test_every_short_id_of_the_timeline_is_taken(client: Client, verb: Verb) -> None:
    """The Id of a line leads to the connection of that line."""
    _, out, _ = verb("timeline", "dev-b", "--limit", "40", "--format", "jsonl")
    for line in map(json.loads, out.splitlines()):
        known = find(client, line["Id"])

        assert {one["ConnectionId"] for one in known.connection} == {line["ConnectionId"]}


@pytest.mark.parametrize("identity", ["short", "ffffffff-not-there"])
def test_what_names_nothing_is_refused(verb: Verb, identity: str) -> None:
    """Called wrongly: nothing on stdout."""
    assert verb("event", identity)[:2] == (2, "")


def test_json_is_one_array(verb: Verb, client: Client) -> None:
    """Of the same rows as JSON lines."""
    identity = timeline(client, Wanted("dev-b", limit=1)).rows[0]["RecordId"]
    array, lines = (verb("event", identity, "--format", form)[1] for form in ("json", "jsonl"))

    assert json.loads(array) == [json.loads(line) for line in lines.splitlines()]
    assert json.loads(array)


def process(**given: Any) -> dict[str, Any]:
    """A row with all that is known of its process."""
    names = ("FileName", "CommandLine", "ParentFileName", "AccountDomain", "AccountName")
    base = {f"InitiatingProcess{name}": "" for name in names} | {
        "InitiatingProcessId": None,
        "InitiatingProcessParentId": None,
    }
    return row(**base | {f"InitiatingProcess{name}": value for name, value in given.items()})


def test_a_process_stands_below_its_parent() -> None:
    """With command line and user; without a parent alone; nothing where no process is known."""
    child: dict[str, Any] = {"FileName": "curl", "Id": 7, "CommandLine": "curl -s x", "AccountName": "ana"}

    assert process_tree([process()]) == []
    assert process_tree([process(), process(**child)]) == ["curl (7)  curl -s x  user ana"]
    assert process_tree([process(**child, AccountDomain="corp", ParentFileName="bash", ParentId=6)]) == [
        "bash (6)",
        "└─ curl (7)  curl -s x  user corp\\ana",
    ]
    assert process_tree([process(**child, ParentId=6)])[0] == "unknown (6)"


def test_a_report_begins_with_the_process(client: Client) -> None:
    """Then the connection and its destinations, each with how it was decided."""
    identity = timeline(client, Wanted("dev-b", text="bad1.example:80")).rows[0]["RecordId"]
    lines = list(report(find(client, identity)))

    assert lines[0] == "Process"
    assert any(line.startswith("Destination ") for line in lines)
    assert any("How it was decided" in line for line in lines)
