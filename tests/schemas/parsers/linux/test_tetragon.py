"""The traps of Tetragon's events (tests/data/tetragon); which of them are constructed, its README states."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import ConnectionOpened, FlowSummary, Ignored, Process, Reason, Reject
from schemas.parsers.linux.tetragon import DIALECT, claims, device_of, parse
from schemas.settings import CorrelationSettings
from streams.pipeline import Message, Pipeline

DATA = Path(__file__).parents[3] / "data" / "tetragon"
AT = 1_741_079_721_998_000
CURL = {
    "pid": 7412,
    "uid": 1000,
    "binary": "/usr/bin/curl",
    "arguments": "-x http://proxy:3128 https://bad1.example/",
    "start_time": "2025-03-04T09:15:21.9Z",
}
PARENT = {"pid": 900, "binary": "/bin/bash"}
SOCKET = {
    "family": "AF_INET",
    "type": "SOCK_STREAM",
    "protocol": "IPPROTO_TCP",
    "saddr": "198.51.100.11",
    "daddr": "198.51.100.80",
    "sport": 52817,
    "dport": 3128,
}
ENDS = {
    "source_ip": "198.51.100.11",
    "source_port": 52817,
    "protocol": "TCP",
    "destination_ip": "198.51.100.80",
    "destination_port": 3128,
}


def reported(kind: str, **parts: object) -> Any:
    """What becomes of an event; its device is reported before it is parsed, too."""
    of = {"process": CURL, "parent": PARENT, **parts}
    raw = json.dumps({kind: of, "node_name": "Dev-A", "time": "2025-03-04T09:15:21.998000000Z"}).encode()
    parsed = parse(raw)
    assert isinstance(parsed, Reject) or device_of(raw) == parsed.device == "dev-a"
    assert claims(raw)
    return parsed


def kprobe(function: str = "tcp_connect", socket: dict[str, Any] | None = None, **parts: object) -> Any:
    """What becomes of a call that a policy watches."""
    return reported(
        "process_kprobe", **{"function_name": function, "args": [{"sock_arg": {**SOCKET, **(socket or {})}}], **parts}
    )


@pytest.mark.parametrize(
    ("name", "events", "ignored"),
    [
        ("tetragon.golden-signals.jsonl", 4, 11),
        ("tetragon-tcp.constructed.jsonl", 1, 1),
        ("traps.constructed.jsonl", 8, 9),
    ],
)
def test_every_line_of_the_samples_is_read(name: str, events: int, ignored: int) -> None:
    """None is rejected, and each is claimed."""
    lines = gzip.decompress((DATA / f"{name}.gz").read_bytes()).splitlines()
    parsed = [parse(raw) for raw in lines]

    assert sum(isinstance(one, ConnectionOpened | FlowSummary) for one in parsed) == events
    assert sum(isinstance(one, Ignored) for one in parsed) == ignored
    assert len(parsed) == events + ignored
    assert all(claims(raw) for raw in lines)


def test_a_watched_connect_is_a_connection_that_was_tried() -> None:
    """With command line, user and parent; what came of it is not known yet."""
    opened = kprobe()

    assert opened == ConnectionOpened(
        *("dev-a", AT, opened.flow, AT, 0, 0, False),
        Process(
            7412,
            "curl",
            "/usr/bin/curl",
            "/usr/bin/curl -x http://proxy:3128 https://bad1.example/",
            AT - 98_000,
            "1000",
            parent_pid=900,
            parent_name="bash",
        ),
        "tetragon/connect/52817/2025-03-04T09:15:21.998000000Z",
        "tetragon",
    )
    assert opened.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert kprobe(process={**CURL, "user": {"name": "user"}}).process.account == "user"


@pytest.mark.parametrize(
    ("parts", "failed"),
    [
        ({"action": "KPROBE_ACTION_POST"}, False),
        ({"action": "KPROBE_ACTION_SIGKILL"}, True),
        ({"action": "KPROBE_ACTION_OVERRIDE"}, True),
        ({"action": "KPROBE_ACTION_NOTIFYKILLER"}, True),
        ({"return": {"int_arg": 0}}, False),
        ({"return": {"int_arg": -115}}, False),
        ({"return": {"int_arg": -101}}, True),
    ],
)
def test_what_a_policy_stopped_has_failed(parts: dict[str, Any], failed: bool) -> None:
    """By its action, or by what the function returned; a connect that does not wait returns -115 and has not failed."""
    assert kprobe(**parts).failed is failed


@pytest.mark.parametrize(
    ("function", "parts", "kind"),
    [
        ("tcp_v4_connect", {"socket": {"saddr": "0.0.0.0", "sport": 0}}, "connect_without_port"),
        ("tcp_connect", {"socket": {"saddr": None}}, "connect_without_port"),
        ("security_socket_connect", {"args": [{"sockaddr_arg": {"addr": "198.51.100.80"}}]}, "connect_without_port"),
        ("tcp_connect", {"args": None}, "connect_without_port"),
        ("tcp_connect", {"socket": {"protocol": "IPPROTO_SCTP"}}, "connect_not_tcp"),
        ("tcp_close", {}, "kprobe_close"),
        ("tcp_sendmsg", {}, "kprobe"),
        ("fd_install", {"args": [{"int_arg": 3}, {"file_arg": {"path": "/etc/passwd"}}]}, "kprobe"),
    ],
)
def test_other_calls_hold_nothing(function: str, parts: dict[str, Any], kind: str) -> None:
    """Before the local port is chosen a connect cannot be joined; the end of one without bytes would look like none."""
    assert kprobe(function, **parts).kind == kind


def test_connection_events_of_the_commercial_edition() -> None:
    """The end has bytes, as strings, since they are 64-bit numbers."""
    opened, udp = reported("process_connect", **ENDS), reported("process_connect", **{**ENDS, "protocol": "UDP"})
    closed = reported("process_close", **ENDS, stats={"bytes_sent": "118", "bytes_received": "39", "segs_in": 6})

    assert isinstance(opened, ConnectionOpened)
    assert udp.kind == "connect_not_tcp"
    assert isinstance(closed, FlowSummary)
    assert (closed.started, closed.ended, closed.bytes_sent, closed.bytes_received) == (0, AT, 118, 39)


@pytest.mark.parametrize(
    ("stats", "answered"),
    [({}, False), ({"segs_in": 1}, False), ({"segs_in": 2}, True), ({"bytes_received": "1"}, True)],
)
def test_one_segment_may_be_a_refusal(stats: dict[str, Any], answered: bool) -> None:
    """A connection that came about has at least two segments of the server's."""
    assert reported("process_close", **ENDS, stats=stats).answered is answered


