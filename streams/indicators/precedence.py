"""Precedence of indicators: by action (allow, warn, block, audit), then by specificity, then those that name a process."""

from __future__ import annotations

from schemas.indicators import Indicator, IndicatorAction, IndicatorType

ACTION_RANK = {
    IndicatorAction.ALLOW: 0,
    IndicatorAction.WARN: 1,
    IndicatorAction.BLOCK: 2,
    IndicatorAction.AUDIT: 3,
}
TYPE_RANK = {IndicatorType.URL: 0, IndicatorType.DOMAIN: 1, IndicatorType.IP: 2, IndicatorType.CIDR: 3}


def rank(indicator: Indicator) -> tuple[int, int, int, bool, bool, str]:
    """Return the sort key of an indicator; the lowest takes precedence."""
    return (
        ACTION_RANK[indicator.action],
        TYPE_RANK[indicator.type],
        -_length(indicator),
        indicator.subdomains,
        not indicator.process,
        indicator.id,
    )


def _length(indicator: Indicator) -> int:
    """Return the specificity within a type: characters of a URL prefix, labels of a name, bits of a network."""
    match indicator.type:
        case IndicatorType.URL:
            return len(indicator.value)
        case IndicatorType.DOMAIN:
            return indicator.value.count(".")
        case IndicatorType.CIDR:
            return int(indicator.value.rpartition("/")[2])
        case IndicatorType.IP:
            return 0
