"""What makes a world, and what comes out of it: the same settings are the same world, byte for byte, on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.clock import MICROS
from schemas.events import Micros

DEFAULT_START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LINES_PER_SEC_AND_DEVICE_MAX = 400.0
"""Beyond it a device would use its ports again while its sensor remembers them."""
DEVICES_MAX = 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WorldError(ValueError):
    """Such a world cannot be; the message gives the reason and an alternative."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """One world. Shares are from 0 to 1."""

    seed: int = 1
    devices: int = 50
    lines_per_sec: float = 2_000.0
    """Lines of the whole fleet in a second of its own time, on average."""
    duration_secs: float = 30.0
    """How long the fleet works; then its network sensors are stopped, and write what they know of every flow."""
    start: datetime = DEFAULT_START
    gaps: bool = False
    """Sensors restart, lose lines and are switched off for a while; what they missed cannot be known."""
    disorder_secs_max: float = 2.0
    """How much later than it was written a late line arrives, at most. The correlator allows `correlation.lateness_secs`."""
    late_share: float = 0.01
    doubled_share: float = 0.005
    open_secs_max: float = 20_900.0
    """How long a connection stays open after its last request, at most."""
    flow_timeout_secs: float = 60.0
    """How long after its end a flow is logged, at the earliest: Suricata's own default."""
    skew_secs_max: float = 3.0
    """How wrong the clock of an ordinary device is, at most."""
    astray_share: float = 0.02
    """Devices whose clock is hours wrong."""

    def __post_init__(self) -> None:
        """Refuse what cannot be. Raises WorldError."""
        if self.start.tzinfo is None:
            raise WorldError(f"start {self.start.isoformat()} has no time zone; add +00:00 or Z")
        if not 1 <= self.devices <= DEVICES_MAX:
            raise WorldError(f"{self.devices} devices are not from 1 to {DEVICES_MAX}")
        if self.lines_per_sec <= 0 or self.duration_secs <= 0:
            raise WorldError("lines_per_sec and duration_secs must be more than 0")
        if self.lines_per_sec > self.devices * LINES_PER_SEC_AND_DEVICE_MAX:
            raise WorldError(
                f"{self.lines_per_sec:g} lines/s are too many for {self.devices} devices, a device has at most"
                f" {LINES_PER_SEC_AND_DEVICE_MAX:g}; take {-(-self.lines_per_sec // LINES_PER_SEC_AND_DEVICE_MAX):g} or more"
            )
        if self.disorder_secs_max < 0 or self.flow_timeout_secs < 0 or self.skew_secs_max < 0:
            raise WorldError("disorder_secs_max, flow_timeout_secs and skew_secs_max must not be negative")

    @property
    def begin(self) -> Micros:
        """When the world starts."""
        whole = self.start - _EPOCH
        return (whole.days * 86_400 + whole.seconds) * MICROS + whole.microseconds

    @property
    def end(self) -> Micros:
        """When the sensors are stopped."""
        return self.begin + round(self.duration_secs * MICROS)


class SimulatedLine(NamedTuple):
    """One line as a sensor wrote it, and where it lies in the feed."""

    at: Micros
    """When it arrives, by a clock that is right; the times inside are by the device's own."""
    device: str
    sensor: str
    dialect: str
    value: bytes