@pytest.mark.parametrize(("local", "remote"), [(9080, 51000), (51000, 52000), (3000, 443)])
def test_the_end_of_an_accepted_connection_is_not_taken_for_one_that_was_made(local: int, remote: int) -> None:
    """A server's end looks the same; only an outgoing port to a server's port is sure."""
    assert (
        reported("process_close", **{**ENDS, "source_port": local, "destination_port": remote}).kind == "close_unsure"
    )


@pytest.mark.parametrize(
    "kind", ["exec", "exit", "listen", "accept", "tracepoint", "loader", "uprobe", "lsm", "usdt", "throttle"]
)
def test_other_events_hold_nothing(kind: str) -> None:
    """Each is counted by its kind."""
    assert reported(f"process_{kind}").kind == kind
    assert reported("rate_limit_info").kind == "rate_limit"


def test_what_a_container_runtime_writes_before_it() -> None:
    """Tetragon's export is read from its container's output, too."""
    raw = gzip.decompress((DATA / "tetragon-tcp.constructed.jsonl.gz").read_bytes()).splitlines()[0]
    shipped = b"2026-03-15T00:06:32.475522327Z stdout F " + raw

    assert claims(shipped)
    assert parse(shipped) == parse(raw)


def test_sums_of_connections_are_none() -> None:
    """VM insights sums up by the minute, without the client's ports."""
    lines = gzip.decompress((DATA / "vmconnection.log4shell.jsonl.gz").read_bytes()).splitlines()

    assert [(one.device, one.kind) for one in map(parse, lines) if isinstance(one, Ignored)] == [
        ("ubuntu5", "vmconnection")
    ] * len(lines)
    assert not any(claims(raw) for raw in lines)


@pytest.mark.parametrize(
    ("socket", "reason"),
    [({"dport": 0}, Reason.BAD_VALUE), ({"daddr": None}, Reason.INCOMPLETE), ({"sport": 70000}, Reason.BAD_VALUE)],
)
def test_values_are_not_guessed_at(socket: dict[str, Any], reason: Reason) -> None:
    """A connect to nowhere is rejected."""
    assert kprobe(socket=socket).reason is reason


def test_others_lines_are_not_claimed() -> None:
    """Nor are they read: what states nothing of itself is incomplete."""
    assert not claims(b'{"process_events":{},"time":"2025-03-04T09:15:21.998Z"}')
    assert isinstance(parse(b"{}"), Reject)


def test_the_beginning_and_the_end_are_one_connection() -> None:
    """The end reports no beginning: it is joined to the connection that was open."""
    lines = [
        line
        for line in gzip.decompress((DATA / "tetragon.golden-signals.jsonl.gz").read_bytes()).splitlines()
        if b"142.250.180.196" in line
    ]
    for order in (lines, lines[::-1]):
        pipeline = Pipeline(CorrelationSettings())
        for number, raw in enumerate(order):
            pipeline.take(Message(number + 1, 0, b"", raw, DIALECT.name))
        pipeline.finish()
        latest = {row["RecordId"]: row for row in map(json.loads, pipeline.drain().network_events)}
        (row,) = latest.values()

        assert (row["InitiatingProcessId"], row["InitiatingProcessFileName"]) == (115153, "curl")
        assert row["RemoteIP"] == "142.250.180.196"
