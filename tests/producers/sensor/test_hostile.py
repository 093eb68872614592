"""Bytes that a local user or a remote server may send the sensor: each is a value, one line of JSON, and bounded work."""

from __future__ import annotations

import json
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.sensor.http.client_hello import Hello, NotTls, hello_of
from producers.sensor.http.heads import Urls
from producers.sensor.http.level import HttpLevel
from producers.sensor.http.packets import EXTENSIONS, EXTENSIONS_MAX, Packet, parse_packet
from producers.sensor.http.request_lines import Kind, line_of
from producers.sensor.kernel.trace_ring import Record
from tests.producers.sensor.http.wire import CLIENT, PORT, PROXY, PROXY_PORT, T0, hello
from tests.producers.sensor.makers import LAYOUT, PAGE

FUZZ = settings(max_examples=200, derandomize=True, deadline=None)
HELLO = hello("www.example.com")
PIECES = [
    b"GET http://user:pw@a.example/\x7f\xc2\x9b\xff?q HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"CONNECT b.example:443 HTTP/1.1\r\n\r\n",
    b"POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffff\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 \r\n\r\n",
    b"GET / HTTP/1.1\r\nUser-Agent: \xff\x00\x1b[2J\n\r\n\r\n",
    HELLO,
    HELLO[:40],
    b"\x05\x01\x00",
    b"\x05\x02\x00\x02\x01\xffsecret\x00",
    b"\x05\x01\x00\x03\x05a\x00b\xff.\x00\x50",
    b"\x05\x00\x00\x01" + bytes(6),
    b"\x04\x01\x00\x50\x00\x00\x00\x01secret\x00a.example\x00",
    b"\x00\x5a" + bytes(6),
    b"\n" * 100,
]
SEGMENTS = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 2**32 - 1) | st.integers(0, 300),
        st.integers(0, 255),
        st.sampled_from(PIECES) | st.binary(max_size=40),
        st.integers(0, 70_000) | st.just(0),
        st.integers(0, 3_000_000),
    ),
    max_size=30,
)


@FUZZ
@given(SEGMENTS)
def test_any_segments_are_lines(segments: list[tuple[bool, int, int, bytes, int, int]]) -> None:
    """Of either side, with any flags, places and bytes: nothing is raised, and no line is two."""
    level, at, events = HttpLevel([PROXY_PORT], urls=Urls.FULL), T0, []
    for is_client, seq, flags, payload, cut, later in segments:
        at += later
        ends = (CLIENT, PORT, PROXY, PROXY_PORT) if is_client else (PROXY, PROXY_PORT, CLIENT, PORT)
        events += level.packet(at, Packet(*ends, seq, flags, payload, cut))
    events += level.finish(at)
    lines = [line_of(one, "dev-a") for one in events if one.kind is not Kind.REQUEST]

    assert level.errors.count == 0
    assert level.kept_bytes == sum(flow.kept for flow in level._flows.values())
    for line in lines:
        assert b"\n" not in line
        assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in str(json.loads(line)))
        assert b"user:pw" not in line
        assert b"secret" not in line


@FUZZ
@given(st.data())
def test_hellos_whose_lengths_lie(data: st.DataObject) -> None:
    """Any bytes of a client hello changed, or its end cut: a hello, not yet one, or none."""
    raw = bytearray(HELLO)
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
        raw[place] = data.draw(st.sampled_from([0, 1, 0x16, 0x7F, 0xFF]))
    del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        found = hello_of(bytes(raw))
    except NotTls:
        return

    assert found is None or isinstance(found, Hello)


@FUZZ
@given(
    st.lists(st.tuples(st.sampled_from(EXTENSIONS), st.integers(0, 255)), max_size=2 * EXTENSIONS_MAX),
    st.binary(max_size=80),
)
def test_chains_of_extension_headers_end(chain: list[tuple[int, int]], rest: bytes) -> None:
    """However long, and whatever lengths they claim."""
    behind = b"".join(struct.pack("!BB6x", header, length) for header, length in chain) + rest
    head = struct.pack("!IHBx", 6 << 28, len(behind), chain[0][0] if chain else 6) + bytes(32)
    packet = parse_packet(head + behind)

    assert packet is None or len(packet.payload) <= len(rest)


@FUZZ
@given(st.data())
def test_pages_whose_records_lie(data: st.DataObject) -> None:
    """Any words of a page of the kernel's changed, or its end cut: the reading ends."""
    page = bytearray(PAGE)
    for place in data.draw(st.lists(st.integers(0, len(page) // 4 - 1), max_size=8)):
        struct.pack_into("<I", page, 4 * place, data.draw(st.integers(0, 2**32 - 1)))
    del page[data.draw(st.integers(0, len(page))) :]
    records: list[Record] = list(LAYOUT.records(bytes(page)))

    assert len(records) <= len(page) // 4
