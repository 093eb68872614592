"""Hosts as proxies parse them: user information, percent-encoding, every spelling of an IPv4 address.

Sources: RFC 3986 sections 2.1 and 3.2, inet_aton(3): an IPv4 address is one to four numbers, decimal, octal (prefix `0`) or
hexadecimal (prefix `0x`); the last number fills the remaining bytes. Most proxies parse addresses this way, as getaddrinfo(3)
does. A host that proxies parse in two ways, such as `203.0.113.010`, yields no host.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from urllib.parse import unquote

from schemas.address import HOST_LENGTH_MAX, canonical_host, is_ip, split_authority

Authority = tuple[str, int]
"""Normalised host (`schemas.address`) and port."""

AUTHORITY_CHARS_MAX = 2 * HOST_LENGTH_MAX
"""Maximum length; a longer authority is not parsed."""
AUTHORITIES_MAX = 8
"""Maximum number of parts of an ambiguous target that are parsed as hosts. Further parts are ignored."""
PORTS = 65_536
_ADDRESS_NUMBERS_MAX = 4
_DELIMITERS = frozenset('/\\?#%@:[] "<>|;,')
"""Delimiters of RFC 3986 and other characters that never occur in a host."""
_AROUND = frozenset("/\\?# ")
_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+")
_PARTS = re.compile(r'[^\x00-\x20\x7f@/?#\\;,|"<>]+')
_PORT = re.compile(r"\+?([0-9]{1,9})")


def authority_of(text: str, default_port: int) -> Authority:
    """Return host and port of an authority, ignoring user information; ("", 0) if proxies parse it differently."""
    return _authority_of(text, default_port) if len(text) <= AUTHORITY_CHARS_MAX else ("", 0)


def host_of(name: str) -> str:
    """Return the normalised host for a name or IPv4 address without port; "" if servers parse it differently."""
    readings = () if "%" in name else _readings(name)
    return canonical_host(readings[0]) if len(readings) == 1 else ""


def authorities_in(text: str, default_port: int) -> tuple[Authority, ...]:
    """Return each host and port that a proxy may find in an ambiguous authority, from at most `AUTHORITIES_MAX` parts."""
    found: dict[Authority, None] = {}
    for part in _PARTS.findall(text[:AUTHORITY_CHARS_MAX])[:AUTHORITIES_MAX]:
        if part.startswith("["):
            found[_authority_of(part, default_port)] = None
            continue
        name, _, port_text = part.partition(":")
        digits = _PORT.match(port_text)
        # Some proxies truncate a port to 16 bits and use the default port for 0.
        port = int(digits[1]) % PORTS if digits else 0
        for reading in _readings(name):
            found[canonical_host(reading), port or default_port] = None
    return tuple(one for one in found if one[0])


@lru_cache(maxsize=16_384)
def _authority_of(text: str, default_port: int) -> Authority:
    if not text.isprintable() or text.count("@") > 1 or not _AROUND.isdisjoint(text):
        return "", 0
    place = text.rpartition("@")[2]
    if place.startswith("["):
        inside, closing, behind = place[1:].partition("]")
        if ":" in inside:
            return split_authority(place, default_port)
        if not closing or behind[:1] not in ("", ":"):
            return "", 0
        place = inside + behind
    name, colon, port_text = place.partition(":")
    readings = _readings(name)
    return split_authority(f"{readings[0]}{colon}{port_text}", default_port) if len(readings) == 1 else ("", 0)


def _readings(name: str) -> tuple[str, ...]:
    """Return proxies' readings of a host: usually the name, or the canonical IPv4 address; several if proxies differ."""
    if "%" in name:
        try:
            name = unquote(name, errors="strict")
        except UnicodeDecodeError:
            return ()
        if not name.isprintable() or not _DELIMITERS.isdisjoint(name):
            return ()
    if not name[:1].isdigit():
        return (name,)
    numbers = name.rstrip(".").lower().split(".")
    if len(numbers) > _ADDRESS_NUMBERS_MAX or not all(map(_NUMBER.fullmatch, numbers)):
        return (name,)
    try:
        found = [socket.inet_ntoa(socket.inet_aton(".".join(numbers)))]
    except OSError:
        found = []
    if len(numbers) == _ADDRESS_NUMBERS_MAX and all(map(str.isdecimal, numbers)):
        # Some proxies parse decimal numbers only.
        decimal = ".".join(str(int(number)) for number in numbers)
        found += [decimal] if is_ip(decimal) and decimal not in found else []
    return tuple(found)
