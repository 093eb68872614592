"""Which networks hold an address: one look into a dict for each prefix length that there is near the address.

Networks of more than 16 bits (IPv6: 32) are known to the block of 16 (32) bits that they lie in, so most addresses are done
after the few lengths that are shorter.
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
    """Networks of both versions with what was put to them."""

    def __init__(self) -> None:
        self.v4: _Version[T] = _Version(socket.AF_INET, V4_BITS, V4_BLOCK)
        self.v6: _Version[T] = _Version(socket.AF_INET6, V6_BITS, V6_BLOCK)

    def add(self, network: IPv4Network | IPv6Network, item: T) -> None:
        """Put something to a network."""
        self._of(network).add(int(network.network_address), network.prefixlen, item)

    def discard(self, network: IPv4Network | IPv6Network, item: T) -> None:
        """Take it away again."""
        self._of(network).discard(int(network.network_address), network.prefixlen, item)

    def _of(self, network: IPv4Network | IPv6Network) -> _Version[T]:
        return self.v4 if network.version == 4 else self.v6


class _Version(Generic[T]):
    """Networks of one version. What a reader in another thread sees is replaced, never changed."""

    def __init__(self, family: socket.AddressFamily, bits: int, block: int) -> None:
        self._family, self._bits, self._block = family, bits, block
        self.items: dict[tuple[int, int], tuple[T, ...]] = {}
        """By prefix length and the prefix's bits."""
        self._counts: Counter[tuple[int, int]] = Counter()
        """How many networks of each length there are: in a block, or, under NOWHERE, shorter than one."""
        self._lengths: dict[int, tuple[int, ...]] = {}
        """The same blocks with their lengths, the longest first."""

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
        """What was put to networks that hold this address, the longest prefix first. Raises OSError for no address."""
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
