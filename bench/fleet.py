"""The simulated fleet's lines as the publisher packs them: one device and one file a message.

Each device has tunnels that stay open, and once a minute of its own time opens a burst of connections, as a browser does:
seven of ten are tunnels (CONNECT, TLS name), two are kept alive for several hosts over plain HTTP, one goes out directly.
They end within seconds, and the network sensor writes their flow records 60 to 71 s later, as Suricata does. So connections
leave the state while the bench runs, and the open tunnels stay in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from producers.simulation import WorldSettings
from producers.simulation.device import Device
from producers.simulation.fleet import BROWSERS
from producers.simulation.journal import SOCKETS, SURICATA
from producers.simulation.traffic import direct_tls, keep_alive, open_tunnel, tunnel
from schemas.clock import MICROS
from schemas.events import Micros

PERIOD: Micros = 60 * MICROS
PRELOAD_TUNNELS = 50
"""Tunnels opened by two messages of the preload: 50 endpoint records or a few more, 100 of the network sensor."""
PRELOAD_STEP: Micros = 3 * MICROS
"""Within this time all records of one such message are written."""
OPEN_MAX = 20_000
"""Tunnels that stay open on one device."""
LINES_PER_CONNECTION = 6.1
"""On average: two endpoint records, 4.1 of the network sensor."""
YEAR_SECS = 366 * 86_400.0
DIALECTS = {SOCKETS: "sockets", SURICATA: "suricata"}


class Packed(NamedTuple):
    """One message."""

    device: str
    dialect: str
    value: bytes

    @property
    def lines(self) -> int:
        """How many lines are in it."""
        return self.value.count(b"\n") + 1


class Fleet:
    """Devices whose messages have `lines_per_message` lines on average. Each call goes on where the last one ended."""

    def __init__(self, devices: int, lines_per_message: int = 100, *, active_max: int | None = None) -> None:
        world = WorldSettings(
            devices=devices,
            lines_per_sec=devices,
            duration_secs=YEAR_SECS,
            late_share=0.0,
            doubled_share=0.0,
            skew_secs_max=0.0,
            astray_share=0.0,
            open_secs_max=2.0,
        )
        tally = Counter[str]()
        self._devices = [Device(world, number, tally, keeps_truth=False) for number in range(devices)]
        self._active = self._devices[:active_max]
        self._now = world.begin
        self._opened = 0
        """Connections that each active device opened in its rounds."""
        self.burst = max(1, round(2 * lines_per_message / LINES_PER_CONNECTION))
        """Connections that a device opens at once: they make two messages."""

    def preload(self, connections: int) -> Iterator[Packed]:
        """Open tunnels that stay open, device after device."""
        each = -(-connections // len(self._devices))
        assert each <= OPEN_MAX, f"at most {OPEN_MAX} tunnels a device; use more devices"
        begin = self._now
        for index, device in enumerate(self._devices):
            mine, at = min(each, connections - index * each), begin
            for first in range(0, mine, PRELOAD_TUNNELS):
                for number in range(first, min(first + PRELOAD_TUNNELS, mine)):
                    open_tunnel(device, at + 2_500 * (number - first), number)
                at += PRELOAD_STEP
                yield from _packed(device, at)
            self._now = max(self._now, at)

    def rounds(self, count: int) -> Iterator[Packed]:
        """Return all lines of the active devices in their next minutes."""
        for _ in range(count):
            begin = self._now
            self._now += PERIOD
            for device in self._active:
                for number in range(self.burst):
                    _open(device, begin + 5_000 * number, self._opened + number)
                yield from _packed(device, self._now)
            self._opened += self.burst

    def at_least(self, lines: int) -> Iterator[Packed]:
        """Return whole rounds until they have so many lines."""
        while lines > 0:
            for one in self.rounds(1):
                lines -= one.lines
                yield one


def _open(device: Device, at: Micros, number: int) -> None:
    if number % 10 == 9:
        direct_tls(device, at)
    elif number % 10 in (3, 6):
        keep_alive(device, at, BROWSERS[0], device.proxy())
    else:
        tunnel(device, at, BROWSERS[0], device.proxy())


def _packed(device: Device, until: Micros) -> Iterator[Packed]:
    """Return one message for each of the device's files."""
    for sensor, lines in enumerate(device.journal.written_before(until)):
        if lines:
            yield Packed(device.name, DIALECTS[sensor], b"\n".join(line for _, line in lines))
