"""Endpoint records and flows that belong together are matched; in doubt, a flow stays without a process."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec.structs import replace

from schemas.events import Event, HttpExchange
from tests.factories import connection, micros, request, world_of

OWN, FIRST, SECOND, ZEEK = "u-1", "1", "2", "CHhAvVGS1DHFjwGM9"
"""Flow ids of `unproxy sensor`, of Suricata (two), and of Zeek."""


def asked(at: float, host: str, flow: str, *, began: float = 0) -> HttpExchange:
    """Make a request with the start of its flow; 0 for none."""
    return replace(request(at, f"{host}:443", flow=flow), started=micros(began) if began else 0)


def processes(*events: Event) -> dict[object, object]:
    """Return the process of each destination, once everything is decided."""
    return {row["DestinationHost"]: row["InitiatingProcessId"] for row in world_of(events).destinations}


def test_an_exchange_gives_no_own_flow_a_later_attempt() -> None:
    """The attempt at 60 ms cannot belong to the own sensor's flow that began at 40 ms, although both starts would be nearer.

    The flow of another sensor, whose clock is late, keeps that attempt.
    """
    opened = connection(0, pid=1), connection(0.06, pid=2)
    own, other = asked(0.045, "own.example", OWN, began=0.04), asked(0.07, "other.example", FIRST, began=0.02)

    assert processes(opened[0], own, opened[1], other) == {"own.example": 1, "other.example": 2}


def test_an_exchange_that_fits_no_better_is_not_made() -> None:
    """Both flows began before both attempts: the sum of the distances is the same either way."""
    opened = connection(0.02, pid=1), connection(0.04, pid=2)
    first, second = asked(0.025, "a.example", FIRST, began=0.01), asked(0.045, "b.example", SECOND, began=0.001)

    assert processes(opened[0], first, opened[1], second) == {"a.example": 1, "b.example": 2}


@pytest.mark.parametrize(("began", "process"), [(1.0, 1), (1.000_001, None)])
def test_starts_on_one_clock_are_at_most_a_second_apart(began: float, process: int | None) -> None:
    """A flow of the own sensor that begins later than that belongs to another attempt."""
    assert processes(connection(0, pid=1), asked(1.1, "a.example", OWN, began=began)) == {"a.example": process}


def test_a_request_shortly_before_a_reported_attempt_may_be_of_it() -> None:
    """A second sensor's request, 5 ms before the attempt that another sensor reported, is not given to an earlier attempt."""
    reported = connection(1, pid=2), asked(1.1, "a.example", FIRST)
    world = world_of([*reported, connection(0, pid=1), asked(0.995, "a.example", ZEEK)])

    assert [row["InitiatingProcessId"] for row in world.destinations] == [2, None]


def test_a_flow_that_cannot_be_of_a_record_is_no_rival_for_it() -> None:
    """A flow that began 4 s later leaves the record to the one that began 2 s later."""
    events: list[Event] = [connection(0, pid=1)]
    events += [asked(2.5, "a.example", FIRST, began=2), asked(4.5, "b.example", SECOND, began=4)]
    for order in permutations(events):
        assert processes(*order) == {"a.example": 1, "b.example": None}, order
