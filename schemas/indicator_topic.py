"""The topic `indicators`: a message is the current state of an indicator or suppression; without a value it removes the entry.

    key    i:ID of an indicator, s:ID of a suppression
    value  {"indicator": {…}} or {"suppression": {…}}; no value to remove the entry

The topic has one partition, so a reader that reached its end has read everything.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from schemas.indicators import Indicator, IndicatorType
from schemas.suppressions import Suppression

PARTITION = 0
INDICATOR_MARK, SUPPRESSION_MARK = "i:", "s:"
_DOMAIN = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Removed(NamedTuple):
    """A message that removes an indicator or a suppression."""

    mark: str
    """INDICATOR_MARK or SUPPRESSION_MARK."""
    id: str


class _Value(msgspec.Struct, omit_defaults=True, gc=False):
    indicator: Indicator | None = None
    suppression: Suppression | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Value).decode


def key_of(one: Indicator | Suppression) -> bytes:
    """Return the message key of an indicator or suppression."""
    return f"{INDICATOR_MARK if isinstance(one, Indicator) else SUPPRESSION_MARK}{one.id}".encode()


def value_of(one: Indicator | Suppression) -> bytes:
    """Return the message value of an indicator or suppression; equal entries have equal bytes."""
    return _encode(_Value(indicator=one) if isinstance(one, Indicator) else _Value(suppression=one))


def read(key: bytes | None, value: bytes | None) -> Indicator | Suppression | Removed:
    """Parse a message. Raises ValueError with the reason if it is invalid."""
    name = (key or b"").decode("utf-8", "replace")
    mark, id_ = name[:2], name[2:]
    if mark not in (INDICATOR_MARK, SUPPRESSION_MARK) or not id_:
        raise ValueError(f'the key "{name[:100]}" is not i:ID or s:ID')
    if not value:
        return Removed(mark, id_)
    try:
        entry = _decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the value cannot be read: {error}") from None
    one = entry.indicator if mark == INDICATOR_MARK else entry.suppression
    if one is None:
        raise ValueError(f"the key is {name[:100]}, the value is something else")
    if one.id != id_:
        raise ValueError(f'the key is {name[:100]}, the value has the id "{one.id[:100]}"')
    if isinstance(one, Indicator) and one.type is IndicatorType.DOMAIN and not _DOMAIN.fullmatch(one.value):
        raise ValueError(f'"{one.value[:100]}" is not a normalised domain')
    return one
