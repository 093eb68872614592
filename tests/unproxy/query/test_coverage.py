"""`unproxy coverage`: how rows become an answer, and times as people give them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.clock import MICROS, parse_micros
from schemas.settings import CorrelationSettings, Settings
from sinks.clickhouse import ClickHouseSink
from streams.pipeline import Message, Pipeline
from tests.sample import sample
from unproxy import wiring
from unproxy.local.servers.engine import Engine
from unproxy.query.client import of_settings
from unproxy.query.coverage import Answer, Verdict, answer, as_objects, ask, lines, stretches
from unproxy.query.times import is_day, moment
from unproxy.query.unresolved import CAUSES

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(clock: str) -> int:
    """A time of the day."""
    return parse_micros(f"2026-11-24T{clock}")


def seen(first: str, last: str, sensor: str = "s") -> dict[str, Any]:
    """A row of DeviceCoverage."""
    times = {"FirstTime": f"2026-11-24T{first}:00Z", "LastTime": f"2026-11-24T{last}:00Z"}
    return {"Dialect": "suricata", "Sensor": sensor, **times}


def gap(kind: str = "loss", sensor: str = "s", **given: Any) -> dict[str, Any]:
    """A row of SensorGaps from 10:06 to 10:07."""
    place = {"Dialect": "", "Sensor": ""} if kind == "silence" else {"Dialect": "suricata", "Sensor": sensor}
    times = {"FromTime": "2026-11-24T10:06:00.000000Z", "ToTime": "2026-11-24T10:07:00.000000Z"}
    return {"Kind": kind, "Status": "open", "LinesMissing": 1_200, **place, **times, **given}


def asked(since: str, until: str, coverage: list[dict[str, Any]], gaps: list[dict[str, Any]] | None = None) -> Answer:
    """The answer for sensors s and t."""
    sensors = [{"Dialect": "suricata", "Sensor": name} for name in ("s", "t")]
    return answer("dev", at(since), at(until), sensors, coverage, gaps or [])


@pytest.mark.parametrize(
    ("since", "until", "verdict"),
    [
        ("10:05", "10:06", Verdict.SEEN),
        ("10:01", "10:12", Verdict.SEEN),
        ("10:00", "10:02", Verdict.PARTLY),
        ("10:11", "10:25", Verdict.PARTLY),
        ("10:14", "10:16", Verdict.NOT),
        ("09:00", "10:00", Verdict.NOT),
        ("09:00", "11:00", Verdict.PARTLY),
    ],
)
def test_a_sensor_was_seen_or_not(since: str, until: str, verdict: Verdict) -> None:
    """Seen: lines before and after, less than five minutes apart; buckets that follow each other are one stretch."""
    rows = [seen("10:01", "10:04"), seen("10:08", "10:09"), seen("10:10", "10:12"), seen("10:20", "10:22")]
    found = asked(since, until, rows).presences[0]

    assert found.verdict is verdict


def test_a_device_is_seen_when_all_its_sensors_saw_it() -> None:
    """One of two is partly; neither is not at all."""
    both = [seen("10:00", "10:10"), seen("10:00", "10:10", "t")]

    assert asked("10:05", "10:06", both).verdict is Verdict.SEEN
    assert asked("10:05", "10:06", both[:1]).verdict is Verdict.PARTLY
    assert asked("10:05", "10:06", []).verdict is Verdict.NOT


def test_missing_lines_make_it_partly() -> None:
    """Lines came all the while, but some are missing."""
    found = asked("10:05", "10:08", [seen("10:00", "10:10"), seen("10:00", "10:10", "t")], [gap()])

    assert [presence.verdict for presence in found.presences] == [Verdict.PARTLY, Verdict.SEEN]
    assert lines(found)[1:3] == [
        "  suricata s  partly seen  2026-11-24 10:05:00.000 to 2026-11-24 10:08:00.000",
        "    1,200 lines missing between 2026-11-24 10:06:00.000 and 2026-11-24 10:07:00.000",
    ]


def test_every_kind_of_gap_is_put_in_words() -> None:
    """A restart, a silence that lasts, one that is over, a line whose time is unknown."""
    gaps = [
        gap("restart", LinesMissing=None),
        gap(LinesMissing=1, FromTime=None),
        gap("silence", ToTime=None),
        gap("silence"),
    ]
    printed = "\n".join(lines(asked("10:05", "10:08", [], gaps)))

    assert "numbering began again between 2026-11-24 10:06:00.000 and 2026-11-24 10:07:00.000: what was lost" in printed
    assert "1 line missing between an unknown time and" in printed
    assert "  silent from 2026-11-24 10:06:00.000 on, it still is" in printed
    assert "  silent from 2026-11-24 10:06:00.000 to 2026-11-24 10:07:00.000" in printed


def test_programs_get_the_same() -> None:
    """One object a sensor, with the gaps that concern it, the device's silence with each."""
    first, second = as_objects(asked("10:05", "10:08", [seen("10:00", "10:10")], [gap(), gap("silence")]))

    assert (first["DeviceVerdict"], first["Verdict"], second["Verdict"]) == ("partly seen", "partly seen", "not seen")
    assert first["Seen"] == [["2026-11-24T10:05:00.000000Z", "2026-11-24T10:08:00.000000Z"]]
    assert [[row["Kind"] for row in one["Gaps"]] for one in (first, second)] == [["loss", "silence"], ["silence"]]


