"""Messages in, outputs out: what the pipeline does with lines before and besides correlation."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.events import DEVICE_CHARS_MAX, Parsed, Reason
from schemas.parsers import dialects
from schemas.settings import CorrelationSettings
from streams.messages import LINE_BYTES_MAX, MESSAGE_LINES_MAX
from streams.pipeline import Message, Pipeline
from streams.rejects import MISTAKE
from streams.worker.metrics import book_families
from tests.sample import sample

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "mde.in.jsonl"
KERNEL = (
    b'{"device":"%s","pid":1,"process":"p","local_ip":"10.0.0.1","local_port":1000,"remote_ip":"10.9.9.9","remote_port":3128,'
    b'"result":"open","ts_attempt":"2026-11-24T19:07:26.000000Z","ts_established":"2026-11-24T19:07:26.000100Z",'
    b'"ts_closed":null}'
)


def pipeline_after(*messages: Message) -> Pipeline:
    """Return a pipeline after these messages."""
    pipeline = Pipeline(CorrelationSettings())
    for message in messages:
        pipeline.take(message)
    return pipeline


@pytest.mark.parametrize(
    ("dialect", "line", "reason"),
    [
        ("suricata", b"\x00\xff garbage", Reason.MALFORMED),
        ("suricata", b'{"a":' * 5000, Reason.MALFORMED),
        ("suricata", b"[]", Reason.BAD_VALUE),
        ("suricata", b'{"timestamp":"x"}', Reason.INCOMPLETE),
        ("sockets", b'{"device":5}', Reason.BAD_VALUE),
        ("nosuch", b"{}", Reason.UNKNOWN_DIALECT),
        ("suricata", b"x" * (LINE_BYTES_MAX + 1), Reason.TOO_LONG),
        ("sockets", KERNEL % b"", Reason.NO_DEVICE),
    ],
)
def test_rejects_keep_their_bytes(dialect: str, line: bytes, reason: Reason) -> None:
    """An unreadable line is a reject with its bytes and reason, counted once."""
    pipeline = pipeline_after(Message(1, 1, b"" if reason is Reason.NO_DEVICE else b"dev", line, dialect))
    (reject,) = pipeline.drain().rejects

    assert (reject.reason, reject.raw, reject.dialect) == (reason, line, dialect)
    assert pipeline.book()[f"rejected:{reason}"] == pipeline.book()["read"] == 1


def test_a_failing_dialect_stops_no_other_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line is rejected with the error, to be read after a fix; the lines around it are read."""
    parse = dialects()["sockets"].parse

    def fail(line: bytes) -> Parsed:
        if b"fail" in line:
            raise ZeroDivisionError("made to fail")
        return parse(line)

    failing = replace(dialects()["sockets"], parse=fail)
    monkeypatch.setattr("streams.pipeline.dialects", lambda: {"sockets": failing})
    line = KERNEL % b"dev"
    pipeline = pipeline_after(Message(1, 1, b"dev", b"\n".join([line, b"fail", line]), "sockets"))
    (reject,) = pipeline.drain().rejects

    assert (reject.reason, reject.raw) == (Reason.MALFORMED, b"fail")
    assert reject.detail == f"{MISTAKE}ZeroDivisionError('made to fail')"
    assert pipeline.book()["parsed"] == 2


