"""Lines that are asked about several times."""

from __future__ import annotations

from schemas.parsers.common.memoize import LINE_BYTES_MAX, LINES_MAX, read_once


def test_a_line_is_read_once() -> None:
    """What was read of a line is there when it is asked about again, after some of other files."""
    times: list[bytes] = []
    read = read_once(times.append)
    lines = [b"%d" % number for number in range(LINES_MAX)]
    for line in (*lines, *lines):
        read(line)

    assert times == lines


def test_long_lines_and_many_are_not_remembered() -> None:
    """Whatever is sent, what is remembered stays small."""
    times: list[bytes] = []
    read = read_once(times.append)
    long = b"x" * (LINE_BYTES_MAX + 1)
    lines = [b"%d" % number for number in range(LINES_MAX + 1)]
    for line in (long, long, *lines, lines[0]):
        read(line)

    assert times == [long, long, *lines, lines[0]]