def test_unresolved_connections_are_counted_by_cause() -> None:
    """Each cause is one line with what to do and where most of them went; programs get the same in fields."""
    rows = [
        {"UnresolvedReason": "protection_off", "proxied": 1, "connections": 1_042, "remotes": ["10.9.9.9:3128"]},
        {"UnresolvedReason": "protection_off", "proxied": 0, "connections": 1, "remotes": ["[2001:db8::1]:443", "10.1.1.1:80"]},
    ]  # fmt: skip
    found = answer("dev", at("10:05"), at("10:06"), [{"Dialect": "suricata", "Sensor": "s"}], [], [], rows)
    first, second = lines(found)[-2:]
    (one,) = as_objects(found)

    assert first.startswith(
        "  1,042 connections unresolved: protection was off, so no HTTP-level event was seen; enable "
    )
    assert first.endswith("(most to 10.9.9.9:3128)")
    assert second.startswith(
        "  1 connection unresolved: no HTTP-level event was seen by then, so nothing shows whether"
    )
    assert second.endswith("(most to [2001:db8::1]:443, 10.1.1.1:80)")
    assert one["Unresolved"][0] == {
        "Reason": "protection_off",
        "Connections": 1_042,
        "Remotes": ["10.9.9.9:3128"],
        "Why": "protection was off, so no HTTP-level event was seen",
        "Remedy": CAUSES["protection_off"].remedy,
    }


def test_many_stretches_are_cut() -> None:
    """Ten are shown, and how many more there are."""
    rows = [seen(f"{hour:02}:01", f"{hour:02}:02") for hour in range(12)]

    assert lines(asked("00:00", "23:00", rows))[1].endswith("09:02:00.000, +2 more")


def test_stretches_of_any_order() -> None:
    """Spans overlap where a sensor was late."""
    assert stretches([(10, 20), (5, 12), (500 * MICROS, 501 * MICROS)]) == [(5, 20), (500 * MICROS, 501 * MICROS)]


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("10:05", "", "2026-11-24T10:05:00"),
        ("12:30", "", "2026-11-23T12:30:00"),
        ("10:05:30.5", "", "2026-11-24T10:05:30.5"),
        ("00:10", "2026-11-20T23:50:00", "2026-11-21T00:10:00"),
        ("10:10", "2026-11-20T10:05:00", "2026-11-20T10:10:00"),
        ("19:00", "2026-11-20T20:00:00", "2026-11-20T19:00:00"),
        ("20:00", "2026-11-20T20:00:00", "2026-11-20T20:00:00"),
        ("2026-11-20T10:05", "", "2026-11-20T10:05:00"),
        ("2026-11-20", "", "2026-11-20T00:00:00"),
        ("2026-11-20T10:05:00+02:00", "", "2026-11-20T08:05:00"),
    ],
)
def test_times_as_people_give_them(text: str, after: str, expected: str) -> None:
    """A time of day is the latest one; of an end that of the beginning's day, or soon after its midnight, else it stays before
    the beginning and is reported. Anything else is a time as ISO 8601 has it.
    """
    assert moment(text, NOW, parse_micros(after) if after else 0) == parse_micros(expected)


def test_days() -> None:
    """A day alone is all of it."""
    assert [is_day(text) for text in ("2026-11-24", "2026-11-24T00:00", "10:05", "")] == [True, False, False, False]


@pytest.mark.parametrize("text", ["yesterday", "", "10", "25:00", "1900-01-01"])
def test_other_words_are_no_times(text: str) -> None:
    """They are refused."""
    with pytest.raises(ValueError, match=r".*"):
        moment(text, NOW)


def test_the_tables_count_what_is_unresolved(engine: Engine) -> None:
    """The device's own connections in that time, by cause, the most frequent one first."""
    settings = Settings(clickhouse=engine.settings("unresolved"))
    list(of_settings(Settings(clickhouse=engine.settings(""))).lines("CREATE DATABASE unresolved", output="Null"))
    wiring.migrate(settings)
    pipeline = Pipeline(CorrelationSettings())
    for number, line in enumerate(sample()):
        pipeline.take(Message(number, 0, line.device.encode(), line.value, line.dialect))
    pipeline.finish()
    made = pipeline.drain()
    sink = ClickHouseSink(settings.clickhouse)
    sink.write("DeviceNetworkEvents", made.network_events, "rows")
    sink.write("DeviceCoverage", made.coverage, "coverage")
    sink.close()
    spans = (0, 0), (at("19:07"), at("19:09")), (at("19:07"), at("19:07:30"))
    everything, whole, early = (ask(of_settings(settings), "dev-a", *span) for span in spans)

    assert everything is not None
    assert whole is not None
    assert early is not None
    assert everything.unresolved == whole.unresolved
    assert [(one.reason, one.connections) for one in whole.unresolved] == [
        ("encrypted_to_proxy", 2),
        ("no_usable_request", 2),
        ("no_http_event", 1),
        ("older_than_sensor", 1),
    ]
    assert whole.unresolved[0].remotes == ("198.51.100.80:3129",)
    assert all(one.proxied for one in whole.unresolved)
    assert [one.reason for one in early.unresolved] == ["older_than_sensor"]
