"""Index of indicators by destination, whose lookup cost does not depend on the number of indicators.

A lookup uses the destination's name and each parent domain, its address, the networks that contain the address and, if the URL
is known, each prefix of the URL that ends at the end of a path part. It therefore visits only indicators that may match. For
most names one lookup is enough, because no indicator has their last two labels.

A URL prefix matches the URL itself and any URL that continues with `/`, `?`, `&` or `#`: `http://e.example/a` matches `/a`,
`/a/b` and `/a?b`, but not `/ab`. Scheme and port must be equal if the prefix contains them.

For an encrypted connection only host and port are known. A URL prefix with a path then matches *partially*, as the
indicator may refer to another URL of the host. A partial match never allows, and ranks after full matches of the same action.
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
    """Indicator that matches a destination."""

    indicator: Indicator
    partial: bool
    """Only host and port of a URL prefix with a path were compared."""


class IndicatorSet:
    """Indicators as of any log time. One thread may change the set while others match."""

    def __init__(self) -> None:
        self._index_by_time: TemporalIndex[Indicator] = TemporalIndex()
        self._domains: dict[str, tuple[Found, ...]] = {}
        self._ips: dict[str, tuple[Found, ...]] = {}
        self._networks: Networks[Found] = Networks()
        self._sites: dict[str, Site] = {}
        self._heads: dict[str, int] = {}
        """Number of domains and sites by the last two labels of their name, for a fast negative answer on most destinations."""
        self._singles = 0
        """Number of domains with one label. If there are any, each name needs a full lookup."""

    def __len__(self) -> int:
        return len(self._index_by_time)

    @property
    def empty(self) -> bool:
        """Return whether the set holds no indicators, including past ones."""
        return self._index_by_time.empty

    def put(self, indicator: Indicator, since_ms: int = 0) -> None:
        """Make an indicator valid from log time `since_ms` on, in place of an earlier one with the same id.

        An indicator equal to the current one changes nothing. Raises ValueError if the value does not fit the type.
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
        """End the validity of an indicator at log time `since_ms`."""
        self._drop(self._index_by_time.end(id, since_ms))

    def forget(self, before_ms: int) -> None:
        """Evict indicators that ended at or before this log time."""
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
        """Return the indicators that match a destination, by precedence, up to the first that applies to every process.

        `host` is a normalised name or address, `url` the URL of a plain request, `ip` the destination's own address; each is
        "" if unknown. `at` is the event time. `logged_ms` is the log time, 0 without a log.
        """
        found: list[Found] = []
        partial: tuple[Found, ...] = ()
        literal = host != "" and (host == ip or ((host[-1] in _DIGITS or ":" in host) and is_ip(host)))
        named = not literal and (self._singles > 0 or host[host.rfind(".", 0, host.rfind(".")) + 1 :] in self._heads)
        if named:
            self._find_name(host, found)
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
        held = list(_in_force(found, port, at, logged_ms, groups))
        if not partial:
            return _by_precedence(held)
        return _by_precedence(held, _in_force(partial, port, at, logged_ms, groups))

    def _find_name(self, host: str, found: list[Found]) -> None:
        domains = self._domains
        if host in domains:
            found += domains.get(host, ())
        dot = host.find(".") + 1
        while dot:
            above = host[dot:]
            if above in domains:
                found += [entry for entry in domains.get(above, ()) if entry.value.subdomains]
            dot = host.find(".", dot) + 1

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
        """Add `by` to the count of a name; called before an indicator is stored and after it is removed.

        In between, a concurrent `match` may do a superfluous lookup but never misses one.
        """
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
    """Return the last two labels of a name, in the same way as `match`."""
    return name[name.rfind(".", 0, name.rfind(".")) + 1 :]


def process_matches(indicator: Indicator, process_name: str, process_path: str) -> bool:
    """Return whether an indicator applies to a process, by its file name or, if the indicator has a path, by the whole path.

    The comparison ignores case. A Windows drive equals the device behind it, because sensors write either.
    """
    wanted = indicator.process.lower()
    if not wanted:
        return True
    path = process_path.lower()
    if "\\" in wanted or "/" in wanted:
        return bool(path) and without_device(wanted) == without_device(path)
    return wanted in (process_name.lower(), re.split(r"[\\/]", path)[-1])


def without_device(path: str) -> str:
    """Return a Windows path without its drive or device."""
    return _DEVICE.sub("", path, count=1)


def _where(indicator: Indicator) -> _Where:
    """Return the indicator's key in the index. Raises ValueError if the value does not fit the type."""
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
) -> Iterator[Indicator]:
    for entry in entries:
        if entry.since_ms <= logged_ms < entry.to_ms:
            one = entry.value
            if (
                (not one.expires or at < one.expires)
                and (not one.port or one.port == port)
                and (not one.groups or not set(groups).isdisjoint(one.groups))
            ):
                yield one


def _by_precedence(held: list[Indicator], partial: Iterable[Indicator] = ()) -> tuple[Match, ...]:
    """Return matches of full and partial indicators, the latter sorted by precedence, up to the first for every process."""
    held.sort(key=rank)
    matches = _until_unbound(Match(indicator, False) for indicator in held)
    if lesser := _until_unbound(Match(indicator, True) for indicator in partial):
        matches = _until_unbound(sorted(matches + lesser, key=_action_and_partial))
    return tuple(matches)


def _until_unbound(matches: Iterable[Match]) -> list[Match]:
    """Return the matches up to the first that applies to every process; later ones never take effect."""
    kept = []
    for match in matches:
        kept.append(match)
        if not match.indicator.process:
            break
    return kept


def _action_and_partial(match: Match) -> tuple[int, bool]:
    return ACTION_RANK[match.indicator.action], match.partial
