"""Client hellos: the name, over several records, and nothing out of what is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sensor.http.client_hello import HELLO_BYTES_MAX, Hello, NotTls, hello_of
from tests.producers.sensor.http.wire import hello


@pytest.mark.parametrize("record_bytes", [1_000, 60, 20])
def test_the_name(record_bytes: int) -> None:
    """In one record or in several, behind other extensions, in lower case."""
    whole = hello("WWW.Example.com", record_bytes=record_bytes, more=30)

    assert hello_of(whole + b"more") == Hello("www.example.com", encrypted=False)
    assert [hello_of(whole[:length]) for length in range(len(whole))] == [None] * len(whole)


def test_an_encrypted_hello_is_noted() -> None:
    """The name outside may be another than the one that is asked for."""
    assert hello_of(hello("public.example", ech=True)) == Hello("public.example", encrypted=True)


@pytest.mark.parametrize("name", ["", "a b", "a" * 300, "münchen.example"])
def test_without_a_usable_name(name: str) -> None:
    """Clients that go to an address send none; what cannot be a name is none."""
    assert hello_of(hello(name)) == Hello("", encrypted=False)


def test_without_extensions() -> None:
    """As TLS 1.0 allowed."""
    body = b"\x03\x01" + bytes(32) + b"\0" + b"\0\x02\0\x05" + b"\x01\0"
    message = b"\x01" + len(body).to_bytes(3, "big") + body

    assert hello_of(b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message) == Hello("", encrypted=False)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x17\x03\x03\0\x05hello",
        b"\x16\x02\x00\0\x05hello",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\0\x04\x02\0\0\0",
        hello("a.example")[:5] + b"\x02" + hello("a.example")[6:],
        b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\0\x04\x01\0\0\0",
        b"\x16\x03\x01\0\x01\x01" * 40,
        hello("a.example", record_bytes=4),
        b"\x16\x03\x01\x40\0\x01\0\x7f\xff" + bytes(HELLO_BYTES_MAX),
    ],
)
def test_what_is_no_hello(stream: bytes) -> None:
    """Other records and messages, lengths that cannot be, more than a hello needs."""
    with pytest.raises(NotTls):
        hello_of(stream)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_bytes_are_a_value(more: bytes, kept: int) -> None:
    """A hello, not yet one, or none."""
    with contextlib.suppress(NotTls):
        hello_of(hello("a.example", ech=True)[:kept] + more)
