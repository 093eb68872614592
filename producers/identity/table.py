"""The identity table: which names and addresses are one device. Pure.

    ws-042.corp.example ─┐ domain cut off
    WS-042               ├──► ws-042        the DeviceId: partition key, and the device of every row
    3f9a1c6e2b8d…        ┤ a name of it
    10.0.3.17            ┘ leased to it when the line was written

An entry states that a name or address means a device. The device may itself be a name in another entry, so entries are
followed. Nothing is guessed: while two devices have the same name or address, it belongs to neither, and the line's own
name or address is used as the device. An address that a device had earlier or later proves nothing about the present.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from schemas.address import canonical_ip
from schemas.clock import LATEST
from schemas.events import DEVICE_CHARS_MAX, Micros, device_name_problem

ALWAYS = LATEST + 1
"""`until` of an entry without an end."""
REMEMBERED_MAX = 100_000
"""Largest number of cached results. Only results that do not depend on the time are cached; above it, the cache is cleared."""
ADDRESS_CHARS_MAX = 64
"""Largest length of an address, including its zone."""


class How(StrEnum):
    """How the device of a line was found: a small closed set, because it becomes a metric label."""

    NAMED = "named"
    """By the line's own name, in lower case and without a known domain."""
    TABLE = "table"
    """By an entry of the table for the line's name or address."""
    LEARNT = "learnt"
    """By an address that the device reported in its own records."""
    ADDRESS = "address"
    """The line has only an address, and no device is known to have had it then; the address is used as the device."""
    AMBIGUOUS = "ambiguous"
    """Several devices had the name or the address then; it is kept unchanged and assigned to none of them."""
    UNNAMED = "untold"
    """The line names no device, or only something that cannot be a device's name.

    It is assigned to the device of its grant if the grant is for a single one, else to the device of `--device`, else to
    its sensor.
    """


class Entry(NamedTuple):
    """A name or address of a device for a period."""

    device: str
    known_as: str
    since: Micros = 0
    until: Micros = ALWAYS
    """End of the period, exclusive."""


class Found(NamedTuple):
    """The device of a line."""

    device: str
    how: How


UNNAMED = Found("", How.UNNAMED)
AMBIGUOUS = ""
"""Stands in place of a device if there are several."""


class IdentityTable:
    """A table that returns the device to which a name or an address belongs at a time.

    Of entries with the same device, name and beginning, the last one applies. If a device has several entries for a
    name, each ends when the next one begins, except an entry without a beginning. A lease is therefore renewed, or ended
    early, by another entry. The constructor raises ValueError for an entry with an empty name or device.
    """

    def __init__(self, entries: Iterable[Entry] = (), domains: Sequence[str] = ()) -> None:
        domains = [domain.strip().strip(".").lower() for domain in domains]
        self._domains = tuple(sorted((f".{domain}" for domain in domains if domain), key=len, reverse=True))
        named: dict[str, dict[tuple[str, Micros], Micros]] = {}
        for entry in entries:
            known_as, device = _plain(entry.known_as)[0], self._short(_plain(entry.device)[0])
            if not known_as or not device:
                raise ValueError(f"device {entry.device!r} known as {entry.known_as!r}: one of them is empty")
            named.setdefault(known_as, {})[device, entry.since] = entry.until
            if (short := self._short(known_as)) != known_as:
                named.setdefault(short, {})[device, entry.since] = entry.until
        self._histories = {known_as: _History.of(some) for known_as, some in named.items()}
        self._learnt: dict[str, _History] = {}
        self._remembered: dict[str, Found] = {}

    def learn(self, entries: Iterable[Entry]) -> None:
        """Replace the learnt entries, whose addresses must be canonical.

        An address for which the table itself has an entry is ignored.
        """
        named: dict[str, dict[tuple[str, Micros], Micros]] = {}
        for entry in entries:
            if entry.known_as not in self._histories:
                named.setdefault(entry.known_as, {})[entry.device, entry.since] = entry.until
        self._learnt = {address: _History.of(some) for address, some in named.items()}
        self._remembered.clear()

    def find(self, named: str, written_at: Callable[[], Micros]) -> Found:
        """Return the device to which the name or address `named` belongs.

        `written_at` returns when the line was written, 0 if unknown; it is called only if the device depends on the time.
        """
        found = self._remembered.get(named)
        if found is not None:
            return found
        if len(named) > DEVICE_CHARS_MAX:
            return UNNAMED
        walk = _Walk(written_at)
        found = self._follow(named, walk)
        if not walk.timed:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[named] = found
        return found

    def _follow(self, named: str, walk: _Walk) -> Found:
        plain, is_address = _plain(named)
        if not plain or device_name_problem(plain):
            return UNNAMED
        itself = plain if is_address else self._short(plain)
        name, seen, how = plain, {plain}, How.TABLE
        while True:
            device = self._holder(name, walk)
            if device is None and is_address and name == plain and (history := self._learnt.get(plain)) is not None:
                device, how = history.at(walk), How.LEARNT
            if device is None:
                break
            if device == AMBIGUOUS:
                return Found(itself, How.AMBIGUOUS)
            if device in seen:
                # A device may have an entry under its own name. In a longer circle, several devices are names of each other.
                if device == name:
                    break
                return Found(itself, How.AMBIGUOUS)
            seen.add(device)
            name = device
        if name != plain:
            return Found(self._short(name), how if self._short(name) != itself else How.NAMED)
        return Found(itself, How.ADDRESS if is_address else How.NAMED)

    def _holder(self, name: str, walk: _Walk) -> str | None:
        """Return the device that has this name or address at the time of the look-up; None if none has it.

        If no device has the full name, the name without its domain is looked up.
        """
        history = self._histories.get(name)
        device = history.at(walk) if history is not None else None
        if device is None and (short := self._short(name)) != name and (history := self._histories.get(short)):
            device = history.at(walk)
        return device

    def _short(self, name: str) -> str:
        for domain in self._domains:
            if name.endswith(domain) and len(name) > len(domain):
                return name.removesuffix(domain)
        return name


