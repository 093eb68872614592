"""Messages of netlink: built as others build them, and safe to take apart whatever they hold."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sensor.enforce.inline import Queue
from producers.sensor.kernel import sock_diag as diag
from producers.sensor.kernel.netlink import attribute, attributes, error_of, message, messages, opened, received
from producers.sensor.kernel.nft_rules import _queue
from producers.sensor.kernel.sock_diag import Ended, Ends

NETLINK_USERSOCK = 2
FAMILY_V4 = struct.pack("=BBBB", socket.AF_INET, 7, 0, 0)
ENDS = (
    struct.pack("!HH", 40_000, 3128)
    + bytes([198, 51, 100, 11]).ljust(16, b"\0")
    + bytes([198, 51, 100, 80]).ljust(16, b"\0")
)


def ended(info: bytes, *, unread: int = 0, head: bytes = FAMILY_V4, ends: bytes = ENDS) -> bytes:
    """An end as the kernel shows it."""
    return message(20, head + ends + bytes(12) + struct.pack("=IIIII", 0, unread, 0, 0, 0) + attribute(2, info))


def tcp_info(sent: int, again: int, received: int) -> bytes:
    return bytes(128) + struct.pack("=Q", received) + bytes(64) + struct.pack("=QQ", sent, again)


def unopened_ends() -> Ends:
    ends = Ends.__new__(Ends)
    ends.lost = ends.without_bytes = 0
    return ends


def unopened_queue() -> Queue:
    queue = Queue.__new__(Queue)
    queue.passed_unseen = queue._last = 0
    return queue


def held(number: int, payload: bytes = b"E") -> bytes:
    return message(3 << 8, bytes(4) + attribute(1, struct.pack("!IHB", number, 0x0800, 3)) + attribute(10, payload))


def test_messages_are_taken_apart_as_they_were_built() -> None:
    """Several in a datagram, with attributes of odd lengths."""
    first = message(20, attribute(1, b"abc") + attribute(0x8002, b""), number=7)
    found = list(messages(first + message(2, struct.pack("=i", -2), number=8)))

    assert [(one.kind, one.number) for one in found] == [(20, 7), (2, 8)]
    assert attributes(found[0].body) == {1: b"abc", 2: b""}
    assert error_of(found[1].body) == 2


def test_the_rule_is_the_one_that_nft_makes() -> None:
    """`queue num 7 bypass` as nft 1.0.6 sends it (--debug=mnl); this kernel may not have the expression to try it with."""
    assert _queue(7).hex(" ", -4) == (
        "2c000180 0a000100 71756575 65000000 1c000280 06000100 00070000 06000200 00010000 06000300 00010000"
    )


def test_bytes_sent_again_count_once() -> None:
    """Payload that went out, less what went again."""
    assert list(unopened_ends().ends(ended(tcp_info(1_500, 500, 77), unread=1))) == [
        Ended(("198.51.100.11", 40_000, "198.51.100.80", 3128), 1_000, 77, 1)
    ]


def test_a_kernel_without_the_counts_is_reported() -> None:
    """Before Linux 4.19 `struct tcp_info` is shorter: nothing is reported rather than something else."""
    ends = unopened_ends()

    assert list(ends.ends(ended(bytes(192)))) == []
    assert ends.without_bytes == 1


def test_who_listened_or_was_never_connected_is_no_end() -> None:
    """Without the other side's port, or of another family."""
    ends = unopened_ends()
    no_port = struct.pack("!HH", 40_000, 0) + ENDS[4:]

    assert list(ends.ends(ended(tcp_info(0, 0, 0), ends=no_port))) == []
    assert list(ends.ends(ended(tcp_info(0, 0, 0), head=b"\x01\x07\0\0"))) == []


def test_gaps_in_the_numbers_are_packets_unseen() -> None:
    """Also at the end of the numbers."""
    queue = unopened_queue()
    for number in (1, 2, 5):
        assert [one.number for one in queue.held(held(number))] == [number]
    assert queue.passed_unseen == 2

    queue._last = 2**32 - 1
    queue.held(held(1))
    assert queue.passed_unseen == 3


@given(st.binary(max_size=400), st.integers(0, 0xFFFF), st.integers(0, 400))
def test_hostile_bytes_raise_nothing(raw: bytes, kind: int, cut: int) -> None:
    """Whatever stands in a message, and wherever it is cut off."""
    for whole in (raw, message(20, raw), message(3 << 8, raw), message(kind, raw)):
        list(messages(whole))
        attributes(whole)
        list(unopened_ends().ends(whole))
        unopened_queue().held(whole)
    list(unopened_ends().ends(ended(raw)[:cut]))
    unopened_queue().held(held(1, raw)[:cut])


@pytest.mark.parametrize("length", [0, 3, 15, 17])
def test_a_message_that_is_not_whole_ends_the_reading(length: int) -> None:
    """Nor is one without a length read twice."""
    good = message(20, b"abcd")

    assert len(list(messages(good + good[:length]))) == 1
    assert list(messages(struct.pack("=IHHII", length, 20, 0, 0, 0))) == []


def test_what_other_processes_send_is_left_out() -> None:
    """Only the kernel is believed."""
    with opened(NETLINK_USERSOCK) as link, opened(NETLINK_USERSOCK) as other:
        other.sendto(ended(tcp_info(1, 0, 1)), (link.getsockname()[0], 0))

        assert received(link) == b""


def test_ends_that_come_as_fast_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at them ends, and the rest is read at the next."""
    monkeypatch.setattr(diag, "received", lambda _: ended(tcp_info(1, 0, 1)))
    ends = unopened_ends()
    ends._link = socket.socket()
    with ends._link:
        taken = list(ends.take())

    assert len(taken) == diag.TAKE_MAX


@given(st.binary(max_size=300), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_attributes_of_any_length_end(rest: bytes, length: int, kind: int) -> None:
    """A length that lies, of zero or beyond the end, ends the reading; each attribute is read once."""
    raw = struct.pack("=HH", length, kind) + rest
    found = attributes(raw)

    assert sum(map(len, found.values())) <= len(raw)
    assert all(len(one.body) <= len(raw) for one in messages(struct.pack("=I", length) + raw))


@pytest.mark.parametrize("capabilities", [["--bounding-set=-net_admin", "--inh-caps=-net_admin"], []])
def test_the_receive_buffer_without_the_right_to_exceed_the_limit(capabilities: list[str]) -> None:
    """In a user namespace the kernel refuses SO_RCVBUFFORCE: the buffer is as large as allowed, and the log names the limit."""
    program = (
        "import logging, sys; from producers.sensor.kernel import netlink\n"
        "logging.basicConfig(format='%(message)s %(wanted_bytes)d %(given_bytes)d')\n"
        "link = netlink.opened(2, receive_bytes=int(sys.argv[1]))\n"
        "print(link.getsockopt(1, 8) // 2)\n"
    )
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    command = ["setpriv", *capabilities, sys.executable, "-c", program]
    more, most = (
        subprocess.run([*command, str(size)], check=True, capture_output=True, text=True, timeout=60)
        for size in (2 * limit, limit)
    )
    limited = int(more.stdout) == limit

    assert limited or not capabilities
    assert more.stderr.split()[-2:] == ([str(2 * limit), str(limit)] if limited else [])
    assert ("net.core.rmem_max" in more.stderr) is limited
    assert (int(most.stdout), most.stderr) == (limit, "")
