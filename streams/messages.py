"""What goes into the pipeline and what comes out: the input `Message`, and the `Output` of a batch of messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.events import DEVICE_CHARS_MAX, Reject
from schemas.topics import CLAIMS, CLOCK, DEVICE_FROM, FROM_KEY

NUMBER_DIGITS_MAX = 14
SENSOR_CHARS_MAX = 255
CLAIMS_CHARS_MAX = 16
LINE_BYTES_MAX = 1 << 20
"""Longer lines are rejected without parsing: no sensor record comes near this size, and parsing one would delay all others."""
MESSAGE_LINES_MAX = 100_000
"""A message with more lines is rejected as a whole: no sensor writes lines that short, and a million rejects would delay all
other messages."""
KEY_BYTES_MAX = 4 * DEVICE_CHARS_MAX


class Message(NamedTuple):
    """One input message: sensor lines of one dialect, or a tick."""

    offset: int
    """Offset in the input partition; increases."""
    logged_ms: int
    """The log's timestamp, milliseconds since 1970; 0 without a log. Then only the events' times count."""
    key: bytes
    """Name of the device."""
    value: bytes
    """Lines, separated by newlines."""
    dialect: str
    sensor: str = ""
    """Name of the sensor that wrote the lines; "" where the producer gives none."""
    seq: int = 0
    """Sequence number of the first line, counted per device, dialect and sensor; 0 for unnumbered lines."""
    lines: int = 1
    """Number of sequence numbers that the message covers, from `seq` on."""
    keyed: bool = False
    """All lines belong to the device in the key: the publisher's key overrides the device names in the lines."""
    claims: str = ""
    """Value of the header `schemas.topics.CLAIMS`: what the sender's grant allows it to report; "" without a grant."""
    foreign_clock: bool = False
    """The sender reports on several devices, so its times advance a device's clock to the log's timestamp at most."""

    @classmethod
    def read(
        cls, offset: int, logged_ms: int, key: bytes | None, value: bytes | None, headers: Mapping[str, object]
    ) -> Message:
        """Build a message from a log record; ignore invalid headers."""
        dialect, sensor = _text(headers.get("dialect")), _text(headers.get("sensor"))[:SENSOR_CHARS_MAX]
        seq, lines = _number(headers.get("seq")), _number(headers.get("lines")) or 1
        keyed = _text(headers.get(DEVICE_FROM)) == FROM_KEY
        claims, foreign = _text(headers.get(CLAIMS))[:CLAIMS_CHARS_MAX], CLOCK in headers
        return cls(offset, logged_ms, key or b"", value or b"", dialect, sensor, seq, lines, keyed, claims, foreign)


@dataclass(slots=True)
class Output:
    """Output of a batch of input, encoded for the topics."""

    network_events: list[bytes] = field(default_factory=list)
    """Rows of DeviceNetworkEvents, each as JSON without a line end."""
    device_events: list[bytes] = field(default_factory=list)
    """Rows of DeviceEvents, in the same format."""
    alerts: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Key (device name) and JSON of each alert."""
    rejects: list[Reject] = field(default_factory=list)
    lines: int = 0
    """Lines read, including ignored and rejected ones."""
    sensor_gaps: list[bytes] = field(default_factory=list)
    """Rows of SensorGaps, in the same format."""
    coverage: list[bytes] = field(default_factory=list)
    """Rows of DeviceCoverage, in the same format."""
    modes: list[bytes] = field(default_factory=list)
    """Rows of ProtectionModes, in the same format."""


def _text(header: object) -> str:
    return header.decode(errors="replace") if isinstance(header, bytes) else header if isinstance(header, str) else ""


def _number(header: object) -> int:
    """Return a header's ASCII decimal digits as an integer; 0 for anything else."""
    if isinstance(header, str):
        header = header.encode(errors="replace")
    if isinstance(header, bytes) and header.isdigit() and len(header) <= NUMBER_DIGITS_MAX:
        return int(header)
    return 0
