"""Index of networks by address, with one dict lookup for each prefix length that occurs near the address.

Prefix lengths above 16 bits (IPv6: 32) are listed per enclosing block of 16 (32) bits. Most addresses therefore need lookups
for the few shorter lengths only.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

T = TypeVar("T")

V4_BITS, V4_BLOCK = 32, 16
V6_BITS, V6_BLOCK = 128, 32
NOTHING: tuple[int, ...] = ()


class Networks(Generic[T]):
    """IPv4 and IPv6 networks with their items."""

    def __init__(self) -> None:
        self.v4: _Version[T] = _Version(socket.AF_INET, V4_BITS, V4_BLOCK)
        self.v6: _Version[T] = _Version(socket.AF_INET6, V6_BITS, V6_BLOCK)

    def add(self, network: IPv4Network | IPv6Network, item: T) -> None:
        """Add an item to a network."""
        self._of(network).add(int(network.network_address), network.prefixlen, item)

    def discard(self, network: IPv4Network | IPv6Network, item: T) -> None:
        """Remove an item from a network."""
        self._of(network).discard(int(network.network_address), network.prefixlen, item)

    def _of(self, network: IPv4Network | IPv6Network) -> _Version[T]:
        return self.v4 if network.version == 4 else self.v6


class _Version(Generic[T]):
    """Networks of one IP version. Values that another thread may read are replaced, never changed."""

    def __init__(self, family: socket.AddressFamily, bits: int, block: int) -> None:
        self._family, self._bits, self._block = family, bits, block
        self.items: dict[tuple[int, int], tuple[T, ...]] = {}
        """Items by prefix length and prefix bits."""
        self._counts: Counter[tuple[int, int]] = Counter()
        """Number of networks by block and prefix length. Networks that are not longer than a block are under `NOWHERE`."""
        self._lengths: dict[int, tuple[int, ...]] = {}
        """Prefix lengths by block, the longest first."""

    def add(self, address: int, length: int, item: T) -> None:
        key = length, address >> (self._bits - length)
        had = self.items.get(key, ())
        self.items[key] = (*had, item)
        if not had:
            self._note(address, length, 1)

    def discard(self, address: int, length: int, item: T) -> None:
        key = length, address >> (self._bits - length)
        left = tuple(other for other in self.items.get(key, ()) if other is not item)
        if left:
            self.items[key] = left
        elif self.items.pop(key, None):
            self._note(address, length, -1)

    def find(self, ip: str) -> Iterator[T]:
        """Yield the items of networks that contain an address, longest prefix first. Raises OSError for an invalid address."""
        address = int.from_bytes(socket.inet_pton(self._family, ip))
        for length in self._lengths.get(address >> (self._bits - self._block), NOTHING):
            yield from self.items.get((length, address >> (self._bits - length)), ())
        for length in self._lengths.get(NOWHERE, NOTHING):
            yield from self.items.get((length, address >> (self._bits - length)), ())

    def _note(self, address: int, length: int, by: int) -> None:
        block = address >> (self._bits - self._block) if length > self._block else NOWHERE
        self._counts[block, length] += by
        lengths = {length, *self._lengths.get(block, NOTHING)}
        kept = tuple(sorted((one for one in lengths if self._counts[block, one]), reverse=True))
        if kept:
            self._lengths[block] = kept
        else:
            self._lengths.pop(block, None)
        if not self._counts[block, length]:
            del self._counts[block, length]


NOWHERE = -1
