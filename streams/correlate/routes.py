"""Routes of connections: whether the remote end of a connection is a proxy."""

from __future__ import annotations

from functools import lru_cache

from schemas.sections.base import proxy_address
from schemas.settings import CorrelationSettings
from streams.assess.assessment import Route, uses_tls_to_proxy
from streams.model.connection import Connection
from streams.model.device import Device


@lru_cache(maxsize=16_384)
def ends_of(key: str) -> tuple[str, int, str, int, str]:
    """Return the four parts of a 5-tuple key, and the remote end as `ip port`, which is the key of proxies."""
    local_ip, local_port, remote_ip, remote_port = key.split(" ")
    return local_ip, int(local_port), remote_ip, int(remote_port), f"{remote_ip} {remote_port}"


class Routes:
    """Proxies from the settings, and the route of each connection."""

    def __init__(self, settings: CorrelationSettings) -> None:
        self.proxies: dict[str, str] = {}
        """Names of the proxies in the settings, by `ip port`."""
        for entry in settings.proxies:
            ip, port, name = proxy_address(entry)
            self.proxies[f"{ip} {port}"] = name
        self._denied = {f"{ip} {port}" for ip, port, _ in map(proxy_address, settings.not_proxies)}

    def route(self, device: Device, key: str, connection: Connection) -> Route:
        """Return the ends of a connection and whether the remote end is a proxy, by the settings or by requests."""
        local_ip, local_port, remote_ip, remote_port, remote = ends_of(key)
        name = self.proxies.get(remote)
        proxies = device.state.proxies
        learnt = name is None and (
            remote in proxies
            or (bool(proxies) and _answers_as_proxy(device, remote_ip) and uses_tls_to_proxy(connection))
        )
        proxied = (connection.asked or name is not None or learnt) and remote not in self._denied
        return Route(device.name, key, local_ip, local_port, remote_ip, remote_port, proxied, name or "", learnt)

    def is_listed(self, route: Route) -> bool:
        """Return whether the settings name the remote end as a proxy."""
        return f"{route.remote_ip} {route.remote_port}" in self.proxies


def _answers_as_proxy(device: Device, ip: str) -> bool:
    return any(answered and remote.startswith(f"{ip} ") for remote, answered in device.state.proxies.items())
