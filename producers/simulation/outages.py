"""Outages of a device's sensors. What happens during an outage is not in their lines.

restart    the network sensor is stopped, writes a record of every flow that it knows, and is started again; it cannot
           parse the rest of connections that are older
loss       the network sensor continues, but its lines are lost on the way
kernel     the endpoint records are lost
off        as restart, but for a long time
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from producers.simulation.settings import WorldSettings
from schemas.clock import MICROS
from schemas.events import Micros

SECS_MAX = 20.0
"""Longest outage of any kind except `off`."""


class Outage(NamedTuple):
    """An outage of a sensor from `since` until `until`, by the device's own clock."""

    kind: str
    since: Micros
    until: Micros


_KINDS = (("restart", 0.5), ("loss", 0.4), ("kernel", 0.3), ("off", 0.1))


def outages_of(world: WorldSettings, skew: Micros, chance: Random) -> tuple[Outage, ...]:
    """Draw the outages of one device: each kind at most once."""
    length = world.end - world.begin
    drawn = []
    for kind, share in _KINDS:
        luck, place, size = chance.random(), chance.random(), chance.random()
        if luck < share:
            longest = length // 3 if kind == "off" else min(length // 5, int(SECS_MAX * MICROS))
            since = world.begin + skew + int(place * length)
            drawn.append(Outage(kind, since, since + 1 + int(size * longest)))
    return tuple(sorted(drawn, key=lambda outage: outage.since))


def is_in(outages: tuple[Outage, ...], at: Micros) -> bool:
    """Return whether a time lies in one of the outages."""
    return any(outage.since <= at < outage.until for outage in outages)
