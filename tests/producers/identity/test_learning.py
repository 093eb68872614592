"""Recorded files teach which device has which address: from whose records, from which files, and at what cost."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from producers.files.lines import CHUNK_BYTES
from producers.identity.devices import Devices, Named
from producers.identity.learning import Learning, LearningStopped
from producers.identity.sightings import AROUND, Sightings
from producers.identity.table import Entry, How, IdentityTable
from producers.sources.source import Line, Source, SourceFile, parse_source
from schemas.clock import parse_micros
from schemas.events import Parsed
from schemas.parsers import dialects
from schemas.sections.inputs import IdentitySettings

AT = parse_micros("2026-11-24T09:00:00Z")


def opened(device: str, address: str, *, ended: str | None = None, **more: object) -> bytes:
    """An endpoint's own record of a connection at nine."""
    ends = {
        "device": device,
        "local_ip": address,
        "local_port": 50_000,
        "remote_ip": "192.0.2.80",
        "remote_port": 3128,
    }
    times = {"ts_attempt": "2026-11-24T09:00:00Z", "ts_closed": ended, "result": "success"}
    return json.dumps({**ends, **times, **more}).encode()


def eve(host: str, address: str) -> bytes:
    """What Suricata writes of the same."""
    flow = {"src_ip": address, "src_port": 50_000, "dest_ip": "192.0.2.80", "dest_port": 3128, "proto": "TCP"}
    head = {"timestamp": "2026-11-24T09:00:00.000000+0000", "flow_id": 1, "event_type": "http", "host": host}
    return json.dumps(
        {**head, **flow, "http": {"hostname": "a.example", "http_method": "GET", "url": "/"}}, separators=(",", ":")
    ).encode()


def write(path: Path, lines: Iterable[bytes]) -> str:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def learn(*sources: str, table: IdentityTable | None = None, line_bytes_max: int = 10_000) -> Sightings:
    learning = Learning([parse_source(source) for source in sources], line_bytes_max=line_bytes_max)
    return learning.sightings(table or IdentityTable())


def pairs(seen: Sightings) -> dict[str, list[str]]:
    """Devices by address."""
    found: dict[str, list[str]] = {}
    for entry in seen.entries():
        found.setdefault(entry.known_as, []).append(entry.device)
    return found


def test_only_endpoints_own_records_teach(tmp_path: Path) -> None:
    """A network sensor on the very host looks like one on a tap; so does a proxy; who is called by an address teaches nothing."""
    file = write(
        tmp_path / "mixed",
        [
            eve("ws-1", "10.0.0.1"),
            opened("WS-2.", "10.0.0.2"),
            opened("ws-2", "::ffff:10.0.0.2"),
            opened("10.0.0.3", "10.0.0.3"),
            opened("", "10.0.0.4"),
            opened("ws-5", "127.0.0.1"),
            opened("ws-6", "10.0.0.6", result="unheard of"),
            b'{"local_ip": broken',
        ],
    )

    assert pairs(learn(f"auto:{file}")) == {"10.0.0.2": ["ws-2"]}
    assert pairs(learn(f"sockets:{file}")) == {"10.0.0.2": ["ws-2"]}
    assert pairs(learn(f"suricata:{file}")) == {}


def test_all_that_is_read_together_counts(tmp_path: Path) -> None:
    """What two devices in two files state they have is neither's; a connection's end is a sighting as well."""
    one = write(
        tmp_path / "a.one", [opened("ws-1", "10.0.0.1", ended="2026-11-24T11:00:00Z"), opened("ws-1", "10.0.0.9")]
    )
    (tmp_path / "a.two").write_bytes(gzip.compress(opened("ws-2", "10.0.0.9")))
    alone, both = learn(f"sockets:{one}"), learn(f"auto:{tmp_path}/a.*")

    assert next(alone.entries()) == Entry("ws-1", "10.0.0.1", AT - AROUND, AT + 3 * AROUND + 1)
    assert (alone.learnt, alone.ambiguous) == (2, 0)
    assert pairs(both) == {"10.0.0.1": ["ws-1"], "10.0.0.9": ["ws-1", "ws-2"]}
    assert (both.learnt, both.ambiguous) == (1, 1)


