"""Indicators: what a security team says of destinations, in the one form in which workers match them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from schemas.address import split_authority
from schemas.events import Micros

DEFAULT_PORTS = {"http": 80, "https": 443}
ID_BYTES = 12


class IndicatorType(StrEnum):
    """What an indicator's value is."""

    DOMAIN = "domain"
    URL = "url"
    IP = "ip"
    CIDR = "cidr"


class IndicatorAction(StrEnum):
    """What should happen to a matching request. Of several matching indicators allow wins, then warn, block, audit."""

    ALLOW = "allow"
    WARN = "warn"
    BLOCK = "block"
    AUDIT = "audit"


class Severity(StrEnum):
    """How bad it is, in Defender's words."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Indicator(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One indicator, normalised: a message on the topic `indicators`, key = id."""

    id: str
    """Made from type, value, port, process and groups: the same indicator given twice is one."""
    type: IndicatorType
    value: str
    """A domain in lower case, punycode, without trailing dot; of a URL prefix the host likewise; IP and CIDR canonical."""
    action: IndicatorAction
    subdomains: bool = True
    """Of a domain: names below it match, too."""
    port: int = 0
    """Only this port; 0 for all."""
    process: str = ""
    """Only requests of this process: file name, or whole path, lower case; "" for all."""
    title: str = ""
    severity: Severity = Severity.MEDIUM
    category: str = ""
    recommended: str = ""
    """What a responder should do."""
    expires: Micros = 0
    """From this time on it does nothing; 0 for never."""
    groups: tuple[str, ...] = ()
    """Only devices of one of these groups; empty for all."""


class UrlParts(NamedTuple):
    """What a URL prefix says."""

    scheme: str
    """"" where none was given: any."""
    host: str
    port: int
    """The scheme's own where none is written; 0 for any."""
    path: str
    """Path and query; "" for all of the site."""


def indicator_id(type_: IndicatorType, value: str, port: int, process: str, groups: Sequence[str]) -> str:
    """The same indicator given twice has the same id."""
    whole = "\0".join((type_, value, str(port), process, *sorted(groups)))
    return blake2b(whole.encode(), digest_size=ID_BYTES).hexdigest()


def url_parts(value: str) -> UrlParts:
    """Of a URL prefix, `[http[s]://]host[:port][/path][?query]`. Raises ValueError without scheme of ours or host."""
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "", value
    scheme = scheme.lower()
    if scheme and scheme not in DEFAULT_PORTS:
        raise ValueError(f'"{scheme}" is not http or https')
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    # Without scheme and port any port will do, which no port number says.
    host, port = split_authority(rest[:end], DEFAULT_PORTS.get(scheme, 65_536))
    if not host:
        raise ValueError("it names no host")
    return UrlParts(scheme, host, 0 if port == 65_536 else port, _path(rest[end:]))


def _path(text: str) -> str:
    """Path and query as they are compared: a trailing slash of the path makes no difference, nor does a fragment."""
    path, mark, query = text.partition("#")[0].partition("?")
    return f"{path or '/'}?{query}" if mark else path.rstrip("/")
