"""Which indicators speak of a destination: an index, so that a million of them cost no more than a few.

A destination is looked up by its name and each name above it, by its address, by the networks around it, and, where the URL
is known, by each prefix of the URL that ends with a part of its path. So no indicator is looked at that could not match. Most
names are done with one look: no indicator has their last two labels.

A URL prefix holds for the URL itself and for what goes on from it with `/`, `?`, `&` or `#`: `http://e.example/a` holds for
`/a`, `/a/b` and `/a?b`, not for `/ab`. Scheme and port must be the same, where the prefix names them.

Of an encrypted connection only host and port are known. A URL prefix with a path then matches *partially*: something on that
site is meant, perhaps not this. A partial match allows nothing, and comes after full matches of the same action.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from schemas.address import canonical_ip, is_ip
from schemas.events import Micros
from schemas.indicators import Indicator, IndicatorType, UrlParts, url_parts
from streams.indicators.networks import Networks
from streams.indicators.precedence import ACTION_RANK, rank
from streams.indicators.url_prefixes import Site
from streams.indicators.validity import Entry, TemporalIndex

_DIGITS = frozenset("0123456789")
_DEVICE = re.compile(r"^(?:\\device\\harddiskvolume\d+|(?:\\\\\?\\)?[a-z]:)(?=\\)")

Found = Entry[Indicator]
_Where = str | UrlParts | IPv4Network | IPv6Network


class Match(NamedTuple):
    """An indicator that speaks of a destination."""

    indicator: Indicator
    partial: bool
    """Only host and port are known to match, of a URL prefix that says more."""


class IndicatorSet:
    """Indicators as of any moment of the log. One thread may change it while others match."""

    def __init__(self) -> None:
        self._index_by_time: TemporalIndex[Indicator] = TemporalIndex()
        self._domains: dict[str, tuple[Found, ...]] = {}
        self._ips: dict[str, tuple[Found, ...]] = {}
        self._networks: Networks[Found] = Networks()
        self._sites: dict[str, Site] = {}
        self._heads: dict[str, int] = {}
        """Last two labels of the names of domains and sites, with how many there are: most destinations end with none of them."""
        self._singles = 0
        """Domains of one label: where there are any, each name has to be looked up."""

    def __len__(self) -> int:
        return len(self._index_by_time)

    @property
    def empty(self) -> bool:
        """Nothing at all in it, past ones neither."""
        return self._index_by_time.empty

    def put(self, indicator: Indicator, since_ms: int = 0) -> None:
        """It is in force for log times from then on, in place of an earlier one of the same id; said again it is no news.

        Raises ValueError for a value that is not of its type.
        """
        where = _where(indicator)
        if self._index_by_time.holds(indicator.id, indicator):
            return
        self.remove(indicator.id, since_ms)
        entry = self._index_by_time.put(indicator.id, indicator, since_ms)
        self._note_name(where, indicator, 1)
        if isinstance(where, UrlParts):
            site = self._sites.get(where.host) or Site()
            site.add(where, entry)
            self._sites[where.host] = site
        elif not isinstance(where, str):
            self._networks.add(where, entry)
        else:
            named = self._ips if indicator.type is IndicatorType.IP else self._domains
            named[where] = (*named.get(where, ()), entry)

    def remove(self, id: str, since_ms: int = 0) -> None:
        """It is in force for log times before then only."""
        self._drop(self._index_by_time.end(id, since_ms))

    def forget(self, before_ms: int) -> None:
        """Let go what ended before this log time."""
        self._drop(self._index_by_time.forget(before_ms))

    def match(
        self,
        host: str,
        port: int,
        url: str,
        ip: str,
        encrypted: bool,
        at: Micros,
        logged_ms: int,
        groups: tuple[str, ...],
    ) -> tuple[Match, ...]:
        """Indicators that speak of this destination, by precedence, up to the first that holds for every process.

        `host` is a normalised name or address, `url` the URL of a plain request, `ip` the destination's own address, each ""
        where unknown; `at` is the event's time, `logged_ms` the log's, 0 without a log.
        """
        found: list[Found] = []
        partial: tuple[Found, ...] = ()
        literal = host != "" and (host == ip or ((host[-1] in _DIGITS or ":" in host) and is_ip(host)))
        named = not literal and (self._singles > 0 or host[host.rfind(".", 0, host.rfind(".")) + 1 :] in self._heads)
        if named:
            domains = self._domains
            if host in domains:
                found += domains.get(host, ())
            dot = host.find(".") + 1
            while dot:
                above = host[dot:]
                if above in domains:
                    for entry in domains.get(above, ()):
                        if entry.value.subdomains:
                            found.append(entry)
                dot = host.find(".", dot) + 1
        if ip and (ip in self._ips or self._networks.v4.items or ":" in ip):
            self._find_address(ip, found)
        if literal and host != ip:
            self._find_address(host, found)
        site = self._sites.get(host) if named or literal else None
        if site is not None:
            if encrypted:
                whole, partial = site.of_encrypted(port)
                found += whole
            elif url:
                found += site.of_url(url, port)
        if not found and not partial:
            return ()
        held = _in_force(found, port, at, logged_ms, groups)
        if len(held) == 1 and not partial:
            return (Match(held[0], False),)
        held.sort(key=rank)
        matches = _until_unbound(Match(indicator, False) for indicator in held)
        if partial:
            lesser = _until_unbound(
                Match(indicator, True)
                for entry in partial
                for indicator in _in_force((entry,), port, at, logged_ms, groups)
            )
            matches = _until_unbound(sorted(matches + lesser, key=_action_and_partial))
        return tuple(matches)

    def _find_address(self, given: str, found: list[Found]) -> None:
        address = canonical_ip(given) if given[0] == ":" else given
        if address in self._ips:
            found += self._ips.get(address, ())
        networks = self._networks.v6 if ":" in address else self._networks.v4
        if networks.items:
            found += networks.find(address)

    def _drop(self, entries: Iterator[Found]) -> None:
        for entry in entries:
            where = _where(entry.value)
            if isinstance(where, UrlParts):
                site = self._sites[where.host]
                site.discard(where, entry)
                if site.empty:
                    del self._sites[where.host]
            elif not isinstance(where, str):
                self._networks.discard(where, entry)
            else:
                named = self._ips if entry.value.type is IndicatorType.IP else self._domains
                left = tuple(other for other in named[where] if other is not entry)
                if left:
                    named[where] = left
                else:
                    del named[where]
            self._note_name(where, entry.value, -1)

    def _note_name(self, where: _Where, indicator: Indicator, by: int) -> None:
        """Before it is put, and after it was taken away: whoever asks meanwhile looks once too often, never too seldom."""
        if indicator.type is IndicatorType.DOMAIN and "." not in indicator.value:
            self._singles += by
        elif isinstance(where, UrlParts) or indicator.type is IndicatorType.DOMAIN:
            head = _head(where.host if isinstance(where, UrlParts) else indicator.value)
            count = self._heads.get(head, 0) + by
            if count:
                self._heads[head] = count
            else:
                del self._heads[head]


def _head(name: str) -> str:
    """The last two labels, as `match` cuts them off."""
    return name[name.rfind(".", 0, name.rfind(".")) + 1 :]


def process_matches(indicator: Indicator, process_name: str, process_path: str) -> bool:
    """Whether it holds for a process of this file name and path: by the name alone, or by the whole path.

    Upper and lower case are the same, and so are a Windows drive and the device behind it: sensors write either.
    """
    wanted = indicator.process.lower()
    if not wanted:
        return True
    path = process_path.lower()
    if "\\" in wanted or "/" in wanted:
        return bool(path) and without_device(wanted) == without_device(path)
    return wanted in (process_name.lower(), re.split(r"[\\/]", path)[-1])


def without_device(path: str) -> str:
    """A Windows path without its drive, or the device behind that."""
    return _DEVICE.sub("", path, count=1)


def _where(indicator: Indicator) -> _Where:
    """Where it stands in the index. Raises ValueError for a value that is not of its type."""
    value = indicator.value
    match indicator.type:
        case IndicatorType.URL:
            return url_parts(value)
        case IndicatorType.CIDR:
            return ip_network(value)
        case IndicatorType.IP:
            return canonical_ip(value)
        case IndicatorType.DOMAIN:
            return value


def _in_force(
    entries: Iterable[Found], port: int, at: Micros, logged_ms: int, groups: tuple[str, ...]
) -> list[Indicator]:
    held = []
    for entry in entries:
        if entry.since_ms <= logged_ms < entry.to_ms:
            one = entry.value
            if (
                (not one.expires or at < one.expires)
                and (not one.port or one.port == port)
                and (not one.groups or not set(groups).isdisjoint(one.groups))
            ):
                held.append(one)
    return held


def _until_unbound(matches: Iterable[Match]) -> list[Match]:
    """Up to the first that holds for every process: what comes after it never decides."""
    kept = []
    for match in matches:
        kept.append(match)
        if not match.indicator.process:
            break
    return kept


def _action_and_partial(match: Match) -> tuple[int, bool]:
    return ACTION_RANK[match.indicator.action], match.partial
