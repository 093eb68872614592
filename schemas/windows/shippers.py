"""The shapes in which shippers write a Windows event, told apart by content.

| shape | told by |
|---|---|
| Winlogbeat 7 and 8, Elastic Agent | `winlog` |
| Winlogbeat 6 | `event_id`, `event_data` |
| NXLog, and flat exports of an event's properties | `EventID`, values beside it |
| Azure tables WindowsEvent and SecurityEvent | `EventID`, `EventData` as a string of JSON or XML |
| Azure table Syslog (Sysmon for Linux) | `SyslogMessage` with Event XML |
| Event as nested JSON (Datadog agent, evtx_dump) | `Event` |
| Event XML, in a root or not | `<Event` |
| any of these behind a syslog header | `{` or `<Event` further on |
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from schemas.clock import parse_micros
from schemas.windows.event_xml import Malformed, apart, head
from schemas.windows.record import Missing, Record, Scalar, SysmonConnection, SysmonProcess, number, source_of

EVENT_ID_MAX = 65_535
QUARTER_HOUR = 15 * 60 * 1_000_000
ZONE_QUARTERS_MAX = 14 * 4
"""No time zone is further from UTC than 14 hours."""


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


class _Line(msgspec.Struct, gc=False):
    timestamp: str = msgspec.field(default="", name="@timestamp")
    winlog: _Winlog | None = None
    Event: _Event | str | None = None
    SyslogMessage: str = ""
    event_id: Any = None
    source_name: str = ""
    log_name: str = ""
    computer_name: str = ""
    event_data: msgspec.Raw = msgspec.Raw(b"")
    EventID: Any = None
    Channel: str = ""
    SourceName: str = ""
    Hostname: str = ""
    EventTime: str = ""
    EventReceivedTime: str = ""
    TimeCreated: str = ""
    SourceModuleType: str = ""
    Provider: str = ""
    EventSourceName: str = ""
    Computer: str = ""
    TimeGenerated: str = ""
    EventData: msgspec.Raw = msgspec.Raw(b"")


class _Shape(msgspec.Struct, gc=False):
    winlog: _Winlog | None = None
    Event: _Event | str | None = None
    SyslogMessage: str = ""
    event_id: Any = None
    source_name: str = ""
    log_name: str = ""
    EventID: Any = None
    Channel: str = ""
    SourceName: str = ""
    Provider: str = ""
    EventSourceName: str = ""


class _Address(msgspec.Struct, gc=False):
    ip: Scalar = None
    port: Scalar = None


class _Network(msgspec.Struct, gc=False):
    transport: Scalar = None
    direction: Scalar = None


class _EcsHash(msgspec.Struct, gc=False):
    sha1: str = ""
    sha256: str = ""
    md5: str = ""


class _EcsParent(msgspec.Struct, gc=False):
    pid: Scalar = None
    executable: Scalar = None


class _EcsProcess(_EcsParent, gc=False):
    entity_id: Scalar = None
    command_line: Scalar = None
    hash: _EcsHash = msgspec.field(default_factory=_EcsHash)
    parent: _EcsParent = msgspec.field(default_factory=_EcsParent)


class _EcsUser(msgspec.Struct, gc=False):
    domain: str = ""
    name: str = ""


class _Ecs(msgspec.Struct, gc=False):
    source: _Address = msgspec.field(default_factory=_Address)
    destination: _Address = msgspec.field(default_factory=_Address)
    network: _Network = msgspec.field(default_factory=_Network)
    process: _EcsProcess = msgspec.field(default_factory=_EcsProcess)
    user: _EcsUser = msgspec.field(default_factory=_EcsUser)


_LINE = msgspec.json.Decoder(_Line)
_SHAPE = msgspec.json.Decoder(_Shape)
_INNER = msgspec.json.Decoder(_EventData)
_ECS = msgspec.json.Decoder(_Ecs)
_TEXT = msgspec.json.Decoder(str)
_MARKS = re.compile(rb'"(?:winlog|Event|SyslogMessage|event_id|EventID)"')
"""One of these stands in each of the shapes in JSON."""
_XML_MARKS = (b"<System", b"<Provider", b"<EventID")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read(raw: bytes) -> Record:
    """The event of a line. Raises ValueError, of it Malformed and Missing, and msgspec's errors."""
    if not raw.startswith(b"{"):
        if _is_xml(raw):
            return _from_xml(raw)
        json_begin = raw.find(b"{")
        if json_begin < 0:
            raise Malformed("neither JSON nor an <Event>")
        raw = raw[json_begin:]
    line = _LINE.decode(raw)
    if line.winlog is not None:
        winlog = line.winlog
        source = source_of(winlog.provider_name, winlog.channel)
        event_id, data = _event_id(winlog.event_id), bytes(winlog.event_data)
        return Record(source, event_id, winlog.computer_name, line.timestamp, data, ecs=raw)
    if isinstance(line.Event, _Event):
        return _from_event(line.Event)
    if line.SyslogMessage:
        return _from_xml(line.SyslogMessage.encode("utf-8", "replace"))
    if line.event_id is not None:
        source = source_of(line.source_name, line.log_name)
        return Record(source, _event_id(line.event_id), line.computer_name, line.timestamp, bytes(line.event_data))
    source = source_of(line.SourceName or line.Provider or line.EventSourceName, line.Channel)
    event_id, computer = _event_id(line.EventID), line.Hostname or line.Computer
    data = bytes(line.EventData)
    if data.startswith(b'"'):
        data = _TEXT.decode(data).strip().encode("utf-8", "replace")
    return Record(source, event_id, computer, _logged(line), data or raw)


