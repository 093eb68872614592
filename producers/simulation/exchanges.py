"""Parts that all errands share: response times of a proxy, durations of connections, and a request with its response."""

from __future__ import annotations

from producers.simulation.device import Connection, Device
from schemas.clock import MICROS
from schemas.events import Micros

HTTP, TLS, TUNNELLED, NOTHING = (
    '"app_proto":"http",',
    '"app_proto":"tls",',
    '"app_proto":"tls","app_proto_orig":"http",',
    "",
)
"""JSON fragments with the application protocol of a flow record."""


def ask(device: Device, at: Micros) -> tuple[Micros, Micros]:
    """Draw when the next request after `at` is sent, and when its response arrives."""
    draw = device.draw
    asked = at + 200 + int(draw() * 1_500)
    luck = draw()
    return asked, asked + 1_500 + int(luck * 40_000 if luck < 0.97 else luck * 1_500_000)


def length(device: Device) -> Micros:
    """Draw how long a connection stays open: mostly seconds, sometimes hours, at most `WorldSettings.open_secs_max`."""
    luck, more = device.draw(), device.draw()
    if luck < 0.55:
        drawn = 20_000 + int(more * more * 3 * MICROS)
    elif luck < 0.9:
        drawn = int((3 + 57 * more) * MICROS)
    elif luck < 0.985:
        drawn = int((60 + 840 * more) * MICROS)
    else:
        drawn = int((900 + 20_000 * more) * MICROS)
    return min(drawn, device.open_max)


def plain_exchange(
    device: Device, connection: Connection, at: Micros, tx: int, content: str, path: str, size: int
) -> bool:
    """Write the records of a request and of the body of its response; return whether the request was logged.

    An inline sensor logs the body first.
    """
    if at >= connection.cut:
        return False
    http = connection.wire.http(at, tx, content)
    if size == 0:
        return device.emit(connection, at, http)
    if device.profile.inline:
        device.emit(connection, at, connection.wire.fileinfo(at, tx, content, path, size))
        return device.emit(connection, at, http)
    seen = device.emit(connection, at, http)
    later = at + 800 + size // 8
    if later < connection.cut:
        device.emit(connection, later, connection.wire.fileinfo(later, tx, content, path, size))
    return seen
