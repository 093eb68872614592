"""Base class of all sections of the settings, and formats of values that several sections use."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_settings import NoDecode

from schemas.address import canonical_ip, split_authority, unmapped_network


class Section(BaseModel):
    """Base class of a section: the settings of one package, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _with_commas(given: object) -> object:
    if isinstance(given, str) and given.lstrip().startswith(('["', "['")):
        raise ValueError("a list is written with commas here, without brackets and quotes, as in one,two")
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_with_commas)]
"""Several texts: a list in the file; separated by commas in an environment variable."""


def network(entry: str) -> IPv4Network | IPv6Network:
    """Parse an address or CIDR to a network; IPv4-mapped IPv6 (RFC 4291) becomes IPv4. Raises ValueError."""
    try:
        found = ip_network(entry.strip())
    except ValueError:
        raise ValueError(
            f'"{entry}" is not an address or a network; write 10.1.0.7, 10.1.0.0/16 or 2001:db8::/32, without host bits'
        ) from None
    return unmapped_network(found)


def proxy_address(entry: str) -> tuple[str, int, str]:
    """Parse `host:port` or `name=host:port` to address, port and name ("" without one). Raises ValueError."""
    name, sign, place = entry.rpartition("=")
    host, port = split_authority(place, 0)
    if not host:
        raise ValueError(f'"{entry}" is not host:port or name=host:port')
    try:
        return canonical_ip(host), port, name if sign else ""
    except ValueError:
        raise ValueError(f'"{entry}" needs an IP address, as rows carry addresses; write name=ADDRESS:PORT') from None


def _proxies(given: tuple[str, ...]) -> tuple[str, ...]:
    for entry in given:
        proxy_address(entry)
    return given


Proxies = Annotated[CommaList, AfterValidator(_proxies)]
"""Several proxies, each in the format of `proxy_address`."""
