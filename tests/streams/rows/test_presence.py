"""Presence of a device: coverage by its own time, and silences longer than its baseline."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.clock import MICROS
from streams.model.device import SENSORS_MAX
from streams.pipeline import Message
from streams.worker.metrics import book_families
from tests.factories import DEVICE, micros
from tests.streams.rows.presence_story import START_MS, Log, Sent, clock, line

DAY = 86_400.0
BUCKET = 300


def sent(*at: float, logged: float | None = None) -> Sent:
    """Return one unnumbered message of one line."""
    (one,) = at
    return Sent(0, 1, one, logged)


def bucket_of(at: float) -> str:
    """Return the start of the five-minute bucket."""
    begin = micros(at) // (BUCKET * MICROS) * BUCKET
    return clock(begin - micros(0) // MICROS)


@settings(max_examples=100)
@given(st.lists(st.floats(0, 2_000), min_size=1, max_size=30), st.data())
def test_coverage_is_the_span_of_the_lines(times: list[float], data: st.DataObject) -> None:
    """Any order, messages, repeats and ticks give the first and last time of each five minutes."""
    log = Log()
    rest = [*times, *data.draw(st.lists(st.sampled_from(times), max_size=5))]
    newest = max(times)
    log.take(Message(0, START_MS, DEVICE.encode(), line(newest), "suricata"))
    while rest:
        some, rest = rest[: (size := data.draw(st.integers(1, len(rest))))], rest[size:]
        value = b"\n".join(line(at) for at in some)
        log.take(Message(len(log.messages), START_MS, DEVICE.encode(), value, "suricata"))
    log.tick(11, 400)

    expected: dict[tuple[str, str], tuple[str, str]] = {}
    for at in sorted(times):
        first, _ = expected.get(("", bucket_of(at)), (clock(at), ""))
        expected["", bucket_of(at)] = (first, clock(at))
    assert log.seen == expected


def test_a_bucket_costs_few_rows() -> None:
    """One row at its start, one at the start of the next; a pause writes the coverage so far, once."""
    log = Log().send(*(sent(at) for at in range(1, 290)))
    begun = len(log.coverage_rows)
    log.tick(295, 303, 320)
    paused = len(log.coverage_rows)
    start = micros(0) // MICROS % BUCKET
    log.send(*(sent(at) for at in range(BUCKET - start + BUCKET, BUCKET - start + BUCKET + 5)))

    assert (begun, paused - begun, len(log.coverage_rows) - paused) == (3, 1, 1)


def test_further_pauses_in_a_bucket_cost_no_row() -> None:
    """A second pause in the same five minutes waits until they are over."""
    log = Log().send(sent(0), sent(1)).tick(12)
    paused = len(log.coverage_rows)
    log.send(sent(13)).tick(30).send(sent(31)).tick(60)
    assert len(log.coverage_rows) == paused == 2

    log.tick(340)
    assert list(log.seen.values()) == [(clock(0), clock(31))]


def test_a_time_far_ahead_is_not_seen() -> None:
    """A line with an implausible time covers nothing; the lines around it do."""
    log = Log().send(sent(0), sent(9 * DAY, logged=2), sent(1, logged=3)).tick(20)

    assert list(log.seen.values()) == [(clock(0), clock(1))]


def test_a_clock_set_back_is_followed() -> None:
    """Coverage continues at the corrected clock, without a row per message."""
    log = Log().send(sent(5 * DAY), *(sent(at, logged=5 * DAY + at) for at in range(100))).tick(5 * DAY + 120)

    assert (clock(1), clock(99)) in log.seen.values() or (clock(0), clock(99)) in log.seen.values()
    assert len(log.coverage_rows) < 5


def test_sensors_have_a_bound() -> None:
    """Beyond the bound the sensor that reported longest ago is evicted, after its coverage is written."""
    log = Log()
    for number in range(SENSORS_MAX + 1):
        log.send(Sent(1, 2, number), Sent(9, 2, number + 2), sensor=f"s{number:03}")
    device = log.pipeline.devices[DEVICE]

    assert len(device.sensors) == SENSORS_MAX
    assert "suricata\0s000" not in device.sensors
    assert log.seen["s000", bucket_of(0)] == (clock(0), clock(3))
    assert log.counts["gaps_forgotten"] == 1
    assert log.crash().pipeline.devices[DEVICE].sensors.keys() == device.sensors.keys()


def shown(log: Log) -> list[tuple[str, str | None, str | None]]:
    """Return silences: status, start, end."""
    return [(row["Status"], row["FromTime"], row["ToTime"]) for row in log.gaps if row["Kind"] == "silence"]


def test_a_silent_device_shows_while_it_lasts() -> None:
    """After ten minutes of the log's time a silence is open; the next report closes its row."""
    log = Log().send(sent(0)).tick(600)
    assert (shown(log), log.counts.get("silent", 0)) == ([], 0)

    log.tick(602, 603, 700)
    assert (shown(log), log.counts["silent"]) == ([("open", clock(0), None)], 1)

    log.send(sent(1_000))
    assert (shown(log), log.counts.get("silent", 0)) == ([("closed", clock(0), clock(1_000))], 0)
    assert len(log.gap_versions) == 2
    assert log.counts["gaps:silence"] == 1


def test_silence_is_seen_without_ticks_as_well() -> None:
    """Without a worker there were no ticks; the next message shows the silence."""
    assert shown(Log().send(sent(0), sent(1_000))) == [("closed", clock(0), clock(1_000))]