def test_a_failing_envelope_stops_no_other_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The envelope is rejected with its bytes; the rows of the next one are read."""
    mde = dialects()["mde"]
    split = mde.split
    assert split is not None
    envelope = next(line for line in GOLDEN.read_bytes().splitlines() if b'"records"' in line)
    bad = envelope.replace(b'"records"', b'"fail":1,"records"')

    def fail(line: bytes) -> list[bytes]:
        if b'"fail"' in line:
            raise ZeroDivisionError("made to fail")
        return split(line)

    monkeypatch.setattr("streams.pipeline.dialects", lambda: {"mde": replace(mde, split=fail)})
    pipeline = pipeline_after(Message(1, 1, b"dev", bad + b"\n" + envelope, "mde"))
    (reject,) = [reject for reject in pipeline.drain().rejects if reject.raw == bad]

    assert (reject.reason, reject.detail) == (Reason.MALFORMED, f"{MISTAKE}ZeroDivisionError('made to fail')")
    assert pipeline.book()["read"] == 1 + len(split(envelope))


def test_blank_lines_are_no_lines() -> None:
    """Empty lines between records and a line end at the end of a file are not counted."""
    pipeline = pipeline_after(Message(1, 1, b"dev", b"\n\n" + KERNEL % b"dev" + b"\r\n\n  \n", "sockets"))

    assert pipeline.book()["read"] == pipeline.book()["parsed"] == 1


def test_a_message_of_too_many_lines_is_rejected_whole() -> None:
    """It is one reject with all its bytes; one line less is read."""
    whole = b"\n".join([b"x"] * (MESSAGE_LINES_MAX + 1))
    pipeline = pipeline_after(Message(1, 1, b"dev", whole, "suricata"))
    (reject,) = pipeline.drain().rejects
    assert (reject.reason, reject.raw) == (Reason.TOO_LONG, whole)
    assert pipeline.book()["read"] == pipeline.book()["rejected:too_long"] == 1

    assert len(pipeline_after(Message(1, 1, b"dev", whole[2:], "suricata")).drain().rejects) == MESSAGE_LINES_MAX
    empty = pipeline_after(Message(1, 1, b"dev", b"\n" * 1_000_000, "suricata"))
    assert empty.book() == {"waiting": 0}


def test_a_message_taken_before_does_nothing() -> None:
    """A message at or below the offset in the state changes nothing."""
    message = Message(7, 1, b"dev", KERNEL % b"dev", "sockets")
    pipeline = pipeline_after(message, message, Message(6, 1, b"dev", KERNEL % b"dev", "sockets"))

    assert pipeline.book()["read"] == 1


def test_lines_of_several_devices_find_their_own() -> None:
    """Lines under another key go to the devices they name, and replay for each device by itself."""
    both = Message(1, 1, b"collector", KERNEL % b"one" + b"\n" + KERNEL % b"two", "sockets")
    pipeline = pipeline_after(both)
    assert {name for name, device in pipeline.devices.items() if device.connections} == {"one", "two"}

    pipeline.devices["two"].state.offset = 0
    pipeline.take(both)
    assert pipeline.devices["one"].state.counts["read"] == 1
    assert pipeline.devices["two"].state.counts["read"] == 2


def test_lines_may_be_all_of_the_key() -> None:
    """A header states that all lines are of the key's device; a reject keeps the header."""
    lines = KERNEL % b"one" + b"\n" + KERNEL % b"10.0.0.1" + b"\nwhat is this"
    headers = {"dialect": b"sockets", "device_from": b"key"}
    pipeline = pipeline_after(Message.read(1, 1, b"ws-042", lines, headers))
    output = pipeline.drain()
    (reject,) = output.rejects

    assert {name: device.state.counts["parsed"] for name, device in pipeline.devices.items()} == {"ws-042": 2}
    assert (reject.device, reject.keyed) == ("ws-042", True)


@pytest.mark.parametrize("header", [{}, {"device_from": b"line"}, {"device_from": b"\xff"}, {"device_from": None}])
def test_a_key_is_the_device_only_with_the_header(header: dict[str, bytes | None]) -> None:
    """Other keys are partitions or collectors: their lines belong to the devices that they name."""
    pipeline = pipeline_after(Message.read(1, 1, b"collector", KERNEL % b"one", {"dialect": b"sockets", **header}))

    assert set(pipeline.devices) == {"one"}


def test_without_a_key_lines_belong_to_the_device_they_name() -> None:
    """The header has no effect without a key that can be a device."""
    for key in (b"", b"x" * 2_000):
        message = Message.read(1, 1, key, KERNEL % b"one", {"dialect": b"sockets", "device_from": b"key"})
        assert set(pipeline_after(message).devices) == {"one"}


ROW = (
    b'{"properties":{"DeviceName":"%s","ActionType":"ConnectionSuccess","Timestamp":"2025-03-04T09:15:21.9981234Z","ReportId":1,'
    b'"LocalIP":"10.0.0.1","LocalPort":%d,"RemoteIP":"10.9.9.9","RemotePort":3128,"Protocol":"Tcp"}}'
)


