"""Where syslog messages end in a TCP stream, however it is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.syslog_frames import Frames

MESSAGE = st.binary(max_size=40).map(lambda text: b"<134>" + text)


def framed(*chunks: bytes) -> bytes:
    frames = Frames()
    return b"".join(map(frames.feed, chunks)) + frames.rest()


@given(st.lists(st.tuples(MESSAGE, st.booleans())), st.integers(1, 30))
def test_both_framings_however_cut(messages: list[tuple[bytes, bool]], size: int) -> None:
    """Counted or ended by a newline, message by message: the same lines for every cut."""
    sent, expected = b"", b""
    for message, counted in messages:
        line = message.replace(b"\n", b" ")
        sent += b"%d %s" % (len(message), message) if counted else line + b"\n"
        expected += line + b"\n"
    frames = Frames()
    got = b"".join(frames.feed(sent[place : place + size]) for place in range(0, len(sent), size))

    assert got == expected
    assert not frames.unfinished


def test_lines_that_begin_with_a_number() -> None:
    """A time, or a number and a space, is no count: only what is followed by a message is."""
    lines = b"1580000000.123 TCP_MISS\n2020 was long\n2020-11-03T12:41:27Z gw squid: x\n\n7\n"

    assert framed(lines) == framed(*(bytes([byte]) for byte in lines)) == lines


def test_the_middle_is_told() -> None:
    """A count, a counted message or a line that is not over."""
    for begun in (b"12", b"12 ", b"12 <1", b"<134>x"):
        frames = Frames()
        frames.feed(begun)

        assert frames.unfinished


def test_what_is_held_is_small() -> None:
    """Digits without end are a line."""
    frames = Frames()

    assert frames.feed(b"1" * 10_000) == b"1" * 10_000
