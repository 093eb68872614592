"""The verbs `indicators` and `suppress` on a real broker: what they publish, list, remove, and how they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.indicator_topic import Removed, read
from schemas.indicators import Indicator, IndicatorAction, IndicatorType
from schemas.settings import Settings
from schemas.suppressions import Suppression
from schemas.topics import INDICATORS, topic_name
from streams.indicators.index import IndicatorSet
from streams.indicators.suppressions import SuppressionSet
from streams.worker.indicator_feed import IndicatorFeed
from tests.conftest import SettingsMaker
from unproxy import timeouts
from unproxy.cli import run
from unproxy.errors import KafkaAway
from unproxy.indicators.topic import Board
from unproxy.local.parts import write_settings

ROOT = Path(__file__).parents[3]

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(kafka_settings_for: SettingsMaker) -> Settings:
    """Kafka is all that these verbs need."""
    return kafka_settings_for()


@pytest.fixture
def verb(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb; gives exit code, stdout and stderr."""
    file = tmp_path / "settings.toml"
    write_settings(settings, file)

    def do(*arguments: str) -> tuple[int, str, str]:
        code = run(["--config", str(file), *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return do


def messages(settings: Settings) -> list[Indicator | Suppression | Removed]:
    """Everything on the topic, in order."""
    return [read(key, value) for key, value in Board(settings)._read()]


def test_add_list_remove(settings: Settings, verb: Verb) -> None:
    """An added indicator is listed with all its fields, changed by adding it again, and gone once removed by value or ID."""
    options = ["--action", "warn", "--title", "Campaign 7", "--severity", "high", "--expires", "30d", "--group", "lab"]
    assert verb("indicators", "add", "Bücher.example.", *options)[0] == 0
    code, out, _ = verb("indicators", "add", "203.0.113.7:8443", "--process", "Curl")
    assert (code, out.split()[1:]) == (0, ["block", "ip", "203.0.113.7"])
    assert verb("indicators", "add", "http://e.example/A")[0] == 0
    _, out, err = verb("indicators", "list")
    assert "*.xn--bcher-kva.example" in out
    assert err.endswith("3 indicators\n")

    _, out, _ = verb("indicators", "list", "--format", "jsonl")
    by_value = {one["value"]: one for one in map(json.loads, out.splitlines())}
    assert json.loads(verb("indicators", "list", "--format", "json")[1]) == list(by_value.values())
    assert by_value["xn--bcher-kva.example"]["groups"] == ["lab"]
    assert by_value["203.0.113.7"] | {"port": 8443, "process": "curl"} == by_value["203.0.113.7"]
    assert verb("indicators", "add", "203.0.113.7", "--port", "8443", "--process", "CURL", "--action", "allow")[0] == 0
    assert verb("indicators", "remove", "bücher.example", by_value["203.0.113.7"]["id"])[0] == 0
    code, _, err = verb("indicators", "remove", "gone.example", "http://E.example/A/")
    assert (code, "no indicator gone.example" in err) == (1, True)
    assert verb("indicators", "list")[1:] == ("", "0 indicators\n")
    assert [type(one).__name__ for one in messages(settings)] == ["Indicator"] * 4 + ["Removed"] * 3


def test_import_publishes_what_is_new(settings: Settings, verb: Verb, tmp_path: Path) -> None:
    """Refused entries are reported and fail the import unless lenient; what is there already is not published again."""
    file = tmp_path / "list"
    file.write_text("evil.example\nco.uk\n203.0.113.0/24\n", encoding="utf-8")
    code, out, err = verb("indicators", "import", str(file), "--action", "audit")
    assert (code, out) == (1, "")
    assert f'unproxy: {file}: line 2: "co.uk": public suffix' in err
    assert "3 entries: 2 published, acknowledged, 0 there already, 1 refused" in err
    assert err.endswith(f"{file}: 1 entry was refused; --lenient if that is as expected\n")

    code, _, err = verb("indicators", "import", str(file), "--action", "audit", "--lenient")
    assert (code, "0 published, acknowledged, 2 there already" in err) == (0, True)
    assert len(messages(settings)) == 2
    code, _, err = verb("indicators", "import", str(file), "--dry-run", "--lenient", "--exact")
    assert (code, "2 to publish" in err) == (0, True)
    assert verb("indicators", "import", str(file), "--lenient", "--exact")[0] == 0
    assert len(messages(settings)) == 4
    assert verb("indicators", "import", str(tmp_path / "none"))[0] == 2


def test_what_is_listed_can_be_imported(verb: Verb, tmp_path: Path) -> None:
    """CSV and JSON lines, as listed, are there already when they are imported."""
    for value in ("evil.example", "203.0.113.0/24", "http://e.example/A?b", "[2001:db8::1]:443"):
        assert verb("indicators", "add", value, "--title", 'a "title", with commas', "--expires", "2099-01-01")[0] == 0
    for shape in ("csv", "jsonl"):
        file = tmp_path / shape
        file.write_text(verb("indicators", "list", "--format", shape)[1], encoding="utf-8")
        code, _, err = verb("indicators", "import", str(file))
        assert (code, "0 published, acknowledged, 4 there already" in err) == (0, True), err


def test_suppress(settings: Settings, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suppression has who, why and until when; by indicator it needs one that is there; a second for the same replaces it."""
    monkeypatch.setenv("LOGNAME", "alice")
    verb("indicators", "add", "evil.example")
    why = ["--why", "red team", "--until", "7d"]
    assert verb("suppress", "add", *why, "--device", "Test-*", "--kind", "blocked")[0] == 0
    assert verb("suppress", "add", *why, "--domain", "Bücher.example", "--who", "bob")[0] == 0
    code, out, _ = verb("suppress", "add", *why, "--indicator", "evil.example", "--device", "@Lab")
    assert code == 0
    assert (
        verb("suppress", "add", "--why", "longer", "--until", "30d", "--device", "test-*", "--kind", "blocked")[0] == 0
    )
    _, listed, err = verb("suppress", "list")
    assert (len(listed.splitlines()), err) == (3, "3 suppressions\n")
    assert "kind=blocked  device=test-*  alice: longer" in listed
    assert "domain=xn--bcher-kva.example  bob: red team" in listed
    assert "device=@Lab" in listed

    id_ = out.split()[0]
    assert verb("suppress", "remove", id_)[0] == 0
    code, _, err = verb("suppress", "remove", id_)
    assert (code, f"no suppression {id_}" in err) == (1, True)
    _, listed, _ = verb("suppress", "list", "--format", "jsonl")
    assert {json.loads(line)["why"] for line in listed.splitlines()} == {"longer", "red team"}
    assert json.loads(verb("suppress", "list", "--format", "json")[1]) == list(map(json.loads, listed.splitlines()))
    assert all(json.loads(line)["until"].endswith("Z") for line in listed.splitlines())
    known = SuppressionSet()
    feed = IndicatorFeed(settings, IndicatorSet(), known)
    feed.load(30)
    feed.close()
    assert len(known) == 2


def test_defanged_values_are_made_whole(verb: Verb) -> None:
    """As a list's; what was made of a value is reported."""
    code, out, err = verb("indicators", "add", "hxxps://evil[.]example/a")
    assert (code, out.split()[1:]) == (0, ["block", "url", "https://evil.example/a"])
    assert err == 'unproxy: "hxxps://evil[.]example/a" is taken as https://evil.example/a\n'
    assert verb("indicators", "add", "[2001:db8::1]:443")[2] == ""
    code, out, _ = verb("suppress", "add", "--why", "x", "--until", "7d", "--domain", "evil[.]example")
    assert (code, "domain=evil.example" in out) == (0, True)
    assert verb("indicators", "remove", "hxxps://evil[.]example/a")[0] == 0


def test_an_unknown_group_is_reported(
    kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt group fits no device: that is reported, with the groups there are, and done all the same."""
    made = kafka_settings_for()
    groups = made.protection.model_copy(update={"groups": ("servers=srv-*", "lab=test-*")})
    file, listed = tmp_path / "settings.toml", tmp_path / "list"
    write_settings(made.model_copy(update={"protection": groups}), file)
    one = {"id": "", "type": "domain", "action": "block", "groups": ["serverz"]}
    listed.write_text("".join(json.dumps(one | {"value": f"n{n}.example"}) + "\n" for n in range(2)), encoding="utf-8")
    why = ["--why", "x", "--until", "7d"]
    warning = "unproxy: no group serverz in protection.groups (there are lab, servers); it fits no device until"
    for arguments, warned in (
        (["indicators", "add", "a.example", "--group", "serverz", "--group", "lab"], True),
        (["indicators", "import", str(listed)], True),
        (["suppress", "add", *why, "--device", "@serverz"], True),
        (["indicators", "add", "a.example", "--group", "servers"], False),
        (["suppress", "add", *why, "--device", "@lab"], False),
    ):
        assert run(["--config", str(file), *arguments]) == 0
        assert capsys.readouterr().err.count(warning) == warned, arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["indicators", "add", "co.uk"], "public suffix"),
        (["indicators", "add", "evil.example", "--expires", "2020-01-01"], "expired"),
        (["indicators", "add", "evil.example", "--expires", "yesterday"], "write 2026-11-24T19:07:30 (UTC), or 30d"),
        (["indicators", "add", "evil.example", "--severity", "dire"], "severity"),
        (["indicators", "add", "evil.example", "--action", "destroy"], "destroy"),
        (["suppress", "add", "--why", "x", "--until", "7d"], "hide every alert"),
        (["suppress", "add", "--why", "x", "--until", "soon", "--device", "d"], "not a time"),
        (["suppress", "add", "--why", "x", "--until", "2020-01-01", "--device", "d"], "past"),
        (["suppress", "add", "--why", " ", "--until", "7d", "--device", "d"], "--why is empty"),
        (["suppress", "add", "--until", "7d", "--device", "d"], "--why"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--domain", "two words"], "not a domain"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--domain", "*.co.uk"], "everything below co.uk"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--device", "["], "a [ without a ]"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--device", "a[0-9][!b"], "a [ without a ]"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--device", "*"], "hide every alert"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--kind", "nonsense"], "nonsense"),
        (["suppress", "add", "--why", "x", "--until", "7d", "--indicator", "e.example"], "there is none"),
    ],
)
def test_called_wrongly(arguments: list[str], message: str, verb: Verb) -> None:
    """What a person can mend is one line, exit 2, and nothing is published."""
    code, out, err = verb(*arguments)

    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert message in err


def test_indicator_that_is_not_the_only_one(verb: Verb) -> None:
    """A suppression by a value that several indicators have asks for an ID."""
    for port in ("80", "443"):
        verb("indicators", "add", "evil.example", "--port", port)
    code, _, err = verb("suppress", "add", "--why", "x", "--until", "7d", "--indicator", "evil.example")

    assert (code, "name one by ID" in err) == (2, True)


def test_missing_topic_is_reported(
    kafka_settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the topic each verb names the command that makes it."""
    made = kafka_settings_for()
    elsewhere = made.model_copy(update={"kafka": made.kafka.model_copy(update={"topic_prefix": "nowhere-"})})
    file = tmp_path / "settings.toml"
    write_settings(elsewhere, file)

    assert run(["--config", str(file), "indicators", "list"]) == 2
    assert f"{topic_name(elsewhere, INDICATORS)}; run `unproxy topics --create`" in capsys.readouterr().err


def test_kafka_that_goes_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without progress for long it reports that."""
    board = Board(settings)
    board.put(Indicator("id", IndicatorType.DOMAIN, "evil.example", IndicatorAction.BLOCK))
    monkeypatch.setattr(timeouts, "AWAY_SECS_MAX", 0.0)
    with pytest.raises(KafkaAway, match="start the command again"):
        board.flush()


def test_ctrl_c_ends_an_import(settings: Settings, tmp_path: Path) -> None:
    """Ctrl-C in the middle ends it with 130 and no stack; the same import again does the rest."""
    file, config = tmp_path / "list", tmp_path / "settings.toml"
    write_settings(settings, config)
    file.write_text("".join(f"n{number}.example\n" for number in range(300_000)), encoding="utf-8")
    command = [sys.executable, "-m", "unproxy", "--config", str(config), "indicators", "import", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        begun = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output = process.stderr.read()

    assert "entries read" in begun
    assert (process.returncode, "Traceback" in output) == (130, False), output
    assert "stopped; " in output
