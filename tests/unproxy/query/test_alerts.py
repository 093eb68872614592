"""`unproxy alerts`: one line an alert, suppressed ones marked, and the filters alike for table and topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import Settings
from schemas.tables import Alert
from schemas.topics import BLOCK_ALERTS
from sinks.clickhouse import ClickHouseSink
from tests.sinks.sink_world import publish
from unproxy import wiring
from unproxy.cli import run
from unproxy.errors import Fixable
from unproxy.local.parts import write_settings
from unproxy.query.alerts import Wanted, followed, line
from unproxy.query.client import of_settings
from unproxy.query.event import find

Verb = Callable[..., tuple[int, str, str]]


def alert(number: int, **given: Any) -> dict[str, Any]:
    """An alert as a test needs it."""
    empty = dict.fromkeys(Alert.__struct_fields__, "")
    fixed: dict[str, Any] = {
        "AlertId": f"{number:032}", "Version": 1, "Count": 2, "Kind": "blocked", "Severity": "medium", "Outcome": "blocked",
        "DeviceId": "dev-b", "DeviceName": "dev-b", "DestinationDomain": "bad.example", "ProtectionMode": "block",
        "DestinationHosts": ["www.bad.example"], "DestinationPort": 443, "InitiatingProcessFileName": "curl",
        "InitiatingProcessId": 7, "ProxyIP": "198.51.100.80", "ProxyPort": 3128, "Techniques": [], "EvidenceIds": [],
        "FirstTime": f"2026-11-24T19:07:0{number}.000000Z", "LastTime": f"2026-11-24T19:07:0{number}.500000Z",
        "Title": "Campaign 7", "SuppressedUntil": None,
    }  # fmt: skip
    return {**empty, **fixed, **given}


LISTED = {
    "IndicatorId": "f" * 24,
    "IndicatorValue": "bad.example",
    "IndicatorAction": "block",
    "IndicatorMatch": "full",
}
QUIET = {"SuppressedBy": "ana", "SuppressedReason": "red team", "SuppressedUntil": "2099-01-01T00:00:00.000000Z"}
ELSEWHERE = {"DestinationDomain": "a.other.example", "DestinationHosts": ["b.a.other.example"]}
ALERTS = [
    alert(1),
    alert(2, Kind="not_enforced", Severity="high", Outcome="allowed", ProtectionMode="off", **LISTED),
    alert(3, Kind="host_mismatch", Severity="low", **QUIET),
    alert(4, Count=0),
    alert(5, DeviceId="dev-c", DeviceName="dev-c", Kind="audited", Severity="informational", **ELSEWHERE),
]


@pytest.fixture
def verb(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """`unproxy alerts` on a table with these alerts; gives exit code, stdout and stderr."""
    wiring.migrate(settings)
    sink = ClickHouseSink(settings.clickhouse)
    sink.write("BlockAlerts", [json.dumps(one).encode() for one in ALERTS], "once")
    sink.close()
    file = tmp_path / "settings.toml"
    write_settings(settings, file)

    def do(*arguments: str) -> tuple[int, str, str]:
        code = run(["--config", str(file), "alerts", *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return do


@pytest.mark.parametrize(("severity", "code"), [("high", "31"), ("medium", "33")])
def test_severity_alone_has_a_color(severity: str, code: str) -> None:
    """Control sequences in any other part of an alert are escaped; one in the severity's place gets no color."""
    hostile = "\x1b[2J"
    shown = line(alert(1, Severity=severity, Title=hostile, Kind=hostile, DeviceName=hostile), color=True)

    assert f"  \x1b[{code}m{severity:6}\x1b[0m  " in shown
    assert (shown.count("\x1b"), shown.count("\\u001b[2J")) == (2, 3)
    assert "\x1b" not in line(alert(1, Severity=hostile), color=True)
    assert "\x1b" not in line(alert(1, Severity=severity))


