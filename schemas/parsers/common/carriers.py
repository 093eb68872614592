r"""What carriers put in front of a line: syslog headers (RFC 5424, RFC 3164), a container's log prefix, a shipper's JSON.

| carrier | looks like |
|---|---|
| RFC 5424 | `<134>1 2020-11-03T12:41:27Z gw-1 squid 7 - - ` |
| RFC 3164 | `<134>Nov  3 12:41:27 gw-1 squid[7]: `, also without host or tag |
| a syslog daemon's file | `2020-11-03T12:41:27+00:00 gw-1 squid: ` |
| a priority alone | `<134>` |
| container runtime (CRI) | `2025-12-31T17:37:40.493035218+01:00 stdout F ` |
| Beats, Elastic Agent, Vector, Logstash | `{"message":"…","host":{"name":"gw-1"}}` |
| Docker, Fluent Bit | `{"log":"…\n","stream":"stdout","time":"2025-12-31T17:37:40.493035218Z"}` |
| Cribl | `{"_raw":"…","_time":1767202660.493,"host":"gw-1"}` |
| Azure's table `Syslog`, and custom tables | `{"SyslogMessage":"…","HostName":"gw-1","EventTime":"…"}`, `{"RawData":"…"}` |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from schemas.clock import parse_micros, us_micros
from schemas.events import DEVICE_CHARS_MAX, Micros
from schemas.parsers.common.quoting import QUOTED
from schemas.parsers.common.rejects import UNREADABLE

_ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_NEW = re.compile(
    rf"<\d{{1,3}}>\d{{1,2}} (-|{_ISO}) (\S{{1,255}}) (\S{{1,48}}) \S{{1,128}} \S{{1,32}} "
    rf'(?:-|(?:\[[^\]"\\]*+(?:(?:{QUOTED}|\\.)[^\]"\\]*+)*+\])++)(?: \ufeff?|$)'
)
# The word after the time is not a host if it belongs to the line: a time in seconds, a date, or a word before a bracket.
_OLD = re.compile(
    rf"(?:<\d{{1,3}}>)? ?(?:[A-Z][a-z]{{2}} [ \d]\d(?: (?=\d{{4}} )\d{{4}})? \d\d:\d\d:\d\d(?:\.\d{{1,6}})?|({_ISO})):? +"
    r"(?:(?!\d{9,11}(?:\.\d+)?\s|\d{4}-\d\d-\d\d\s|\S{1,255} \[)(\S{0,254}[^\s:]) )?+"
    r"(?:([\w./()-]{1,64})(?:\[\d{1,10}\]: ?|: ))?"
)
_PRIORITY = re.compile(r"<\d{1,3}> ?")
_CONTAINER = re.compile(rf"({_ISO}) (?:stdout|stderr) [FP] ")

Decoded = TypeVar("Decoded")


class Carried(msgspec.Struct, frozen=True, gc=False):
    """A line without its carrier: without what a shipper or syslog put around it."""

    text: str
    host: str
    """The machine that the carrier names; "" if it names none."""
    at: Micros
    """The carrier's time; 0 if it has none, or none with a year."""
    tag: str = ""
    """The program that a syslog header names; "" if there is none."""


class _Host(msgspec.Struct, gc=False):
    name: str = ""


