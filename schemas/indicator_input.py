"""Conversion of indicators, as entered by a person, a file or a program, into normalised ones, or into a reason for refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from schemas.clock import LATEST, MICROS, parse_micros
from schemas.events import Micros
from schemas.indicator_values import Unfit, Why, normal
from schemas.indicators import Indicator, IndicatorAction, IndicatorType, Severity, indicator_id

ACTIONS = {
    "allow": IndicatorAction.ALLOW,
    "allowed": IndicatorAction.ALLOW,
    "warn": IndicatorAction.WARN,
    "block": IndicatorAction.BLOCK,
    "blockandremediate": IndicatorAction.BLOCK,
    "alertandblock": IndicatorAction.BLOCK,
    "audit": IndicatorAction.AUDIT,
    "alert": IndicatorAction.AUDIT,
}
"""Actions by the words of Defender, also of its earlier versions."""
UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
TEXT_CHARS_MAX = 8_192
PORT_MAX = 65_535


class Given(NamedTuple):
    """An indicator as it was entered; "" means that a field is not set."""

    value: str
    kind: IndicatorType | None = None
    """Type of the value; None: detect it."""
    action: str = ""
    exact: bool = False
    port: int = 0
    process: str = ""
    title: str = ""
    severity: str = ""
    category: str = ""
    recommended: str = ""
    expires: str = ""
    groups: tuple[str, ...] = ()


class Refused(NamedTuple):
    """A value that was refused as an indicator, with the reason."""

    value: str
    why: Why
    detail: str = ""

    def in_words(self) -> str:
        """Return value and reason as one line of text."""
        return f'"{self.value[:200]}": {self.why}' + (f" ({self.detail})" if self.detail else "")


def indicator_of(
    given: Given, now: Micros, default_action: str = "block", *, expired: bool = False
) -> Indicator | Refused:
    """Return the normalised indicator, or the reason for refusal. An expired indicator is refused unless `expired` is set."""
    try:
        return _indicator(given, now, given.action or default_action, expired)
    except Unfit as error:
        return Refused(given.value, error.why, error.detail)


def _indicator(given: Given, now: Micros, action: str, expired: bool) -> Indicator:
    found = normal(given.value, given.kind, exact=given.exact)
    if found.port and given.port and found.port != given.port:
        raise Unfit(Why.BAD_FIELD, f"port {given.port} beside a value with port {found.port}")
    port = found.port or given.port
    if not 0 <= port <= PORT_MAX:
        raise Unfit(Why.BAD_FIELD, f"{port} is not a port")
    for text in (given.process, given.title, given.category, given.recommended, *given.groups):
        if len(text) > TEXT_CHARS_MAX:
            raise Unfit(Why.BAD_FIELD, f"a text of {len(text)} characters; at most {TEXT_CHARS_MAX}")
    process = given.process.strip().lower()
    groups = tuple(sorted({group.strip() for group in given.groups if group.strip()}))
    return Indicator(
        id=indicator_id(found.type, found.value, port, process, groups),
        type=found.type,
        value=found.value,
        action=_action(action),
        subdomains=found.type is not IndicatorType.DOMAIN or not given.exact,
        port=port,
        process=process,
        title=given.title.strip(),
        severity=_severity(given.severity),
        category=given.category.strip(),
        recommended=given.recommended.strip(),
        expires=_expiry(given.expires, now, expired),
        groups=groups,
    )


def moment(text: str, now: Micros) -> Micros:
    """Parse a time, or a duration from `now` such as 30m, 12h, 30d or 4w; return microseconds. Raises ValueError."""
    text = text.strip()
    number, unit = text[:-1], text[-1:].lower()
    if unit in UNITS and number.isascii() and number.isdigit() and len(number) < 10:
        return min(now + int(number) * UNITS[unit] * MICROS, LATEST)
    return parse_micros(text)


def now_micros() -> Micros:
    """Return the time of this machine's clock in microseconds since 1970."""
    return int(datetime.now(UTC).timestamp() * MICROS)


def _expiry(text: str, now: Micros, expired: bool) -> Micros:
    if not text.strip():
        return 0
    try:
        expires = moment(text, now)
    except (ValueError, OverflowError):
        raise Unfit(
            Why.BAD_FIELD, f'expiry "{text[:40]}" is not a time; write 2026-11-24T19:07:30 (UTC), or 30d'
        ) from None
    if expires <= now and not expired:
        raise Unfit(Why.EXPIRED, f"at {text[:40]}")
    return expires


def _action(text: str) -> IndicatorAction:
    action = ACTIONS.get(text.strip().lower())
    if action is None:
        raise Unfit(Why.BAD_FIELD, f'action "{text[:40]}" is not one of {", ".join(IndicatorAction)}')
    return action


def _severity(text: str) -> Severity:
    try:
        return Severity(text.strip().lower()) if text.strip() else Severity.MEDIUM
    except ValueError:
        raise Unfit(Why.BAD_FIELD, f'severity "{text[:40]}" is not one of {", ".join(Severity)}') from None
