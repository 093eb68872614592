"""The rows hunters see. These classes are the one place: table, JSON Schema and reference page are made from them.

A column's type, meaning and place in the table stand in its annotation. Columns without a default are on every row of
the topic; one with a default is left out where it is empty, which ClickHouse's JSONEachRow and JSON Schema read the
same way.
`DeviceNetworkEvents` has the 46 columns of Microsoft Defender's advanced-hunting table of that name
(learn.microsoft.com/defender-xdr/advanced-hunting-devicenetworkevents-table), then ours.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.events import ModeEvidence, ProtectionMode
from schemas.indicators import Severity


def _text(about: str) -> Meta:
    return Meta(description=about, extra={"clickhouse": "String"})


def _word(about: str) -> Meta:
    return Meta(description=about, extra={"clickhouse": "String"})


def _time(about: str) -> Meta:
    return Meta(
        description=f"{about} (UTC, microseconds)",
        extra_json_schema={"format": "date-time"},
        extra={"clickhouse": "DateTime64(6, 'UTC')"},
    )


def _maybe_time(about: str) -> Meta:
    return Meta(
        description=f"{about} (UTC, microseconds)",
        extra_json_schema={"format": "date-time"},
        extra={"clickhouse": "Nullable(DateTime64(6, 'UTC'))"},
    )


def _number(about: str, kind: str) -> Meta:
    return Meta(description=about, extra={"clickhouse": kind})


def _earliest(about: str) -> Meta:
    return _merged_time(about, "min")


def _latest(about: str) -> Meta:
    return _merged_time(about, "max")


def _merged_time(about: str, function: str) -> Meta:
    """A time of which the table keeps the extreme one, whatever rows came and how often."""
    return Meta(
        description=f"{about} (UTC, microseconds)",
        extra_json_schema={"format": "date-time"},
        extra={"clickhouse": f"SimpleAggregateFunction({function}, DateTime64(6, 'UTC'))"},
    )


class Layer(StrEnum):
    """Two kinds of rows in one table."""

    CONNECTION = "connection"
    DESTINATION = "destination"


class Outcome(StrEnum):
    """What became of it."""

    ALLOWED = "allowed"
    AUDITED = "audited"
    WARNED = "warned"
    BYPASSED = "bypassed"
    BLOCKED = "blocked"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ResolvedBy(StrEnum):
    """The evidence that named the destination, best first."""

    SOCKS = "socks"
    CONNECT = "connect"
    ABSOLUTE_URI = "absolute_uri"
    VERDICT = "verdict"
    HOST_HEADER = "host_header"
    SNI = "sni"
    PROXY_LOG = "proxy_log"
    PROCESS_TIME = "process_time"
    DIRECT = "direct"
    NONE = ""


class Confidence(StrEnum):
    """How sure a destination is."""

    EXACT = "exact"
    STRONG = "strong"
    INFERRED = "inferred"
    NONE = ""


class UnresolvedReason(StrEnum):
    """Why a connection to a proxy has no destination."""

    PROTECTION_OFF = "protection_off"
    NO_HTTP_EVENT = "no_http_event"
    ENCRYPTED_TO_PROXY = "encrypted_to_proxy"
    OLDER_THAN_SENSOR = "older_than_sensor"
    SENSOR_GAP = "sensor_gap"
    AMBIGUOUS = "ambiguous"
    NO_USABLE_REQUEST = "no_usable_request"
    SUPERSEDED = "superseded"
    NONE = ""


class NetworkEvent(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """A row of DeviceNetworkEvents: a TCP connection, or one real destination behind a proxy.

    Made by position where rows are made by the hundred thousand: names would cost three times as much.
    """

    Timestamp: Annotated[
        str, _time("When it happened: the connection's start, or the first request to the destination")
    ]
    DeviceId: Annotated[str, _text("The device, as its sensors name it")]
    DeviceName: Annotated[str, _text("The device's host name")]
    ActionType: Annotated[str, _word("ConnectionSuccess, ConnectionFailed, ConnectionAttempt; an open set")]
    RemoteIP: Annotated[
        str, _text("Address connected to; on a destination row the destination's where known, else empty")
    ]
    RemotePort: Annotated[
        int | None, _number("Port connected to; on a destination row the destination's", "Nullable(UInt16)")
    ]
    RemoteUrl: Annotated[str, _text("The real target: URL, or host and port")]
    LocalIP: Annotated[str, _text("The device's address on this connection")]
    LocalPort: Annotated[int | None, _number("The device's port on this connection", "Nullable(UInt16)")]
    Protocol: Annotated[str, _word("Transport protocol")]
    LocalIPType: Annotated[str, _word("Public, Private, Loopback, LinkLocal, Multicast or Reserved")]
    RemoteIPType: Annotated[str, _word("Type of the remote address; Public for a named destination outside")]
    InitiatingProcessFileName: Annotated[str, _text("File name of the process that connected")]
    InitiatingProcessId: Annotated[
        int | None, _number("Process ID (PID) of the process that connected", "Nullable(Int64)")
    ]
    ReportId: Annotated[int, _number("Number of the row within the device; RecordId is the key", "Int64")]

    Layer: Annotated[Layer, _word("connection: the TCP connection as made; destination: a real target behind a proxy")]
    RecordId: Annotated[
        str, _text("Identity of the row, made from its content; of equal ones the highest Version holds")
    ]
    Version: Annotated[int, _number("Grows with the evidence; not consecutive", "UInt64")]
    ConnectionId: Annotated[str, _text("The connection: shared by its connection row and its destination rows")]
    ConnectionTime: Annotated[str, _time("When the TCP connection was established, as near as any evidence tells")]
    ProxyIP: Annotated[str, _text("The proxy's address; empty for a direct connection")]
    ProxyPort: Annotated[int | None, _number("The proxy's port", "Nullable(UInt16)")]
    ProxyName: Annotated[str, _text("The proxy's name, where the settings or a TLS name tell it")]
    DestinationHost: Annotated[str, _text("Real destination: lower case, no trailing dot, no brackets")]
    DestinationPort: Annotated[int | None, _number("Real destination's port", "Nullable(UInt16)")]
    DestinationDomain: Annotated[str, _text("Registrable domain of the destination")]
    Outcome: Annotated[Outcome, _word("allowed, audited, warned, bypassed, blocked, failed or unknown")]
    ProtectionMode: Annotated[
        ProtectionMode, _word("Network protection in force then: block, audit or off (nothing known)")
    ]
    ResolvedBy: Annotated[ResolvedBy, _word("Evidence that named the destination")]
    Confidence: Annotated[Confidence, _word("exact, strong or inferred; empty where unresolved")]
    UnresolvedReason: Annotated[UnresolvedReason, _word("Why there is no destination; empty where there is one")]
    ResolutionMs: Annotated[
        int | None,
        _number("From the connection's start to the evidence that named it, milliseconds", "Nullable(Int64)"),
    ]

    ConnectionEventId: Annotated[str, _text("The endpoint's own record of the connection")] = ""
    HttpEventIds: Annotated[
        list[str], _number("The sensor's records that name the destination; the first 16", "Array(String)")
    ] = []
    FlowId: Annotated[str, _text("The network sensor's own name of the flow")] = ""
    ConnectionEndTime: Annotated[str | None, _maybe_time("When the connection ended")] = None
    BytesSent: Annotated[
        int | None,
        _number(
            "Bytes from device to remote side, headers included; of a destination as the proxy logged them",
            "Nullable(UInt64)",
        ),
    ] = None
    BytesReceived: Annotated[
        int | None,
        _number(
            "Bytes from remote side to device, headers included; of a destination as the proxy logged them",
            "Nullable(UInt64)",
        ),
    ] = None
    RequestCount: Annotated[
        int | None, _number("Requests seen to this destination, or on this connection", "Nullable(UInt32)")
    ] = None
    HttpStatus: Annotated[int | None, _number("Latest HTTP status answered", "Nullable(UInt16)")] = None
    HostMismatch: Annotated[
        str, _text("Another name spoken inside (SNI or Host) than the one asked of the proxy: fronting")
    ] = ""

    InitiatingProcessSHA1: Annotated[str, _text("SHA-1 of the process image")] = ""
    InitiatingProcessSHA256: Annotated[str, _text("SHA-256 of the process image")] = ""
    InitiatingProcessMD5: Annotated[str, _text("MD5 of the process image")] = ""
    InitiatingProcessFileSize: Annotated[
        int | None, _number("Size of the process image in bytes", "Nullable(Int64)")
    ] = None
    InitiatingProcessVersionInfoCompanyName: Annotated[str, _text("Company in the image's version resource")] = ""
    InitiatingProcessVersionInfoProductName: Annotated[str, _text("Product in the image's version resource")] = ""
    InitiatingProcessVersionInfoProductVersion: Annotated[str, _text("Version in the image's version resource")] = ""
    InitiatingProcessVersionInfoInternalFileName: Annotated[str, _text("Internal name in the version resource")] = ""
    InitiatingProcessVersionInfoOriginalFileName: Annotated[str, _text("Original name in the version resource")] = ""
    InitiatingProcessVersionInfoFileDescription: Annotated[str, _text("Description in the version resource")] = ""
    InitiatingProcessCommandLine: Annotated[str, _text("Command line of the process")] = ""
    InitiatingProcessCreationTime: Annotated[str | None, _maybe_time("When the process started")] = None
    InitiatingProcessFolderPath: Annotated[str, _text("Path of the process image")] = ""
    InitiatingProcessParentFileName: Annotated[str, _text("File name of the parent process")] = ""
    InitiatingProcessParentId: Annotated[int | None, _number("PID of the parent process", "Nullable(Int64)")] = None
    InitiatingProcessParentCreationTime: Annotated[str | None, _maybe_time("When the parent process started")] = None
    InitiatingProcessAccountDomain: Annotated[str, _text("Domain of the account")] = ""
    InitiatingProcessAccountName: Annotated[str, _text("Account that ran the process")] = ""
    InitiatingProcessAccountSid: Annotated[str, _text("Security identifier, or uid, of the account")] = ""
    InitiatingProcessAccountUpn: Annotated[str, _text("User principal name of the account")] = ""
    InitiatingProcessAccountObjectId: Annotated[str, _text("Directory object ID of the account")] = ""
    InitiatingProcessIntegrityLevel: Annotated[str, _word("Integrity level of the process")] = ""
    InitiatingProcessTokenElevation: Annotated[str, _word("Token elevation of the process")] = ""
    AppGuardContainerId: Annotated[str, _text("Application Guard container")] = ""
    AdditionalFields: Annotated[str, _text("More, as a JSON object")] = ""
    InitiatingProcessSessionId: Annotated[int | None, _number("Windows session", "Nullable(Int64)")] = None
    IsInitiatingProcessRemoteSession: Annotated[
        bool | None, _number("Started in a remote session", "Nullable(Bool)")
    ] = None
    InitiatingProcessRemoteSessionDeviceName: Annotated[str, _text("Device of the remote session")] = ""
    InitiatingProcessRemoteSessionIP: Annotated[str, _text("Address of the remote session")] = ""
    InitiatingProcessUniqueId: Annotated[str, _text("Unique ID of the process")] = ""
    LogonID: Annotated[int | None, _number("Logon session", "Nullable(Int64)")] = None


class DeviceEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, frozen=True):
    """A row of DeviceEvents: a verdict of a device's network protection.

    One that names no connection is joined to it by process, destination and time where exactly one fits; else `ConnectionId`
    is empty and `AdditionalFields` says why (`Unjoined`).
    """

    Timestamp: Annotated[str, _time("When the request was judged")]
    DeviceId: Annotated[str, _text("The device, as its sensors name it")]
    DeviceName: Annotated[str, _text("The device's host name")]
    ActionType: Annotated[
        str,
        _word(
            "ExploitGuardNetworkProtectionBlocked, …Audited, SmartScreenUrlWarning or NetworkProtectionUserBypassEvent"
        ),
    ]
    RemoteUrl: Annotated[str, _text("What was asked for: URL, or host and port")]
    RemoteIP: Annotated[str, _text("Destination's address where known, else empty")]
    RemotePort: Annotated[int | None, _number("Destination's port", "Nullable(UInt16)")]
    LocalIP: Annotated[str, _text("The device's address on the connection")]
    LocalPort: Annotated[int | None, _number("The device's port on the connection", "Nullable(UInt16)")]
    InitiatingProcessFileName: Annotated[str, _text("File name of the process that asked")]
    InitiatingProcessId: Annotated[int | None, _number("PID of the process that asked", "Nullable(Int64)")]
    InitiatingProcessFolderPath: Annotated[str, _text("Path of the process image")]
    InitiatingProcessCommandLine: Annotated[str, _text("Command line of the process")]
    InitiatingProcessAccountName: Annotated[str, _text("Account that ran the process")]
    InitiatingProcessAccountDomain: Annotated[str, _text("Domain of the account")]
    AdditionalFields: Annotated[
        str, _text("JSON: IsAudit, ResponseCategory, ResponseCategoryGroup, DisplayName, Uri; Confidence or Unjoined")
    ]
    ReportId: Annotated[int, _number("Number of the row within the device; RecordId is the key", "Int64")]
    RecordId: Annotated[str, _text("Identity of the row; of equal ones the highest Version holds")]
    Version: Annotated[int, _number("Grows with the evidence; not consecutive", "UInt64")]
    ConnectionId: Annotated[str, _text("The connection in DeviceNetworkEvents")]
    DestinationHost: Annotated[str, _text("Host that was asked for")]
    DestinationDomain: Annotated[str, _text("Registrable domain of it")]
    ProxyIP: Annotated[str, _text("The proxy's address; empty for a direct connection")]
    ProxyPort: Annotated[int | None, _number("The proxy's port", "Nullable(UInt16)")]
    ProtectionMode: Annotated[ProtectionMode, _word("Network protection in force then")]
    Outcome: Annotated[Outcome, _word("blocked, warned, bypassed or audited")]


class AlertKind(StrEnum):
    """What an alert is about.

    The first four are what the device's protection did: stopped a request, warned, was passed over by the user, or only noted
    it (or an indicator asks for no more than a note). `not_enforced`: an indicator says block or warn, and the request went
    through. `unconfirmed_proxy`: something acts as a proxy that the settings do not name. `proxy_bypass`: a device that
    always uses a proxy connected outside by itself. `host_mismatch`: another name inside a tunnel than the one asked for.
    """

    BLOCKED = "blocked"
    WARNED = "warned"
    BYPASSED = "bypassed"
    AUDITED = "audited"
    NOT_ENFORCED = "not_enforced"
    UNCONFIRMED_PROXY = "unconfirmed_proxy"
    PROXY_BYPASS = "proxy_bypass"
    HOST_MISMATCH = "host_mismatch"


class Alert(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A message on `block-alerts` and a row of BlockAlerts: device + domain + UTC day + kind, folded.

    The first is published at once, later ones with the same AlertId and a higher Version as their number grows, at most one
    in a while (`protection.alert_gap_secs`). Count 0 means withdrawn: what looked audited at first was blocked a moment
    later, and is counted by the blocked alert. A suppressed alert is published like any other, and says so.
    """

    AlertId: Annotated[str, _text("Identity: device, kind, domain and UTC day")]
    Version: Annotated[int, _number("Grows with each change; not consecutive", "UInt64")]
    Kind: Annotated[
        AlertKind,
        _word(
            "blocked, warned, bypassed, audited, not_enforced, unconfirmed_proxy, proxy_bypass or host_mismatch; an open set"
        ),
    ]
    Severity: Annotated[Severity, _word("informational, low, medium or high: the indicator's, else the kind's")]
    DeviceId: Annotated[str, _text("The device, as its sensors name it")]
    DeviceName: Annotated[str, _text("The device's host name")]
    DestinationDomain: Annotated[
        str, _text("Registrable domain of the destinations; of an unconfirmed proxy its address")
    ]
    DestinationHosts: Annotated[list[str], _number("Hosts of that domain, sorted; the first 32", "Array(String)")]
    DestinationPort: Annotated[int | None, _number("Port of the latest request", "Nullable(UInt16)")]
    Count: Annotated[
        int,
        _number("Requests on the wire: not packets, not retransmissions; of the proxy kinds connections", "UInt64"),
    ]
    FirstTime: Annotated[str, _time("First request")]
    LastTime: Annotated[str, _time("Latest request")]
    Outcome: Annotated[Outcome, _word("What became of the latest request")]
    ProtectionMode: Annotated[ProtectionMode, _word("The device's network protection at the latest request")]
    InitiatingProcessFileName: Annotated[str, _text("Process of the latest request whose process is known")]
    InitiatingProcessId: Annotated[int | None, _number("Its PID", "Nullable(Int64)")]
    InitiatingProcessFolderPath: Annotated[str, _text("Path of its image")]
    InitiatingProcessCommandLine: Annotated[str, _text("Its command line")]
    InitiatingProcessSHA256: Annotated[str, _text("SHA-256 of its image")]
    InitiatingProcessAccountName: Annotated[str, _text("Its account")]
    ProxyIP: Annotated[str, _text("Proxy of the latest request; empty when direct")]
    ProxyPort: Annotated[int | None, _number("Its port", "Nullable(UInt16)")]
    ProxyName: Annotated[str, _text("Its name, where the settings tell it")]
    Title: Annotated[str, _text("What the sensor or the indicator calls it")]
    Category: Annotated[str, _text("The sensor's or the indicator's category")]
    Confidence: Annotated[Confidence, _word("How sure the destination is: exact, strong or inferred")]
    IndicatorId: Annotated[str, _text("The indicator that matches; empty for none")]
    IndicatorValue: Annotated[str, _text("Its value")]
    IndicatorAction: Annotated[str, _word("allow, warn, block or audit; empty without an indicator")]
    IndicatorMatch: Annotated[
        str, _word("full; host_only where a URL's prefix meets an encrypted request, of which only the host is seen")
    ]
    RecommendedAction: Annotated[str, _text("What a responder should do")]
    Techniques: Annotated[
        list[str], _number("MITRE ATT&CK techniques, where they are plain (attack.mitre.org)", "Array(String)")
    ]
    EvidenceIds: Annotated[list[str], _number("Sensor records behind it; the first 32", "Array(String)")]
    SuppressedBy: Annotated[str, _text("Who suppressed it; empty for nobody")]
    SuppressedReason: Annotated[str, _text("Why")]
    SuppressedUntil: Annotated[str | None, _maybe_time("Until when")]
    Query: Annotated[str, _text("KQL that finds the rows")]


