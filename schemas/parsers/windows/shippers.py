"""The shapes in which shippers write a Windows event, recognised by content.

| shape | recognised by |
|---|---|
| Winlogbeat 7 and 8, Elastic Agent | `winlog`, also with dotted names |
| Winlogbeat 6, Vector, Grafana's Promtail and Alloy | `event_id`; `event_data` is an object, or a string of XML |
| NXLog, and flat exports of an event's properties | `EventID`, values beside it |
| NXLog's GELF | the same with an underscore before each name |
| Fluent Bit, Fluentd | `EventID`; the values only in the text (`schemas.parsers.windows.shown_text`) |
| Azure tables WindowsEvent, SecurityEvent and Event | `EventID`, `EventData` as a string of JSON or XML |
| Azure table Syslog (Sysmon for Linux) | `SyslogMessage` with Event XML |
| Event as nested JSON (Datadog agent, evtx_dump) | `Event` |
| Wazuh's agent, archives and alerts | `win`, `data.win` |
| Event XML, in a root or not | `<Event` |
| Snare, NXLog's structured data, Splunk's text | `MSWinEventLog`, `[NXLOG@14506`, `EventCode=` (`plain_text.py`) |
| any of these behind a syslog header | `{` or `<Event` further on |
| any of these in somebody's envelope | `schemas.parsers.common.envelopes` |
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from schemas.clock import parse_micros
from schemas.events import Reason
from schemas.parsers.common.envelopes import DEPTH_MAX, elements, within
from schemas.parsers.common.quoting import unescaped
from schemas.parsers.common.rejects import UNREADABLE, Missing, Unread
from schemas.parsers.common.values import Scalar, number
from schemas.parsers.elastic.line import dotted, nested
from schemas.parsers.windows.event_xml import VALUES_MAX, apart, head
from schemas.parsers.windows.plain_text import flat, is_line
from schemas.parsers.windows.record import (
    FilteredConnection,
    Record,
    Source,
    SysmonConnection,
    SysmonProcess,
    source_of,
)
from schemas.parsers.windows.shown_text import values_of

EVENT_ID_MAX = 65_535
QUARTER_HOUR = 15 * 60 * 1_000_000
ZONE_QUARTERS_MAX = 14 * 4
"""Largest difference between a zone and UTC, in quarters of an hour (14 hours)."""


class _Winlog(msgspec.Struct, gc=False):
    event_id: Any = None
    channel: str = ""
    provider_name: str = ""
    computer_name: str = ""
    event_data: msgspec.Raw = msgspec.Raw(b"")


class _Attributes(msgspec.Struct, gc=False):
    Name: str = ""
    SystemTime: str = ""


class _Attributed(_Attributes, gc=False):
    attributes: _Attributes | None = msgspec.field(default=None, name="#attributes")


class _System(msgspec.Struct, gc=False):
    Provider: _Attributed = msgspec.field(default_factory=_Attributed)
    EventID: Any = None
    TimeCreated: _Attributed = msgspec.field(default_factory=_Attributed)
    Channel: str = ""
    Computer: str = ""


class _Event(msgspec.Struct, gc=False):
    System: _System
    EventData: msgspec.Raw = msgspec.Raw(b"")


class _EventData(msgspec.Struct, gc=False):
    Data: msgspec.Raw = msgspec.Raw(b"")


class _WinSystem(msgspec.Struct, gc=False):
    providerName: str = ""
    channel: str = ""
    eventID: Any = None
    computer: str = ""
    systemTime: str = ""
    message: str = ""


class _Win(msgspec.Struct, gc=False):
    system: _WinSystem
    eventdata: dict[str, Any] = {}


class _WazuhData(msgspec.Struct, gc=False):
    win: _Win | None = None


class _Names(msgspec.Struct, gc=False):
    """Fields that show the shipper's format, and the source of the event."""

    winlog: _Winlog | None = None
    Event: _Event | str | None = None
    SyslogMessage: str = ""
    win: _Win | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    event_id: Any = None
    source_name: str = ""
    log_name: str = ""
    provider_name: str = ""
    channel: str = ""
    EventID: Any = None
    Channel: str = ""
    SourceName: str = ""
    Provider: str = ""
    ProviderName: str = ""
    EventSourceName: str = ""
    EventLog: str = ""

    @property
    def wazuh(self) -> _Win | None:
        """Return Wazuh's event, as its agent sends or its manager stores it. Raises msgspec's errors."""
        if self.win is not None or not bytes(self.data).startswith(b"{"):
            return self.win
        return _WAZUH_DATA.decode(self.data).win

    @property
    def in_snake_case(self) -> bool:
        """Whether number and source have the names of Winlogbeat 6, Vector and Promtail."""
        return self.event_id is not None and bool(
            self.source_name or self.log_name or self.provider_name or self.channel
        )

    @property
    def author(self) -> str:
        """The provider, under the names of shippers that write the number as `EventID`."""
        return self.SourceName or self.Provider or self.ProviderName or self.EventSourceName

    def is_identified(self) -> bool | None:
        """Return whether the format has number and source; None if the format is unknown. Raises msgspec's errors."""
        if self.winlog is not None:
            return self.winlog.event_id is not None and bool(self.winlog.provider_name or self.winlog.channel)
        if isinstance(self.Event, _Event):
            return self.Event.System.EventID is not None
        if self.SyslogMessage:
            return all(mark in self.SyslogMessage.encode("utf-8", "replace") for mark in _XML_MARKS)
        if self.in_snake_case:
            return True
        if self.EventID is not None:
            return bool(self.author or self.Channel or self.EventLog)
        wazuh = self.wazuh
        return wazuh.system.eventID is not None if wazuh is not None else None


