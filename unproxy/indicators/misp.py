"""Indicators of MISP: events and attributes in JSON, from an export, a feed or the answer of a search; and CSV exports.

A `hostname` matches only this host, a `domain` also the names below it. Attributes that are not for detection (`to_ids`)
are refused, and so are the source addresses of attacks (`ip-src`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from schemas.indicator_input import Given, Refused
from schemas.indicator_values import Why
from schemas.indicators import IndicatorType
from unproxy.indicators.csv_rows import rows
from unproxy.indicators.entry import Entry, as_bool, as_text

NEEDED = {"type", "value", "toids"}
"""Columns by which a CSV export is recognised, spelt as `names_in` returns them."""
KINDS = {
    "domain": IndicatorType.DOMAIN,
    "hostname": IndicatorType.DOMAIN,
    "url": IndicatorType.URL,
    "ip-dst": IndicatorType.IP,
    "ip": IndicatorType.IP,
}
WITH_PORT = {"ip-dst|port": "ip-dst", "hostname|port": "hostname"}
DOMAIN_AND_IP = "domain|ip"
SOURCES = ("ip-src", "ip-src|port")
LEVELS = {"1": "high", "2": "medium", "3": "low"}

Attribute = Mapping[str, Any]


class _Attributes(msgspec.Struct):
    Attribute: list[msgspec.Raw] = []
    Object: list[msgspec.Raw] = []
    info: Any = None
    threat_level_id: Any = None
    deleted: Any = None


class Wrapped(msgspec.Struct):
    """The content of a file: an event in its envelope, the answer of a search, or only attributes."""

    Event: _Attributes | None = None
    response: list[Wrapped] | Wrapped | None = None
    Attribute: list[msgspec.Raw] = []
    Object: list[msgspec.Raw] = []


def entries(found: Wrapped | list[Wrapped], where: str = "") -> Iterator[Entry]:
    """Yield the entries of a JSON file; `where` is the path of `found` in it."""
    if isinstance(found, list):
        for number, one in enumerate(found):
            yield from entries(one, f"{where}[{number}]")
        return
    if found.response is not None:
        yield from entries(found.response, f"{where}response")
    if found.Event is not None:
        yield from _of_event(found.Event, f"{where}.Event".removeprefix("."))
    yield from _of_event(_Attributes(found.Attribute, found.Object), where)


def csv_entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of a CSV file."""
    for where, row in rows(lines):
        if isinstance(row, Refused):
            yield Entry(where, row)
            continue
        attribute = {**row, "to_ids": row.get("toids")}
        yield from (
            Entry(where, content)
            for content in _contents(attribute, row.get("eventinfo", ""), row.get("eventthreatlevelid", ""))
        )


def _of_event(event: _Attributes, where: str) -> Iterator[Entry]:
    title, level = as_text(event.info), as_text(event.threat_level_id)
    for name, raw in _attributes(event, where):
        try:
            attribute = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            yield Entry(name, Refused("", Why.UNREADABLE, str(error)))
            continue
        own = attribute.get("Event") or {}
        if isinstance(own, dict):
            title, level = as_text(own.get("info")) or title, as_text(own.get("threat_level_id")) or level
        yield from (Entry(name, content) for content in _contents(attribute, title, level))


def _attributes(event: _Attributes, where: str) -> Iterator[tuple[str, msgspec.Raw]]:
    """Yield the attributes of an event, then those of its objects, each with its path."""
    place = f"{where}." if where else ""
    for number, raw in enumerate(event.Attribute):
        yield f"{place}Attribute[{number}]", raw
    for number, raw in enumerate(event.Object):
        try:
            inner = msgspec.json.decode(raw, type=_Attributes)
        except msgspec.DecodeError:
            yield f"{place}Object[{number}]", raw
            continue
        if not as_bool(inner.deleted):
            yield from _attributes(inner, f"{place}Object[{number}]")


def _contents(attribute: Attribute, title: str, level: str) -> Iterator[Given | Refused]:
    kind, value = as_text(attribute.get("type")), as_text(attribute.get("value"))
    refused = _why_not(kind, attribute)
    if refused is not None:
        yield Refused(value, *refused)
        return
    given = Given(
        value=value,
        kind=KINDS.get(WITH_PORT.get(kind, kind)),
        exact=kind.startswith("hostname"),
        title=title or as_text(attribute.get("comment")),
        severity=LEVELS.get(level, ""),
        category=as_text(attribute.get("category")),
    )
    first, bar, second = value.partition("|")
    if kind == DOMAIN_AND_IP:
        yield given._replace(value=first, kind=IndicatorType.DOMAIN)
        yield given._replace(value=second, kind=IndicatorType.IP)
    elif kind not in WITH_PORT:
        yield given
    elif bar and second.isascii() and second.isdigit() and len(second) <= 5:
        yield given._replace(value=first, port=int(second))
    else:
        yield Refused(value, Why.BAD_FIELD, "no port behind |")


def _why_not(kind: str, attribute: Attribute) -> tuple[Why, str] | None:
    if kind in SOURCES:
        return Why.SOURCE, kind
    if kind not in KINDS and kind not in WITH_PORT and kind != DOMAIN_AND_IP:
        return Why.NOT_NETWORK, kind[:40]
    if as_bool(attribute.get("deleted")):
        return Why.REVOKED, "deleted"
    if not as_bool(attribute.get("to_ids")):
        return Why.NOT_FOR_DETECTION, "to_ids"
    return None