class ModeStatus(StrEnum):
    """What became of a row of the history. `withdrawn` ones stay in the table of versions and are not shown."""

    KNOWN = "known"
    WITHDRAWN = "withdrawn"


class ModeSpan(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of ProtectionModes: a time in which one mode was in force on a device.

    A device without a row, or before its first one, is off: nothing is known of it.
    """

    DeviceId: Annotated[str, _text("The device, as its sensors name it")]
    DeviceName: Annotated[str, _text("The device's host name")]
    Mode: Annotated[ProtectionMode, _word("block, audit or off")]
    FromTime: Annotated[str | None, _maybe_time("Since when; null where it was so as long as anything is known")]
    ToTime: Annotated[str | None, _maybe_time("Until when; null while it lasts")]
    Evidence: Annotated[
        ModeEvidence,
        _word("defender_5007, sensor_status, verdict (a block or a note proves it) or settings"),
    ]
    EvidenceId: Annotated[str, _text("The sensor's record")]
    Status: Annotated[ModeStatus, _word("known or withdrawn; withdrawn ones are not shown")]
    RecordId: Annotated[str, _text("Identity: device and beginning; of equal ones the highest Version holds")]
    Version: Annotated[int, _number("Grows with each change; not consecutive", "UInt64")]


class RejectRow(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of Rejects: a line that could not be read, with its bytes."""

    RejectedAt: Annotated[str, _time("When the worker rejected it")]
    Reason: Annotated[str, _word("Why; a small closed set")]
    Detail: Annotated[str, _text("What exactly was wrong")]
    Dialect: Annotated[str, _word("How it was read")]
    Device: Annotated[str, _text("Device, where the message or the line tells")]
    RawBase64: Annotated[str, _text("The line's bytes, untouched, as base64")]
    RecordId: Annotated[str, _text("Identity: place in the rejects topic")]


class GapKind(StrEnum):
    """How it is known that something is missing."""

    LOSS = "loss"
    RESTART = "restart"
    SILENCE = "silence"


class GapStatus(StrEnum):
    """What became of a gap. `filled` ones stay in the table of versions and are not shown."""

    OPEN = "open"
    CLOSED = "closed"
    FILLED = "filled"


class SensorGap(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of SensorGaps: what a device's sensor said, or may have said, and we have not got.

    `loss`: lines that the producer numbered and that never came; open until they do. `restart`: the producer began to
    count anew, and nobody can tell what was lost in between. `silence`: the device said nothing for longer than its
    habit; open while it lasts, closed when it speaks again. A gap that is filled later disappears.
    """

    DeviceId: Annotated[str, _text("The device, as its sensors name it")]
    DeviceName: Annotated[str, _text("The device's host name")]
    Kind: Annotated[GapKind, _word("loss, restart or silence")]
    Status: Annotated[GapStatus, _word("open, closed or filled; filled ones are not shown")]
    FromTime: Annotated[
        str | None, _maybe_time("Latest event before it, on the device's own clock; null where unknown")
    ]
    ToTime: Annotated[
        str | None, _maybe_time("First event after it, likewise; null while a silence lasts and where unknown")
    ]
    Dialect: Annotated[str, _word("How the sensor writes; empty for a silence, which is the whole device's")]
    Sensor: Annotated[str, _text("The sensor, as its producer names it; empty for a silence")]
    LinesMissing: Annotated[
        int | None, _number("Lines that are missing; null where nobody can tell", "Nullable(UInt64)")
    ]
    FromSeq: Annotated[
        int | None,
        _number("Number of the first line that is missing; of a restart the one expected", "Nullable(UInt64)"),
    ]
    ToSeq: Annotated[int | None, _number("Number of the first line that is there again", "Nullable(UInt64)")]
    DetectedAt: Annotated[str, _time("When it was noticed: the log's own time")]
    RecordId: Annotated[str, _text("Identity of the gap; of equal ones the highest Version holds")]
    Version: Annotated[int, _number("Grows with each change; not consecutive", "UInt64")]


COVERAGE_SECS = 300
"""How much time a row of DeviceCoverage is about."""


class Coverage(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of DeviceCoverage: a device's sensor was heard in these five minutes, from the first to the last event.

    Any line counts that could be read, also those that hold nothing for us. Rows of the same five minutes are merged:
    the table shows the earliest and the latest time of all.
    """

    DeviceId: Annotated[str, _text("The device, as its sensors name it")]
    DeviceName: Annotated[str, _number("The device's host name", "SimpleAggregateFunction(max, String)")]
    Dialect: Annotated[str, _word("How the sensor writes")]
    Sensor: Annotated[str, _text("The sensor, as its producer names it; empty where it does not")]
    Bucket: Annotated[str, _time("Beginning of the five minutes, on the device's own clock")]
    FirstTime: Annotated[str, _earliest("First event in them, as far as it is told yet")]
    LastTime: Annotated[str, _latest("Latest event in them, as far as it is told yet")]
    RecordId: Annotated[str, _text("Identity: device, dialect, sensor and bucket")]


TABLES: dict[str, type[msgspec.Struct]] = {
    "DeviceNetworkEvents": NetworkEvent,
    "DeviceEvents": DeviceEvent,
    "BlockAlerts": Alert,
    "Rejects": RejectRow,
    "SensorGaps": SensorGap,
    "DeviceCoverage": Coverage,
    "ProtectionModes": ModeSpan,
}
"""Table name to the class of its rows."""


class Column(msgspec.Struct, frozen=True):
    """One column of a table, as its class declares it."""

    name: str
    clickhouse: str
    about: str
    required: bool


def columns(row: type[msgspec.Struct]) -> tuple[Column, ...]:
    """All columns of a row class, in order."""
    found = []
    for field in msgspec.inspect.type_info(row).fields:  # type: ignore[attr-defined]  # a struct's info has fields
        kind: Any = field.type
        extra, schema = kind.extra, kind.extra_json_schema
        found.append(Column(field.name, extra["clickhouse"], schema["description"], field.required))
    return tuple(found)


def json_schema(row: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a row class."""
    return msgspec.json.schema(row)