class _Line(_Names, gc=False):
    timestamp: str = msgspec.field(default="", name="@timestamp")
    computer_name: str = ""
    event_data: msgspec.Raw = msgspec.Raw(b"")
    computer: str = ""
    plain_timestamp: Any = msgspec.field(default=None, name="timestamp")
    timeCreated: str = ""
    message: Any = None
    Hostname: str = ""
    EventTime: str = ""
    EventReceivedTime: str = ""
    TimeCreated: str = ""
    SourceModuleType: str | msgspec.UnsetType = msgspec.UNSET
    Computer: str = ""
    ComputerName: str = ""
    TimeGenerated: str = ""
    EventData: msgspec.Raw = msgspec.Raw(b"")
    Message: Any = None
    Description: Any = None
    RenderedDescription: Any = None


_WithValues: type[_Line] = msgspec.defstruct(  # type: ignore[assignment]  # its base is _Line
    "_WithValues",
    [
        (name, Scalar, None)
        for kind in (SysmonConnection, SysmonProcess, FilteredConnection)
        for name in kind.__struct_fields__
        if name not in _Line.__struct_fields__
    ],
    bases=(_Line,),
    gc=False,
)
"""The same fields together with the values that may be beside the number, to decode a line only once."""
_LINE = msgspec.json.Decoder(_Line)
_WITH_VALUES = msgspec.json.Decoder(_WithValues)
_NAMES = msgspec.json.Decoder(_Names)
_WAZUH_DATA = msgspec.json.Decoder(_WazuhData)
_INNER = msgspec.json.Decoder(_EventData)
_TEXT = msgspec.json.Decoder(str)
_OF_BEATS = b'"@metadata"'
_OF_BEATS_AT = len('{"@timestamp":"2026-01-01T12:00:00.123Z",')
"""Offset of the second member in a line of Winlogbeat."""
_IN_MARKS = (b"winlog", b"Event", b"event_id", b"eventID", b"SyslogMessage")
"""Texts of which one is in every line with one of `_MARKS` or `_MARKS_WITHIN`."""
_MARKS = {
    b"winlog": (b'"winlog"', b'"winlog.event_id"'),
    b'Event"': (b'"Event"',),
    b"SyslogMessage": (b'"SyslogMessage"',),
    b"event_id": (b'"event_id"',),
    b"EventID": (b'"EventID"', b'"_EventID"'),
    b"eventID": (b'"eventID"',),
}
"""Texts of which one is in every JSON format, by the text that is searched first because it is faster."""
_MARKS_WITHIN = (b"winlog", b"event_id", b"eventID", b"EventID", b"EventCode=", b"SyslogMessage")
"""Texts of which one is in every envelope with such a format or XML. Separate searches take a third of the time of a pattern."""
_DOTTED = b'"winlog.event_id"'
_GELF = b'"_EventID"'
_XML_MARKS = (b"<System", b"<Provider", b"<EventID")
_VALUES = re.compile(rb'"(?:UtcTime|SourceAddress|SubjectUserName|Product[ _]?Name)"\s*:')
"""Names of which one is present if the values are beside the number."""
_LONE_BACKSLASH = re.compile(r'(?<!\\)(?:\\\\)*+\\(?![\\"])')


