"""Requests to a proxy whose host the sensor does not know: rows without a destination."""

from __future__ import annotations

import pytest

from schemas.events import UNNAMED_TARGET
from tests.factories import connection, request, verdict, world_of


@pytest.mark.parametrize("method", ["CONNECT", "GET", "?"])
def test_a_request_without_a_certain_host_is_unresolved(method: str) -> None:
    """It names no destination, and the remote end is a proxy: `direct` would be wrong."""
    world = world_of([connection(0), request(0.1, UNNAMED_TARGET, method=method, status=400)])

    assert world.destinations == []
    (row,) = world.connections
    assert (row["UnresolvedReason"], row["ResolvedBy"], row["DestinationHost"]) == ("no_usable_request", "", "")


@pytest.mark.parametrize("method", ["CONNECT", "GET", "?"])
@pytest.mark.parametrize("host", ["bad.example", ""])
def test_a_verdict_without_a_certain_host(method: str, host: str) -> None:
    """The connection is blocked without a destination; the verdict's row has the listed name, if any."""
    one = verdict(0.1, UNNAMED_TARGET, method=method, host=host)
    world = world_of([connection(0), one])

    assert world.destinations == []
    (row,) = world.connections
    assert (row["UnresolvedReason"], row["Outcome"], row["DestinationHost"]) == ("no_usable_request", "blocked", "")
    assert [line["DestinationHost"] for line in world.verdicts] == [host] * bool(host)


def test_a_request_after_it_is_resolved() -> None:
    """A later request on the connection is resolved."""
    world = world_of([connection(0), request(0.1, UNNAMED_TARGET, method="GET"), request(0.2, "a.example:443", tx=1)])

    assert [row["DestinationHost"] for row in world.destinations] == ["a.example"]
