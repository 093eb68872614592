"""The identity table's files: what is read, what is left out, and when they are read again."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from producers.identity.devices import Devices, Named
from producers.identity.files import LOOK_SECS, IdentityFiles, read_file
from producers.identity.table import ALWAYS, Entry
from producers.sources.source import Line, SourceError, SourceFile
from schemas.clock import parse_micros
from schemas.sections.inputs import IdentitySettings

NINE, TEN = parse_micros("2026-11-24T09:00:00Z"), parse_micros("2026-11-24T10:00:00Z")


def test_json_lines_and_csv_are_equal(tmp_path: Path) -> None:
    """Times are ISO 8601 or seconds since 1970; a missing one is always; addresses have one spelling."""
    lines, table = tmp_path / "leases.jsonl", tmp_path / "table.csv"
    lines.write_text(
        '{"device":"ws-1","address":"::ffff:10.0.0.1","from":"2026-11-24T10:00:00+01:00",'
        f'"until":{TEN // 1_000_000}}}\n\n'
        '{"device":"ws-1","name":"GUID-1"}\n'
    )
    table.write_text(
        "\ufeffdevice,address,from,until,name\r\n"
        f'ws-1,10.0.0.1,{NINE / 1e6},"2026-11-24T10:00:00.000Z",\r\n'
        "ws-1,,,,GUID-1\r\n"
    )
    expected = [Entry("ws-1", "10.0.0.1", NINE, TEN), Entry("ws-1", "GUID-1", 0, ALWAYS)]

    assert read_file(str(lines)) == read_file(str(table)) == (expected, 0)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"device":"a"}',
        '{"device":"a","name":"b","address":"10.0.0.1"}',
        '{"device":"a","address":"10.0.0.300"}',
        '{"device":" ","name":"b"}',
        '{"device":"a","name":"%s"}' % ("b" * 256),
        '{"device":"a","name":"b","from":"yesterday"}',
        '{"device":"a","name":"b","from":-1}',
        '{"device":"a","name":"b","from":1e300}',
        '{"device":"a","name":"b","from":"2026-11-24T10:00:00Z","until":"2026-11-24T09:00:00Z"}',
        '{"device":"a","name":"b","unitl":5}',
    ],
)
def test_what_cannot_be_used_is_left_out_and_reported(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged line costs itself alone, and the log reports where it is."""
    path = tmp_path / "leases.jsonl"
    path.write_text('{"device":"a","name":"before"}\n' + line + '\n{"device":"a","name":"after"}\n')
    entries, unusable = read_file(str(path))

    assert [entry.known_as for entry in entries] == ["before", "after"]
    assert unusable == 1
    assert [vars(record)["at"] for record in caplog.records] == [f"{path}:2"]


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    """Without its newline it may be only the beginning of a line that states something else."""
    path = tmp_path / "leases.jsonl"
    path.write_text('{"device":"a","name":"b"}\n{"device":"a","name":"c"}')

    assert read_file(str(path)) == ([Entry("a", "b")], 0)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe\n", "is not UTF-8"),
        (b"name,address\n", "there is no column device"),
        (b"device,name,adress\n", "column 'adress' is not known"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: bytes | None, detail: str, tmp_path: Path) -> None:
    """Starting a producer with it raises an error that names it."""
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"table\.csv") as refused:
        IdentityFiles(IdentitySettings(files=(str(path),)), lambda: 0.0)

    assert detail in str(refused.value)


def line(device: str) -> Line:
    file = SourceFile("suricata", "eve.json", "host:eve.json")
    value = b'{"timestamp":"2026-11-24T09:30:00.000000+0000","event_type":"stats","host":"%s"}' % device.encode()
    return Line("suricata", file.sensor, value, file, 0, len(value), 0)


def test_a_changed_file_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines from then on are named by it; while it cannot be read, the table stays as it was; it is reported once."""
    caplog.set_level(logging.INFO)
    path, now = tmp_path / "leases.jsonl", 10.0
    path.write_text('{"device":"ws-1","address":"10.0.0.1","from":"2026-11-24T09:00:00Z"}\n')
    counts: Counter[str] = Counter()
    devices = Devices(IdentitySettings(files=(str(path),)), counts, clock=lambda: now)
    devices.look(now)
    assert [devices.of(line(named)).device for named in ("10.0.0.1", "10.0.0.2")] == ["ws-1", "10.0.0.2"]

    with path.open("a") as file:
        file.write('{"device":"ws-2","address":"10.0.0.2"}\n')
    devices.look(now + LOOK_SECS / 2)
    assert devices.of(line("10.0.0.2")).device == "10.0.0.2"
    now += LOOK_SECS
    devices.look(now)
    assert devices.of(line("10.0.0.2")).device == "ws-2"

    path.unlink()
    for _ in range(3):
        now += 10
        devices.look(now)
    assert devices.of(line("10.0.0.2")).device == "ws-2"
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]

    path.write_text('{"device":"ws-3","address":"10.0.0.2"}\n')
    now += 10
    devices.look(now)
    assert devices.of(line("10.0.0.2")).device == "ws-3"
    assert counts == {"table": 4, "address": 2}


def test_settings_and_files_make_one_table(tmp_path: Path) -> None:
    """An address that a file and the settings give to different devices belongs to no device."""
    path = tmp_path / "table.csv"
    path.write_text("device,address\nws-1,10.0.0.1\nws-2,10.0.0.2\n")
    settings = IdentitySettings.model_validate(
        {"files": [str(path)], "devices": {"srv-1": {"names": ["GUID-9"], "addresses": ["10.0.0.1", "10.0.0.9"]}}}
    )
    counts: Counter[str] = Counter()
    devices = Devices(settings, counts, clock=lambda: 0.0)
    named = ("10.0.0.1", "10.0.0.2", "10.0.0.9", "guid-9", "WS-2")

    assert [devices.of(line(one)).device for one in named] == ["10.0.0.1", "ws-2", "srv-1", "srv-1", "ws-2"]
    assert counts == {"ambiguous": 1, "table": 3, "named": 1}


def test_a_line_that_names_no_device() -> None:
    """The given device stands in, else the sensor; neither is taken for what the line states."""
    given = Devices(
        IdentitySettings(domains=("corp.example",)), Counter(), clock=lambda: 0.0, given="WS-1.corp.example"
    )
    without_device = Devices(IdentitySettings(), Counter(), clock=lambda: 0.0)

    assert given.of(line("")) == Named("ws-1", False)
    assert without_device.of(line("")) == Named("host:eve.json", False)
    assert without_device.of(line("x" * 300)) == Named("host:eve.json", False)
    assert without_device.of(line("x")) == Named("x", True)