class _Shipped(msgspec.Struct, gc=False):
    message: Any = ""
    raw: Any = msgspec.field(default="", name="_raw")
    log: Any = ""
    timestamp: str = msgspec.field(default="", name="@timestamp")
    time: Any = ""
    host: _Host | str = ""
    azure_syslog: Any = msgspec.field(default="", name="SyslogMessage")
    azure_raw: Any = msgspec.field(default="", name="RawData")
    azure_host: Any = msgspec.field(default="", name="HostName")
    azure_computer: Any = msgspec.field(default="", name="Computer")
    azure_program: Any = msgspec.field(default="", name="ProcessName")
    azure_event_time: Any = msgspec.field(default="", name="EventTime")
    azure_event_time_utc: Any = msgspec.field(default="", name="EventTime [UTC]")
    azure_time: Any = msgspec.field(default="", name="TimeGenerated")
    azure_time_utc: Any = msgspec.field(default="", name="TimeGenerated [UTC]")

    @property
    def line(self) -> str:
        """The carried line, if the member is a string; an object of the same name has another meaning."""
        return _first_text(self.message, self.raw, self.log, self.azure_syslog, self.azure_raw)

    @property
    def machine(self) -> str:
        """Name of the machine from which the line comes."""
        host = self.host if isinstance(self.host, str) else self.host.name
        return host or _first_text(self.azure_host, self.azure_computer)

    @property
    def written(self) -> str:
        """Time at which the line was sent, else at which it was received."""
        return _first_text(
            *(self.timestamp, self.time, self.azure_event_time, self.azure_event_time_utc),
            *(self.azure_time, self.azure_time_utc),
        )


def _first_text(*values: Any) -> str:
    return next((value for value in values if value and isinstance(value, str)), "")


_MEMBERS = (b'"message":', b'"_raw":', b'"log":"', b"SyslogMessage", b"RawData")
"""Marks of lines that may have a carrier. Marks without quotes are found faster in a line with many quotes."""
_SHIPPED = msgspec.json.Decoder(_Shipped)


def carried(raw: bytes) -> Carried:
    """Remove the carrier from a line. Never raises; invalid UTF-8 is replaced."""
    first = raw[:1]
    if first == b"{":
        if any(member in raw for member in _MEMBERS):
            try:
                shipped = _SHIPPED.decode(raw)
            except UNREADABLE:
                return Carried(raw.decode("utf-8", "replace"), "", 0)
            if shipped.line:
                inner = _without_header(shipped.line.rstrip("\r\n"))
                return Carried(
                    inner.text,
                    (inner.host or shipped.machine)[:DEVICE_CHARS_MAX],
                    inner.at or _time(shipped.written),
                    inner.tag or _first_text(shipped.azure_program),
                )
        return Carried(raw.decode("utf-8", "replace").rstrip("\r\n"), "", 0)
    return _without_header(raw.decode("utf-8", "replace").rstrip("\r\n"))


carried_again = lru_cache(maxsize=1)(carried)
"""`carried` with a cache of one line, for `claims`: every dialect is asked about the same line."""


def uncarried(raw: bytes, decode: Callable[[bytes], Decoded]) -> Decoded | None:
    """Decode a JSON line without a carrier (the fast path); None if the line must be passed to `carried`.

    Such a line is ASCII, so no character is replaced. The caller must check the result for a shipper's `message` and Azure's
    columns.
    """
    if raw[:1] != b"{" or raw[-1:] != b"}" or not raw.isascii() or b'"log":"' in raw or b'"_raw":' in raw:
        return None
    try:
        return decode(raw)
    except UNREADABLE:
        return None


def _without_header(text: str) -> Carried:
    first = text[:1]
    if first == "<":
        new = _NEW.match(text)
        if new is not None:
            host = "" if new[2] == "-" else new[2]
            return Carried(text[new.end() :], host, _time(new[1]), new[3])
    elif not (first.isalnum() and (text[10:11] == "T" or text[3:4] == " ")):
        return Carried(text, "", 0)
    container = _CONTAINER.match(text)
    if container is not None:
        return Carried(text[container.end() :], "", _time(container[1]))
    old = _OLD.match(text)
    if old is not None:
        return Carried(text[old.end() :], old[2] or "", _time(old[1] or ""), old[3] or "")
    priority = _PRIORITY.match(text)
    return Carried(text[priority.end() :] if priority is not None else text, "", 0)


def _time(text: str) -> Micros:
    for read in (parse_micros, us_micros) if text else ():
        try:
            return read(text)
        except (ValueError, OverflowError):
            continue
    return 0
