"""Which of several indicators goes first: allow, warn, block, audit; then what says more; then who is named."""

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
    """The lower one goes first."""
    return (
        ACTION_RANK[indicator.action],
        TYPE_RANK[indicator.type],
        -_length(indicator),
        indicator.subdomains,
        not indicator.process,
        indicator.id,
    )


def _length(indicator: Indicator) -> int:
    """How much it says, among those of its type: characters of a prefix, labels of a name, bits of a network."""
    match indicator.type:
        case IndicatorType.URL:
            return len(indicator.value)
        case IndicatorType.DOMAIN:
            return indicator.value.count(".")
        case IndicatorType.CIDR:
            return int(indicator.value.rpartition("/")[2])
        case IndicatorType.IP:
            return 0
