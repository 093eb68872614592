"""A network or Linux sensor's line of JSON inside of what carried it; for those of Windows and Defender, which come as XML and
in lists as well, see `schemas.envelopes`, for proxies' lines of text `schemas.carried`.

| carrier | holds the line |
|---|---|
| syslog (RFC 3164, RFC 5424), a syslog daemon's file, a container's log | behind its header |
| Beats, Elastic Agent, Vector, Logstash | in `message` or `event.original` |
| Filebeat that reads JSON | in `json`, as an object |
| Fluent Bit, Docker's `json-file` | in `log` |
| Splunk's export | in `result._raw` or `_raw` |
| Wazuh's archive | in `full_log`; in `data` as an object whose numbers are texts |
| AWS Network Firewall | in `event`, as an object |
| journald's export | in `MESSAGE` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

Line = TypeVar("Line")

_NONE = msgspec.Raw(b"")


class _Carrier(msgspec.Struct, gc=False):
    message: msgspec.Raw = _NONE
    original: msgspec.Raw = msgspec.field(default=_NONE, name="event.original")
    event: msgspec.Raw = _NONE
    json: msgspec.Raw = _NONE
    log: msgspec.Raw = _NONE
    raw: msgspec.Raw = msgspec.field(default=_NONE, name="_raw")
    result: msgspec.Raw = _NONE
    full_log: msgspec.Raw = _NONE
    data: msgspec.Raw = _NONE
    journal: msgspec.Raw = msgspec.field(default=_NONE, name="MESSAGE")


class _Part(msgspec.Struct, gc=False):
    original: msgspec.Raw = _NONE
    raw: msgspec.Raw = msgspec.field(default=_NONE, name="_raw")


CARRIERS = frozenset(_Carrier.__struct_encode_fields__)
"""What carriers call it."""
_CARRIER = msgspec.json.Decoder(_Carrier)
_PART = msgspec.json.Decoder(_Part)
_TEXT = msgspec.json.Decoder(str)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def within(raw: bytes) -> list[bytes]:
    """What may be the line, for a dialect to try in turn: objects of JSON, most of them not. Never raises."""
    begin = raw.find(b"{")
    if begin != 0:
        return [raw[begin:]] if begin > 0 else []
    try:
        carrier = _CARRIER.decode(raw)
        return [line for name in _Carrier.__struct_fields__ for line in _lines(getattr(carrier, name))]
    except _UNREADABLE:
        return []


def read(
    raw: bytes, decoder: msgspec.json.Decoder[Line], is_own: Callable[[Line], bool], is_held: Callable[[Line], bool]
) -> Line:
    """The line as it is, where it can be read and is the sensor's own; else the first in it that is one held there.

    Raises what reading the line raised where it holds none.
    """
    try:
        line = decoder.decode(raw)
    except _UNREADABLE:
        held = _first(raw, decoder, is_held)
        if held is None:
            raise
        return held
    return line if is_own(line) else _first(raw, decoder, is_held) or line


def _first(raw: bytes, decoder: msgspec.json.Decoder[Line], fits: Callable[[Line], bool]) -> Line | None:
    for held in within(raw):
        try:
            line = decoder.decode(held)
        except _UNREADABLE:
            continue
        if fits(line):
            return line
    return None


def _lines(value: msgspec.Raw) -> Iterator[bytes]:
    """A text from its first brace on, an object, and before it what such an object may hold itself."""
    held = bytes(value)
    if held.startswith(b'"'):
        text = _TEXT.decode(held)
        begin = text.find("{")
        if begin >= 0:
            yield text[begin:].encode()
    elif held.startswith(b"{"):
        part = _PART.decode(held)
        for inner in (part.original, part.raw):
            if bytes(inner).startswith(b'"'):
                yield from _lines(inner)
        yield held
