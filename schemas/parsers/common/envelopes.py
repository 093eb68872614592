"""Events that a shipper passes on inside a JSON object or list of its own, or behind a header.

What is in front of proxies' lines of text, and who put it there: `schemas.parsers.common.carriers`.

| who | where the event is |
|---|---|
| Beats, Elastic Agent, Logstash, Vector | `message`, `event.original` |
| Filebeat that reads JSON | `json` |
| Elasticsearch, as exported or found | `_source` |
| Splunk's search as JSON | `result`, in it `_raw` |
| Cribl, Splunk's forwarders | `_raw` |
| Splunk's HTTP event collector, AWS Network Firewall | `event` |
| Splunk's add-on for Event Hubs | `body` |
| Vector's Windows source, if set to keep it | `xml` |
| Fluent Bit's tail, Docker's log files | `log` |
| Wazuh's archive | `full_log`; in `data` as an object whose numbers are texts |
| journald, syslog-ng | `MESSAGE` |
| Azure's table `Syslog`, and custom tables | `SyslogMessage`, `RawData` |
| syslog (RFC 3164, RFC 5424), a syslog daemon's file, a container's log | behind its header |
| Fluent Bit's outputs, exports of a table | a list |

An event is either an object there or a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeVar

import msgspec

from schemas.parsers.common.rejects import UNREADABLE

Line = TypeVar("Line")

LONG_BYTES = 16_384
"""Lines of at least this size have the result of the search for an event cached, as each dialect asks for it."""
DEPTH_MAX = 3
"""Maximum number of envelopes inside one another."""
ELEMENTS_MAX = 10_000
"""Maximum length of a list that is split."""
_NONE = msgspec.Raw(b"")


class _Carrier(msgspec.Struct, gc=False):
    """Members that may contain the event, the most frequent first."""

    source: msgspec.Raw = msgspec.field(default=_NONE, name="_source")
    result: msgspec.Raw = _NONE
    body: msgspec.Raw = _NONE
    raw: msgspec.Raw = msgspec.field(default=_NONE, name="_raw")
    event: msgspec.Raw = _NONE
    flat_original: msgspec.Raw = msgspec.field(default=_NONE, name="event.original")
    original: msgspec.Raw = _NONE
    xml: msgspec.Raw = _NONE
    message: msgspec.Raw = _NONE
    json: msgspec.Raw = _NONE
    log: msgspec.Raw = _NONE
    full_log: msgspec.Raw = _NONE
    data: msgspec.Raw = _NONE
    syslog_message: msgspec.Raw = msgspec.field(default=_NONE, name="MESSAGE")
    azure_syslog: msgspec.Raw = msgspec.field(default=_NONE, name="SyslogMessage")
    azure_raw: msgspec.Raw = msgspec.field(default=_NONE, name="RawData")


PLACES = frozenset(_Carrier.__struct_encode_fields__)
"""Names of these members."""
_CARRIER = msgspec.json.Decoder(_Carrier)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_PLACE = re.compile(rb'"(?:%s)"\s*+:\s*+["{]' % b"|".join(re.escape(place).encode() for place in sorted(PLACES)))


def within(raw: bytes) -> list[bytes]:
    """Return the events in the envelope members of an object, or the object behind a header. Never raises."""
    return _within(raw) if len(raw) <= LONG_BYTES else _remembered(raw)


def _within(raw: bytes) -> list[bytes]:
    begin = raw.find(b"{")
    if begin:
        return [raw[begin:]] if begin > 0 else []
    if _PLACE.search(raw) is None:
        return []
    try:
        carrier = _CARRIER.decode(raw)
        held = (_held(getattr(carrier, place)) for place in _Carrier.__struct_fields__)
        return [event for event in held if event]
    except UNREADABLE:
        return []


_remembered = lru_cache(maxsize=4)(_within)


def anywhere_within(raw: bytes, deeper: int = DEPTH_MAX) -> Iterator[bytes]:
    """Yield the events in envelopes at any depth up to `deeper`. Most are not of the caller's dialect, which tries each.

    Never raises.
    """
    for held in within(raw):
        yield held
        if deeper > 1:
            yield from anywhere_within(held, deeper - 1)


def read(
    raw: bytes, decoder: msgspec.json.Decoder[Line], is_own: Callable[[Line], bool], is_held: Callable[[Line], bool]
) -> Line:
    """Decode a line of the sensor itself, else the first event in its envelopes that `is_held` accepts.

    Raises the error of decoding the line if there is no such event.
    """
    try:
        line = decoder.decode(raw)
    except UNREADABLE:
        held = _first(raw, decoder, is_held)
        if held is None:
            raise
        return held
    return line if is_own(line) else _first(raw, decoder, is_held) or line


def elements(raw: bytes) -> list[bytes]:
    """Return the objects of a JSON list; an empty list for anything else and for a list that is too long. Never raises."""
    if not raw.startswith(b"["):
        return []
    try:
        held = _LIST.decode(raw)
    except UNREADABLE:
        return []
    return [bytes(one) for one in held if bytes(one).startswith(b"{")] if len(held) <= ELEMENTS_MAX else []


def _first(raw: bytes, decoder: msgspec.json.Decoder[Line], fits: Callable[[Line], bool]) -> Line | None:
    for held in anywhere_within(raw):
        try:
            line = decoder.decode(held)
        except UNREADABLE:
            continue
        if fits(line):
            return line
    return None


def _held(place: msgspec.Raw) -> bytes:
    written = bytes(place)
    if not written.startswith(b'"'):
        return written if written.startswith(b"{") else b""
    return _TEXT.decode(written).encode("utf-8", "replace")
