"""Events that somebody passes on inside a JSON object or list of his own: those of Windows, Defender and in ECS.

Other sensors' lines of JSON: `schemas.within`; proxies' lines of text: `schemas.carried`.

| who | where the event is |
|---|---|
| Elasticsearch, as exported or found | `_source` |
| Splunk's search as JSON | `result`, in it `_raw` |
| Cribl, Splunk's forwarders | `_raw` |
| Splunk's HTTP event collector | `event` |
| Splunk's add-on for Event Hubs | `body` |
| Beats, Elastic Agent, Logstash, Vector | `message`, `event.original` |
| Vector's Windows source, told to keep it | `xml` |
| Fluent Bit's tail, Docker's log files | `log` |
| journald, syslog-ng | `MESSAGE` |
| Fluent Bit's outputs, exports of a table | a list |

An event is either an object there or a text.
"""

from __future__ import annotations

import re

import msgspec

DEPTH_MAX = 3
"""So many carriers may be around an event."""
ELEMENTS_MAX = 10_000
"""A longer list is not taken apart."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Carrier(msgspec.Struct, gc=False):
    source: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="_source")
    result: msgspec.Raw = msgspec.Raw(b"")
    body: msgspec.Raw = msgspec.Raw(b"")
    raw: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="_raw")
    event: msgspec.Raw = msgspec.Raw(b"")
    original: msgspec.Raw = msgspec.Raw(b"")
    xml: msgspec.Raw = msgspec.Raw(b"")
    message: msgspec.Raw = msgspec.Raw(b"")
    log: msgspec.Raw = msgspec.Raw(b"")
    syslog_message: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="MESSAGE")


_CARRIER = msgspec.json.Decoder(_Carrier)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_PLACE = re.compile(rb'"(?:_source|result|body|_raw|event|original|xml|message|log|MESSAGE)"\s*:\s*["{]')


def within(raw: bytes) -> list[bytes]:
    """What an object holds in the places where events are carried, the likeliest first. Never raises."""
    if not raw.startswith(b"{") or _PLACE.search(raw) is None:
        return []
    try:
        carrier = _CARRIER.decode(raw)
        held = (_held(getattr(carrier, place)) for place in _Carrier.__struct_fields__)
        return [event for event in held if event]
    except UNREADABLE:
        return []


def elements(raw: bytes) -> list[bytes]:
    """The objects of a list; [] of anything else, and of a list that is too long. Never raises."""
    if not raw.startswith(b"["):
        return []
    try:
        held = _LIST.decode(raw)
    except UNREADABLE:
        return []
    return [bytes(one) for one in held if bytes(one).startswith(b"{")] if len(held) <= ELEMENTS_MAX else []


def _held(place: msgspec.Raw) -> bytes:
    written = bytes(place)
    if not written.startswith(b'"'):
        return written if written.startswith(b"{") else b""
    return _TEXT.decode(written).encode("utf-8", "replace")