def test_devices_are_called_as_the_table_calls_them(tmp_path: Path) -> None:
    """Two names that the table makes one device have the address together; a name of several teaches nothing."""
    file = write(
        tmp_path / "a", [opened("WS-1.corp.example", "10.0.0.1"), opened("guid-1", "10.0.0.1"), opened("x", "10.0.0.2")]
    )
    table = IdentityTable([Entry("ws-1", "GUID-1"), Entry("ws-2", "x"), Entry("ws-3", "x")], ["corp.example"])

    assert pairs(learn(f"sockets:{file}", table=table)) == {"10.0.0.1": ["ws-1"]}
    assert pairs(learn(f"sockets:{file}"))["10.0.0.1"] == ["ws-1.corp.example", "guid-1"]


def test_an_envelope_is_taken_apart(tmp_path: Path) -> None:
    """Rows of an export are each a record."""
    rows = [
        {
            "category": "AdvancedHunting-DeviceNetworkEvents",
            "properties": {
                "ActionType": "ConnectionSuccess",
                "DeviceName": f"ws-{number}",
                "Timestamp": "2026-11-24T09:00:00Z",
                "LocalIP": f"10.0.0.{number}",
                "LocalPort": 50_000,
                "RemoteIP": "192.0.2.80",
                "RemotePort": 3128,
                "Protocol": "Tcp",
            },
        }
        for number in (1, 2)
    ]
    file = write(tmp_path / "export", [json.dumps({"records": rows}).encode()])

    assert pairs(learn(f"auto:{file}")) == {"10.0.0.1": ["ws-1"], "10.0.0.2": ["ws-2"]}


@pytest.mark.parametrize("long_bytes", [10_001, CHUNK_BYTES, 3 * CHUNK_BYTES + 7])
def test_lines_are_cut_as_they_will_be(tmp_path: Path, long_bytes: int) -> None:
    """Over chunks, the last one without newline as well; a line that is too long to be published teaches nothing."""
    few = [opened(f"ws-{n}", f"10.0.{n // 250}.{n % 250}", padding="x" * 500) for n in range(2_000)]
    long = opened("ws-long", "10.9.9.9", padding="x" * long_bytes)
    path = Path(write(tmp_path / "a", [long, *few, long, opened("ws-x", "10.8.8.8")]))
    path.write_bytes(path.read_bytes() + opened("ws-last", "10.9.9.8"))
    found = learn(f"sockets:{path}")
    path.write_bytes(path.read_bytes() + b" " * long_bytes)

    assert pairs(found).keys() == {*(f"10.0.{n // 250}.{n % 250}" for n in range(2_000)), "10.8.8.8", "10.9.9.8"}
    assert pairs(learn(f"sockets:{path}")).keys() == pairs(found).keys() - {"10.9.9.8"}


def test_a_damaged_file_teaches_what_can_be_read(tmp_path: Path) -> None:
    """That it is damaged is reported when it is read for good."""
    lines = [opened(f"ws-{n}", f"10.0.{n // 250}.{n % 250}", padding=os.urandom(200).hex()) for n in range(1_000)]
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"\n".join(lines))[:100_000])

    assert 100 < learn(f"sockets:{tmp_path}/cut.gz").learnt < 1_000


