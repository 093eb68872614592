"""`unproxy up` as a user runs it: real Kafka, real engine, each part a process; and what can go wrong with that."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.joined_tables import extra_columns
from schemas.settings_file import load
from tests.unproxy.local.up_story import Running, Story, open_files, parts_of, servers_of, unproxy
from unproxy.cli import run
from unproxy.local.show import hunting_queries

PROXY = "198.51.100.80"
SAMPLE = [*(f"suricata:unproxy/samples/dev-{letter}.eve.json.gz" for letter in "abc")]
SAMPLE.append("sockets:unproxy/samples/sockets.jsonl.gz")

Rows = dict[str, dict[str, Any]]


def content(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is empty, and without what depends on the order in which evidence came."""
    return {key: value for key, value in row.items() if value not in ("", None, []) and key != "Version"}


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The latest rows that `replay` makes of the sample."""
    file = tmp_path_factory.mktemp("replay") / "rows.jsonl"
    assert run(["replay", *SAMPLE, "--out", str(file)]) == 0
    latest: Rows = {}
    for row in map(json.loads, file.read_text().splitlines()):
        if row["Version"] >= latest.get(row["RecordId"], row)["Version"]:
            latest[row["RecordId"]] = row
    return {record: content(row) for record, row in latest.items()}


def table(folder: Path) -> Rows:
    """The rows as hunters see them, asked while nothing runs."""
    empty = ", ".join(["TimeGenerated", *extra_columns("DeviceNetworkEvents")])
    sql = f"SELECT * EXCEPT ({empty}) FROM DeviceNetworkEvents"
    done = unproxy("query", "--data", str(folder), "--format", "jsonl", sql)
    assert done.code == 0, done.err
    return {row["RecordId"]: content(row) for row in map(json.loads, done.out.splitlines())}


def test_shows_both_queries_and_their_results(story: Story) -> None:
    """Both hunting queries stand there word for word, each with ten rows; the second without hops to the proxy."""
    everything, behind = hunting_queries(PROXY)
    first, _, second = story.up.out.partition(behind)

    assert everything in first
    assert first.count("  10 rows\n") == second.count("  10 rows\n") == 1
    assert PROXY not in second.partition("The book")[0]


def test_book_balances(story: Story) -> None:
    """Though worker and sink were killed on the way, nothing is lost and nothing is counted twice."""
    assert "The book balances:" in story.up.out
    assert "4,768 lines read = 1,720 parsed + 3,048 ignored + 0 rejected" in story.up.out
    assert "453 connections = 435 resolved" in story.up.out


def test_parts_that_die_are_started_again(story: Story) -> None:
    """The death of a part is reported with its cause and its log."""
    for name in ("worker-1", "sink"):
        assert f"{name} ended (killed by SIGKILL) and is started again; its log is " in story.up.err


def test_rows_are_those_of_replay(story: Story, replayed: Rows) -> None:
    """What comes out of the whole path, killed on the way, is what `replay` makes: same records, same content."""
    assert table(story.folder) == replayed


def test_ctrl_c_ends_everything_within_ten_seconds(story: Story) -> None:
    """Ctrl-C is the ordinary end: exit code 0, soon, and no process stays behind."""
    assert story.up.code == 0
    assert story.stop_secs < 10
    assert story.left_running == []
    assert "Traceback" not in story.up.err


def test_everything_is_for_the_owner_only(story: Story) -> None:
    """Data, logs, settings and secrets: no file and no folder that `up` or one of its processes made."""
    assert story.open_files == []
    assert open_files(story.folder) == []


def test_secrets_are_in_files_only(story: Story) -> None:
    """Not in a command line, which all users see, not in a log, not on the screen; the settings hold the logins."""
    settings = load(story.folder / "settings.toml")
    secrets = {
        settings.kafka.sasl_password.get_secret_value(): "kafka",
        settings.clickhouse.password.get_secret_value(): "clickhouse",
    }
    logs = [file.read_text(errors="replace") for file in story.folder.rglob("*.log")]
    outputs = [done.out + done.err for done in (story.up, *story.while_running.values())]

    assert settings.kafka.security_protocol == "SASL_PLAINTEXT"
    for secret, server in secrets.items():
        assert secret == (story.folder / server / "secret").read_text()
        assert len(secret) >= 40
        assert len(story.command_lines) >= 5
        assert not any(secret in text for text in (*story.command_lines, *logs, *outputs))
    assert f"their logins are in {story.folder / 'settings.toml'}" in story.up.out


def test_others_find_the_running_one(story: Story) -> None:
    """`query` meets the running engine; `check`, `migrate`, `topics` find nothing to do; a second `up` reports why not."""
    outputs = story.while_running

    assert outputs["query"].out.splitlines()[-1] == "968"
    assert outputs["check"].code == 0
    assert "WRONG" not in outputs["check"].out
    assert (outputs["migrate"].code, outputs["migrate"].out) == (0, "")
    assert (outputs["topics"].code, outputs["topics"].out) == (0, "")
    assert outputs["second up"].code == 2
    assert "is in use by up" in outputs["second up"].err
    assert outputs["produce"].code == 0
    assert "nothing is new: all of it was published before" in outputs["produce"].err
    assert outputs["alerts"].code == 0
    assert '"DeviceName": "dev-b"' in outputs["alerts"].out


def test_the_commands_it_prints_work(story: Story) -> None:
    """The commands under "How to go on" run as they stand, on the data folder when nothing runs."""
    after = story.up.out.partition("How to go on:")[2]
    commands = [line.strip() for line in after.splitlines() if " --data " in line]
    root = Path(__file__).parents[3]

    assert len(commands) == 4
    for command in commands:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=root, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_timeline_shows_each_destination_with_its_verdict(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy, real target and outcome stand on one line, newest first; filters by time, process and text choose."""
    monkeypatch.setenv("COLUMNS", "200")
    data = ["--data", str(story.folder)]
    done = unproxy(
        "timeline", *data, "Dev-B", "--text", "bad1.example:443", "--process", "curl", "--from", "2026-11-24"
    )
    head, *lines = done.out.splitlines()

    assert done.code == 0
    assert head.startswith("Time (UTC)")
    assert lines
    assert all(f"  {PROXY}:" in line or "  [2001:db8:51::80]:" in line for line in lines)
    assert all("bad1.example:443  " in line and "  blocked  " in line for line in lines)
    assert lines == sorted(lines, reverse=True)
    assert unproxy("timeline", *data, "dev-b", "--to", "2026-11-24").out == ""
    unknown = unproxy("timeline", *data, "dev-x")
    assert (unknown.code, unknown.out) == (1, "")
    assert "known devices: dev-a, dev-b, dev-c" in unknown.err


