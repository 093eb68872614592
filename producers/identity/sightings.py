"""Which device was seen with which address and when, from the endpoints' own records. Pure.

    dev-a had 10.0.3.17 at   ·  · ··· ·                    · ·
    assigned to dev-a     ├──────────────┤              ├───────┤     an hour more at each end; not in a long silence

An address that two devices were seen with, at any times, belongs to neither: no record shows when one lost it and the
other got it, nor whether both have it at once in two networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address

from producers.identity.table import Entry
from schemas.clock import MICROS
from schemas.events import Micros

AROUND = 3_600 * MICROS
"""Time before and after a sighting for which the address is assigned to the device, in microseconds.

A DHCP server with enough free addresses does not reassign one sooner. A proxy logs a tunnel only when it is closed, which
may be after the device's last record.
"""
SILENCE_MAX = 12 * AROUND
"""Longest gap between two sightings for which the address stays assigned to the device: a working day, but not a night."""
ADDRESSES_MAX = 500_000
"""Largest number of addresses learnt, at some 500 bytes each."""
SPANS_MAX = 100
"""Largest number of spans kept per address."""


class Sightings:
    """A collection of sightings of devices with addresses.

    The order of the sightings matters only at the limits: a new address above `ADDRESSES_MAX`, or a new span above
    `SPANS_MAX` of its address, is dropped.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._several: dict[str, tuple[str, str]] = {}
        self.left_out = False
        """Whether addresses were dropped because of `ADDRESSES_MAX`."""

    def saw(self, device: str, address: str, at: Micros) -> None:
        """Record that the device had the address, in its canonical form, at this time."""
        if address in self._several:
            return
        held = self._held.get(address)
        if held is None:
            if len(self._held) + len(self._several) >= ADDRESSES_MAX:
                self.left_out = True
            elif is_of_one_machine(address):
                self._held[address] = _Held(device, at)
        elif held.device != device:
            self._several[address] = held.device, device
            del self._held[address]
        else:
            held.add(at)

    @property
    def learnt(self) -> int:
        """Number of addresses that one device had."""
        return len(self._held)

    @property
    def ambiguous(self) -> int:
        """Number of addresses that several devices had."""
        return len(self._several)

    def entries(self) -> Iterator[Entry]:
        """Yield entries for the identity table.

        An address of several devices is assigned to all of them without time limits, which makes it ambiguous in the table.
        """
        for address, held in self._held.items():
            for first, last in held.spans:
                yield Entry(held.device, address, max(first - AROUND, 0), last + AROUND + 1)
        for address, devices in self._several.items():
            yield from (Entry(device, address) for device in devices)


@lru_cache(maxsize=65_536)
def is_of_one_machine(address: str) -> bool:
    """Return whether an address can identify a machine: not loopback, link-local, multicast, unspecified, reserved (RFC 6890)."""
    ip = ip_address(address)
    return not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved)


class _Held:
    """The spans during which one device had an address, in order of time and more than `SILENCE_MAX` apart."""

    __slots__ = ("device", "spans")

    def __init__(self, device: str, at: Micros) -> None:
        self.device = device
        self.spans = [(at, at)]

    def add(self, at: Micros) -> None:
        first, last = self.spans[-1]
        if first <= at <= last + SILENCE_MAX:  # the usual case
            self.spans[-1] = first, max(at, last)
            return
        near = [span for span in self.spans if span[0] - SILENCE_MAX <= at <= span[1] + SILENCE_MAX]
        if not near and len(self.spans) >= SPANS_MAX:
            return
        grown = min([at, *(first for first, _ in near)]), max([at, *(last for _, last in near)])
        self.spans = sorted([grown, *(span for span in self.spans if span not in near)])
