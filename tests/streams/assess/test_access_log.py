"""Which access-log entries apply to a destination, and what they add to its row."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from schemas.events import Event, ProxyDecision, ProxyLogged
from tests.factories import World, connection, flow_end, proxy_line, request, world_of

HOST = "www.example.com"
PLAIN = f"http://{HOST}/"
UPSTREAM = "203.0.113.80"


def applies(*events: Event) -> bool:
    """Return whether the only destination has an entry's upstream address."""
    (row,) = world_of(events).destinations
    return row["RemoteIP"] == UPSTREAM


def more(row: dict[str, object]) -> dict[str, object]:
    """Return the AdditionalFields of a row."""
    return dict(json.loads(str(row["AdditionalFields"]) or "{}"))


@pytest.mark.parametrize(
    ("target", "started", "at", "expected"),
    [
        (PLAIN, 22, 22, True),
        (PLAIN, 22.01, 22.01, False),
        (PLAIN, 1, 30, True),
        (PLAIN, 1, 30.01, False),
        (PLAIN, 1, 1, True),
        (PLAIN, -2, 1, True),
        (PLAIN, -2.01, 1, False),
        (f"{HOST}:443", 1, 10, True),
        (f"{HOST}:443", 1, 9.99, False),
    ],
)
def test_an_entry_is_within_its_connection(target: str, started: float, at: float, expected: bool) -> None:
    """Its request begins at most 2 s before the start and after the end; it is written at most 10 s after the end.

    A tunnel's entry is written at its end, at most 10 s before the connection's.
    """
    assert applies(connection(0, ended=20), request(1, target), proxy_line(at, target, started=started)) is expected


@pytest.mark.parametrize(
    ("flow", "started", "at", "expected"),
    [(True, -2, 9, True), (True, -2.01, 9, False), (False, -2.01, 3, True), (False, -2.01, 2.99, False)],
)
def test_without_an_endpoint_record_the_flow_or_the_first_event_is_the_start(
    flow: bool, started: float, at: float, expected: bool
) -> None:
    """With a flow start the request is compared with it; otherwise the entry is compared with the earliest event."""
    events: list[Event] = [request(5, PLAIN), proxy_line(at, PLAIN, started=started)]
    assert applies(*events, *[flow_end(10, started=0, ended=9)] * flow) is expected


def test_an_entry_without_a_port_is_of_the_only_port_requested() -> None:
    """It applies while one port of the host was requested; with two, only entries with a port do."""
    without = replace(proxy_line(0.2, PLAIN, number=2), port=0)
    assert applies(connection(0), request(0.1, PLAIN), without)

    events: list[Event] = [connection(0), request(0.1, PLAIN), proxy_line(0.2, PLAIN), without]
    world = World().see(*events).wait(30)
    (row,) = world.destinations
    assert more(row)["ProxyLogIds"] == ["squid/0/0.2", "squid/2/0.2"]

    world.see(request(0.3, f"http://{HOST}:8080/", tx=1)).finish()
    rows = {row["DestinationPort"]: row for row in world.destinations}
    assert more(rows[80])["ProxyLogIds"] == ["squid/0/0.2"]
    assert rows[8080]["RemoteIP"] == ""


def test_an_entry_of_another_kind_of_request_does_not_apply() -> None:
    """A plain request to port 443 is not the CONNECT for that port."""
    line = proxy_line(0.2, f"http://{HOST}:443/", port=0)
    assert not applies(connection(0), request(0.1, f"{HOST}:443"), line)


@pytest.mark.parametrize(
    ("seen", "logged", "expected"),
    [
        ([200], 200, True),
        ([200], 503, False),
        ([200], None, True),
        ([None], 503, True),
        ([200, 404], 503, True),
    ],
)
def test_an_entry_without_a_client_port_has_the_requests_status(
    seen: list[int | None], logged: int | None, expected: bool
) -> None:
    """The status is compared where both are known and the sensor saw a single request."""
    requests = [request(0.1 + tx, PLAIN, status=status, tx=tx) for tx, status in enumerate(seen)]
    assert applies(connection(0), *requests, proxy_line(0.2, PLAIN, status=logged, port=0)) is expected


@pytest.mark.parametrize(
    ("target", "started", "at", "expected"),
    [
        (f"{HOST}:443", 3, 15, True),
        (f"{HOST}:443", 2.99, 15, False),
        (f"{HOST}:443", 7, 15, True),
        (f"{HOST}:443", 7.01, 15, False),
        (PLAIN, 1, 3, True),
        (PLAIN, 1, 2.99, False),
        (PLAIN, 7.01, 9, False),
    ],
)
def test_an_entry_without_a_client_port_is_near_a_request(
    target: str, started: float, at: float, expected: bool
) -> None:
    """A tunnel's request reached the proxy within 2 s; a plain one was logged at most 2 s before the sensor saw it."""
    assert applies(connection(0), request(5, target), proxy_line(at, target, started=started, port=0)) is expected


def test_an_entry_without_a_client_port_may_be_of_any_request_to_the_host() -> None:
    """It is near the second request and not near the first."""
    requests = [request(5, PLAIN), request(50, PLAIN, tx=1)]
    assert applies(connection(0), *requests, proxy_line(50.2, PLAIN, port=0))


