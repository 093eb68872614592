"""Grants from the settings: which devices a sender may report on, and whether its verdicts count. Pure.

    [inputs.grants.ws-1]      token = "…"                                  the endpoint ws-1 reports on itself
    [inputs.grants.proxy]     addresses = ["10.1.0.7"]  devices = ["*"]    a proxy's log is about every client
    [inputs.grants.edr]       sources = ["kafka://broker/edr"]  devices = ["ws-*"]  verdicts = true

An HTTP client may send lines only if it matches a grant. The operator chooses files and topics on the command line, so
they are unrestricted unless the `sources` of a grant match them.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase, translate
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from schemas.address import canonical_ip
from schemas.sections.base import network
from schemas.sections.inputs import GrantSettings, InputSettings

_WILD = frozenset("*?[")
"""A name with one of these characters is a pattern."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one sender may report."""

    name: str
    devices: tuple[str, ...]
    """Patterns of DeviceIds, lower case."""
    verdicts: bool
    """Whether the verdicts and protection modes that the sender reports count."""
    only: str = field(init=False, compare=False)
    """The only device that the sender may report on; "" if several are possible."""
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        (first, *others) = self.devices
        object.__setattr__(self, "only", "" if others or set(first) & _WILD else first)
        object.__setattr__(self, "_pattern", re.compile("|".join(map(translate, self.devices))))

    def allows(self, device: str) -> bool:
        """Return whether the sender may report on a device, given by its DeviceId."""
        return self._pattern.match(device.lower()) is not None

    @property
    def unrestricted(self) -> bool:
        """Whether the sender may report on every device."""
        return "*" in self.devices

    @classmethod
    def of(cls, name: str, settings: GrantSettings) -> Grant:
        """Create a grant from the settings."""
        devices = tuple(pattern.strip().rstrip(".").lower() for pattern in settings.devices)
        return cls(name, devices or (name,), settings.verdicts)


class Grants:
    """All grants.

    A client must fulfil every condition of a grant. If several grants match, one with certificates takes precedence over
    one without; then the order of the settings applies. A client that sends a token matches only grants with that
    token; one that sends none matches only grants without a token.
    """

    def __init__(self, settings: InputSettings) -> None:
        self._key = secrets.token_bytes(32)
        self._clients: dict[bytes, list[_Client]] = {}
        self._sources: list[tuple[str, Grant]] = []
        for name, one in settings.grants.items():
            grant = Grant.of(name, one)
            if one.sources:
                self._sources.extend((pattern, grant) for pattern in one.sources)
                continue
            client = _Client(grant, frozenset(one.certificates), tuple(network(entry) for entry in one.addresses))
            self._clients.setdefault(self._hash(one.token.get_secret_value()), []).append(client)
        for clients in self._clients.values():
            clients.sort(key=lambda client: not client.certificates)

    def has_clients(self, *, certificates: bool) -> bool:
        """Return whether any client can match a grant; if none can, an HTTP input is useless.

        `certificates` states whether the input verifies client certificates.
        """
        return any(certificates or not one.certificates for clients in self._clients.values() for one in clients)

    def for_client(self, *, token: str = "", certificate_names: Sequence[str] = (), address: str = "") -> Grant | None:
        """Return the grant of a client; None if it has none and may not send.

        `certificate_names` are the names in the client's verified certificate. `address` is its IP address, "" if it has
        none.
        """
        shown = frozenset(certificate_names)
        ip = ip_address(canonical_ip(address)) if address else None
        for client in self._clients.get(self._hash(token), ()):
            if client.certificates and not client.certificates & shown:
                continue
            if client.networks and (ip is None or not any(ip in one for one in client.networks)):
                continue
            return client.grant
        return None

    def for_source(self, path: str) -> Grant | None:
        """Return the grant of a file or topic, spelled as on the command line; None (unrestricted) if no grant names it."""
        return next((grant for pattern, grant in self._sources if fnmatchcase(path, pattern)), None)

    def hidden(self) -> Iterator[tuple[str, str]]:
        """Yield each client grant that can never match, with the earlier grant that matches all of its clients."""
        for clients in self._clients.values():
            for place, client in enumerate(clients):
                first = next((one for one in clients[:place] if one.covers(client)), None)
                if first is not None:
                    yield client.grant.name, first.grant.name

    def _hash(self, token: str) -> bytes:
        """Return a keyed hash, so that the time of a look-up reveals nothing about the tokens."""
        return hmac.digest(self._key, token.encode("utf-8", "surrogateescape"), "sha256")


class _Client(NamedTuple):
    """The conditions under which a client has a grant."""

    grant: Grant
    certificates: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]

    def covers(self, other: _Client) -> bool:
        """Return whether every client that matches the other one also matches this one."""
        certificates = not self.certificates or (bool(other.certificates) and other.certificates <= self.certificates)
        within = all(any(_lies_in(one, wide) for wide in self.networks) for one in other.networks)
        return certificates and (not self.networks or (bool(other.networks) and within))


def wrong_names(settings: InputSettings, device_id: Callable[[str], str]) -> Iterator[tuple[str, str, str]]:
    """Yield each device name in a grant that is not a DeviceId: the grant, the name, and the DeviceId to use instead.

    `device_id` returns the DeviceId of a name.
    """
    for name, one in settings.grants.items():
        for device in Grant.of(name, one).devices:
            if not set(device) & _WILD and (right := device_id(device)) != device:
                yield name, device, right


def _lies_in(one: IPv4Network | IPv6Network, wide: IPv4Network | IPv6Network) -> bool:
    return one.version == wide.version and one.network_address in wide and one.prefixlen >= wide.prefixlen
