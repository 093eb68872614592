"""How a line in the Elastic Common Schema is taken apart: dotted names, faulty parts, and what is remembered of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import Ignored, Reason, Reject
from schemas.parsers.elastic.ecs import claims, parse
from schemas.parsers.elastic.line import NO_TIME, SHAPE_BYTES_MAX, SHAPE_NAMES_MAX, _remembered_path, _remembered_shape
from tests.schemas.parsers.elastic.ecs_events import CURL, REPORTED, flow, line, reported, request


def test_flat_and_nested_are_one() -> None:
    """Dotted names, objects, and both in one line."""
    nested = request(
        "CONNECT", {"domain": "bad1.example", "port": 443}, network={"transport": "tcp", "direction": "egress"}
    )
    flat = reported(
        {
            "@timestamp": "2025-03-04T09:15:22.001Z",
            "event.category": "network_traffic",
            "event": {"dataset": "http"},
            "source.ip": "198.51.100.11",
            "source": {"port": 52817},
            "destination.ip": "198.51.100.80",
            "destination.port": "3128",
            "http": {"request.method": "CONNECT"},
            "url.domain": "bad1.example",
            "url.port": 443,
            "network.direction": "egress",
            "host.name": "dev-a",
        }
    )

    assert flat == nested


def flattened(event: dict[str, Any], parents: str = "") -> dict[str, Any]:
    """The event with dotted names only."""
    flat: dict[str, Any] = {}
    for name, value in event.items():
        flat |= flattened(value, f"{parents}{name}.") if isinstance(value, dict) else {parents + name: value}
    return flat


def test_lines_with_the_same_dotted_names_differ_in_their_values() -> None:
    """What is remembered of the first are its names, in whatever order; signs that stand for others elsewhere are just signs."""
    for method, path, port in (("GET", "/%b%s", 52817), ("PUT", '/"\\é%', 52818), ("GET", "/a", 52819)):
        event = line(
            source={"ip": "198.51.100.11", "port": port, "geo": {"%b": "%s", "%": 7}},
            http={"request": {"method": method, "headers": {"host": "ok.example", "%b": "%b"}}},
            url={"path": path, "query": "%b"},
            process={"pid": port, "name": "%b", "parent": {"pid": 7, "name": "bash"}, "hash": {"md5": "%d"}},
            **{"%b": "%b"},
        )
        flat = flattened(event)

        assert reported(flat) == reported(event) == reported(dict(reversed(flat.items())))


@pytest.mark.parametrize("names", [("dns", "dns.id"), ("http", "http.version.a"), ("source.ip", "source.ip.keyword")])
def test_of_names_that_are_a_value_and_an_object_the_order_counts(names: tuple[str, str]) -> None:
    """A value cannot become an object; an object that is followed by a value of its name is gone."""
    event = {"@timestamp": REPORTED, "event.category": "network", "host.name": "dev-a"}
    value_first, object_first = (
        parse(json.dumps({**event, **dict.fromkeys(order, "198.51.100.11")}).encode()) for order in (names, names[::-1])
    )

    assert isinstance(value_first, Reject)
    assert value_first.detail == f"{names[0].rpartition('.')[2]} in {names[1]} is a value, and not"
    assert object_first == Ignored("dev-a", 1_741_079_770_004_000, "network_no_ends")


def test_a_line_with_a_single_dotted_name() -> None:
    """Whatever else it lacks, it is of a connection."""
    raw = b'{"event.category":"network"}'

    assert claims(raw)
    assert parse(raw) == Reject(Reason.INCOMPLETE, NO_TIME, raw)


def test_a_faulty_part_is_no_fault_where_unknown_asks_for_it() -> None:
    """Of a flow over UDP it does not matter what its `http` looks like; of a request it does."""
    faulty: dict[str, Any] = {"http": {"request": 7}, "url": "x", "tls": [], "network": {"transport": "udp"}}
    asked = parse(json.dumps(line(**{**faulty, "network": {"transport": "tcp"}})).encode())

    assert reported(flow(**faulty)).kind == "flow_not_tcp"
    assert isinstance(asked, Reject)
    assert asked.detail == "Expected `object`, got `int` - at `$.request`"


def test_a_part_that_is_null_is_empty() -> None:
    """It reports nothing; a flow that does is one, and not over."""
    event = line(event={"category": ["network"], "dataset": "http"}, http={"request": {"method": "GET"}})
    nulls = {"url": None, "tls": None, "flow": None}

    assert reported({**event, **nulls}) == reported(event)
    assert reported({**event, "http": None}).kind == "http_no_request"
    assert reported({**flow(), "flow": None}).kind == "flow_interim"


def test_a_dotted_name_of_any_length_is_not_remembered() -> None:
    """The names of a schema come again and again; a stream of others must not fill the memory."""
    event = {
        "@timestamp": REPORTED,
        "event.category": "network",
        "source.ip": "198.51.100.11",
        "labels." + "a" * 128: 1,
    }
    parse(json.dumps(event).encode())
    before = _remembered_path.cache_info()
    reported({**event, "labels." + "b" * 128: 1})
    after = _remembered_path.cache_info()

    assert (after.currsize, after.misses) == (before.currsize, before.misses)
    assert after.hits > before.hits


@pytest.mark.parametrize(
    "labels",
    [{"labels.a": "a" * SHAPE_BYTES_MAX}, {f"labels.{number}": 1 for number in range(SHAPE_NAMES_MAX)}],
    ids=["long", "many"],
)
def test_the_names_of_a_large_line_are_not_remembered(labels: dict[str, Any]) -> None:
    """A stream of such lines must not fill the memory."""
    event = flattened(flow(process=CURL))
    before = _remembered_shape.cache_info()
    closed = reported({**event, **labels})

    assert _remembered_shape.cache_info() == before
    assert closed == reported(event)


def test_a_name_that_is_a_value_and_an_object_is_no_event() -> None:
    """A line that contradicts itself is not guessed at."""
    raw = json.dumps({"event.category": "network", "source": "a", "source.ip": "198.51.100.11"}).encode()
    parsed = parse(raw)

    assert isinstance(parsed, Reject)
    assert parsed.reason is Reason.BAD_VALUE
