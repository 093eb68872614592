"""Bytes find the connection whose they are, or none."""

from __future__ import annotations

import pytest

from producers.sensor.kernel import byte_counts as counts
from producers.sensor.kernel.byte_counts import EARLY_NS_MAX, WAIT_NS, Counts
from producers.sensor.kernel.connections import Connection
from producers.sensor.kernel.sock_diag import Ended
from producers.sensor.kernel.trace_ring import AF_INET, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT2, LAST_ACK
from tests.producers.sensor.makers import CLIENT, SERVER


def connection(
    *, port: int = 40_000, closed_ns: int = 20, ended_in: int = ESTABLISHED, attempt_ns: int = 10
) -> Connection:
    return Connection(
        7, None, attempt_ns, 3128, AF_INET, CLIENT, SERVER, 0, port, attempt_ns + 1, closed_ns, ended_in=ended_in
    )  # fmt: skip


def end(received: int = 100, *, port: int = 40_000, unread: int = 0) -> Ended:
    return Ended(("198.51.100.11", port, "198.51.100.80", 3128), 5, received, unread)


def test_an_end_waits_for_its_bytes() -> None:
    """Then it is reported once, with them."""
    met, one = Counts(), connection()

    assert met.take([one], 100) == []
    assert met.ended([end()], 200) == [one]
    assert (one.bytes_sent, one.bytes_received) == (5, 100)
    assert met.due(100 + WAIT_NS) == []
    assert len(met) == 0


def test_bytes_may_be_read_first() -> None:
    """They wait for the end; not for that of a later connection, nor for long."""
    met, one = Counts(), connection()
    met.ended([end()], 100)
    assert met.take([one], 200) == [one]
    assert one.bytes_sent == 5

    met.ended([end()], 300)
    assert met.take([connection(attempt_ns=301)], 400) == []

    late = Counts()
    late.ended([end()], 100)
    late.ended([end(port=2)], 100 + EARLY_NS_MAX)
    assert late.take([connection()], 101 + EARLY_NS_MAX) == []


def test_an_end_is_reported_again_when_its_bytes_come_late() -> None:
    """As when a process holds a socket that was reset."""
    met, one = Counts(), connection()
    met.take([one], 0)

    assert met.due(WAIT_NS - 1) == []
    assert met.due(WAIT_NS) == [one]
    assert one.bytes_sent is None
    assert met.ended([end()], 10 * WAIT_NS) == [one]


def test_what_is_open_or_failed_waits_for_nothing() -> None:
    """It is reported at once."""
    failed = connection()
    failed.failed = True
    waiting = [connection(closed_ns=0), failed]

    assert Counts().take(waiting, 0) == waiting


def test_ports_used_again_leave_the_older_without() -> None:
    """Bytes could be of either."""
    met, old = Counts(), connection()
    met.take([old], 0)
    met.take([connection(closed_ns=0, attempt_ns=30)], 50)

    assert met.unmet == 1
    assert met.ended([end()], 60) == []
    assert old.bytes_sent is None


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes."""
    monkeypatch.setattr(counts, "LATER_MAX", 2)
    monkeypatch.setattr(counts, "EARLY_MAX", 2)
    met = Counts()
    met.take([connection(port=port) for port in (1, 2, 3)], 0)
    assert (len(met), met.unmet) == (2, 1)

    early = Counts()
    early.ended([end(port=port) for port in (1, 2, 3)], 100)
    assert [len(early.take([connection(port=port)], 100)) for port in (1, 2, 3)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("ended_in", "unread", "received"),
    [
        (ESTABLISHED, 0, 100),
        (ESTABLISHED, 1, 100),
        (CLOSE_WAIT, 0, 99),
        (LAST_ACK, 0, 99),
        (CLOSING, 0, 99),
        (FIN_WAIT2, 0, 100),
        (FIN_WAIT2, 1, 99),
    ],
)
def test_the_other_sides_end_is_no_byte(ended_in: int, unread: int, received: int) -> None:
    """Whether it came is reported by the state before the end."""
    met, one = Counts(), connection(ended_in=ended_in)
    met.take([one], 0)
    met.ended([end(unread=unread)], 1)

    assert one.bytes_received == received


def test_a_closed_connection_with_changes_is_reported_at_once() -> None:
    """Its process ran another program after the end: that waits for no bytes, and those that came or will come are kept."""
    met, one, other = Counts(), connection(), connection(port=40_001)
    met.take([one, other], 0)
    met.ended([end()], 10)

    assert met.take([one, other], 20) == [one, other]
    assert met.ended([end(port=40_001)], 30) == [other]
    assert (one.bytes_sent, other.bytes_sent, met.unmet) == (5, 5, 0)