def test_an_entry_without_a_client_port_is_dropped_when_a_late_end_contradicts_it() -> None:
    """The connection's end arrives after the entry was joined."""
    world = World().see(connection(0), request(0.1), proxy_line(40, started=0.2, port=0)).wait(60)
    assert [row["RemoteIP"] for row in world.destinations] == [UPSTREAM]

    world.see(connection(0, ended=9)).finish()
    assert [row["RemoteIP"] for row in world.destinations] == [""]


def test_an_entry_counts_once_where_the_sensor_saw_two_requests() -> None:
    """Bytes are unknown while a request has no entry, and the sum once each has one."""
    requests = [request(0.1, PLAIN), request(0.3, PLAIN, tx=1)]
    world = World().see(connection(0), *requests, proxy_line(0.2, PLAIN)).wait(30)
    (row,) = world.destinations
    assert (more(row)["ProxyLogIds"], row["BytesSent"], row["BytesReceived"]) == (["squid/0/0.2"], None, None)

    (row,) = world.see(proxy_line(0.4, PLAIN, number=1)).finish().destinations
    assert (row["BytesSent"], row["BytesReceived"], row["RequestCount"]) == (600, 8000, 2)


def test_unknown_bytes_of_one_entry_make_the_sum_unknown() -> None:
    """Sent and received bytes are known separately."""
    line = proxy_line(0.2, PLAIN)
    for one, expected in (
        (replace(line, bytes_sent=None), (None, 4000)),
        (replace(line, bytes_received=None), (300, None)),
    ):
        (row,) = world_of([connection(0), request(0.1, PLAIN), one]).destinations
        assert (row["BytesSent"], row["BytesReceived"]) == expected


def test_the_first_upstream_and_the_last_user_are_shown() -> None:
    """Entries without them are passed over; without any, the row has neither."""
    lines: list[ProxyLogged] = [
        proxy_line(0.2, PLAIN, upstream="", user="joe"),
        proxy_line(0.4, PLAIN, user="jane", number=1),
        proxy_line(0.6, PLAIN, upstream="203.0.113.81", user="", number=2),
    ]
    (row,) = world_of([connection(0), request(0.1, PLAIN), *lines]).destinations
    assert (row["RemoteIP"], more(row)["ProxyUser"]) == (UPSTREAM, "jane")

    (row,) = world_of([connection(0), request(0.1, PLAIN), proxy_line(0.2, PLAIN, upstream="", user="")]).destinations
    assert (row["RemoteIP"], "ProxyUser" in more(row)) == ("", False)


def test_one_entry_without_a_client_port_makes_the_log_inferred() -> None:
    """Of two entries one was joined by host and time only."""
    requests = [request(0.1, PLAIN), request(0.3, PLAIN, tx=1)]
    lines = [proxy_line(0.2, PLAIN), proxy_line(0.4, PLAIN, number=1, port=0)]
    (row,) = world_of([connection(0), *requests, *lines]).destinations

    assert more(row)["ProxyLogIds"] == ["squid/0/0.2", "squid/1/0.4"]
    assert more(row)["ProxyLogConfidence"] == "inferred"


@pytest.mark.parametrize(
    ("requests", "logged", "outcome"),
    [
        (1, [(ProxyDecision.DENIED, 407), (ProxyDecision.SERVED, 200)], "allowed"),
        (2, [(ProxyDecision.DENIED, 403)], "allowed"),
        (1, [(ProxyDecision.DENIED, 403)], "failed"),
        (2, [(ProxyDecision.DENIED, 403), (ProxyDecision.DENIED, 403)], "failed"),
    ],
)
def test_only_requests_that_are_all_refused_are_not_allowed(
    requests: int, logged: list[tuple[ProxyDecision, int]], outcome: str
) -> None:
    """The sensor saw a success each time; it counts unless the proxy refused every request that it logged or that was seen."""
    seen = [request(0.1 + tx, PLAIN, tx=tx) for tx in range(requests)]
    lines = [
        proxy_line(0.2 + number, PLAIN, decision=decision, status=status, number=number)
        for number, (decision, status) in enumerate(logged)
    ]
    (row,) = world_of([connection(0), *seen, *lines]).destinations

    assert row["Outcome"] == outcome


@pytest.mark.parametrize(("status", "outcome"), [(499, "allowed"), (500, "unknown")])
def test_a_served_error_of_a_server_adds_nothing(status: int, outcome: str) -> None:
    """A 5xx may come from the proxy itself."""
    line = proxy_line(0.2, PLAIN, status=status)
    (row,) = world_of([connection(0), request(0.1, PLAIN, status=None), line]).destinations

    assert row["Outcome"] == outcome


def test_a_destination_named_by_the_log_is_within_its_connection() -> None:
    """The proxy's clock differs; the row's time is moved to the connection's start or end."""
    for started, expected in ((-1, 0), (1, 1), (10.5, 9)):
        line = proxy_line(max(started, 9), started=started)
        (row,) = world_of([connection(0, ended=9), line]).destinations
        (shifted,) = world_of([connection(expected), request(expected)]).destinations
        assert row["Timestamp"] == shifted["Timestamp"]
