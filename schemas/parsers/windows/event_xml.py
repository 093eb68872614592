"""Parsing of Windows event XML by searching for its few elements, which Windows always writes in the same way.

There is no XML parser, so no entity is expanded and nothing is fetched, and a line takes a tenth of the time. A document type or
CDATA section (`<!DOCTYPE`, `<![CDATA[`) is never part of an event and is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice

import msgspec

from schemas.events import Reason
from schemas.parsers.common.rejects import Unread

_BEGIN, _END = b"<Event", b"</Event>"
_SYSTEM_BEGIN, _SYSTEM_END = b"<System>", b"</System>"
_PROVIDER, _TIME = "<Provider Name=", "<TimeCreated SystemTime="
_NUMBER = re.compile(r"<EventID(?:\s[^<>]*+)?>\s*+(\d{1,5})\s*+</EventID>")
_REFERENCE = re.compile(r"&(#x[0-9a-fA-F]{1,6}|#[0-9]{1,7}|amp|lt|gt|quot|apos);")
_AFTER_NAME = (b" ", b">")
_QUOTES = ('"', "'")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_CODE_POINT_MAX = 0x10FFFF
VALUE_CHARS_MAX = 16_384
"""Length to which a value is cut before its references are resolved: events keep 1,024 characters, each of at most ten as
written."""
VALUES_MAX = 4_096
"""Maximum number of values of an event that are read; no provider of Windows has more than a few hundred."""
KIND_CHARS_MAX = 512
"""Longest text before the time that is cached; it identifies the kind of event, and longer ones are rare."""
EVENTS_MAX = 10_000
"""Maximum number of events in a line that is split; a longer line would produce very many rejects."""


class Head(msgspec.Struct, gc=False):
    """The values of the element `System`, and the whole event."""

    author: str
    """The provider; the channel if there is none."""
    event_id: str
    computer: str
    time: str
    event: bytes


def head(raw: bytes) -> Head:
    """Parse the only event of a line with any text around it; syslog may have cut off its end. Raises Unread."""
    begin = raw.find(_BEGIN)
    while begin >= 0 and raw[begin + len(_BEGIN) : begin + len(_BEGIN) + 1] not in _AFTER_NAME:
        begin = raw.find(_BEGIN, begin + 1)
    system_end = raw.find(_SYSTEM_END, begin)
    if begin < 0 or system_end < 0:
        raise Unread(Reason.MALFORMED, "no <Event> with a whole <System>")
    if raw.rfind(_SYSTEM_BEGIN, system_end) >= 0:  # searching from the end takes half the time
        raise Unread(Reason.MALFORMED, "more than one <Event> in the line; each needs a line of its own")
    end = raw.rfind(_END)
    event = raw[begin : end + len(_END)] if end > system_end else raw[begin:]
    if b"!" in event and b"<!" in event:
        raise Unread(Reason.MALFORMED, "<! inside an event")
    system = raw[begin:system_end].decode("utf-8", "replace")
    time_begin = system.find(_TIME)
    provider, number = _kind(system[:time_begin]) if 0 < time_begin <= KIND_CHARS_MAX else ("", "")
    return Head(
        provider or _attribute(system, _PROVIDER) or _content(system, "<Channel>"),
        number or _number(system),
        _content(system, "<Computer>"),
        _attribute(system, _TIME),
        event,
    )


@lru_cache(maxsize=512)
def _kind(before: str) -> tuple[str, str]:
    """Return provider and number from the text before the time, which is the same for all events of a kind."""
    name_begin = before.find(_PROVIDER) + len(_PROVIDER)
    is_whole = before.find(before[name_begin : name_begin + 1], name_begin + 1) > 0
    return (_attribute(before, _PROVIDER), _number(before)) if is_whole else ("", "")


def _number(system: str) -> str:
    number = _NUMBER.search(system)
    return number[1] if number is not None else ""


def apart(raw: bytes) -> list[bytes]:
    """Split a line into its events, each with the text around it; the parts joined are the line."""
    end = raw.find(_END)
    if end < 0 or raw.find(_BEGIN, end) < 0 or raw.count(_END) > EVENTS_MAX:
        return [raw]
    pieces: list[bytes] = []
    begin = 0
    while end >= 0:
        following = raw.find(_BEGIN, end)
        if following < 0:
            break
        end += len(_END)
        pieces.append(raw[begin:end])
        begin, end = end, raw.find(_END, following)
    return [*pieces, raw[begin:]]


def data_of(names: tuple[str, ...] = ()) -> re.Pattern[str]:
    """Return a pattern for the values with these names, by default for all values.

    The pattern skips other values faster than it would read them.
    """
    name = "|".join(map(re.escape, names)) or "[^\"'<>]*"
    return re.compile(f"<Data Name=[\"']({name})[\"']>([^<]*+)</")


def scan(event: bytes, data: re.Pattern[str]) -> dict[str, str]:
    """Return the values of an event, or of its `EventData`, that match the pattern of `data_of`."""
    written = event.decode("utf-8", "replace")
    if "&" not in written:
        return dict(data.findall(written))
    found = islice(data.finditer(written), VALUES_MAX)
    return {value[1]: _plain(value[2]) if "&" in value[2] else value[2] for value in found}


def _attribute(system: str, mark: str) -> str:
    begin = system.find(mark) + len(mark)
    if begin < len(mark):
        return ""
    quote = system[begin : begin + 1]
    return _plain(system[begin + 1 : system.find(quote, begin + 1)]) if quote in _QUOTES else ""


def _content(system: str, tag: str) -> str:
    return _plain(system.partition(tag)[2].partition("<")[0])


def _plain(written: str) -> str:
    return _REFERENCE.sub(_referred, written[:VALUE_CHARS_MAX]) if "&" in written else written


def _referred(reference: re.Match[str]) -> str:
    name = reference[1]
    if name[0] != "#":
        return _NAMED[name]
    code = int(name[2:], 16) if name[1] == "x" else int(name[1:])
    surrogate = 0xD800 <= code <= 0xDFFF
    return chr(code) if code <= _CODE_POINT_MAX and not surrogate else "\N{REPLACEMENT CHARACTER}"
