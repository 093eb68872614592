"""`unproxy hunt` from the command line: where a query comes from, how its rows are written, what ends it."""

from __future__ import annotations

import csv
import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import chdb
import pytest

from schemas.settings import Settings
from tests.unproxy.local.up_story import wait_for
from tests.unproxy.query.hunting_tables import sample_tables, settings_with
from tests.unproxy.terminal import HOSTILE, Terminal, strange
from unproxy.cli import EXIT_INTERRUPTED, run
from unproxy.local.parts import write_settings
from unproxy.local.servers.engine import Engine
from unproxy.query.client import QueryRefused, of_settings
from unproxy.query.hunt import Limits, chunks

THREE = "datatable(Name: string, Count: long) ['b', 2, 'a', 1, 'c', 3] | order by Name asc"
ENDLESS = (
    "range x from 1 to 2000000 step 1 | extend k = 1 | join kind=inner (range y from 1 to 2000000 step 1 | extend k = 1) on k"
    " | summarize count() by z = (x * y) % 7"
)
"""Takes hours."""


@pytest.fixture(scope="module")
def settings(engine: Engine) -> Settings:
    """A database with the sample. The engine's user may write."""
    return settings_with(engine, "hunt_command", sample_tables())


@pytest.fixture(scope="module")
def file(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings as a file."""
    file = tmp_path_factory.mktemp("settings") / "settings.toml"
    write_settings(settings, file)
    return file


class Done(NamedTuple):
    """What a command left."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Return stdout as text."""
        return self.raw.decode()


Hunt = Callable[..., Done]


@pytest.fixture
def hunt(file: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Hunt:
    """Runs the command."""

    def done(*arguments: str, verb: str = "hunt") -> Done:
        capsysbinary.readouterr()
        code = run(["--config", str(file), verb, *arguments])
        out, err = capsysbinary.readouterr()
        return Done(code, out, err.decode())

    return done


def typed(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """Make this the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def rows(done: Done) -> list[dict[str, object]]:
    """Return the rows that were written as lines of JSON."""
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_query_from_argument_file_and_stdin(hunt: Hunt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three give the same; a byte order mark is no part of the query."""
    expected = [{"Name": "a", "Count": 1}, {"Name": "b", "Count": 2}, {"Name": "c", "Count": 3}]
    stored = tmp_path / "three.kql"
    stored.write_text(f"// three rows\n{THREE}\n", encoding="utf-8-sig")
    typed(monkeypatch, f"\ufeff{THREE}".encode())

    assert rows(hunt(THREE, "--format", "jsonl")) == expected
    assert rows(hunt("--file", str(stored), "--format", "jsonl")) == expected
    assert rows(hunt("-", "--format", "jsonl")) == expected


def test_query_kql_is_the_same(hunt: Hunt) -> None:
    """`query --kql` writes what `hunt` writes."""
    query = "DeviceNetworkEvents | summarize count() by DeviceName, Layer | order by DeviceName asc, Layer asc"
    asked, old = hunt(query), hunt("--kql", query, verb="query")

    assert (asked.code, asked.raw) == (old.code, old.raw)
    assert asked.out.count("\n") == 2 + 6


def test_parameters_replace_the_values_of_let(hunt: Hunt) -> None:
    """A value is KQL; what is no expression is a text."""
    query = "let N = 1; let Word = 'x'; print n = N + 1, word = Word"
    done = hunt(query, "--set", "N=40 + 1", "--set", "Word=two words", "--format", "jsonl")

    assert rows(done) == [{"n": 42, "word": "two words"}]


def test_library_by_name(hunt: Hunt) -> None:
    """`--list` shows the names, `--name` runs one, and a wrong name is corrected."""
    listed = hunt("--list")
    ran = hunt("--name", "unconfirmed-proxies", "--set", "Since=3650d", "--format", "jsonl")
    missed = hunt("--name", "rare-domains")

    assert "rare-domain: Rare domain across the fleet\n" in listed.out
    assert {row["Proxy"] for row in rows(ran)} == {"198.51.100.80", "2001:db8:51::80"}
    assert (missed.code, missed.out) == (2, "")
    assert "did you mean rare-domain?" in missed.err


def test_sql_runs_as_it_is_printed(hunt: Hunt, settings: Settings) -> None:
    """`--sql` prints a query that ClickHouse takes, and runs nothing."""
    done = hunt("DeviceNetworkEvents | summarize N = count() by Layer | order by Layer asc", "--sql")

    assert done.code == 0
    assert of_settings(settings).rows(done.out) == [
        {"Layer": "connection", "N": 453}, {"Layer": "destination", "N": 515},
    ]  # fmt: skip


def test_table(hunt: Hunt) -> None:
    """Heads, a rule and the rows."""
    assert hunt(THREE).out.splitlines() == ["Name  Count", "────  ─────", "a     1", "b     2", "c     3"]


def test_json(hunt: Hunt) -> None:
    """One array, in which dynamic values are what they are and null is null."""
    done = hunt(
        "print d = dynamic({'a': [1, 'x']}), n = long(null), s = 2h, t = datetime(2026-11-24)", "--format", "json"
    )

    assert json.loads(done.out) == [
        {"d": {"a": [1, "x"]}, "n": None, "s": "02:00:00", "t": "2026-11-24T00:00:00.000000Z"}
    ]


def test_csv_does_not_start_a_formula(hunt: Hunt) -> None:
    """A text cell that a spreadsheet would run gets an apostrophe, a number does not; --raw-csv leaves both."""
    query = "print f = '=cmd()', n = -1, d = dynamic(['a', '\"b\"'])"
    safe, raw = hunt(query, "--format", "csv"), hunt(query, "--format", "csv", "--raw-csv")

    assert list(csv.reader(io.StringIO(raw.out))) == [["f", "n", "d"], ["=cmd()", "-1", '["a", "\\"b\\""]']]
    assert list(csv.reader(io.StringIO(safe.out)))[1][::2] == ["'=cmd()", '["a", "\\"b\\""]']


@pytest.mark.parametrize(("written", "name"), [("arrow", "Arrow"), ("parquet", "Parquet")])
def test_binary_formats_can_be_read(hunt: Hunt, tmp_path: Path, written: str, name: str) -> None:
    """Names, types and values come back; the row limit holds, and is reported."""
    made = tmp_path / f"rows.{written}"
    done = hunt(f"{THREE} | extend At = datetime(2026-11-24 01:02:03)", "--format", written, "--rows", "2")
    made.write_bytes(done.raw)
    read = f"SELECT Name, Count, toString(At), toTypeName(Count) FROM file('{made}', '{name}') ORDER BY Name"
    found = [json.loads(line) for line in str(chdb.query(read, "JSONCompactEachRow")).splitlines()]

    assert done.err == "the first 2 rows; --rows 0 gives all\n"
    assert [row[:2] for row in found] == [["a", 1], ["b", 2]]
    assert found[0][2].startswith("2026-11-24 01:02:03")
    assert "Int64" in found[0][3]


@pytest.mark.parametrize("written", ["table", "json", "jsonl", "csv"])
def test_row_limit_reports_that_there_are_more(hunt: Hunt, written: str) -> None:
    """With two of three rows there are more; with three or no limit there are none."""
    two, three, every = (hunt(THREE, "--format", written, "--rows", most) for most in "230")

    assert two.err == "the first 2 rows; --rows 0 gives all\n"
    assert "c" not in two.out.replace("Count", "")
    assert three.err == every.err == ""
    assert three.raw == every.raw


def test_no_rows_are_reported(hunt: Hunt) -> None:
    """On stderr: stdout is for programs."""
    done = hunt(f"{THREE} | where Count > 5", "--format", "json")

    assert (done.code, json.loads(done.out), done.err) == (0, [], "no rows\n")


def test_slow_hunt_ends_at_its_time(hunt: Hunt) -> None:
    """Exit code 1, and the option that allows more."""
    done = hunt(ENDLESS, "--timeout", "1")

    assert (done.code, done.out) == (1, "")
    assert "took more than 1 s" in done.err
    assert "--timeout" in done.err


def test_large_hunt_ends_at_its_memory(hunt: Hunt) -> None:
    """Exit code 1, and the option that allows more."""
    done = hunt("range x from 1 to 10000000 step 1 | summarize make_set(x)", "--memory", "20")

    assert (done.code, done.out) == (1, "")
    assert "needs more than 20 MB of memory" in done.err
    assert "--memory" in done.err


@pytest.mark.parametrize("written", ["arrow", "parquet"])
def test_failed_hunt_leaves_no_part_of_a_file(hunt: Hunt, written: str) -> None:
    """The answer is sent when it is whole."""
    done = hunt(ENDLESS, "--timeout", "1", "--format", written)

    assert (done.code, done.raw) == (1, b"")


def test_explain_counts_what_was_read(hunt: Hunt) -> None:
    """Time, rows and bytes, on stderr."""
    done = hunt("DeviceNetworkEvents | count", "--explain", "--format", "jsonl")

    assert rows(done) == [{"Count": 968}]
    assert " s, " in done.err
    assert " bytes read\n" in done.err


def test_chart_is_a_remark(hunt: Hunt) -> None:
    """`render` keeps the rows and is named."""
    done = hunt(f"{THREE} | render piechart")

    assert done.out.count("\n") == 5
    assert done.err.startswith("render piechart: ")


def test_mistake_is_shown_with_its_place(hunt: Hunt) -> None:
    """Line and column, the line itself and a caret below; exit code 2."""
    done = hunt("DeviceNetworkEvents\n| where Outcom == 'blocked'")
    first, line, caret = done.err.splitlines()

    assert (done.code, done.out) == (2, "")
    assert "line 2, column 9" in first
    assert "did you mean `Outcome`?" in first
    assert line.index("Outcom") == caret.index("^")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no query"),
        (["  "], "there is no query"),
        (["print 1", "--name", "beacons"], "two queries"),
        (["--file", "/nowhere/x.kql"], "/nowhere/x.kql: No such file"),
        (["--file", "/"], "Is a directory"),
        (["print 1", "--set", "X"], "--set X: expected NAME=VALUE"),
        (["print 1", "--set", "X=1"], "no variable `X`"),
        (["print 1", "--external", "x"], "expected ADDRESS=FILE"),
        (["print 1", "--format", "xml"], "xml"),
        (["print 1", "--timeout", "0"], "--timeout"),
        (["print 1", "--explain", "--format", "parquet"], "--explain"),
    ],
)
def test_wrong_call_is_explained(hunt: Hunt, arguments: list[str], words: str) -> None:
    """One message, exit code 2, no traceback."""
    done = hunt(*arguments)

    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err


def test_unreadable_text_is_explained(hunt: Hunt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a standard input that are not UTF-8."""
    stored = tmp_path / "latin.kql"
    stored.write_bytes(b"print '\xe9'")
    typed(monkeypatch, b"print '\xe9'")

    for done in (hunt("--file", str(stored)), hunt("-")):
        assert done.code == 2
        assert "not UTF-8 at byte 7" in done.err


def test_a_list_of_an_incident_may_be_long(hunt: Hunt) -> None:
    """Ten thousand hosts are more SQL than ClickHouse takes by default; so is a search of all tables."""
    listed = ", ".join(f"'host-{number}.incident.example'" for number in range(8_000))

    assert rows(hunt(f"DeviceNetworkEvents | where RemoteUrl in~ ({listed}) | count", "--format", "jsonl")) == [
        {"Count": 0}
    ]
    assert rows(hunt("search 'no-such-word' | count", "--format", "jsonl")) == [{"Count": 0}]


def test_endless_query_is_refused(hunt: Hunt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device or a pipe without an end takes no memory."""
    typed(monkeypatch, b"x" * 2_000_000)

    for done in (hunt("--file", "/dev/zero"), hunt("-"), hunt("--sigma", "/dev/zero")):
        assert (done.code, done.out) == (2, "")
        assert "longer than 1,048,576 bytes" in done.err


@pytest.mark.parametrize(
    ("written", "name"),
    [("json", "{'a'"), ("json", "[" * 100_000), ("csv", 'a,"' + "x" * 200_000 + '"')],
    ids=["no JSON", "nested", "field"],
)
def test_externaldata_of_another_format_is_refused(hunt: Hunt, tmp_path: Path, written: str, name: str) -> None:
    """The message has the address and the format."""
    stored = tmp_path / "data"
    stored.write_text(name)
    done = hunt(f"externaldata(a: string) ['u'] with (format='{written}')", "--external", f"u={stored}")

    assert (done.code, done.out) == (2, "")
    assert f"the data of u cannot be read as {written}" in done.err


def test_externaldata_without_an_end_is_refused(hunt: Hunt) -> None:
    """A device has no size that could be looked up before; it is read up to the bound."""
    done = hunt("externaldata(a: string) ['u'] with (format='csv')", "--external", "u=/dev/zero")

    assert (done.code, done.out) == (2, "")
    assert "/dev/zero: larger than 67 MB" in done.err


def test_externaldata_reads_the_file_that_stands_in(hunt: Hunt, tmp_path: Path) -> None:
    """Without --external it is refused and names the option; a file that is missing is named."""
    address = "https://feeds.example/list.csv?x=1"
    query = f"externaldata(Host: string, Score: int) ['{address}'] with (format='csv') | where Score > 1"
    stored = tmp_path / "list.csv"
    stored.write_text("a.example,1\nb.example,2\n")
    refused, missing = hunt(query), hunt(query, "--external", f"{address}={tmp_path / 'none.csv'}")

    assert rows(hunt(query, "--external", f"{address}={stored}", "--format", "jsonl")) == [
        {"Host": "b.example", "Score": 2}
    ]
    assert (refused.code, missing.code) == (2, 2)
    assert f"--external '{address}=FILE'" in refused.err
    assert "none.csv: No such file" in missing.err


def test_hunt_cannot_write(settings: Settings) -> None:
    """Even if its SQL did, and its user may write."""
    client = of_settings(settings)
    client.rows("SELECT 1")

    for sql in ("CREATE TABLE written (x Int8) ENGINE = Memory", "TRUNCATE TABLE DeviceNetworkEvents_versions"):
        with pytest.raises(QueryRefused, match="readonly"):
            list(chunks(client, sql, Limits(), "Null"))
    assert client.rows("SELECT count() AS n FROM DeviceNetworkEvents") == [{"n": 968}]


def test_hostile_values_cannot_steer_a_terminal(file: Path) -> None:
    """Values, names and the echo of a wrong query are escaped in every text format."""
    value = json.dumps(HOSTILE)
    query = f"print a = parse_json({json.dumps(json.dumps({'x': HOSTILE}))}).x, b = {value.replace('[', '(')}"
    unproxy = [sys.executable, "-m", "unproxy", "--config", str(file), "hunt"]
    for arguments in (
        *([query, "--format", form] for form in ("table", "json", "jsonl", "csv")),
        [f"{query} {HOSTILE}"],
    ):
        terminal = Terminal(*unproxy, *arguments)
        sent = terminal.until_end()

        assert strange(sent) == [], sent
        assert "u001b" in sent


def test_ctrl_c_ends_a_hunt(file: Path, settings: Settings) -> None:
    """While the server works: at once, with its exit code and without a traceback."""
    client = of_settings(settings)
    terminal = Terminal(sys.executable, "-m", "unproxy", "--config", str(file), "hunt", "--timeout", "60", ENDLESS)
    running = "SELECT 1 FROM system.processes WHERE query LIKE '%20000' || '00 step 1%' AND query_id != queryID()"
    wait_for(lambda: client.rows(running), "the hunt on the server")
    sent = terminal.end(signal.SIGINT)

    assert terminal.process.returncode == EXIT_INTERRUPTED
    assert "Traceback" not in sent