def test_cut_off_is_not_silent() -> None:
    """A device that sends a backlog was not silent: the row disappears."""
    log = Log().send(sent(0)).tick(1_000)
    assert shown(log) == [("open", clock(0), None)]

    log.send(sent(1, logged=1_100), sent(500, logged=1_101), sent(1_099, logged=1_102))
    assert shown(log) == []
    assert log.counts["gaps_filled"] == 1


def test_a_clock_that_was_set_is_no_silence() -> None:
    """A jump of the device's own time without one of the log's is no silence."""
    assert shown(Log().send(sent(0), sent(1_800, logged=2), sent(1_801, logged=3))) == []


def test_a_nightly_silence_becomes_the_baseline() -> None:
    """Eight hours off each night are shown for some days, then no longer; a whole day still is."""
    log = Log()
    for day in range(14):
        start = day * DAY
        log.send(*(sent(start + at) for at in range(0, 16 * 3_600, 300)))
        log.tick(start + 16 * 3_600 + 300, start + 20 * 3_600, start + DAY - 1)
    nights = [status for status, _, _ in shown(log)]
    assert 3 <= len(nights) <= 7
    assert set(nights) == {"closed"}

    log.tick(16 * DAY)
    assert shown(log)[-1] == ("open", clock(13 * DAY + 16 * 3_600 - 300), None)


def test_one_outage_does_not_change_the_baseline() -> None:
    """After a day's outage the next one is shown as well."""
    log = Log().send(sent(0)).tick(DAY).send(sent(DAY), sent(DAY + 1)).tick(DAY + 3_600)

    assert [status for status, _, _ in shown(log)] == ["closed", "open"]


def test_a_baseline_fades() -> None:
    """A month later the old baseline no longer applies."""
    log = Log().send(*(sent(at * 3_600) for at in range(48)))
    baseline = log.pipeline.devices[DEVICE].facts.baseline
    log.send(*(sent(2 * DAY + at * 300) for at in range(30 * 288)))

    assert baseline == 3_600 * MICROS
    assert log.pipeline.devices[DEVICE].facts.baseline < 600 * MICROS


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["send", "tick", "crash"]), st.floats(1, 3_000)), max_size=25))
def test_silence_survives_crashes(steps: list[tuple[str, float]]) -> None:
    """Messages, pauses and crashes in any order give the rows of a run without crashes."""
    quiet, log = Log(), Log()
    at = 0.0
    for what, secs in steps:
        at += secs
        if what == "crash":
            log.crash()
            continue
        for one in (quiet, log):
            one.send(sent(at)) if what == "send" else one.tick(at)

    assert (log.gap_versions, log.coverage_rows) == (quiet.gap_versions, quiet.coverage_rows)
    assert log.state == quiet.state


def test_order_of_sensors_survives_a_crash() -> None:
    """Rows and state entries are the same bytes, in whatever order sensors reported and were restored."""
    quiet, log = Log(), Log()
    for one in (quiet, log):
        for at in range(0, 120, 2):  # until all of it was written again
            one.send(sent(at), sensor="z").send(sent(at + 1), sensor="a")
    log.crash()
    for one in (quiet, log):
        one.tick(140)

    assert log.coverage_rows == quiet.coverage_rows
    assert log.state == quiet.state


def test_a_log_without_time_knows_no_silence() -> None:
    """Recorded files have no log time: only coverage by the lines' own times is written."""
    log = Log()
    for offset, at in enumerate((0, 3_000)):
        log.take(Message(offset, 0, DEVICE.encode(), line(at), "suricata"))
    log.pipeline.finish()
    log.drain()

    assert log.gaps == []
    assert {times for _, times in log.seen.items()} == {(clock(0), clock(0)), (clock(3_000), clock(3_000))}


def test_a_broken_log_time_is_no_poison() -> None:
    """A message time before 1970 or far ahead still gives rows."""
    log = Log().send(Sent(1, 1, 0))
    for offset, logged_ms in ((1, -1), (2, 1 << 60)):
        log.take(Message(offset, logged_ms, DEVICE.encode(), line(offset), "suricata", "s", 10 * offset, 1))

    assert [row["DetectedAt"][:4] for row in log.gaps if row["Kind"] == "loss"] == [
        "1970",
        "2200",
    ]


def test_presence_becomes_metrics() -> None:
    """Each count of presence is a metric."""
    log = Log().send(Sent(1, 2, 0), Sent(5, 2, 4), Sent(1, 2, 30), Sent(30, 1, 40), Sent(7, 1, 36)).tick(1_000)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for made in book_families([log.counts])
        for sample in made.samples
        if "gap" in sample.name or "silent" in sample.name
    }

    assert found == {
        ("unproxy_sensor_gaps_total", "loss"): 3,
        ("unproxy_sensor_gaps_total", "restart"): 1,
        ("unproxy_sensor_gaps_total", "silence"): 1,
        ("unproxy_sensor_gaps_forgotten_total",): 1,
        ("unproxy_sensor_gap_lines",): 28,
        ("unproxy_devices_silent",): 1,
    }


def test_filled_gaps_are_counted() -> None:
    """A filled gap no longer counts among the missing lines."""
    log = Log().send(Sent(1, 2, 0), Sent(5, 2, 4), Sent(3, 2, 2))
    names = {made.name: [sample.value for sample in made.samples] for made in book_families([log.counts])}

    assert names["unproxy_sensor_gaps_filled"] == [1]
    assert "unproxy_sensor_gap_lines" not in names


@pytest.mark.parametrize("silence_secs", [60, 3_600])
def test_the_floor_is_a_setting(silence_secs: float) -> None:
    """`silence_secs` is the shortest silence that is shown."""
    log = Log(silence_secs=silence_secs).send(sent(0)).tick(silence_secs)

    assert log.gaps == []
    assert len(log.tick(silence_secs + 2).gaps) == 1
