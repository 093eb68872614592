"""The writer keeps on until each batch is written, and only then commits it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.base import RowsRefused, SinkBusy, SinkRefused
from sinks.batch import Batch, Limits, Message
from sinks.writer import REFUSED_IN_A_ROW_MAX, Refusal, Writer, write
from tests.sinks.memory_sink import MemorySink


class Picky(MemorySink):
    """Refuses writes that hold a bad row, as ClickHouse does: whole."""

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        if any(b"bad" in piece for piece in rows):
            raise RowsRefused("bad row")
        super().write(table, rows, token, again=again)


class Moody(MemorySink):
    """Raises the given errors first."""

    def __init__(self, *moods: Exception) -> None:
        super().__init__()
        self.moods = list(moods)

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        if self.moods:
            raise self.moods.pop(0)
        super().write(table, rows, token, again=again)


def batch(*values: bytes, partition: int = 0) -> Batch:
    """A batch of messages from offset 0 on."""
    made = Batch("topic", partition, Limits(1_000, 1_000_000, 1.0), 0)
    for offset, value in enumerate(values):
        made.add(Message(offset, 0, value), 0.0)
    return made


class Around:
    """A writer, and what it did."""

    def __init__(self, sink: MemorySink, reroute: Callable[[Batch, Refusal], None] | None = None) -> None:
        self.sink = sink
        self.committed: list[int] = []
        self.rerouted: list[Refusal] = []
        self.changed = threading.Condition()
        self.writer = Writer(
            sink,
            {"topic": "Table"},
            0.3,
            lambda done: self.committed.append(done.next_offset),
            reroute or (lambda _, refusal: self.rerouted.append(refusal)),
            self.changed,
        )

    def until(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10.0
        with self.changed:
            while not fact():
                assert time.monotonic() < deadline, "it did not come to pass"
                self.changed.wait(0.01)


@contextmanager
def running(sink: MemorySink, reroute: Callable[[Batch, Refusal], None] | None = None) -> Iterator[Around]:
    """A writer that ends with the test."""
    around = Around(sink, reroute)
    try:
        yield around
    finally:
        around.writer.stop()
        around.writer.join(5.0)


@given(st.lists(st.sampled_from([b"good", b"good\ngood", b"bad", b""]), min_size=1, max_size=30))
def test_only_the_bad_are_refused(values: list[bytes]) -> None:
    """Halving finds exactly the messages at fault, and all others arrive once."""
    sink = Picky()
    refused = write(sink, "Table", batch(*values))

    assert [refusal.message.offset for refusal in refused] == [n for n, value in enumerate(values) if value == b"bad"]
    assert len(sink.rows.get("Table", [])) == sum(value.count(b"good") for value in values)


def test_written_then_committed() -> None:
    """A batch that arrived is committed and counted."""
    with running(MemorySink()) as around:
        around.writer.hand_over(batch(b"a\nb", b"c"))
        around.until(lambda: around.writer.waiting == 0)

        assert around.committed == [2]
        assert (around.writer.rows_written, around.writer.batches, around.writer.retries) == (3, 1, 0)
        assert around.writer.bytes == 0


@pytest.mark.parametrize("mood", [SinkBusy("away"), SinkRefused("no table; run `unproxy migrate`")])
def test_trouble_is_retried(mood: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Away or refused, the rows are kept and come in the end; the log has it once, not at each try."""
    with running(Moody(mood, mood)) as around:
        around.writer.hand_over(batch(b"a"))
        around.until(lambda: around.writer.waiting == 0)

        assert around.sink.rows == {"Table": [b"a"]}
        assert around.writer.retries == 2
        assert [record.__dict__["error"] for record in caplog.records] == [str(mood)]


def test_stop_in_a_pause() -> None:
    """A stop request while it waits for the sink ends it at once, and it commits nothing."""
    with running(Moody(*[SinkBusy("away")] * 1_000)) as around:
        around.writer.hand_over(batch(b"a"))
        around.until(lambda: around.writer.retries > 0)
        around.writer.stop()
        around.writer.join(1.0)

        assert not around.writer.is_alive()
        assert around.committed == []


def test_abandoned_is_not_committed() -> None:
    """What went to another sink with its partition is left, what did not is written."""
    with running(Moody(SinkBusy("away"))) as around:
        around.writer.hand_over(batch(b"a"))
        around.writer.hand_over(batch(b"b", partition=1))
        around.writer.abandon("topic", 0)
        around.until(lambda: around.writer.waiting == 0)

        assert around.sink.rows == {"Table": [b"b"]}
        assert around.committed == [1]


def test_bad_rows_are_rerouted() -> None:
    """The rest goes on, and the batch counts as done."""
    with running(Picky()) as around:
        around.writer.hand_over(batch(b"a", b"bad", b"c"))
        around.until(lambda: around.writer.waiting == 0)

        assert [refusal.message.value for refusal in around.rerouted] == [b"bad"]
        assert around.committed == [3]
        assert (around.writer.rows_written, around.writer.refused) == (2, 1)


def test_all_bad_is_not_the_rows() -> None:
    """When nothing but refusals comes, rerouting everything would be losing it: wait for a person."""
    with running(Picky()) as around:
        around.writer.hand_over(batch(*[b"bad"] * (REFUSED_IN_A_ROW_MAX + 1)))
        around.until(lambda: around.writer.retries > 0)
        around.writer.stop()
        around.writer.join(5.0)

        assert around.rerouted == []
        assert around.committed == []


def test_reroute_that_fails_is_retried() -> None:
    """A refused message that the rejects topic did not take is not lost: the batch is not committed before."""
    taken: list[Refusal] = []
    troubles = [SinkBusy("kafka is away")]

    def reroute(_: Batch, refusal: Refusal) -> None:
        if troubles:
            raise troubles.pop()
        taken.append(refusal)

    with running(Picky(), reroute) as around:
        around.writer.hand_over(batch(b"bad", b"good"))
        around.until(lambda: around.writer.waiting == 0)

        assert [refusal.message.value for refusal in taken] == [b"bad"]
        assert around.sink.rows == {"Table": [b"good"]}
        assert around.committed == [2]


def test_bug_ends_it() -> None:
    """An unexpected error is kept for the loop to raise."""
    with running(Moody(ZeroDivisionError("bug"))) as around:
        around.writer.hand_over(batch(b"a"))
        around.until(lambda: around.writer.failure is not None)

        assert isinstance(around.writer.failure, ZeroDivisionError)
