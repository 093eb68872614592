"""The command line itself: help texts, examples, exit codes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from unproxy.cli import app, run
from unproxy.options import program

GROUP: Any = typer.main.get_command(app)
VERBS = sorted(GROUP.commands)
HEAVY = ("faust", "confluent_kafka", "clickhouse_connect", "chdb", "pydantic", "rich", "psutil")


def example_of(command: Any) -> list[str]:
    """The arguments of the example at the end of a help text."""
    last = command.epilog.splitlines()[-1].strip()
    assert last.startswith(program())
    return shlex.split(last.removeprefix(program()))


def test_all_verbs_are_there() -> None:
    """Everything that can be done has a verb."""
    wanted = (
        "up replay produce sensor simulate worker sink forward migrate hunt query timeline coverage event alerts indicators "
        "suppress rejects detach-damaged check topics acls"
    )

    assert sorted(wanted.split()) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_example_is_understood(verb: str) -> None:
    """Each help text ends with an example whose options and arguments exist."""
    command = GROUP.commands[verb]
    arguments = example_of(command)
    if verb == "event":
        arguments = ["event", "0123456789abcdef"]  # the example asks `query` for an ID
    top = GROUP.make_context("unproxy", arguments)
    name, found, rest = GROUP.resolve_command(top, [*top._protected_args, *top.args])

    assert name == verb
    assert found.make_context(verb, rest, parent=top).command is found


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_the_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`VERB --help` shows the example last, on a line of its own, not wrapped."""
    assert run([verb, "--help"]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()

    assert lines[-2].strip() == "Example:"
    assert lines[-1].strip() == GROUP.commands[verb].epilog.splitlines()[-1].strip()


@pytest.mark.parametrize(
    ("verb", "below"), [(verb, below) for verb in VERBS for below in getattr(GROUP.commands[verb], "commands", ())]
)
def test_verbs_below_verbs_have_examples(verb: str, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Likewise where a verb has verbs of its own."""
    command = GROUP.commands[verb].commands[below]
    first, second, *rest = example_of(command)
    assert (first, second) == (verb, below)
    assert command.make_context(below, rest).command is command

    assert run([verb, below, "--help"]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1].strip() == command.epilog.splitlines()[-1].strip()


def test_each_format_of_lines_has_an_array() -> None:
    """A verb that writes JSON lines writes one JSON array, too."""
    verbs = [one for verb in GROUP.commands.values() for one in getattr(verb, "commands", {"": verb}).values()]
    formats = {
        verb.name: option.default
        for verb in verbs
        for option in verb.params
        if option.opts == ["--format"] and verb.name != "import"
    }

    assert len(formats) >= 9
    assert [name for name, default in formats.items() if not {"json", "jsonl"} <= set(default.__class__)] == []


def test_help_loads_nothing_heavy() -> None:
    """`--help` answers at once, as it imports none of the rooms and no big library."""
    code = f"import sys, unproxy.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_verb_imports_no_other() -> None:
    """The help text of a verb imports the module of that verb and no other command."""
    code = (
        "import sys; from unproxy.cli import run; run(['event', '--help']); "
        "print(sorted(name for name in sys.modules if name.startswith('unproxy.commands.')), 'http.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "['unproxy.commands.event'] False"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["query"],
        ["query", "--formt", "csv", "x"],
        ["timeline", "dev-a", "--from", "yesterday"],
        ["coverage", "dev-a", "at noon"],
        ["coverage", "dev-a", "2026-11-25", "2026-11-24"],
        ["coverage", "dev-a", "20:00", "19:00"],
        ["timeline", "dev-a", "--from", "2026-11-25", "--to", "2026-11-24"],
        ["timeline", "dev-a", "--from", "20:00", "--to", "19:00"],
        ["timeline", "dev-a", "--before", "2026-11-25"],
        ["timeline", "dev-a", "--before", "soon/0123456789"],
        ["alerts", "--from", "2026-11-25", "--to", "2026-11-24"],
        ["alerts", "--domain", "two words"],
        ["simulate", "--rate", "-1"],
        ["simulate", "--duration", "0"],
        ["produce", "auto:ftp://sensors.example/eve.json"],
        ["--config", "/nowhere.toml", "check"],
        ["replay", "nonsense:file"],
        ["replay", "suricata:/nowhere.json"],
        ["replay", "suricata:/nowhere.json", "--against", "old.csv"],
        ["replay", "suricata:/nowhere.json", "--indicators", "/nowhere.csv"],
        ["alerts", "--kind", "nonsense"],
        ["alerts", "--severity", "bad"],
        ["up", "suricata:/nowhere.json"],
        ["query", "--data", "/nowhere", "SELECT 1"],
        ["event", "--data", "/nowhere", "0123456789"],
        ["rejects", "--reason", "nonsense"],
        ["rejects", "--since", "yesterday"],
        ["rejects", "--again"],
        ["rejects", "--dry-run"],
        ["rejects", "--replay", "--data", "/nowhere"],
        ["detach-damaged", "--table", "Nonsense"],
        ["detach-damaged", "--data", "/nowhere"],
        ["indicators", "add"],
        ["indicators", "add", "co.uk"],
        ["indicators", "import", "/nowhere.csv", "--dry-run"],
        ["indicators", "list", "--data", "/nowhere"],
        ["suppress", "add", "--why", "x"],
        ["up", "--data", "/dev/null"],
        ["up", "--data", "/proc/nowhere"],
        ["query", " "],
        ["query", "--kql", ""],
        ["alerts", "--from-start"],
    ],
)
def test_called_wrongly_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A user's mistake is reported in one line on stderr, without a stack, and ends with 2."""
    assert run(arguments) == 2
    output = capsys.readouterr()

    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("unproxy: ")
    assert "Value error" not in output.err


def test_wrong_setting_is_exit_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting that does not exist stops every command, with a suggestion."""
    monkeypatch.setenv("UNPROXY_CORRELATION__PATEINCE_SECS", "5")

    assert run(["check"]) == 2
    assert "UNPROXY_CORRELATION__PATIENCE_SECS" in capsys.readouterr().err


def test_nothing_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a verb the verbs are listed, and that counts as called wrongly."""
    assert run([]) == 2
    assert "replay" in capsys.readouterr().err


def test_reader_that_has_seen_enough_is_no_error() -> None:
    """`unproxy … | head` ends quietly when head is done."""
    command = f"{sys.executable} -m unproxy replay sockets:unproxy/samples/sockets.jsonl.gz | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_full_disk_is_reported() -> None:
    """Output that finds no room ends in one sentence and exit 1, whether it goes to a file or to stdout."""
    for output in ("--out /dev/full", "> /dev/full"):
        command = f"{sys.executable} -m unproxy replay sockets:unproxy/samples/sockets.jsonl.gz {output}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert "No space left on device; make room" in done.stderr
        assert "Traceback" not in done.stderr


def test_dump_shows_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`check --dump` prints the settings in force as TOML, secrets as stars."""
    monkeypatch.setenv("UNPROXY_CLICKHOUSE__PASSWORD", "hush")

    assert run(["check", "--dump"]) == 0
    out = capsys.readouterr().out
    assert 'password = "***"' in out
    assert "hush" not in out
