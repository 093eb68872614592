"""Normalisation of indicators' values to the form that is compared with requests. Unusable values are refused with a reason.

Domain     lower case, punycode (UTS 46, as browsers do), no trailing dot; a leading `*.` or `.` is removed, as names
           below a domain match anyway
Address    RFC 5952; IPv4-mapped IPv6 becomes IPv4; a network of one address becomes that address
URL        scheme and host in lower case; the scheme's default port and the fragment are removed; the path is unchanged
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import quote

import idna
from publicsuffixlist import PublicSuffixList

from schemas.address import HOST_LENGTH_MAX, canonical_ip, unmapped_network
from schemas.indicators import DEFAULT_PORTS, IndicatorType, url_parts

VALUE_CHARS_MAX = 4_096
LABEL_CHARS_MAX = 63
V4_BITS_MIN, V6_BITS_MIN = 8, 16
"""Shortest accepted prefix of a network, in bits: a wider network is regarded as a mistake."""

_ICANN = PublicSuffixList(only_icann=True)
_ALL = PublicSuffixList()
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NUMBERS = re.compile(r"[0-9.]+|0x[0-9a-f.x]+")
_PORT = re.compile(r"[0-9]{1,5}")
_PATH_SAFE = "".join(chr(code) for code in range(0x21, 0x7F))
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f]")


class Why(StrEnum):
    """Reasons for which an indicator is refused: a closed set, because they are counted."""

    NOT_NETWORK = "not a network indicator"
    MALFORMED = "not a domain, address or URL"
    PUBLIC_SUFFIX = "public suffix"
    TOO_WIDE = "too wide"
    HOST_BITS = "address inside a network"
    EXPIRED = "expired"
    BAD_FIELD = "field has an invalid value"
    REVOKED = "revoked"
    NOT_FOR_DETECTION = "not for detection"
    SOURCE = "source, not destination"
    COMBINED = "combination"
    UNSUPPORTED = "not supported"
    THIS_MACHINE = "this machine"
    UNREADABLE = "cannot be read"


class Unfit(ValueError):
    """The error that a value cannot be an indicator, with the reason."""

    def __init__(self, why: Why, detail: str = "") -> None:
        super().__init__(detail or why.value)
        self.why, self.detail = why, detail


class Normal(NamedTuple):
    """A normalised value with its type."""

    type: IndicatorType
    value: str
    port: int = 0
    """The port that is written after a name or an address; 0 if there is none."""


def normal(text: str, kind: IndicatorType | None = None, *, exact: bool = False) -> Normal:
    """Return the normalised value, of this type or of the detected one. Raises Unfit.

    An IP address is always of an address type, even if `kind` is `domain`. `exact` means that names below the domain do not
    match.
    """
    text = text.strip()
    if not text or len(text) > VALUE_CHARS_MAX or _UNSEEN.search(text):
        raise Unfit(Why.MALFORMED)
    address = _address(text)
    if address is not None:
        if kind is IndicatorType.URL:
            raise Unfit(Why.MALFORMED, "an address is no URL; write http:// or https:// before it")
        return address
    if kind in (IndicatorType.IP, IndicatorType.CIDR):
        raise Unfit(Why.MALFORMED, "not an address or network")
    if kind is IndicatorType.URL or (kind is None and ("/" in text or "?" in text)):
        return Normal(IndicatorType.URL, _url(text))
    if "/" in text:
        raise Unfit(Why.MALFORMED, "a domain has no path; use the type url")
    name, port = _with_port(text)
    return Normal(IndicatorType.DOMAIN, _domain(name, exact=exact), port)


def host_name(text: str) -> str:
    """Return a host name in the form in which requests contain it: lower case and punycode. Raises Unfit."""
    host = text.removesuffix(".")
    if not host.isascii():
        try:
            host = idna.uts46_remap(host, std3_rules=False, transitional=False)
            host = ".".join(label if label.isascii() else f"xn--{_punycode(label)}" for label in host.split("."))
        except (idna.IDNAError, UnicodeError):
            raise Unfit(Why.MALFORMED) from None
        host = host.removesuffix(".")
    host = host.lower()
    if len(host) > HOST_LENGTH_MAX or not _HOST.fullmatch(host) or _NUMBERS.fullmatch(host):
        raise Unfit(Why.MALFORMED)
    labels = host.split(".")
    if max(map(len, labels)) > LABEL_CHARS_MAX or labels[-1].isdigit():
        raise Unfit(Why.MALFORMED)
    return host


def is_public_suffix(host: str) -> bool:
    """Return whether a name is a registry's public suffix, such as co.uk. A suffix of a company (github.io) is none."""
    return _ICANN.publicsuffix(host, accept_unknown=False) == host