def test_an_envelope_counts_as_its_rows() -> None:
    """Each row goes to its device, damaged ones to `rejects`, and a key that no row names is no device."""
    rows = [ROW % (b"one", 1), b"5", ROW % (b"two", 2), ROW % (b"one", 3), b'{"properties":{}}']
    value = b'{"records":[' + b",".join(rows) + b"]}"
    pipeline = pipeline_after(Message(1, 1, b"", value + b"\n\n" + ROW % (b"one", 4) + b"\r\n", "mde"))

    assert [reject.raw for reject in pipeline.drain().rejects] == [b"5", b'{"properties":{}}']
    assert {name: device.state.counts["read"] for name, device in pipeline.devices.items()} == {
        "one": 3,
        "two": 1,
        "": 2,
    }
    book = pipeline.book()
    assert (book["read"], book["parsed"], book["connections"]) == (6, 4, 4)


def test_a_bare_message_key_creates_no_device() -> None:
    """An Event Hub's keys are partitions: rows belong to the devices they name; only a line without one to its key."""
    value = b'{"records":[' + ROW % (b"one", 1) + b"," + ROW % (b"two", 2) + b"]}"
    pipeline = pipeline_after(*(Message(number, 1, b"partition-%d" % number, value, "mde") for number in (1, 2, 3)))
    assert set(pipeline.devices) == {"one", "two"}
    assert {key for key, _ in pipeline.checkpoint() if b"partition" in key} == set()

    pipeline = pipeline_after(Message(1, 1, b"partition-1", b"junk", "mde"))
    assert set(pipeline.devices) == {"partition-1"}


def test_an_envelope_taken_before_does_nothing() -> None:
    """Each device's own offset decides which rows are new."""
    message = Message(7, 1, b"", b'{"records":[' + ROW % (b"one", 1) + b"," + ROW % (b"two", 2) + b"]}", "mde")
    pipeline = pipeline_after(message, message)

    assert (pipeline.book()["read"], pipeline.book()["connections"]) == (2, 2)


