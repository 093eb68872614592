"""A world, or a share of its devices: slice after slice of what arrives, and what was really asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from operator import itemgetter

from producers.simulation.device import DIRECT, SLICE, SOCKETS, SURICATA, TRUTH, Device, Written
from producers.simulation.settings import SimulatedLine, WorldSettings
from producers.simulation.traffic import ERRANDS, LINES_PER_ERRAND, older_tunnel
from schemas.clock import MICROS
from schemas.events import Micros

OLDER_SHARE = 0.25
"""Devices with a tunnel that is older than their sensors."""

Told = Callable[[dict[str, object]], None]


class World:
    """Some of a world's devices: every `shards`-th from `shard` on. Run through it once; `tally` then says what was in it.

    `truth` is called with each proxied request, `direct` with each connection past the proxies, when it happens.
    """

    def __init__(
        self,
        settings: WorldSettings,
        *,
        shard: int = 0,
        shards: int = 1,
        truth: Told | None = None,
        direct: Told | None = None,
    ) -> None:
        self.settings = settings
        self.tally: Counter[str] = Counter()
        self._truth, self._direct = truth, direct
        self.residents = [
            Resident(settings, number, self.tally, truth=truth is not None or direct is not None)
            for number in range(shard, settings.devices, shards)
        ]

    def slices(self) -> Iterator[tuple[Micros, list[tuple[Resident, list[Written]]]]]:
        """For each slice its end, and what each device wrote in it, in order; devices without a word are left out."""
        index, begin, end = 0, self.settings.begin, self.settings.end
        while begin + index * SLICE < end or any(resident.device.waits for resident in self.residents):
            said = []
            for resident in self.residents:
                written = resident.written(index)
                if written:
                    said.append((resident, self._keep_truth(written)))
            yield begin + (index + 1) * SLICE, said
            index += 1

    def lines(self) -> Iterator[SimulatedLine]:
        """All lines as they arrive; of those that arrive at once, each device's in its own order."""
        for _, said in self.slices():
            arrived = [(at, resident, stream, value) for resident, written in said for at, _, stream, value in written]
            arrived.sort(key=itemgetter(0))
            for at, resident, stream, value in arrived:
                assert isinstance(value, bytes), "the truth was taken out"
                yield SimulatedLine(at, resident.device.name, resident.sensors[stream], DIALECTS[stream], value)

    def _keep_truth(self, written: list[Written]) -> list[Written]:
        if self._truth is None and self._direct is None:
            return written
        for _, _, stream, value in written:
            told = self._truth if stream == TRUTH else self._direct if stream == DIRECT else None
            if told is not None and isinstance(value, dict):
                told(value)
        return [item for item in written if item[2] <= SURICATA]


DIALECTS = {SOCKETS: "sockets", SURICATA: "suricata"}


class Resident:
    """A device at work: errand after errand until the end."""

    def __init__(self, settings: WorldSettings, number: int, tally: Counter[str], *, truth: bool) -> None:
        self.device = device = Device(settings, number, tally, truth=truth)
        self.sensors = (f"{device.name}:/var/log/sockets.jsonl", f"{device.name}:/var/log/suricata/eve.json")
        lines_per_sec = settings.lines_per_sec / settings.devices * device.profile.activity
        self._gap = 2 * LINES_PER_ERRAND / lines_per_sec * MICROS
        self._begin = settings.begin + device.profile.skew
        self._next = self._begin + int(device.draw() * self._gap)
        if device.draw() < OLDER_SHARE:
            older_tunnel(device, self._begin)

    def written(self, index: int) -> list[Written]:
        """What its sensors wrote in this slice."""
        device, until = self.device, self._begin + (index + 1) * SLICE
        while self._next < until and self._next < device.end:
            ERRANDS[int(device.draw() * len(ERRANDS))](device, self._next)
            self._next += 1 + int(device.draw() * self._gap)
        return device.written(index)
