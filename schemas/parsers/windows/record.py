"""A Windows event in the common form of all shippers: source, number, computer, time, and named values.

Most events of a Windows machine are not used, so the values stay bytes until they are needed.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar

import msgspec

from schemas.clock import parse_micros
from schemas.events import Micros
from schemas.parsers.common.values import Scalar, device_name
from schemas.parsers.windows.event_xml import data_of, scan

Source = Literal["sysmon", "security", "defender", "other"]
"""Sources of events that are known."""
Kind = TypeVar("Kind", bound=msgspec.Struct)


SOURCES: dict[str, Source] = {
    "microsoft-windows-sysmon": "sysmon",
    "linux-sysmon": "sysmon",
    "microsoft-windows-security-auditing": "security",
    "microsoft-windows-windows defender": "defender",
    # Names of channels, for shippers that omit the provider.
    "microsoft-windows-sysmon/operational": "sysmon",
    "linux-sysmon/operational": "sysmon",
    "security": "security",
    "microsoft-windows-windows defender/operational": "defender",
}


class SysmonConnection(msgspec.Struct, gc=False):
    """Values of Sysmon event 3."""

    UtcTime: Scalar = None
    ProcessGuid: Scalar = None
    ProcessId: Scalar = None
    Image: Scalar = None
    User: Scalar = None
    Protocol: Scalar = None
    Initiated: Scalar = None
    SourceIp: Scalar = None
    SourcePort: Scalar = None
    DestinationIp: Scalar = None
    DestinationPort: Scalar = None


class SysmonProcess(msgspec.Struct, gc=False):
    """Values of Sysmon events 1 and 5."""

    UtcTime: Scalar = None
    ProcessGuid: Scalar = None
    ProcessId: Scalar = None
    Image: Scalar = None
    User: Scalar = None
    CommandLine: Scalar = None
    Hashes: Scalar = None
    ParentProcessId: Scalar = None
    ParentImage: Scalar = None


class FilteredConnection(msgspec.Struct, gc=False):
    """Values of events 5156 and 5157 of the Windows Filtering Platform; the last two are added by shippers."""

    ProcessID: Scalar = None
    ProcessId: Scalar = None
    Application: Scalar = None
    Direction: Scalar = None
    SourceAddress: Scalar = None
    SourcePort: Scalar = None
    DestAddress: Scalar = None
    DestPort: Scalar = None
    Protocol: Scalar = None
    SourceModuleType: Scalar | msgspec.UnsetType = None
    ExecutionProcessID: Scalar = None


class Shown(msgspec.Struct, gc=False):
    """Text of an event as Event Viewer shows it, if a shipper sends it."""

    Message: Any = None


_KINDS: tuple[type[msgspec.Struct], ...] = (SysmonConnection, SysmonProcess, FilteredConnection, Shown)
_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in _KINDS}
_DATA = {kind: data_of(kind.__struct_fields__) for kind in _KINDS}
_ALL = msgspec.json.Decoder(dict[str, Any])
_ALL_DATA = data_of()
_UTC_TIME = {
    b"{": re.compile(rb'"UtcTime"\s*:\s*"([^"\\]{19,40})"'),
    b"<": re.compile(rb"UtcTime[\"']>([^<]{19,40})<"),
}
"""Sysmon's own time, by the first byte of the values (JSON or XML). Quotes and angle brackets are escaped in other values, so
none of them can match."""


class Record(msgspec.Struct, gc=False):
    """An event; `data` contains its values as a JSON object or XML."""

    source: Source
    event_id: int
    computer: str
    logged: str
    data: bytes
    ecs: bytes = b""
    """The whole line, if values may have been moved to fields of the Elastic Common Schema."""
    beside: msgspec.Struct | None = None
    """All values that any kind of event has, already decoded, if they are members of the line and not of an object in it."""

    @property
    def device(self) -> str:
        """The computer's name in lower case, as Windows ignores case and shippers differ in it."""
        return device_name(self.computer)

    @property
    def at(self) -> Micros:
        """Time of the event. For Sysmon it is `UtcTime`: some shippers write local time with a Z in other fields."""
        return parse_micros((self.source == "sysmon" and _utc_time(self.data)) or self.logged)

    def values(self, kind: type[Kind]) -> Kind:
        """Decode the values of this kind of event. Raises msgspec.MsgspecError."""
        if self.beside is not None:
            return self.beside  # type: ignore[return-value]  # it has the fields of every kind
        if self.data.startswith(b"{"):
            return _DECODERS[kind].decode(self.data)  # type: ignore[return-value]  # the decoder of this kind
        return msgspec.convert(scan(self.data, _DATA[kind]), kind)

    def all_values(self) -> dict[str, Any]:
        """Decode all values. Raises msgspec.MsgspecError."""
        return _ALL.decode(self.data) if self.data.startswith(b"{") else dict(scan(self.data, _ALL_DATA))


def source_of(author: str) -> Source:
    """Return the source of an event by its provider, or by its channel if there is no provider."""
    return SOURCES.get(author.lower(), "other")


def _utc_time(data: bytes) -> str:
    found = _UTC_TIME.get(data[:1], _UTC_TIME[b"<"]).search(data)
    return found[1].decode("latin-1") if found is not None else ""
