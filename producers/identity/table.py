"""Which names and addresses are one device: the identity table. Pure.

    ws-042.corp.example ─┐ domain cut off
    WS-042               ├──► ws-042        the DeviceId: partition key, and the device of every row
    3f9a1c6e2b8d…        ┤ a name of it
    10.0.3.17            ┘ leased to it when the line was written

Names are equalities, so a name of a name is followed. Nothing is guessed: what two devices have at a time is nobody's then,
and stays what the line says. An address that a device had before or after says nothing of now.
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
"""The end of what has none."""
REMEMBERED_MAX = 100_000
"""Answers that do not depend on the time are kept; beyond it they are worked out anew."""
ADDRESS_CHARS_MAX = 64
"""No address is longer, its zone included."""


class How(StrEnum):
    """How the device of a line was found: a small closed set, as it becomes a metric label."""

    NAMED = "named"
    """The line's own name, in lower case and without a known domain."""
    TABLE = "table"
    """The table knows the name or the address."""
    LEARNT = "learnt"
    """The address is one that the device said it has, in its own records."""
    ADDRESS = "address"
    """The line tells only an address, and no device is known to have had it then: it stands for the device."""
    AMBIGUOUS = "ambiguous"
    """Several devices had the name or the address then: it stands for none of them, and stays as it is."""
    UNTOLD = "untold"
    """The line names no device, or nothing that can be a device's name: that of its grant is taken if it is only one, then
    that given with `--device`, then the sensor."""


class Entry(NamedTuple):
    """A device has a name, or an address, for a while."""

    device: str
    known_as: str
    since: Micros = 0
    until: Micros = ALWAYS
    """From then on not any more."""


class Found(NamedTuple):
    """The device of a line."""

    device: str
    how: How


UNTOLD = Found("", How.UNTOLD)
AMBIGUOUS = ""
"""In place of a device: several."""


class IdentityTable:
    """Finds the device that a name or an address stands for at a time.

    Of entries for the same device, name and beginning the last one holds, and one that begins later tells the end of the one
    before, unless that holds since ever: so a lease is renewed, or ended early, by telling it again. Raises ValueError for an
    entry that names nothing.
    """

    def __init__(self, entries: Iterable[Entry] = (), domains: Sequence[str] = ()) -> None:
        domains = [domain.strip().strip(".").lower() for domain in domains]
        self._domains = tuple(sorted((f".{domain}" for domain in domains if domain), key=len, reverse=True))
        told: dict[str, dict[tuple[str, Micros], Micros]] = {}
        for entry in entries:
            known_as, device = _plain(entry.known_as)[0], self._short(_plain(entry.device)[0])
            if not known_as or not device:
                raise ValueError(f"device {entry.device!r} known as {entry.known_as!r}: one of them is empty")
            told.setdefault(known_as, {})[device, entry.since] = entry.until
            if (short := self._short(known_as)) != known_as:
                told.setdefault(short, {})[device, entry.since] = entry.until
        self._histories = {known_as: _History.of(some) for known_as, some in told.items()}
        self._learnt: dict[str, _History] = {}
        self._remembered: dict[str, Found] = {}

    def learn(self, entries: Iterable[Entry]) -> None:
        """Who had which addresses (canonical) by devices' own records. Of an address that the table knows, it alone counts."""
        told: dict[str, dict[tuple[str, Micros], Micros]] = {}
        for entry in entries:
            if entry.known_as not in self._histories:
                told.setdefault(entry.known_as, {})[entry.device, entry.since] = entry.until
        self._learnt = {address: _History.of(some) for address, some in told.items()}
        self._remembered.clear()

    def find(self, told: str, written_at: Callable[[], Micros]) -> Found:
        """The device that `told` stands for; when the line was written (0: it does not say) is asked only if it matters."""
        found = self._remembered.get(told)
        if found is not None:
            return found
        if len(told) > DEVICE_CHARS_MAX:
            return UNTOLD
        walk = _Walk(written_at)
        found = self._follow(told, walk)
        if not walk.timed:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[told] = found
        return found

    def _follow(self, told: str, walk: _Walk) -> Found:
        plain, is_address = _plain(told)
        if not plain or device_name_problem(plain):
            return UNTOLD
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
                # A device may be listed under its own name; a longer circle says that several are each other's.
                if device == name:
                    break
                return Found(itself, How.AMBIGUOUS)
            seen.add(device)
            name = device
        if name != plain:
            return Found(self._short(name), how if self._short(name) != itself else How.NAMED)
        return Found(itself, How.ADDRESS if is_address else How.NAMED)

    def _holder(self, name: str, walk: _Walk) -> str | None:
        """Whose name or address it is at the time: the whole name counts before what is left of it without its domain."""
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
    """One look-up: when the line was written, and whether that mattered."""

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
    """Who had a name or an address when: from each time on one device, AMBIGUOUS, or None for nobody."""

    times: list[Micros]
    holders: list[str | None]

    @classmethod
    def of(cls, told: Mapping[tuple[str, Micros], Micros]) -> _History:
        """From device and beginning, and the end."""
        if len(told) == 1:  # nearly always
            (((device, since), until),) = told.items()
            return cls([since, until], [device, None])
        held: Counter[str] = Counter()
        times: list[Micros] = []
        holders: list[str | None] = []
        for at, more, device in sorted(_changes(told)):
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
        # A line without a time may be of any: it is nobody's where that makes a difference.
        known = {holder for holder in self.holders if holder is not None}
        return AMBIGUOUS if known else None


def _changes(told: Mapping[tuple[str, Micros], Micros]) -> Iterator[tuple[Micros, int, str]]:
    """When a device begins (1) and ceases (-1) to have it; a beginning tells the end of what began before, not of ever."""
    before: dict[str, Micros] = {}
    for device, since in sorted(told, reverse=True):
        until = told[device, since]
        if since:
            until = min(until, before.get(device, until))
        before[device] = since
        if since < until:
            yield since, 1, device
            yield until, -1, device


@lru_cache(maxsize=65_536)
def _plain(name: str) -> tuple[str, bool]:
    """A name as all dialects that tidy names have it, and whether it is an address.

    A name is lower case, without trailing dot; an address has its one spelling.
    """
    plain = name.strip().rstrip(".").lower()
    if len(plain) <= ADDRESS_CHARS_MAX and (":" in plain or plain.replace(".", "").isdigit()):
        try:
            return canonical_ip(plain), True
        except ValueError:
            pass
    return plain, False
