"""Declaration of a dialect: the format of sensors' lines, its parser, and what is special about its sensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Flag, auto

import msgspec

from schemas.events import Micros, Parsed

CLOCK_RANK_UNKNOWN = 1_000

Dates = Callable[[str], Micros]
"""Parses a time without year and zone, such as `Nov 24 19:07:24.258`; returns 0 if they are not certain."""


class Framing(ABC):
    """Converts the lines of a file that cannot be parsed alone; one object per file, fed in order.

    A line that does not fit is passed on unchanged and rejected later. A line that only describes others is dropped.
    """

    context = b""
    """Prefix of lines that describe later ones: a reader that resumes in the middle is fed those before. b"": there are none."""
    reach = 0
    """Bytes before the place of resumption that are fed as well. 0: none."""
    near = b""
    """Text that some of its lines contain: a block without it is not fed."""

    @property
    def held(self) -> int | None:
        """Offset of the oldest line that was taken and not returned yet, where a restart resumes. None: all were returned."""
        return None

    @abstractmethod
    def take(self, line: bytes, start: int) -> list[bytes]:
        """Return the lines that are complete with this one, which begins at this offset of the file."""

    def release(self) -> list[bytes]:
        """Return the lines that are held back, at the end of the file."""
        return []


class SensorKind(Flag):
    """Kind of a sensor: where it observes connections."""

    ENDPOINT = auto()
    """On the device, beside the process that connects."""
    NETWORK = auto()
    """On the wire. It reports flows of a device from its first line about it on: older connections are older than the sensor."""
    PROXY_LOG = auto()
    """In the proxy."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Declaration of everything that is special about one sensor. `streams` uses it and knows no sensor by name."""

    name: str
    """The value of `sensor` in its events; unique among all dialects. An endpoint sensor's ids begin with it and a slash."""
    kind: SensorKind
    events: tuple[type[msgspec.Struct], ...]
    """The events that it may emit."""
    clock_rank: int = CLOCK_RANK_UNKNOWN
    """Rank of its clock among endpoint sensors; the lowest rank reads the time closest to the operating system's kernel."""
    flow_id_kind: str = ""
    """Kind of its flow ids: two different ids of one kind name two connections. "" if it assigns none."""
    on_endpoint_clock: bool = False
    """The times of its flows come from the clock of the device's endpoint records."""
    flow_timeout_secs: int = 0
    """Default of the longest time from a flow's last packet until its summary is written, as for a connection that was cut off.
    0: it writes no summaries, or writes them at once."""


UNKNOWN_SENSOR = Sensor("", SensorKind(0), ())


@dataclass(frozen=True, slots=True)
class Dialect:
    """Format of one sensor's lines, or of several sensors that share it. None of its functions raises."""

    name: str
    parse: Callable[[bytes], Parsed]
    written_at: Callable[[bytes], Micros]
    """Return when the sensor wrote the line, 0 if unknown. Lines of several files are merged in this order."""
    device_of: Callable[[bytes], str]
    """Return the device that the line names, at a low cost; "" if unsure."""
    title: str
    gives: str
    """One sentence for the reference page: the events that its lines contain."""
    claims: Callable[[bytes], bool]
    """Return whether a line has the shape of this dialect, at a low cost. At most one dialect claims a line."""
    sensors: tuple[Sensor, ...] = ()
    """The sensors that write in this dialect."""
    split: Callable[[bytes], list[bytes]] | None = None
    """Split a line that holds several rows, such as an export's envelope, into one line per row. None: no line does."""
    own_marks: tuple[bytes, ...] = ()
    """A line in which an endpoint reports its own connection, with its own address, contains one of these. Empty if there are no
    such lines, as with network sensors, which report connections of every device."""
    framing: Callable[[Dates], Framing] | None = None
    """Make the object that joins a file's lines before they are published, for files whose lines cannot be read alone."""
    is_network_sensor: bool = field(init=False)
    """One of its sensors is a network sensor."""

    def __post_init__(self) -> None:
        """Derive what is asked for each line."""
        is_network_sensor = any(SensorKind.NETWORK in sensor.kind for sensor in self.sensors)
        object.__setattr__(self, "is_network_sensor", is_network_sensor)
