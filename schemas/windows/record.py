"""One Windows event, whoever shipped it: who wrote it, its number, the computer, the time, and its named values.

Most events of a Windows machine are not for us, so the values stay bytes until somebody asks for them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec

from schemas.clock import parse_micros
from schemas.events import Micros
from schemas.windows.event_xml import scan

Values = dict[str, Any]
"""Names and values as shipped: strings, in some shapes also numbers and truth values."""


class Missing(ValueError):
    """An event lacks what everything rests on."""


class Source(StrEnum):
    """Who writes the events that we know."""

    SYSMON = "sysmon"
    SECURITY = "security"
    DEFENDER = "defender"
    OTHER = "other"


SOURCES = {
    "microsoft-windows-sysmon": Source.SYSMON,
    "linux-sysmon": Source.SYSMON,
    "microsoft-windows-security-auditing": Source.SECURITY,
    "microsoft-windows-windows defender": Source.DEFENDER,
    # Channels, for shippers that leave the provider out.
    "microsoft-windows-sysmon/operational": Source.SYSMON,
    "linux-sysmon/operational": Source.SYSMON,
    "security": Source.SECURITY,
    "microsoft-windows-windows defender/operational": Source.DEFENDER,
}
NUMBER_DIGITS_MAX = 10
_VALUES = msgspec.json.Decoder(Values)
_UTC_TIME = {
    b"{": (b'"UtcTime"', re.compile(rb'\s*:\s*"([^"\\]{19,40})"')),
    b"<": (b"UtcTime", re.compile(rb"[\"']>([^<]{19,40})<")),
}
"""What Sysmon's own time stands behind, by the first byte of the values. No other value can look like that, as quotes or angle
brackets are escaped there."""


class Record(msgspec.Struct, gc=False):
    """One event. `data` holds its values: a JSON object, or XML."""

    source: Source
    event_id: int
    computer: str
    logged: str
    data: bytes
    ecs: bytes = b""
    """The whole line where values may have been moved to fields of the Elastic Common Schema."""

    @property
    def device(self) -> str:
        """The computer's name. Windows does not tell upper from lower case, and shippers differ in it."""
        return self.computer.strip().rstrip(".").lower()

    @property
    def at(self) -> Micros:
        """When it happened. Of Sysmon's events only `UtcTime` is to be trusted: some shippers write local time with a Z."""
        return micros((self.source is Source.SYSMON and _utc_time(self.data)) or self.logged)

    def values(self) -> Values:
        """Its named values."""
        return values_of(self.data)


def source_of(provider: str, channel: str) -> Source:
    """Who wrote an event: the provider says, as a collector may put everything into one channel."""
    return SOURCES.get((provider or channel).lower(), Source.OTHER)


def values_of(data: bytes) -> Values:
    """Named values as a shipper writes them. Raises msgspec.MsgspecError."""
    if data.startswith(b"{"):
        values = _VALUES.decode(data)
        inner = values.get("Data")
        return inner if isinstance(inner, dict) else values
    return scan(data)


def _utc_time(data: bytes) -> str:
    mark, pattern = _UTC_TIME.get(data[:1], _UTC_TIME[b"<"])
    place = data.find(mark)
    while place >= 0:
        place += len(mark)
        found = pattern.match(data, place)
        if found is not None:
            return found[1].decode("latin-1")
        place = data.find(mark, place)
    return ""


def text(values: Values, name: str) -> str:
    """A value as text; "" where there is none, or a dash in its place."""
    value = values.get(name)
    if isinstance(value, str):
        return "" if value == "-" else value
    return str(value) if isinstance(value, int | float) else ""


def needed(values: Values, name: str) -> str:
    """A value as text. Raises Missing where there is none."""
    value = text(values, name)
    if not value:
        raise Missing(f"{name} is missing")
    return value


def number(value: object, what: str, largest: int) -> int:
    """A whole number, also one written as text. Raises ValueError."""
    if isinstance(value, str) and len(value) <= NUMBER_DIGITS_MAX and value.isdigit():
        value = int(value)
    if isinstance(value, int) and 0 <= value <= largest and value is not True and value is not False:
        return value
    raise ValueError(f"{what} is {str(value)[:40]!r}, not a number up to {largest}")


def micros(written: str) -> Micros:
    """A time with any number of decimals. Raises ValueError."""
    if written[19:20] == ".":
        decimals = written[20:].removesuffix("Z")
        if decimals.isdigit() and len(decimals) <= 9:
            return parse_micros(f"{written[:19]}.{decimals[:6]:0<6}Z")
    return parse_micros(written)