def test_event_shows_how_it_was_decided(story: Story) -> None:
    """A connection, found by the beginning of its ID, comes with its destinations, verdicts, alerts and the reason."""
    data = ["--data", str(story.folder)]
    sql = "SELECT ConnectionId FROM DeviceNetworkEvents WHERE Outcome = 'blocked' AND Layer = 'connection' LIMIT 1"
    identity = json.loads(unproxy("query", *data, "--format", "jsonl", sql).out)["ConnectionId"]
    done = unproxy("event", *data, identity[:10])

    assert done.code == 0
    for part in ("Connection ", "Destination ", "Verdict ", "Alert ", "How it was decided: ", "Evidence: "):
        assert part in done.out
    assert "Outcome blocked" in done.out
    assert unproxy("event", *data, "ffffffff-not-there").code == 2


def test_next_up_takes_over_what_a_dead_one_left(story: Story, replayed: Rows) -> None:
    """`up` killed -9 leaves its parts running; the next one ends or takes them, adds nothing, and ends with 0."""
    left = Running(story.folder)
    parts = left.wait_for_parts("worker-1", "sink")
    left.end(signal.SIGKILL)
    orphans = [parts["worker-1"], parts["sink"], *servers_of(story.folder)]
    assert all(psutil.pid_exists(pid) for pid in orphans)
    assert table(story.folder) == replayed, "the engine that was left running answers, too"

    done = unproxy("up", "--data", str(story.folder), "--once")
    assert done.code == 0, done.err
    assert "left" in done.err
    assert "The book balances:" in done.out
    assert not any(psutil.pid_exists(pid) for pid in orphans)
    assert table(story.folder) == replayed


def test_sigterm_while_starting_ends_it(tmp_path: Path) -> None:
    """A signal while parts start ends it as well, with 130 where the end was to be waited for; no process is left."""
    folder = tmp_path / "data"
    running = Running(folder, "--once")
    running.wait_for_parts("sink")
    done = running.end(signal.SIGTERM)

    assert done.code == 130
    assert servers_of(folder) == []
    assert parts_of(folder) == []
