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
"""A function that parses a time without year and zone, such as `Nov 24 19:07:24.258`; it returns 0 if they are uncertain."""


class Framing(ABC):
    """A converter for the lines of one file whose format cannot be parsed line by line. It is fed the lines in order.

    A line that the format does not allow is passed on unchanged, and rejected later. A line that only describes other lines, such
    as a header, is dropped.
    """

    context = b""
    """Prefix of lines that describe later ones. A reader that resumes in the middle of a file feeds these lines first. b"": none.
    """
    reach = 0
    """Number of bytes before the offset of resumption that the reader feeds again. 0: none."""
    near = b""
    """With `reach`, only blocks that contain this text are fed again."""

    @property
    def held(self) -> int | None:
        """Offset of the oldest line that is held back; a restart resumes there. None: no line is held back."""
        return None

    @abstractmethod
    def take(self, line: bytes, start: int) -> list[bytes]:
        """Take the line at offset `start` of the file; return the converted lines that are now complete."""

    def release(self) -> list[bytes]:
        """Return the lines that are still held back; called at the end of the file."""
        return []


class SensorKind(Flag):
    """Kind of a sensor: where it observes connections."""

    ENDPOINT = auto()
    """On the device, with access to the process that connects."""
    NETWORK = auto()
    """On the network. Its first line about a device marks the start of observation: connections that it does not know are older.
    """
    PROXY_LOG = auto()
    """In the proxy's access log."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Declaration of everything that is special about one sensor.

    `streams` uses only this and has no rule for a sensor's name.
    """

    name: str
    """The value of `sensor` in its events, unique among all dialects. Ids of an endpoint sensor begin with this name and a slash.
    """
    kind: SensorKind
    events: tuple[type[msgspec.Struct], ...]
    """Types of the events that it may emit."""
    clock_rank: int = CLOCK_RANK_UNKNOWN
    """Rank of its clock among endpoint sensors. A lower rank means a time that is taken closer to the operating system's kernel.
    """
    flow_id_kind: str = ""
    """Kind of its flow ids. Two different ids of the same kind mean two connections. "" if the sensor assigns no ids."""
    on_endpoint_clock: bool = False
    """Whether the times of its flows are taken from the clock that the device's endpoint records use."""
    flow_timeout_secs: int = 0
    """Longest time in seconds from the last packet of an unfinished flow to its summary, by the sensor's default settings. It is
    0 if the sensor writes no summaries, or writes them at once."""


UNKNOWN_SENSOR = Sensor("", SensorKind(0), ())


@dataclass(frozen=True, slots=True)
class Dialect:
    """Format of one sensor's lines, or of several sensors that share it. None of its functions raises."""

    name: str
    parse: Callable[[bytes], Parsed]
    written_at: Callable[[bytes], Micros]
    """Return the time at which the sensor wrote the line; 0 if unknown. It is the order in which lines of several files are
    merged."""
    device_of: Callable[[bytes], str]
    """Return the device that the line names, without parsing all of it; "" if uncertain."""
    title: str
    gives: str
    """The events that the lines contain, as one sentence for the reference page."""
    claims: Callable[[bytes], bool]
    """Return whether a line has the format of this dialect, without parsing all of it. At most one dialect claims a line."""
    sensors: tuple[Sensor, ...] = ()
    """The sensors that write in this dialect."""
    split: Callable[[bytes], list[bytes]] | None = None
    """Split a line that contains several rows, such as an export's envelope, into one line per row. None: no line contains
    several."""
    own_marks: tuple[bytes, ...] = ()
    """Marks of lines in which an endpoint reports its own connections, with its own address: each such line contains one of them.
    Empty for network sensors, which report connections of every device."""
    framing: Callable[[Dates], Framing] | None = None
    """Make the converter of a file whose lines cannot be parsed alone; it is used before the lines are published."""
    is_network_sensor: bool = field(init=False)
    """Whether one of its sensors is a network sensor."""

    def __post_init__(self) -> None:
        """Compute `is_network_sensor` once, as it is read for each line."""
        is_network_sensor = any(SensorKind.NETWORK in sensor.kind for sensor in self.sensors)
        object.__setattr__(self, "is_network_sensor", is_network_sensor)
