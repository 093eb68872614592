"""Rows of the result topics and tables. The classes here are the only definition; the other forms are generated from them.

`make reference` writes the tables (`schemas.ddl`), the JSON Schemas, the reference pages and the pydantic models
(`schemas.models.rows`) from these classes; tests/schemas/test_contracts.py compares all five. A column without a default is in
every row of its topic. A column with a default is left out where it is empty. A new column may be added at any time; consumers
must ignore columns that they do not know. `DeviceNetworkEvents` has the 46 columns of Microsoft Defender's advanced-hunting table
of that name (learn.microsoft.com/defender-xdr/advanced-hunting-devicenetworkevents-table) and further ones.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.columns import number, text, texts, utc_time
from schemas.events import ModeEvidence, ProtectionMode
from schemas.indicators import Severity


class Layer(StrEnum):
    """Subject of a row: a TCP connection, or a destination behind a proxy."""

    CONNECTION = "connection"
    DESTINATION = "destination"


class Outcome(StrEnum):
    """Result of a connection or request."""

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
    """How certain a destination is, best first."""

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
    """A row of DeviceNetworkEvents: a TCP connection, or one real destination behind a proxy."""

    # Constructed with positional arguments, several 100,000 times a second: keyword arguments take three times as long.

    Timestamp: Annotated[str, utc_time("Start of the connection, or first request to the destination")]
    DeviceId: Annotated[str, text("The device, as its sensors name it")]
    DeviceName: Annotated[str, text("The device's host name")]
    ActionType: Annotated[str, text("ConnectionSuccess, ConnectionFailed, ConnectionAttempt; an open set")]
    RemoteIP: Annotated[
        str, text("Address connected to; on a destination row the destination's where known, else empty")
    ]
    RemotePort: Annotated[int | None, number("Port connected to; on a destination row the destination's", "UInt16")]
    RemoteUrl: Annotated[str, text("The real target: URL, or host and port")]
    LocalIP: Annotated[str, text("The device's address on this connection")]
    LocalPort: Annotated[int | None, number("The device's port on this connection", "UInt16")]
    Protocol: Annotated[str, text("Transport protocol")]
    LocalIPType: Annotated[str, text("Public, Private, Loopback, LinkLocal, Multicast or Reserved")]
    RemoteIPType: Annotated[
        str, text("Type of the remote address; of a destination without one: of its name, Public or Private")
    ]
    InitiatingProcessFileName: Annotated[str, text("File name of the process that connected")]
    InitiatingProcessId: Annotated[int | None, number("Process ID (PID) of the process that connected", "Int64")]
    ReportId: Annotated[int, number("Number of the row within the device; not a key", "Int64")]

    Layer: Annotated[Layer, text("connection: the TCP connection as made; destination: a real target behind a proxy")]
    RecordId: Annotated[str, text("Identity of the row; of rows with the same one the highest Version is valid")]
    Version: Annotated[int, number("Version of the row; increases with the evidence, not consecutive", "UInt64")]
    ConnectionId: Annotated[str, text("The connection: shared by its connection row and its destination rows")]
    ConnectionTime: Annotated[str, utc_time("When the TCP connection was established, from the most precise evidence")]
    ProxyIP: Annotated[str, text("The proxy's address; empty for a direct connection")]
    ProxyPort: Annotated[int | None, number("The proxy's port", "UInt16")]
    ProxyName: Annotated[str, text("The proxy's name, from the settings or its TLS name; empty if unknown")]
    DestinationHost: Annotated[str, text("Real destination: lower case, no trailing dot, no brackets")]
    DestinationPort: Annotated[int | None, number("Real destination's port", "UInt16")]
    DestinationDomain: Annotated[str, text("Registrable domain of the destination")]
    Outcome: Annotated[Outcome, text("allowed, audited, warned, bypassed, blocked, failed or unknown")]
    ProtectionMode: Annotated[
        ProtectionMode, text("Network protection at that time: block, audit or off (also if unknown)")
    ]
    ResolvedBy: Annotated[ResolvedBy, text("Evidence that named the destination")]
    Confidence: Annotated[Confidence, text("exact, strong or inferred; empty where unresolved")]
    UnresolvedReason: Annotated[UnresolvedReason, text("Why there is no destination; empty where there is one")]
    ResolutionMs: Annotated[
        int | None,
        number("Time from the connection's start to the evidence of its destination (milliseconds)", "Int64"),
    ]

    ConnectionEventId: Annotated[str, text("The endpoint's own record of the connection")] = ""
    HttpEventIds: Annotated[list[str], texts("The sensor's records that name the destination; the first 16")] = []
    FlowId: Annotated[str, text("The network sensor's identifier of the flow")] = ""
    ConnectionEndTime: Annotated[str | None, utc_time("When the connection ended")] = None
    BytesSent: Annotated[
        int | None,
        number(
            "Bytes from the device, headers included; on a destination row from the proxy's log",
            "UInt64",
        ),
    ] = None
    BytesReceived: Annotated[
        int | None,
        number(
            "Bytes to the device, headers included; on a destination row from the proxy's log",
            "UInt64",
        ),
    ] = None
    RequestCount: Annotated[
        int | None, number("Requests seen to this destination, or on this connection", "UInt32")
    ] = None
    HttpStatus: Annotated[int | None, number("HTTP status of the latest response", "UInt16")] = None
    HostMismatch: Annotated[
        str, text("Name inside the tunnel (SNI or Host) that differs from the one requested of the proxy: fronting")
    ] = ""

    InitiatingProcessSHA1: Annotated[str, text("SHA-1 of the process image")] = ""
    InitiatingProcessSHA256: Annotated[str, text("SHA-256 of the process image")] = ""
    InitiatingProcessMD5: Annotated[str, text("MD5 of the process image")] = ""
    InitiatingProcessFileSize: Annotated[int | None, number("Size of the process image (bytes)", "Int64")] = None
    InitiatingProcessVersionInfoCompanyName: Annotated[str, text("Company in the image's version resource")] = ""
    InitiatingProcessVersionInfoProductName: Annotated[str, text("Product in the image's version resource")] = ""
    InitiatingProcessVersionInfoProductVersion: Annotated[str, text("Version in the image's version resource")] = ""
    InitiatingProcessVersionInfoInternalFileName: Annotated[str, text("Internal name in the version resource")] = ""
    InitiatingProcessVersionInfoOriginalFileName: Annotated[str, text("Original name in the version resource")] = ""
    InitiatingProcessVersionInfoFileDescription: Annotated[str, text("Description in the version resource")] = ""
    InitiatingProcessCommandLine: Annotated[str, text("Command line of the process")] = ""
    InitiatingProcessCreationTime: Annotated[str | None, utc_time("When the process started")] = None
    InitiatingProcessFolderPath: Annotated[str, text("Path of the process image")] = ""
    InitiatingProcessParentFileName: Annotated[str, text("File name of the parent process")] = ""
    InitiatingProcessParentId: Annotated[int | None, number("PID of the parent process", "Int64")] = None
    InitiatingProcessParentCreationTime: Annotated[str | None, utc_time("When the parent process started")] = None
    InitiatingProcessAccountDomain: Annotated[str, text("Domain of the account")] = ""
    InitiatingProcessAccountName: Annotated[str, text("Account that ran the process")] = ""
    InitiatingProcessAccountSid: Annotated[str, text("Security identifier, or uid, of the account")] = ""
    InitiatingProcessAccountUpn: Annotated[str, text("User principal name of the account")] = ""
    InitiatingProcessAccountObjectId: Annotated[str, text("Directory object ID of the account")] = ""
    InitiatingProcessIntegrityLevel: Annotated[str, text("Integrity level of the process")] = ""
    InitiatingProcessTokenElevation: Annotated[str, text("Token elevation of the process")] = ""
    AppGuardContainerId: Annotated[str, text("Application Guard container")] = ""
    AdditionalFields: Annotated[str, text("More, as a JSON object")] = ""
    InitiatingProcessSessionId: Annotated[int | None, number("Windows session", "Int64")] = None
    IsInitiatingProcessRemoteSession: Annotated[bool | None, number("Started in a remote session", "Bool")] = None
    InitiatingProcessRemoteSessionDeviceName: Annotated[str, text("Device of the remote session")] = ""
    InitiatingProcessRemoteSessionIP: Annotated[str, text("Address of the remote session")] = ""
    InitiatingProcessUniqueId: Annotated[str, text("Unique ID of the process")] = ""
    LogonID: Annotated[int | None, number("Logon session", "Int64")] = None


class DeviceEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, frozen=True):
    """A row of DeviceEvents: a verdict of a device's network protection.

    A verdict that names no connection is joined to one by process, destination and time if exactly one fits; otherwise
    `ConnectionId` is empty and `AdditionalFields` has the reason (`Unjoined`).
    """

    Timestamp: Annotated[str, utc_time("Time of the verdict")]
    DeviceId: Annotated[str, text("The device, as its sensors name it")]
    DeviceName: Annotated[str, text("The device's host name")]
    ActionType: Annotated[
        str,
        text(
            "ExploitGuardNetworkProtectionBlocked, …Audited, SmartScreenUrlWarning or NetworkProtectionUserBypassEvent"
        ),
    ]
    RemoteUrl: Annotated[str, text("Requested target: URL, or host and port")]
    RemoteIP: Annotated[str, text("Address of the destination; empty if unknown")]
    RemotePort: Annotated[int | None, number("Port of the destination", "UInt16")]
    LocalIP: Annotated[str, text("The device's address on the connection")]
    LocalPort: Annotated[int | None, number("The device's port on the connection", "UInt16")]
    InitiatingProcessFileName: Annotated[str, text("File name of the process that sent the request")]
    InitiatingProcessId: Annotated[int | None, number("PID of the process that sent the request", "Int64")]
    InitiatingProcessFolderPath: Annotated[str, text("Path of the process image")]
    InitiatingProcessCommandLine: Annotated[str, text("Command line of the process")]
    InitiatingProcessAccountName: Annotated[str, text("Account that ran the process")]
    InitiatingProcessAccountDomain: Annotated[str, text("Domain of the account")]
    AdditionalFields: Annotated[
        str, text("JSON: IsAudit, ResponseCategory, ResponseCategoryGroup, DisplayName, Uri; Confidence or Unjoined")
    ]
    ReportId: Annotated[int, number("Number of the row within the device; not a key", "Int64")]
    RecordId: Annotated[str, text("Identity of the row; of rows with the same one the highest Version is valid")]
    Version: Annotated[int, number("Version of the row; increases with the evidence, not consecutive", "UInt64")]
    ConnectionId: Annotated[str, text("The connection in DeviceNetworkEvents")]
    DestinationHost: Annotated[str, text("Requested host")]
    DestinationDomain: Annotated[str, text("Registrable domain of that host")]
    ProxyIP: Annotated[str, text("The proxy's address; empty for a direct connection")]
    ProxyPort: Annotated[int | None, number("The proxy's port", "UInt16")]
    ProtectionMode: Annotated[
        ProtectionMode, text("Network protection at that time: block, audit or off (also if unknown)")
    ]
    Outcome: Annotated[Outcome, text("blocked, warned, bypassed or audited")]


class AlertKind(StrEnum):
    """What an alert is about.

    `blocked`, `warned`, `bypassed` (by the user, after a warning) and `audited` (only recorded, or so an indicator requests) are
    actions of the device's protection. `not_enforced`: an indicator requests block or warn, and the request was allowed.
    `unconfirmed_proxy`: a host acts as a proxy that the settings do not name. `proxy_bypass`: a device that always uses a
    proxy connected outside without it. `host_mismatch`: the name inside a tunnel differs from the requested one.
    More kinds may be added.
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
    """A message on `block-alerts` and a row of BlockAlerts: all findings of one device, domain, UTC day and kind.

    The first version is published at once. Later ones have the same AlertId and a higher Version; at most one leaves in
    `protection.alert_gap_secs`. Count 0 means withdrawn: a request that seemed audited was blocked a moment later, and the
    blocked alert counts it. A suppressed alert is published like any other, with `SuppressedBy`.
    """

    AlertId: Annotated[str, text("Identity: device, kind, domain and UTC day")]
    Version: Annotated[int, number("Version of the row; increases with each change, not consecutive", "UInt64")]
    Kind: Annotated[
        str,
        text(
            "blocked, warned, bypassed, audited, not_enforced, unconfirmed_proxy, proxy_bypass or host_mismatch; an open set"
        ),
    ]
    Severity: Annotated[
        Severity, text("Severity of the indicator, else of the kind: informational, low, medium or high")
    ]
    DeviceId: Annotated[str, text("The device, as its sensors name it")]
    DeviceName: Annotated[str, text("The device's host name")]
    DestinationDomain: Annotated[
        str, text("Registrable domain of the destinations; of an unconfirmed proxy its address")
    ]
    DestinationHosts: Annotated[list[str], texts("Hosts of that domain, sorted; the first 32")]
    DestinationPort: Annotated[int | None, number("Port of the latest request", "UInt16")]
    Count: Annotated[
        int,
        number("Number of requests, without retransmissions; of the proxy kinds number of connections", "UInt64"),
    ]
    FirstTime: Annotated[str, utc_time("First request")]
    LastTime: Annotated[str, utc_time("Latest request")]
    Outcome: Annotated[Outcome, text("Outcome of the latest request")]
    ProtectionMode: Annotated[ProtectionMode, text("The device's network protection at the latest request")]
    InitiatingProcessFileName: Annotated[str, text("Process of the latest request whose process is known")]
    InitiatingProcessId: Annotated[int | None, number("Its PID", "Int64")]
    InitiatingProcessFolderPath: Annotated[str, text("Path of its image")]
    InitiatingProcessCommandLine: Annotated[str, text("Its command line")]
    InitiatingProcessSHA256: Annotated[str, text("SHA-256 of its image")]
    InitiatingProcessAccountName: Annotated[str, text("Its account")]
    ProxyIP: Annotated[str, text("Proxy of the latest request; empty when direct")]
    ProxyPort: Annotated[int | None, number("Its port", "UInt16")]
    ProxyName: Annotated[str, text("Its name in the settings; empty if it has none")]
    Title: Annotated[str, text("Title of the indicator, else of the sensor's verdict")]
    Category: Annotated[str, text("Category of the indicator, else of the sensor's verdict")]
    Confidence: Annotated[Confidence, text("How certain the destination is: exact, strong or inferred")]
    IndicatorId: Annotated[str, text("The indicator that matches; empty for none")]
    IndicatorValue: Annotated[str, text("Its value")]
    IndicatorAction: Annotated[str, text("allow, warn, block or audit; empty without an indicator")]
    IndicatorMatch: Annotated[
        str, text("full; host_only if only the host of a URL prefix could be compared, as the request is encrypted")
    ]
    RecommendedAction: Annotated[str, text("What a responder should do")]
    Techniques: Annotated[list[str], texts("MITRE ATT&CK techniques, where the kind implies one (attack.mitre.org)")]
    EvidenceIds: Annotated[list[str], texts("Sensor records that it is based on; the first 32")]
    SuppressedBy: Annotated[str, text("Name of the person who suppressed it; empty if it is not suppressed")]
    SuppressedReason: Annotated[str, text("Reason of the suppression")]
    SuppressedUntil: Annotated[str | None, utc_time("End of the suppression; null if it is not suppressed")]
    Query: Annotated[str, text("KQL query that finds the rows")]


