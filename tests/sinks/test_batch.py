"""Batch laws: nothing lost, nothing doubled, bounds kept, the same messages make the same batches, planned ones above all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sinks.batch import Batch, Cutter, Limits, Message, token
from sinks.plan import ENDS_MAX, MARK, Plan

LIMITS = Limits(10, 100, 60.0)

values = st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=6).map(b"\n".join)
streams = st.lists(values, max_size=60).map(lambda all_values: [Message(n, n * 7, v) for n, v in enumerate(all_values)])


def batches(messages: Sequence[Message], plan: Plan | None = None, limits: Limits = LIMITS) -> list[Batch]:
    """Cut a stream as the loop does; at its end all is old."""
    cutter = Cutter("t", 0, limits, plan)
    made: list[Batch | None] = []
    for message in messages:
        made += [cutter.take(message, 0.0), cutter.due(0.0)]
    return [batch for batch in [*made, cutter.due(1_000.0)] if batch]


def name(batch: Batch) -> str:
    """The token of the whole."""
    return token("t", 0, batch.start, batch.next_offset, batch.messages[-1])


@given(streams)
def test_nothing_is_lost_or_doubled(messages: list[Message]) -> None:
    """Every message is in exactly one batch, in order; batches follow each other without a gap."""
    made = batches(messages)

    assert [message for batch in made for message in batch.messages] == messages
    assert all(one.next_offset == other.start for one, other in pairwise(made))


@given(streams)
def test_bounds_are_kept(messages: list[Message]) -> None:
    """A batch of more than one message stays within both bounds."""
    for batch in batches(messages):
        assert len(batch.messages) == 1 or (batch.rows <= 10 and batch.bytes <= 100)
        assert batch.rows == sum(message.rows for message in batch.messages)
        assert batch.next_offset == batch.messages[-1].offset + 1


@given(streams, st.data())
def test_same_cut_after_crash(messages: list[Message], data: st.DataObject) -> None:
    """Reading again from the plan makes the planned batches with the same tokens, whatever the limits are now."""
    before = batches(messages)
    written = data.draw(st.integers(0, len(before)))
    planned = data.draw(st.integers(written, len(before)))
    start = before[written - 1].next_offset if written else 0
    plan = Plan(start, tuple(batch.next_offset for batch in before[written:planned]))
    other = Limits(data.draw(st.integers(1, 20)), data.draw(st.integers(1, 300)), 60.0)

    again = batches(messages[start:], Plan.read(plan.written, plan.metadata), other)
    assert [name(batch) for batch in again][: planned - written] == [name(batch) for batch in before[written:planned]]
    assert [message for batch in again for message in batch.messages] == messages[start:]


@given(streams.filter(bool), st.data())
def test_retention_changes_no_token(messages: list[Message], data: st.DataObject) -> None:
    """What is left of a planned batch carries the name of the whole: nothing of it is written a second time."""
    before = batches(messages)
    plan = Plan(0, tuple(batch.next_offset for batch in before))
    left = messages[data.draw(st.integers(0, len(messages) - 1)) :]

    again = batches(left, plan)
    assert [name(batch) for batch in again] == [name(batch) for batch in before[len(before) - len(again) :]]
    assert [message for batch in again for message in batch.messages] == left


def test_a_planned_batch_waits_for_its_rest() -> None:
    """It is neither full nor old before its last message came; what follows is cut by the limits again."""
    cutter = Cutter("t", 0, Limits(1, 1, 0.5), Plan(5, (8,)))
    for offset in (5, 6):
        assert cutter.take(Message(offset, 0, b"x"), 0.0) is None
        assert cutter.due(1_000.0) is None
    assert cutter.planned_since() == 0.0

    assert cutter.take(Message(7, 0, b"x"), 0.0) is None
    batch = cutter.due(0.0)
    assert batch
    assert (batch.start, batch.next_offset, len(batch.messages)) == (5, 8, 3)
    assert cutter.planned_since() is None
    cutter.take(Message(8, 0, b"x"), 0.0)
    assert cutter.due(0.0)


def test_a_plan_that_cannot_be_followed() -> None:
    """Where the rest is gone for good, what came goes on by the limits."""
    cutter = Cutter("t", 0, LIMITS, Plan(5, (8, 12)))
    cutter.take(Message(5, 0, b"x"), 0.0)
    cutter.forget_plan()
    batch = cutter.due(60.0)

    assert batch
    assert batch.next_offset == 6


def test_the_last_message_of_a_planned_batch_is_missing() -> None:
    """The next one ends it, and it stands for all that was planned."""
    cutter = Cutter("t", 0, LIMITS, Plan(5, (8, 12)))
    cutter.take(Message(5, 0, b"x"), 0.0)
    batch = cutter.take(Message(9, 0, b"x"), 0.0)

    assert batch
    assert batch.next_offset == 8
    assert cutter.open
    assert (cutter.open.start, cutter.open.end) == (8, 12)


def test_age_makes_it_due() -> None:
    """The first message starts the clock; an empty batch is never due."""
    batch = Batch("t", 0, Limits(10, 100, 0.5), 0)

    assert not batch.due(100.0)
    batch.add(Message(0, 0, b"x"), now=1.0)
    batch.add(Message(1, 0, b"x"), now=1.4)
    assert not batch.due(1.49)
    assert batch.due(1.5)


def test_rows_are_counted_unread() -> None:
    """Lines are rows; a message without bytes has none."""
    assert [Message(0, 0, value).rows for value in (b"", b"a", b"a\nb\nc")] == [0, 1, 3]


def test_token_distinguishes_topics() -> None:
    """Another place, or a recreated topic with the same offsets, is another insert."""
    last, recreated = Message(1, 1_001, b"b"), Message(1, 5_001, b"b")

    names = {
        token("t", 0, 0, 2, last),
        token("t", 1, 0, 2, last),
        token("u", 0, 0, 2, last),
        token("t", 0, 1, 2, last),
        token("t", 0, 0, 3, last),
        token("t", 0, 0, 2, recreated),
    }
    assert len(names) == 6
    assert token("t", 0, 0, 2, last) == token("t", 0, 0, 2, Message(1, 1_001, b"c"))


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(1, 10**16), max_size=ENDS_MAX))
def test_a_plan_comes_back(written: int, steps: list[int]) -> None:
    """What is committed is read back, and is no longer than a broker takes."""
    ends: list[int] = []
    for step in steps:
        ends.append((ends[-1] if ends else written) + step)
    plan = Plan(written, tuple(end for end in ends if end < 2**63))

    assert Plan.read(plan.written, plan.metadata) == plan
    assert len(plan.metadata.encode()) <= 4_096


@given(st.text() | st.none())
def test_foreign_metadata_is_no_plan(committed: str | None) -> None:
    """What others committed, or another version, is not followed and not stumbled over."""
    assert Plan.read(7, committed) == Plan(7)
    assert Plan.read(-1_001, committed) is None


def test_damaged_metadata_is_no_plan() -> None:
    """Ends that are none, or go back, are not followed."""
    for words in ("", " 7", " 9 8", " 9 9", " 9 x", " 9  10", " -9", " 9.5", " " + "9" * 30):
        assert Plan.read(7, MARK + words) == Plan(7)
    assert Plan.read(7, f"{MARK} 9 10") == Plan(7, (9, 10))
