"""Requests to proxies whose address is not remembered: real packets through the sensor's thread and the correlator to the row."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from producers.sensor.http.capture import capturing
from producers.sensor.http.learning import Learner
from producers.sensor.http.observer import CaptureReader, Plan
from producers.sensor.http.packet_filter import LEARNT_MAX
from producers.sensor.queue import Queue
from schemas.clock import iso_micros
from schemas.events import ConnectionOpened, HttpExchange, ModeChanged, ProtectionMode, SocksRequest
from schemas.parsers import dialects
from tests.factories import Row, World
from tests.producers.sensor.http.wire import SECOND

CONNECT = b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n"
ORIGIN_FORM = b"GET /proxy.pac HTTP/1.1\r\nHost: wpad.example\r\n\r\n"
NAMED, UNNAMED = "www.example.com", ""


@contextmanager
def server() -> Iterator[socket.socket]:
    """A listener that the sensor has never seen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def rows_of(*parts: bytes) -> tuple[list[Row], list[Row], Learner]:
    """Send these bytes while as many proxies as may be are in use; return connection and destination rows."""
    queue, learner = Queue(), Learner([])
    now = time.time_ns() // 1_000
    learner.last = {(f"203.0.113.{number}", 8080): now for number in range(LEARNT_MAX)}
    learner.proxies |= learner.last.keys()
    with server() as listening, capturing([], learns=True) as capture:
        capture_reader = CaptureReader(capture, Plan(ProtectionMode.AUDIT, learns=True), queue, "dev-a", None, learner)
        capture_reader.start()
        place: tuple[str, int] = listening.getsockname()
        with socket.create_connection(place) as client:
            other, _ = listening.accept()
            with other:
                for part in parts:
                    client.sendall(part)
                    # Each part is a segment of its own.
                    assert other.recv(len(part), socket.MSG_WAITALL) == part
            port = client.getsockname()[1]
        capture_reader.close()
    kernel = (
        f'{{"device":"dev-a","pid":7,"process":"curl","local_ip":"127.0.0.1","local_port":{port},"remote_ip":"127.0.0.1",'
        f'"remote_port":{place[1]},"result":"success","ts_attempt":"{iso_micros(now)}","ts_established":"{iso_micros(now)}"}}'
    ).encode()
    mode = f'{{"kind":"mode","device":"dev-a","ts":"{iso_micros(now - SECOND)}","mode":"audit"}}'.encode()
    world = World()
    for line in (mode, kernel, *(line for _, line in queue.take() if f'"local_port":{port},'.encode() in line)):
        event = dialects()["sensor" if b'"kind"' in line else "sockets"].parse(line)
        assert isinstance(event, ConnectionOpened | HttpExchange | ModeChanged | SocksRequest), event
        world.see(event)
    world.finish()
    return world.connections, world.destinations, learner


@pytest.mark.parametrize(
    ("parts", "host"),
    [
        ([CONNECT], NAMED),
        ([b"GET http://www.example.com/a HTTP/1.1\r\nHost: www.example.com\r\n\r\n"], NAMED),
        ([b"\x05\x01\x00\x05\x01\x00\x03\x0fwww.example.com\x01\xbb"], NAMED),
        ([b"\x05\x01\x00"], UNNAMED),
        ([b"\x04\x01\x01\xbb\xc6\x33\x64\x09\x00"], "198.51.100.9"),
        ([CONNECT[:-10], CONNECT[-10:]], UNNAMED),
        ([ORIGIN_FORM, CONNECT], UNNAMED),
        ([b"CONNECT a.example:443@b.example:443 HTTP/1.1\r\n\r\n"], UNNAMED),
        ([b"CONNECT http://www.example.com:443/ HTTP/1.1\r\n\r\n"], NAMED),
    ],
    ids=["connect", "absolute", "socks5", "greeting", "socks4", "cut", "not first", "two hosts", "scheme"],
)
def test_a_request_to_a_proxy_is_never_direct(parts: list[bytes], host: str) -> None:
    """Its destination, or that the request names none: whether or not there is room for the proxy's address."""
    (connection,), destinations, learner = rows_of(*parts)

    assert connection["InitiatingProcessId"] == 7
    assert connection["ResolvedBy"] != "direct"
    assert connection["UnresolvedReason"] == ("" if host else "no_usable_request")
    assert [row["DestinationHost"] for row in destinations] == ([host] if host else [])
    assert (len(learner.last), learner.no_room + learner.not_begun) == (LEARNT_MAX, 1)
