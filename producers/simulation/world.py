"""A simulated world, or some of its devices: the lines that arrive in each time slice, and the truth about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple

from producers.simulation.device import Device
from producers.simulation.journal import DIRECT, PROXIED, SLICE, TimedTruth, Written
from producers.simulation.protection import listed_plain, listed_tunnel
from producers.simulation.settings import SimulatedLine, WorldSettings
from producers.simulation.traffic import (
    address_asked,
    direct_http,
    direct_tls,
    older_tunnel,
    one_keep_alive,
    one_tunnel,
    page,
    plain_in_tunnel,
    stranger,
)
from producers.simulation.troubles import (
    asked_to_log_in,
    encrypted,
    fronted,
    refused,
    same_port,
    silent,
    unanswered,
    unreachable,
)
from schemas.clock import MICROS
from schemas.events import Micros

OLDER_SHARE = 0.25
"""Share of the devices with a tunnel that is older than their sensors."""
Errand = Callable[[Device, Micros], None]
"""Simulates one errand on a device, from a time by the device's clock on."""

_SHARES: tuple[tuple[Errand, int], ...] = (
    (page, 350),
    (one_tunnel, 230),
    (one_keep_alive, 130),
    (direct_tls, 90),
    (direct_http, 30),
    (listed_tunnel, 40),
    (listed_plain, 25),
    (asked_to_log_in, 20),
    (refused, 20),
    (plain_in_tunnel, 15),
    (address_asked, 10),
    (same_port, 8),
    (fronted, 6),
    (silent, 6),
    (unreachable, 6),
    (unanswered, 5),
    (stranger, 6),
    (encrypted, 3),
)
_ERRANDS: tuple[Errand, ...] = tuple(errand for errand, share in _SHARES for _ in range(share))
"""Each errand as often as its share; a draw with equal chances therefore respects the shares."""
_LINES_PER_ERRAND = 14.0
"""Average number, including flow records."""

Record = Callable[[dict[str, object]], object]
"""Receives one truth."""


class Stream(NamedTuple):
    """The dialect and the id of one sensor of a device."""

    dialect: str
    sensor: str


class DeviceLines(NamedTuple):
    """The lines of one device that arrive in one time slice, by sensor; those of each sensor are in order."""

    device: str
    streams: tuple[Stream, Stream]
    lines: tuple[list[Written], list[Written]]


class World:
    """A world, or the part of it with the devices number `shard`, `shard` + `shards` and so on.

    Call either `slices` or `lines`, once. It calls `truth` with each proxied request and `direct` with each connection that
    bypasses the proxies, in the order of time. Afterwards, `tally` contains the counts of everything generated.
    """

    def __init__(
        self,
        settings: WorldSettings,
        *,
        shard: int = 0,
        shards: int = 1,
        truth: Record | None = None,
        direct: Record | None = None,
    ) -> None:
        self.settings = settings
        self.tally: Counter[str] = Counter()
        self._recorders = {PROXIED: truth, DIRECT: direct}
        self._wants_truth = truth is not None or direct is not None
        self._residents = [
            _Resident(settings, number, self.tally, keeps_truth=self._wants_truth)
            for number in range(shard, settings.devices, shards)
        ]

    @property
    def waiting(self) -> int:
        """Number of generated lines that have not arrived yet, of connections that are open or still in a sensor's flow table."""
        return sum(resident.device.journal.waiting for resident in self._residents)

    def slices(self) -> Iterator[tuple[Micros, list[DeviceLines]]]:
        """Yield the end of each time slice, and the lines of each device in it; devices without lines are left out."""
        index, begin, end = 0, self.settings.begin, self.settings.end
        while begin + index * SLICE < end or any(resident.device.journal.waits for resident in self._residents):
            by_device = []
            truths: list[TimedTruth] = []
            kernel = network = 0
            for resident in self._residents:
                written = resident.written(index)
                if any(written):
                    kernel, network = kernel + len(written[0]), network + len(written[1])
                    by_device.append(DeviceLines(resident.device.name, resident.streams, written))
                if self._wants_truth:
                    truths += resident.device.journal.truths(index)
            self._record_in_order(truths)
            self.tally["lines: sockets"] += kernel
            self.tally["lines: suricata"] += network
            index += 1
            yield begin + index * SLICE, by_device

    def lines(self) -> Iterator[SimulatedLine]:
        """Yield all lines in the order of arrival. Lines of a sensor that arrive at the same time keep their order."""
        for _, by_device in self.slices():
            arrived = [
                (at, one.device, stream, line)
                for one in by_device
                for stream, lines in zip(one.streams, one.lines, strict=True)
                for at, line in lines
            ]
            arrived.sort(key=itemgetter(0))
            for at, device, (dialect, sensor), line in arrived:
                yield SimulatedLine(at, device, sensor, dialect, line)

    def _record_in_order(self, truths: list[TimedTruth]) -> None:
        for _, kind, truth in sorted(truths, key=itemgetter(0)):
            record = self._recorders[kind]
            if record is not None:
                record(truth)


class _Resident:
    """A device, and the errands on it, which begin one after the other until the world's end."""

    def __init__(self, settings: WorldSettings, number: int, tally: Counter[str], *, keeps_truth: bool) -> None:
        self.device = device = Device(settings, number, tally, keeps_truth=keeps_truth)
        self.streams = (
            Stream("sockets", f"{device.name}:/var/log/sockets.jsonl"),
            Stream("suricata", f"{device.name}:/var/log/suricata/eve.json"),
        )
        lines_per_sec = settings.lines_per_sec / settings.devices * device.profile.activity
        self._gap = 2 * _LINES_PER_ERRAND / lines_per_sec * MICROS
        self._begin = settings.begin + device.profile.skew
        self._next = self._begin + int(device.draw() * self._gap)
        if device.draw() < OLDER_SHARE:
            older_tunnel(device, self._begin)

    def written(self, index: int) -> tuple[list[Written], list[Written]]:
        """Simulate the errands that begin in this slice; return the lines of each sensor that arrive in it."""
        device, until = self.device, self._begin + (index + 1) * SLICE
        while self._next < until and self._next < device.end:
            _ERRANDS[int(device.draw() * len(_ERRANDS))](device, self._next)
            self._next += 1 + int(device.draw() * self._gap)
        return device.written(index)
