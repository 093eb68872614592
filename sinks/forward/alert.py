"""An alert as the forwarder reads it: the fields that decide whether it is sent, and the fields of a CEF line. Pure.

Parsing is lenient: missing fields are empty, and unknown kinds and severities of a newer worker are accepted.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.events import Reason, Reject
from schemas.indicators import Severity
from schemas.settings import ForwardSettings

SEVERITIES = tuple(Severity)
"""Severities in ascending order."""

Id = Annotated[str, Meta(pattern="^[!-~]{1,128}$")]
"""Restricted to visible ASCII because it becomes an HTTP header."""


class ForwardedAlert(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The fields of `schemas.tables.Alert` that the forwarder uses."""

    AlertId: Id
    Version: Annotated[int, Meta(ge=0)]
    Kind: str = ""
    Severity: str = ""
    DeviceId: str = ""
    DeviceName: str = ""
    DestinationDomain: str = ""
    DestinationHosts: list[str] = []
    DestinationPort: int | None = None
    Count: int = 1
    FirstTime: str = ""
    LastTime: str = ""
    Outcome: str = ""
    ProtectionMode: str = ""
    InitiatingProcessFileName: str = ""
    InitiatingProcessId: int | None = None
    InitiatingProcessFolderPath: str = ""
    InitiatingProcessCommandLine: str = ""
    InitiatingProcessSHA256: str = ""
    InitiatingProcessAccountName: str = ""
    ProxyIP: str = ""
    ProxyPort: int | None = None
    ProxyName: str = ""
    Title: str = ""
    Category: str = ""
    IndicatorAction: str = ""
    IndicatorValue: str = ""
    RecommendedAction: str = ""
    Techniques: list[str] = []
    SuppressedBy: str = ""
    Query: str = ""


class Skip(StrEnum):
    """Reason why an alert is not sent; it is the label of a metric."""

    SUPPRESSED = "suppressed"
    SEVERITY = "severity"
    KIND = "kind"
    SUPERSEDED = "superseded"
    """The same or a newer version of the alert waits or is being sent already."""


_decoder = msgspec.json.Decoder(ForwardedAlert)


def read(raw: bytes) -> ForwardedAlert | Reject:
    """Parse one message of block-alerts; return a Reject if it is no alert."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Reject(Reason.NOT_DELIVERABLE, f"not an alert: {error}", raw)


def why_not(alert: ForwardedAlert, settings: ForwardSettings) -> Skip | None:
    """Return why the alert is not sent; None if it is sent. An unknown severity passes the filter."""
    if alert.SuppressedBy:
        return Skip.SUPPRESSED
    if settings.kinds and alert.Kind not in settings.kinds:
        return Skip.KIND
    if alert.Severity in SEVERITIES and SEVERITIES.index(Severity(alert.Severity)) < SEVERITIES.index(
        Severity(settings.severity_min)
    ):
        return Skip.SEVERITY
    return None
