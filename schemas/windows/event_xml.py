"""Event XML, read by looking for the few things that Windows writes, always in the same way.

There is no XML parser here, so nothing expands, nothing is fetched, and a line costs a tenth. A document type or a section
of raw text (`<!DOCTYPE`, `<![CDATA[`) is never part of an event and is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BEGIN = re.compile(rb"<Event(?=[\s>])")
_END = b"</Event>"
_PROVIDER = re.compile(rb"<Provider\s[^<>]*?\bName=[\"']([^\"'<>]*)[\"']")
_NUMBER = re.compile(rb"<EventID(?:\s[^<>]*)?>\s*(\d{1,5})\s*</EventID>")
_TIME = re.compile(rb"<TimeCreated\s+SystemTime=[\"']([^\"'<>]*)[\"']")
_CHANNEL = re.compile(rb"<Channel>([^<]*)</Channel>")
_COMPUTER = re.compile(rb"<Computer>([^<]*)</Computer>")
_DATA = re.compile(rb"<Data\s+Name=[\"']([^\"'<>]*)[\"']\s*(?:/>|>([^<]*)</Data>)")
_REFERENCE = re.compile(r"&(#x[0-9a-fA-F]{1,6}|#[0-9]{1,7}|amp|lt|gt|quot|apos);")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_CODE_POINT_MAX = 0x10FFFF


class Head(NamedTuple):
    """What stands in `System`, and the whole event."""

    provider: str
    channel: str
    event_id: str
    computer: str
    time: str
    event: bytes


def head(raw: bytes) -> Head:
    """The one event of a line, whatever stands around it. Raises ValueError."""
    begun = _BEGIN.search(raw)
    end = raw.find(_END)
    if begun is None or end < begun.start():
        raise ValueError("no whole <Event>")
    event = raw[begun.start() : end + len(_END)]
    if _BEGIN.search(raw, begun.end()):
        raise ValueError("more than one <Event> in the line; each needs a line of its own")
    if b"<!" in event:
        raise ValueError("<! inside an event")
    system = event[: event.find(b"</System>")]
    return Head(*(_first(pattern, system) for pattern in (_PROVIDER, _CHANNEL, _NUMBER, _COMPUTER, _TIME)), event)


def scan(event: bytes) -> dict[str, object]:
    """The named values of an event, or of its `EventData` alone."""
    return {_plain(name): _plain(value) for name, value in _DATA.findall(event)}


def _first(pattern: re.Pattern[bytes], system: bytes) -> str:
    found = pattern.search(system)
    return _plain(found[1]) if found is not None else ""


def _plain(written: bytes) -> str:
    plain = written.decode("utf-8", "replace")
    return _REFERENCE.sub(_referred, plain) if "&" in plain else plain


def _referred(reference: re.Match[str]) -> str:
    name = reference[1]
    if name[0] != "#":
        return _NAMED[name]
    code = int(name[2:], 16) if name[1] == "x" else int(name[1:])
    surrogate = 0xD800 <= code <= 0xDFFF
    return chr(code) if code <= _CODE_POINT_MAX and not surrogate else "\N{REPLACEMENT CHARACTER}"
