"""Simulation of a fleet: it generates the lines of its sensors in real dialects, and the ground truth about them.

    settings   parameters of a world    device         ports, sensors, lines       world    all devices, by time slice
    fleet      devices, proxies, sites  traffic …      what happens on a device    feed     output to Kafka
    outages    outages of sensors       eve, sockets   formats of the lines        folder   output to files

The truth lists the requests that were really sent, also those that no sensor reports. The same `WorldSettings` give the
same world: the same lines in the same order and the same truth, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator

from producers.simulation.fleet import confirmed_proxies
from producers.simulation.settings import SimulatedLine, WorldError, WorldSettings
from producers.simulation.world import World

__all__ = ["SimulatedLine", "World", "WorldError", "WorldSettings", "confirmed_proxies", "simulate", "truth"]


def simulate(settings: WorldSettings) -> Iterator[SimulatedLine]:
    """Yield every line of a world in the order of arrival. Memory use depends on the open connections, not on the duration."""
    return World(settings).lines()


def truth(settings: WorldSettings) -> Iterator[dict[str, object]]:
    """Yield every proxied request of a world in the order of time.

    For lines and truth in one run, use `World(settings, truth=…)`.
    """
    truths: list[dict[str, object]] = []
    for _ in World(settings, truth=truths.append).slices():
        yield from truths
        truths.clear()
