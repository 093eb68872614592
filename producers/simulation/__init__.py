"""A fleet that does not exist, with the truth about it: lines of real dialects, and what was really asked.

    settings   what makes a world       device    ports, sensors, lines        world    devices, slice after slice
    fleet      who is in it             traffic   what happens on a device     feed     onto Kafka
    outages    when sensors are away    eve, sockets   how they write          folder   into files

The same `WorldSettings` are the same world: the same lines in the same order and the same truth, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator

from producers.simulation.fleet import confirmed_proxies
from producers.simulation.settings import SimulatedLine, WorldError, WorldSettings
from producers.simulation.world import World

__all__ = ["SimulatedLine", "World", "WorldError", "WorldSettings", "confirmed_proxies", "simulate", "truth"]


def simulate(settings: WorldSettings) -> Iterator[SimulatedLine]:
    """Every line of a world, as it arrives. Memory follows the open connections, not the duration."""
    return World(settings).lines()


def truth(settings: WorldSettings) -> Iterator[dict[str, object]]:
    """Every proxied request of a world, as it is asked. To have lines and truth in one go: `World(settings, truth=…)`."""
    truths: list[dict[str, object]] = []
    for _ in World(settings, truth=truths.append).slices():
        yield from truths
        truths.clear()
