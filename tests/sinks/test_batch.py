"""Batch laws: nothing lost, nothing doubled, bounds kept, the same messages make the same batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinks.batch import Batch, Message, token

values = st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=6).map(b"\n".join)
streams = st.lists(values, max_size=60).map(lambda all_values: [Message(n, n * 7, v) for n, v in enumerate(all_values)])


def batches(messages: list[Message], rows_max: int = 10, bytes_max: int = 100) -> list[Batch]:
    """Cut a stream as the loop does, without age."""
    made = [Batch("t", 0, rows_max, bytes_max, 60.0)]
    for message in messages:
        if not made[-1].fits(message) or made[-1].due(0.0):
            made.append(Batch("t", 0, rows_max, bytes_max, 60.0))
        made[-1].add(message, 0.0)
    return [batch for batch in made if batch.messages]


@given(streams)
def test_nothing_is_lost_or_doubled(messages: list[Message]) -> None:
    """Every message is in exactly one batch, in order."""
    assert [message for batch in batches(messages) for message in batch.messages] == messages


@given(streams)
def test_bounds_are_kept(messages: list[Message]) -> None:
    """A batch of more than one message stays within both bounds."""
    for batch in batches(messages):
        assert len(batch.messages) == 1 or (batch.rows <= 10 and batch.bytes <= 100)
        assert batch.rows == sum(message.rows for message in batch.messages)
        assert batch.next_offset == batch.messages[-1].offset + 1


@given(streams, st.data())
def test_same_cut_after_crash(messages: list[Message], data: st.DataObject) -> None:
    """Reading again from where a batch began cuts the same batches with the same tokens."""
    before = batches(messages)
    kept = data.draw(st.integers(0, len(before)))
    start = before[kept - 1].next_offset if kept else 0

    again = batches(messages[start:])
    assert [token("t", 0, b.messages) for b in again] == [token("t", 0, b.messages) for b in before[kept:]]


def test_age_makes_it_due() -> None:
    """The first message starts the clock; an empty batch is never due."""
    batch = Batch("t", 0, 10, 100, 0.5)

    assert not batch.due(100.0)
    batch.add(Message(0, 0, b"x"), now=1.0)
    batch.add(Message(1, 0, b"x"), now=1.4)
    assert not batch.due(1.49)
    assert batch.due(1.5)


def test_rows_are_counted_unread() -> None:
    """Lines are rows; a message without bytes has none."""
    assert [Message(0, 0, value).rows for value in (b"", b"a", b"a\nb\nc")] == [0, 1, 3]


def test_token_tells_topics_apart() -> None:
    """Another place, or a topic made anew with the same offsets, is another insert."""
    messages = [Message(0, 1_000, b"a"), Message(1, 1_001, b"b")]
    anew = [Message(0, 5_000, b"a"), Message(1, 5_001, b"b")]

    names = {token("t", 0, messages), token("t", 1, messages), token("u", 0, messages), token("t", 0, anew)}
    assert len(names) == 4
    assert token("t", 0, messages) == token("t", 0, list(messages))
    assert token("t", 0, messages[:1]) != token("t", 0, messages)
