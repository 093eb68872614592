"""Parameters of a simulated world, and its lines. The same settings give the same world, byte for byte, on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.clock import MICROS
from schemas.events import Micros

DEFAULT_START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LINES_PER_SEC_AND_DEVICE_MAX = 400.0
"""Above it, a device would use its ports again while its sensor still remembers their flows."""
DEVICES_MAX = 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WorldError(ValueError):
    """Invalid settings of a world; the message gives the reason and an alternative."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """The parameters of a world. Shares are from 0 to 1."""

    seed: int = 1
    devices: int = 50
    lines_per_sec: float = 2_000.0
    """Average number of lines that the whole fleet writes in a simulated second."""
    duration_secs: float = 30.0
    """Simulated seconds of activity. Then the network sensors are stopped and write a record of every flow that they know."""
    start: datetime = DEFAULT_START
    gaps: bool = False
    """Whether sensors restart, lose lines and are switched off for a while."""
    disorder_secs_max: float = 2.0
    """Largest delay of a late or doubled line. The correlator allows `correlation.lateness_secs`."""
    late_share: float = 0.01
    """Share of the lines that arrive late."""
    doubled_share: float = 0.005
    """Share of the lines that arrive twice."""
    open_secs_max: float = 20_900.0
    """Longest time for which a connection stays open after its last request."""
    flow_timeout_secs: float = 60.0
    """Shortest time between the end of a flow and its record. 60 is Suricata's default."""
    skew_secs_max: float = 3.0
    """Largest error of an ordinary device's clock, in both directions."""
    astray_share: float = 0.02
    """Share of the devices whose clock is wrong by hours."""

    def __post_init__(self) -> None:
        """Raise WorldError if a setting is invalid."""
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
        """Time at which the world begins."""
        whole = self.start - _EPOCH
        return (whole.days * 86_400 + whole.seconds) * MICROS + whole.microseconds

    @property
    def end(self) -> Micros:
        """Time at which the world ends and its sensors are stopped."""
        return self.begin + round(self.duration_secs * MICROS)


class SimulatedLine(NamedTuple):
    """One line as a sensor wrote it, and when and from where it arrives."""

    at: Micros
    """Arrival time by a correct clock; the times in the line are by the device's own clock."""
    device: str
    sensor: str
    dialect: str
    value: bytes
