"""When `up` may report that everything is in the table."""

from __future__ import annotations

from unproxy.local.meter import Reading
from unproxy.local.readiness import Readiness

LINES, ROWS = ("telemetry", 0), ("network-events", 0)


def readiness() -> Readiness:
    """For one worker that may take ten seconds to decide."""
    return Readiness("telemetry", ["network-events"], workers=1, decide_secs_max=10)


def reading(
    at: float, *, lines: int = 5, read: int = 0, rows: int = 2, written: int = 2, waiting: int = 0, books: int = 1
) -> Reading:
    """How far everything is at a time."""
    return Reading(
        at=at,
        end={LINES: lines, ROWS: rows},
        committed={LINES: read, ROWS: written},
        book={"waiting": waiting},
        books_answering=books,
    )


def test_waits_for_a_tick_behind_the_last_line() -> None:
    """All lines worked on is not enough: a message that came after them must be, too."""
    ready = readiness()

    assert ready.look(reading(1, read=5)) == "working"
    assert ready.look(reading(2, lines=6, read=6)) == "writing"
    assert ready.look(reading(5, lines=9, read=9)) == ""


def test_waits_for_undecided_connections_but_not_for_ever() -> None:
    """A connection may wait for its patience; what waits longer is shown as waiting."""
    ready = readiness()
    ready.look(reading(1))

    assert ready.look(reading(2, read=6, waiting=3)) == "deciding"
    assert ready.look(reading(11, read=6, waiting=3)) == "deciding"
    assert ready.look(reading(13, read=6, waiting=3)) == "writing"
    assert ready.look(reading(16, read=6, waiting=3)) == ""


def test_waits_for_the_sink_and_for_quiet() -> None:
    """Rows that are not written yet, or that still come, hold it up."""
    ready = readiness()
    ready.look(reading(1))

    assert ready.look(reading(2, read=6, written=1)) == "writing"
    assert ready.look(reading(3, read=6, rows=3, written=3)) == "writing"
    assert ready.look(reading(6, read=6, rows=4, written=4)) == "writing"
    assert ready.look(reading(8, read=6, rows=4, written=4)) == "writing"
    assert ready.look(reading(9, read=6, rows=4, written=4)) == ""


def test_waits_until_a_rebalance_is_over() -> None:
    """While partitions change hands the book is short: that is not the end."""
    ready = readiness()
    ready.look(reading(1))
    short = reading(4, read=6)
    short.book["read"] = 3
    whole = reading(5, read=6)
    whole.book["read"] = 5

    assert ready.look(reading(2, read=6)) == "writing"
    assert ready.look(short) == "writing"
    assert ready.look(whole) == "writing"
    whole.at = 8
    assert ready.look(whole) == ""


def test_begins_again_when_something_was_started_again() -> None:
    """Readings from before a restart count for nothing, and a worker that does not answer has no book."""
    ready = readiness()
    ready.look(reading(1))
    ready.again(5)

    assert ready.look(reading(5, read=5)) == "asking"
    assert ready.look(reading(6, read=5)) == "working"
    assert ready.look(reading(7, lines=7, read=7, books=0)) == "working"
    assert ready.look(reading(8, lines=7, read=7)) == "writing"
    assert ready.look(reading(11, lines=7, read=7)) == ""
