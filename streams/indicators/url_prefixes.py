"""URL prefixes of one host, with lookups by URL and, for encrypted connections, by port."""

from __future__ import annotations

import re
from itertools import islice

import msgspec

from schemas.indicators import DEFAULT_PORTS, Indicator, IndicatorAction, UrlParts
from streams.indicators.precedence import rank
from streams.indicators.validity import Entry

PARTS_ENDS = "/?&#"
_PARTS_END = re.compile(f"[{PARTS_ENDS}]")
FEW_MAX = 4
"""Maximum number of paths that are compared one by one; more are looked up by their prefixes."""

Entries = tuple[Entry[Indicator], ...]
NONE: Entries = ()


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """URL prefix of a host, without host and path."""

    scheme: str
    port: int
    entry: Entry[Indicator]


class Site:
    """URL prefixes of one host. Values that another thread may read are replaced, never changed."""

    __slots__ = ("_changes", "_depth", "_paths", "_ports")

    def __init__(self) -> None:
        self._paths: dict[str, tuple[Prefix, ...]] = {}
        self._depth = 0
        """Largest number of part ends in a stored path; a lookup tries no prefix with more."""
        self._changes = 0
        self._ports: tuple[int, dict[int, Entries]] = (-1, {})
        """Cache: the value of `_changes` at its creation, and the prefixes with a path by port (0: any port), by precedence."""

    @property
    def empty(self) -> bool:
        """Return whether the host has no prefixes."""
        return not self._paths

    def add(self, parts: UrlParts, entry: Entry[Indicator]) -> None:
        """Add a prefix."""
        prefix = Prefix(parts.scheme, parts.port, entry)
        self._paths[parts.path] = (*self._paths.get(parts.path, ()), prefix)
        self._depth = max(self._depth, len(_PARTS_END.findall(parts.path)))
        self._changes += 1

    def discard(self, parts: UrlParts, entry: Entry[Indicator]) -> None:
        """Remove a prefix."""
        left = tuple(prefix for prefix in self._paths[parts.path] if prefix.entry is not entry)
        if left:
            self._paths[parts.path] = left
        else:
            del self._paths[parts.path]
        self._changes += 1

    def of_url(self, url: str, port: int) -> list[Entry[Indicator]]:
        """Return the entries whose prefix the URL begins with."""
        scheme, path = _scheme_and_path(url)
        return [
            prefix.entry
            for begin in self._beginnings(path)
            for prefix in self._paths.get(begin, ())
            if (not prefix.scheme or prefix.scheme == scheme) and (not prefix.port or prefix.port == port)
        ]

    def of_encrypted(self, port: int) -> tuple[list[Entry[Indicator]], Entries]:
        """Return the entries for an encrypted connection, of which only the port is known.

        The first list holds prefixes of the whole site, the second those with a path, by precedence and without ALLOW.
        """
        whole = [prefix.entry for prefix in self._paths.get("", ()) if prefix.port in (0, port)]
        changes, by_port = self._ports
        if changes != self._changes:
            changes = self._changes
            by_port = self._ordered()
            self._ports = changes, by_port
        return whole, by_port.get(port) or by_port.get(0, NONE)

    def _ordered(self) -> dict[int, Entries]:
        partial = [
            prefix
            for path, prefixes in list(self._paths.items())
            for prefix in prefixes
            if path and prefix.entry.value.action is not IndicatorAction.ALLOW
        ]
        partial.sort(key=lambda prefix: rank(prefix.entry.value))
        return {
            port: tuple(prefix.entry for prefix in partial if prefix.port in (0, port))
            for port in {0, *(prefix.port for prefix in partial)}
        }

    def _beginnings(self, path: str) -> list[str]:
        """Return the stored paths that are prefixes of this path and end at the end of one of its parts (`PARTS_ENDS`)."""
        paths = self._paths
        if len(paths) <= FEW_MAX:
            return [one for one in list(paths) if path.startswith(one) and (path[len(one) :] or "/")[0] in PARTS_ENDS]
        ends = [end.start() for end in islice(_PARTS_END.finditer(path), self._depth + 1)]
        return [begin for end in (*ends, len(path)) if (begin := path[:end]) in paths]


def _scheme_and_path(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    if scheme not in DEFAULT_PORTS:
        scheme = scheme.lower()
    slash = rest.find("/")
    mark = rest.find("?")
    if mark >= 0 and (mark < slash or slash < 0):
        return scheme, "/" + rest[mark:]
    return scheme, rest[slash:] if slash >= 0 else ""
