"""Records of several CPUs come in the order of their times, however they were read."""

from __future__ import annotations

import pytest

from producers.sensor.kernel import order
from producers.sensor.kernel.connections import Connections
from producers.sensor.kernel.order import Ordered
from producers.sensor.kernel.processes import Who
from producers.sensor.kernel.trace_ring import CLOSE, ESTABLISHED, SYN_SENT, Change
from tests.producers.sensor.makers import change

BEGUN = change(10, CLOSE, SYN_SENT, port=0)
ANSWERED = change(20, SYN_SENT, ESTABLISHED)
OVER = change(30, 5, CLOSE)
AGAIN = change(40, CLOSE, SYN_SENT, port=0, pid=8)


def test_what_is_newer_than_the_round_waits() -> None:
    """The next attempt on a socket, read before the end of the one before it, comes after it."""
    ordered: Ordered[Change] = Ordered()

    assert ordered.take([BEGUN, AGAIN, ANSWERED], 25) == [BEGUN, ANSWERED]
    assert len(ordered) == 1
    assert ordered.take([OVER], 45) == [OVER, AGAIN]
    assert len(ordered) == 0


def test_in_the_end_everything_is_given() -> None:
    """What was held back is not lost when the sensor stops."""
    ordered: Ordered[Change] = Ordered()
    ordered.take([AGAIN], 5)

    assert ordered.take([OVER], None) == [OVER, AGAIN]


def test_an_end_before_the_attempt_is_another_connections() -> None:
    """Should it come too late all the same, it does not end the connection that has the socket by then."""
    connections = Connections(lambda thread, _: Who(thread))
    changes: list[Change] = [BEGUN, ANSWERED, AGAIN, OVER]

    (first,) = connections.take(changes, 0)
    (second,) = connections.take([ANSWERED._replace(at_ns=50), OVER._replace(at_ns=60)], 0)
    assert (first.attempt_ns, first.closed_ns) == (10, 0)
    assert (second.attempt_ns, second.established_ns, second.closed_ns) == (40, 50, 60)
    assert connections.unended == 1


def test_what_is_held_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound all are given, in the order of what is there."""
    monkeypatch.setattr(order, "HELD_MAX", 2)
    ordered: Ordered[Change] = Ordered()

    assert ordered.take([change(9, 1, 2), change(8, 1, 2)], 5) == []
    assert [record.at_ns for record in ordered.take([change(7, 1, 2)], 5)] == [7, 8, 9]
    assert not ordered
