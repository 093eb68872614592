"""The shapes in which rows of Defender's tables are exported, told apart by content.

| shape | told by |
|---|---|
| message of an Event Hub: several rows in one | `records` |
| row in its envelope (streaming to an Event Hub or a storage account) | `properties` |
| bare row (advanced hunting, Log Analytics with `TimeGenerated` and `Type`) | neither |

All columns are there, null where Defender does not know. `AdditionalFields` is JSON in a string, or an object.
"""

from __future__ import annotations

import msgspec

from schemas.windows.record import Scalar

ROWS_MAX = 10_000
"""Rows in one envelope: an Event Hub's message of 1 MB holds some 600."""
ENVELOPE_BEGIN = 256
"""So near to its beginning an envelope says `records`."""
TABLE_PREFIX = "AdvancedHunting-"


class Head(msgspec.Struct, gc=False):
    """Which device a row is of, and when."""

    DeviceName: str | None = None
    DeviceId: str | None = None
    Timestamp: str | None = None
    TimeGenerated: str | None = None

    @property
    def device(self) -> str:
        """The device's name in lower case, as Windows events have it; its id where it has none."""
        return _plain(self.DeviceName) or _plain(self.DeviceId)

    @property
    def time(self) -> str:
        """When it happened; an envelope's `time` is when it was published, up to minutes later."""
        return self.Timestamp or self.TimeGenerated or ""


class Row(Head, gc=False):
    """The columns that we use of DeviceNetworkEvents and DeviceEvents."""

    ActionType: str | None = None
    ReportId: Scalar = None
    LocalIP: str | None = None
    LocalPort: Scalar = None
    RemoteIP: str | None = None
    RemotePort: Scalar = None
    RemoteUrl: str | None = None
    Protocol: str | None = None
    AdditionalFields: msgspec.Raw = msgspec.Raw(b"")
    InitiatingProcessId: Scalar = None
    InitiatingProcessFileName: str | None = None
    InitiatingProcessFolderPath: str | None = None
    InitiatingProcessCommandLine: str | None = None
    InitiatingProcessCreationTime: str | None = None
    InitiatingProcessAccountName: str | None = None
    InitiatingProcessAccountDomain: str | None = None
    InitiatingProcessAccountSid: str | None = None
    InitiatingProcessParentId: Scalar = None
    InitiatingProcessParentFileName: str | None = None
    InitiatingProcessSHA1: str | None = None
    InitiatingProcessSHA256: str | None = None
    InitiatingProcessMD5: str | None = None
    table: str = msgspec.field(default="", name="Type")
    """The table's name; "" where the row does not tell."""

    def additional(self) -> Additional:
        """What `AdditionalFields` holds. Raises msgspec's errors."""
        written = bytes(self.AdditionalFields)
        if written.startswith(b'"'):
            written = _TEXT.decode(written).encode("utf-8", "replace")
        return Additional() if written in _NOTHING else _ADDITIONAL.decode(written)


class Additional(msgspec.Struct, gc=False):
    """What we use of `AdditionalFields`: first an inspected connection's, then a verdict's. Numbers are often strings."""

    direction: Scalar = None
    method: Scalar = None
    host: Scalar = None
    uri: Scalar = None
    status_code: Scalar = None
    server_name: Scalar = None
    IsAudit: Scalar = None
    Uri: Scalar = None
    DisplayName: Scalar = None
    ResponseCategory: Scalar = None
    ResponseCategoryGroup: Scalar = None
    Experience: Scalar = None


class _Line(Row, gc=False):
    category: str | None = None
    properties: Row | None = None


class _LineHead(Head, gc=False):
    properties: Head | None = None


class _Shape(msgspec.Struct, gc=False):
    category: str | None = None
    properties: msgspec.Raw = msgspec.Raw(b"")
    DeviceName: str | None = None
    DeviceId: str | None = None
    Timestamp: str | None = None
    TimeGenerated: str | None = None
    ActionType: str | None = None
    table: str | None = msgspec.field(default=None, name="Type")


class _Envelope(msgspec.Struct, gc=False):
    records: list[msgspec.Raw]


_LINE = msgspec.json.Decoder(_Line)
_HEAD = msgspec.json.Decoder(_LineHead)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SHAPE = msgspec.json.Decoder(_Shape)
_ADDITIONAL = msgspec.json.Decoder(Additional)
_TEXT = msgspec.json.Decoder(str)
_NOTHING = frozenset({b"", b"null"})
_CATEGORY = b'"' + TABLE_PREFIX.encode()

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading a row may raise."""


def read(raw: bytes) -> Row:
    """The row of a line. Raises one of UNREADABLE."""
    line = _LINE.decode(raw)
    row = line.properties
    if row is None:
        return line
    row.table = (line.category or "").removeprefix(TABLE_PREFIX)
    return row


def read_head(raw: bytes) -> Head:
    """The row's device and time alone. Raises one of UNREADABLE."""
    line = _HEAD.decode(raw)
    return line.properties or line


def claims(raw: bytes) -> bool:
    """Advanced hunting's category around a row or several; a bare row by device, time and action or table."""
    if not raw.startswith(b"{"):
        return False
    if b'"records"' in raw[:ENVELOPE_BEGIN]:
        return _CATEGORY in raw
    if _CATEGORY not in raw and b'"ActionType"' not in raw and b'"Type"' not in raw:
        return False
    try:
        shape = _SHAPE.decode(raw)
    except UNREADABLE:
        return False
    if bytes(shape.properties).startswith(b"{"):
        return (shape.category or "").startswith(TABLE_PREFIX)
    device, time = shape.DeviceName or shape.DeviceId, shape.Timestamp or shape.TimeGenerated
    return bool(device and time and (shape.ActionType or (shape.table or "").startswith("Device")))


def split(raw: bytes) -> list[bytes]:
    """The rows of an envelope; any other line is one row."""
    if b'"records"' not in raw[:ENVELOPE_BEGIN]:
        return [raw]
    try:
        rows = _ENVELOPE.decode(raw).records
    except UNREADABLE:
        return [raw]
    return [bytes(row) for row in rows] if 0 < len(rows) <= ROWS_MAX else [raw]


def _plain(name: str | None) -> str:
    return name.strip().rstrip(".").lower() if name else ""
