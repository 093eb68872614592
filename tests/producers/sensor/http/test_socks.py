"""SOCKS requests: every form of a target, any cut, and what names no target or is no SOCKS."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.sensor.http.socks import (
    REQUEST_BYTES_MAX,
    NotSocks,
    Socks,
    asks_socks,
    is_granted,
    is_greeted,
    socks_of,
)

GREETING = b"\x05\x01\x00"
LOGIN = b"\x05\x02\x00\x02" + b"\x01\x03bob\x06secret"
PORT = b"\x01\xbb"
V4, V6 = bytes([198, 51, 100, 9]), bytes.fromhex("20010db8005100000000000000000009")
NAME = b"\x0bBad.Example"
TO_NAME = b"\x05\x01\x00\x03" + NAME + PORT


@pytest.mark.parametrize(
    ("stream", "host"),
    [
        (GREETING + b"\x05\x01\x00\x01" + V4 + PORT, "198.51.100.9"),
        (GREETING + b"\x05\x01\x00\x04" + V6 + PORT, "2001:db8:51::9"),
        (GREETING + b"\x05\x01\x00\x04" + bytes(10) + b"\xff\xff" + V4 + PORT, "198.51.100.9"),
        (GREETING + TO_NAME, "bad.example"),
        (GREETING + b"\x05\x01\xff\x03" + NAME + PORT, "bad.example"),
        (GREETING + b"\x05\x01\x00\x03\x0c198.51.100.9" + PORT, "198.51.100.9"),
        (GREETING + b"\x05\x01\x00\x03\x0a3325256713" + PORT, "198.51.100.9"),
        (LOGIN + TO_NAME, "bad.example"),
        (b"\x05\x03\x00\x01\x02\x01\x02me\x00" + TO_NAME, "bad.example"),
        (b"\x05\x02\x00\x80" + TO_NAME, "bad.example"),
        (b"\x04\x01" + PORT + V4 + b"bob\0", "198.51.100.9"),
        (b"\x04\x01" + PORT + V4 + b"\0", "198.51.100.9"),
        (b"\x04\x01" + PORT + b"\0\0\0\x01bob\0Bad.Example.\0", "bad.example"),
    ],
)
def test_the_target_stands_in_clear_text(stream: bytes, host: str) -> None:
    """In each version, after a login too, whole only with its last byte; what follows is not of it."""
    assert socks_of(stream + b"\x16\x03\x01") == Socks(stream[0], host, 443, len(stream))
    assert [socks_of(stream[:end]) for end in range(1, len(stream))] == [None] * (len(stream) - 1)


@pytest.mark.parametrize(
    "stream",
    [
        GREETING + b"\x05\x02\x00\x01" + V4 + PORT,
        GREETING + b"\x05\x03\x00\x01" + bytes(6),
        GREETING + b"\x05\x01\x00\x02" + V4 + PORT,
        GREETING + b"\x05\x01\x00\x03\x0cbad\0.example" + PORT,
        GREETING + b"\x05\x01\x00\x03\x0cbad .example" + PORT,
        GREETING + b"\x05\x01\x00\x03\x03b\xffd" + PORT,
        GREETING + b"\x05\x01\x00\x03\x00" + PORT,
        GREETING + b"\x05\x01\x00\x01" + V4 + bytes(2),
        b"\x05\x01\x01" + b"\x01\x01\x00\x02ab",
        b"\x05\x02\x01\x02" + b"\x01\x01\x00\x02ab",
        b"\x04\x02" + PORT + V4 + b"\0",
        b"\x04\x01" + PORT + b"\0\0\0\x01\0bad example\0",
    ],
)
def test_without_a_usable_target_it_is_a_request_still(stream: bytes) -> None:
    """Another command, an unknown kind of address, a name that servers read in several ways, a login that hides it."""
    asked = socks_of(stream)

    assert asked is not None
    assert (asked.version, asked.host, asked.port) == (stream[0], "", 0)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"GET http://a.example/ HTTP/1.1",
        b"\x05\x00",
        b"\x05\x00\x0b\x03\x10",
        GREETING + b"GET",
        LOGIN + b"\x01",
        b"\x04\x00\x00\x00\x01",
        b"\x04\x01" + PORT + V4 + b"u" * 256,
        b"\x04\x01" + PORT + b"\0\0\0\x01\0" + b"n" * 256,
    ],
)
def test_what_is_no_socks_is_refused(stream: bytes) -> None:
    """Other versions, no method, another protocol that begins alike, texts without an end."""
    with pytest.raises(NotSocks):
        socks_of(stream)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.sampled_from([b"\x04", b"\x05", GREETING, LOGIN, TO_NAME, b""]), st.binary(max_size=1_200))
def test_any_bytes_are_a_request_or_none(begin: bytes, rest: bytes) -> None:
    """Nothing else is raised, a request lies within its bytes, and one that is not whole is shorter than its bound."""
    stream = begin + rest
    try:
        asked = socks_of(stream)
    except NotSocks:
        return

    assert len(stream) < REQUEST_BYTES_MAX if asked is None else asked.length <= len(stream)
    assert asked is None or asked.host.isascii()


@pytest.mark.parametrize(
    ("payload", "asks"),
    [
        (GREETING, True),
        (b"\x05\x03\x00\x01\x02", True),
        (GREETING + TO_NAME, True),
        (b"\x04\x01" + PORT + V4 + b"\0", True),
        (GREETING + b"\0", False),
        (b"\x05\x01\x7f", False),
        (b"\x05\x02\x00\x00", False),
        (b"\x05\x02\x00", False),
        (GREETING + TO_NAME + b"\0", False),
        (b"\x04\x01" + PORT + V4 + b"\0\0", False),
        (b"\x04\x01\0\0" + V4 + b"\0", False),
        (b"\x16\x03\x01", False),
    ],
)
def test_what_only_a_socks_server_is_sent(payload: bytes, asks: bool) -> None:
    """A greeting that offers a method in use, or a whole request with a usable target, and not a byte more."""
    assert asks_socks(payload) is asks


def test_a_greeting_is_whole_with_its_methods() -> None:
    """Whatever follows."""
    assert [is_greeted(stream) for stream in (b"\x05", b"\x05\x02\x00", GREETING, LOGIN, b"\x04\x01\x00", b"\x05\x00\x05")] == [
        False, False, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "version", "granted"),
    [
        (b"\x05\x00\x00\x01" + bytes(6), 5, True),
        (b"\x05\x05\x00\x01" + bytes(6), 5, False),
        (b"\x05\x00\x00\x03\x00\x00\x00", 5, True),
        (b"\x05\x00", 5, None),
        (b"\x05\x00\x00\x02" + bytes(6), 5, None),
        (b"\x00\x5a" + bytes(6), 5, None),
        (b"\x00\x5a" + bytes(6), 4, True),
        (b"\x00\x5b" + bytes(6), 4, False),
        (b"\x00\x00" + bytes(6), 4, None),
        (b"\x00\x5a", 4, None),
    ],
)
def test_the_answer_grants_or_refuses(reply: bytes, version: int, granted: bool | None) -> None:
    """The choice of a method is no answer to the request."""
    assert is_granted(reply, version) is granted
