"""Suppressions: alerts that a person hides until a given time, with that person's name and the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Annotated

import msgspec

from schemas.columns import micros, text
from schemas.events import Micros

GROUP_MARK = "@"
_CLASS = re.compile(r"\[!?.[^]]{0,255}\]")
"""A character set in a pattern, in brackets; `!` after the opening bracket negates it."""
ID_BYTES = 12


class Suppression(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A suppression of alerts until a time. Message on the topic `indicators`, key `s:` and id. Empty conditions match all."""

    id: Annotated[
        str, text("Made from kind, device, domain and indicator, so a suppression of the same alerts replaces it")
    ]
    who: Annotated[str, text("Person who decided it")]
    why: Annotated[str, text("Reason, as shown on every suppressed alert")]
    until: Annotated[Micros, micros("Time from which it has no effect")]
    kind: Annotated[str, text("The only alert kind that matches")] = ""
    device: Annotated[
        str, text("Pattern of the devices that match, such as srv-*, in lower case; @GROUP for the devices of a group")
    ] = ""
    domain: Annotated[
        str,
        text("The only registrable domain that matches; or a name that all hosts of the alert are equal to or below"),
    ] = ""
    indicator: Annotated[str, text("Id of the only indicator whose alerts match")] = ""

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
        """Return whether the suppression hides an alert of this kind, about these hosts of the domain, at the time `at`."""
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
        """Return whether the alert's domain or all of its hosts match. If only some hosts match, the alert is not hidden."""
        if domain == self.domain:
            return True
        below = "." + self.domain
        return bool(hosts) and all(host == self.domain or host.endswith(below) for host in hosts)


def open_bracket(pattern: str) -> bool:
    """Return whether a device pattern has a `[` without a `]`.

    It would match only names that contain `[`, which no device has.
    """
    return "[" in _CLASS.sub("", pattern)


def suppression_id(kind: str, device: str, domain: str, indicator: str) -> str:
    """Return the id: 12 bytes of BLAKE2b in hexadecimal, computed from the conditions."""
    return blake2b("\0".join((kind, device, domain, indicator)).encode(), digest_size=ID_BYTES).hexdigest()
