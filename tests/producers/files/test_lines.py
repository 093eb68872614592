"""Bytes into lines, whatever the bytes are."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from producers.files.lines import CHUNK_BYTES, KEPT_BYTES_OF_TOO_LONG, Lines
from producers.sources.source import Line, SourceFile
from schemas.parsers import dialects
from schemas.parsers.recognition import AUTO, NOBODYS

LIMIT = 2 * KEPT_BYTES_OF_TOO_LONG


def lines_of(chunks: list[bytes], line_bytes_max: int = LIMIT, dialect: str = "suricata") -> list[Line]:
    subject = Lines(SourceFile(dialect, "p", "s"), dialects()[dialect], line_bytes_max)
    return [line for chunk in chunks for line in subject.feed(chunk)] + list(subject.finish())


@given(st.lists(st.binary(max_size=12).map(lambda part: part.replace(b"x", b"\n")), max_size=20))
def test_law_of_chunks(chunks: list[bytes]) -> None:
    """However the bytes come, the lines and their offsets are those of the whole."""
    whole = b"".join(chunks)
    expected, offset = [], 0
    for value in whole.split(b"\n"):
        if value not in (b"", b"\r"):
            end = min(offset + len(value) + 1, len(whole))
            expected.append((value, offset, end))
        offset += len(value) + 1

    assert [(line.value, line.start, line.end) for line in lines_of(chunks)] == expected


def test_a_message_is_whole_lines(eve: Callable[..., bytes]) -> None:
    """The end of a message ends its last line, with or without a newline; what was taken is behind it."""
    file = SourceFile("suricata", "p", "s")
    subject = Lines(file, dialects()["suricata"], LIMIT)
    messages = [eve(1) + b"\n" + eve(2), b"", b"\n\n", eve(3) + b"\n", b"x" * (3 * CHUNK_BYTES)]

    assert [[line.value for line in subject.message(message)] for message in messages] == [
        [eve(1), eve(2)], [], [], [eve(3)], [messages[-1]],
    ]  # fmt: skip
    assert file.taken == subject.fed_to == sum(len(eve(number)) + 1 for number in (1, 2, 3)) + 2 + 3 * CHUNK_BYTES + 1


def test_a_message_of_newlines_costs_little_memory() -> None:
    """Its parts are cut one after the other: a list of all would be eight times its size."""
    subject, message = Lines(SourceFile("suricata", "p", "s"), dialects()["suricata"], LIMIT), b"\n" * 3_000_000
    tracemalloc.start()
    try:
        lines = list(subject.message(message))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert lines == []
    assert peak < 5_500_000


def test_line_without_time_takes_the_one_before(eve: object) -> None:
    """A line that does not state when it was written counts as written with the line before."""
    assert callable(eve)
    first, second, third = lines_of([eve(1, at=5.0) + b"\n" + eve(2, at=None) + b"\n" + eve(3, at=6.0) + b"\n"])

    assert first.written == second.written < third.written


def test_too_long_line_is_cut_and_described() -> None:
    """Of a line over the limit the first MB is kept, with the length and hash of the whole; others are untouched."""
    long = bytes(range(1, 10)) * 400_000
    chunks = [b"before\n" + long[:1_000_000], long[1_000_000:3_000_000], long[3_000_000:] + b"\nafter\n"]
    before, cut, after = lines_of(chunks)

    assert (before.value, before.too_long) == (b"before", "")
    assert cut.value == long[:KEPT_BYTES_OF_TOO_LONG]
    assert cut.too_long == f"{len(long)} bytes, limit {LIMIT}, sha256 {hashlib.sha256(long).hexdigest()}"
    assert (after.value, after.start, after.too_long) == (b"after", 7 + len(long) + 1, "")


def test_long_line_within_one_chunk_is_cut_too() -> None:
    """The limit holds for lines that come in one piece."""
    (cut,) = lines_of([b"0123456789\n"], line_bytes_max=5)

    assert cut.too_long.startswith("10 bytes, limit 5, sha256 ")


def test_an_envelope_becomes_its_rows() -> None:
    """Each row is a line with its own device and time; the file counts as read up to the envelope until its last row."""
    rows = [
        b'{"properties":{"DeviceName":"%s","Timestamp":"2025-03-04T09:15:2%d.5Z"}}' % (name, second)
        for second, name in enumerate((b"one", b"two", b"one"))
    ]
    whole = b'{"records":[' + b",".join(rows) + b"]}"
    found = lines_of([rows[0] + b"\n" + whole[:50], whole[50:] + b"\r\n" + whole], dialect="mde")
    first, second = len(rows[0]) + 1, len(rows[0]) + 1 + len(whole) + 2

    assert [line.value for line in found] == [rows[0], *rows, *rows]
    assert [dialects()["mde"].device_of(line.value) for line in found[1:4]] == ["one", "two", "one"]
    assert [line.start for line in found] == [0, *3 * [first], *3 * [second]]
    assert [line.end for line in found] == [first, first, first, second, second, second, second + len(whole)]
    assert found[1].written < found[2].written < found[3].written


def test_auto_recognises_the_dialect_of_each_line() -> None:
    """A file of several sensors: each line is its dialect's, an envelope's rows too; what no dialect claims is kept as `auto`."""
    envelope = next(line for line in golden("mde") if b'"records"' in line)
    rows = dialects()["mde"].split(envelope)  # type: ignore[misc]  # it has envelopes
    mixed = [
        golden("suricata")[0],
        golden("winlog")[0],
        b"unclaimed",
        envelope,
        golden("suricata")[1],
        golden("sockets")[0],
    ]
    subject = Lines(SourceFile(AUTO, "p", "s"), NOBODYS, LIMIT)
    found = list(subject.feed(b"\n".join(mixed) + b"\n"))

    expected = ["suricata", "winlog", AUTO, *["mde"] * len(rows), "suricata", "sockets"]
    assert [line.dialect for line in found] == expected
    assert found[2].value == b"unclaimed"
    assert found[2].written == found[1].written
    assert [line.value for line in found[3:-2]] == rows


def golden(name: str) -> list[bytes]:
    return (Path(__file__).parents[2] / "data/golden" / f"{name}.in.jsonl").read_bytes().splitlines()


def test_a_cut_envelope_stays_whole() -> None:
    """What is longer than the limit is no line of its rows."""
    (cut,) = lines_of([b'{"records":[{},{}]}\n'], line_bytes_max=10, dialect="mde")

    assert cut.too_long.startswith("19 bytes, limit 10, sha256 ")
