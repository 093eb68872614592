"""Pages of the kernel's trace buffer, real and made, become changes of sockets."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sensor.kernel.trace_ring import (
    CLOSE,
    ESTABLISHED,
    SYN_SENT,
    Change,
    FormatError,
    Layout,
    Leaving,
    Program,
    Task,
    spelled,
)
from tests.producers.sensor.makers import FORMATS, HEADER_PAGE, LAYOUT, PAGE, change, event, page, record

FIRST = change(1_000, CLOSE, SYN_SENT, port=0)
SECOND = change(2_000, SYN_SENT, ESTABLISHED)


def test_a_real_page_is_read() -> None:
    """Attempts without a port, answers, refusals and ends, of IPv4, IPv6 and IPv4 through IPv6, in order."""
    changes = [one for one in LAYOUT.records(PAGE) if isinstance(one, Change)]
    ours = [one for one in changes if one.remote_port in {3128, 3129, 3130, 8888} and one.old in {CLOSE, SYN_SENT}]

    assert [(one.old, one.new, spelled(one.remote), one.remote_port) for one in ours] == [
        (CLOSE, SYN_SENT, "198.51.100.80", 3128),
        (SYN_SENT, ESTABLISHED, "198.51.100.80", 3128),
        (CLOSE, SYN_SENT, "198.51.100.80", 8888),
        (SYN_SENT, CLOSE, "198.51.100.80", 8888),
        (CLOSE, SYN_SENT, "2001:db8:51::80", 3129),
        (SYN_SENT, ESTABLISHED, "2001:db8:51::80", 3129),
        (CLOSE, SYN_SENT, "2001:db8:51::80", 8888),
        (SYN_SENT, CLOSE, "2001:db8:51::80", 8888),
        (CLOSE, SYN_SENT, "198.51.100.80", 3130),
        (SYN_SENT, ESTABLISHED, "198.51.100.80", 3130),
    ]
    assert changes == sorted(changes)
    assert len({one.pid for one in ours}) == 1
    assert all(bool(one.local_port) == (one.old == SYN_SENT) for one in ours if one.remote_port != 3129)
    assert 0.3 <= (changes[-1].at_ns - ours[0].at_ns) / 1e9 < 5


def test_times_add_up() -> None:
    """Each record is so long after the one before; a long pause and a whole time are records of their own."""
    pause = struct.pack("<II", 5 << 5 | 30, 3)
    whole = struct.pack("<II", 7 << 5 | 31, 9)
    read = list(
        LAYOUT.records(
            page(1_000, event(0, record(FIRST)), pause, event(2, record(SECOND)), whole, event(1, record(FIRST)))
        )
    )

    assert [one.at_ns for one in read] == [1_000, 1_000 + (3 << 27) + 5 + 2, (9 << 27) + 7 + 1]
    assert read[1] == SECOND._replace(at_ns=read[1].at_ns)


def test_what_is_no_record_is_passed_over() -> None:
    """Discarded records, other events and families are skipped; long records show their length behind; padding ends the page."""
    discarded = struct.pack("<II", 10 << 5 | 29, 12) + bytes(8)
    long = struct.pack("<II", 0, 4 + len(record(FIRST))) + record(FIRST)
    other = bytes(2) + record(FIRST)[2:]
    vsock = record(FIRST._replace(family=40))
    end = struct.pack("<I", 29)
    read = list(
        LAYOUT.records(page(0, discarded, long, event(0, other), event(0, vsock), end, event(0, record(SECOND))))
    )

    assert read == [FIRST._replace(at_ns=10)]


def test_a_page_has_its_length() -> None:
    """What lies beyond the committed bytes is old; flags above the length state that records were lost."""
    whole = page(0, event(0, record(FIRST)))
    flagged = struct.pack("<QQ", 0, 1 << 31 | struct.unpack_from("<Q", whole, 8)[0]) + whole[16:]

    assert list(LAYOUT.records(struct.pack("<QQ", 0, 0) + whole[16:])) == []
    assert len(list(LAYOUT.records(flagged))) == 1


def test_tasks_and_programs_are_reported() -> None:
    """A thread of the process that made it, a process of its own, and another program in one."""
    names = ("task_newtask", "sched_process_exec", "sched_prepare_exec")
    numbers = [int(FORMATS[name].partition("ID: ")[2].split()[0]) for name in names]
    thread = struct.pack("<HBBii16s4xQh6x", numbers[0], 0, 0, 7, 8, b"python3", 0x3D0F00, 0)
    process = struct.pack("<HBBii16s4xQh6x", numbers[0], 0, 0, 7, 9, b"python3", 0x1200000, 0)
    # The text of the path stands behind the record's fixed part; its length and place are one number.
    program = struct.pack("<HBBiIii8s", numbers[1], 0, 0, 9, 8 << 16 | 20, 9, 9, b"/bin/sh")
    leaving = struct.pack("<HBBiIIiI8s", numbers[2], 0, 0, 9, 0, 0, 9, 8 << 16 | 24, b"python3")
    records = [event(1, one) for one in (thread, process, program, leaving)]
    read = list(LAYOUT.records(page(0, *records)))

    assert read == [
        Task(1, 7, 8, True, b"python3"),
        Task(2, 7, 9, False, b"python3"),
        Program(3, 9, b"/bin/sh"),
        Leaving(4, 9, b"python3"),
    ]
    without = Layout.of(FORMATS["inet_sock_set_state"], HEADER_PAGE)
    assert list(without.records(page(0, event(1, thread), event(1, program), event(1, record(FIRST))))) == [
        FIRST._replace(at_ns=3)
    ]


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_any_page_ends(tail: bytes, commit: int, cut: int) -> None:
    """Whatever a page holds, reading it ends and raises nothing."""
    list(LAYOUT.records(struct.pack("<QQ", 0, commit) + tail))
    list(LAYOUT.records(PAGE[:cut] + tail))


def test_another_kernels_layout_is_followed() -> None:
    """Fields may lie elsewhere: before Linux 5.6 `protocol` was one byte and addresses began one earlier."""
    text = FORMATS["inet_sock_set_state"]
    for before, after in (
        ("offset:32", "offset:31"),
        ("offset:36", "offset:35"),
        ("offset:40", "offset:39"),
        ("offset:56", "offset:55"),
    ):
        text = text.replace(before, after)
    layout = Layout.of(text, HEADER_PAGE)
    older = record(FIRST)[:30] + b"\6" + record(FIRST)[32:] + b"\0"

    assert list(layout.records(page(1_000, event(0, older)))) == [FIRST]


def test_an_unknown_layout_is_refused() -> None:
    """A record without the socket's address ties nothing together; one of a program needs its path."""
    text = FORMATS["inet_sock_set_state"].replace("skaddr", "cookie")
    with pytest.raises(FormatError, match="skaddr"):
        Layout.of(text, HEADER_PAGE)
    program = FORMATS["sched_process_exec"].replace("filename", "path")
    with pytest.raises(FormatError, match="filename"):
        Layout.of(FORMATS["inet_sock_set_state"], HEADER_PAGE, program=program)
