"""How often each errand is run."""

from __future__ import annotations

from collections.abc import Callable

from producers.simulation.device import Device
from producers.simulation.protection import listed_plain, listed_tunnel
from producers.simulation.traffic import (
    address_asked,
    direct_http,
    direct_tls,
    one_keep_alive,
    one_tunnel,
    page,
    plain_in_tunnel,
    stranger,
)
from producers.simulation.troubles import (
    asked_to_log_in,
    encrypted,
    fronted,
    refused,
    same_port,
    silent,
    unanswered,
    unreachable,
)
from schemas.events import Micros

Errand = Callable[[Device, Micros], None]
"""What is done on a device from a time on."""

_SHARES: tuple[tuple[Errand, int], ...] = (
    (page, 350),
    (one_tunnel, 230),
    (one_keep_alive, 130),
    (direct_tls, 90),
    (direct_http, 30),
    (listed_tunnel, 40),
    (listed_plain, 25),
    (asked_to_log_in, 20),
    (refused, 20),
    (plain_in_tunnel, 15),
    (address_asked, 10),
    (same_port, 8),
    (fronted, 6),
    (silent, 6),
    (unreachable, 6),
    (unanswered, 5),
    (stranger, 6),
    (encrypted, 3),
)
ERRANDS: tuple[Errand, ...] = tuple(errand for errand, share in _SHARES for _ in range(share))
"""One drawn from it is one errand in its due share."""
LINES_PER_ERRAND = 14.0
"""On average, flow records included."""
