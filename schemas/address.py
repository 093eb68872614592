"""Addresses and host names in canonical form, so that equal ones compare equal.

IPv6 is shortened (RFC 5952), IPv4-mapped IPv6 is IPv4 (RFC 4291 section 2.5.5.2), host names are lower case ASCII
(IDNA 2003, RFC 3490) without trailing dot or brackets.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache, lru_cache
from ipaddress import IPv4Network, IPv6Network

from publicsuffixlist import PublicSuffixList

_DOCUMENTATION = tuple(
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
)
MAPPED_BITS = 96
HOST_LENGTH_MAX = 253  # RFC 1035 section 2.3.4, as text
REMEMBERED_LENGTH_MAX = 512
"""Longest authority whose result is cached. Longer ones, which may have a million characters, would fill the memory."""
COUNTRY_CODE_LENGTH = 2
"""Length of a country's top-level domain in ASCII (ISO 3166-1 alpha-2, RFC 1591)."""
_INSIDE = frozenset(("local", "internal", "intranet", "private", "corp", "home", "lan"))
"""Top-level names that lead nowhere outside a network: mDNS (RFC 6762 section 3), ICANN's reserved `internal`, and the
other names that private networks use (RFC 6762 appendix G)."""
_AFTER_AUTHORITY = re.compile(r"[/?#]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,19}://")


@lru_cache(maxsize=65_536)
def canonical_ip(text: str) -> str:
    """Return an IP address in canonical form. Raises ValueError on anything else."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def unmapped_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return the IPv4 network that an IPv4-mapped IPv6 network stands for (RFC 4291); any other as it is."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    is_whole = mapped is not None and network.prefixlen >= MAPPED_BITS
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - MAPPED_BITS}") if is_whole else network


@lru_cache(maxsize=65_536)
def canonical_host(text: str) -> str:
    """Return a host name or address literal in canonical form; "" if it cannot be a host."""
    host = text.strip().strip("[]").rstrip(".").lower()
    if not host or len(host) > HOST_LENGTH_MAX:
        return ""
    if ":" in host or host.replace(".", "").isdigit():
        try:
            return canonical_ip(host)
        except ValueError:
            return ""
    if not host.isascii():
        try:
            return canonical_host(host.encode("idna").decode("ascii"))
        except UnicodeError:
            return ""
    if len(host) > HOST_LENGTH_MAX or not all(char.isalnum() or char in "-._" for char in host):
        return ""
    return host


def split_authority(text: str, default_port: int) -> tuple[str, int]:
    """Return host and port of `host[:port]`; ("", 0) if there is no usable host.

    `default_port` 0 means that the port must be written, as in a CONNECT request (RFC 9110 section 9.3.6).
    Userinfo is not accepted: neither a CONNECT target (RFC 9112 section 3.2.3) nor a Host field (RFC 9110 section 7.2)
    has it. Of `a.example:443@b.example:443` some proxies connect to the first host and some to the second. Only a URL
    has userinfo; `without_userinfo` removes it from the URL's authority.
    """
    return _remembered(text, default_port) if len(text) <= REMEMBERED_LENGTH_MAX else _split(text, default_port)


def without_userinfo(authority: str) -> str:
    """Return a URL's authority without its userinfo, which ends at the last `@` (RFC 3986 section 3.2.1)."""
    return authority.rpartition("@")[2]


def authority(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_url(text: str) -> tuple[str, int]:
    """Return host and port of a URL, a host name or an address; port 0 if none is written, host "" if there is none.

    Only a text with a scheme may have userinfo (`split_authority` has the reason).
    """
    return _remembered_url(text) if len(text) <= REMEMBERED_LENGTH_MAX else _split_url(text)


def _split_url(text: str) -> tuple[str, int]:
    scheme = _SCHEME.match(text)  # the scheme must be at the beginning: the query may contain another URL
    authority = _AFTER_AUTHORITY.split(text[scheme.end() :] if scheme else text, maxsplit=1)[0]
    if scheme:
        authority = without_userinfo(authority)
    host, port = split_authority(authority, 0)
    return (host, port) if host else (canonical_host(authority[:REMEMBERED_LENGTH_MAX]), 0)


def _split(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        port_text = rest[1:]
        if not closing or (rest and rest[0] != ":"):
            return "", 0
    else:
        host, _, port_text = text.partition(":")
    host = canonical_host(host) if len(host) <= REMEMBERED_LENGTH_MAX else ""
    if not host:
        return "", 0
    if not port_text:
        return (host, default_port) if default_port else ("", 0)
    digits = port_text.lstrip("0")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) < 65_536):
        return "", 0
    return host, int(digits)


_remembered = lru_cache(maxsize=65_536)(_split)
_remembered_url = lru_cache(maxsize=16_384)(_split_url)


@lru_cache(maxsize=65_536)
def registrable_domain(host: str) -> str:
    """Return the registrable domain of a host (public suffix plus one label); an IP address is returned unchanged."""
    if is_ip(host):
        return host
    return str(_suffixes().privatesuffix(host) or host)


@cache
def _suffixes() -> PublicSuffixList:
    """Return the list, read at first use, because most commands need none and reading takes longer than other imports."""
    return PublicSuffixList()


@lru_cache(maxsize=65_536)
def is_ip(text: str) -> bool:
    """Return whether this is an address literal."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=65_536)
def ip_type(ip: str) -> str:
    """Return `Public`, `Private`, `Loopback`, `LinkLocal`, `Multicast` or `Reserved`; "" for an empty `ip`.

    Addresses reserved for documentation (RFC 5737, RFC 3849, RFC 9637) count as public: examples use them for public addresses.
    """
    if not ip:
        return ""
    address = ipaddress.ip_address(ip)
    if any(address.version == net.version and address in net for net in _DOCUMENTATION):
        return "Public"
    if address.is_loopback:
        return "Loopback"
    if address.is_link_local:
        return "LinkLocal"
    if address.is_multicast:
        return "Multicast"
    if address.is_global:
        return "Public"
    if address.is_reserved or address.is_unspecified:
        return "Reserved"
    return "Private" if address.is_private else "Reserved"


@lru_cache(maxsize=65_536)
def host_type(host: str) -> str:
    """Return the type of a destination by its name: Loopback, Private or Public; of an address literal that of the address.

    `localhost` is Loopback (RFC 6761 section 6.3). Names that only a private network can resolve are Private: those below
    `home.arpa` (RFC 8375), those below `_INSIDE`, and those without a dot. All others are Public, and so are names without a
    dot that may lead outside: one that begins with a digit may be an address as one number (`134744072` is 8.8.8.8 for
    inet_aton), and one of two letters or with `xn--` may be a country's top-level domain, which may have an address.
    """
    if is_ip(host):
        return ip_type(host)
    before, _, top = host.rpartition(".")
    if top == "localhost":
        return "Loopback"
    if top in _INSIDE or host == "home.arpa" or host.endswith(".home.arpa"):
        return "Private"
    may_lead_outside = before or len(host) <= COUNTRY_CODE_LENGTH or host[0].isdigit() or host.startswith("xn--")
    return "Public" if may_lead_outside else "Private"
