"""Indicators: what a security team says of destinations, in the one form in which workers match them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from schemas.events import Micros


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
