"""The server name of a TLS client hello: pure, bounded, and safe against any bytes.

Sources: RFC 8446 sections 4.1.2 and 5.1 (client hello, records), RFC 6066 section 3 (server name), RFC 9849 (encrypted client
hello: the outer name then differs from the requested one; browsers also send the extension as GREASE).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from schemas.address import HOST_LENGTH_MAX, canonical_host

HELLO_BYTES_MAX = 32_768
RECORDS_MAX = 16
HELLO_BEGINS = re.compile(rb"\x16\x03[\x00-\x04]..\x01\x00", re.DOTALL)
"""A handshake record with a client hello at the beginning of a segment."""
HANDSHAKE = 0x16
_CLIENT_HELLO = 1
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
_RECORD_BYTES_MAX = 16_384
_VERSION_AND_RANDOM = 34
_SERVER_NAME, _ENCRYPTED_HELLO = 0x0000, 0xFE0D


class Hello(NamedTuple):
    """The parsed client hello."""

    name: str
    """The server name, normalised; "" if there is none."""
    encrypted: bool
    """The hello has the encrypted_client_hello extension: the name may be only the outer one."""


class NotTls(ValueError):
    """The bytes are no client hello."""


def hello_of(stream: bytes | bytearray) -> Hello | None:
    """Parse a client hello, possibly over several records; None while it is incomplete. Raises NotTls."""
    message = bytearray()
    at = 0
    for _ in range(RECORDS_MAX):
        if len(stream) < at + _RECORD_HEAD:
            _still(stream)
            return None
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        if stream[at] != HANDSHAKE or stream[at + 1] != 3 or not 0 < length <= _RECORD_BYTES_MAX:
            raise NotTls("no record of a handshake")
        message += stream[at + _RECORD_HEAD : at + _RECORD_HEAD + length]
        at += _RECORD_HEAD + length
        if message and message[0] != _CLIENT_HELLO:
            raise NotTls("no client hello")
        end = _MESSAGE_HEAD + int.from_bytes(message[1:4], "big")
        if len(message) >= _MESSAGE_HEAD and end > HELLO_BYTES_MAX:
            raise NotTls("too long")
        if len(message) >= _MESSAGE_HEAD and len(message) >= end:
            return _read(bytes(message[_MESSAGE_HEAD:end]))
        if len(stream) < at:
            _still(stream)
            return None
    raise NotTls("too many records")


def _still(stream: bytes | bytearray) -> None:
    if len(stream) > HELLO_BYTES_MAX:
        raise NotTls("too long")


def _read(body: bytes) -> Hello:
    at = _VERSION_AND_RANDOM
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        _, at = _vector(body, at, width)
    if at == len(body):
        return Hello("", encrypted=False)
    extensions, _ = _vector(body, at, 2)
    name, encrypted, at = "", False, 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2], "big")
        content, at = _vector(extensions, at + 2, 2)
        if kind == _SERVER_NAME and not name:
            name = _name(content)
        encrypted |= kind == _ENCRYPTED_HELLO
    return Hello(name, encrypted)


def _name(content: bytes) -> str:
    names, _ = _vector(content, 0, 2)
    if names[:1] != b"\x00":
        return ""
    name, _ = _vector(names, 1, 2)
    if len(name) > HOST_LENGTH_MAX or not name.isascii():
        return ""
    return canonical_host(name.decode("ascii"))


def _vector(body: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Parse a length-prefixed vector; return it and its end. Raises NotTls if it extends beyond the body."""
    begin = at + width
    end = begin + int.from_bytes(body[at:begin], "big")
    if begin > len(body) or end > len(body):
        raise NotTls("cut short")
    return body[begin:end], end
