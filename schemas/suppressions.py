"""Suppressions: alerts that a person does not want to see again until a given time, with who says so and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b

import msgspec

from schemas.events import Micros

GROUP_MARK = "@"
_CLASS = re.compile(r"\[!?.[^]]{0,255}\]")
"""What a pattern has in brackets: one of these characters, or with ! none of them."""
ID_BYTES = 12


class Suppression(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One suppression: a message on the topic `indicators`. What is empty in it restricts nothing."""

    id: str
    """Made from kind, device, domain and indicator: a second one for the same replaces the first."""
    who: str
    why: str
    until: Micros
    """From this time on it does nothing. There is none for ever."""
    kind: str = ""
    """Only alerts of this kind."""
    device: str = ""
    """Only devices that fit this pattern, such as srv-*, lower case; @GROUP for the devices of a group."""
    domain: str = ""
    """Only this registrable domain, or alerts whose hosts are all this one or below it."""
    indicator: str = ""
    """Only alerts of the indicator with this id."""

    def matches(
        self,
        kind: str,
        device: str,
        groups: Sequence[str],
        domain: str,
        hosts: Sequence[str],
        indicator_id: str,
        at: Micros,
    ) -> bool:
        """Whether it holds for an alert of this kind, about these hosts of a domain, at this time."""
        return (
            at < self.until
            and self.kind in ("", kind)
            and self.indicator in ("", indicator_id)
            and (not self.device or self._fits_device(device.lower(), groups))
            and (not self.domain or self._fits_hosts(domain, hosts))
        )

    def _fits_device(self, device: str, groups: Sequence[str]) -> bool:
        if self.device.startswith(GROUP_MARK):
            return self.device[len(GROUP_MARK) :] in groups
        return fnmatchcase(device, self.device)

    def _fits_hosts(self, domain: str, hosts: Sequence[str]) -> bool:
        """An alert may tell of several hosts: it is not hidden for one of them."""
        if domain == self.domain:
            return True
        below = "." + self.domain
        return bool(hosts) and all(host == self.domain or host.endswith(below) for host in hosts)


def open_bracket(pattern: str) -> bool:
    """Whether a device pattern has a [ that no ] closes: it would fit only names that have a [ there, and no device has."""
    return "[" in _CLASS.sub("", pattern)


def suppression_id(kind: str, device: str, domain: str, indicator: str) -> str:
    """A second suppression of the same alerts has the same id."""
    return blake2b("\0".join((kind, device, domain, indicator)).encode(), digest_size=ID_BYTES).hexdigest()
