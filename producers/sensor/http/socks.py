"""Requests of clients to SOCKS servers: pure, bounded, and safe against any bytes.

Sources: RFC 1928 (version 5), RFC 1929 (user name and password), the protocol notes "SOCKS: A protocol for TCP proxy across
firewalls" (version 4) and "SOCKS 4A". The target is in clear text unless GSSAPI (RFC 1961) encrypts it. User names and passwords
are skipped and never returned.
"""

from __future__ import annotations

from typing import NamedTuple

from producers.sensor.http.hosts import host_of
from producers.sensor.kernel.trace_ring import spelled

VERSIONS = frozenset({4, 5})
"""Possible first bytes of a connection to a SOCKS server."""
REQUEST_BYTES_MAX = 1_032
"""Total of the longest greeting (257), user name with password (513) and request (262)."""
REPLY_BYTES_MAX = 262
_CONNECT, _BIND = 1, 2
_NO_LOGIN, _GSSAPI, _PASSWORD = 0, 1, 2
_V4, _NAME, _V6 = 1, 3, 4
_ADDRESS_BYTES = {_V4: 4, _V6: 16}
_TEXT_BYTES_MAX = 255
_V4_HEAD_BYTES, _V5_HEAD_BYTES, _PORT_BYTES = 8, 4, 2
_V4_GRANTED, _V4_REPLIES = 90, range(90, 94)


class Socks(NamedTuple):
    """A parsed SOCKS request."""

    version: int
    host: str
    """Normalised host; "" if there is no usable target: the command is not CONNECT, or the login method hides the target."""
    port: int
    length: int
    """Bytes from the start of the connection to the end of the request."""


class NotSocks(ValueError):
    """The bytes are no SOCKS request."""


def socks_of(stream: bytes | bytearray) -> Socks | None:
    """Parse a client's bytes from the start of its connection. Raises NotSocks if they are no SOCKS request.

    Return None while the request is incomplete, which is only possible for less than `REQUEST_BYTES_MAX` bytes.
    """
    if stream[:1] == b"\x04":
        return _version_4(stream)
    if stream[:1] == b"\x05":
        return _version_5(stream)
    raise NotSocks("no version of SOCKS")


def is_greeted(stream: bytes | bytearray) -> bool:
    """Return whether the bytes begin with a complete greeting of version 5."""
    return len(stream) > 2 and stream[0] == 5 and 0 < stream[1] <= len(stream) - 2


def asks_socks(payload: bytes) -> bool:
    """Return whether a client's first bytes are exactly a SOCKS greeting or request."""
    try:
        asked = socks_of(payload)
    except NotSocks:
        return False
    return _is_greeting(payload) if asked is None else asked.host != "" and asked.length == len(payload)


def is_granted(reply: bytes, version: int) -> bool | None:
    """Return whether the server's reply grants the request; None if the bytes are no such reply."""
    if version == 4:
        return reply[1] == _V4_GRANTED if len(reply) >= 8 and reply[0] == 0 and reply[1] in _V4_REPLIES else None
    is_reply = len(reply) >= 7 and reply[0] == 5 and reply[2] == 0 and reply[3] in (_V4, _NAME, _V6)
    return reply[1] == 0 if is_reply else None


def _is_greeting(stream: bytes | bytearray) -> bool:
    """Return whether the bytes are exactly a greeting of version 5 that offers a method in use."""
    offered = stream[2:]
    return (
        stream[:1] == b"\x05"
        and len(stream) > 2
        and len(offered) == stream[1] == len(set(offered))
        and not {_NO_LOGIN, _GSSAPI, _PASSWORD}.isdisjoint(offered)
    )


def _version_4(stream: bytes | bytearray) -> Socks | None:
    if len(stream) > 1 and stream[1] not in (_CONNECT, _BIND):
        raise NotSocks("no command of version 4")
    if len(stream) <= _V4_HEAD_BYTES:
        return None
    _, end = _until_zero(stream, _V4_HEAD_BYTES)
    if not end:
        return None
    address = bytes(stream[4:8])
    if address[:3] == bytes(3) and address[3]:
        name, end = _until_zero(stream, end)
        if not end:
            return None
        host = _host(name)
    else:
        host = spelled(address)
    return _asked(4, stream[1], host, stream[2:4], end)


def _until_zero(stream: bytes | bytearray, begin: int) -> tuple[bytes, int]:
    """Parse the zero-terminated text at `begin`; return the text and the offset after its terminator.

    Return `(b"", 0)` while the terminator is missing. Raises NotSocks if the text is longer than `_TEXT_BYTES_MAX` bytes.
    """
    end = stream.find(0, begin, begin + _TEXT_BYTES_MAX + 1)
    if end < 0:
        if len(stream) > begin + _TEXT_BYTES_MAX:
            raise NotSocks("too long")
        return b"", 0
    return bytes(stream[begin:end]), end + 1


def _version_5(stream: bytes | bytearray) -> Socks | None:
    if len(stream) > 1 and not stream[1]:
        raise NotSocks("no method is offered")
    if not is_greeted(stream):
        return None
    at = 2 + stream[1]
    offered = stream[2:at]
    if stream[at : at + 1] == b"\x01":
        # A GSSAPI token and a login with a one-letter user name begin with the same two bytes.
        if len(stream) >= at + 2 and (_PASSWORD not in offered or (_GSSAPI in offered and stream[at + 1] == 1)):
            return Socks(5, "", 0, len(stream))
        at = _login_end(stream, at)
    if len(stream) > at and stream[at] != 5:
        raise NotSocks("no request of version 5")
    if len(stream) < at + _V5_HEAD_BYTES + 1:
        return None
    _, command, _, kind = stream[at : at + _V5_HEAD_BYTES]
    begin = at + _V5_HEAD_BYTES + (kind == _NAME)
    length = stream[begin - 1] if kind == _NAME else _ADDRESS_BYTES.get(kind, 0)
    if not length:
        return Socks(5, "", 0, len(stream))
    end = begin + length + _PORT_BYTES
    if len(stream) < end:
        return None
    target = bytes(stream[begin : begin + length])
    host = _host(target) if kind == _NAME else spelled(target)
    return _asked(5, command, host, stream[end - _PORT_BYTES : end], end)


def _login_end(stream: bytes | bytearray, at: int) -> int:
    """Return the offset of the end of a login (RFC 1929); the length of the stream while the login is incomplete."""
    if len(stream) < at + 2:
        return len(stream)
    password_at = at + 2 + stream[at + 1]
    return password_at + 1 + stream[password_at] if len(stream) > password_at else len(stream)


def _asked(version: int, command: int, host: str, port: bytes | bytearray, length: int) -> Socks:
    number = int.from_bytes(port, "big")
    is_usable = command == _CONNECT and host and number
    return Socks(version, host, number, length) if is_usable else Socks(version, "", 0, length)


def _host(name: bytes) -> str:
    """Normalise a name; "" if servers may parse it in several ways, for example with a zero byte inside."""
    return host_of(name.decode("ascii")) if all(0x20 < byte < 0x7F for byte in name) else ""
