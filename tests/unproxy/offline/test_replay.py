"""`unproxy replay`: files in, rows and a balanced summary out, without broker or database."""

from __future__ import annotations

import base64
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.clock import MICROS, parse_micros
from tests.sample import REACHED, SQUID_LOG, TRUTH, Score, score
from unproxy.cli import run

SAMPLES = Path("unproxy/samples")
SAMPLE = [
    *(f"suricata:{SAMPLES}/dev-{letter}.eve.json.gz" for letter in "abc"),
    f"sockets:{SAMPLES}/sockets.jsonl.gz",
]


def lines(file: Path) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_sample_balances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is parsed, ignored or rejected; each connection resolved or unresolved; nothing waits at the end."""
    out, alerts, events = tmp_path / "rows.jsonl", tmp_path / "alerts.jsonl", tmp_path / "events.jsonl"
    summary = tmp_path / "summary.json"
    arguments = ["--out", str(out), "--alerts", str(alerts), "--events", str(events), "--summary", str(summary)]
    assert run(["replay", *SAMPLE, *arguments]) == 0
    counts = json.loads(summary.read_text())

    assert counts["read"] == 4768
    assert counts["read"] == counts["parsed"] + sum(counts["ignored"].values()) + sum(counts["rejected"].values())
    assert counts["connections"] == sum(counts["resolved"].values()) + sum(counts["unresolved"].values())
    assert counts["waiting"] == 0
    assert counts["rows"] == len(lines(out)) > 0
    assert all(alert["AlertId"] for alert in lines(alerts))
    assert {event["Outcome"] for event in lines(events)} == {"blocked", "audited"}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ignored" in captured.err
    assert "dns 2,000" in captured.err


def test_rows_of_the_sample_name_the_user(tmp_path: Path) -> None:
    """Each row with a process names its account, command line and parent, except of one process whose name was not traced."""
    out = tmp_path / "rows.jsonl"
    assert run(["replay", *SAMPLE, "--out", str(out)]) == 0
    rows = [row for row in lines(out) if row["InitiatingProcessFileName"] not in {"", "<...>"}]
    fields = ("AccountName", "CommandLine", "ParentFileName", "ParentId", "CreationTime", "FolderPath")

    assert len(rows) == 1462
    assert [row for row in rows if not all(row.get(f"InitiatingProcess{field}") for field in fields)] == []
    assert {row["InitiatingProcessAccountName"] for row in rows} == {"alice", "bob", "carol", "reports"}


def test_the_packaged_sample_is_the_tested_one() -> None:
    """The packaged files are those of tests/data/suricata; sockets have more about the process and nothing else."""
    added = {"path", "command_line", "user", "uid", "parent_pid", "parent", "ts_started"}
    for file in SAMPLES.glob("*.eve.json.gz"):
        assert file.read_bytes() == (TRUTH.parent / file.name).read_bytes(), file.name
    packaged, recorded = (
        [json.loads(line) for line in gzip.decompress((folder / "sockets.jsonl.gz").read_bytes()).splitlines()]
        for folder in (SAMPLES, TRUTH.parent)
    )
    assert [{key: value for key, value in line.items() if key not in added} for line in packaged] == recorded


def test_rows_go_to_stdout_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --out, rows are on stdout as JSON lines, and messages are not among them."""
    assert run(["replay", SAMPLE[-1]]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert {row["Layer"] for row in rows} == {"connection"}


def test_auto_gives_what_the_dialects_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that mixes sensors reads like theirs, and the summary names what was found; a line of no dialect is a reject."""
    texts = [gzip.decompress(Path(name.partition(":")[2]).read_bytes()).splitlines() for name in SAMPLE]
    mixed, rejects, summary = tmp_path / "mixed", tmp_path / "rejects.jsonl", tmp_path / "summary.json"
    mixed.write_bytes(b"unknown\n" + b"".join(line + b"\n" for text in texts for line in text))
    summaries = []
    for files in (SAMPLE, [f"auto:{mixed}"]):
        arguments = ["--out", str(tmp_path / "rows"), "--rejects", str(rejects), "--summary", str(summary)]
        assert run(["replay", *files, *arguments]) == 0
        summaries.append(json.loads(summary.read_text()))
    (reject,) = lines(rejects)
    by_name, by_itself = summaries

    assert by_itself["dialects"] == {**by_name["dialects"], "auto": 1}
    assert (by_itself["rejected"], by_name["rejected"]) == ({"unknown_dialect": 1}, {})
    assert by_itself["parsed"] == by_name["parsed"]
    assert (base64.b64decode(reject["raw_base64"]), reject["detail"]) == (b"unknown", "no dialect claims this line")
    assert "suricata 4,315, sockets 453, auto 1" in capsys.readouterr().err


def test_two_names_are_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample as sensors that call devices by other names have it, with the identity table: the very same rows.

    Suricata names the client's address, which is leased; the kernel's sensor the whole name in capitals, one a GUID.
    """
    addresses = {"dev-a": "198.51.100.11", "dev-b": "198.51.100.12", "dev-c": "198.51.100.13"}
    names = {"dev-a": "DEV-A.corp.example", "dev-b": "3F9A1C6E2B8D4F70", "dev-c": "dev-c."}
    other = []
    for name in SAMPLE:
        dialect, _, path = name.partition(":")
        text = gzip.decompress(Path(path).read_bytes())
        for device, alias in names.items():
            text = text.replace(b'"host":"%s"' % device.encode(), b'"host":"%s"' % addresses[device].encode())
            text = text.replace(b'"device": "%s"' % device.encode(), b'"device": "%s"' % alias.encode())
        other.append(f"{dialect}:{tmp_path / Path(path).stem}")
        (tmp_path / Path(path).stem).write_bytes(text)
    leases = tmp_path / "leases.jsonl"
    leases.write_text(
        "".join(
            f'{{"device":"{device}","address":"{address}","from":"2026-11-24T19:00:00Z","until":"2026-11-24T21:00:00Z"}}\n'
            for device, address in addresses.items()
        )
    )
    table = tmp_path / "unproxy.toml"
    table.write_text(
        f'[identity]\ndomains = ["corp.example"]\nfiles = ["{leases}"]\n'
        '[identity.devices."dev-b"]\nnames = ["3f9a1c6e2b8d4f70"]\n'
    )
    rows, summary = [], tmp_path / "summary.json"
    for config, files in ((None, SAMPLE), (table, other)):
        if config:
            monkeypatch.setenv("UNPROXY_CONFIG", str(config))
        out = tmp_path / "rows.jsonl"
        assert run(["replay", *files, "--out", str(out), "--summary", str(summary)]) == 0
        rows.append(out.read_bytes().splitlines())
    counts = json.loads(summary.read_text())

    assert sorted(rows[0]) == sorted(rows[1])
    assert sum(counts["identified"].values()) == counts["read"]
    assert set(counts["identified"]) == {"table", "named"}
    assert counts["identified"]["table"] > 4_315


def test_endpoints_records_name_the_proxys_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample with squid's log, which knows addresses alone, and no settings: all of the truth, nothing wrong, whichever file
    comes first; without learning some of it is missing.
    """
    for path in (*SAMPLES.glob("*.gz"), SQUID_LOG):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    summary, scores = tmp_path / "summary", list[Score]()
    for config in ("", "[identity]\nlearn = false\n"):
        (tmp_path / "unproxy.toml").write_text(config)
        arguments = ["--out", str(tmp_path / "rows"), "--summary", str(summary)]
        files = [f"auto:{tmp_path}/*.json*"]
        assert run(["--config", str(tmp_path / "unproxy.toml"), "replay", *files, *arguments]) == 0
        latest = {row["RecordId"]: row for row in sorted(lines(tmp_path / "rows"), key=lambda row: row["Version"])}
        scores.append(score(latest.values()))
        counts = json.loads(summary.read_text())
        assert counts["identified"] == {"named": 4_768, ("address" if config else "learnt"): 431}
        assert counts["addresses"] == ({} if config else {"learnt": 6, "ambiguous": 0})
    learnt, without = scores

    assert (learnt.right, learnt.wrong, learnt.wrong_rows, learnt.process_wrong) == (learnt.requests, 0, 0, 0)
    assert learnt.requests == 558
    assert (without.right, without.wrong) == (549, 0)
    assert "addresses             6  learnt 6, ambiguous 0" in capsys.readouterr().err


def test_tinyproxys_requests_are_joined_to_those_that_sensors_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside squid's log, all of the truth and nothing wrong: of 130 those that can be meant by one request only."""
    for path in (*SAMPLES.glob("*.gz"), SQUID_LOG, SQUID_LOG.with_name("tinyproxy-sample.log.gz")):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    ended = parse_micros("2026-11-24T19:08:12Z") // MICROS
    os.utime(tmp_path / "tinyproxy-sample.log", (ended, ended))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        files = [f"auto:{tmp_path}/{name}" for name in ("*.json*", "*.log")]
        assert run(["replay", *files, "--out", str(tmp_path / "rows"), "--summary", str(tmp_path / "summary")]) == 0
    time.tzset()
    latest = {row["RecordId"]: row for row in sorted(lines(tmp_path / "rows"), key=lambda row: row["Version"])}
    counts = json.loads((tmp_path / "summary").read_text())
    result = score(latest.values())
    joined = [row for row in latest.values() if '"tinyproxy/' in json.dumps(row.get("AdditionalFields", ""))]

    assert counts["dialects"]["tinyproxy"] == 1_011
    assert (result.right, result.wrong, result.wrong_rows, result.process_wrong) == (558, 0, 0, 0)
    assert [(row["ProxyPort"], row["Outcome"] in REACHED) for row in joined] == [(8888, True)] * 19


def test_no_line_read_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 if every line was rejected, with what is wrong and what to do; outputs are written before that."""
    out, rejects = ["--out", str(tmp_path / "rows")], tmp_path / "rejects"
    summary = ["--summary", str(tmp_path / "summary")]
    other = tmp_path / "other"
    other.write_bytes(b"nobody's\nnobody's either\n")

    assert run(["replay", f"sockets:{SAMPLES}/dev-b.eve.json.gz", *out, *summary]) == 1
    counts = json.loads((tmp_path / "summary").read_text())
    printed = capsys.readouterr().err.splitlines()[-1]
    assert counts["read"] == sum(counts["rejected"].values()) > 0
    assert f"none of the lines could be read ({counts['read']:,} incomplete); the first one, as sockets: " in printed
    assert (
        "name the dialect that the files are written in, or auto to find it for each line; --rejects FILE keeps"
        in printed
    )
    assert run(["replay", f"auto:{other}", *out, "--rejects", str(rejects)]) == 1
    assert len(lines(rejects)) == 2
    assert capsys.readouterr().err.endswith(
        "(2 unknown_dialect); the first one, as auto: no dialect claims this line; "
        "name the dialect that the files are written in, or auto to find it for each line\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nobody's\n<134>1 2026-03-06T22:39:30Z gw-1 ProxySG - - - a message\n",
        b'nobody\'s\n{"kind":"mode","device":"a","ts":"2026-11-24T19:07:28Z","mode":"audit"}\n',
    ],
)
def test_one_line_read_is_enough(tmp_path: Path, content: bytes) -> None:
    """A line that holds nothing for us was read; a file without a line has none that could not be."""
    file = tmp_path / "file"
    file.write_bytes(content)

    assert run(["replay", f"auto:{file}", "--out", str(tmp_path / "rows")]) == 0


def test_rejects_keep_their_bytes(tmp_path: Path) -> None:
    """A line that cannot be read is written with its reason and its bytes, and counted."""
    file, rejects, summary = tmp_path / "bad.json", tmp_path / "rejects.jsonl", tmp_path / "summary.json"
    bad = b'\xff\xfe{"nonsense'
    file.write_bytes(bad + b"\n")
    arguments = ["--rejects", str(rejects), "--summary", str(summary), "--out", str(tmp_path / "rows.jsonl")]
    assert run(["replay", f"suricata:{file}", *arguments]) == 1
    (reject,) = lines(rejects)

    assert base64.b64decode(reject["raw_base64"]) == bad
    assert reject["dialect"] == "suricata"
    assert json.loads(summary.read_text())["rejected"] == {reject["reason"]: 1}


def test_line_that_is_too_long_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a line over the limit the beginning is kept with its reason; the book still balances."""
    monkeypatch.setenv("UNPROXY_PUBLISHER__LINE_BYTES_MAX", "1000")
    file, rejects, summary = tmp_path / "long.json", tmp_path / "rejects.jsonl", tmp_path / "summary.json"
    file.write_bytes(b"x" * 5000 + b"\n{}\n")
    arguments = ["--rejects", str(rejects), "--summary", str(summary), "--out", str(tmp_path / "rows.jsonl")]
    assert run(["replay", f"suricata:{file}", *arguments]) == 1
    counts = json.loads(summary.read_text())

    assert counts["read"] == 2 == counts["parsed"] + sum(counts["ignored"].values()) + sum(counts["rejected"].values())
    assert counts["rejected"]["too_long"] == 1
    assert {line["reason"] for line in lines(rejects)} >= {"too_long"}


def test_damaged_file_gives_what_could_be_read_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gzip file that breaks off gives its rows and its summary, and then reports what is wrong."""
    whole = gzip.decompress((SAMPLES / "sockets.jsonl.gz").read_bytes())
    file, out, summary = tmp_path / "cut.jsonl.gz", tmp_path / "rows.jsonl", tmp_path / "summary.json"
    file.write_bytes(gzip.compress(whole)[:-2000])

    assert run(["replay", f"sockets:{file}", "--out", str(out), "--summary", str(summary)]) == 1
    assert lines(out)
    assert json.loads(summary.read_text())["read"] > 0
    assert "cut.jsonl.gz" in capsys.readouterr().err


def test_output_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output file in a folder that is not there is the caller's mistake."""
    assert run(["replay", SAMPLE[-1], "--out", str(tmp_path / "nowhere" / "rows.jsonl")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["--out", "--rejects", "--summary"])
def test_what_is_read_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str) -> None:
    """An output that is one of the recorded files, or another output, would lose its content."""
    dialect, _, sample = SAMPLE[-1].partition(":")
    source = tmp_path / "recorded.jsonl.gz"
    source.write_bytes(Path(sample).read_bytes())

    assert run(["replay", f"{dialect}:{tmp_path}/*.gz", other, str(source)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert source.read_bytes() == Path(sample).read_bytes()
    assert run(["replay", SAMPLE[-1], "--alerts", str(tmp_path / "same"), other, str(tmp_path / "same")]) == 2
    assert "two outputs" in capsys.readouterr().err