class _Walk:
    """The time of one look-up: when the line was written. `timed` records whether the look-up used it."""

    def __init__(self, written_at: Callable[[], Micros]) -> None:
        self._written_at = written_at
        self._at: Micros | None = None
        self.timed = False

    @property
    def at(self) -> Micros:
        self.timed = True
        if self._at is None:
            self._at = self._written_at()
        return self._at


class _History(NamedTuple):
    """The holders of a name or an address: from `times[i]` on, it belongs to `holders[i]`, a device, AMBIGUOUS or None."""

    times: list[Micros]
    holders: list[str | None]

    @classmethod
    def of(cls, named: Mapping[tuple[str, Micros], Micros]) -> _History:
        """Create the history of a name from its entries: their ends, by device and beginning."""
        if len(named) == 1:  # the usual case
            (((device, since), until),) = named.items()
            return cls([since, until], [device, None])
        held: Counter[str] = Counter()
        times: list[Micros] = []
        holders: list[str | None] = []
        for at, more, device in sorted(_changes(named)):
            held[device] += more
            if not held[device]:
                del held[device]
            holder = None if not held else AMBIGUOUS if len(held) > 1 else next(iter(held))
            if times and times[-1] == at:
                holders[-1] = holder
            else:
                times.append(at)
                holders.append(holder)
        return cls(times, holders)

    def at(self, walk: _Walk) -> str | None:
        if self.times == [0, ALWAYS]:
            return self.holders[0]
        if walk.at:
            place = bisect_right(self.times, walk.at)
            return self.holders[place - 1] if place else None
        # A line without a time may have been written at any time. A name that did not always have the same holder is
        # therefore ambiguous.
        known = {holder for holder in self.holders if holder is not None}
        return AMBIGUOUS if known else None


def _changes(named: Mapping[tuple[str, Micros], Micros]) -> Iterator[tuple[Micros, int, str]]:
    """Yield the time, 1 or -1, and the device of each change: the device gets (1) or loses (-1) the name.

    A later entry of a device ends its earlier one, unless the earlier one has no beginning.
    """
    before: dict[str, Micros] = {}
    for device, since in sorted(named, reverse=True):
        until = named[device, since]
        if since:
            until = min(until, before.get(device, until))
        before[device] = since
        if since < until:
            yield since, 1, device
            yield until, -1, device


@lru_cache(maxsize=65_536)
def _plain(name: str) -> tuple[str, bool]:
    """Return a name as all dialects normalise it, and whether it is an address.

    A name is in lower case without trailing dot; an address has its canonical form.
    """
    plain = name.strip().rstrip(".").lower()
    if len(plain) <= ADDRESS_CHARS_MAX and (":" in plain or plain.replace(".", "").isdigit()):
        try:
            return canonical_ip(plain), True
        except ValueError:
            pass
    return plain, False