FILTERS = [
    ([], Wanted(), [1, 2, 3, 5]),
    (["--device", "dev-c"], Wanted(device="dev-c"), [5]),
    (["--device", "DEV-C"], Wanted(device="DEV-C"), [5]),
    (["--kind", "not_enforced"], Wanted(kind="not_enforced"), [2]),
    (["--severity", "medium"], Wanted(severities=("medium", "high")), [1, 2]),
    (["--suppressed"], Wanted(suppressed=True), [3]),
    (["--no-suppressed"], Wanted(suppressed=False), [1, 2, 5]),
    (["--from", "2026-11-24T19:07:03"], Wanted(since="2026-11-24T19:07:03.000000Z"), [3, 5]),
    (["--to", "2026-11-24T19:07:02"], Wanted(until="2026-11-24T19:07:02.000000Z"), [1]),
    (
        ["--from", "2026-11-24T19:07:02.4", "--to", "2026-11-24T19:07:02.6"],
        Wanted(since="2026-11-24T19:07:02.400000Z", until="2026-11-24T19:07:02.600000Z"),
        [2],
    ),
    (["--domain", "*.Other[.]example"], Wanted(domain="other.example"), [5]),
    (["--domain", "www.bad.example"], Wanted(domain="www.bad.example"), [1, 2, 3]),
    (["--domain", "ad.example"], Wanted(domain="ad.example"), []),
    (["--domain", "2001:DB8:0::1"], Wanted(domain="2001:db8::1"), []),
    (["--indicator", "Bad.example."], Wanted(indicator="bad.example"), [2]),
    (["--indicator", "f" * 24], Wanted(indicator="f" * 24), [2]),
    (["--no-suppressed", "--severity", "high", "--kind", "blocked"], Wanted("", "blocked", ("high",), False), []),
]


def test_filters_of_the_table(verb: Verb) -> None:
    """Each narrows what is shown; withdrawn alerts never are, suppressed ones are by default."""
    for arguments, _, numbers in FILTERS:
        code, out, err = verb("--format", "jsonl", *arguments)

        assert code == 0
        assert [int(json.loads(one)["AlertId"]) for one in out.splitlines()] == numbers, arguments
        assert ("no alerts" in err) is (not numbers)


def test_unknown_device_is_reported(verb: Verb) -> None:
    """An unknown name is reported differently from a device without alerts."""
    code, out, err = verb("--device", "nodev")

    assert (code, out, err) == (1, "", "unproxy: nodev was never seen; known devices: none yet\n")


def test_filters_of_the_topic(settings: Settings) -> None:
    """The same ones, where withdrawn alerts are shown, too."""
    publish(settings, BLOCK_ALERTS, [json.dumps(one).encode() for one in ALERTS])
    for _, wanted, numbers in FILTERS:
        expected = {*numbers, *([4] if wanted.has(ALERTS[3]) else [])}
        found: set[int] = set()
        for one in followed(settings, wanted, True, print):
            found |= {int(one["AlertId"])} if one is not None else set()
            if found == expected:
                break

        assert found == expected


def test_lines_for_people(verb: Verb) -> None:
    """When, what kind, how bad, who, where, how often, what became of it, by which indicator."""
    _, out, _ = verb()

    assert out.splitlines()[1] == (
        "2026-11-24 19:07:02.500  not_enforced  high    dev-b  curl (7)  bad.example (www.bad.example) through "
        "198.51.100.80  2 requests  allowed, mode off  indicator: block bad.example  Campaign 7  [000000000000]"
    )
    assert "(suppressed by ana until 2099-01-01 00:00:00: red team)" in out.splitlines()[2]


def test_what_a_line_may_lack() -> None:
    """A withdrawn alert, one of an unknown process, a match by the host alone, one from before alerts had all columns."""
    old = alert(1, Count=0, InitiatingProcessFileName="", InitiatingProcessId=None, ProxyIP="", Title="")
    for name in ("Severity", "Outcome", "IndicatorId", "SuppressedBy"):
        del old[name]

    assert line(old).split("  ")[-4:] == [
        "unknown process",
        "bad.example (www.bad.example)",
        "withdrawn",
        "[000000000000]",
    ]
    proxy = alert(1, DestinationDomain="198.51.100.80", DestinationHosts=["198.51.100.80"], ProxyIP="198.51.100.80")
    assert "  curl (7)  198.51.100.80  2 requests  " in line(proxy)
    assert "  1 connection  " in line(alert(1, Kind="proxy_bypass", Count=1))
    assert "block bad.example (only its host is seen)" in line(alert(1, **{**LISTED, "IndicatorMatch": "host_only"}))


def test_an_ambiguous_beginning_of_an_id_names_the_candidates(verb: Verb, settings: Settings) -> None:
    """`event` refuses it; each candidate has its ID, time, device and kind."""
    verb()
    with pytest.raises(Fixable, match="5 things begin with 00000000") as refused:
        find(of_settings(settings), "0" * 8)

    assert sorted(str(refused.value).splitlines())[0] == f"  {1:032}  2026-11-24 19:07:01.500  dev-b  alert"
    assert find(of_settings(settings), f"{1:032}").alerts[0]["AlertId"] == f"{1:032}"


def test_json_is_one_array(verb: Verb) -> None:
    """Of the same alerts as JSON lines; what never ends is no array."""
    array, lines = (verb("--format", form)[1] for form in ("json", "jsonl"))

    assert json.loads(array) == [json.loads(line) for line in lines.splitlines()]
    assert verb("--follow", "--format", "json")[0] == 2