def split(raw: bytes) -> list[bytes]:
    """The events of a line: several only in Event XML, as Event Viewer exports it."""
    return [raw] if raw.startswith(b"{") or not _is_xml(raw) else apart(raw)


def claims(raw: bytes) -> bool:
    """A number and who writes it, where one of the shapes has them."""
    if not raw.startswith(b"{"):
        if _is_xml(raw):
            return all(mark in raw for mark in _XML_MARKS)
        json_begin = raw.find(b"{")
        if json_begin < 0:
            return False
        raw = raw[json_begin:]
    if _MARKS.search(raw) is None:
        return False
    try:
        shape = _SHAPE.decode(raw)
    except _UNREADABLE:
        return False
    if shape.winlog is not None:
        return shape.winlog.event_id is not None
    if isinstance(shape.Event, _Event):
        return shape.Event.System.EventID is not None
    if shape.SyslogMessage:
        return all(mark in shape.SyslogMessage.encode("utf-8", "replace") for mark in _XML_MARKS)
    if shape.event_id is not None:
        return bool(shape.source_name or shape.log_name)
    return shape.EventID is not None and bool(
        shape.Channel or shape.SourceName or shape.Provider or shape.EventSourceName
    )


def ecs_values(raw: bytes) -> SysmonConnection:
    """A connection that was moved to the Elastic Common Schema, `UtcTime` to `@timestamp`. Raises msgspec's errors."""
    ecs = _ECS.decode(raw)
    return SysmonConnection(
        ProcessGuid=ecs.process.entity_id,
        ProcessId=ecs.process.pid,
        Image=ecs.process.executable,
        User=_user(ecs.user),
        Protocol=ecs.network.transport,
        Initiated=ecs.network.direction in ("egress", "outbound"),
        SourceIp=ecs.source.ip,
        SourcePort=ecs.source.port,
        DestinationIp=ecs.destination.ip,
        DestinationPort=ecs.destination.port,
    )


def ecs_process(raw: bytes) -> SysmonProcess:
    """A process that was moved to the Elastic Common Schema, likewise. Raises msgspec's errors."""
    ecs = _ECS.decode(raw)
    process = ecs.process
    hashes = process.hash
    return SysmonProcess(
        ProcessGuid=process.entity_id,
        ProcessId=process.pid,
        Image=process.executable,
        User=_user(ecs.user),
        CommandLine=process.command_line,
        Hashes=f"SHA1={hashes.sha1},SHA256={hashes.sha256},MD5={hashes.md5}",
        ParentProcessId=process.parent.pid,
        ParentImage=process.parent.executable,
    )


def _user(user: _EcsUser) -> str:
    return f"{user.domain}\\{user.name}" if user.domain else user.name


def _is_xml(raw: bytes) -> bool:
    json_begin, xml_begin = raw.find(b"{"), raw.find(b"<Event")
    return xml_begin >= 0 and not 0 <= json_begin < xml_begin


def _from_xml(raw: bytes) -> Record:
    provider, channel, event_id, computer, time, event = head(raw)
    return Record(source_of(provider, channel), _event_id(event_id or None), computer, time, event)


def _from_event(event: _Event) -> Record:
    system = event.System
    provider = system.Provider.attributes or system.Provider
    created = system.TimeCreated.attributes or system.TimeCreated
    event_id, data = _event_id(system.EventID), bytes(event.EventData)
    if data.startswith(b"{"):
        inner = bytes(_INNER.decode(data).Data)
        data = inner if inner.startswith(b"{") else data
    return Record(source_of(provider.Name, system.Channel), event_id, system.Computer, created.SystemTime, data)


def _event_id(written: object) -> int:
    if written.__class__ is int and 0 <= written <= EVENT_ID_MAX:  # mostly, and fast
        return written
    if isinstance(written, dict):
        written = written.get("#text")
    if written is None:
        raise Missing("no event id where any shipper has it")
    return number(written, "event id", EVENT_ID_MAX)


def _logged(line: _Line) -> str:
    if line.SourceModuleType and line.EventTime:
        return _with_zone(line)
    return line.TimeGenerated or line.TimeCreated or line.timestamp or line.EventTime


def _with_zone(line: _Line) -> str:
    """NXLog's `EventTime` is local time without a zone. It wrote the same of the moment when it passed the event on."""
    written = line.EventTime
    if not (line.EventReceivedTime and line.timestamp) or written[19:].strip(".0123456789"):
        return written
    ahead = parse_micros(line.EventReceivedTime) - parse_micros(line.timestamp)
    return written + _zone(round(ahead / QUARTER_HOUR))


@lru_cache(maxsize=256)
def _zone(quarters: int) -> str:
    """As ISO 8601 has it; "" where no zone is so far from UTC."""
    if abs(quarters) > ZONE_QUARTERS_MAX:
        return ""
    hours, quarter = divmod(abs(quarters), 4)
    return f"{'-' if quarters < 0 else '+'}{hours:02}:{quarter * 15:02}"
