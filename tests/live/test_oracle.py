"""The oracle of the live run: no finding where rows are right, and one where a row is not. The run itself is `make live`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.clock import MICROS, iso_micros
from schemas.events import ProtectionMode
from tests.live.diary import Entry, Result
from tests.live.errands import LISTED
from tests.live.load import Figures
from tests.live.oracle import Judgement, Row, Rows, Wrong, judge
from tests.live.sensing import Sensed
from tests.live.squid import Logged
from tests.live.stage import NEAR, PROXY, PROXY_PORT

AUDIT, BLOCK, OFF = ProtectionMode.AUDIT, ProtectionMode.BLOCK, ProtectionMode.OFF
BEGAN = 1_795_800_000.0
CURL = {
    "InitiatingProcessFileName": "curl",
    "InitiatingProcessId": 41,
    "InitiatingProcessAccountName": "alice",
    "InitiatingProcessCommandLine": "curl http://news.example/",
}


def entry(host: str = "news.example", **facts: Any) -> Entry:
    """A plain request of curl's that was done, on its own connection from port 40000."""
    own: dict[str, Any] = {
        "client": "curl",
        "pid": 41,
        "user": "alice",
        "command_line": "curl http://news.example/",
        "connection": "41-1",
        "opened": BEGAN,
        "connected": BEGAN + 0.01,
        "at": BEGAN + 0.01,
        "ended": BEGAN + 0.1,
        "local_ip": NEAR,
        "local_port": 40_000,
        "remote_ip": PROXY,
        "remote_port": PROXY_PORT,
        "result": Result.DONE,
        "method": "GET",
        "host": host,
        "port": 80,
    }
    return Entry(**{**own, **facts})


def connection(**columns: Any) -> Row:
    """The row of that connection."""
    own = {
        "Layer": "connection",
        "RecordId": "connection-1",
        "Version": 1,
        "ConnectionId": "c1",
        "ConnectionTime": iso_micros(int((BEGAN + 0.005) * MICROS)),
        "LocalIP": NEAR,
        "LocalPort": 40_000,
        "RemoteIP": PROXY,
        "RemotePort": PROXY_PORT,
        "ProtectionMode": "audit",
        "UnresolvedReason": "",
        **CURL,
    }
    return {**own, **columns}


def destination(host: str = "news.example", **columns: Any) -> Row:
    """The row of its request."""
    own = {
        **connection(),
        "Layer": "destination",
        "RecordId": f"destination-{host}",
        "ProxyIP": PROXY,
        "ProxyPort": PROXY_PORT,
        "DestinationHost": host,
        "DestinationPort": 80,
        "RequestCount": 1,
        "Outcome": "allowed",
    }
    return {**own, **columns}


def verdict(action: str, **columns: Any) -> Row:
    """The row of DeviceEvents about a request for the listed host."""
    own = {
        **destination(LISTED),
        "RecordId": "verdict-1",
        "ActionType": f"ExploitGuardNetworkProtection{action}",
        "AdditionalFields": json.dumps({"ResponseCategory": "inline"}),
    }
    return {**own, **columns}


def log(host: str = "news.example", tag: str = "TCP_MISS", status: int = 200) -> Logged:
    """Squid's line of it."""
    return Logged(NEAR, 40_000, "GET", f"http://{host}/", status, tag)


def judgement_of(
    rows: list[Row],
    entries: list[Entry] | None = None,
    mode: ProtectionMode = AUDIT,
    verdicts: list[Row] | None = None,
    logged: list[Logged] | None = None,
) -> Judgement:
    """Rows as the files have them, held against one request."""
    lines, verdict_lines = ([json.dumps(row).encode() for row in them] for them in (rows, verdicts or []))
    return judge(
        mode,
        [entry()] if entries is None else entries,
        Rows.of(lines, verdict_lines),
        [log()] if logged is None else logged,
    )


def kinds(judgement: Judgement) -> set[Wrong]:
    """What was found."""
    return {finding.kind for finding in judgement.findings}


def test_right_rows_are_right() -> None:
    """Nothing is found, and each count is there."""
    judgement = judgement_of([connection(), destination()])

    assert judgement.findings == []
    named = ("connections", "requests", "host", "pid", "user", "command_line", "done", "listed")
    assert [judgement.counts[name] for name in named] == [1, 1, 1, 1, 1, 1, 0, 0]


def test_the_latest_version_counts() -> None:
    """What a row reported before is not looked at, in whatever order it stands."""
    old = destination(InitiatingProcessId=7, Version=1)

    assert judgement_of([connection(), destination(Version=2), old]).findings == []


