"""Rejects: shown by kind, and published again, each once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Reason
from schemas.settings import Settings
from schemas.topics import NETWORK_EVENTS, REJECTS, TELEMETRY, topic_name
from sinks.clickhouse import connect
from sinks.migrate import migrate
from sinks.rejects import reject_row
from tests.conftest import SettingsMaker
from tests.streams.worker.worker_process import WorkerProcess, committed, ends, read_all, wait_until
from unproxy import timeouts
from unproxy.cli import run
from unproxy.errors import KafkaAway
from unproxy.local.parts import write_settings
from unproxy.ops import rejects as carrying
from unproxy.ops.reject_positions import ANY, Rejected, Replayed, Wanted, why_left
from unproxy.ops.rejects import Account, Replay
from unproxy.query.client import of_settings
from unproxy.query.rejects import Selection, lines, stored
from unproxy.timeouts import Stopped

Headers = dict[str, str | bytes | None]
LATE = ("clock", b"log")
"""Header of all that is replayed."""
ROOT = Path(__file__).parents[3]


def rejected(offset: int, reason: str = "malformed", dialect: str = "suricata", **given: Any) -> Rejected:
    """One reject; of a device called dev."""
    whole: dict[str, Any] = {"detail": "", "device": b"dev", "raw": b"line", "cut": False, "rejected_ms": 5}
    whole |= given
    return Rejected(
        0, offset, whole["rejected_ms"], reason, whole["detail"], dialect, whole["device"], whole["raw"], whole["cut"]
    )


def reject(settings: Settings, messages: Iterable[tuple[int, bytes, Headers]]) -> None:
    """Put messages on the topic of rejects: partition, bytes, headers."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap, "message.max.bytes": 16_000_000, "enable.idempotence": True}
    )
    for partition, raw, headers in messages:
        producer.produce(topic_name(settings, REJECTS), raw, None, partition, headers=list(headers.items()))
        producer.poll(0)
    assert producer.flush(30) == 0


def reject_headers(reason: str, dialect: str = "suricata", device: str = "dev", detail: str = "why") -> Headers:
    """Headers of a reject."""
    return {"reason": reason, "detail": detail, "dialect": dialect, "device": device}


def replay(settings: Settings, wanted: Wanted | None = None, *, again: bool = False, dry_run: bool = False) -> Account:
    """Replay; what became of it."""
    return Replay(settings, wanted or Wanted(), again=again, dry_run=dry_run, notify=print).until(Event())


def published(settings: Settings) -> list[tuple[int, bytes | None, bytes | None, Any]]:
    """Partition, key, value and headers of what is on telemetry."""
    return [
        (message.partition() or 0, message.key(), message.value(), message.headers())
        for message in read_all(settings, TELEMETRY)
    ]


def test_what_was_replayed_is_remembered_by_reason_and_dialect() -> None:
    """A narrow choice covers itself only, a wide one what is in it; the offset is that of replays of everything."""
    marks = Replayed()
    marks.advance(Wanted(dialect="suricata"), 10)
    assert [marks.has(one) for one in (rejected(9), rejected(10), rejected(9, dialect="sockets"))] == [
        True,
        False,
        False,
    ]
    assert (marks.before("bad_value", "suricata"), marks.before(ANY, ANY), marks.before("bad_value", ANY)) == (10, 0, 0)

    marks.advance(Wanted(), 7)
    assert [marks.has(rejected(at, dialect="sockets")) for at in (6, 7)] == [True, False]
    assert Replayed.read(*marks.written()) == marks
    marks.advance(Wanted(), 20)
    assert marks.written() == (20, "[]")


def test_everything_does_not_cover_what_is_not_allowed() -> None:
    """A replay of all reasons leaves refused lines, and one that names their reason later still finds them, once."""
    marks = Replayed()
    marks.advance(Wanted(), 20)
    marks.advance(Wanted(dialect="suricata"), 20)
    refused = rejected(5, Reason.NOT_ALLOWED)
    assert not marks.has(refused)
    assert marks.before(Reason.NOT_ALLOWED, ANY) == 0

    marks.advance(Wanted(Reason.NOT_ALLOWED), 10)
    assert Replayed.read(*marks.written()).has(refused)
    assert not Replayed.read(*marks.written()).has(rejected(12, Reason.NOT_ALLOWED))


