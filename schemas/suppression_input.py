"""Conversion of suppressions, as entered by a person or a program, into normalised ones; invalid input raises ValueError."""

from __future__ import annotations

from schemas.events import Micros
from schemas.indicator_values import Unfit, host_name, is_public_suffix
from schemas.suppressions import GROUP_MARK, Suppression, open_bracket, suppression_id


def suppression_of(
    who: str, why: str, until: Micros, kind: str, device: str, domain: str, indicator: str
) -> Suppression:
    """Return the normalised suppression. Raises ValueError, whose text begins with the name of the invalid field."""
    if not why.strip():
        raise ValueError("why is empty; state in a few words why these alerts are hidden")
    if not (kind or device.strip("*") or domain or indicator):
        raise ValueError("kind, device, domain and indicator are empty: this would hide every alert; name one of them")
    if open_bracket(device):
        raise ValueError(f'device "{device}" has a [ without a ]; srv-[0-9]* fits srv-1 and srv-2b')
    pattern = device if device.startswith(GROUP_MARK) else device.lower()
    name = _domain(domain)
    return Suppression(
        suppression_id(kind, pattern, name, indicator), who, why.strip(), until, kind, pattern, name, indicator
    )


def _domain(text: str) -> str:
    try:
        name = host_name(text.removeprefix("*.")) if text else ""
    except Unfit:
        raise ValueError(f'domain "{text}" is not a domain') from None
    if name and is_public_suffix(name):
        raise ValueError(f'domain "{text}": everything below {name} would be hidden; name the domain that is meant')
    return name
