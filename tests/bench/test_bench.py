"""The bench in small: it runs from end to end, and its fleet sends what it states."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench import __main__ as command
from bench import alerts, correlator, dialects, indicators, recovery, restart, sink, storm, worker
from bench.figures import Case, as_json, table
from bench.fleet import Fleet, Packed
from schemas.settings import Settings
from streams.pipeline import Message, Pipeline
from unproxy.local.servers.broker import Broker
from unproxy.local.servers.engine import Engine

SettingsFor = Callable[..., Settings]
ROOT = Path(__file__).parents[2]


def book_of(messages: list[Packed]) -> dict[str, int]:
    """The pipeline's balance after these messages and the end of everything."""
    pipeline = Pipeline(Settings().correlation)
    for offset, one in enumerate(messages):
        pipeline.take(Message(offset, 1_800_000_000_000, one.device.encode(), one.value, one.dialect))
    pipeline.finish()
    return pipeline.book()


def test_tunnels_resolve_with_connect() -> None:
    """Every tunnel of the preload is one connection, resolved by its CONNECT, and stays."""
    book = book_of(list(Fleet(3).preload(250)))

    assert book["connections"] == book["resolved:connect"] == 250
    assert book["read"] == book["parsed"] >= 3 * 250
    assert not {name for name in book if name.startswith("left:")}


def test_rounds_hold_what_they_promise() -> None:
    """Every connection of the rounds resolves, seven of ten by CONNECT, and those of long ago have left."""
    fleet = Fleet(2, lines_per_message=100)
    messages = list(fleet.rounds(10))
    book = book_of(messages)

    assert book["connections"] == 10 * 2 * fleet.burst
    assert book["read"] == sum(one.lines for one in messages)
    ignored = {name: count for name, count in book.items() if name.startswith("ignored:")}
    assert set(ignored) == {"ignored:dns", "ignored:fileinfo", "ignored:flow_not_tcp"}
    assert book["parsed"] == book["read"] - sum(ignored.values()) > 0.8 * book["read"]
    assert {name for name in book if name.startswith(("resolved:", "unresolved:"))} == {
        "resolved:connect",
        "resolved:absolute_uri",
        "resolved:direct",
    }
    assert book["resolved:connect"] / book["connections"] == pytest.approx(0.7, abs=0.02)
    assert book["left:ended"] > book["connections"] / 2


@pytest.mark.parametrize("lines", [20, 100, 500])
def test_messages_are_as_long_as_asked(lines: int) -> None:
    """The average message has the lines that were asked for, each of its own device and in one dialect."""
    fleet = Fleet(4, lines_per_message=lines)
    list(fleet.rounds(3))  # flow records of a round come with the next two
    messages = list(fleet.rounds(10))

    assert sum(one.lines for one in messages) / len(messages) == pytest.approx(lines, rel=0.1)
    assert {one.dialect for one in messages} == {"suricata", "sockets"}
    assert all(one.device.encode() in one.value for one in messages)


def test_tunnels_stay_open_beside_the_rounds() -> None:
    """The same fleet gives the same bytes again, and its rounds go on without an end of an open tunnel."""
    fleet = Fleet(3, active_max=2)
    messages = [*fleet.preload(250), *fleet.at_least(2_000)]
    again = Fleet(3, active_max=2)
    book = book_of(messages)

    assert messages == [*again.preload(250), *again.at_least(2_000)]
    assert sum(one.lines for one in messages) >= 2_000
    assert {one.device for one in messages[-4:]} == {"ws-00000", "ws-00001"}
    assert book["kept"] >= 250


def test_correlator_runs() -> None:
    """A case in its own process gives all its figures, and the first size is what the others are compared with."""
    small, large = correlator.run_cases([100, 400], events=2_000, repeats=1)

    assert small.name == "100"
    assert small.figures["of the speed at 100"] == 1
    for case in (small, large):
        assert case.figures["events/s"] > 0
        assert case.figures["times the floor"] > 1
        assert case.figures["durable bytes/connection"] > 50
        assert case.figures["rows/event"] > 0.3


def test_dialects_run(tmp_path: Path) -> None:
    """Each dialect is measured in each form that it is written in, over its golden lines and over those of a folder."""
    native = b"1726124251.123    10 10.0.0.1 TCP_MISS/200 5 GET http://a.example/ - HIER_DIRECT/192.0.2.1 text/html"
    header = [b"#path\tdns", b"#fields\tts\tuid\tid.orig_h", b"#types\ttime\tstring\taddr"]
    rows = [*header, b"1741079701.000000\tCHhAvVGS1DHFjwGM9\t10.0.0.1"]
    (tmp_path / "access.log.gz").write_bytes(gzip.compress(native + b"\n" + native))
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "conn.log").write_bytes(b"\n".join([*rows, native]))
    (tmp_path / "README.md").write_bytes(native)
    cases = dialects.run_cases(100, tmp_path, ["zeek", "squid"], repeats=1)

    lines = {(case.part, case.name): case.figures["different lines"] for case in cases}
    assert set(lines) == {
        ("dialects, JSON, golden", "squid"),
        ("dialects, JSON, golden", "zeek"),
        ("dialects, text, golden", "squid"),
        ("dialects, JSON, samples", "zeek"),
        ("dialects, text, samples", "squid"),
    }
    assert lines["dialects, text, samples", "squid"] == 3
    for case in cases:
        assert case.figures["lines/s"] > 0
        assert case.figures["times the floor"] > 1


