"""Connections and requests in Defender's exported rows (tests/data/mde); no real row with a free licence was found."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.clock import iso_micros
from schemas.events import Ignored, Process, Reject, TlsName
from schemas.parsers.windows.defender_rows import split
from schemas.parsers.windows.mde import device_of, parse, written_at
from tests.schemas.parsers.parsed_as import kind, opened, request
from tests.schemas.parsers.windows.defender_rows import CONNECT, NO_PROCESS, PACKET, row

DATA = Path(__file__).parents[3] / "data" / "mde"
PARSED_AND_IGNORED = {
    "eventhub-records.constructed.json.gz": (6, 0),
    "storage-lines.constructed.jsonl.gz": (3, 0),
    "traps.constructed.jsonl.gz": (22, 14),
}
"""Of each file, how many rows give an event and how many hold nothing for us; none is rejected."""


def rows_of(name: str) -> list[bytes]:
    """The rows of a file."""
    return [one for line in gzip.decompress((DATA / name).read_bytes()).splitlines() for one in split(line)]


@pytest.mark.parametrize("name", PARSED_AND_IGNORED)
def test_rows_are_read(name: str) -> None:
    """Each row is an event or holds nothing for us; it names its device, and when it was."""
    counts: Counter[bool] = Counter()
    for line in rows_of(name):
        parsed = parse(line)
        assert not isinstance(parsed, Reject), parsed
        assert device_of(line) == parsed.device != ""
        assert written_at(line) == parsed.at
        counts[isinstance(parsed, Ignored)] += 1

    assert (counts[False], counts[True]) == PARSED_AND_IGNORED[name]


def test_every_file_is_counted() -> None:
    """A file that is put there and not counted would look as if it were read."""
    assert set(PARSED_AND_IGNORED) == {path.name for path in DATA.glob("*.gz")}


def test_a_connection_has_its_process() -> None:
    """Both ends, who did it, and the event's own time instead of that of publishing."""
    event = opened(parse(row("ConnectionSuccess")))

    assert event.device == "ws-0142.corp.example"
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert iso_micros(event.at) == "2025-03-04T09:15:21.998123Z"
    assert event.at == event.started == event.established
    assert event.process == Process(
        7412, "chrome.exe", "c:\\program files\\google\\chrome\\application\\chrome.exe", '"chrome.exe" --type=utility',
        1_741_079_400_401_987, "a.meyer", "corp", "S-1-5-21-1", 5216, "explorer.exe",
        "25f6bb19be3498752f0665b33793b97780b82e0b",
    )  # fmt: skip
    assert event.event_id == "mde/ConnectionSuccess/48221/2025-03-04T09:15:21.9981234Z"


@pytest.mark.parametrize("decimals", ["9981234", "99812", "998123", "998", "9"])
def test_times_have_one_to_seven_decimals(decimals: str) -> None:
    """Windows writes seven, macOS five or six."""
    event = opened(parse(row("ConnectionSuccess", Timestamp=f"2025-03-04T09:15:21.{decimals}Z")))

    assert iso_micros(event.at) == f"2025-03-04T09:15:21.{decimals[:6].ljust(6, '0')}Z"


@pytest.mark.parametrize("written", [None, "", "0001-01-01T00:00:00Z", "1601-01-01T00:00:00.0000000Z"])
def test_a_process_without_beginning(written: str | None) -> None:
    """Unknown is null, or the first moment that a calendar knows."""
    assert opened(parse(row("ConnectionSuccess", InitiatingProcessCreationTime=written))).process.started == 0


def test_the_device_is_its_name_else_its_id() -> None:
    """As Windows events name it: lower case, with domain, without the dot at the end."""
    named: tuple[tuple[dict[str, Any], str], ...] = (
        ({"DeviceName": "Ws-0142.Corp.Example."}, "ws-0142.corp.example"),
        ({"DeviceName": "ws-0142"}, "ws-0142"),
        ({"DeviceName": None}, "3f9a1c6e2b8d4f70a5e1c9b3d7f2a6e4c8b0d1f5"),
        ({"DeviceName": " ", "DeviceId": "AB12"}, "ab12"),
        ({"DeviceName": None, "DeviceId": None}, ""),
    )
    for values, name in named:
        line = row("ConnectionSuccess", **values)
        assert device_of(line) == opened(parse(line)).device == name


@pytest.mark.parametrize(
    ("action", "established", "failed"),
    [
        ("ConnectionSuccess", True, False),
        ("ConnectionFound", True, False),
        ("ConnectionFailed", False, True),
        ("ConnectionRequest", False, False),
        ("ConnectionAttempt", False, False),
    ],
)
def test_what_is_known_of_a_connection(action: str, established: bool, failed: bool) -> None:
    """A failed one states nothing of a block; one that was asked for or tried may have come about."""
    event = opened(parse(row(action)))

    assert (event.established > 0, event.failed) == (established, failed)


