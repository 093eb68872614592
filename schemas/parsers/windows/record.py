"""One Windows event, from any shipper: who wrote it, its number, the computer, the time, and its named values.

Most events of a Windows machine are not for us, so the values stay bytes until they are needed.
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
"""Who writes the events that we know."""
Kind = TypeVar("Kind", bound=msgspec.Struct)


SOURCES: dict[str, Source] = {
    "microsoft-windows-sysmon": "sysmon",
    "linux-sysmon": "sysmon",
    "microsoft-windows-security-auditing": "security",
    "microsoft-windows-windows defender": "defender",
    # Channels, for shippers that leave the provider out.
    "microsoft-windows-sysmon/operational": "sysmon",
    "linux-sysmon/operational": "sysmon",
    "security": "security",
    "microsoft-windows-windows defender/operational": "defender",
}


class SysmonConnection(msgspec.Struct, gc=False):
    """Values of Sysmon 3."""

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
    """Values of Sysmon 1 and 5."""

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
    """Values of the Windows Filtering Platform's 5156 and 5157; the last two are a shipper's, beside them."""

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
    """What Event Viewer shows of an event, where a shipper sends it."""

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
"""Sysmon's own time, by the first byte of the values. No other value can look like that, as quotes or angle brackets are escaped
there."""


class Record(msgspec.Struct, gc=False):
    """One event. `data` holds its values: a JSON object, or XML."""

    source: Source
    event_id: int
    computer: str
    logged: str
    data: bytes
    ecs: bytes = b""
    """The whole line where values may have been moved to fields of the Elastic Common Schema."""
    beside: msgspec.Struct | None = None
    """What was decoded with the line: all values that any kind of event has, where they are in it and not in an object."""

    @property
    def device(self) -> str:
        """The computer's name in lower case: case is not significant on Windows, and shippers differ in it."""
        return device_name(self.computer)

    @property
    def at(self) -> Micros:
        """When it happened. Of Sysmon's events only `UtcTime` is to be trusted: some shippers write local time with a Z."""
        return parse_micros((self.source == "sysmon" and _utc_time(self.data)) or self.logged)

    def values(self, kind: type[Kind]) -> Kind:
        """The values of a kind of event. Raises msgspec.MsgspecError."""
        if self.beside is not None:
            return self.beside  # type: ignore[return-value]  # it has the fields of each kind
        if self.data.startswith(b"{"):
            return _DECODERS[kind].decode(self.data)  # type: ignore[return-value]  # each decodes its own
        return msgspec.convert(scan(self.data, _DATA[kind]), kind)

    def all_values(self) -> dict[str, Any]:
        """Whatever values it has. Raises msgspec.MsgspecError."""
        return _ALL.decode(self.data) if self.data.startswith(b"{") else dict(scan(self.data, _ALL_DATA))


def source_of(author: str) -> Source:
    """Who wrote an event: its provider, else its channel, as a collector may put everything into one channel."""
    return SOURCES.get(author.lower(), "other")


def _utc_time(data: bytes) -> str:
    found = _UTC_TIME.get(data[:1], _UTC_TIME[b"<"]).search(data)
    return found[1].decode("latin-1") if found is not None else ""
