"""When a device's sensors are away: what happens then is not seen by them.

restart    the network sensor is stopped and started: it writes every flow it knows, and begins again; of connections
           that are older than it, it sees packets and does not understand them
loss       its lines are lost on the way, while it goes on
kernel     endpoint records are lost
off        protection is off for a long while: a long restart
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from producers.simulation.settings import WorldSettings
from schemas.clock import MICROS
from schemas.events import Micros

SECS_MAX = 20.0
"""The longest restart or loss."""


class Outage(NamedTuple):
    """One time during which a sensor is away, by the device's own clock."""

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
    """Whether a time lies in one of them."""
    return any(outage.since <= at < outage.until for outage in outages)