def _domain(text: str, *, exact: bool) -> str:
    if exact and text.startswith(("*", ".")):
        raise Unfit(
            Why.BAD_FIELD,
            "a leading * or . includes the names below; exact excludes them: remove one",
        )
    host = host_name(text.removeprefix("*").removeprefix("."))
    if is_public_suffix(host):
        raise Unfit(Why.PUBLIC_SUFFIX, f"everything below {host} would match")
    if not exact:
        if _ALL.publicsuffix(host, accept_unknown=False) == host:
            raise Unfit(
                Why.PUBLIC_SUFFIX, f"names below {host} belong to other owners; only the exact name is accepted"
            )
        if "." not in host:
            raise Unfit(Why.PUBLIC_SUFFIX, f"everything below {host} would match; only the exact name is accepted")
    return host


def _address(text: str) -> Normal | None:
    """Return the IP address, with its port if one is written, or the network; None for any other text."""
    if "/" in text:
        return _network(text)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return _only_address(bare, 0)
    except ValueError as error:
        if isinstance(error, Unfit):
            raise
    name, _, digits = text.rpartition(":")
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not name or not _PORT.fullmatch(digits):
        return None
    try:
        ip_address(name)
    except ValueError:
        return None
    return _only_address(name, _port(digits))


def _only_address(text: str, port: int) -> Normal:
    address = canonical_ip(text)
    if ip_address(address).is_unspecified:
        raise Unfit(Why.THIS_MACHINE, f"{address} is no destination")
    return Normal(IndicatorType.IP, address, port)


def _network(text: str) -> Normal | None:
    address, _, bits = text.partition("/")
    try:
        ip_address(address)
    except ValueError:
        return None
    if not bits.isascii() or not bits.isdigit():
        # Not a prefix length but a path: the text is a URL without `http://`.
        return None
    try:
        network = ip_network(text)
    except ValueError:
        try:
            wider = ip_network(text, strict=False)
        except ValueError:
            raise Unfit(Why.MALFORMED, "the network's length is out of range") from None
        raise Unfit(Why.HOST_BITS, f"write {wider} for the network, {address} for the address") from None
    network = unmapped_network(network)
    if network.prefixlen < (V4_BITS_MIN if network.version == 4 else V6_BITS_MIN):
        raise Unfit(Why.TOO_WIDE, f"at least /{V4_BITS_MIN} for IPv4, /{V6_BITS_MIN} for IPv6")
    if network.prefixlen == network.max_prefixlen:
        return _only_address(str(network.network_address), 0)
    return Normal(IndicatorType.CIDR, str(network))


def _url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme.lower() not in DEFAULT_PORTS:
        raise Unfit(Why.MALFORMED, f'"{scheme[:20]}" is not http or https')
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority = rest[:end]
    if "\\" in authority:
        raise Unfit(Why.MALFORMED, "programs disagree whether a backslash before the path belongs to the host")
    if "@" in authority:
        raise Unfit(Why.MALFORMED, "a request never contains a user name before the host; remove it")
    path = quote(rest[end:].partition("#")[0], safe=_PATH_SAFE)
    parts = url_parts(f"{scheme.lower()}{separator}{_authority(authority)}{path}")
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    port = f":{parts.port}" if parts.port and parts.port != DEFAULT_PORTS.get(parts.scheme) else ""
    return f"{parts.scheme}{separator}{host}{port}{parts.path}"


def _authority(text: str) -> str:
    """Normalise the host of a URL's authority; return `host:port`, or the host if no port is written."""
    if text.startswith("["):
        name, closing, rest = text[1:].partition("]")
        if not closing or (rest and rest[0] != ":"):
            raise Unfit(Why.MALFORMED)
        port = _port(rest[1:]) if rest[1:] else 0
    else:
        name, port = _with_port(text)
    try:
        host = canonical_ip(name)
    except ValueError:
        host = host_name(name)
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def _with_port(text: str) -> tuple[str, int]:
    name, colon, digits = text.partition(":")
    return (name, _port(digits)) if colon else (text, 0)


def _port(digits: str) -> int:
    if not _PORT.fullmatch(digits) or not 0 < int(digits) < 65_536:
        raise Unfit(Why.MALFORMED, f'"{digits[:20]}" is not a port')
    return int(digits)


def _punycode(label: str) -> str:
    return label.encode("punycode").decode("ascii")