class ModeStatus(StrEnum):
    """Whether a row of the history is valid. Withdrawn rows stay in the table of versions and are not shown."""

    KNOWN = "known"
    WITHDRAWN = "withdrawn"


class ModeSpan(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of ProtectionModes: a period in which one mode applied on a device.

    Without a row, and before the first one, the mode is off: nothing is known.
    """

    DeviceId: Annotated[str, text("The device, as its sensors name it")]
    DeviceName: Annotated[str, text("The device's host name")]
    Mode: Annotated[ProtectionMode, text("block, audit or off")]
    FromTime: Annotated[
        str | None, utc_time("Start of the period; null if it was so since the first record of the device")
    ]
    ToTime: Annotated[str | None, utc_time("End of the period; null while it lasts")]
    Evidence: Annotated[
        ModeEvidence,
        text("Evidence of the mode: defender_5007, sensor_status, verdict or settings"),
    ]
    EvidenceId: Annotated[str, text("The sensor's record that reported it")]
    Status: Annotated[ModeStatus, text("known or withdrawn; withdrawn ones are not shown")]
    RecordId: Annotated[str, text("Identity: device and start; of rows with the same one the highest Version is valid")]
    Version: Annotated[int, number("Version of the row; increases with each change, not consecutive", "UInt64")]


class RejectRow(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of Rejects: a line that could not be read, with its bytes."""

    RejectedAt: Annotated[str, utc_time("When the worker rejected it")]
    Reason: Annotated[str, text("Reason; a closed set")]
    Detail: Annotated[str, text("Details of the problem")]
    Dialect: Annotated[str, text("Dialect in which it was read")]
    Device: Annotated[str, text("Device that the message or the line names; empty if unknown")]
    RawBase64: Annotated[str, text("The line's bytes, unchanged, as base64")]
    RecordId: Annotated[str, text("Identity: partition and offset in the topic of rejects")]


class GapKind(StrEnum):
    """How a gap was detected."""

    LOSS = "loss"
    RESTART = "restart"
    SILENCE = "silence"


class GapStatus(StrEnum):
    """State of a gap. Filled gaps stay in the table of versions and are not shown."""

    OPEN = "open"
    CLOSED = "closed"
    FILLED = "filled"


class SensorGap(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of SensorGaps: input of a device's sensor that is missing, or may be.

    `loss`: lines that the producer numbered and that did not arrive; open until they do. `restart`: the producer restarted
    its numbering, and the number of lines lost in between is unknown. `silence`: the device sent nothing for longer than
    usual; open while it lasts, closed by its next line. A gap that is filled later is no longer shown.
    """

    DeviceId: Annotated[str, text("The device, as its sensors name it")]
    DeviceName: Annotated[str, text("The device's host name")]
    Kind: Annotated[GapKind, text("loss, restart or silence")]
    Status: Annotated[GapStatus, text("open, closed or filled; filled ones are not shown")]
    FromTime: Annotated[str | None, utc_time("Latest event before the gap, on the device's clock; null if unknown")]
    ToTime: Annotated[
        str | None, utc_time("First event after the gap, on the device's clock; null if unknown or during a silence")
    ]
    Dialect: Annotated[str, text("Dialect of the sensor; empty for a silence, which concerns the whole device")]
    Sensor: Annotated[str, text("The sensor, as its producer names it; empty for a silence")]
    LinesMissing: Annotated[int | None, number("Number of missing lines; null if unknown", "UInt64")]
    FromSeq: Annotated[
        int | None,
        number("Number of the first missing line; of a restart the expected number", "UInt64"),
    ]
    ToSeq: Annotated[int | None, number("Number of the first line after the gap", "UInt64")]
    DetectedAt: Annotated[str, utc_time("When the gap was detected, by the clock of Kafka's log")]
    RecordId: Annotated[str, text("Identity of the gap; of rows with the same one the highest Version is valid")]
    Version: Annotated[int, number("Version of the row; increases with each change, not consecutive", "UInt64")]


COVERAGE_SECS = 300
"""Length of the period that a row of DeviceCoverage describes (seconds)."""


class Coverage(msgspec.Struct, kw_only=True, gc=False, frozen=True):
    """A row of DeviceCoverage: a device's sensor reported in these five minutes, from the first to the last event.

    Every readable line counts, also an ignored one. Rows of the same five minutes are merged: the table shows the
    earliest and the latest time of all.
    """

    DeviceId: Annotated[str, text("The device, as its sensors name it")]
    DeviceName: Annotated[str, number("The device's host name", "SimpleAggregateFunction(max, String)")]
    Dialect: Annotated[str, text("Dialect of the sensor")]
    Sensor: Annotated[str, text("The sensor, as its producer names it; empty without a name")]
    Bucket: Annotated[str, utc_time("Start of the five minutes, on the device's clock")]
    FirstTime: Annotated[str, utc_time("First event in them that is known so far", merged="min")]
    LastTime: Annotated[str, utc_time("Latest event in them that is known so far", merged="max")]
    RecordId: Annotated[str, text("Identity: device, dialect, sensor and bucket")]


TABLES: dict[str, type[msgspec.Struct]] = {
    "DeviceNetworkEvents": NetworkEvent,
    "DeviceEvents": DeviceEvent,
    "BlockAlerts": Alert,
    "Rejects": RejectRow,
    "SensorGaps": SensorGap,
    "DeviceCoverage": Coverage,
    "ProtectionModes": ModeSpan,
}
"""Row class of each table."""
