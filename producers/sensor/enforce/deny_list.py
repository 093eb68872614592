"""The sensor's own list of destinations: a file with one a line, and what in it speaks of a host and port.

    bad.example            # the name and all names below it, as with indicators
    *.worse.example        # says the same
    mail.example:8443      # only this port
    203.0.113.9            # also [2001:db8::9]:443
    198.51.100.0/24

Names are taken in any spelling (upper case, international, trailing dot). A public suffix alone is refused, and so are paths:
of what goes through a tunnel only host and port are seen. A line that cannot be used is told with its number and the reason;
the others hold. Addresses hold for requests that name an address; what a name resolves to is the proxy's to know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple, TypeVar

from producers.sensor.enforce.watched_file import Unreadable, Watched
from schemas.address import canonical_ip, is_ip
from schemas.indicator_values import Unfit, Why, normal
from schemas.indicators import IndicatorType

log = logging.getLogger(__name__)

ENTRIES_MAX = 1_000_000
"""More of them are not taken, some 400 bytes each in memory; that is told."""
FILE_BYTES_MAX = 64 * 1024 * 1024
TOLD_MAX = 20
"""So many lines that cannot be used are told one by one, the rest by their number."""
_WORDS_MAX = 200
_BYTE_ORDER_MARK = "\ufeff"


class Entry(NamedTuple):
    """A line of the list."""

    text: str
    """As it was written, without comment."""
    number: int
    port: int
    """0 for any."""


class Unusable(NamedTuple):
    """A line that cannot be used."""

    number: int
    text: str
    reason: str


class Listed:
    """What is listed, looked up by name, by each name above it, and by the networks around an address."""

    def __init__(self, file: str, lines: Iterable[str] = ()) -> None:
        self.file = file
        self.unusable: list[Unusable] = []
        self._named: dict[str, tuple[Entry, ...]] = {}
        """By name, or by address."""
        self._networks: dict[tuple[int, int], dict[int, tuple[Entry, ...]]] = {}
        """By version and length of prefix, then by the prefix's bits."""
        self._count = 0
        for number, line in enumerate(lines, 1):
            self._take(number, line.partition("#")[0].strip())

    def __len__(self) -> int:
        return self._count

    def find(self, host: str, port: int) -> Entry | None:
        """The nearest entry that speaks of this host and port; the host is normalised (`schemas.address`)."""
        if not host or not self._count:
            return None
        for entries in self._around(host):
            for entry in entries:
                if not entry.port or entry.port == port:
                    return entry
        return None

    def title_of(self, entry: Entry) -> str:
        """What a hunter reads of it."""
        return f"listed by {self.file}'s entry {entry.text}"

    def _around(self, host: str) -> Iterator[tuple[Entry, ...]]:
        if (host[-1].isdigit() or ":" in host) and is_ip(host):
            address = ip_address(canonical_ip(host))
            yield self._named.get(str(address), ())
            width = address.max_prefixlen
            for version, length in sorted(self._networks, reverse=True):
                if version == address.version:
                    yield self._networks[version, length].get(int(address) >> (width - length), ())
            return
        name = host
        while name:
            yield self._named.get(name, ())
            name = name.partition(".")[2]

    def _take(self, number: int, text: str) -> None:
        if not text:
            return
        try:
            found = normal(text)
            if found.type is IndicatorType.URL:
                raise Unfit(Why.UNSUPPORTED, "only host and port are seen; write the host alone")
            if self._count >= ENTRIES_MAX:
                raise Unfit(Why.UNSUPPORTED, f"more than {ENTRIES_MAX:,} entries")
        except Unfit as error:
            reason = str(error.why) + (f" ({error.detail})" if error.detail else "")
            self.unusable.append(Unusable(number, text[:_WORDS_MAX], reason))
            return
        self._count += 1
        entry = Entry(text, number, found.port)
        if found.type is IndicatorType.CIDR:
            network = ip_network(found.value)
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            _add(self._networks.setdefault((network.version, network.prefixlen), {}), bits, entry)
        else:
            _add(self._named, found.value, entry)


_Key = TypeVar("_Key")


def _add(entries: dict[_Key, tuple[Entry, ...]], key: _Key, entry: Entry) -> None:
    """Unless it says what an earlier line said."""
    there = entries.get(key, ())
    if all(other.port != entry.port for other in there):
        entries[key] = (*there, entry)


def list_file(path: Path) -> Watched[Listed]:
    """The list in this file, read again when the file changes. Raises Unreadable when it cannot be read at all."""
    return Watched(path, _read, FILE_BYTES_MAX)


def _read(path: Path, raw: bytes) -> Listed:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from None
    listed = Listed(str(path), text.removeprefix(_BYTE_ORDER_MARK).split("\n"))
    for line in listed.unusable[:TOLD_MAX]:
        log.error(
            "line of the list is left out",
            extra={"at": f"{path}:{line.number}", "line": line.text, "reason": line.reason},
        )
    if len(listed.unusable) > TOLD_MAX:
        log.error("lines of the list are left out", extra={"file": str(path), "lines": len(listed.unusable)})
    log.info("list was read", extra={"file": str(path), "entries": len(listed), "unusable": len(listed.unusable)})
    return listed