def read(raw: bytes, deeper: int = DEPTH_MAX) -> Record:
    """Return the event of a line, in up to `deeper` envelopes. Raises ValueError (also Unread) and msgspec's errors."""
    if not raw.startswith(b"{"):
        return _read_text(raw, deeper)
    line = _decoded(raw)
    if line.winlog is not None:
        winlog = line.winlog
        source = source_of(winlog.provider_name or winlog.channel)
        event_id, data = _event_id(winlog.event_id), bytes(winlog.event_data)
        return Record(source, event_id, winlog.computer_name, line.timestamp, data, raw)
    if type(line.Event) is _Event:  # faster than isinstance for the many values of other types
        return _from_event(line.Event)
    if line.SyslogMessage:
        return _from_xml(line.SyslogMessage.encode("utf-8", "replace"))
    if line.event_id is not None and line.in_snake_case:
        return _in_snake_case(line)
    if line.EventID is not None:
        return _with_values_beside(line, raw)
    wazuh = line.wazuh
    if wazuh is not None:
        return _from_wazuh(wazuh)
    return _read_carried(raw, deeper)


def _read_text(raw: bytes, deeper: int) -> Record:
    """Return the event of a line that does not begin with an object."""
    if _is_xml(raw):
        return _from_xml(raw)
    if is_line(raw) and (values := flat(raw)):
        values_text = msgspec.json.encode(values)
        return _with_values_beside(_LINE.decode(values_text), values_text)
    json_begin = raw.find(b"{")
    if json_begin < 0:
        raise Unread(Reason.MALFORMED, "neither JSON nor an <Event>")
    return read(raw[json_begin:], deeper)


def _read_carried(raw: bytes, deeper: int) -> Record:
    """Return the event in an envelope, or of an object whose names the shipper spells in another way."""
    if deeper and (_GELF in raw or _DOTTED in raw):
        return read(_plainly_named(raw), 0)
    for event in within(raw) if deeper else ():
        if _claims(event, deeper - 1):
            return read(event, deeper - 1)
    raise Missing("no event id where any shipper has it")


def _decoded(raw: bytes) -> _Line:
    """Decode a line. A member with the name of a value but another type is ignored, as it is not of a used event."""
    if raw.startswith(_OF_BEATS, _OF_BEATS_AT):  # a format without values beside the number
        return _LINE.decode(raw)
    try:
        return _WITH_VALUES.decode(raw)
    except UNREADABLE:
        return _LINE.decode(raw)


def split(raw: bytes) -> list[bytes]:
    """Split a line into its events; event XML exported by Event Viewer, and a list, may contain several."""
    if raw.startswith(b"{"):
        return [raw]
    return apart(raw) if _is_xml(raw) else elements(raw) or [raw]


def claims(raw: bytes) -> bool:
    """Return whether a line has number and source of an event in one of the formats."""
    if raw.startswith(b"["):
        raw = next(iter(elements(raw)), b"") if _may_carry(raw) else b""
    return _claims(raw, DEPTH_MAX)


def _claims(raw: bytes, deeper: int) -> bool:
    if not raw.startswith(b"{"):
        if _is_xml(raw):
            return all(mark in raw for mark in _XML_MARKS)
        if is_line(raw) and (values := flat(raw)):
            return bool(values.get("EventID"))
        json_begin = raw.find(b"{")
        return json_begin >= 0 and _claims(raw[json_begin:], deeper)
    if not any(mark in raw for mark in _IN_MARKS):
        return False
    if not any(mark in raw and any(name in raw for name in names) for mark, names in _MARKS.items()):
        return _carries(raw, deeper)
    try:
        claimed = _NAMES.decode(raw).is_identified()
        if claimed is None and deeper and (_GELF in raw or _DOTTED in raw):
            return _claims(_plainly_named(raw), 0)
    except UNREADABLE:
        return False
    return _carries(raw, deeper) if claimed is None else claimed


def _carries(raw: bytes, deeper: int) -> bool:
    """Return whether an object is an envelope with an event."""
    if not deeper or not _may_carry(raw):
        return False
    return any(_claims(event, deeper - 1) for event in within(raw))


def _may_carry(raw: bytes) -> bool:
    return any(mark in raw for mark in _MARKS_WITHIN)


def _is_xml(raw: bytes) -> bool:
    json_begin, xml_begin = raw.find(b"{"), raw.find(b"<Event")
    return xml_begin >= 0 and not 0 <= json_begin < xml_begin


def _from_xml(raw: bytes) -> Record:
    event = head(raw)
    return Record(source_of(event.author), _event_id(event.event_id or None), event.computer, event.time, event.event)


def _from_event(event: _Event) -> Record:
    system = event.System
    provider = system.Provider.attributes or system.Provider
    created = system.TimeCreated.attributes or system.TimeCreated
    event_id, data = _event_id(system.EventID), bytes(event.EventData)
    if data.startswith(b"{"):
        inner = bytes(_INNER.decode(data).Data)
        data = inner if inner.startswith(b"{") else data
    return Record(source_of(provider.Name or system.Channel), event_id, system.Computer, created.SystemTime, data)


