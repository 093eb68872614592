"""Event XML, read by looking for the few things that Windows writes, always in the same way.

There is no XML parser here, so nothing expands, nothing is fetched, and a line costs a tenth. A document type or a section
of raw text (`<!DOCTYPE`, `<![CDATA[`) is never part of an event and is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BEGINS = (b"<Event ", b"<Event>")
_END = b"</Event>"
_SYSTEM_END = b"</System>"
_PROVIDER = re.compile(r"<Provider\s[^<>]*?\bName=[\"']([^\"'<>]*)[\"']")
_NUMBER = re.compile(r"<EventID(?:\s[^<>]*)?>\s*(\d{1,5})\s*</EventID>")
_TIME = re.compile(r"<TimeCreated\s+SystemTime=[\"']([^\"'<>]*)[\"']")
_DATA = re.compile(r"<Data\s+Name=[\"']([^\"'<>]*)[\"']\s*(?:/>|>([^<]*)</Data>)")
_REFERENCE = re.compile(r"&(#x[0-9a-fA-F]{1,6}|#[0-9]{1,7}|amp|lt|gt|quot|apos);")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_CODE_POINT_MAX = 0x10FFFF


class Malformed(ValueError):
    """This is no event at all."""


class Head(NamedTuple):
    """What stands in `System`, and the whole event."""

    provider: str
    channel: str
    event_id: str
    computer: str
    time: str
    event: bytes


def head(raw: bytes) -> Head:
    """The one event of a line, whatever stands around it; syslog may have cut off its end. Raises Malformed."""
    begun = [place for place in map(raw.find, _BEGINS) if place >= 0]
    begin = min(begun, default=-1)
    if begin < 0 or any(raw.find(mark, begin + 1) >= 0 for mark in _BEGINS):
        raise Malformed("not one <Event> in the line; each needs a line of its own")
    system_end, end = raw.find(_SYSTEM_END, begin), raw.find(_END, begin)
    if system_end < 0:
        raise Malformed("<Event> without </System>")
    event = raw[begin : end + len(_END)] if end >= 0 else raw[begin:]
    if b"<!" in event:
        raise Malformed("<! inside an event")
    system = raw[begin:system_end].decode("utf-8", "replace")
    return Head(
        _first(_PROVIDER, system),
        _content(system, "<Channel>"),
        _first(_NUMBER, system),
        _content(system, "<Computer>"),
        _first(_TIME, system),
        event,
    )


def scan(event: bytes) -> dict[str, str]:
    """The named values of an event, or of its `EventData` alone."""
    written = event.decode("utf-8", "replace")
    found = _DATA.findall(written)
    if "&" not in written:
        return dict(found)
    return {_plain(name): _plain(value) for name, value in found}


def _first(pattern: re.Pattern[str], system: str) -> str:
    found = pattern.search(system)
    return _plain(found[1]) if found is not None else ""


def _content(system: str, tag: str) -> str:
    return _plain(system.partition(tag)[2].partition("<")[0])


def _plain(written: str) -> str:
    return _REFERENCE.sub(_referred, written) if "&" in written else written


def _referred(reference: re.Match[str]) -> str:
    name = reference[1]
    if name[0] != "#":
        return _NAMED[name]
    code = int(name[2:], 16) if name[1] == "x" else int(name[1:])
    surrogate = 0xD800 <= code <= 0xDFFF
    return chr(code) if code <= _CODE_POINT_MAX and not surrogate else "\N{REPLACEMENT CHARACTER}"
