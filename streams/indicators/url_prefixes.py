"""The URL prefixes of one host: which of them an URL begins with, and which are on the site of an encrypted connection."""

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
"""So many paths are compared one by one."""

Entries = tuple[Entry[Indicator], ...]
NONE: Entries = ()


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """A prefix on this host, beside its path."""

    scheme: str
    port: int
    entry: Entry[Indicator]


class Site:
    """One host. What a reader in another thread sees is replaced, never changed."""

    __slots__ = ("_changes", "_depth", "_paths", "_ports")

    def __init__(self) -> None:
        self._paths: dict[str, tuple[Prefix, ...]] = {}
        self._depth = 0
        """Ends of parts in the path that has the most: beyond it no prefix needs to be looked for."""
        self._changes = 0
        self._ports: tuple[int, dict[int, Entries]] = (-1, {})
        """Prefixes with a path in the order of precedence, by port, 0 for any other; and the change they are from."""

    @property
    def empty(self) -> bool:
        """There are none left."""
        return not self._paths

    def add(self, parts: UrlParts, entry: Entry[Indicator]) -> None:
        """One more prefix."""
        prefix = Prefix(parts.scheme, parts.port, entry)
        self._paths[parts.path] = (*self._paths.get(parts.path, ()), prefix)
        self._depth = max(self._depth, len(_PARTS_END.findall(parts.path)))
        self._changes += 1

    def discard(self, parts: UrlParts, entry: Entry[Indicator]) -> None:
        """One prefix less."""
        left = tuple(prefix for prefix in self._paths[parts.path] if prefix.entry is not entry)
        if left:
            self._paths[parts.path] = left
        else:
            del self._paths[parts.path]
        self._changes += 1

    def of_url(self, url: str, port: int) -> list[Entry[Indicator]]:
        """Those which this URL begins with."""
        scheme, path = _scheme_and_path(url)
        return [
            prefix.entry
            for begin in self._beginnings(path)
            for prefix in self._paths.get(begin, ())
            if (not prefix.scheme or prefix.scheme == scheme) and (not prefix.port or prefix.port == port)
        ]

    def of_encrypted(self, port: int) -> tuple[list[Entry[Indicator]], Entries]:
        """For a connection of which no more is known: those of the whole site, and those of a part of it in order."""
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
        """Of the paths there are, those that this one goes on from."""
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