def _in_snake_case(line: _Line) -> Record:
    source = source_of(line.source_name or line.provider_name or line.log_name or line.channel)
    logged = (
        line.timestamp or line.timeCreated or (line.plain_timestamp if isinstance(line.plain_timestamp, str) else "")
    )
    data = _object_or_text(line.event_data) or _shown_values(line.message, source)
    return Record(source, _event_id(line.event_id), line.computer_name or line.computer, logged, data)


def _with_values_beside(line: _Line, raw: bytes) -> Record:
    """Return the record of an event whose values are in `EventData`, beside the number, or only in the text."""
    source = source_of(line.author or line.Channel or line.EventLog)
    computer = line.Hostname or line.Computer or line.ComputerName
    data = _object_or_text(line.EventData) if line.EventData else b""
    beside: Any = line if type(line) is _WithValues else None
    if not data:
        has_values = beside is not None and (beside.UtcTime is not None or beside.SourceAddress is not None)
        if not has_values and source != "other" and _VALUES.search(raw) is None:
            data = _shown_values(line.Message or line.Description or line.RenderedDescription, source)
    event_id, logged = _event_id(line.EventID), _logged(line)
    return Record(source, event_id, computer, logged, data or raw, b"", None if data else beside)


def _from_wazuh(win: _Win) -> Record:
    """Return the record of Wazuh's event; its names begin with a small letter, and its values are escaped twice."""
    system = win.system
    source = source_of(system.providerName or system.channel)
    given = islice(win.eventdata.items(), VALUES_MAX)
    values = {name[:1].upper() + name[1:]: _unescaped(value) for name, value in given}
    data = msgspec.json.encode(values) if values else _shown_values(system.message, source)
    return Record(source, _event_id(system.eventID), system.computer, system.systemTime, data)


def _unescaped(value: object) -> object:
    if not isinstance(value, str) or "\\" not in value or _LONE_BACKSLASH.search(value) is not None:
        return value
    return unescaped(value, '"')


def _plainly_named(raw: bytes) -> bytes:
    """Return a GELF line without the underscores, or a line of dotted names as nested objects. Raises msgspec's errors."""
    line = dotted(raw)
    if _GELF in raw:
        host = line.get("host")
        line = {name.removeprefix("_"): value for name, value in line.items() if name.startswith("_")}
        line.setdefault("Hostname", host)
        return msgspec.json.encode(line)
    return msgspec.json.encode(nested(line))


def _object_or_text(written: msgspec.Raw) -> bytes:
    """Return an object unchanged, or the text of a string; b"" for anything else."""
    if not written:
        return b""
    data = bytes(written)
    if data.startswith(b'"'):
        return _TEXT.decode(data).strip().encode("utf-8", "replace")
    return data if data.startswith(b"{") else b""


def _shown_values(text: object, source: Source) -> bytes:
    """Return the values in a text as JSON; b"" if it has none."""
    values = values_of(text, source) if isinstance(text, str) else None
    return msgspec.json.encode(values) if values else b""


def _event_id(written: object) -> int:
    if written.__class__ is int and 0 <= written <= EVENT_ID_MAX:  # the most common case
        return written
    if isinstance(written, dict):
        written = written.get("#text")
    if written is None:
        raise Missing("no event id where any shipper has it")
    return number(written, "event id", EVENT_ID_MAX)


def _logged(line: _Line) -> str:
    if line.SourceModuleType and line.EventTime:
        return _with_zone(line)
    return (line.TimeGenerated or line.TimeCreated or line.timestamp or line.EventTime).replace("/", "-")


def _with_zone(line: _Line) -> str:
    """Return NXLog's local `EventTime` with its zone, derived from NXLog's UTC time of forwarding."""
    written = line.EventTime
    if not (line.EventReceivedTime and line.timestamp) or written[19:].strip(".0123456789"):
        return written
    ahead = parse_micros(line.EventReceivedTime) - parse_micros(line.timestamp)
    return written + _zone(round(ahead / QUARTER_HOUR))


@lru_cache(maxsize=256)
def _zone(quarters: int) -> str:
    """Return the zone as in ISO 8601; "" if it is too far from UTC."""
    if abs(quarters) > ZONE_QUARTERS_MAX:
        return ""
    hours, quarter = divmod(abs(quarters), 4)
    return f"{'-' if quarters < 0 else '+'}{hours:02}:{quarter * 15:02}"
