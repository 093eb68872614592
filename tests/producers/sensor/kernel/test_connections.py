"""Changes of sockets fold into connections, each with the process that began it."""

from __future__ import annotations

import pytest

from producers.sensor.kernel import connections as module
from producers.sensor.kernel.connections import Connections
from producers.sensor.kernel.processes import Who
from producers.sensor.kernel.trace_ring import CLOSE, ESTABLISHED, SYN_RECV, SYN_SENT, Change, Program
from tests.producers.sensor.makers import change

FIN_WAIT2, LAST_ACK = 5, 9


def following() -> Connections:
    """Connections whose processes are their threads' numbers."""
    return Connections(lambda thread, _: Who(thread))


def attempt(at_ns: int, **more: int) -> Change:
    return change(at_ns, CLOSE, SYN_SENT, **{"port": 0, **more})


def test_a_connection_is_reported_when_answered_and_when_over() -> None:
    """Times, port and process come together, though the answer comes while another process runs."""
    connections = following()
    assert connections.take([attempt(10, pid=7)], 0) == []
    (answered,) = connections.take([change(20, SYN_SENT, ESTABLISHED, pid=99)], 0)
    assert (answered.attempt_ns, answered.established_ns, answered.closed_ns, answered.local_port) == (
        10,
        20,
        0,
        40_000,
    )
    assert answered.who == Who(7)
    (over,) = connections.take([change(30, FIN_WAIT2, CLOSE, pid=0)], 0)

    assert over is answered
    assert (over.closed_ns, over.failed) == (30, False)
    assert len(connections) == 0
    assert (connections.attempts, connections.established, connections.closed, connections.failed) == (1, 1, 1, 0)


def test_a_short_one_is_reported_once() -> None:
    """What began and ended between two looks is one line."""
    (only,) = following().take([attempt(10), change(20, SYN_SENT, ESTABLISHED), change(30, LAST_ACK, CLOSE)], 0)

    assert (only.established_ns, only.closed_ns) == (20, 30)


@pytest.mark.parametrize("state", [SYN_SENT, SYN_RECV])
def test_refused_is_failed(state: int) -> None:
    """From the attempt straight to the end: no answer came."""
    connections = following()
    (refused,) = connections.take([attempt(10), change(20, state, CLOSE)], 0)

    assert refused.failed
    assert (refused.established_ns, refused.closed_ns) == (0, 20)
    assert connections.failed == 1


def test_others_are_left_alone() -> None:
    """The ends of a server's sockets, and of those older than the sensor, show nothing."""
    connections = following()

    assert connections.take([change(10, LAST_ACK, CLOSE), change(20, 8, CLOSE, sk=2)], 0) == []
    assert connections.unpaired == 0


def test_an_answer_read_too_early_waits() -> None:
    """CPUs are read one after the other, so an answer may be read before its attempt."""
    connections = following()
    assert connections.take([change(20, SYN_SENT, ESTABLISHED)], 0) == []
    (answered,) = connections.take([attempt(10)], 0)

    assert (answered.attempt_ns, answered.established_ns) == (10, 20)


def test_an_answer_without_an_attempt_is_counted() -> None:
    """It is older than the sensor, or its attempt was lost; it is not given to the next owner of the socket."""
    connections = following()
    connections.take([change(20, SYN_SENT, ESTABLISHED)], 0)
    assert connections.take([attempt(30)], 0) == []
    connections.take([change(40, SYN_SENT, ESTABLISHED, sk=2)], 0)
    connections.take([attempt(2_000_000_000, sk=3)], 0)

    assert connections.unpaired == 2


def test_a_socket_used_again_is_another_connection() -> None:
    """Where the end was lost the next attempt of the same socket begins again, and that is counted."""
    connections = following()
    connections.take([attempt(10, pid=7), change(20, SYN_SENT, ESTABLISHED)], 0)
    (again,) = connections.take([attempt(30, pid=8), change(40, SYN_SENT, ESTABLISHED)], 0)

    assert (again.attempt_ns, again.who) == (30, Who(8))
    assert connections.unended == 1


def test_nothing_is_reported_of_what_sent_nothing() -> None:
    """Given up before a port was chosen."""
    connections = following()

    assert connections.take([attempt(10), change(20, SYN_SENT, CLOSE, port=0)], 0) == []
    assert (connections.attempts, connections.failed, len(connections)) == (1, 0, 0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds the oldest is forgotten, and counted."""
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    monkeypatch.setattr(module, "EARLY_MAX", 2)
    connections = following()
    connections.take([attempt(10, sk=sk) for sk in (1, 2, 3)], 0)
    connections.take([change(20, SYN_SENT, ESTABLISHED, sk=sk) for sk in (4, 5, 6)], 0)

    assert (len(connections), connections.forgotten, connections.unpaired) == (2, 1, 1)
    assert connections.take([change(30, FIN_WAIT2, CLOSE, sk=1)], 0) == []


SECOND_NS = 1_000_000_000


def test_a_program_that_follows_is_noted() -> None:
    """The first one within a second of the attempt; a connection that was reported before it is reported again with it."""
    connections = following()
    (open_,) = connections.take([attempt(10), change(20, SYN_SENT, ESTABLISHED)], 0)
    connections.take([attempt(30, sk=2)], 0)

    assert connections.take(
        [Program(40, 8, b"/bin/true"), Program(50, 7, b"/bin/sh"), Program(60, 7, b"/bin/ls")], 0
    ) == [open_]
    (refused,) = connections.take([change(70, SYN_SENT, CLOSE, sk=2)], 0)
    assert (open_.exec_after, refused.exec_after) == (b"/bin/sh", b"/bin/sh")


def test_a_program_that_follows_a_closed_connection_is_noted() -> None:
    """A socket may be closed by exec itself."""
    connections = following()
    (closed,) = connections.take([attempt(10), change(20, SYN_SENT, ESTABLISHED), change(30, LAST_ACK, CLOSE)], 0)

    assert connections.take([Program(40, 7, b"/bin/sh")], 0) == [closed]


@pytest.mark.parametrize(("after_ns", "noted"), [(SECOND_NS, b"/bin/sh"), (SECOND_NS + 1, b"")])
def test_a_program_that_begins_later_is_not_noted(after_ns: int, noted: bytes) -> None:
    """An ordinary process may do anything a second after it connected."""
    connections = following()
    (one,) = connections.take([attempt(10), change(20, SYN_SENT, ESTABLISHED)], 0)
    connections.take([Program(10 + after_ns, 7, b"/bin/sh")], 0)

    assert one.exec_after == noted


def test_attempts_that_a_program_may_follow_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by age; nothing remains of those that are forgotten."""
    monkeypatch.setattr(module, "RECENT_MAX", 2)
    connections = following()
    reported = connections.take(
        [one for sk in range(4) for one in (attempt(sk, sk=sk), change(9, SYN_SENT, ESTABLISHED, sk=sk))], 0
    )
    assert (len(connections._recent), [len(of) for of in connections._recent_of.values()]) == (2, [2])
    connections.take([Program(10, 7, b"/bin/sh")], 0)
    connections.take([attempt(10 + 2 * SECOND_NS, sk=9, pid=8)], 0)

    assert sorted(one.exec_after for one in reported) == [b"", b"", b"/bin/sh", b"/bin/sh"]
    assert (len(connections._recent), list(connections._recent_of)) == (1, [8])