def test_a_line_on_which_its_dialect_fails_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other lines do, and the failure is counted."""
    parse = dialects()["sockets"].parse

    def fail(line: bytes) -> Parsed:
        if b"dev-b" in line:
            raise ZeroDivisionError("fails on purpose")
        return parse(line)

    failing = replace(dialects()["sockets"], parse=fail)
    monkeypatch.setattr("producers.identity.learning.OWN", (failing,))
    file = write(tmp_path / "s", [opened("dev-b", "10.0.3.18"), opened("dev-a", "10.0.3.17")])
    source = Source(failing, file)

    assert pairs(Learning([source], line_bytes_max=10_000).sightings(IdentityTable())) == {"10.0.3.17": ["dev-a"]}
    assert source.failures.by_dialect == {"sockets": 1}


def test_with_what_can_be_read_only_once_nothing_is_learnt(tmp_path: Path) -> None:
    """Another device with the same address may be in a pipe or on standard input, and reading it would use it up."""
    file = write(tmp_path / "a", [opened("ws-1", "10.0.0.1")])
    os.mkfifo(tmp_path / "pipe")

    assert learn(f"sockets:{file}").learnt == 1
    assert learn(f"sockets:{file}", f"squid:{tmp_path}/pipe").learnt == 0
    assert learn(f"sockets:{file}", "squid:-").learnt == 0


def test_it_is_reported_how_far_it_is_and_can_be_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A large file takes a while; what was learnt of a part is not used, as more of it may differ."""
    caplog.set_level(logging.INFO)
    file = write(tmp_path / "a", [opened(f"ws-{n}", "10.0.0.1", padding="x" * 1_000) for n in range(1_000)])
    size, steps = Path(file).stat().st_size, list[tuple[int, int]]()
    sources = [parse_source(f"sockets:{file}")]
    Learning(sources, line_bytes_max=10_000, progress=lambda *far: steps.append(far)).sightings(IdentityTable())

    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (size, size)
    assert len(steps) >= size // CHUNK_BYTES
    assert [vars(record)["ambiguous"] for record in caplog.records if record.msg == "addresses learnt"] == [1]
    with pytest.raises(LearningStopped):
        Learning(sources, line_bytes_max=10_000, stopped=lambda: True).sightings(IdentityTable())


def line(dialect: str, value: bytes) -> Line:
    return Line(dialect, "host:file", value, SourceFile(dialect, "file", "host:file"), 0, len(value), 0)


def test_files_are_read_for_it_only_when_it_matters(tmp_path: Path) -> None:
    """The first line that has an unknown address is the reason, once; `identity.learn` off, none is."""
    file, steps = write(tmp_path / "a", [opened("ws-1", "10.0.0.1")]), list[int]()
    learning = Learning(
        [parse_source(f"sockets:{file}")], line_bytes_max=10_000, progress=lambda done, _: steps.append(done)
    )
    counts, learnt = Counter[str](), Counter[str]()
    devices = Devices(IdentitySettings(), counts, clock=lambda: 0.0, learning=learning, learnt=learnt)
    off = Devices(IdentitySettings(learn=False), Counter(), clock=lambda: 0.0, learning=learning)
    known, unknown = line("suricata", eve("10.0.0.1", "10.0.0.1")), line("suricata", eve("10.0.0.2", "10.0.0.2"))

    assert devices.of(line("suricata", eve("ws-1", "10.0.0.1"))) == Named("ws-1", True)
    assert off.of(known) == Named("10.0.0.1", True)
    assert (steps, learnt) == ([], {})
    assert [devices.of(one).device for one in (known, unknown, known)] == ["ws-1", "10.0.0.2", "ws-1"]
    assert len(steps) == 1
    assert learnt == {"learnt": 1, "ambiguous": 0}
    assert counts == {How.NAMED: 1, How.LEARNT: 2, How.ADDRESS: 1}


def test_it_stays_when_the_tables_files_change(tmp_path: Path) -> None:
    """A table that is read again knows what was learnt before, and goes before it."""
    file, leases, now = (
        write(tmp_path / "a", [opened("ws-1", "10.0.0.1"), opened("ws-2", "10.0.0.2")]),
        tmp_path / "t",
        10.0,
    )
    leases.write_text("")
    learning = Learning([parse_source(f"sockets:{file}")], line_bytes_max=10_000)
    devices = Devices(IdentitySettings(files=(str(leases),)), Counter(), clock=lambda: now, learning=learning)
    lines = [line("suricata", eve(address, address)) for address in ("10.0.0.1", "10.0.0.2")]
    assert [devices.of(one).device for one in lines] == ["ws-1", "ws-2"]
    leases.write_text('{"device":"ws-9","address":"10.0.0.2"}\n')
    devices.look(now + 10)

    assert [devices.of(one).device for one in lines] == ["ws-1", "ws-9"]