@pytest.mark.parametrize(
    ("column", "value", "wrong"),
    [
        ("InitiatingProcessId", 42, Wrong.PID),
        ("InitiatingProcessAccountName", "root", Wrong.USER),
        ("InitiatingProcessCommandLine", "curl", Wrong.COMMAND_LINE),
    ],
)
@pytest.mark.parametrize("make", [connection, destination])
def test_another_process_is_found(make: Callable[..., Row], column: str, value: object, wrong: Wrong) -> None:
    """On the connection's row as on the destination's."""
    rows = [connection(), destination()]
    rows[rows.index(make())][column] = value

    assert kinds(judgement_of(rows)) == {wrong}


@pytest.mark.parametrize(
    ("column", "value", "wrong"),
    [
        ("DestinationHost", "other.example", {Wrong.NO_HOST, Wrong.INVENTED}),
        ("DestinationPort", 443, {Wrong.NO_HOST, Wrong.INVENTED}),
        ("RequestCount", 2, {Wrong.COUNT}),
        ("Outcome", "failed", {Wrong.OUTCOME}),
        ("ProxyIP", "198.51.100.81", {Wrong.PROXY}),
    ],
)
def test_another_destination_is_found(column: str, value: object, wrong: set[Wrong]) -> None:
    """A wrong host is one that is missing and one that no one asked for."""
    assert kinds(judgement_of([connection(), {**destination(), column: value}])) == wrong


def test_what_is_missing_is_found() -> None:
    """A connection, a request, a line of the proxy's."""
    assert kinds(judgement_of([])) == {Wrong.MISSING}
    assert kinds(judgement_of([connection()])) == {Wrong.NO_HOST}
    assert kinds(judgement_of([connection(), destination()], logged=[])) == {Wrong.NOT_LOGGED}


def test_what_is_too_much_is_found() -> None:
    """A second row of a connection, a row of no connection, a destination of a client that asked for nothing."""
    second = connection(RecordId="connection-2", ConnectionId="c2")
    later = connection(RecordId="connection-2", ConnectionId="c2", ConnectionTime=iso_micros(int((BEGAN + 9) * MICROS)))
    nothing = entry("", result=Result.NOTHING_ASKED)

    assert Wrong.TWICE in kinds(judgement_of([connection(), second, destination()]))
    assert kinds(judgement_of([connection(), later, destination()])) == {Wrong.UNKNOWN}
    assert kinds(judgement_of([connection(), destination()], [nothing])) == {Wrong.INVENTED}
    assert kinds(judgement_of([connection()], [nothing])) == set()


def test_a_port_used_again_is_another_connection() -> None:
    """Rows are distinguished by the time of the connection."""
    again = entry(connection="41-2", opened=BEGAN + 5, connected=BEGAN + 5.01)
    stamp = iso_micros(int((BEGAN + 5.005) * MICROS))
    second = [
        {**row, "RecordId": f"again-{row['RecordId']}", "ConnectionId": "c2", "ConnectionTime": stamp}
        for row in (connection(), destination())
    ]

    assert judgement_of([connection(), destination(), *second], [entry(), again]).findings == []


def test_a_client_that_does_not_know_its_port() -> None:
    """It has the connection of its PID at its time, and only that."""
    unknown = entry(local_port=0)

    assert judgement_of([connection(), destination()], [unknown]).findings == []
    assert kinds(judgement_of([connection(InitiatingProcessId=7), destination()], [unknown])) == {
        Wrong.MISSING,
        Wrong.UNKNOWN,
    }


def test_a_listed_name_inside_a_tunnel_is_listed() -> None:
    """What CONNECT asked for stands on the row, the verdict is about the name inside."""
    asked = entry("front.example", method="CONNECT", port=443, inside=LISTED, result=Result.CUT)
    row = destination("front.example", DestinationPort=443, Outcome="blocked", ProtectionMode="block")
    rows = [connection(ProtectionMode="block"), row]

    assert judgement_of(rows, [asked], BLOCK, [verdict("Blocked", DestinationPort=443)], []).findings == []
    assert kinds(judgement_of(rows, [asked], BLOCK, [], [])) == {Wrong.VERDICT}


def test_an_answer_may_come_too_late_for_the_sensor() -> None:
    """Then the outcome is unknown; else it is known."""
    rows = [connection(), destination(Outcome="unknown")]

    assert judgement_of(rows, [entry(ended=BEGAN + 6)]).findings == []
    assert kinds(judgement_of(rows)) == {Wrong.OUTCOME}