def test_a_packet_is_no_connection_of_a_process() -> None:
    """What was seen on the wire has PID 0 and no name: the connection has a row of its own, and would be there twice."""
    assert kind(parse(row("ConnectionAttempt", PACKET, Protocol="TcpV4", **NO_PROCESS))) == "network_no_process"
    assert kind(parse(row("ConnectionAcknowledged", PACKET, **NO_PROCESS))) == "network_acknowledged"
    assert (
        kind(parse(row("InboundConnectionAttempt", {**PACKET, "direction": "In"}, **NO_PROCESS))) == "network_inbound"
    )
    assert opened(parse(row("ConnectionSuccess", **NO_PROCESS))).process == Process()


@pytest.mark.parametrize("protocol", ["Tcp", "TcpV4", "TcpV6", "TCP", None])
def test_tcp_has_several_names(protocol: str | None) -> None:
    """With the version of IP, or nothing."""
    assert opened(parse(row("ConnectionSuccess", Protocol=protocol))).flow.remote_port == 3128


def test_what_has_no_ends() -> None:
    """UDP, and rows in which Defender does not know an end: null, or 0 for a port."""
    assert kind(parse(row("ConnectionSuccess", Protocol="Udp"))) == "network_not_tcp"
    for name in ("LocalIP", "LocalPort", "RemoteIP", "RemotePort"):
        assert kind(parse(row("ConnectionFailed", **{name: None}))) == "network_no_ends"
    assert kind(parse(row("HttpConnectionInspected", CONNECT, LocalPort=0))) == "network_no_ends"
    assert kind(parse(row("SslConnectionInspected", LocalPort=0))) == "network_no_ends"


@pytest.mark.parametrize("url", [None, "proxy.corp.example", "https://www.good1.example/"])
def test_the_url_of_a_connection_is_not_its_destination(url: str | None) -> None:
    """Through a proxy it is null or the proxy's own name: the site is in inspected rows and in verdicts alone."""
    assert parse(row("ConnectionSuccess", RemoteUrl=url)) == parse(row("ConnectionSuccess"))


def test_addresses_have_one_spelling() -> None:
    """IPv6 in full or shortened, IPv4 within it."""
    event = opened(parse(row("ConnectionSuccess", LocalIP="::ffff:198.51.100.11", RemoteIP="2001:DB8:0:0:0:0:0:80")))

    assert event.flow.key == "198.51.100.11 52817 2001:db8::80 3128"


def test_connect_of_an_inspected_connection() -> None:
    """No process, numbers in strings: the same ends as the connection's own row."""
    event = request(parse(row("HttpConnectionInspected", CONNECT, **NO_PROCESS)))

    assert event.flow == opened(parse(row("ConnectionSuccess"))).flow
    assert (event.method, event.target, event.host) == ("CONNECT", "bad1.example:443", "bad1.example")
    assert (event.status, event.tx) == (200, 48221)


@pytest.mark.parametrize(
    ("seen", "url", "target", "host", "status"),
    [
        (
            {"method": "GET", "host": "a.example", "uri": "http://a.example/x"},
            None,
            "http://a.example/x",
            "a.example",
            None,
        ),
        ({"method": "GET", "host": "A.example:8080", "uri": "/x", "status_code": 404}, None, "/x", "a.example", 404),
        ({"method": "GET"}, "http://a.example/x", "http://a.example/x", "", None),
        ({"method": "GET", "uri": "/x", "status_code": "0"}, None, "/x", "", None),
        ({"method": "CONNECT", "host": "a.example:443"}, "a.example", "a.example:443", "a.example", None),
    ],
)
def test_requests(seen: dict[str, Any], url: str | None, target: str, host: str, status: int | None) -> None:
    """Absolute or not, answered or not; the row's URL stands in where there is no `uri`."""
    event = request(parse(row("HttpConnectionInspected", seen, RemoteUrl=url)))

    assert (event.target, event.host, event.status) == (target, host, status)


def test_a_request_from_outside_is_not_the_devices() -> None:
    """In inbound rows `LocalPort` is the service's."""
    inbound = {**CONNECT, "direction": "In", "server_name": "a.example"}
    assert kind(parse(row("HttpConnectionInspected", inbound))) == "network_inbound"
    assert kind(parse(row("SslConnectionInspected", inbound))) == "network_inbound"
    assert kind(parse(row("HttpConnectionInspected", {"direction": "Out"}))) == "network_no_request"


def test_tls_names() -> None:
    """Whether it came through a tunnel, the row does not state."""
    event = parse(row("SslConnectionInspected", {"direction": "Out", "server_name": "WWW.Good1.example."}))
    assert isinstance(event, TlsName)
    assert (event.sni, event.tunnelled) == ("www.good1.example", False)

    silent = parse(row("SslConnectionInspected", {"direction": "Out"}))
    assert isinstance(silent, TlsName)
    assert silent.sni == ""