def test_indicators_run() -> None:
    """Cases in their own processes give all their figures, and the destinations that should match do."""
    small, large = indicators.run_cases([100, 1_000], destinations=2_000, repeats=1)

    assert small.figures["times the cost at 100"] == 1
    for case in (small, large):
        assert 0.01 < case.figures["share that matches"] < 0.1
        assert case.figures["times the floor"] > 1


def test_storm_runs() -> None:
    """Each case in its own process counts every hit, and the harmless requests are what the others are compared with."""
    cases = storm.run_cases(hits=1_200, devices=3, domains=2)

    assert [case.figures["times harmless"] for case in cases if case.name.startswith("harmless")] == [1, 1]
    alert = [case.figures for case in cases if "hits" in case.figures]
    assert [figures["hits counted"] for figures in alert] == [1_200] * 4
    assert [figures["alerts"] for figures in alert] == [3, 3, 6, 6]
    assert all(figures["messages of an alert at most"] <= 11 for figures in alert)
    assert all(figures["shortest gap of an alert, s"] >= storm.GAP_SECS_MIN for figures in alert)


def test_alerts_run(kafka_settings_for: SettingsFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event's alert is met, with the worker idle and at half of its load."""
    monkeypatch.setattr(alerts, "WARM_SECS", 0.5)
    idle, loaded = alerts.run_cases(kafka_settings_for(), tmp_path, events=4_000, how_many=40, devices=10)

    assert (idle.figures["load, lines/s"], idle.figures["alerts"]) == (0, 40)
    assert 0 < loaded.figures["load of the full speed"] < 1
    for case in (idle, loaded):
        assert 0 < case.figures["p50 ms"] <= case.figures["p99 ms"] <= case.figures["max ms"]
        assert 0 < case.figures["event acknowledged, p50 ms"] <= case.figures["p50 ms"]


def test_quantile_is_a_value() -> None:
    """The smallest value that enough values do not exceed."""
    assert alerts.quantile([4, 1, 3, 2], 0.5) == 2
    assert alerts.quantile([4, 1, 3, 2], 0.99) == 4
    assert alerts.quantile([7], 0.5) == 7


def test_worker_runs(kafka_settings_for: SettingsFor, tmp_path: Path) -> None:
    """The real worker works off what was published, and both floors are measured."""
    case = worker.run_case(kafka_settings_for(), tmp_path, 100, events=4_000, devices=10)

    assert case.figures["events"] >= 4_000
    assert case.figures["events/s a core"] > 0
    assert case.figures["bare consumer, events/s a core"] > 0
    assert case.figures["without logic, events/s a core"] > 0
    assert case.figures["rows/event"] > 0.3


def test_sink_runs(settings_for: SettingsFor, engine: Engine, tmp_path: Path) -> None:
    """The real sink and the bare inserts write all rows."""
    case = sink.run_case(settings_for(), tmp_path, engine.pid, rows=3_000, devices=10)

    assert case.figures["rows"] >= 3_000
    assert case.figures["rows/s"] > 0
    assert case.figures["bare insert, rows/s"] > 0


def test_restart_runs(
    kafka_settings_for: SettingsFor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with open connections goes on after each of three ends, and what it had is there again."""
    monkeypatch.setattr(restart, "REST_SECS", 0.0)
    monkeypatch.setattr(restart, "LATER_SECS", 0.0)
    cases = restart.run_cases(kafka_settings_for(), tmp_path, connections=400, devices=8)

    assert [case.name for case in cases] == ["stopped", "kill -9", "kill -9, disk lost"]
    for case in cases:
        assert 0 < case.figures["s to a commit everywhere"] < 60
        assert 20 < case.figures["MB resident at most"] < 1_000
        assert case.figures["MB on disk"] > 0
    assert "400 connections" in capsys.readouterr().err


def test_recovery_runs(broker: Broker, tmp_path: Path) -> None:
    """Workers that are stopped and started in turn leave a short gap, and write hardly any row twice."""
    (case,) = recovery.run_cases(broker, tmp_path, ["rolling 2"])

    assert 0 < case.figures["longest gap in a partition, s"] < 30
    assert case.figures["rows there once more"] <= case.figures["rows of a commit interval"]
    assert case.figures["rows"] > 100


def test_table_and_json_are_equal() -> None:
    """Cases of a part stand side by side, a figure that one lacks is a dash; JSON brings them back as they were."""
    cases = [Case("worker", "a", {"events/s": 123_456.0, "ratio": 0.5}), Case("worker", "b", {"events/s": 1.0})]

    lines = table(cases).splitlines()
    assert lines[0].split() == ["worker", "a", "b"]
    assert lines[2].split() == ["events/s", "123,456", "1"]
    assert lines[3].split() == ["ratio", "0.50", "-"]
    assert msgspec.json.decode(as_json(cases), type=list[Case]) == cases


def test_unknown_part_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A part that is not there is a wrong call, and the help has an example."""
    with pytest.raises(SystemExit) as ended:
        command.main(["windmill"])
    assert ended.value.code == 2
    assert "correlator" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert "python -m bench correlator --quick" in capsys.readouterr().out


def test_interrupt_ends_it() -> None:
    """Ctrl-C while it measures: no traceback, exit 130, and the case's own process is gone."""
    process = subprocess.Popen([sys.executable, "-m", "bench", "correlator"], cwd=ROOT, stderr=subprocess.PIPE)
    assert process.stderr is not None
    begun = process.stderr.readline()
    assert b"1,000" in begun, begun
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=20)

    assert process.returncode == 130
    assert output.splitlines() == [b"stopped"]
