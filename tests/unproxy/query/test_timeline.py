"""`unproxy timeline`: which rows are asked for, and what stands on a terminal of 80, 120 and 200 columns.

The truth of the recorded lines (the log of the sample's proxy, port 60972 of dev-b): one connection carried two requests;
news.good3.example was not listed and allowed, bad1.example was listed on a device in mode block.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unproxy.query.conftest import Verb
from tests.unproxy.terminal import HOSTILE, strange
from unproxy.query import screen
from unproxy.query.client import Client
from unproxy.query.formats import PIPE_CHARS
from unproxy.query.timeline import Wanted, as_objects, marks, place, question, short_ids, span, target, timeline

BLOCKED_PART = ("2026-11-24T19:07:43.270000Z", "2026-11-24T19:07:43.300000Z")
PROXY = "198.51.100.80"
RECORDED = Path(__file__).with_name("recorded")
WIDTHS = (80, 120, 200)


def row(**given: Any) -> dict[str, Any]:
    """A row as `timeline` gives it: of a connection to a proxy."""
    base: dict[str, Any] = {
        "Timestamp": "2026-11-24T19:07:30.123456Z", "DeviceName": "dev-a", "ActionType": "ConnectionSuccess",
        "RemoteIP": PROXY, "RemotePort": 3128, "RemoteUrl": "", "InitiatingProcessFileName": "curl",
        "InitiatingProcessId": 7, "InitiatingProcessAccountDomain": "", "InitiatingProcessAccountName": "",
        "Layer": "connection", "RecordId": "0123456789abcdef", "ConnectionId": "0123456789abcdef", "ProxyIP": PROXY,
        "ProxyPort": 3128, "ProxyName": "", "DestinationHost": "", "DestinationPort": None, "Outcome": "allowed",
        "ProtectionMode": "audit", "UnresolvedReason": "", "HostMismatch": "", "HttpStatus": None, "BytesSent": None,
        "BytesReceived": None,
    }  # fmt: skip
    return {**base, **given}


def behind(host: str, **given: Any) -> dict[str, Any]:
    """A destination behind the proxy."""
    return row(**{"Layer": "destination", "RemoteIP": "", "DestinationHost": host, "DestinationPort": 443, **given})


@pytest.mark.parametrize("width", WIDTHS)
def test_recorded_lines(verb: Verb, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Newest first: bad1.example blocked, news.good3.example on the same connection allowed, their connection has no target."""
    monkeypatch.setenv("COLUMNS", str(width))
    since, until = BLOCKED_PART
    code, out, err = verb("timeline", "dev-b", "--from", since, "--to", until, "--wide")

    assert (code, out, err) == (0, (RECORDED / f"timeline-{width}.txt").read_text(), "")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_line_fits_and_shows_layer_and_address(client: Client, width: int) -> None:
    """Of the whole sample: no line is wider; Layer and RemoteIP are never cut."""
    rows = timeline(client, Wanted("dev-b")).rows
    lines = list(screen.timeline_lines(rows, width, wide=True))
    whole = [line for line in lines if " connection " in line or " destination " in line]

    assert max(map(screen.cell_width, lines)) <= width
    assert len(whole) == len(rows) > 100
    assert all(row["RemoteIP"] in line for row, line in zip(rows, whole, strict=True))
    assert all(str(row["RecordId"])[:8] in line for row, line in zip(rows, whole, strict=True))
    assert "UTC" in lines[0]


def test_only_the_blocked_destination_is_blocked(client: Client) -> None:
    """A connection with a blocked request does not make its other destinations blocked; the truth is the table's row."""
    rows = timeline(client, Wanted("dev-b", *BLOCKED_PART)).rows
    outcomes = {target(row): row["Outcome"] for row in rows if row["Layer"] == "destination"}

    assert outcomes == {"news.good3.example:80": "allowed", "bad1.example:80": "blocked"}
    assert [target(row) for row in rows if row["RecordId"] == row["ConnectionId"] and row["ProxyIP"]] == [""]


def test_newest_first_and_the_limit_keeps_the_latest(client: Client) -> None:
    """Reversed they are the same rows."""
    everything = timeline(client, Wanted("dev-b")).rows
    times = [row["Timestamp"] for row in everything]
    latest = timeline(client, Wanted("dev-b", limit=5))
    turned = timeline(client, Wanted("dev-b", limit=5, oldest_first=True))

    assert times == sorted(times, reverse=True)
    assert (latest.rows, latest.more) == (everything[:5], True)
    assert turned.rows == everything[:5][::-1]
    assert not timeline(client, Wanted("dev-b", limit=len(everything))).more


