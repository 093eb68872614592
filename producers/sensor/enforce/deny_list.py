"""The sensor's deny list: a file with one destination per line, and the lookup of a host and port in it.

    bad.example            # the name and all names below it, as with indicators
    *.worse.example        # the same, with a wildcard
    mail.example:8443      # only this port
    203.0.113.9            # also [2001:db8::9]:443
    198.51.100.0/24

Names are accepted in any spelling (upper case, international, trailing dot). A public suffix alone is rejected. Paths are
rejected too, because only host and port of tunnelled traffic are visible. An unusable line is logged with its number and the
reason; the other lines apply. An address matches only requests that name an address, because the proxy resolves names.
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
"""Maximum number of entries, some 400 bytes each in memory. Further lines are logged as unusable."""
FILE_BYTES_MAX = 64 * 1024 * 1024
REPORTED_MAX = 20
"""Maximum number of unusable lines that are logged one by one. If there are more, their total number is logged as well."""
_WORDS_MAX = 200
_BYTE_ORDER_MARK = "\ufeff"


class Entry(NamedTuple):
    """A line of the list."""

    text: str
    """As written in the file, without the comment."""
    number: int
    port: int
    """0 means any port."""


class Unusable(NamedTuple):
    """A line that is not a valid entry."""

    number: int
    text: str
    reason: str


class Listed:
    """The entries of a list, indexed by name, address and network; a lookup includes parent domains and enclosing networks."""

    def __init__(self, file: str, lines: Iterable[str] = ()) -> None:
        self.file = file
        self.unusable: list[Unusable] = []
        self._named: dict[str, tuple[Entry, ...]] = {}
        """Keyed by name or address."""
        self._networks: dict[tuple[int, int], dict[int, tuple[Entry, ...]]] = {}
        """Keyed by IP version and prefix length, then by the prefix bits."""
        self._count = 0
        for number, line in enumerate(lines, 1):
            self._take(number, line.partition("#")[0].strip())

    def __len__(self) -> int:
        return self._count

    def find(self, host: str, port: int) -> Entry | None:
        """Return the most specific entry for a host and port, or None. `host` is normalised (`schemas.address`)."""
        if not host or not self._count:
            return None
        for entries in self._around(host):
            for entry in entries:
                if not entry.port or entry.port == port:
                    return entry
        return None

    def title_of(self, entry: Entry) -> str:
        """Return the entry's title as shown to an analyst."""
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
        except Unfit as error:
            self._leave_out(number, text, error.why, error.detail)
            return
        if found.type is IndicatorType.URL:
            self._leave_out(number, text, Why.UNSUPPORTED, "only host and port are seen; write the host alone")
            return
        if self._count >= ENTRIES_MAX:
            self._leave_out(number, text, Why.UNSUPPORTED, f"more than {ENTRIES_MAX:,} entries")
            return
        self._count += 1
        entry = Entry(text, number, found.port)
        if found.type is IndicatorType.CIDR:
            network = ip_network(found.value)
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            _add(self._networks.setdefault((network.version, network.prefixlen), {}), bits, entry)
        else:
            _add(self._named, found.value, entry)

    def _leave_out(self, number: int, text: str, why: Why, detail: str) -> None:
        self.unusable.append(Unusable(number, text[:_WORDS_MAX], f"{why} ({detail})" if detail else str(why)))


_Key = TypeVar("_Key")


def _add(entries: dict[_Key, tuple[Entry, ...]], key: _Key, entry: Entry) -> None:
    """Add an entry, unless an earlier line has the same key and port."""
    there = entries.get(key, ())
    if all(other.port != entry.port for other in there):
        entries[key] = (*there, entry)


def list_file(path: Path) -> Watched[Listed]:
    """Load the list from a file and reload it when the file changes. Raises Unreadable if the first load fails."""
    return Watched(path, _read, FILE_BYTES_MAX)


def _read(path: Path, raw: bytes) -> Listed:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from None
    listed = Listed(str(path), text.removeprefix(_BYTE_ORDER_MARK).split("\n"))
    for line in listed.unusable[:REPORTED_MAX]:
        log.error(
            "unusable line of the deny list is ignored",
            extra={"at": f"{path}:{line.number}", "line": line.text, "reason": line.reason},
        )
    if len(listed.unusable) > REPORTED_MAX:
        log.error(
            "unusable lines of the deny list are ignored", extra={"file": str(path), "lines": len(listed.unusable)}
        )
    log.info("deny list was read", extra={"file": str(path), "entries": len(listed), "unusable": len(listed.unusable)})
    return listed
