"""The shapes in which rows of Defender's tables are exported, recognised by content.

| shape | recognised by |
|---|---|
| message of an Event Hub: several rows in one | `records` |
| answer of advanced hunting's API | `Results`, `results` |
| row in its envelope (streaming to an Event Hub or a storage account) | `properties` |
| bare row (advanced hunting, Log Analytics with `TimeGenerated` and `Type`) | none of these |
| any of these in somebody's envelope (Splunk, Filebeat, Elasticsearch), or in a list | `schemas.parsers.common.envelopes` |

All columns are there, null where Defender does not know. `AdditionalFields` is JSON in a string, or an object.
"""

from __future__ import annotations

import re

import msgspec

from schemas.parsers.common.envelopes import DEPTH_MAX, elements, within
from schemas.parsers.common.rejects import UNREADABLE
from schemas.parsers.common.values import Scalar, device_name

ROWS_MAX = 10_000
"""Maximum number of rows in one envelope; an Event Hub message of 1 MB has about 600."""
TABLE_PREFIX = "AdvancedHunting-"


class Head(msgspec.Struct, gc=False):
    """Device and time of a row."""

    DeviceName: str | None = None
    DeviceId: str | None = None
    Timestamp: str | None = None
    TimeGenerated: str | None = None

    @property
    def device(self) -> str:
        """The device's name in lower case, as in Windows events; its id if it has no name."""
        return device_name(self.DeviceName) or device_name(self.DeviceId)

    @property
    def time(self) -> str:
        """Time of the event; the envelope's `time` is the time of publishing, up to minutes later."""
        return self.Timestamp or self.TimeGenerated or ""


class Row(Head, gc=False):
    """The used columns of DeviceNetworkEvents and DeviceEvents."""

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
    """Name of the table; "" if the row does not contain it."""

    def additional(self) -> Additional:
        """Decode `AdditionalFields`. Raises msgspec's errors."""
        written = bytes(self.AdditionalFields)
        if written.startswith(b'"'):
            written = _TEXT.decode(written).encode("utf-8", "replace")
        return Additional() if written in _NOTHING else _ADDITIONAL.decode(written)


class Additional(msgspec.Struct, gc=False):
    """The used members of `AdditionalFields`: first those of an inspected connection, then those of a verdict.

    Many numbers are strings.
    """

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
    records: list[msgspec.Raw] = []
    Results: list[msgspec.Raw] = []
    results: list[msgspec.Raw] = []


_LINE = msgspec.json.Decoder(_Line)
_HEAD = msgspec.json.Decoder(_LineHead)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SHAPE = msgspec.json.Decoder(_Shape)
_ADDITIONAL = msgspec.json.Decoder(Additional)
_TEXT = msgspec.json.Decoder(str)
_NOTHING = frozenset({b"", b"null"})
_SEVERAL = re.compile(rb'e(?:cords(?<="records)|sults(?<="[Rr]esults))\\*+"\s*+:\s*+\[')
"""Beginning of an envelope with several rows, also inside a string; the pattern starts with a letter, which `re` finds fast."""
_IN_MARKS = (b"AdvancedHunting-", b"Type")
_MARKS = (b'"AdvancedHunting-', b'"ActionType', b'"Type')
"""Texts of which one is in every row. `_IN_MARKS`, without quotes, is faster to search in a line with many quotes."""


def read(raw: bytes) -> Row:
    """Decode the row of a line. Raises one of UNREADABLE."""
    line = _LINE.decode(raw)
    row = line.properties
    if row is None:
        carried = b"" if line.ActionType or line.table else _carried(raw)
        return read(carried) if carried else line
    row.table = (line.category or "").removeprefix(TABLE_PREFIX)
    return row


def read_head(raw: bytes) -> Head:
    """Decode only the row's device and time. Raises one of UNREADABLE."""
    line = _HEAD.decode(raw)
    if line.properties is not None:
        return line.properties
    carried = b"" if line.DeviceName or line.DeviceId else _carried(raw)
    return read_head(carried) if carried else line


def claims(raw: bytes) -> bool:
    """Return whether a line is a row of Defender's tables.

    It has the category of advanced hunting in an envelope; or device, time and action or table; of several rows the first is
    checked.
    """
    return _claims(raw, DEPTH_MAX)


def _claims(raw: bytes, deeper: int) -> bool:
    if not any(mark in raw for mark in _IN_MARKS) or not any(mark in raw for mark in _MARKS):
        return False
    first = split(raw)[0]
    if first is not raw:
        return deeper > 0 and _claims(first, deeper - 1)
    try:
        shape = _SHAPE.decode(raw)
    except UNREADABLE:
        return False
    if bytes(shape.properties).startswith(b"{"):
        return (shape.category or "").startswith(TABLE_PREFIX)
    device, time = shape.DeviceName or shape.DeviceId, shape.Timestamp or shape.TimeGenerated
    if device and time:
        return bool(shape.ActionType or (shape.table or "").startswith("Device"))
    return deeper > 0 and any(_claims(row, deeper - 1) for row in within(raw))


def split(raw: bytes) -> list[bytes]:
    """Split an envelope or list into its rows; any other line is returned as one row."""
    if raw.startswith(b"["):
        lists = elements(raw)
        return [row for one in lists for row in _several(one, DEPTH_MAX) or [one]] or [raw]
    return _several(raw, DEPTH_MAX) or [raw]


def _several(raw: bytes, deeper: int) -> list[bytes]:
    """Return the rows of an envelope that contains several, at any depth; an empty list for anything else."""
    if not (b"records" in raw or b"esults" in raw) or _SEVERAL.search(raw) is None:
        return []
    try:
        envelope = _ENVELOPE.decode(raw)
    except UNREADABLE:
        return []
    rows = envelope.records or envelope.Results or envelope.results
    if rows or not deeper:
        return [bytes(row) for row in rows] if len(rows) <= ROWS_MAX else []
    return next((found for held in within(raw) if (found := _several(held, deeper - 1))), [])


def _carried(raw: bytes) -> bytes:
    """Return the row in an envelope of a shipper; b"" if there is none."""
    return next((row for row in within(raw) if _claims(row, DEPTH_MAX - 1)), b"")