def test_the_interval_holds_its_beginning_and_not_its_end(client: Client) -> None:
    """Each row belongs to one of two intervals that follow each other."""
    everything = timeline(client, Wanted("dev-b")).rows
    middle = everything[len(everything) // 2]["Timestamp"]
    late = timeline(client, Wanted("dev-b", since=middle)).rows
    early = timeline(client, Wanted("dev-b", until=middle)).rows

    assert [*late, *early] == everything
    assert late[-1]["Timestamp"] == middle


def test_text_finds_the_target_where_it_is_shown(client: Client) -> None:
    """Never the connection to the proxy, although the table names its first destination there."""
    rows = timeline(client, Wanted("dev-b", text="NEWS.good3.example:80")).rows

    assert rows
    assert all(target(row).startswith("news.good3.example:80") for row in rows)
    assert {row["Layer"] for row in timeline(client, Wanted("dev-b", layer="connection")).rows} == {"connection"}


@pytest.mark.parametrize(
    ("filters", "of_row"),
    [
        ({"outcome": "blocked"}, lambda row: row["Outcome"] == "blocked"),
        ({"destination": "GOOD3.example"}, lambda row: target(row).split(":")[0].endswith("good3.example")),
        ({"destination": "news.good3.example"}, lambda row: target(row).startswith("news.good3.example:")),
        ({"proxy": PROXY}, lambda row: row["ProxyIP"] == PROXY),
        ({"proxy": f"{PROXY}:3128"}, lambda row: (row["ProxyIP"], row["ProxyPort"]) == (PROXY, 3128)),
    ],
)
def test_filters_keep_what_a_line_shows(client: Client, filters: dict[str, str], of_row: Any) -> None:
    """Each filter gives the rows whose lines show it, and no other."""
    wanted = [row for row in timeline(client, Wanted("dev-b")).rows if of_row(row)]
    found = timeline(client, Wanted("dev-b", **filters)).rows  # type: ignore[arg-type]

    assert found == wanted != []


def test_part_of_a_name_is_no_destination(client: Client) -> None:
    """Neither the beginning nor the end of a label matches."""
    assert [timeline(client, Wanted("dev-b", destination=name)).rows for name in ("news.good3", "ood3.example")] == [
        [],
        [],
    ]


def test_pages_follow_each_other(client: Client, verb: Verb) -> None:
    """Rows after the place of the last one continue the list, also among rows of one time; the command takes places, too."""
    everything = list(timeline(client, Wanted("dev-b")).rows)
    pages, before = list[Any](), ""
    while rows := timeline(client, Wanted("dev-b", limit=37, before=before)).rows:
        pages += rows
        before = place(rows[-1])
    code, out, _ = verb("timeline", "dev-b", "--before", place(everything[10]), "--limit", "1", "--format", "jsonl")

    assert pages == everything
    assert (code, json.loads(out)["RecordId"]) == (0, everything[11]["RecordId"])


def test_values_never_become_sql() -> None:
    """What a user asks for is a parameter, and all of it is applied to rows, before any grouping."""
    values = {"DD'", "PP'", "TT'", "SS'", "UU'"}
    sql, parameters = question(Wanted("DD'", "SS'", "UU'", "PP'", "TT'"))

    assert not any(value in sql for value in values)
    assert set(map(str, parameters.values())) >= values
    assert "GROUP BY" not in sql
    assert "HAVING" not in sql


def test_a_time_of_day_is_one_of_the_last_day_with_data(verb: Verb) -> None:
    """Whatever the day is now, and that is reported."""
    code, out, err = verb("timeline", "dev-b", "--from", "19:07:43", "--to", "19:07:44", "--format", "jsonl")
    times = {json.loads(line)["Timestamp"][:19] for line in out.splitlines()}

    assert (code, times) == (0, {"2026-11-24T19:07:43"})
    assert err == "unproxy: 19:07:43 is taken as of 2026-11-24, the last day with data of dev-b (UTC)\n"


@pytest.mark.parametrize("ago", ["1m", "-1m"])
def test_nothing_found_names_the_interval_with_data(verb: Verb, client: Client, ago: str) -> None:
    """An hour ago is an hour before now, with or without the sign."""
    first, last = (time[:19].replace("T", " ") for time in (span(client, "dev-b").first, span(client, "dev-b").last))
    code, out, err = verb("timeline", "dev-b", "--text", "no such text", "--to", ago)

    assert (code, out) == (0, "")
    assert err == f"no such connections of dev-b; it has rows from {first} to {last} (UTC)\n"


def test_unknown_device_is_a_failure(verb: Verb) -> None:
    """It names the known ones."""
    code, out, err = verb("timeline", "dev-x", "--format", "json")

    assert (code, out) == (1, "")
    assert err == "unproxy: dev-x was never seen; known devices: dev-a, dev-b, dev-c\n"


def test_json_is_one_array_of_the_same_rows(verb: Verb) -> None:
    """Lines or array, the objects are alike, with the ID of the line, the target and what is remarkable."""
    asked = ["timeline", "dev-b", "--from", BLOCKED_PART[0], "--to", BLOCKED_PART[1], "--format"]
    array, lines = (verb(*asked, form)[1] for form in ("json", "jsonl"))

    assert json.loads(array) == [json.loads(line) for line in lines.splitlines()]
    assert [(one["Id"], one["Target"], one["Outcome"]) for one in json.loads(array)][:2] == [
        ("1346bba4", "bad1.example:80", "blocked"),
        ("bec41c1b", "news.good3.example:80", "allowed"),
    ]
    assert list(screen.records([], array=True)) == ["[]"]


@given(st.sets(st.text("01", min_size=9, max_size=12), min_size=1))
def test_short_ids_are_unambiguous(ids: set[str]) -> None:
    """Each names one ID only, as short as that can be, and has 8 characters at least."""
    for one, short in short_ids(sorted(ids)).items():
        others = ids - {one}

        assert one.startswith(short)
        assert len(short) >= 8
        assert short == one or not any(other.startswith(short) for other in others)
        assert len(short) == 8 or any(other.startswith(short[:-1]) for other in others)


def test_hostile_values_do_not_steer() -> None:
    """Control characters, bidi, very long and very wide names: escaped, cut to the width, alone on their line."""
    rows = [
        behind(HOSTILE, InitiatingProcessFileName=HOSTILE, HostMismatch=HOSTILE, RecordId=f"{HOSTILE}{number}")
        for number in range(2)
    ]
    rows += [behind("x" * 5_000, InitiatingProcessFileName="y" * 5_000, RemoteUrl="z" * 5_000), behind("\u6f22" * 300)]
    rows += [row(RemoteIP="2001:db8:1111:2222:3333:4444:5555:6666", InitiatingProcessFileName='=cmd|"/c calc"!A1')]
    for width in (*WIDTHS, 20, PIPE_CHARS):
        for color in (False, True):
            sent = "\n".join(screen.timeline_lines(rows, width, wide=True, color=color))

            assert strange(sent) == []
    lines = list(screen.timeline_lines(rows[2:], 80, wide=True))
    assert max(map(screen.cell_width, lines)) <= 80


def test_a_long_name_keeps_its_end() -> None:
    """The end of a host name shows whose it is: what looks like a bank stays recognizable."""
    lines = list(screen.timeline_lines([behind("www.bank.example." + "a" * 90 + ".evil.test")], 120))

    assert any("www.bank" in line and ".evil.test:443" in line for line in lines)


def test_colors_mark_outcomes_and_nothing_else() -> None:
    """Blocked is red, allowed is plain; without colors the text is the same."""
    rows = [behind("a.example", Outcome="blocked"), behind("b.example")]
    plain, colored = (list(screen.timeline_lines(rows, 120, color=color)) for color in (False, True))

    assert "\x1b[31mblocked\x1b[0m" in colored[1]
    assert colored[2] == plain[2]
    assert [line.replace("\x1b[31m", "").replace("\x1b[0m", "") for line in colored] == plain


def test_notes() -> None:
    """A failure, a reason, another name inside a tunnel; the last only where the target stands."""
    assert marks(row(ActionType="ConnectionFailed", UnresolvedReason="no_http_event")) == [
        "failed to connect",
        "unresolved: no_http_event",
    ]
    assert marks(behind("a.example", HostMismatch="b.example")) == ["inside used b.example"]
    assert marks(row(HostMismatch="b.example")) == []


def test_targets() -> None:
    """The name and port asked for; the address of a direct connection in brackets; else the URL."""
    direct: dict[str, Any] = {"ProxyIP": "", "ProxyPort": None, "DestinationPort": 443}

    assert target(behind("a.example")) == "a.example:443"
    assert target(row(**direct, DestinationHost="2001:db8::1")) == "[2001:db8::1]:443"
    assert target(row(**direct, RemoteUrl="http://a.example/")) == "http://a.example/"
    assert as_objects([behind("a.example")])[0]["Target"] == "a.example:443"
