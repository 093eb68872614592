"""Indicators: a security team's decisions about destinations, in the normalised form that workers compare with requests."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, NamedTuple

import msgspec

from schemas.address import split_authority
from schemas.columns import micros, text, texts
from schemas.events import Micros

DEFAULT_PORTS = {"http": 80, "https": 443}
ID_BYTES = 12


class IndicatorType(StrEnum):
    """Type of an indicator's value."""

    DOMAIN = "domain"
    URL = "url"
    IP = "ip"
    CIDR = "cidr"


class IndicatorAction(StrEnum):
    """Action on a matching request. If several indicators match, the order of precedence is allow, warn, block, audit."""

    ALLOW = "allow"
    WARN = "warn"
    BLOCK = "block"
    AUDIT = "audit"


class Severity(StrEnum):
    """Severity of an alert, in Defender's words."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Indicator(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An indicator, normalised: what happens to requests to a destination. Message on the topic `indicators`, key `i:` and id."""

    id: Annotated[
        str, text("Made from type, value, port, process and groups, so an indicator published again replaces itself")
    ]
    type: Annotated[IndicatorType, text("What the value is: domain, url, ip or cidr")]
    value: Annotated[
        str,
        text(
            "Domain in lower case, punycode, without trailing dot; the host of a URL likewise; address in canonical form"
        ),
    ]
    action: Annotated[IndicatorAction, text("What happens to a matching request: allow, warn, block or audit")]
    subdomains: Annotated[bool, text("Names below a domain match as well")] = True
    port: Annotated[int, text("The only destination port that matches; 0 for all")] = 0
    process: Annotated[
        str, text("The only process that matches: file name or whole path, in lower case; empty for all")
    ] = ""
    title: Annotated[str, text("Title of its alerts")] = ""
    severity: Annotated[Severity, text("Severity of its alerts: informational, low, medium or high")] = Severity.MEDIUM
    category: Annotated[str, text("Category of its alerts")] = ""
    recommended: Annotated[str, text("What a responder should do")] = ""
    expires: Annotated[Micros, micros("Time from which it has no effect; left out for never")] = 0
    groups: Annotated[tuple[str, ...], texts("The only device groups that match; empty for all devices")] = ()


class UrlParts(NamedTuple):
    """Components of a URL prefix."""

    scheme: str
    """`http` or `https`; "" matches any scheme."""
    host: str
    port: int
    """Port, by default that of the scheme; 0 matches any port."""
    path: str
    """Path and query; "" matches the whole site."""


def indicator_id(type_: IndicatorType, value: str, port: int, process: str, groups: Sequence[str]) -> str:
    """Return the id: 12 bytes of BLAKE2b in hexadecimal, computed from type, value, port, process and groups."""
    whole = "\0".join((type_, value, str(port), process, *sorted(groups)))
    return blake2b(whole.encode(), digest_size=ID_BYTES).hexdigest()


def url_parts(value: str) -> UrlParts:
    """Split a URL prefix, `[http[s]://]host[:port][/path][?query]`. Raises ValueError if it has another scheme or no host."""
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "", value
    scheme = scheme.lower()
    if scheme and scheme not in DEFAULT_PORTS:
        raise ValueError(f'"{scheme}" is not http or https')
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    # 65,536 stands for any port: a URL without scheme and port.
    host, port = split_authority(rest[:end], DEFAULT_PORTS.get(scheme, 65_536))
    if not host:
        raise ValueError("it names no host")
    return UrlParts(scheme, host, 0 if port == 65_536 else port, _path(rest[end:]))


def _path(text: str) -> str:
    """Return path and query in the form that is compared: without a trailing slash of the path and without a fragment."""
    path, mark, query = text.partition("#")[0].partition("?")
    return f"{path or '/'}?{query}" if mark else path.rstrip("/")