def test_marks_are_bounded() -> None:
    """Where Kafka has no room for all marks the lowest go, which costs a repeat; what else stands there is no mark."""
    marks = Replayed({("malformed", f"dialect-{number}"): number + 1 for number in range(1_000)})
    offset, metadata = marks.written()

    assert (offset, len(metadata.encode()) <= 4_000) == (0, True)
    kept = Replayed.read(offset, metadata).marks
    assert len(kept) > 50
    assert max(set(marks.marks.values()) - set(kept.values())) < min(kept.values())
    assert Replayed.read(7, "by hand") == Replayed({(ANY, ANY): 7})
    assert Replayed.read(-1001, "") == Replayed()


choices = st.tuples(st.sampled_from([ANY, "malformed", "bad_value"]), st.sampled_from([ANY, "suricata", "sockets"]))


@given(st.lists(st.tuples(choices, st.integers(1, 30)), max_size=8))
def test_each_reject_is_replayed_once(steps: list[tuple[tuple[str, str], int]]) -> None:
    """Whatever choices follow each other while rejects come in: none is replayed twice, none that was wanted is missed."""
    topic = [rejected(at, ("malformed", "bad_value")[at % 2], ("suricata", "sockets")[at // 2 % 2]) for at in range(30)]
    committed_now: tuple[int, str] = (-1001, "")
    times: Counter[int] = Counter()
    asked: set[int] = set()
    end = 0
    for (reason, dialect), more in steps:
        end = min(30, end + more)
        wanted, marks = Wanted(reason, dialect), Replayed.read(*committed_now)
        for one in topic[marks.before(reason, dialect) : end]:
            if wanted.fits(one) and not marks.has(one):
                times[one.offset] += 1
        marks.advance(wanted, end)
        committed_now = marks.written()
        asked |= {one.offset for one in topic[:end] if wanted.fits(one)}

    assert set(times) == asked
    assert set(times.values()) <= {1}


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (rejected(0), ""),
        (rejected(0, Reason.TOO_LONG, detail="2000000 bytes; at most 1048576 are read"), ""),
        (rejected(0, Reason.TOO_LONG, detail="20000000 bytes, limit 12582912, sha256 ab"), "only its beginning"),
        (rejected(0, Reason.NOT_DELIVERABLE, "unproxy"), "not a sensor's line"),
        (rejected(0, Reason.NOT_DELIVERABLE, ""), "not a sensor's line"),
        (rejected(0, Reason.NOT_DELIVERABLE), "only its beginning"),
        (rejected(0, cut=True), "only its beginning"),
        (rejected(0, dialect=""), "its dialect is unknown"),
        (rejected(0, Reason.UNKNOWN_DIALECT, "auto"), "no dialect claimed it"),
        (rejected(0, raw=b" "), "nothing in it"),
        (rejected(0, Reason.NOT_ALLOWED), "name its reason: --reason not_allowed"),
    ],
)
def test_what_cannot_be_replayed(one: Rejected, why: str) -> None:
    """Whole lines of sensors can; rows, alerts and beginnings of lines cannot, and the reason is named."""
    left = why_left(one)

    assert why in left
    assert bool(why) == bool(left)


def test_bytes_go_back_where_they_came_from(kafka_settings_for: SettingsMaker) -> None:
    """Untouched, with the device as key and the dialect, to their partition; once, though asked twice; again if asked to."""
    settings = kafka_settings_for()
    reject(
        settings,
        [
            (1, b"\x00\xff one", reject_headers("malformed")),
            (1, b"two", reject_headers("bad_value")),
            (1, b"three", reject_headers("malformed", "sockets")),
            (2, b"four", reject_headers("malformed", device="other")),
            (2, b"six", {**reject_headers("malformed", device="other"), "device_from": "key"}),
            (2, b"{}", reject_headers("not_deliverable", "unproxy")),
            (3, b"row", {"reason": "not_deliverable", "detail": "x"}),
            (3, b"five", {**reject_headers("malformed"), "device": b"\xff"}),
            (3, b"no headers", {}),
        ],
    )
    dry = replay(settings, dry_run=True)
    assert (dry.replayed, published(settings)) == (6, [])
    account = replay(settings)

    expected = [
        (1, b"dev", b"\x00\xff one\ntwo", [("dialect", b"suricata"), LATE]),
        (1, b"dev", b"three", [("dialect", b"sockets"), LATE]),
        (2, b"other", b"four", [("dialect", b"suricata"), LATE]),
        (2, b"other", b"six", [("dialect", b"suricata"), LATE, ("device_from", b"key")]),
        (3, b"\xff", b"five", [("dialect", b"suricata"), LATE]),
    ]
    assert published(settings) == expected
    assert account.done == dry.done
    assert sum(count for (_, _, why), count in account.done.items() if why) == 3
    assert (replay(settings).read, published(settings)) == (0, expected)
    assert replay(settings, again=True).replayed == 6
    assert len(published(settings)) == 10


def test_refused_lines_have_no_back_door(kafka_settings_for: SettingsMaker) -> None:
    """A replay leaves them, and what their sender may claim stays with all others; by their own reason they go, believed."""
    settings = kafka_settings_for()
    none: Headers = {"claims": "none", "device_from": "key"}
    reject(
        settings,
        [
            (0, b"forged", {**reject_headers("not_allowed"), **none}),
            (0, b"unread", {**reject_headers("malformed"), **none}),
            (0, b"unsigned", reject_headers("malformed")),
        ],
    )
    account = replay(settings)
    assert account.replayed == 2
    assert [reason for reason, _, why in account.done if why] == ["not_allowed"]
    assert published(settings) == [
        (0, b"dev", b"unread", [("dialect", b"suricata"), LATE, ("device_from", b"key"), ("claims", b"none")]),
        (0, b"dev", b"unsigned", [("dialect", b"suricata"), LATE]),
    ]

    assert replay(settings, Wanted("not_allowed")).replayed == 1
    assert published(settings)[2:] == [
        (0, b"dev", b"forged", [("dialect", b"suricata"), LATE, ("device_from", b"key"), ("claims", b"verdicts")]),
    ]
    assert replay(settings, Wanted("not_allowed")).replayed == 0


def test_one_kind_after_the_other(kafka_settings_for: SettingsMaker) -> None:
    """Each fix has its replay, and one of everything takes only what is left; by device or time nothing is remembered."""
    settings = kafka_settings_for()
    kinds = [(reason, dialect) for reason in ("malformed", "bad_value") for dialect in ("suricata", "sockets")]
    reject(
        settings, [(0, f"{reason} {dialect}".encode(), reject_headers(reason, dialect)) for reason, dialect in kinds]
    )

    assert replay(settings, Wanted(device="absent")).replayed == 0
    assert replay(settings, Wanted(since_ms=1 << 50)).replayed == 0
    assert replay(settings, Wanted(device="dev")).replayed == 4
    assert replay(settings, Wanted("malformed", "sockets")).replayed == 1
    assert replay(settings, Wanted(dialect="sockets")).replayed == 1
    everything = replay(settings)
    assert (everything.replayed, everything.before) == (2, 2)
    reject(settings, [(0, b"new", reject_headers("bad_value", "sockets"))])
    assert replay(settings, Wanted(dialect="sockets")).replayed == 1
    assert replay(settings).replayed == 0


def test_many_lines_share_messages(kafka_settings_for: SettingsMaker) -> None:
    """Ten thousand lines of some devices: all there, in order, in few messages, none above what is reasonable."""
    settings = kafka_settings_for()
    sent = [
        (at % 4, b"%d %s" % (at, b"x" * 100), reject_headers("malformed", device=f"dev{at % 8}"))
        for at in range(10_000)
    ]
    reject(settings, [*sent, (0, b"y" * 3_000_000, reject_headers("malformed"))])
    assert replay(settings).replayed == 10_001

    found = published(settings)
    by_device: dict[bytes, list[bytes]] = {}
    for _, key, value, _ in found:
        by_device.setdefault(key or b"", []).extend((value or b"").split(b"\n"))
    for number in range(8):
        mine = [raw for at, (_, raw, _) in enumerate(sent) if at % 8 == number]
        assert by_device[b"dev%d" % number] == mine
    assert by_device[b"dev"] == [b"y" * 3_000_000]
    assert len(found) < 200


def test_what_is_rejected_again_waits_for_the_next_replay(kafka_settings_for: SettingsMaker, tmp_path: Path) -> None:
    """A worker reads what was mended and rejects the rest once more: no circle, nothing lost, nothing twice."""
    settings = kafka_settings_for()
    reject(
        settings,
        [(0, b"mended", reject_headers("malformed", "x")), *[(1, b"reject me", reject_headers("malformed", "x"))] * 20],
    )
    worker = WorkerProcess(settings, tmp_path / "worker.log").start()
    try:
        for lines, rejects in ((21, 41), (20, 61)):
            assert replay(settings, Wanted("malformed")).replayed == lines
            wait_until(lambda: committed(settings) == ends(settings), "all of it is read")
            assert len(read_all(settings, REJECTS)) == rejects
    finally:
        worker.discard()

    rows = [
        json.loads(row) for made in read_all(settings, NETWORK_EVENTS) for row in (made.value() or b"").split(b"\n")
    ]
    assert [row["id"] for row in rows if not row["id"].startswith("closed")] == ["mended"]


def test_a_stop_request_is_obeyed(kafka_settings_for: SettingsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop ends it between two chunks; what was done is remembered, the rest is done the next time."""
    settings = kafka_settings_for()
    monkeypatch.setattr(carrying, "CHUNK_MESSAGES", 10)
    reject(settings, [(0, b"%d" % at, reject_headers("malformed")) for at in range(50)])
    stop = Event()
    first = Replay(settings, Wanted(), again=False, dry_run=False, notify=print)
    keep = first._remember

    def remember_and_stop(chunk: Sequence[Rejected]) -> None:
        keep(chunk)
        stop.set()

    monkeypatch.setattr(first, "_remember", remember_and_stop)
    with pytest.raises(Stopped):
        first.until(stop)

    assert first.account.replayed == 10
    assert replay(settings).replayed == 40
    lines_now = [line for _, _, value, _ in published(settings) for line in (value or b"").split(b"\n")]
    assert lines_now == [b"%d" % at for at in range(50)]


def test_kafka_that_goes_away(kafka_settings_for: SettingsMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without progress for long it reports that, and that what was done is remembered."""
    settings = kafka_settings_for()
    reject(settings, [(0, b"line", reject_headers("malformed"))])
    monkeypatch.setattr(timeouts, "AWAY_SECS_MAX", 0.0)
    with pytest.raises(KafkaAway, match="start again to go on"):
        replay(settings)


def test_command_line(settings_for: SettingsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verb replays, and reports what it did and what it did not, for people and for programs."""
    settings = settings_for()
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    reject(
        settings, [(0, b"line", reject_headers("malformed")), (0, b"{}", reject_headers("not_deliverable", "unproxy"))]
    )

    assert run(["--config", str(file), "rejects", "--replay", "--dry-run"]) == 0
    assert "1 to replay  malformed  suricata\n" in capsys.readouterr().out
    assert run(["--config", str(file), "rejects", "--replay", "--device", "DEV"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("1 replayed  malformed  suricata\n1 left  not_deliverable  unproxy  ")
    assert "the position is not stored" in output.err
    assert run(["--config", str(file), "rejects", "--replay", "--format", "json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert {(one["Reason"], one["Done"], one["Count"]) for one in done} == {
        ("malformed", "replayed", 1),
        ("not_deliverable", "left", 1),
    }
    assert run(["--config", str(file), "rejects", "--replay"]) == 0
    assert "nothing to replay" in capsys.readouterr().err


def test_shown_by_kind(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many of each reason and dialect, since when, and the latest as an example, fit for a terminal."""
    client = connect(settings.clickhouse)
    migrate(client, settings.clickhouse.database)
    kinds: list[tuple[bytes, dict[str, bytes | None]]] = [
        (b'{"a":\x1b[31m\xff', _encoded(reject_headers("malformed", detail="old"))),
        (b'{"b":\x1b[31m\xff' + b"z" * 1_000, _encoded(reject_headers("malformed", device="dev2", detail="new\x07"))),
        (b"x", _encoded(reject_headers("bad_value", "sockets", detail="a port of -1"))),
        (b"row", {"reason": b"not_deliverable"}),
    ]
    rows = [
        reject_row(f"rejects/0/{at}", 1_795_547_248_000 + at * 1_000, list(headers.items()), raw)
        for at, (raw, headers) in enumerate(kinds)
    ]
    client.raw_insert(
        f"{settings.clickhouse.database}.Rejects_versions", insert_block=b"\n".join(rows), fmt="JSONEachRow"
    )
    client.close()
    asking = of_settings(settings)
    (first, *others) = stored(asking, Selection())

    assert (first["Reason"], first["Count"], first["Devices"]) == ("malformed", 2, 2)
    assert (first["FirstTime"], first["LastTime"]) == ("2026-11-24T19:07:28.000000Z", "2026-11-24T19:07:29.000000Z")
    assert (first["ExampleDevice"], first["ExampleBytes"] // 10) == ("dev2", 101)
    assert first["ExampleRaw"].startswith(r'{"b":\u001b[31m\xffzzz')
    assert lines(first)[0] == "malformed  suricata  2 lines of 2 devices  2026-11-24 19:07:28 to 2026-11-24 19:07:29"
    assert all(line.isprintable() for line in lines(first))
    assert lines(others[1])[0].startswith("not_deliverable  no dialect  1 line of 1 device")
    assert [row["Reason"] for row in stored(asking, Selection(dialect="sockets"))] == ["bad_value"]
    assert [row["Reason"] for row in stored(asking, Selection(device="dev2"))] == ["malformed"]
    assert stored(asking, Selection(since="2026-11-24T19:07:29Z"))[0]["Count"] == 1
    assert len(stored(asking, Selection(limit=2))) == 2

    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    assert run(["--config", str(file), "rejects", "--reason", "bad_value", "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["ExampleDetail"] == "a port of -1"
    assert run(["--config", str(file), "rejects", "--reason", "bad_value", "--format", "json"]) == 0
    assert [one["ExampleDetail"] for one in json.loads(capsys.readouterr().out)] == ["a port of -1"]
    assert run(["--config", str(file), "rejects", "--device", "absent"]) == 0
    there = "there are some of dialects: no dialect, sockets, suricata; of devices: "
    assert f"no rejects match; {there}" in capsys.readouterr().err


def _encoded(headers: Headers) -> dict[str, bytes | None]:
    """Headers as the topic has them."""
    return {name: value.encode() if isinstance(value, str) else value for name, value in headers.items()}


def remembered(settings: Settings) -> bool:
    """Whether a replay has noted how far it went."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": carrying.group_of(settings)})
    try:
        places = [TopicPartition(topic_name(settings, REJECTS), partition) for partition in range(4)]
        return any(place.offset >= 0 for place in consumer.committed(places, timeout=10))
    finally:
        consumer.close()


def test_ctrl_c(kafka_settings_for: SettingsMaker, tmp_path: Path) -> None:
    """Ctrl-C in the middle ends the command with 130; each line is published, most of them once."""
    settings = kafka_settings_for()
    file = tmp_path / "settings.toml"
    write_settings(settings, file)
    reject(settings, [(at % 4, b"%d %s" % (at, b"x" * 400), reject_headers("malformed")) for at in range(60_000)])
    command = [sys.executable, "-m", "unproxy", "--config", str(file), "rejects", "--replay"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: remembered(settings), "the first place that is remembered")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    rest = replay(settings)

    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert "stopped; " in err
    assert 0 < rest.replayed < 60_000
    found = {line for _, _, value, _ in published(settings) for line in (value or b"").split(b"\n")}
    assert len(found) == 60_000
