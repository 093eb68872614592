"""Indicators of a STIX 2.1 (or 2.0) bundle; its other objects are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.indicator_input import Given, Refused
from schemas.indicator_values import Unfit, Why
from schemas.indicators import IndicatorType
from unproxy.indicators.entry import Entry
from unproxy.indicators.stix_pattern import SUBSET, Comparison, comparisons

KINDS = {
    "domain-name:value": IndicatorType.DOMAIN,
    "ipv4-addr:value": IndicatorType.IP,
    "ipv6-addr:value": IndicatorType.IP,
    "url:value": IndicatorType.URL,
    "network-traffic:dst_ref.value": None,
}
"""Kinds of values, by the property that they are compared with; None if the value may be a name or an address."""
NOT_NETWORK = (
    "file:",
    "artifact:",
    "directory:",
    "email-",
    "process:",
    "software:",
    "user-account:",
    "windows-",
    "x509-",
    "mutex:",
)


class Bundle(msgspec.Struct):
    """A STIX bundle or a TAXII 2.1 envelope; both have the encoded objects in `objects`."""

    objects: list[msgspec.Raw]


class _Indicator(msgspec.Struct):
    type: str = ""
    id: str = ""
    pattern: str = ""
    pattern_type: str = "stix"
    name: str = ""
    description: str = ""
    indicator_types: list[str] = []
    labels: list[str] = []
    valid_until: str = ""
    revoked: bool = False


class _Any(msgspec.Struct):
    type: Any = None
    id: Any = None


_read_any = msgspec.json.Decoder(_Any).decode
_read_indicator = msgspec.json.Decoder(_Indicator).decode


def entries(bundle: Bundle) -> Iterator[Entry]:
    """Yield the entries of a bundle; one object may hold several."""
    for number, raw in enumerate(bundle.objects):
        where = f"objects[{number}]"
        try:
            indicator = _read_any(raw)
            if indicator.type != "indicator":
                continue
            where += f" {indicator.id}"
            for content in _contents(_read_indicator(raw)):
                yield Entry(where, content)
        except msgspec.DecodeError as error:
            yield Entry(where, Refused("", Why.UNREADABLE, str(error)))


def _contents(indicator: _Indicator) -> Iterator[Given | Refused]:
    if indicator.revoked:
        yield Refused(indicator.pattern, Why.REVOKED)
        return
    if indicator.pattern_type != "stix":
        yield Refused(indicator.pattern, Why.UNSUPPORTED, f"pattern_type {indicator.pattern_type[:40]}")
        return
    try:
        found = comparisons(indicator.pattern)
    except Unfit as error:
        yield Refused(indicator.pattern, error.why, error.detail)
        return
    yield from (_one(indicator, comparison) for comparison in found)


def _one(indicator: _Indicator, comparison: Comparison) -> Given | Refused:
    path = comparison.path
    if path.startswith(NOT_NETWORK):
        return Refused(comparison.value, Why.NOT_NETWORK, path)
    if path.startswith("network-traffic:src_ref"):
        return Refused(comparison.value, Why.SOURCE, path)
    if path not in KINDS or (comparison.how == SUBSET and KINDS[path] is not IndicatorType.IP):
        return Refused(comparison.value, Why.UNSUPPORTED, f"{path} {comparison.how}")
    return Given(
        value=comparison.value,
        kind=KINDS[path],
        title=indicator.name or indicator.description,
        category=", ".join(indicator.indicator_types or indicator.labels),
        expires=indicator.valid_until,
    )
