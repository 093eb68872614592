"""Numbered lines: missing numbers are one gap of the right size until they arrive; repeats and restarts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.model.sequence_gaps import GAPS_MAX
from streams.pipeline import Message
from tests.streams.rows.presence_story import Log, Sent, clock, in_a_row, plain, replayed

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=14)


@st.composite
def holes(draw: st.DrawFn) -> tuple[list[Sent], list[Sent]]:
    """Draw messages that came and messages that were lost; the first and the last one came."""
    every = in_a_row(draw(sizes))
    lost = [one for one in every[1:-1] if draw(st.booleans())]
    return [one for one in every if one not in lost], lost


def lines_missing(lost: list[Sent]) -> list[tuple[int, int]]:
    """Runs of lost numbers."""
    runs: list[tuple[int, int]] = []
    for one in lost:
        if runs and runs[-1][1] == one.seq:
            runs[-1] = (runs[-1][0], one.seq + one.lines)
        else:
            runs.append((one.seq, one.seq + one.lines))
    return runs


@settings(max_examples=150)
@given(holes())
def test_what_is_lost_is_one_gap_of_the_right_size(given: tuple[list[Sent], list[Sent]]) -> None:
    """Each run of lost messages makes one gap with its numbers, count and surrounding times."""
    came, lost = given
    log = Log().send(*came)

    assert log.missing == lines_missing(lost)
    assert log.counts.get("gap_lines", 0) == sum(one.lines for one in lost)
    for row in log.gaps:
        assert row["LinesMissing"] == row["ToSeq"] - row["FromSeq"]
        assert (row["FromTime"], row["ToTime"]) == (clock(row["FromSeq"] - 2), clock(row["ToSeq"] - 1))


@settings(max_examples=150)
@given(holes(), st.data())
def test_what_comes_late_is_not_missing(given: tuple[list[Sent], list[Sent]], data: st.DataObject) -> None:
    """Lost messages that arrive late, in any order, some twice, close their gap; the others stay."""
    came, lost = given
    late = data.draw(st.lists(st.sampled_from(lost), max_size=12)) if lost else []
    log = Log().send(*came, *late)

    still = [one for one in lost if one not in late]
    assert log.missing == lines_missing(still)
    assert log.counts.get("gap_lines", 0) == sum(one.lines for one in still)
    assert log.counts.get("gaps:loss", 0) - log.counts.get("gaps_filled", 0) == len(log.missing)


@settings(max_examples=150)
@given(sizes, st.data())
def test_order_does_not_matter(given: list[int], data: st.DataObject) -> None:
    """After the first message any order gives the same gaps, versions included."""
    first, *rest = in_a_row(given)
    rest = [one for one in rest if data.draw(st.booleans())]
    expected = Log().send(first, *rest)
    log = Log(lateness_secs=3_600, patience_secs=3_601).send(first, *data.draw(st.permutations(rest)))

    assert plain(log.gaps) == plain(expected.gaps)
    assert log.seen == expected.seen


@settings(max_examples=100)
@given(holes(), st.data())
def test_repeated_messages_change_nothing(given: tuple[list[Sent], list[Sent]], data: st.DataObject) -> None:
    """Messages that a killed producer sends again change no row, count or coverage."""
    came, _ = given
    log = Log().send(*came)
    gaps, seen, versions = log.gaps, log.seen, len(log.gap_versions)
    counts = {name: count for name, count in log.counts.items() if "gap" in name}
    log.send(*data.draw(st.lists(st.sampled_from(came), max_size=8)))

    assert (log.gaps, log.seen, len(log.gap_versions)) == (gaps, seen, versions)
    assert {name: count for name, count in log.counts.items() if "gap" in name} == counts


@settings(max_examples=60)
@given(holes(), st.data())
def test_a_crash_anywhere_leaves_the_same_rows(given: tuple[list[Sent], list[Sent]], data: st.DataObject) -> None:
    """Restored after any message, with some of them read again, it gives the rows of an undisturbed run."""
    came, lost = given
    quiet = Log().send(*came, *lost).tick(100, 1_000, 1_100)
    log = Log()
    for one in quiet.messages:
        log.take(one)
        if data.draw(st.booleans()):
            log.crash()
            for again in log.messages[-data.draw(st.integers(1, 3)) :]:
                log.pipeline.take(again)
            log.drain()

    assert log.gap_versions == quiet.gap_versions
    assert log.coverage_rows == quiet.coverage_rows
    assert log.state == quiet.state


def test_replay_gives_the_same_rows() -> None:
    """Reading the log again gives every version again, byte for byte."""
    log = Log().send(*in_a_row([5, 5]), Sent(15, 5, 14), Sent(40, 2, 39), Sent(11, 4, 10)).tick(700, 800)
    again = replayed(log.messages)

    assert again.gap_versions == log.gap_versions != []
    assert again.coverage_rows == log.coverage_rows


def test_a_lost_position_is_a_restart() -> None:
    """Numbering that restarts with new lines is shown as a restart: nothing is lost, and counting continues."""
    log = Log().send(Sent(1_000_000, 5, 0), Sent(1, 5, 60), Sent(6, 5, 65), Sent(13, 2, 72))

    assert log.kinds == ["loss", "restart"]
    assert log.missing == [(11, 13)]
    restart = log.gaps[1]
    assert (restart["FromTime"], restart["ToTime"], restart["LinesMissing"]) == (clock(4), clock(60), None)
    assert (restart["Status"], restart["FromSeq"], restart["ToSeq"]) == ("closed", 1_000_005, 1)
    assert log.counts["gaps:restart"] == 1


def test_a_restart_in_a_steady_stream_is_noticed() -> None:
    """Lines one second apart soon prove a restart."""
    log = Log().send(*in_a_row([5] * 10), *in_a_row([1] * 10, at=50))

    assert log.kinds == ["restart"]


def test_a_file_read_from_its_beginning_again_is_no_restart() -> None:
    """The same numbers for the same lines, then new ones, are no restart."""
    lines = in_a_row([5] * 10)
    log = Log().send(*lines[:6], *lines)

    assert log.gaps == []


def test_a_gap_before_a_restart_stays() -> None:
    """After a restart its numbers belong to other lines."""
    log = Log().send(Sent(1, 5, 0), Sent(11, 5, 10), Sent(1, 5, 60), Sent(6, 5, 65))

    assert (log.kinds, log.missing) == (["loss", "restart"], [(6, 11)])
    assert log.counts["gaps_forgotten"] == 1
    assert log.counts["gap_lines"] == 5


def test_what_came_before_the_first_message_is_unknown() -> None:
    """A worker that starts in the middle counts nothing as lost, also when older numbers come later."""
    assert Log().send(Sent(500, 5, 500), Sent(495, 5, 495), Sent(505, 5, 505)).gaps == []


def test_sensors_are_counted_by_themselves() -> None:
    """Each dialect and sensor of a device has its own numbers."""
    log = (
        Log().send(Sent(1, 5, 0)).send(Sent(1, 3, 5), sensor="t").send(Sent(6, 5, 10)).send(Sent(9, 1, 15), sensor="t")
    )

    assert [(row["Sensor"], row["FromSeq"], row["LinesMissing"]) for row in log.gaps] == [("t", 4, 5)]


def test_too_many_gaps_are_shown_but_not_remembered() -> None:
    """At the bound the oldest gap is forgotten and counted; its row stays open."""
    every = in_a_row([1] * (2 * GAPS_MAX + 5))
    log = Log().send(*every[::2], *every[1::2])

    assert log.missing == [(2, 3), (4, 5)]
    assert log.counts["gaps_forgotten"] == 2
    assert log.counts["gap_lines"] == 2


def test_lines_that_cannot_be_read_are_numbered_all_the_same() -> None:
    """An unreadable message fills its numbers; times around a gap are unknown where no line has one."""
    log = Log().send(Sent(1, 2, 0))
    log.take(Message(1, 1, b"dev-1", b"garbage\ngarbage", "suricata", "s", 3, 2))
    log.take(Message(2, 1, b"dev-1", b"garbage", "suricata", "s", 8, 1))

    (gap,) = log.gaps
    assert (gap["FromSeq"], gap["ToSeq"], gap["FromTime"], gap["ToTime"]) == (5, 8, clock(1), None)


def test_a_collector_is_counted_by_its_own_key() -> None:
    """Lines of other devices are numbered for the message's key; a replay changes nothing."""
    log = Log()
    for offset, seq in enumerate((1, 3)):
        log.take(Message(offset, 1, b"collector", b'{"host":"other"}', "suricata", "s", seq))
    log.pipeline.take(log.messages[-1])
    log.drain()

    assert [(row["DeviceId"], row["FromSeq"]) for row in log.gaps] == [("collector", 2)]
    assert len(log.gap_versions) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"seq": b"42", "lines": b"3", "sensor": b"h:\xff"}, ("h:\ufffd", 42, 3)),
        ({"seq": "42"}, ("", 42, 1)),
        ({"seq": b"-1", "lines": b"0"}, ("", 0, 1)),
        ({"seq": b"9" * 15, "lines": "x"}, ("", 0, 1)),
        ({"seq": "²", "lines": None, "sensor": None}, ("", 0, 1)),
        ({"sensor": b"s" * 999}, ("s" * 255, 0, 1)),
        ({}, ("", 0, 1)),
    ],
)
def test_headers_of_any_kind_are_read(headers: dict[str, object], expected: tuple[str, int, int]) -> None:
    """Invalid numbers in headers count as absent."""
    read = Message.read(1, 1, None, None, headers)

    assert (read.sensor, read.seq, read.lines) == expected
    assert (read.key, read.value, read.dialect) == (b"", b"", "")