def test_a_port_may_lead_to_several_proxies() -> None:
    """Rows are distinguished by the proxy where the time does not do it; where it does, another proxy is found."""
    other = {"RemoteIP": "198.51.100.81"}
    second = [
        connection(RecordId="connection-2", ConnectionId="c2", **other),
        destination(RecordId="destination-2", ConnectionId="c2", ProxyIP="198.51.100.81"),
    ]
    both = [entry(), entry(connection="41-2", remote_ip="198.51.100.81")]

    assert judgement_of([connection(), destination(), *second], both).findings == []
    assert kinds(judgement_of([connection(**other), destination()])) == {Wrong.PROXY}


def test_audit_marks_and_lets_through() -> None:
    """The listed one is marked on its row and by a verdict, and done by the proxy's log."""
    rows, asked, done = [connection(), destination(LISTED, Outcome="audited")], [entry(LISTED)], [log(LISTED)]
    good = judgement_of(rows, asked, verdicts=[verdict("Audited")], logged=done)

    assert good.findings == []
    assert (good.counts["listed"], good.counts["marked"], good.counts["done"]) == (1, 1, 1)
    assert kinds(judgement_of(rows, asked, logged=done)) == {Wrong.VERDICT}
    assert kinds(judgement_of(rows, asked, verdicts=[verdict("Blocked")], logged=done)) == {Wrong.VERDICT}
    twice = [verdict("Audited"), verdict("Audited", RecordId="verdict-2", ConnectionId="")]
    assert kinds(judgement_of(rows, asked, verdicts=twice, logged=done)) == {Wrong.VERDICT}
    others = [verdict("Audited", InitiatingProcessId=7)]
    assert kinds(judgement_of(rows, asked, verdicts=others, logged=done)) == {Wrong.PID}
    assert kinds(
        judgement_of([connection(), destination(LISTED)], asked, verdicts=[verdict("Audited")], logged=done)
    ) == {Wrong.OUTCOME}
    assert kinds(judgement_of(rows, [entry(LISTED, result=Result.CUT)], verdicts=[verdict("Audited")], logged=[])) == {
        Wrong.STOPPED
    }


def test_block_stops() -> None:
    """Neither the client nor the proxy's log has it done; others are left alone."""
    columns = {"ProtectionMode": "block"}
    rows = [connection(**columns), destination(LISTED, Outcome="blocked", **columns)]
    cut, through = entry(LISTED, result=Result.CUT), entry(LISTED)
    verdict_lines = [verdict("Blocked")]

    good = judgement_of(rows, [cut], BLOCK, verdict_lines, [])
    assert (good.findings, good.counts["inline"]) == ([], 1)
    assert judgement_of(rows, [cut], BLOCK, verdict_lines, [log(LISTED, "TCP_MISS_ABORTED", 0)]).findings == []
    assert kinds(judgement_of(rows, [cut], BLOCK, verdict_lines, [log(LISTED)])) == {Wrong.GOT_THROUGH}
    assert Wrong.GOT_THROUGH in kinds(judgement_of(rows, [through], BLOCK, verdict_lines, []))
    other = [connection(**columns), destination(Outcome="unknown", **columns)]
    assert kinds(judgement_of(other, [entry(result=Result.CUT)], BLOCK, [], [])) == {Wrong.STOPPED}


def test_off_names_nothing() -> None:
    """The connection states protection_off, and no destination stands on it."""
    row = connection(ProtectionMode="off", UnresolvedReason="protection_off")

    assert judgement_of([row], mode=OFF).findings == []
    assert kinds(judgement_of([{**row, "UnresolvedReason": "no_http_event"}], mode=OFF)) == {Wrong.REASON}
    assert kinds(judgement_of([{**row, "ProtectionMode": "audit"}], mode=OFF)) == {Wrong.MODE}
    assert kinds(judgement_of([row, destination()], mode=OFF)) == {Wrong.INVENTED}
    assert kinds(judgement_of([row], mode=OFF, verdicts=[verdict("Audited")])) == {Wrong.VERDICT}


@pytest.mark.parametrize(
    ("missing", "wrong_pid", "lost", "good"),
    [(0, 0, 0, True), (1, 0, 1, True), (1, 0, 0, False), (2, 0, 2, False), (0, 1, 0, False)],
)
def test_a_load_may_lose_a_little_that_is_counted(missing: int, wrong_pid: int, lost: int, good: bool) -> None:
    """Less than one in a thousand; never uncounted, and nothing may be wrong."""
    judgement = Judgement(AUDIT)
    judgement.counts["connections"] = 2_000
    for kind, count in ((Wrong.MISSING, missing), (Wrong.PID, wrong_pid)):
        for _ in range(count):
            judgement.wrong(kind, "one")
    sensed = Sensed(Path("lines.jsonl"), counters={"lost_in_kernel": lost, "attempts": 2_000})

    assert Figures(2_000, 1.0, judgement, sensed, 0.0).good is good
