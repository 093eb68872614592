"""`unproxy replay --indicators`: the alerts that history would have raised, and what another list would change of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import Alert
from unproxy.cli import run
from unproxy.offline.backtest import Fate, difference_line, differences

SAMPLES = Path("unproxy/samples")
SAMPLE = [
    *(f"suricata:{SAMPLES}/dev-{letter}.eve.json.gz" for letter in "abc"),
    f"sockets:{SAMPLES}/sockets.jsonl.gz",
]
OFF = "dev-c=off"

Replay = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lists(tmp_path: Path) -> Callable[..., str]:
    """Writes a list of indicators; gives its path."""

    def write(name: str, *entries: str) -> str:
        file = tmp_path / name
        file.write_text("\n".join(entries) + "\n")
        return str(file)

    return write


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Replays the sample with dev-c set to off; gives exit code, stdout and stderr."""
    monkeypatch.setenv("UNPROXY_PROTECTION__MODES", OFF)

    def do(*arguments: str) -> tuple[int, str, str]:
        code = run(["replay", *SAMPLE, *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return do


def objects(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def identity(alert: dict[str, Any]) -> tuple[object, ...]:
    """The fields that distinguish an alert from others."""
    return alert["DeviceName"], alert["Kind"], alert["DestinationDomain"], alert["Count"], alert["IndicatorAction"]


def test_alerts_of_one_list(replay: Replay, lists: Callable[..., str]) -> None:
    """Those that an indicator stands on, each once, as it was in the end; rows are written nowhere."""
    code, out, err = replay("--indicators", lists("new.txt", "bad1.example"), "--format", "jsonl")

    assert code == 0
    assert sorted(map(identity, objects(out))) == [
        ("dev-a", "audited", "bad1.example", 2, "block"),
        ("dev-b", "blocked", "bad1.example", 13, "block"),
        ("dev-c", "not_enforced", "bad1.example", 3, "block"),
    ]
    assert err.splitlines()[-1] == "alerts: 3 with an indicator, 17 without"
    assert json.loads(replay("--indicators", lists("new.txt", "bad1.example"), "--format", "json")[1]) == objects(out)


def test_lines_for_people(replay: Replay, lists: Callable[..., str]) -> None:
    """First and last request, kind, severity, device, domain, count, what became of it, the indicator."""
    _, out, _ = replay("--indicators", lists("new.txt", "bad1.example"))
    (line,) = [line for line in out.splitlines() if "dev-c" in line]

    assert line == (
        "2026-11-24 19:07:34.847 to 2026-11-24 19:07:51.630  not_enforced  medium  dev-c  bad1.example (bad1.example)  "
        "3 requests  allowed, mode off  indicator: block bad1.example"
    )


def test_all_shows_what_no_indicator_stands_on(replay: Replay, lists: Callable[..., str], tmp_path: Path) -> None:
    """And rows go to a file where one is named."""
    rows = tmp_path / "rows.jsonl"
    arguments = ["--all", "--format", "jsonl", "--out", str(rows)]
    _, out, _ = replay("--indicators", lists("new.txt", "bad1.example"), *arguments)
    kinds = {alert["Kind"] for alert in objects(out) if not alert["IndicatorId"]}

    assert len(objects(out)) == 20
    assert {"blocked", "audited", "host_mismatch", "unconfirmed_proxy"} <= kinds
    assert {row["Layer"] for row in objects(rows.read_text())} == {"connection", "destination"}


def test_difference_of_two_lists(replay: Replay, lists: Callable[..., str]) -> None:
    """New, gone, another kind, another indicator; what stays the same is counted and not shown."""
    old = lists("old.txt", "bad1.example", "*.good1.example", "good2.example")
    new = lists("new.txt", "bad1.example", "www.good1.example", "good3.example")
    code, out, err = replay("--indicators", new, "--against", old, "--format", "jsonl")
    changes = objects(out)
    by_fate = {
        fate: {(c["New"] or c["Old"])["DestinationDomain"] for c in changes if c["Change"] == fate} for fate in Fate
    }

    assert code == 0
    assert by_fate == {
        Fate.NEW: {"good3.example"},
        Fate.GONE: {"good2.example"},
        Fate.CHANGED: {"good1.example"},
        Fate.SAME: set(),
    }
    assert all(change["Old"] is None for change in changes if change["Change"] == "new")
    assert all(change["New"] is None for change in changes if change["Change"] == "gone")
    assert err.splitlines()[-1].startswith("alerts: ")


def test_the_same_list_makes_no_difference(replay: Replay, lists: Callable[..., str]) -> None:
    """Nothing on stdout; with --all everything, as the same."""
    same = lists("same.txt", "bad1.example", "good1.example")
    _, out, err = replay("--indicators", same, "--against", same)
    assert (out, err.splitlines()[-1].split(", ")[:3]) == ("", ["alerts: 0 new", "0 gone", "0 changed"])

    _, out, _ = replay("--indicators", same, "--against", same, "--all")
    assert {line[0] for line in out.splitlines()} == {"="}


def test_expiry_is_decided_by_event_time(replay: Replay, lists: Callable[..., str]) -> None:
    """One that ended in the middle of the recording holds for what was before, whatever day it is now."""
    head = "IndicatorType,IndicatorValue,ExpirationTime,Action"
    until = lists("until.csv", head, "DomainName,bad1.example,2026-11-24T19:07:40Z,Block")
    _, out, _ = replay("--indicators", until, "--against", lists("ever.txt", "bad1.example"), "--format", "jsonl")
    (off,) = [one for one in objects(out) if (one["New"] or one["Old"])["DeviceName"] == "dev-c"]

    assert off["Change"] == "changed"
    assert off["New"]["Count"] < off["Old"]["Count"] == 3


def test_refused_entries_are_reported_and_stop_nothing(replay: Replay, lists: Callable[..., str]) -> None:
    """With file, line and reason; exit code 0."""
    code, _, err = replay("--indicators", lists("new.txt", "bad1.example", "co.uk"))

    assert code == 0
    assert 'new.txt: line 2: "co.uk": public suffix' in err
    assert "new.txt: indicators taken: 1, entries refused: 1" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "x"], "--indicators"),
        (["--all"], "--indicators"),
        (["--indicators", "x", "--out", "-"], "name a file for the rows"),
        (["--indicators", "nowhere.csv"], "nowhere.csv: cannot be read"),
    ],
)
def test_called_wrongly(replay: Replay, arguments: list[str], message: str) -> None:
    """One line and exit code 2."""
    code, out, err = replay(*arguments)

    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def alert(kind: str = "audited", **given: Any) -> Alert:
    """An alert as a test needs it."""
    empty = dict.fromkeys(Alert.__struct_fields__, "")
    numbers: dict[str, Any] = {"Version": 1, "Count": 1, "DestinationHosts": ["a.example"]}
    fixed = {
        "AlertId": kind,
        "Kind": kind,
        "DeviceId": "d",
        "DestinationDomain": "a.example",
        "FirstTime": "2026-11-24",
    }
    return Alert(**{**empty, **numbers, **fixed, **given})


def test_another_kind_is_a_change() -> None:
    """One alert of a device, domain and day in place of one: its kind changed; one in place of two is not the same alert."""
    audited, missed, blocked = alert(), alert("not_enforced", Count=3), alert("blocked")
    (change,) = differences([missed], [audited])

    assert change.fate is Fate.CHANGED
    assert difference_line(change).endswith("(was: audited, 1 request)")
    assert sorted(one.fate for one in differences([missed], [audited, blocked])) == [Fate.GONE, Fate.GONE, Fate.NEW]


def test_a_change_names_the_old_value() -> None:
    """Kind, severity, count and indicator, as far as they differ."""
    listed = {
        "IndicatorId": "1",
        "IndicatorAction": "block",
        "IndicatorMatch": "host_only",
        "IndicatorValue": "a.example/x",
    }
    new, old = alert(Severity="high"), alert(Severity="low", Count=2, **listed)
    (gained,), (lost,) = differences([old], [new]), differences([new], [old])

    assert difference_line(gained).startswith("~ ")
    assert difference_line(gained).endswith("(was: high, 1 request, no indicator)")
    assert difference_line(lost).endswith(
        "(was: low, 2 requests, indicator: block a.example/x (only its host is seen))"
    )