def test_envelopes_of_too_many_rows_are_one_reject() -> None:
    """Rows count as lines of their message."""
    envelope = b'{"records":[' + b",".join([b"0"] * 9_000) + b"]}"
    whole = b"\n".join([envelope] * (MESSAGE_LINES_MAX // 9_000 + 1))
    pipeline = pipeline_after(Message(1, 1, b"dev", whole, "mde"))
    (reject,) = pipeline.drain().rejects
    assert (reject.reason, reject.raw) == (Reason.TOO_LONG, whole)

    long = b'{"records":["' + b"x" * LINE_BYTES_MAX + b'"]}'
    (reject,) = pipeline_after(Message(1, 1, b"dev", long, "mde")).drain().rejects
    assert (reject.reason, reject.raw) == (Reason.TOO_LONG, long)


def test_ticks_advance_a_quiet_device() -> None:
    """The log's time advances a quiet device, from its own last message on."""
    pipeline = Pipeline(CorrelationSettings(proxies=("10.9.9.9:3128",)))
    pipeline.take(Message(1, 50_000, b"dev", KERNEL % b"dev", "sockets"))
    pipeline.take(Message(2, 57_000, b"", b"", "tick"))
    assert pipeline.drain().network_events == []

    pipeline.take(Message(3, 59_500, b"", b"", "tick"))
    (row,) = map(json.loads, pipeline.drain().network_events)
    assert row["UnresolvedReason"] == "protection_off"
    assert pipeline.devices["dev"].state.offset == 3


def test_lines_in_a_tick_do_not_vanish() -> None:
    """A tick has no lines: those of a message marked as one are rejected line by line."""
    pipeline = pipeline_after(Message(1, 1, b"dev", b"one\ntwo", "tick"))

    assert [reject.raw for reject in pipeline.drain().rejects] == [b"one", b"two"]
    assert pipeline.book()["read"] == pipeline.book()["rejected:unknown_dialect"] == 2


def test_a_name_that_is_too_long_is_no_device() -> None:
    """A line naming a device of 256 characters is rejected; under a key that is too long, lines name their own."""
    pipeline = pipeline_after(Message(1, 1, b"dev", KERNEL % (b"d" * (DEVICE_CHARS_MAX + 1)), "sockets"))
    (reject,) = pipeline.drain().rejects
    assert (reject.reason, reject.device) == (Reason.NO_DEVICE, "dev")
    assert pipeline_after(Message(1, 1, b"dev", KERNEL % (b"d" * DEVICE_CHARS_MAX), "sockets")).drain().rejects == []

    pipeline = pipeline_after(Message(1, 1, b"k" * 3_000, b"junk\n" + KERNEL % b"dev", "sockets"))
    assert {name for name, device in pipeline.devices.items() if device.connections} == {"dev"}
    assert max(map(len, pipeline.devices)) <= DEVICE_CHARS_MAX
    assert [reject.device for reject in pipeline.drain().rejects] == [""]


@pytest.mark.parametrize("char", ["\x1b", "\n", "\x7f", "\x9b", "\u2028", "\u202e", "\u200b"])
def test_a_name_with_control_characters_is_no_device(char: str) -> None:
    """It would change a terminal's display: such a line is rejected; under such a key lines name their own device."""
    name = f"ws{char}1"
    pipeline = pipeline_after(Message(1, 1, b"dev", KERNEL % json.dumps(name)[1:-1].encode(), "sockets"))
    (reject,) = pipeline.drain().rejects
    assert (reject.reason, reject.device) == (Reason.NO_DEVICE, "dev")
    assert f"U+{ord(char):04X}" in reject.detail
    assert set(pipeline.devices) == {"dev"}

    headers = {"dialect": b"sockets", "device_from": b"key"}
    pipeline = pipeline_after(Message.read(1, 1, name.encode(), KERNEL % b"dev", headers))
    assert set(pipeline.devices) == {"dev"}


def test_state_entries_stay_small_for_any_line() -> None:
    """A line may have a megabyte; its state entries and rows stay small."""
    long = b"x" * 900_000
    eve = (
        b'{"timestamp":"2026-11-24T19:07:28.397055+0000","flow_id":1,"event_type":"%s","src_ip":"10.0.0.1","src_port":1000,'
        b'"dest_ip":"10.9.9.9","dest_port":3128,"proto":"TCP","host":"dev",'
        b'"http":{"hostname":"%s","url":"http://a.example/","http_method":"GET"},'
        b'"alert":{"action":"blocked","signature":"%s","category":"%s"}}'
    )
    pipeline = pipeline_after(
        Message(1, 1, b"dev", (KERNEL % b"dev").replace(b'"p"', b'"%s"' % long), "sockets"),
        Message(2, 1, b"dev", (KERNEL % b"dev").replace(b".000000Z", b".000000" + b"0" * 900_000 + b"Z"), "sockets"),
        Message(3, 1, b"dev", eve % (b"http", long, b"", b""), "suricata"),
        Message(4, 1, b"dev", eve % (b"alert", b"a.example", long, b""), "suricata"),
        Message(5, 1, b"dev", eve % (b"alert", b"a.example", b"", long), "suricata"),
    )
    pipeline.finish()
    output = pipeline.drain()
    made = [*output.network_events, *output.device_events, *(alert for _, alert in output.alerts)]

    assert len(made) > 3
    assert max(map(len, made)) < 10_000
    assert max(len(key) + len(value) for key, value in pipeline.checkpoint()) < 20_000


def test_a_replayed_tick_does_nothing() -> None:
    """A tick that is in the state already advances no clock."""
    pipeline = Pipeline(CorrelationSettings())
    pipeline.take(Message(1, 50_000, b"dev", KERNEL % b"dev", "sockets"))
    pipeline.take(Message(3, 60_000, b"", b"", "tick"))
    now = pipeline.devices["dev"].state.event_time
    pipeline.take(Message(3, 70_000, b"", b"", "tick"))

    assert pipeline.devices["dev"].state.event_time == now


def test_the_size_of_the_state_is_reported() -> None:
    """Devices, kept connections, and devices near their bound; departed connections do not count."""
    pipeline = Pipeline(CorrelationSettings(connections_max=5))
    for number, device in enumerate([b"a", b"a", b"a", b"a", b"a", b"a", b"b"]):
        line = (KERNEL % device).replace(b":1000,", b":%d," % (1000 + number))
        pipeline.take(Message(number, number, device, line, "sockets"))
    shown = {sample.name: sample.value for made in book_families([pipeline.book()]) for sample in made.samples}

    assert shown["unproxy_devices"] == 2
    assert shown["unproxy_connections_kept"] == 5 + 1
    assert shown["unproxy_devices_near_bound"] == 1


def test_ten_thousand_mutated_lines() -> None:
    """Flipped, cut, doubled, nested, out of range: nothing raises, each line counts, each reject keeps its bytes."""
    chance = random.Random(3)
    lines = [line for line in sample() if b'"dns"' not in line.value]
    pipeline = Pipeline(CorrelationSettings())
    fed: list[bytes] = []
    rejected = []
    for number in range(10_000):
        line = chance.choice(lines)
        value = mutated(chance, line.value)
        fed += [part for part in value.split(b"\n") if part.strip()]
        pipeline.take(Message(number, number, line.device.encode(), value, line.dialect))
        rejected += pipeline.drain().rejects
    pipeline.finish()
    rejected += pipeline.drain().rejects
    book = pipeline.book()
    sums = {kind: sum(n for what, n in book.items() if what.startswith(f"{kind}:")) for kind in ("ignored", "rejected")}

    assert book["read"] == len(fed) == book["parsed"] + sums["ignored"] + sums["rejected"]
    assert len(rejected) == sums["rejected"] > 1000
    assert {reject.raw for reject in rejected} <= set(fed)
    booked = sum(n for what, n in book.items() if what.startswith(("resolved:", "unresolved:")))
    assert (book["connections"], book["waiting"]) == (booked, 0)


def mutated(chance: random.Random, value: bytes) -> bytes:
    """Return a line damaged in a random way."""
    kind = chance.randrange(8)
    place = chance.randrange(len(value))
    if kind == 0:
        return value[:place]
    if kind == 1:
        return value[:place] + bytes([chance.randrange(256)]) + value[place + 1 :]
    if kind == 2:
        return value[:place] + value[place : place + 40] * 2 + value[place + 40 :]
    if kind == 3:
        return value.replace(
            b"2026-11-24", chance.choice([b"9999-12-31", b"0000-00-00", b"1601-01-01", b"2199-01-01", b""])
        )
    if kind == 4:
        return value.replace(
            b":3128", chance.choice([b":-1", b":99999999999999999999", b':"3128"', b":null", b":1e309"])
        )
    if kind == 5:
        return value.replace(b'":"', b'":' + b"[" * chance.randrange(1, 3000), 1)
    if kind == 6:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(1, 300)))
    return value.replace(b"198.51.100", chance.choice([b"999.1.1", b"::ffff:1.2.3", b"\\ud800", b"x" * 400]))


@pytest.mark.parametrize(
    ("dialect", "line", "reason"),
    [
        ("osquery", b'{"name":"users","hostIdentifier":"a","unixTime":1795547248,"action":"added"}', "protection_off"),
        ("suricata", b'{"timestamp":"2026-11-24T19:07:28.5Z","event_type":"stats","host":"a"}', "older_than_sensor"),
    ],
)
def test_only_a_network_sensors_lines_make_connections_older_than_it(dialect: str, line: bytes, reason: str) -> None:
    """An ignored line dates a network sensor's first line, an ignored line of an endpoint does not."""
    pipeline = Pipeline(CorrelationSettings(proxies=("proxy=10.9.9.9:3128",)))
    pipeline.take(Message(1, 0, b"a", KERNEL % b"a", "sockets"))
    pipeline.take(Message(2, 0, b"a", line, dialect))
    pipeline.finish()
    (row,) = map(json.loads, pipeline.drain().network_events)

    assert row["UnresolvedReason"] == reason
